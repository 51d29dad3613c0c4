//! GENERAL AUTHENTICATE: signing, decrypting and agreeing with the key of a slot.
//!
//! The order of checks is a real card's: framing, key, PIN, algorithm, touch, and then the request reaches the key. Only
//! from there on the PIN's freshness is spent, whatever the key says; a key that never asks for the PIN does not spend it.

use super::{Answer, Card, piv::MANAGEMENT_KEY, random};
use crate::{
    algorithm::{PinPolicy, Slot, TouchPolicy},
    apdu::{Command, Sw},
    journal::{Operation, PinState, Signed, TouchState},
    key::PrivateKey,
    ports::{Ports, Touch},
    tlv::{self, Tlv},
};

/// The dynamic authentication template (NIST SP 800-73-4 part 2, table 7).
const TEMPLATE: u32 = 0x7c;
pub(super) const WITNESS: u32 = 0x80;
pub(super) const CHALLENGE: u32 = 0x81;
pub(super) const RESPONSE: u32 = 0x82;
const EXPONENTIATION: u32 = 0x85;

impl Card {
    pub(super) fn general_authenticate(&mut self, command: &Command<'_>, ports: &mut dyn Ports) -> Answer {
        let template = tlv::only(command.data, TEMPLATE).and_then(tlv::parse).ok_or(Sw::WRONG_DATA)?;
        let asked = template.iter().find(|tlv| decides(tlv)).copied().ok_or(Sw::WRONG_DATA)?;
        if command.p2 == MANAGEMENT_KEY {
            return self.authenticate_management(command.p1, asked, &template, ports);
        }
        let slot = Slot::new(command.p2).filter(|slot| *slot != Slot::ATTESTATION).ok_or(Sw::WRONG_DATA)?;
        let made = match asked.tag {
            CHALLENGE | EXPONENTIATION => self.use_key(slot, command.p1, asked, ports)?,
            _ => return Err(Sw::WRONG_DATA),
        };
        Ok(tlv::encode(TEMPLATE, &tlv::encode(RESPONSE, &made)))
    }

    fn use_key(&mut self, slot: Slot, algorithm: u8, asked: Tlv<'_>, ports: &mut dyn Ports) -> Answer {
        let key = self.state.slots.get(&slot).ok_or(Sw::WRONG_DATA)?;
        let (pin_policy, touch_policy, its_algorithm) =
            (key.pin_policy, key.touch_policy, key.key.algorithm());
        self.require_pin(pin_policy)?;
        if its_algorithm.id() != algorithm {
            return Err(Sw::WRONG_DATA);
        }
        let touch = self.require_touch(slot, touch_policy, ports)?;
        let pin = self.pin_state();
        if pin_policy != PinPolicy::Never {
            self.session.pin_fresh = false;
        }
        if asked.tag == EXPONENTIATION {
            return self.key(slot)?.agree(asked.value).map_err(|_| Sw::WRONG_DATA);
        }
        let signature = self.key(slot)?.sign(asked.value, &mut random(ports)?).map_err(|_| Sw::WRONG_DATA)?;
        let (input_sha256, input) = Signed::digest(asked.value);
        let signed = Signed {
            operation: Operation::Sign,
            slot,
            algorithm: its_algorithm,
            input_sha256,
            input,
            signature,
            pin_policy,
            pin,
            touch_policy,
            touch,
        };
        self.journal(&signed, ports)?;
        Ok(signed.signature)
    }

    /// INVARIANT(journal-first): no signature leaves the card before its line is in the journal. A journal that fails
    /// turns the answer into 6581.
    pub(super) fn journal(&self, signed: &Signed, ports: &mut dyn Ports) -> Result<(), Sw> {
        ports.journal(signed).map_err(|_| Sw::MEMORY_FAILURE)
    }

    /// 6982 unless there was a touch; a key with the policy "cached" takes one that is not too old.
    pub(super) fn require_touch(
        &mut self,
        slot: Slot,
        policy: TouchPolicy,
        ports: &mut dyn Ports,
    ) -> Result<TouchState, Sw> {
        let recent = self.touched.get(&slot).is_some_and(|at| ports.now() < *at + self.options.touch_cache);
        match policy {
            TouchPolicy::Never => return Ok(TouchState::None),
            TouchPolicy::Cached if recent => return Ok(TouchState::Cached),
            TouchPolicy::Always | TouchPolicy::Cached => {}
        }
        if ports.touch() == Touch::Missing {
            return Err(Sw::SECURITY_STATUS);
        }
        self.touched.insert(slot, ports.now());
        Ok(TouchState::Given)
    }

    pub(super) fn pin_state(&self) -> PinState {
        match (self.session.pin_verified, self.session.pin_fresh) {
            (false, _) => PinState::None,
            (true, false) => PinState::Verified,
            (true, true) => PinState::Fresh,
        }
    }

    fn require_pin(&self, policy: PinPolicy) -> Result<(), Sw> {
        let given = match policy {
            PinPolicy::Never => true,
            PinPolicy::Once => self.session.pin_verified,
            PinPolicy::Always => self.session.pin_verified && self.session.pin_fresh,
        };
        if given { Ok(()) } else { Err(Sw::SECURITY_STATUS) }
    }

    fn key(&self, slot: Slot) -> Result<&PrivateKey, Sw> {
        self.state.slots.get(&slot).map(|key| &key.key).ok_or(Sw::WRONG_DATA)
    }
}

/// The first of these tags says what is asked; an empty response only holds the place for the answer.
fn decides(tlv: &Tlv<'_>) -> bool {
    match tlv.tag {
        WITNESS | CHALLENGE | EXPONENTIATION => true,
        RESPONSE => !tlv.value.is_empty(),
        _ => false,
    }
}
