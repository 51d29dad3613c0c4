//! Carrying out what the rules say about a call, on either side of the real function.
//!
//! Promises: no lock is held while a call is held or delayed; without a control folder nothing here happens.
//! What a rule does with a signature, it does when the journal has it.

mod look;
mod pin;
mod removal;
mod sessions;

use crate::{
    control::{Action, Call, Control, Fired, When},
    forwarder::{Forwarder, Refusal},
    real::call,
};
use cryptoki_sys::{CK_RV, CK_SESSION_HANDLE, CKR_USER_NOT_LOGGED_IN};
use removal::Seen;
use sessions::Sessions;
use std::{
    collections::HashMap,
    process,
    sync::{Mutex, RwLock, RwLockReadGuard},
    thread,
};

/// Keys whose last signature is remembered; tests have a handful.
const MAX_REMEMBERED: usize = 1024;

/// The control folder, and what this process keeps for it.
pub(crate) struct Faults {
    pub(crate) control: Control,
    /// Read while the real module works, written while its sessions are closed under it.
    gate: RwLock<()>,
    last_signatures: Mutex<HashMap<String, Vec<u8>>>,
    /// `None` until the first call.
    seen: Mutex<Option<Seen>>,
    pub(crate) sessions: Sessions,
    /// The SHA-256 of the PIN that the real token took last.
    accepted_pin: Mutex<Option<[u8; 32]>>,
}

/// The answer that a rule gives in place of the real function's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) rv: CK_RV,
    /// The signing operation stays active, against the standard.
    pub(crate) poison: bool,
}

/// A signature that the journal has and the caller has not.
pub(crate) struct Withheld {
    pub(crate) bytes: Vec<u8>,
    /// The one before it, by the same key.
    pub(crate) older: Option<Vec<u8>>,
}

impl Faults {
    pub(crate) fn new(control: Control) -> Self {
        Self {
            control,
            gate: RwLock::default(),
            last_signatures: Mutex::default(),
            seen: Mutex::default(),
            sessions: Sessions::default(),
            accepted_pin: Mutex::default(),
        }
    }

    /// Remembers the key's signature, and returns the one before it.
    pub(crate) fn older_than(&self, key: &str, signature: &[u8]) -> Option<Vec<u8>> {
        let mut last = self.last_signatures.lock().ok()?;
        if last.len() >= MAX_REMEMBERED && !last.contains_key(key) {
            return None;
        }
        last.insert(key.to_owned(), signature.to_vec())
    }
}

impl Withheld {
    /// Bit 0 is the lowest of the first byte; beyond the end it begins anew.
    fn flip(&mut self, bit: u64) {
        let length = self.bytes.len() as u64;
        let place = (bit / 8).checked_rem(length).and_then(|place| usize::try_from(place).ok());
        if let Some(byte) = place.and_then(|place| self.bytes.get_mut(place)) {
            *byte ^= 1 << (bit % 8);
        }
    }

    fn replace_by_older(&mut self) {
        if let Some(older) = self.older.take().filter(|older| older.len() == self.bytes.len()) {
            self.bytes = older;
        }
    }
}

impl Forwarder {
    /// What the rules do before the real function is called. An answer means that it must not be called.
    pub(crate) fn before(&self, call: &Call) -> Result<Option<Answer>, Refusal> {
        let Some(faults) = &self.faults else { return Ok(None) };
        if let Some(answer) = self.settle(faults, call)? {
            return Ok(Some(answer));
        }
        self.obey(faults, call, When::Before, None)
    }

    /// What the rules do when the real function has done its work.
    pub(crate) fn after(
        &self,
        call: &Call,
        signature: Option<&mut Withheld>,
    ) -> Result<Option<Answer>, Refusal> {
        self.faults.as_ref().map_or(Ok(None), |faults| self.obey(faults, call, When::After, signature))
    }

    /// The token may be gone when the rules are done: by one of them, or while the call was on its way.
    fn obey(
        &self,
        faults: &Faults,
        call: &Call,
        when: When,
        mut signature: Option<&mut Withheld>,
    ) -> Result<Option<Answer>, Refusal> {
        let struck = faults.control.strike(call, when)?;
        if struck.is_empty() && when == When::Before {
            return Ok(None);
        }
        for fired in struck {
            faults.control.tell(&fired, call)?;
            if let Some(answer) = self.carry_out(faults, &fired, call, signature.as_deref_mut())? {
                return Ok(Some(answer));
            }
        }
        self.settle(faults, call)
    }

    fn carry_out(
        &self,
        faults: &Faults,
        fired: &Fired,
        call: &Call,
        signature: Option<&mut Withheld>,
    ) -> Result<Option<Answer>, Refusal> {
        let answer = |rv| Ok(Some(Answer { rv, poison: fired.poison }));
        match fired.action {
            Action::Delay(time) => thread::sleep(time),
            Action::Hang => faults.control.hold(fired, call)?,
            Action::Return(rv) => return answer(rv),
            Action::Abort => process::abort(),
            Action::FlipBit(bit) => signature.into_iter().for_each(|made| made.flip(bit)),
            Action::OlderSignature => signature.into_iter().for_each(Withheld::replace_by_older),
            // The removal itself is in the state since the rule struck.
            Action::RemoveToken => {}
            Action::DropLogin => {
                self.log_out(call.session.unwrap_or_default());
                return answer(CKR_USER_NOT_LOGGED_IN);
            }
        }
        Ok(None)
    }

    fn log_out(&self, session: CK_SESSION_HANDLE) {
        let _pass = self.pass();
        #[expect(unsafe_code, reason = "calls the real module")]
        // SAFETY: no pointers.
        unsafe {
            call!(self.real, C_Logout(session))
        };
    }

    /// The real function between what the rules do before and after it.
    pub(crate) fn guarded(
        &self,
        call: &Call,
        real: impl FnOnce() -> Result<CK_RV, Refusal>,
    ) -> Result<CK_RV, Refusal> {
        if let Some(answer) = self.before(call)? {
            return Ok(answer.rv);
        }
        let rv = real()?;
        Ok(self.after(call, None)?.map_or(rv, |answer| answer.rv))
    }

    /// A key's `CKA_ID`, or what the module said instead.
    pub(crate) fn key_id(&self, session: u64, key: u64) -> Result<Vec<u8>, CK_RV> {
        let _pass = self.pass();
        self.real.key_id(session, key)
    }

    /// Held around each call of the real module that uses a session.
    pub(crate) fn pass(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.faults.as_ref().and_then(|faults| faults.gate.read().ok())
    }
}
