//! What works and what does not, in one place: the seal, the log keeper, the signing keepers, the witnesses, the mirrors; and
//! since when.

use crate::{
    heads::Heads,
    mark::{Mark, MarkFile},
    publication::Patience,
    scrub::{Read, Rounds},
};
use api::KeeperFault;
use record::{Clock, KeeperName, KeyId, Time, wire::TokenProblem};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

/// The longest that the end of the daemon waits for the mark of a seal: a disk that fails may hang for good.
const MARKING: Duration = Duration::from_secs(5);
/// What becomes of a seal that is not on the disk.
const LOST: &str = "the seal could not be kept for the next start, which will check everything";

/// Shared by all parts; reads and writes never wait for anything slow.
pub(crate) struct Health {
    inner: Mutex<Inner>,
    /// Set if nothing is signed too far ahead of the witnesses.
    patience: OnceLock<Arc<Patience>>,
    clock: Arc<dyn Clock>,
    /// Where a seal is kept for the next start.
    mark: Option<Arc<MarkFile>>,
    seal: watch::Sender<bool>,
    /// Who keeps a head of the log elsewhere.
    pub(crate) heads: Heads,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("problems", &self.problems()).finish_non_exhaustive()
    }
}

struct Inner {
    sealed: Option<String>,
    /// Writes the mark of the seal.
    marking: Option<oneshot::Receiver<()>>,
    clock: Option<String>,
    scrub: Rounds,
    log: Standing,
    keepers: BTreeMap<KeeperName, Standing>,
    /// By the part of the daemon that raises them.
    alarms: BTreeMap<String, Vec<String>>,
    mirrors: BTreeMap<String, Lag>,
}

/// How a mirror is that does not follow the log.
#[derive(Debug)]
struct Lag {
    since: Time,
    behind: u64,
    why: String,
}

/// Why a keeper cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Which kind of fault; each has its remedy.
    pub fault: KeeperFault,
    /// One sentence.
    pub why: String,
}

impl Trouble {
    /// A fault with its sentence.
    pub(crate) fn new(fault: KeeperFault, why: impl Into<String>) -> Self {
        Self { fault, why: why.into() }
    }
}

/// How a keeper is, and how it was.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// Why it cannot be used, if that is so.
    pub trouble: Option<Trouble>,
    /// Since when this is so.
    pub since: Time,
    /// The last trouble that it had, also when that is over, and when.
    pub last: Option<(Time, Trouble)>,
    /// How many leaves of the log it has seen, if it has said so.
    pub seen: Option<u64>,
    /// What keeps its keys from signing, as it says itself, while it is connected.
    pub token: Vec<TokenProblem>,
}

impl Standing {
    fn new(since: Time) -> Self {
        Self { trouble: None, since, last: None, seen: None, token: Vec::new() }
    }

    fn change(&mut self, trouble: Option<Trouble>, now: Time) {
        if self.trouble.as_ref().map(|t| t.fault) != trouble.as_ref().map(|t| t.fault) {
            self.since = now;
        }
        if let Some(trouble) = &trouble {
            self.last = Some((now, trouble.clone()));
            // What it said of its token holds no more; it says it again when it is back.
            self.token.clear();
        }
        self.trouble = trouble;
    }

    /// The trouble with the keeper, or else with its token.
    pub(crate) fn worst(&self) -> Option<Trouble> {
        let of_token = || {
            let says: Vec<String> = self.token.iter().map(problem_text).collect();
            (!says.is_empty()).then(|| Trouble::new(KeeperFault::Token, says.join("; ")))
        };
        self.trouble.clone().or_else(of_token)
    }
}

/// A problem as one sentence.
fn problem_text(problem: &TokenProblem) -> String {
    let TokenProblem { key, code, detail } = problem;
    key.map_or_else(
        || format!("its token: {detail} ({code})"),
        |key| format!("its key {key}: {detail} ({code})"),
    )
}

impl Health {
    /// Nothing is known to be wrong. A seal is kept in the mark.
    pub(crate) fn new(clock: Arc<dyn Clock>, mark: Option<Arc<MarkFile>>) -> Self {
        let log = Standing::new(clock.now());
        let inner = Inner {
            sealed: None,
            marking: None,
            clock: None,
            scrub: Rounds::default(),
            log,
            keepers: BTreeMap::new(),
            alarms: BTreeMap::new(),
            mirrors: BTreeMap::new(),
        };
        let (patience, seal) = (OnceLock::new(), watch::Sender::new(false));
        Self { inner: Mutex::new(inner), patience, clock, mark, seal, heads: Heads::default() }
    }

    /// Stops everything that writes, until a full check from disk has found the state whole (`chancery unseal`). The first
    /// reason stays, is told once, and is kept for the next start by one write.
    pub(crate) fn seal(&self, reason: &str) {
        let mut inner = self.lock();
        if inner.sealed.is_some() {
            return;
        }
        tracing::error!(
            reason,
            "SEALED: nothing new is written or signed; find the cause, stop the daemon, then run `chancery unseal`"
        );
        inner.sealed = Some(reason.to_owned());
        let sealed = Mark::sealed(reason, self.clock.now());
        inner.marking = self.mark.clone().and_then(|mark| keep(mark, sealed));
        drop(inner);
        self.seal.send_replace(true);
    }

    /// Returns when the daemon is sealed.
    pub(crate) async fn until_sealed(&self) {
        let mut seal = self.seal.subscribe();
        // The sender lives as long as `self`.
        let _closed = seal.wait_for(|sealed| *sealed).await;
    }

    /// Waits until the mark of a seal is written, or has failed to be, but no longer than [`MARKING`].
    pub(crate) async fn finish_marking(&self) {
        let marking = self.lock().marking.take();
        let Some(marking) = marking else { return };
        if timeout(MARKING, marking).await.is_err() {
            tracing::warn!("the disk takes too long to keep the seal; {LOST}");
        }
    }

    /// Why the daemon is sealed, if it is.
    pub(crate) fn sealed(&self) -> Option<String> {
        self.lock().sealed.clone()
    }

    /// Notes what is wrong with the clock, if something is.
    pub(crate) fn set_clock(&self, problem: Option<String>) {
        self.lock().clock = problem;
    }

    /// Notes how far a round of the scrub is, of so many leaves.
    pub(crate) fn scrubbing(&self, read: Read, of: u64) {
        self.lock().scrub.running = Some((read, of));
    }

    /// Notes a round of the scrub that found everything whole.
    pub(crate) fn scrubbed(&self, read: Read, at: Time) {
        self.lock().scrub = Rounds { running: None, last: Some((read, at)) };
    }

    /// The rounds of the scrub.
    pub(crate) fn scrub(&self) -> Rounds {
        self.lock().scrub
    }

    /// Notes that the log keeper can be used, or why not.
    pub(crate) fn set_log(&self, problem: Option<String>) {
        let trouble = problem.map(|why| Trouble::new(KeeperFault::Unreachable, why));
        self.lock().log.change(trouble, self.clock.now());
    }

    /// How the log keeper is.
    pub(crate) fn log(&self) -> Standing {
        self.lock().log.clone()
    }

    /// Why no signature can be begun in the log now, if that is so.
    pub(crate) fn log_problem(&self) -> Option<String> {
        let problem = {
            let inner = self.lock();
            let sealed = inner.sealed.as_ref().map(|why| format!("sealed: {why}"));
            sealed.or_else(|| inner.log.trouble.as_ref().map(|t| format!("log keeper: {}", t.why)))
        };
        problem.or_else(|| self.unwitnessed())
    }

    /// From now on nothing is signed too far ahead of the witnesses.
    pub(crate) fn wait_for_witnesses(&self, patience: Arc<Patience>) {
        // Once in a daemon's life.
        let _first = self.patience.set(patience);
    }

    /// Why the log is too far ahead of its witnesses, if it is.
    pub(crate) fn unwitnessed(&self) -> Option<String> {
        self.patience.get().and_then(|patience| patience.problem())
    }

    /// Whether the newest checkpoint waits for its witnesses.
    pub(crate) fn awaits_quorum(&self) -> bool {
        self.patience.get().is_some_and(|patience| patience.is_missing())
    }

    /// Replaces what one part of the daemon finds wrong without keeping signatures from being made.
    pub(crate) fn set_alarms(&self, part: &'static str, alarms: Vec<String>) {
        self.lock().alarms.insert(part.to_owned(), alarms);
    }

    /// Notes what somebody should know of an issuer's keys.
    pub(crate) fn set_issuer(&self, name: &str, alarm: Option<String>) {
        self.lock().alarms.insert(format!("issuer {name}"), alarm.into_iter().collect());
    }

    /// Notes that a signing keeper can be used, or why not.
    pub(crate) fn set_keeper(&self, name: &KeeperName, trouble: Option<Trouble>) {
        let now = self.clock.now();
        let mut inner = self.lock();
        inner.keepers.entry(name.clone()).or_insert_with(|| Standing::new(now)).change(trouble, now);
    }

    /// Notes what a signing keeper says of its token.
    pub(crate) fn set_token(&self, name: &KeeperName, problems: Vec<TokenProblem>) {
        let now = self.clock.now();
        let mut inner = self.lock();
        let standing = inner.keepers.entry(name.clone()).or_insert_with(|| Standing::new(now));
        if standing.token.is_empty() != problems.is_empty() {
            standing.since = now;
        }
        standing.token = problems;
        let worst = standing.worst().filter(|_| standing.trouble.is_none());
        if let Some(trouble) = worst {
            standing.last = Some((now, trouble));
        }
    }

    /// Notes how far a signing keeper follows the log.
    pub(crate) fn saw(&self, name: &KeeperName, size: u64) {
        let now = self.clock.now();
        self.lock().keepers.entry(name.clone()).or_insert_with(|| Standing::new(now)).seen = Some(size);
    }

    /// How each signing keeper is.
    pub(crate) fn keepers(&self) -> BTreeMap<KeeperName, Standing> {
        self.lock().keepers.clone()
    }

    /// Why nothing can be asked of a signing keeper now, if that is so. What it says of its token is no such reason: an
    /// intent waits for a token that is away, and what became of it stands in the log.
    pub(crate) fn keeper_problem(&self, name: &KeeperName) -> Option<String> {
        let unknown = || Some("not connected yet".to_owned());
        self.lock().keepers.get(name).map_or_else(unknown, |s| s.trouble.as_ref().map(|t| t.why.clone()))
    }

    /// Why a key cannot be used now, if that is so: its keeper, its token, or itself.
    pub(crate) fn key_problem(&self, name: &KeeperName, key: &KeyId) -> Option<String> {
        let of_token = || {
            let inner = self.lock();
            let problems =
                inner.keepers.get(name).map(|standing| standing.token.as_slice()).unwrap_or_default();
            problems.iter().find(|p| p.key.is_none_or(|of| of == *key)).map(problem_text)
        };
        self.keeper_problem(name).or_else(of_token)
    }

    /// One sentence for each thing that keeps signatures from being made.
    pub(crate) fn problems(&self) -> Vec<String> {
        let log = self.log_problem();
        let inner = self.lock();
        let keepers = inner.keepers.iter().filter_map(|(name, standing)| {
            standing.worst().map(|t| format!("signing keeper {name}: {}", t.why))
        });
        log.into_iter().chain(inner.clock.clone()).chain(keepers).collect()
    }

    /// Notes that a mirror follows the log, or how many entries it is behind and why. Tells the log of the daemon when that
    /// changes.
    pub(crate) fn set_mirror(&self, place: &str, lag: Option<(u64, String)>) {
        let now = self.clock.now();
        let mut inner = self.lock();
        let before = inner.mirrors.remove(place);
        let Some((behind, why)) = lag else {
            if before.is_some() {
                tracing::info!(mirror = place, "the mirror follows the log again");
            }
            return;
        };
        if before.as_ref().is_none_or(|before| before.why != why) {
            tracing::error!(
                mirror = place,
                behind,
                why,
                "the mirror does not follow the log; it is tried again"
            );
        }
        let since = before.map_or(now, |before| before.since);
        inner.mirrors.insert(place.to_owned(), Lag { since, behind, why });
    }

    /// One sentence for each thing that somebody should look at, although signatures are made.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let lag = |(place, Lag { since, behind, why }): (&String, &Lag)| {
            format!("mirror {place} is {behind} entries behind since {since}: {why}")
        };
        let inner = self.lock();
        inner.alarms.values().flatten().cloned().chain(inner.mirrors.iter().map(lag)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the mark of a seal on a thread of its own: a disk that fails may also be slow, and nobody waits for it.
fn keep(mark: Arc<MarkFile>, sealed: Mark) -> Option<oneshot::Receiver<()>> {
    let (done, marking) = oneshot::channel();
    let write = move || {
        if let Err(e) = mark.write(&sealed) {
            tracing::warn!(error = %e, "{LOST}");
        }
        // Nobody waits for it before the daemon ends.
        let _nobody = done.send(());
    };
    let thread = std::thread::Builder::new().name("seal".into()).spawn(write);
    thread.map_err(|e| tracing::warn!(error = %e, "{LOST}")).ok().map(|_detached| marking)
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::FixedClock;

    #[test]
    fn a_keepers_standing_tells_since_when_and_what_was_last_wrong() {
        let start = Time::from_unix_ms(1_790_000_000_000).unwrap();
        let clock = FixedClock::at(start);
        let health = Health::new(Arc::new(clock.clone()), None);
        let name = KeeperName::parse("signing").unwrap();
        let set = |trouble: Option<Trouble>| {
            clock.advance_ms(1000);
            health.set_keeper(&name, trouble);
            health.keepers()[&name].clone()
        };
        let away = |why: &str| Some(Trouble::new(KeeperFault::Unreachable, why));
        assert_eq!(set(away("refused")).since, start.plus_ms(1000));
        let still = set(away("timed out"));
        assert_eq!((still.since, still.last.unwrap().0), (start.plus_ms(1000), start.plus_ms(2000)));
        let back = set(None);
        assert_eq!((back.since, back.trouble), (start.plus_ms(3000), None));
        assert_eq!(back.last.unwrap().1.why, "timed out");
        health.saw(&name, 7);
        assert_eq!(health.keepers()[&name].seen, Some(7));
        assert_eq!(health.problems(), Vec::<String>::new());
    }
}
