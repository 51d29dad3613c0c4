//! Whether a log is what its leaves promise: every intent for a key that its keeper had presented, and with one end; every
//! signature by the key of an intent.

use super::adoption::Adoption;
use super::decisions::Decisions;
use super::matching::{End, Matching, OpenIntent};
use record::{
    Completion, Continues, Event, Genesis, Intent, KeeperName, KeeperRecord, KeyId, Leaf, Outcome, Purpose,
    wrong_signatures,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Findings, open intents and unknown outcomes that are kept for the report; beyond that they are only counted. A person
/// who has this many needs no more to see that the log is wrong.
pub(crate) const MAX_LISTED: usize = 100;
/// Signatures that are verified together, on all cores.
const TOGETHER: usize = 2048;

/// The state of one walk over a log, from its first entry on.
pub(crate) struct Ends {
    origin: String,
    vkey: String,
    next: u64,
    matching: Matching,
    /// What each keeper has presented so far: a key's purpose, and the entry that has it.
    presented: BTreeMap<(KeeperName, KeyId), (Purpose, u64)>,
    pub(crate) counts: Counts,
    findings: Findings,
    /// Signatures that are still to be verified.
    unverified: Vec<(u64, Completion)>,
    /// The first unknown outcomes.
    pub(crate) unknown: Vec<UnknownOutcome>,
    pub(crate) last_intent: Option<u64>,
    adoption: Adoption,
    decisions: Decisions,
}

/// An entry as a walk has understood it.
pub(crate) struct Step {
    /// What it says, if it is a leaf.
    pub(crate) leaf: Option<Leaf>,
    /// The intent that it ends.
    pub(crate) closed: Option<Closed>,
    /// For an intent, the entry in which its keeper presented its key.
    pub(crate) presented_at: Option<u64>,
}

/// An intent that got its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) intent: u64,
    pub(crate) end: End,
}

/// How many leaves of which kind, and how the intents ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) kinds: BTreeMap<&'static str, u64>,
    pub(crate) signed: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
    pub(crate) void: u64,
}

/// An intent of which nobody can say whether a signature was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct UnknownOutcome {
    /// The outcome's entry.
    pub(crate) index: u64,
    /// The intent's entry.
    pub(crate) intent: u64,
    pub(crate) keeper: String,
    pub(crate) repository: String,
    pub(crate) purpose: String,
}

/// What is wrong, in the order of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) listed: Vec<Finding>,
    pub(crate) total: u64,
}

/// One thing that is wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) index: u64,
    pub(crate) what: String,
}

impl Findings {
    /// Signatures are judged later than the entries behind them: what is listed is in the order of the log all the same.
    fn add(&mut self, index: u64, what: impl Into<String>) {
        self.total += 1;
        let place = self.listed.partition_point(|f| f.index <= index);
        self.listed.insert(place, Finding { index, what: what.into() });
        self.listed.truncate(MAX_LISTED);
    }
}

impl Ends {
    pub(crate) fn new(origin: &str, vkey: String) -> Self {
        Self {
            origin: origin.to_owned(),
            vkey,
            next: 0,
            matching: Matching::default(),
            presented: BTreeMap::new(),
            counts: Counts::default(),
            findings: Findings::default(),
            unverified: Vec::new(),
            unknown: Vec::new(),
            last_intent: None,
            adoption: Adoption::default(),
            decisions: Decisions::default(),
        }
    }

    /// Takes the entries in order.
    pub(crate) fn entry(&mut self, index: u64, bytes: &[u8]) -> Step {
        let expected = self.next;
        self.next = index + 1;
        let mut step = Step { leaf: None, closed: None, presented_at: None };
        match Leaf::decode(bytes) {
            Ok(leaf) => {
                *self.counts.kinds.entry(leaf.kind()).or_default() += 1;
                if (index == 0) != matches!(leaf, Leaf::Genesis(_)) || index != expected {
                    self.findings.add(index, "the first entry, and no other, is the genesis entry");
                }
                self.leaf(index, bytes, &leaf, &mut step);
                step.leaf = Some(leaf);
            }
            Err(e) => self.findings.add(index, format!("not an entry of a Chancery log: {e}")),
        }
        step
    }

    /// What is wrong with the entries so far.
    pub(crate) fn findings(&mut self) -> &Findings {
        self.verify_signatures();
        &self.findings
    }

    /// Takes the lists of what was found since they were last taken; what is only counted stays counted.
    pub(crate) fn take_news(&mut self) -> (Vec<Finding>, Vec<UnknownOutcome>) {
        self.verify_signatures();
        (std::mem::take(&mut self.findings.listed), std::mem::take(&mut self.unknown))
    }

    /// The log that this one continues.
    pub(crate) fn continues(&self) -> Option<&Continues> {
        self.adoption.continues.as_ref()
    }

    /// The intents that have no end, oldest first.
    pub(crate) fn open(&self) -> impl ExactSizeIterator<Item = &OpenIntent> {
        self.matching.open()
    }

    fn leaf(&mut self, index: u64, bytes: &[u8], leaf: &Leaf, step: &mut Step) {
        if let Err(what) = self.adoption.entry(index, leaf) {
            self.findings.add(index, what);
        }
        match leaf {
            Leaf::Genesis(genesis) => self.genesis(index, genesis),
            Leaf::Intent(intent) => step.presented_at = self.intent(index, intent),
            Leaf::Completion(completion) => step.closed = self.completion(index, completion),
            Leaf::Outcome(outcome) => step.closed = self.outcome(index, outcome),
            Leaf::Event(Event::Keeper { keeper, .. }) => self.keeper(index, keeper),
            Leaf::Allowance(allowance) => self.decisions.allowance(index, bytes, allowance),
            Leaf::Denial(_) | Leaf::Event(_) => {}
        }
    }

    fn genesis(&mut self, index: u64, genesis: &Genesis) {
        if genesis.log.as_str() != self.origin || genesis.vkey != self.vkey {
            self.findings.add(index, "the genesis entry names another log or another log key");
        }
        genesis.keepers.iter().for_each(|keeper| self.keeper(index, keeper));
    }

    fn keeper(&mut self, index: u64, keeper: &KeeperRecord) {
        for key in &keeper.keys {
            self.presented.insert((keeper.name.clone(), key.spki.id()), (key.purpose, index));
        }
    }

    fn intent(&mut self, index: u64, intent: &Intent) -> Option<u64> {
        self.last_intent = Some(index);
        for what in intent_faults(intent, &self.origin) {
            self.findings.add(index, what);
        }
        let presented = self.presented.get(&(intent.keeper.clone(), intent.key)).copied();
        if presented.is_none_or(|(purpose, _)| purpose != intent.purpose) {
            let what = "an intent for a key that its keeper has not presented for this purpose";
            self.findings.add(index, what);
        }
        if let Err(what) = self.decisions.intent(index, intent) {
            self.findings.add(index, what);
        }
        self.matching.intent(index, intent);
        presented.map(|(_, at)| at)
    }

    fn completion(&mut self, index: u64, completion: &Completion) -> Option<Closed> {
        self.unverified.push((index, completion.clone()));
        if self.unverified.len() == TOGETHER {
            self.verify_signatures();
        }
        let Some(open) = self.matching.completion(completion) else {
            let what = format!("a signature by key {} that no open intent announced", completion.key());
            self.findings.add(index, what);
            return None;
        };
        self.counts.signed += 1;
        Some(Closed { intent: open.index, end: End::Signed })
    }

    fn verify_signatures(&mut self) {
        let unverified = std::mem::take(&mut self.unverified);
        let wrong = wrong_signatures(&unverified);
        for (index, completion) in unverified.iter().filter(|(index, _)| wrong.contains(index)) {
            self.findings.add(*index, format!("the signature does not verify with key {}", completion.key()));
        }
    }

    fn outcome(&mut self, index: u64, outcome: &Outcome) -> Option<Closed> {
        let open = match self.matching.outcome(outcome) {
            Ok(open) => open,
            Err(what) => {
                self.findings.add(index, what);
                return None;
            }
        };
        let end = End::from(outcome.outcome);
        match end {
            End::Failed => self.counts.failed += 1,
            End::Void => self.counts.void += 1,
            End::Unknown => self.unknown(index, open),
            End::Signed | End::Open => {}
        }
        Some(Closed { intent: outcome.intent, end })
    }

    fn unknown(&mut self, index: u64, open: OpenIntent) {
        self.counts.unknown += 1;
        if self.unknown.len() < MAX_LISTED {
            let OpenIntent { index: intent, keeper, repository, purpose, .. } = open;
            self.unknown.push(UnknownOutcome { index, intent, keeper, repository, purpose });
        }
    }
}

/// What is wrong with an intent by itself, in the log of this name.
pub(super) fn intent_faults(intent: &Intent, origin: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if intent.log.as_str() != origin {
        faults.push(format!("an intent for the log {}", intent.log));
    }
    if intent.purpose != intent.action.purpose() || intent.format != intent.action.format() {
        faults.push("an intent whose purpose or format is not that of its action".to_owned());
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::synthetic::{Log, completion, intent, outcome};
    use record::OutcomeKind;

    fn walk(log: &Log) -> Ends {
        let mut ends = Ends::new(log.vkey().name(), log.vkey().to_string());
        for (index, bytes) in (0..).zip(log.entries()) {
            ends.entry(index, bytes);
        }
        ends
    }

    fn findings(log: &Log) -> Vec<(u64, String)> {
        walk(log).findings().listed.clone().into_iter().map(|f| (f.index, f.what)).collect()
    }

    #[test]
    fn every_end_closes_one_intent() {
        let mut log = Log::new();
        for n in 1..=5 {
            log.push(intent(n, n));
        }
        log.push(completion(1));
        log.push(outcome(2, OutcomeKind::Failed));
        log.push(outcome(3, OutcomeKind::Unknown));
        log.push(outcome(4, OutcomeKind::Void));
        let mut ends = walk(&log);
        assert_eq!(*ends.findings(), Findings::default());
        let counts = ends.counts.clone();
        assert_eq!((counts.signed, counts.failed, counts.unknown, counts.void), (1, 1, 1, 1));
        assert_eq!(ends.open().map(|o| o.index).collect::<Vec<_>>(), [5]);
        assert_eq!(counts.kinds["intent"], 5);
        assert_eq!(ends.last_intent, Some(5));
    }

    #[test]
    fn completions_of_equal_payloads_match_intents_in_order() {
        let mut log = Log::new();
        log.push(intent(1, 7));
        log.push(outcome(1, OutcomeKind::Unknown));
        log.push(intent(3, 7));
        log.push(completion(7));
        let mut ends = walk(&log);
        assert_eq!((ends.findings().total, ends.counts.signed, ends.open().len()), (0, 1, 0));
    }

    #[test]
    fn a_signature_without_an_intent_is_found() {
        let mut log = Log::new();
        log.push(intent(1, 7));
        log.push(completion(7));
        log.push(completion(7));
        log.push(completion(8));
        let found = findings(&log);
        assert_eq!(found.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [3, 4]);
        assert!(found[0].1.contains("no open intent"), "{found:?}");
    }

    #[test]
    fn a_second_end_and_an_end_by_another_keeper_are_found() {
        let mut log = Log::new();
        log.push(intent(1, 7));
        log.push(outcome(1, OutcomeKind::Void));
        log.push(outcome(1, OutcomeKind::Failed));
        log.push(intent(4, 8));
        log.push_outcome_by("stranger", 4);
        let found = findings(&log);
        assert_eq!(found.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [3, 5]);
        assert_eq!(walk(&log).open().len(), 1, "a stranger's word closes nothing");
    }

    #[test]
    fn entries_that_are_no_leaves_and_a_missing_genesis_are_found() {
        let mut log = Log::new();
        log.push_bytes(b"{}".to_vec());
        assert_eq!(findings(&log).len(), 1);
        let mut ends = Ends::new(log.vkey().name(), log.vkey().to_string());
        ends.entry(0, &intent(0, 1).encode().unwrap());
        let found: Vec<_> = ends.findings().listed.iter().map(|f| f.what.as_str()).collect();
        assert!(found[0].contains("genesis") && found[1].contains("has not presented"), "{found:?}");
    }

    #[test]
    fn findings_are_counted_beyond_those_that_are_kept() {
        let mut log = Log::new();
        for _ in 0..MAX_LISTED + 5 {
            log.push(completion(1));
        }
        let mut ends = walk(&log);
        assert_eq!(
            (ends.findings().listed.len(), ends.findings().total),
            (MAX_LISTED, MAX_LISTED as u64 + 5)
        );
    }
}
