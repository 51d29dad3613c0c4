//! A monitor: looks at a log again and again, and says what a person must hear of.
//!
//! Promises: every entry under every checkpoint that it has seen was read once and hashed into the root; a checkpoint that
//! contradicts one that was seen, by this program or by an earlier command on this machine, is an alarm and the end.
//! Does not know which signatures a build asked for: it judges the log by itself.

use super::{
    AuditError, LogSource, Prover, SeenNotes, Trust,
    ends::{Ends, MAX_LISTED},
    opened_checkpoint,
};
use record::{Leaf, Time};
use serde::Serialize;
use std::collections::BTreeSet;
use tlog::{Checkpoint, Frontier, TILE_WIDTH, leaf_hash};

/// The most alarms about entries of one look; beyond that they are counted in one more.
const MAX_NEWS: usize = 1000;

/// When silence and slowness become alarms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The longest time that the log may not grow.
    pub(crate) stall_ms: i64,
    /// The longest time that an intent may be open.
    pub(crate) open_ms: i64,
}

/// What an alarm is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Two checkpoints contradict each other, or entries their checkpoint. The watch ends.
    Fork,
    /// A checkpoint or a file that is not what it must be, or lacks its witnesses.
    NotVerified,
    /// An entry that breaks the log's rules, such as a signature that no intent announced.
    Finding,
    /// Nobody can say whether a signature was made.
    UnknownOutcome,
    /// An intent has had no end for too long.
    OpenIntent,
    /// The log has not grown for too long.
    Stalled,
    /// The log cannot be read.
    Unreachable,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::NotVerified => "not-verified",
            Self::Finding => "finding",
            Self::UnknownOutcome => "unknown-outcome",
            Self::OpenIntent => "open-intent",
            Self::Stalled => "stalled",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Something that a person must hear of. Each is told once; one that ended may come again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Alarm {
    pub(crate) alarm: Kind,
    /// When it was noticed.
    pub(crate) time: Time,
    /// How many entries had been read.
    pub(crate) size: u64,
    /// The entry that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<u64>,
    pub(crate) what: String,
}

/// What the monitor has read and told.
pub(crate) struct Watch {
    trust: Trust,
    limits: Limits,
    frontier: Frontier,
    ends: Ends,
    /// The latest time in any entry.
    newest: Option<Time>,
    /// What was found in entries and not yet told, and how much more there was.
    news: Vec<(Kind, u64, String)>,
    more: u64,
    /// How many findings were counted.
    findings: u64,
    /// What was told and lasts.
    told: BTreeSet<(Kind, Option<u64>)>,
}

impl Watch {
    pub(crate) fn new(trust: Trust, limits: Limits) -> Self {
        let ends = Ends::new(trust.key.name(), trust.key.to_string());
        let (frontier, told) = (Frontier::default(), BTreeSet::new());
        Self { trust, limits, frontier, ends, newest: None, news: Vec::new(), more: 0, findings: 0, told }
    }

    /// How many entries were read.
    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Looks once: the alarms that are new since the last look.
    pub(crate) fn look(&mut self, source: &LogSource, seen: Option<&SeenNotes>, now: Time) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        match self.read(source, seen) {
            Ok(()) => {
                self.told.remove(&(Kind::Unreachable, None));
                self.told.remove(&(Kind::NotVerified, None));
            }
            Err(error) => self.tell(&mut alarms, kind(&error), None, api::chain_text(&error), now),
        }
        self.entries(&mut alarms, now);
        self.open(&mut alarms, now);
        self.stalled(&mut alarms, now);
        alarms
    }

    /// Reads what the newest checkpoint adds.
    fn read(&mut self, source: &LogSource, seen: Option<&SeenNotes>) -> Result<(), AuditError> {
        let checkpoint = self.newest(source, seen)?;
        let (had, size) = (self.size(), checkpoint.size);
        // What was read under an earlier checkpoint must be under this one.
        extends(source, &checkpoint, &self.frontier)?;
        let prover = Prover::new(source, &checkpoint);
        for bundle in had / TILE_WIDTH..size.div_ceil(TILE_WIDTH) {
            let mut frontier = self.frontier.clone();
            let entries = (bundle * TILE_WIDTH..).zip(prover.entries(bundle)?);
            let added: Vec<_> = entries.filter(|(index, _)| *index >= had).collect();
            added.iter().for_each(|(_, bytes)| frontier.append(leaf_hash(bytes)));
            // What is judged is proven: a bundle at a time, so that a long log is never held in memory.
            extends(source, &checkpoint, &frontier).map_err(|error| altered(error, bundle * TILE_WIDTH))?;
            for (index, bytes) in added {
                let step = self.ends.entry(index, &bytes);
                self.newest = self.newest.max(step.leaf.as_ref().and_then(Leaf::time));
            }
            self.frontier = frontier;
            self.take_news();
        }
        Ok(())
    }

    /// The source's checkpoint, held against what this machine remembers: a server is followed, a folder is compared.
    fn newest(&self, source: &LogSource, seen: Option<&SeenNotes>) -> Result<Checkpoint, AuditError> {
        let accepted = opened_checkpoint(source, &self.trust)?;
        let Some(seen) = seen else { return Ok(accepted.checkpoint) };
        if source.is_remote() {
            return Ok(seen.advance(&accepted.note, &self.trust, source)?.checkpoint);
        }
        seen.compare(&accepted.checkpoint, &self.trust.key, source)?;
        Ok(accepted.checkpoint)
    }

    /// Takes over what the entries of one bundle brought.
    fn take_news(&mut self) {
        let (findings, unknown) = self.ends.take_news();
        let total = self.ends.findings.total;
        self.more += (total - self.findings).saturating_sub(findings.len() as u64);
        self.findings = total;
        let findings = findings.into_iter().map(|f| (Kind::Finding, f.index, f.what));
        let unknown = unknown.into_iter().map(|u| {
            let what = format!(
                "keeper {} cannot say whether it signed intent {}, {} of {}",
                u.keeper, u.intent, u.purpose, u.repository
            );
            (Kind::UnknownOutcome, u.index, what)
        });
        for news in findings.chain(unknown) {
            if self.news.len() < MAX_NEWS { self.news.push(news) } else { self.more += 1 }
        }
    }

    fn entries(&mut self, alarms: &mut Vec<Alarm>, now: Time) {
        let size = self.size();
        let alarm = |(alarm, index, what)| Alarm { alarm, time: now, size, index: Some(index), what };
        alarms.extend(self.news.drain(..).map(alarm));
        let more = std::mem::take(&mut self.more);
        if more > 0 {
            let what = format!("{more} more entries are not what they should be, or are unknown outcomes");
            alarms.push(Alarm { alarm: Kind::Finding, time: now, size, index: None, what });
        }
    }

    fn open(&mut self, alarms: &mut Vec<Alarm>, now: Time) {
        let late = |since: i64| now.unix_ms() - since > self.limits.open_ms;
        let late: Vec<_> = self.ends.open().filter(|o| late(o.unix_ms)).take(MAX_LISTED).cloned().collect();
        let still = |index: Option<u64>| late.iter().any(|o| Some(o.index) == index);
        self.told.retain(|(kind, index)| *kind != Kind::OpenIntent || still(*index));
        for o in &late {
            let what = format!(
                "{} of {} by keeper {} has no end since {}",
                o.purpose, o.repository, o.keeper, o.time
            );
            self.tell(alarms, Kind::OpenIntent, Some(o.index), what, now);
        }
    }

    fn stalled(&mut self, alarms: &mut Vec<Alarm>, now: Time) {
        let Some(newest) = self.newest else { return };
        if now.unix_ms() - newest.unix_ms() > self.limits.stall_ms {
            self.tell(alarms, Kind::Stalled, None, format!("the newest entry is of {newest}"), now);
        } else {
            self.told.remove(&(Kind::Stalled, None));
        }
    }

    fn tell(&mut self, alarms: &mut Vec<Alarm>, alarm: Kind, index: Option<u64>, what: String, now: Time) {
        if self.told.insert((alarm, index)) {
            alarms.push(Alarm { alarm, time: now, size: self.size(), index, what });
        }
    }
}

/// Demands that the entries so far are the beginning of the checkpoint's tree.
fn extends(source: &LogSource, checkpoint: &Checkpoint, frontier: &Frontier) -> Result<(), AuditError> {
    let (origin, size, root) = (checkpoint.origin.clone(), frontier.size(), frontier.root());
    Prover::new(source, checkpoint).extends(&Checkpoint { origin, size, root })
}

/// Entries that are not their checkpoint's are no fork: nobody has signed two checkpoints.
fn altered(error: AuditError, first: u64) -> AuditError {
    match error {
        AuditError::Forked { .. } => AuditError::Log(format!(
            "the bundle of entry {first} is not under the checkpoint: it was altered"
        )),
        other => other,
    }
}

fn kind(error: &AuditError) -> Kind {
    match error {
        AuditError::Shrunk { .. } | AuditError::Forked { .. } => Kind::Fork,
        AuditError::Read(_) => Kind::Unreachable,
        _ => Kind::NotVerified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::synthetic::{Log, Published, completion, intent, outcome, time};
    use record::OutcomeKind;

    const LIMITS: Limits = Limits { stall_ms: 3_600_000, open_ms: 600_000 };

    /// A monitor with a memory of its own.
    struct Monitor {
        watch: Watch,
        seen: SeenNotes,
        _state: tempfile::TempDir,
    }

    impl Monitor {
        fn of(log: &Log) -> Self {
            let state = tempfile::tempdir().unwrap();
            Self {
                watch: Watch::new(log.trust(), LIMITS),
                seen: SeenNotes::under(state.path()),
                _state: state,
            }
        }

        fn look(&mut self, published: &Published, now: u64) -> Vec<(Kind, Option<u64>)> {
            let alarms = self.watch.look(&published.source(), Some(&self.seen), time(now));
            alarms.into_iter().map(|a| (a.alarm, a.index)).collect()
        }
    }

    #[test]
    fn a_log_that_grows_in_good_order_is_no_alarm() {
        let log = Log::with_requests(300);
        let mut monitor = Monitor::of(&log);
        for size in [1, 2, 255, 256, 257, 512, log.size(), log.size()] {
            assert_eq!(monitor.look(&log.published(size), 300), [], "{size}");
            assert_eq!(monitor.watch.size(), size);
        }
    }

    #[test]
    fn each_thing_that_is_wrong_is_told_once() {
        let mut log = Log::with_requests(3);
        let mut monitor = Monitor::of(&log);
        assert_eq!(monitor.look(&log.published(log.size()), 5), []);
        log.push(completion(77));
        log.push(intent(9, 9));
        log.push(outcome(8, OutcomeKind::Unknown));
        log.push(intent(11, 11));
        let published = log.published(log.size());
        let expected = [(Kind::Finding, Some(7)), (Kind::UnknownOutcome, Some(9))];
        assert_eq!(monitor.look(&published, 20), expected);
        assert_eq!(monitor.look(&published, 30), []);
        assert_eq!(monitor.look(&published, 11 + 601), [(Kind::OpenIntent, Some(10))]);
        assert_eq!(monitor.look(&published, 11 + 3601), [(Kind::Stalled, None)]);
        log.push(completion(11));
        log.push(intent(4000, 12));
        assert_eq!(monitor.look(&log.published(log.size()), 4000), []);
        assert_eq!(
            monitor.look(&log.published(log.size()), 9000),
            [(Kind::OpenIntent, Some(12)), (Kind::Stalled, None)]
        );
    }

    #[test]
    fn a_log_full_of_faults_is_told_with_a_limit() {
        let mut log = Log::new();
        for n in 0..MAX_NEWS as u64 + 100 {
            log.push(completion(n));
        }
        let mut monitor = Monitor::of(&log);
        let told = monitor.look(&log.published(log.size()), 5);
        assert!(told.len() <= MAX_NEWS + 1 && told.last() == Some(&(Kind::Finding, None)), "{}", told.len());
        log.push(completion(7));
        assert_eq!(monitor.look(&log.published(log.size()), 5), [(Kind::Finding, Some(log.size() - 1))]);
    }

    #[test]
    fn a_fork_is_told_and_what_was_read_before_is_kept() {
        let (log, other) = (Log::with_requests(20), Log::with_other_requests(20));
        for (size, theirs) in [(30, 30), (30, 41), (30, 20)] {
            let mut monitor = Monitor::of(&log);
            assert_eq!(monitor.look(&log.published(size), 20), []);
            assert_eq!(monitor.look(&other.published(theirs), 20), [(Kind::Fork, None)], "{theirs}");
            assert_eq!(monitor.watch.size(), size);
        }
    }

    #[test]
    fn a_fork_that_an_earlier_command_could_see_is_told_at_the_first_look() {
        let (log, other) = (Log::with_requests(20), Log::with_other_requests(20));
        let mut monitor = Monitor::of(&log);
        let before = log.published(30);
        monitor.seen.advance(&before.note, &log.trust(), &before.source()).unwrap();
        assert_eq!(monitor.look(&other.published(41), 20), [(Kind::Fork, None)]);
    }

    #[test]
    fn altered_files_and_an_absent_log_are_told_and_told_again_when_they_come_back() {
        let log = Log::with_requests(20);
        let mut monitor = Monitor::of(&log);
        let (published, nothing) = (log.published(log.size()), log.published(1));
        std::fs::remove_file(nothing.files().into_iter().find(|f| f.ends_with("checkpoint")).unwrap())
            .unwrap();
        assert_eq!(monitor.look(&nothing, 20), [(Kind::Unreachable, None)]);
        assert_eq!(monitor.look(&nothing, 20), []);
        let bundle = published.files().into_iter().find(|f| f.to_string_lossy().contains("entries")).unwrap();
        let whole = std::fs::read(&bundle).unwrap();
        std::fs::write(&bundle, [&whole[..whole.len() - 1], b" "].concat()).unwrap();
        let altered = monitor.look(&published, 20);
        assert_eq!(altered, [(Kind::NotVerified, None)]);
        assert_eq!(monitor.watch.size(), 0);
        std::fs::write(&bundle, whole).unwrap();
        assert_eq!(monitor.look(&published, 20), []);
        assert_eq!(monitor.look(&nothing, 20), [(Kind::Unreachable, None)]);
    }
}
