//! A YubiKey as a token: one card, found by its serial number, asked by one thread at a time.
//!
//! Promises, beside [`Token`]'s: a key is taken only if it proves by attestation that it was made on this very card and
//! what it wants before it signs; the PIN is tried once, never when it could be the last try, and not again after it was
//! refused; a touch that did not come is a certain failure. The card may be pulled out and come back: it is opened
//! again, and its keys are compared again before one is asked. It does not know: who touches, and why.

mod attestation;
mod card;
mod certificate;
mod fault;
mod firmware;
mod judge;
mod look;
mod manage;
mod pin;

pub(crate) use card::{Card, OpenError, SlotError, SlotFacts};
pub use firmware::{Firmware, FirmwareError};
pub(in crate::token) use judge::longest_evidence;
pub(crate) use judge::{Judge, Verdict};
pub(crate) use manage::{
    Access, FACTORY_MANAGEMENT_KEY, FACTORY_PIN, FACTORY_PUK, Management, NEW_MANAGEMENT_KEY, Reference,
};
pub(crate) use pin::{PinError, give_pin, untriable};

use super::pkcs11::pause;
use super::watchdog::Watchdog;
use super::{Key, KeyRef, Pin, Problem, PublicKey, Token, TokenError, TouchWait, verified};
use crate::code;
use crate::config::PivConfig;
use crate::exit::Fatal;
use fault::{Fault, Refusal, before, while_signing};
use record::{PivSlot, Signature, SignedData};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use yubikey::piv::AlgorithmId;
use yubikey::{Error, PinPolicy, TouchPolicy as CardTouch};

/// Longest message that the card takes for Ed25519.
const MAX_ED25519: usize = 1014;
/// A length at which the `yubikey` crate 0.9.0-rc.0 panics.
const PANIC_ED25519: usize = 255;

/// Opens the configured card, and tries the PIN once.
pub(super) fn open(config: &PivConfig) -> Result<Arc<dyn Token>, Fatal> {
    let pin = Pin::read(&config.pin)?;
    let judge = Judge::read(config.serial, &config.demands)?;
    let watchdog = Watchdog::start(config.call_deadline_ms, |fatal| fatal.end())
        .map_err(|source| Fatal::Process { what: "the token's watchdog cannot be started", source })?;
    let token = PivToken { config: config.clone(), pin, judge, watchdog, state: Mutex::new(State::new()) };
    token.start()?;
    Ok(Arc::new(token))
}

struct PivToken {
    config: PivConfig,
    pin: Pin,
    judge: Judge,
    watchdog: Watchdog,
    state: Mutex<State>,
}

struct State {
    card: Option<Card>,
    /// The reader that had the card last.
    reader: Option<String>,
    /// What each key was when it was taken.
    keys: BTreeMap<PivSlot, SlotFacts>,
    quarantined: BTreeSet<PivSlot>,
    /// The card has refused the PIN: it is not tried again by this process.
    pin_refused: bool,
    failures: u32,
    not_before: Instant,
    /// How it was when the card was not found last.
    absent: Option<look::Absent>,
}

impl State {
    fn new() -> Self {
        Self {
            card: None,
            reader: None,
            keys: BTreeMap::new(),
            quarantined: BTreeSet::new(),
            pin_refused: false,
            failures: 0,
            not_before: Instant::now(),
            absent: None,
        }
    }

    /// How long the card is left alone after one more failure to open it for a signature.
    fn next_pause(&mut self) -> Duration {
        let pause = pause(self.failures);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

/// One signature to make.
struct Order<'a> {
    slot: PivSlot,
    algorithm: AlgorithmId,
    data: &'a [u8],
    waits: &'a dyn Fn(TouchWait),
}

impl Token for PivToken {
    fn key(&self, id: &KeyRef, pinned: &PublicKey) -> Result<Key, Fatal> {
        let slot = id.slot().ok_or_else(|| {
            self.broken(format!("the key with CKA_ID {id} is none of this card's: name its slot"))
        })?;
        let wrong = |why: String| Fatal::PivKey { serial: self.config.serial, slot, why };
        let mut state = self.state();
        let _watched = self.watchdog.watch("attestation over PC/SC");
        let card = state.card.as_mut().ok_or_else(|| self.broken("it went away".into()))?;
        let facts = card.slot(slot).map_err(|e| match e {
            SlotError::Card(error) => self.broken(error.to_string()),
            e => wrong(e.to_string()),
        })?;
        if facts.public != *pinned {
            return Err(wrong("its public key is not the pinned one: is this the right slot?".into()));
        }
        let verdict = self.judge.key(card, slot, &facts).map_err(wrong)?;
        let Verdict { touch, evidence, .. } = verdict;
        let key = Key { id: id.clone(), public: facts.public.clone(), touch, evidence };
        state.keys.insert(slot, facts);
        Ok(key)
    }

    fn sign(&self, key: &Key, data: &SignedData, waits: &dyn Fn(TouchWait)) -> Result<Signature, TokenError> {
        let Some(slot) = key.id().slot() else { return Err(wrong_key(key)) };
        let (algorithm, input): (_, &[u8]) = match (key.public(), data) {
            (PublicKey::P256(_), SignedData::Sha256(digest)) => (AlgorithmId::EccP256, digest.as_bytes()),
            (PublicKey::Ed25519(_), SignedData::Message(message)) => (AlgorithmId::Ed25519, message.bytes()),
            _ => return Err(wrong_key(key)),
        };
        if algorithm == AlgorithmId::Ed25519 && (input.len() > MAX_ED25519 || input.len() == PANIC_ED25519) {
            let detail = format!(
                "a message of {} bytes: a YubiKey takes at most {MAX_ED25519}, and {PANIC_ED25519} are more than its driver can say",
                input.len()
            );
            return Err(Fault::failed("token-refused", detail).told());
        }
        let made = self.carry_out(&Order { slot, algorithm, data: input, waits })?;
        verified(key, data, &made, Signature::from_client).ok_or_else(|| self.quarantine(slot))
    }

    fn look(&self) -> Option<Vec<Problem>> {
        self.problems()
    }

    /// The card does one thing at a time, and a finger touches for one thing at a time.
    fn sessions(&self) -> usize {
        1
    }
}

impl PivToken {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> String {
        format!("YubiKey {}", self.config.serial)
    }

    fn broken(&self, why: String) -> Fatal {
        Fatal::Token { token: self.name(), why }
    }

    fn start(&self) -> Result<(), Fatal> {
        let mut state = self.state();
        let pin = self.pin.piv().ok_or_else(|| Fatal::Pin {
            token: self.name(),
            why: "a PIV PIN has 6 to 8 bytes, and this one has not: it was not tried".into(),
        })?;
        let mut card = {
            let _watched = self.watchdog.watch("SCardConnect");
            Card::open(self.config.serial, None).map_err(|e| self.broken(e.to_string()))?
        };
        let firmware = card.firmware();
        if firmware < Firmware::OLDEST {
            let why = format!(
                "it has firmware {firmware}, and {} is the oldest that is known here",
                Firmware::OLDEST
            );
            return Err(self.broken(why));
        }
        let _watched = self.watchdog.watch("VERIFY");
        let refuse = |why: String| Fatal::Pin { token: self.name(), why };
        match give_pin(&mut card, pin) {
            Ok(()) => {}
            Err(PinError::NotTried(why) | PinError::Refused(why)) => return Err(refuse(why)),
            Err(PinError::Card(error)) => return Err(self.broken(error.to_string())),
        }
        tracing::info!(serial = self.config.serial, %firmware, reader = card.reader(), "YubiKey is open");
        state.reader = Some(card.reader());
        state.card = Some(card);
        Ok(())
    }

    /// Asks the key; a second time only where surely nothing was signed and a new connection or the PIN can help.
    fn carry_out(&self, order: &Order<'_>) -> Result<Vec<u8>, TokenError> {
        let mut state = self.state();
        if state.quarantined.contains(&order.slot) {
            let why = "an earlier signature of this key did not verify: an operator must look at the card";
            return Err(Fault::failed("token-quarantined", why).told());
        }
        match self.attempt(&mut state, order) {
            Err(fault @ (Fault::Gone(_) | Fault::PinWanted)) => {
                tracing::warn!(slot = %order.slot, ?fault, "trying once more");
                self.attempt(&mut state, order).map_err(Fault::told)
            }
            other => other.map_err(Fault::told),
        }
    }

    fn attempt(&self, state: &mut State, order: &Order<'_>) -> Result<Vec<u8>, Fault> {
        let made = self.attempt_on(state, order);
        let lost = match &made {
            Err(Fault::Gone(_)) => true,
            Err(Fault::Final(error)) => !error.surely_not_signed(),
            Err(Fault::PinWanted) | Ok(_) => false,
        };
        if lost {
            let _watched = self.watchdog.watch("SCardDisconnect");
            state.card = None;
        }
        made
    }

    fn attempt_on(&self, state: &mut State, order: &Order<'_>) -> Result<Vec<u8>, Fault> {
        let facts = state.keys.get(&order.slot);
        let facts = facts.ok_or_else(|| Fault::failed("token-refused", "this key was never taken"))?.clone();
        let mut card = match state.card.take() {
            Some(card) => card,
            None => self.reopen(state, State::next_pause)?,
        };
        let ready = self.present_pin(state, &mut card, facts.pin);
        let made = ready.and_then(|()| self.ask(&mut card, &facts, order));
        state.card = Some(card);
        made
    }

    /// Opens a card that was away or was reset, and compares its keys with what they were; if that fails, not again for
    /// this pause.
    fn reopen(&self, state: &mut State, pause: fn(&mut State) -> Duration) -> Result<Card, Fault> {
        if Instant::now() < state.not_before {
            let why = format!("{} is away, and is looked for again in a moment", self.name());
            return Err(Fault::away(why));
        }
        let _watched = self.watchdog.watch("SCardConnect");
        let opened = self.open_again(state);
        match &opened {
            Ok(card) => {
                tracing::info!(serial = self.config.serial, reader = card.reader(), "YubiKey is open again");
                state.reader = Some(card.reader());
                state.failures = 0;
            }
            Err(_) => {
                state.not_before = Instant::now() + pause(state);
            }
        }
        opened
    }

    fn open_again(&self, state: &State) -> Result<Card, Fault> {
        let gone = |e: OpenError| Fault::away(format!("{}: {e}", self.name()));
        let mut card = Card::open(self.config.serial, state.reader.as_deref()).map_err(gone)?;
        for (slot, facts) in &state.keys {
            match card.slot(*slot) {
                Ok(found) if found == *facts => {}
                Err(SlotError::Card(error)) => return Err(Fault::away(error.to_string())),
                Ok(_) | Err(SlotError::Key(_) | SlotError::Empty) => {
                    let why =
                        format!("the key in slot {slot} of {} is not what it was at the start", self.name());
                    return Err(Fault::failed("token-changed", why));
                }
            }
        }
        Ok(card)
    }

    /// Gives the PIN where the key wants it. Asks the card something in any case, so that a connection that is of no use any
    /// more shows itself while nothing can have been signed.
    fn present_pin(&self, state: &mut State, card: &mut Card, policy: PinPolicy) -> Result<(), Fault> {
        let _watched = self.watchdog.watch("VERIFY");
        let given = match policy {
            PinPolicy::Never => card.pin_tries().map(|_| true),
            PinPolicy::Always => Ok(false),
            PinPolicy::Once | PinPolicy::Default => card.pin_is_verified(),
        };
        if given.map_err(before)? {
            return Ok(());
        }
        if state.pin_refused {
            let why = "the card has refused the PIN, and it is not tried again: correct its source, then restart the keeper";
            return Err(Fault::failed("token-pin", why));
        }
        let pin = self.pin.piv().ok_or_else(|| Fault::failed("token-pin", "a PIV PIN has 6 to 8 bytes"))?;
        match give_pin(card, pin) {
            Ok(()) => Ok(()),
            Err(PinError::Card(error)) => Err(before(error)),
            Err(PinError::NotTried(why)) => Err(Fault::failed("token-pin", why)),
            Err(PinError::Refused(why)) => {
                tracing::error!(serial = self.config.serial, "{why}; it is not tried again");
                state.pin_refused = true;
                Err(Fault::failed("token-pin", why))
            }
        }
    }

    fn ask(&self, card: &mut Card, facts: &SlotFacts, order: &Order<'_>) -> Result<Vec<u8>, Fault> {
        let touch_wait = Duration::from_millis(self.config.touch_wait_ms);
        let touch = facts.touch == CardTouch::Always;
        if touch {
            (order.waits)(TouchWait { serial: self.config.serial, slot: order.slot, within: touch_wait });
        }
        let _watched = self.watchdog.watch("GENERAL AUTHENTICATE");
        let asked = Instant::now();
        match card.sign(order.slot, order.algorithm, order.data) {
            Ok(made) => Ok(made),
            Err(Error::AuthenticationError) => {
                let after = asked.elapsed();
                let pin_verified = facts.pin == PinPolicy::Never || card.pin_is_verified().unwrap_or(true);
                Err(Refusal { touch, after, touch_wait, pin_verified }.judge())
            }
            Err(error) => Err(while_signing(error)),
        }
    }

    fn quarantine(&self, slot: PivSlot) -> TokenError {
        self.state().quarantined.insert(slot);
        let detail =
            format!("the signature of {}, slot {slot}, does not verify with the pinned key", self.name());
        tracing::error!("{detail}; the key is not used any more");
        TokenError::Unknown { code: code("token-wrong"), detail }
    }
}

fn wrong_key(key: &Key) -> TokenError {
    Fault::failed("token-refused", format!("the key {} is of another kind or of another token", key.id()))
        .told()
}

#[cfg(test)]
mod tests;
