//! Deadlines for calls into the vendor's library, which cannot be cancelled: a call that exceeds its deadline ends the
//! process, and the supervisor starts a new one with a fresh library.

use crate::exit::Fatal;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One thread that watches every running call.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    deadline: Duration,
}

#[derive(Debug)]
struct Shared {
    calls: Mutex<Calls>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Calls {
    next: u64,
    running: BTreeMap<u64, (Instant, &'static str)>,
}

/// A call that is being watched, until dropped.
#[derive(Debug)]
pub(crate) struct Watched<'a> {
    watchdog: &'a Watchdog,
    number: u64,
}

impl Watchdog {
    /// Starts the thread; `expired` is called at most once and is expected to end the process.
    pub(crate) fn start(
        deadline_ms: u64,
        expired: impl FnOnce(Fatal) + Send + 'static,
    ) -> Result<Self, std::io::Error> {
        let shared = Arc::new(Shared { calls: Mutex::default(), changed: Condvar::new() });
        let watched = Arc::clone(&shared);
        std::thread::Builder::new().name("token-watchdog".into()).spawn(move || {
            let call = watched.wait_for_expiry();
            expired(Fatal::Hang { call, deadline_ms });
        })?;
        Ok(Self { shared, deadline: Duration::from_millis(deadline_ms) })
    }

    /// Watches a call from now until the result is dropped.
    pub(crate) fn watch(&self, call: &'static str) -> Watched<'_> {
        let mut calls = self.shared.lock();
        let number = calls.next;
        calls.next += 1;
        let was_idle = calls.running.is_empty();
        calls.running.insert(number, (Instant::now() + self.deadline, call));
        drop(calls);
        // Deadlines are equal for all calls, so only the first of a busy time can change what the thread waits for.
        if was_idle {
            self.shared.changed.notify_one();
        }
        Watched { watchdog: self, number }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.watchdog.shared.lock().running.remove(&self.number);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_expiry(&self) -> &'static str {
        let mut calls = self.lock();
        loop {
            let now = Instant::now();
            // Numbers rise with deadlines: the first is the earliest.
            let first = calls.running.first_key_value().map(|(_, call)| *call);
            calls = match first {
                Some((deadline, call)) if deadline <= now => return call,
                Some((deadline, _)) => {
                    let waited = self.changed.wait_timeout(calls, deadline - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(calls).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_call_past_its_deadline_is_reported_and_one_that_returned_is_not() {
        let (tell, told) = mpsc::channel();
        let watchdog = Watchdog::start(50, move |fatal| tell.send(fatal).unwrap()).unwrap();
        drop(watchdog.watch("C_Login"));
        let _hanging = watchdog.watch("C_Sign");
        let fatal = told.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(matches!(fatal, Fatal::Hang { call: "C_Sign", .. }), "{fatal}");
        assert_eq!(fatal.code(), 75);
    }
}
