//! Where signing stops for want of witnesses: the limits of `without_quorum = "wait"`.

use crate::{audit::Noted, config::MaxUnwitnessed};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// How far the log has grown beyond its last witnessed checkpoint, and whether that is too far. Asked before every intent.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: MaxUnwitnessed,
    noted: watch::Receiver<Option<Noted>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Leaves under the last checkpoint with the quorum since this daemon started.
    witnessed: Option<u64>,
    /// Since when the quorum is missing.
    missing: Option<Instant>,
}

impl Patience {
    pub(super) fn new(limit: MaxUnwitnessed, noted: watch::Receiver<Option<Noted>>) -> Self {
        Self { limit, noted, state: Mutex::default() }
    }

    /// Notes that the quorum has cosigned a checkpoint of this size.
    pub(super) fn reached(&self, size: u64) {
        *self.lock() = State { witnessed: Some(size), missing: None };
    }

    /// Notes that the quorum was asked at this moment and not reached.
    pub(super) fn missed(&self, at: Instant) {
        self.lock().missing.get_or_insert(at);
    }

    /// Why no new intent may be written now, if that is so.
    pub(crate) fn problem(&self) -> Option<String> {
        let newest = self.noted.borrow().as_ref().map_or(0, |noted| noted.size);
        let state = self.lock();
        let missing = state.missing.map_or(Duration::ZERO, |since| since.elapsed());
        refusal(self.limit, state.witnessed, newest, missing)
    }

    /// Whether the quorum was missing when it was last asked, or has never been asked.
    pub(crate) fn is_missing(&self) -> bool {
        let state = self.lock();
        state.witnessed.is_none() || state.missing.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(limit: MaxUnwitnessed, witnessed: Option<u64>, newest: u64, missing: Duration) -> Option<String> {
    let Some(witnessed) = witnessed else {
        return Some("witnesses: their quorum has not cosigned a checkpoint since the daemon started".into());
    };
    let MaxUnwitnessed { leaves, minutes } = limit;
    let ahead = newest.saturating_sub(witnessed);
    if ahead >= leaves {
        return Some(format!(
            "witnesses: their quorum has cosigned {witnessed} entries, and the log is {ahead} ahead; the limit is {leaves}"
        ));
    }
    (missing >= Duration::from_secs(minutes.saturating_mul(60)))
        .then(|| format!("witnesses: their quorum is missing for {minutes} minutes, which is the limit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_stops_at_either_limit_and_before_the_first_quorum() {
        let limit = MaxUnwitnessed { leaves: 100, minutes: 2 };
        let minute = Duration::from_secs(60);
        let stops = |witnessed, newest, missing| refusal(limit, witnessed, newest, missing).is_some();
        assert!(stops(None, 1, Duration::ZERO));
        assert!(!stops(Some(50), 149, minute));
        assert!(stops(Some(50), 150, minute));
        assert!(stops(Some(50), 51, 2 * minute));
        assert!(!stops(Some(50), 51, 2 * minute - Duration::from_millis(1)));
        assert!(!stops(Some(50), 40, Duration::ZERO), "a note in between");
    }

    #[tokio::test]
    async fn a_quorum_that_is_back_lets_signing_go_on_by_itself() {
        let noted = |size| Some(Noted { size, root: tlog::empty_root(), note: "".into() });
        let (send, noted_now) = watch::channel(noted(10));
        let patience = Patience::new(MaxUnwitnessed { leaves: 16, minutes: 60 }, noted_now);
        assert!(patience.problem().is_some());
        patience.reached(10);
        assert_eq!(patience.problem(), None);
        patience.missed(Instant::now());
        send.send_replace(noted(26));
        assert!(patience.problem().is_some_and(|why| why.contains("16 ahead")));
        patience.reached(26);
        assert_eq!(patience.problem(), None);
    }
}
