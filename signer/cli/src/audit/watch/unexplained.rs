//! Changes that no CI run explains: those that wait for the CI's export, and those that waited in vain.

use super::runs::Runs;
use crate::audit::facts::{Asked, Facts};
use record::{Leaf, Purpose, Repository, Time};

/// Changes that wait for their runs. A log that brings more has the rest counted, and told without a wait.
pub(super) const MAX_WAITING: usize = 10_000;

/// The runs, and what they do not explain.
#[derive(Debug)]
pub(super) struct Unexplained {
    pub(super) runs: Runs,
    /// How long the export of a run may take, in milliseconds.
    within_ms: i64,
    /// Where judging begins; none when it has begun.
    since: Option<Time>,
    waiting: Vec<Change>,
    /// Changes beyond those that wait.
    more: u64,
}

/// Something that was asked for, in an intent.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) index: u64,
    pub(super) repository: Repository,
    pub(super) asked: Asked,
    time: Time,
    /// Since when it waits: as the intent says, but not later than it was seen.
    since: Time,
}

impl Unexplained {
    /// Judges from the first intent of this time or later on. What follows it is judged whatever times it gives.
    pub(super) fn new(runs: Runs, within_ms: i64, since: Option<Time>) -> Self {
        Self { runs, within_ms, since, waiting: Vec::new(), more: 0 }
    }

    /// Takes up what an entry asks for, unless a run explains it.
    pub(super) fn entry(&mut self, index: u64, leaf: &Leaf, now: Time) {
        let facts = Facts::of(leaf);
        let (Leaf::Intent(intent), Some(repository)) = (leaf, facts.repository) else { return };
        if self.since.is_some_and(|since| intent.time < since) {
            return;
        }
        self.since = None;
        // Snapshots and timestamps follow from what was asked for; so do targets that only renew an older version.
        if !matches!(intent.purpose, Purpose::Root | Purpose::Targets) {
            return;
        }
        let mut asked = facts.asked;
        if asked.is_empty() && intent.purpose == Purpose::Root {
            asked.push(Asked::default());
        }
        for asked in asked {
            if self.runs.explain(&repository, &asked, intent.time) {
                continue;
            }
            if self.waiting.len() >= MAX_WAITING {
                self.more += 1;
                continue;
            }
            let (repository, time) = (repository.clone(), intent.time);
            self.waiting.push(Change { index, repository, asked, time, since: time.min(now) });
        }
    }

    /// What has waited long enough, and how much more there was that could not wait.
    pub(super) fn overdue(&mut self, now: Time) -> (Vec<Change>, u64) {
        let (runs, within_ms) = (&self.runs, self.within_ms);
        self.waiting.retain(|change| !runs.explain(&change.repository, &change.asked, change.time));
        let is_overdue = |change: &mut Change| now.unix_ms() - change.since.unix_ms() >= within_ms;
        (self.waiting.extract_if(.., is_overdue).collect(), std::mem::take(&mut self.more))
    }
}

impl Change {
    /// One sentence.
    pub(super) fn text(&self) -> String {
        let Asked { tag, digest, by, request, .. } = &self.asked;
        let what = match (tag, digest) {
            (Some(tag), Some(digest)) => format!("tag {tag} = {digest} of {}", self.repository),
            _ => format!("a root of {}", self.repository),
        };
        let by = by.as_ref().map_or_else(|| "the service".to_owned(), ToString::to_string);
        let request = request.as_ref().map_or_else(String::new, |request| format!(", request {request}"));
        format!("no run asked for {what}, which {by} did{request}")
    }
}
