//! Carrying out what the rules say about a call, on either side of the real function.
//!
//! Promises: no lock is held while a call is held or delayed; without a control folder nothing here happens.
//! INVARIANT(journal-first): what a rule does with a signature, it does when the journal has it.

use crate::{
    control::{Action, Call, Control, Fired, When},
    forwarder::{Forwarder, Refusal},
};
use cryptoki_sys::CK_RV;
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
        Self { control, gate: RwLock::default(), last_signatures: Mutex::default() }
    }

    /// Remembers the key's signature, and returns the one before it.
    pub(crate) fn older_than(&self, key: &str, signature: &[u8]) -> Option<Vec<u8>> {
        let mut last = self.last_signatures.lock().ok()?;
        if last.len() >= MAX_REMEMBERED && !last.contains_key(key) {
            return None;
        }
        last.insert(key.to_owned(), signature.to_vec())
    }

    fn before(&self, call: &Call) -> Result<Option<Answer>, Refusal> {
        for fired in self.control.strike(call, When::Before)? {
            if let Some(answer) = self.carry_out(&fired, call, None)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    fn after(&self, call: &Call, mut signature: Option<&mut Withheld>) -> Result<Option<Answer>, Refusal> {
        for fired in self.control.strike(call, When::After)? {
            if let Some(answer) = self.carry_out(&fired, call, signature.as_deref_mut())? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    fn carry_out(
        &self,
        fired: &Fired,
        call: &Call,
        signature: Option<&mut Withheld>,
    ) -> Result<Option<Answer>, Refusal> {
        self.control.tell(fired, call)?;
        match fired.action {
            Action::Delay(time) => thread::sleep(time),
            Action::Hang => self.control.hold(fired, call)?,
            Action::Return(rv) => return Ok(Some(Answer { rv, poison: fired.poison })),
            Action::Abort => process::abort(),
            Action::FlipBit(bit) => signature.into_iter().for_each(|made| made.flip(bit)),
            Action::OlderSignature => signature.into_iter().for_each(Withheld::replace_by_older),
            Action::RemoveToken | Action::DropLogin => {}
        }
        Ok(None)
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
        self.faults.as_ref().map_or(Ok(None), |faults| faults.before(call))
    }

    /// What the rules do when the real function has done its work.
    pub(crate) fn after(
        &self,
        call: &Call,
        signature: Option<&mut Withheld>,
    ) -> Result<Option<Answer>, Refusal> {
        self.faults.as_ref().map_or(Ok(None), |faults| faults.after(call, signature))
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
