//! The glance at a card between signatures: whether it is in a reader, and which keys are not asked any more.

use super::card::{InReader, in_readers};
use super::fault::Fault;
use super::{PivToken, State, untriable};
use crate::token::{KeyRef, Problem};
use std::sync::TryLockError;
use std::time::{Duration, Instant};
use yubikey::PinPolicy;

/// Longest time for which unchanged readers are taken to be without the card.
const UNCHANGED: Duration = Duration::from_secs(30);

/// The card was not found. To look for it is to select the PIV application of every card there is, and other programs'
/// cards are not disturbed every two seconds: only when something came or went.
pub(super) struct Absent {
    readers: Vec<InReader>,
    why: String,
    since: Instant,
}

impl Absent {
    fn still(&self, readers: Option<&[InReader]>) -> bool {
        readers == Some(&self.readers) && self.since.elapsed() < UNCHANGED
    }
}

impl PivToken {
    /// What keeps keys from signing; `None` while the card is asked something, such as to wait for a touch.
    pub(super) fn problems(&self) -> Option<Vec<Problem>> {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let away = self.away(&mut state).err();
        let refused = state.pin_refused.then(|| {
            let why = "the card has refused the PIN, and it is not tried again: correct its source, then restart the keeper";
            Fault::failed("token-pin", why)
        });
        let whole = away.into_iter().chain(refused).map(|fault| Problem { key: None, error: fault.told() });
        let quarantined = state.quarantined.iter().map(|slot| {
            let why = "a signature of this key did not verify: an operator must look at the card";
            Problem { key: Some(KeyRef::Slot(*slot)), error: Fault::failed("token-quarantined", why).told() }
        });
        Some(whole.chain(quarantined).collect())
    }

    /// A connection that is of no use any more is made anew, without the PIN: a reset by another program is no trouble, and
    /// a card that is back is found at the next look, however long signatures have waited for it.
    fn away(&self, state: &mut State) -> Result<(), Fault> {
        if let Some(mut card) = state.card.take() {
            let _watched = self.watchdog.watch("GET METADATA");
            match card.pin_tries() {
                Ok(left) => {
                    state.card = Some(card);
                    let wanted = state.keys.values().any(|facts| facts.pin != PinPolicy::Never);
                    return match untriable(left).filter(|_| wanted) {
                        Some(why) => Err(Fault::failed("token-pin", why)),
                        None => Ok(()),
                    };
                }
                Err(error) => tracing::info!(serial = self.config.serial, %error, "the card does not answer"),
            }
        }
        let readers = {
            let _watched = self.watchdog.watch("SCardGetStatusChange");
            in_readers().ok()
        };
        if let Some(absent) = state.absent.as_ref().filter(|absent| absent.still(readers.as_deref())) {
            return Err(Fault::away(absent.why.clone()));
        }
        state.not_before = Instant::now();
        match self.reopen(state, |_| Duration::ZERO) {
            Ok(card) => {
                (state.card, state.absent) = (Some(card), None);
                Ok(())
            }
            Err(fault) => {
                let told = fault.told();
                let why = told.clone().into_parts().1;
                state.absent = readers.map(|readers| Absent { readers, why, since: Instant::now() });
                Err(Fault::Final(told))
            }
        }
    }
}
