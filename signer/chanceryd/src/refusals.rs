//! Refusals in the log: a caller's first ones stand there one by one, further ones as a number. Otherwise anybody with a
//! token, and anybody without one, could fill the disk by being refused.
//!
//! Promises: no refusal is forgotten but by a crash, and then an entry says from when on some are missing. It does not
//! know why something is refused, and decides nothing: who is refused is told every reason, counted or not.

use crate::{
    audit::{AppendError, Log},
    sign::{Denied, SignError},
};
use record::{Clock, Denial, Event, Leaf, Nonce, Principal, Time};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Refusals of one caller that stand in the log one by one, in [`WINDOW_S`]: more than a person or a pipeline makes by
/// mistake.
const EACH: u64 = 20;
/// Length of the time that is counted as one, in seconds.
const WINDOW_S: i64 = 600;
/// How often ended times are written.
const FLUSH: Duration = Duration::from_secs(30);

/// The refusals of the running times, by caller; of callers without a token together.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    state: Mutex<State>,
    /// Held while ended times are written.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    running: BTreeMap<Option<Principal>, Window>,
    /// Times that have ended and are not in the log yet.
    ended: Vec<Counted>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    from: Time,
    refused: u64,
    /// An entry says that its refusals are counted.
    told: bool,
}

/// What an entry says of a time that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counted {
    by: Option<Principal>,
    from: Time,
    until: Time,
    count: u64,
}

/// How a refusal goes into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// As an entry of its own.
    Entry,
    /// As the first that is counted: an entry says that counting begins.
    First {
        /// Since when this caller's refusals are taken together.
        from: Time,
    },
    /// As one more.
    Counted,
}

/// Where refusals are written.
pub(crate) struct Roll<'a> {
    log: &'a Log,
    /// Those of new requests, of which a caller makes as many as it likes.
    refusals: Option<&'a Refusals>,
}

impl<'a> Roll<'a> {
    /// For new requests.
    pub(crate) fn of_callers(log: &'a Log, refusals: &'a Refusals) -> Self {
        Self { log, refusals: Some(refusals) }
    }

    /// For requests that wait: the entry is their end.
    pub(crate) fn ending(log: &'a Log) -> Self {
        Self { log, refusals: None }
    }

    /// Writes a refusal, in the form that it has to have here.
    pub(crate) async fn deny(&self, denial: Denial) -> Result<Denied, SignError> {
        let (request, reasons) = (denial.request.clone(), denial.reasons.clone());
        let place = self.refusals.map_or(Place::Entry, |refusals| refusals.place(&denial.by, denial.time));
        let entry = match place {
            Place::Entry => Some(self.log.append(Leaf::Denial(denial)).await?.index),
            Place::First { from } => {
                let nonce = Nonce::random().map_err(|e| SignError::Random(e.to_string()))?;
                let (time, by) = (denial.time, denial.by);
                let event = Event::RefusalsLimited { time, nonce, by: by.clone(), from };
                self.log.append(Leaf::Event(event)).await?;
                if let Some(refusals) = self.refusals {
                    refusals.told(&by);
                }
                None
            }
            Place::Counted => None,
        };
        Ok(Denied { entry, request, reasons })
    }
}

impl Refusals {
    /// Takes a refusal of a caller with a token.
    fn place(&self, by: &Principal, now: Time) -> Place {
        let window = self.lock().count(Some(by.clone()), now);
        match (window.refused > EACH, window.told) {
            (false, _) => Place::Entry,
            (true, false) => Place::First { from: window.from },
            (true, true) => Place::Counted,
        }
    }

    /// Notes that the log says of this caller's refusals that they are counted.
    fn told(&self, by: &Principal) {
        if let Some(window) = self.lock().running.get_mut(&Some(by.clone())) {
            window.told = true;
        }
    }

    /// Takes a refusal of a caller without one: nobody knows whose it is, so no entry is made of it alone.
    pub(crate) fn unknown(&self, now: Time) {
        self.lock().count(None, now);
    }

    /// Writes times that have ended into the log, until the daemon ends.
    pub(crate) async fn run(self: Arc<Self>, log: Log, clock: Arc<dyn Clock>) {
        loop {
            tokio::time::sleep(FLUSH).await;
            self.flush(&log, clock.now()).await;
        }
    }

    /// Writes what was counted until now, also of times that have not ended.
    pub(crate) async fn close(&self, log: &Log, now: Time) {
        self.lock().end(|_| true, now);
        self.flush(log, now).await;
    }

    async fn flush(&self, log: &Log, now: Time) {
        let _writing = self.writing.lock().await;
        let ended = {
            let mut state = self.lock();
            state.end(|window| window.is_over(now), now);
            std::mem::take(&mut state.ended)
        };
        let mut left = ended.into_iter();
        for counted in left.by_ref() {
            if let Err(error) = write(log, &counted, now).await {
                tracing::warn!(%error, "counted refusals could not be written into the log, and are kept");
                self.lock().ended.push(counted);
                break;
            }
        }
        self.lock().ended.extend(left);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts one in the caller's running time.
    fn count(&mut self, by: Option<Principal>, now: Time) -> Window {
        if self.running.get(&by).is_some_and(|window| window.is_over(now))
            && let Some(window) = self.running.remove(&by)
        {
            self.ended.extend(window.counted(by.clone(), now));
        }
        let window = self.running.entry(by).or_insert(Window { from: now, refused: 0, told: false });
        window.refused += 1;
        *window
    }

    fn end(&mut self, which: impl Fn(&Window) -> bool, now: Time) {
        let (over, running) = std::mem::take(&mut self.running).into_iter().partition(|(_, w)| which(w));
        self.running = running;
        let over: BTreeMap<_, Window> = over;
        self.ended.extend(over.into_iter().filter_map(|(by, window)| window.counted(by, now)));
    }
}

impl Window {
    fn is_over(&self, now: Time) -> bool {
        now >= self.from.plus_s(WINDOW_S)
    }

    /// What was counted and not written one by one, if anything.
    fn counted(self, by: Option<Principal>, now: Time) -> Option<Counted> {
        let each = if by.is_some() { EACH } else { 0 };
        let count = self.refused.checked_sub(each).filter(|count| *count > 0)?;
        let until = now.min(self.from.plus_s(WINDOW_S));
        Some(Counted { by, from: self.from, until, count })
    }
}

async fn write(log: &Log, counted: &Counted, now: Time) -> Result<(), AppendError> {
    let Counted { by, from, until, count } = counted.clone();
    let nonce = Nonce::random().map_err(|e| AppendError::Unavailable(e.to_string()))?;
    let event = Event::RefusalsCounted { time: now, nonce, by, from, until, count };
    log.append(Leaf::Event(event)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(s: i64) -> Time {
        Time::from_unix_ms(1_790_000_000_000).unwrap().plus_s(s)
    }

    #[test]
    fn a_callers_first_refusals_are_entries_and_the_others_one_number() {
        let refusals = Refusals::default();
        let [a, b] = ["token:a", "token:b"].map(|text| Principal::parse(text).unwrap());
        for _ in 0..EACH {
            assert_eq!(refusals.place(&a, time(0)), Place::Entry);
        }
        assert_eq!(refusals.place(&a, time(1)), Place::First { from: time(0) });
        assert_eq!(refusals.place(&a, time(2)), Place::First { from: time(0) }, "until the log says it");
        refusals.told(&a);
        assert_eq!(refusals.place(&a, time(2)), Place::Counted);
        assert_eq!(refusals.place(&b, time(2)), Place::Entry, "each caller for itself");
        refusals.unknown(time(3));
        assert_eq!(refusals.place(&a, time(WINDOW_S)), Place::Entry, "a new time");
        let counted = |by: Option<&Principal>, from, until, count| Counted {
            by: by.cloned(),
            from: time(from),
            until: time(until),
            count,
        };
        let mut state = refusals.lock();
        assert_eq!(state.ended, [counted(Some(&a), 0, WINDOW_S, 3)]);
        state.end(|w| w.is_over(time(WINDOW_S + 3)), time(WINDOW_S + 3));
        assert_eq!(state.ended[1..], [counted(None, 3, WINDOW_S + 3, 1)], "b had none to count");
        assert_eq!(state.running.keys().collect::<Vec<_>>(), [&Some(a)]);
    }
}
