//! A token that is taken out and put back.
//!
//! Promises: the first call after a removal, in each process, ends all its real sessions, and the login with them; so
//! no session and no operation from before outlives it. A call that was on its way when the token went, has no answer.

use super::{Answer, Faults};
use crate::{
    control::{Call, ControlError},
    forwarder::{Forwarder, Refusal},
    real::call,
};
use cryptoki_sys::{CK_RV, CKR_DEVICE_REMOVED, CKR_TOKEN_NOT_PRESENT};

/// What this process knows of the token's removals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    removed: bool,
    removals: u64,
}

impl Call {
    /// What the call gets if there is no token. `None`: it does not need one.
    fn without_token(&self) -> Option<CK_RV> {
        match self.session {
            Some(_) => Some(CKR_DEVICE_REMOVED),
            None => self.on_slot.then_some(CKR_TOKEN_NOT_PRESENT),
        }
    }
}

impl Forwarder {
    /// Takes notice of a removal; an answer if the call needs the token, which is out or was out
    /// since the call came.
    pub(super) fn settle(&self, faults: &Faults, call: &Call) -> Result<Option<Answer>, Refusal> {
        let mut seen = faults.seen.lock().map_err(|_| ControlError::Poisoned)?;
        let view = faults.control.view()?;
        let now = Seen { removed: view.removed, removals: view.removals };
        if seen.is_some_and(|seen| seen.removals != now.removals || (now.removed && !seen.removed)) {
            self.end_all_sessions(faults)?;
        }
        *seen = Some(now);
        let came = call.removals.get().unwrap_or(now.removals);
        call.removals.set(Some(came));
        let gone = now.removed || came != now.removals;
        let rv = if gone { call.without_token() } else { None };
        Ok(rv.map(|rv| Answer { rv, poison: false }))
    }

    /// Waits for the calls that are in the real module: it may not survive that their sessions go.
    fn end_all_sessions(&self, faults: &Faults) -> Result<(), Refusal> {
        let _alone = faults.gate.write().map_err(|_| ControlError::Poisoned)?;
        // First: what runs in a session of its own closes it, while its handle is still its own.
        self.operations.retain(|_| false)?;
        for slot in self.real.slots() {
            #[expect(unsafe_code, reason = "calls the real module")]
            // SAFETY: no pointers.
            unsafe {
                call!(self.real, C_CloseAllSessions(slot))
            };
        }
        faults.sessions.clear();
        Ok(())
    }
}
