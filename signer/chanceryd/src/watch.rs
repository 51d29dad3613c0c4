//! What changes without anybody asking: tokens that can no longer sign, or can again, and steps of the clock. Once a second
//! is looked; what has changed stands in the log.
//!
//! Promises: only changes are written, and of one keeper at most [`MOST`] an hour, so that a loose plug fills no disk. It
//! does not know what a token's problem means.

use crate::{
    audit::Log,
    health::{Health, Standing},
};
use record::{Clock, Event, FailureCode, KeeperName, KeyId, Leaf, Nonce, Time, TokenFault};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// A difference between wall clock and monotonic clock that is a step: more than NTP slews in a second.
const STEP_MS: i64 = 5_000;
/// Changes that are written of one keeper, and of the clock, in [`WINDOW_MS`].
const MOST: u32 = 20;
/// An hour.
const WINDOW_MS: i64 = 3_600_000;

/// The task.
pub(crate) struct Watch {
    pub log: Log,
    pub health: Arc<Health>,
    pub clock: Arc<dyn Clock>,
}

impl Watch {
    /// Looks until the daemon is sealed.
    pub(crate) async fn run(self) {
        let mut tokens = Tokens::default();
        let mut clock = WallClock::new(self.clock.now(), Instant::now());
        while self.health.sealed().is_none() {
            tokio::time::sleep(EVERY).await;
            let now = self.clock.now();
            self.health.set_clock(self.log.clock_problem(now));
            if let Some(by_ms) = clock.step(now, Instant::now()) {
                tracing::warn!(by_ms, "the clock was set, or the machine slept");
                self.write(now, |time, nonce| Event::ClockStepped { time, nonce, by_ms }).await;
            }
            for (keeper, problems) in tokens.changes(now, &self.health.keepers()) {
                self.write(now, |time, nonce| told(time, nonce, keeper, problems)).await;
            }
        }
    }

    async fn write(&self, time: Time, event: impl FnOnce(Time, Nonce) -> Event) {
        let Ok(nonce) = Nonce::random() else { return };
        if let Err(e) = self.log.append(Leaf::Event(event(time, nonce))).await {
            tracing::warn!(error = %e, "an event could not be written into the log");
        }
    }
}

fn told(time: Time, nonce: Nonce, keeper: KeeperName, problems: Problems) -> Event {
    if problems.is_empty() {
        return Event::TokenWell { time, nonce, keeper };
    }
    let fault = |(key, code)| TokenFault { key, code };
    Event::TokenTrouble { time, nonce, keeper, problems: problems.into_iter().map(fault).collect() }
}

/// What keeps keys from signing, by key; none stands for the token.
type Problems = BTreeSet<(Option<KeyId>, FailureCode)>;

/// What the log knows of each keeper's token.
#[derive(Debug, Default)]
struct Tokens {
    told: BTreeMap<KeeperName, Problems>,
    /// What the last look has seen: what stands for one look only may be a keeper that has not said it yet.
    seen: BTreeMap<KeeperName, Problems>,
    budget: BTreeMap<KeeperName, Budget>,
}

impl Tokens {
    /// What is to be told now.
    fn changes(
        &mut self,
        now: Time,
        keepers: &BTreeMap<KeeperName, Standing>,
    ) -> Vec<(KeeperName, Problems)> {
        let mut changes = Vec::new();
        for (name, standing) in keepers {
            if standing.trouble.is_some() {
                // It is away: what its token does is not known.
                self.seen.remove(name);
                continue;
            }
            let problems: Problems = standing.token.iter().map(|p| (p.key, p.code.clone())).collect();
            let steady = self.seen.insert(name.clone(), problems.clone()).as_ref() == Some(&problems);
            let told = self.told.entry(name.clone()).or_default();
            if steady && *told != problems && self.budget.entry(name.clone()).or_default().take(now) {
                told.clone_from(&problems);
                changes.push((name.clone(), problems));
            }
        }
        changes
    }
}

/// How often something was written lately.
#[derive(Debug, Default)]
struct Budget {
    since: Option<Time>,
    taken: u32,
}

impl Budget {
    fn take(&mut self, now: Time) -> bool {
        let begun =
            self.since.is_some_and(|since| (0..WINDOW_MS).contains(&(now.unix_ms() - since.unix_ms())));
        if !begun {
            (self.since, self.taken) = (Some(now), 0);
        }
        self.taken += 1;
        self.taken <= MOST
    }
}

/// The wall clock beside the monotonic one.
#[derive(Debug)]
struct WallClock {
    last: (Time, Instant),
    budget: Budget,
}

impl WallClock {
    fn new(now: Time, monotonic: Instant) -> Self {
        Self { last: (now, monotonic), budget: Budget::default() }
    }

    /// By how many milliseconds the wall clock was set since the last look, if it was and that is to be told.
    fn step(&mut self, now: Time, monotonic: Instant) -> Option<i64> {
        let (before, then) = std::mem::replace(&mut self.last, (now, monotonic));
        let passed = i64::try_from(monotonic.duration_since(then).as_millis()).unwrap_or(i64::MAX);
        let by = now.unix_ms() - before.unix_ms() - passed;
        (by.abs() > STEP_MS && self.budget.take(now)).then_some(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Trouble;
    use api::KeeperFault;
    use record::{FixedClock, wire::TokenProblem};

    struct Scene {
        clock: FixedClock,
        health: Health,
        tokens: Tokens,
        name: KeeperName,
    }

    impl Scene {
        fn new() -> Self {
            let clock = FixedClock::at(Time::from_unix_ms(1_790_000_000_000).unwrap());
            let health = Health::new(Arc::new(clock.clone()), None);
            let name = KeeperName::parse("signing").unwrap();
            health.set_keeper(&name, None);
            Self { clock, health, tokens: Tokens::default(), name }
        }

        fn token(&self, code: Option<&str>) {
            let problem = |code: &str| TokenProblem {
                key: None,
                code: FailureCode::parse(code).unwrap(),
                detail: "it is out".into(),
            };
            self.health.set_token(&self.name, code.map(problem).into_iter().collect());
        }

        /// How many problems each change tells of.
        fn look(&mut self) -> Vec<usize> {
            self.clock.advance_ms(1000);
            let changes = self.tokens.changes(self.clock.now(), &self.health.keepers());
            changes.iter().map(|(_, problems)| problems.len()).collect()
        }
    }

    #[test]
    fn trouble_of_a_token_is_told_once_when_it_appears_and_once_when_it_ends() {
        let mut scene = Scene::new();
        assert_eq!((scene.look(), scene.look()), (vec![], vec![]), "well from the beginning on");
        scene.token(Some("token-absent"));
        assert_eq!((scene.look(), scene.look(), scene.look()), (vec![], vec![1], vec![]));
        scene.token(None);
        assert_eq!((scene.look(), scene.look(), scene.look()), (vec![], vec![0], vec![]));
    }

    #[test]
    fn a_keeper_that_goes_and_comes_back_says_nothing_of_its_token() {
        let mut scene = Scene::new();
        scene.token(Some("token-absent"));
        scene.look();
        assert_eq!(scene.look(), [1]);
        scene.health.set_keeper(&scene.name, Some(Trouble::new(KeeperFault::Unreachable, "gone")));
        assert_eq!((scene.look(), scene.look()), (vec![], vec![]));
        scene.health.set_keeper(&scene.name, None);
        assert_eq!(scene.look(), Vec::<usize>::new(), "it has not said yet");
        scene.token(Some("token-absent"));
        assert_eq!((scene.look(), scene.look()), (vec![], vec![]), "nothing has changed");
    }

    #[test]
    fn a_loose_plug_is_told_of_twenty_times_an_hour() {
        let mut scene = Scene::new();
        let mut told = 0;
        for n in 0..400 {
            scene.token((n % 2 == 0).then_some("token-absent"));
            scene.look();
            told += scene.look().len();
        }
        assert_eq!(told, MOST as usize);
        scene.clock.advance_ms(WINDOW_MS);
        scene.token(Some("token-absent"));
        scene.look();
        assert_eq!(scene.look().len(), 1, "and again in the next hour");
    }

    #[test]
    fn a_step_of_the_clock_is_told_and_a_slow_look_is_none() {
        let (start, begun) = (Time::from_unix_ms(1_790_000_000_000).unwrap(), Instant::now());
        let mut clock = WallClock::new(start, begun);
        let at = |s: u64| begun + Duration::from_secs(s);
        assert_eq!(clock.step(start.plus_ms(1_020), at(1)), None);
        assert_eq!(clock.step(start.plus_ms(61_000), at(61)), None, "a look that came late");
        assert_eq!(clock.step(start.plus_ms(-3_600_000), at(62)), Some(-3_662_000));
        assert_eq!(clock.step(start.plus_ms(-3_599_000), at(63)), None, "told once");
        assert_eq!(clock.step(start.plus_ms(10_000), at(64)), Some(3_608_000));
    }
}
