//! The callers' open sessions, counted for a token that has only so many.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// More than any token has.
const MAX_SESSIONS: u64 = 65_536;

/// Sessions of this process.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: HashSet<u64>,
    opening: u64,
}

impl State {
    fn count(&self) -> u64 {
        self.opening.saturating_add(self.open.len() as u64)
    }
}

impl Sessions {
    /// Keeps a place for one more. False if there are `limit` already.
    pub(crate) fn reserve(&self, limit: Option<u64>) -> bool {
        let mut state = self.state();
        let free = state.count() < limit.unwrap_or(MAX_SESSIONS).min(MAX_SESSIONS);
        state.opening += u64::from(free);
        free
    }

    /// Ends what `reserve` began: with the session, or without one.
    pub(crate) fn opened(&self, session: Option<u64>) {
        let mut state = self.state();
        state.opening = state.opening.saturating_sub(1);
        state.open.extend(session);
    }

    pub(crate) fn retain(&self, alive: impl Fn(u64) -> bool) {
        self.state().open.retain(|session| alive(*session));
    }

    pub(crate) fn closed(&self, session: u64) {
        self.state().open.remove(&session);
    }

    pub(crate) fn clear(&self) {
        self.state().open.clear();
    }

    pub(crate) fn count(&self) -> u64 {
        self.state().count()
    }

    /// A set and a number are whole at any moment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Sessions;

    #[test]
    fn a_place_is_kept_while_a_session_is_opened() {
        let sessions = Sessions::default();
        assert!(sessions.reserve(Some(2)) && sessions.reserve(Some(2)));
        assert!(!sessions.reserve(Some(2)), "two are being opened");
        sessions.opened(Some(7));
        sessions.opened(None);
        assert!(sessions.reserve(Some(2)), "one failed");
        sessions.opened(Some(8));
        assert_eq!(sessions.count(), 2);
        sessions.closed(7);
        assert!(sessions.reserve(Some(2)));
    }
}
