//! A monitor: looks at a log again and again, and says what a person must hear of.
//!
//! Promises: every entry under every checkpoint that it has seen was read once and hashed into the root; a checkpoint that
//! contradicts one that was seen, by this program or by an earlier command on this machine, is an alarm and the end.
//! A time that an entry gives can make the log look older than it is and never younger: what has lasted since the monitor
//! saw it, by the monitor's own clock, lasts. Which signatures a build asked for it knows only from what a CI system exports
//! ([`runs`]); without that it judges the log by itself.

mod runs;
mod unexplained;

pub(crate) use runs::Runs;

use super::{
    AuditError, LogSource, Memory, Prover, SeenNotes, Trust,
    ends::{Ends, MAX_LISTED, Step},
    facts::Asked,
    matching::OpenIntent,
    opened_checkpoint,
};
use record::{Leaf, Repository, Time};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tlog::{Checkpoint, Frontier, TILE_WIDTH, leaf_hash};
use unexplained::{MAX_WAITING, Unexplained};

#[cfg(test)]
mod tests;

/// The most alarms about entries of one look; beyond that they are counted in one more.
const MAX_NEWS: usize = 1000;
/// The most texts of faults that are remembered as told. A log that brings more of them is told some again.
const MAX_TOLD: usize = 1000;

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
    /// A signature was announced that no run of the CI system asked for.
    Unexplained,
    /// The CI system's export cannot be used; signatures are not compared with it meanwhile.
    Runs,
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
            Self::Unexplained => "unexplained",
            Self::Runs => "runs",
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
    /// What was asked for without a run.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) change: Option<Change>,
}

/// What was asked for, in an alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    repository: Repository,
    #[serde(flatten)]
    asked: Asked,
}

impl Alarm {
    /// An alarm about no one entry.
    fn about_log(alarm: Kind, time: Time, size: u64, what: String) -> Self {
        Self { alarm, time, size, index: None, what, change: None }
    }
}

/// What the monitor has read and told.
pub(crate) struct Watch {
    trust: Trust,
    limits: Limits,
    frontier: Frontier,
    ends: Ends,
    /// The latest time in any entry.
    newest: Option<Time>,
    /// When this monitor saw the log grow last.
    grown: Option<Time>,
    /// When this monitor saw each open intent first.
    sighted: BTreeMap<u64, Time>,
    /// The CI's runs, if they are given, and what they do not explain.
    unexplained: Option<Unexplained>,
    /// How the last checkpoint stood to the note that this machine remembers.
    memory: Memory,
    /// What was found in entries and not yet told, and how much more there was.
    news: Vec<(Kind, u64, String)>,
    more: u64,
    /// How many findings and unknown outcomes were taken over, or counted.
    taken: u64,
    /// The intents that were told, or counted, as open for too long, and still are.
    late: BTreeSet<u64>,
    /// What else was told and lasts.
    told: BTreeSet<(Kind, String)>,
}

impl Watch {
    pub(crate) fn new(trust: Trust, limits: Limits) -> Self {
        let ends = Ends::new(trust.key.name(), trust.key.to_string());
        Self {
            trust,
            limits,
            frontier: Frontier::default(),
            ends,
            newest: None,
            grown: None,
            sighted: BTreeMap::new(),
            unexplained: None,
            memory: Memory::default(),
            news: Vec::new(),
            more: 0,
            taken: 0,
            late: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    /// Also demands that a run asked for every signature, and is exported within so many milliseconds: of every signature, or
    /// from the first intent of a time on.
    pub(crate) fn demand_runs(&mut self, runs: Runs, within_ms: i64, since: Option<Time>) {
        self.unexplained = Some(Unexplained::new(runs, within_ms, since));
    }

    /// How many entries were read.
    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// How the last checkpoint stood to the note that this machine remembers.
    pub(crate) fn memory(&self) -> Memory {
        self.memory
    }

    /// Looks once: the alarms that are new since the last look. An error is a fault of this machine's memory, which says
    /// nothing about the log.
    pub(crate) fn look(
        &mut self,
        source: &LogSource,
        seen: Option<&SeenNotes>,
        now: Time,
    ) -> Result<Vec<Alarm>, AuditError> {
        let mut alarms = Vec::new();
        let has_runs = self.read_runs(&mut alarms, now);
        match self.read(source, seen, now) {
            Ok(()) => {
                self.forget(Kind::Unreachable);
                self.forget(Kind::NotVerified);
            }
            Err(error @ AuditError::Memory { .. }) => return Err(error),
            Err(error) => self.tell(&mut alarms, kind(&error), api::chain_text(&error), now),
        }
        self.entries(&mut alarms, now);
        if has_runs {
            self.unexplained(&mut alarms, now);
        }
        self.open(&mut alarms, now);
        self.stalled(&mut alarms, now);
        Ok(alarms)
    }

    /// Reads what the newest checkpoint adds.
    fn read(&mut self, source: &LogSource, seen: Option<&SeenNotes>, now: Time) -> Result<(), AuditError> {
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
                self.sight(index, &step, now);
            }
            self.frontier = frontier;
            self.take_news();
        }
        Ok(())
    }

    /// Notes the times of an entry: its own, and the monitor's.
    fn sight(&mut self, index: u64, step: &Step, now: Time) {
        self.grown = Some(now);
        self.newest = self.newest.max(step.leaf.as_ref().and_then(Leaf::time));
        if let Some(leaf @ Leaf::Intent(_)) = &step.leaf {
            self.sighted.insert(index, now);
            if let Some(unexplained) = &mut self.unexplained {
                unexplained.entry(index, leaf, now);
            }
        }
        if let Some(closed) = step.closed {
            self.sighted.remove(&closed.intent);
        }
    }

    /// The source's checkpoint, held against what this machine remembers: a server is followed, a folder is compared.
    fn newest(&mut self, source: &LogSource, seen: Option<&SeenNotes>) -> Result<Checkpoint, AuditError> {
        let accepted = opened_checkpoint(source, &self.trust)?;
        let Some(seen) = seen else { return Ok(accepted.checkpoint) };
        if source.is_remote() {
            let advanced = seen.advance(&accepted.note, &self.trust, source)?;
            self.memory = advanced.memory;
            return Ok(advanced.checkpoint);
        }
        self.memory = seen.compare(&accepted.checkpoint, &self.trust.key, source)?;
        Ok(accepted.checkpoint)
    }

    /// Takes over what the entries of one bundle brought.
    fn take_news(&mut self) {
        let (findings, unknown) = self.ends.take_news();
        let total = self.ends.findings().total + self.ends.counts.unknown;
        let listed = (findings.len() + unknown.len()) as u64;
        self.more += (total - self.taken).saturating_sub(listed);
        self.taken = total;
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
        let alarm =
            |(alarm, index, what)| Alarm { index: Some(index), ..Alarm::about_log(alarm, now, size, what) };
        alarms.extend(self.news.drain(..).map(alarm));
        let more = std::mem::take(&mut self.more);
        if more > 0 {
            let what = format!("{more} more entries are not what they should be, or are unknown outcomes");
            alarms.push(Alarm::about_log(Kind::Finding, now, size, what));
        }
    }

    /// Reads what the CI system has exported since; whether there is anything to judge by.
    fn read_runs(&mut self, alarms: &mut Vec<Alarm>, now: Time) -> bool {
        let Some(unexplained) = &mut self.unexplained else { return false };
        match unexplained.runs.refresh() {
            Ok(()) => {
                self.forget(Kind::Runs);
                true
            }
            Err(error) => {
                self.tell(alarms, Kind::Runs, error.to_string(), now);
                false
            }
        }
    }

    fn unexplained(&mut self, alarms: &mut Vec<Alarm>, now: Time) {
        let size = self.size();
        let Some(unexplained) = &mut self.unexplained else { return };
        let (overdue, not_waited) = unexplained.overdue(now);
        let more = overdue.len().saturating_sub(MAX_NEWS);
        alarms.extend(overdue.into_iter().take(MAX_NEWS).map(|overdue| {
            let (index, what) = (Some(overdue.index), overdue.text());
            let change = Some(Change { repository: overdue.repository, asked: overdue.asked });
            Alarm { index, change, ..Alarm::about_log(Kind::Unexplained, now, size, what) }
        }));
        if more > 0 {
            let what = format!("no run asked for {more} more changes");
            alarms.push(Alarm::about_log(Kind::Unexplained, now, size, what));
        }
        if not_waited > 0 {
            let what = format!(
                "no run has asked yet for {not_waited} more changes; {MAX_WAITING} wait for their runs already, so these are \
                 told before --runs-within is over and not looked at again"
            );
            alarms.push(Alarm::about_log(Kind::Unexplained, now, size, what));
        }
    }

    fn open(&mut self, alarms: &mut Vec<Alarm>, now: Time) {
        let late: Vec<&OpenIntent> =
            self.ends.open().filter(|o| now.unix_ms() - self.open_since(o) > self.limits.open_ms).collect();
        let mut news = late.iter().filter(|o| !self.late.contains(&o.index));
        let size = self.size();
        let alarm = |index, what| Alarm { index, ..Alarm::about_log(Kind::OpenIntent, now, size, what) };
        alarms.extend(news.by_ref().take(MAX_LISTED).map(|o| {
            let minutes = (now.unix_ms() - self.open_since(o)) / 60_000;
            let OpenIntent { purpose, repository, keeper, time, .. } = o;
            let what =
                format!("{purpose} of {repository} by keeper {keeper}, {time}: no end for {minutes} minutes");
            alarm(Some(o.index), what)
        }));
        let more = news.count();
        if more > 0 {
            alarms.push(alarm(None, format!("{more} more intents have had no end for too long")));
        }
        self.late = late.iter().map(|o| o.index).collect();
    }

    /// Since when an intent is open: as it says, but not later than it was seen.
    fn open_since(&self, open: &OpenIntent) -> i64 {
        let seen = self.sighted.get(&open.index).map_or(open.unix_ms, |seen| seen.unix_ms());
        open.unix_ms.min(seen)
    }

    fn stalled(&mut self, alarms: &mut Vec<Alarm>, now: Time) {
        let Some(since) = self.newest.into_iter().chain(self.grown).min() else { return };
        if now.unix_ms() - since.unix_ms() > self.limits.stall_ms {
            self.tell(alarms, Kind::Stalled, format!("the log has not grown since {since}"), now);
        } else {
            self.forget(Kind::Stalled);
        }
    }

    /// Tells what lasts, unless these very words were told. Another fault of the same kind is told too.
    fn tell(&mut self, alarms: &mut Vec<Alarm>, alarm: Kind, what: String, now: Time) {
        if self.told.len() >= MAX_TOLD {
            self.told.clear();
        }
        if self.told.insert((alarm, what.clone())) {
            alarms.push(Alarm::about_log(alarm, now, self.size(), what));
        }
    }

    /// A fault that has ended may come again.
    fn forget(&mut self, ended: Kind) {
        self.told.retain(|(kind, _)| *kind != ended);
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
