//! Whether every intent of a log has exactly one end, from the leaves alone.
//!
//! Completions name no intent: they match the oldest open intent for the same key and payload, since no two open
//! intents that reached a key share both (INVARIANT(one-open) of the signing keepers).

use record::{Completion, Genesis, Intent, KeyId, Leaf, Outcome, OutcomeKind, Sha256};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Findings and open intents that are kept for the report; beyond that they are only counted. A person who has this
/// many needs no more to see that the log is wrong.
pub(crate) const MAX_LISTED: usize = 100;

/// The state of one walk over a log, from its first entry on.
pub(crate) struct Ends {
    origin: String,
    vkey: String,
    next: u64,
    open: BTreeMap<u64, OpenIntent>,
    waiting: BTreeMap<(KeyId, Sha256), BTreeSet<u64>>,
    pub(crate) counts: Counts,
    pub(crate) findings: Findings,
    pub(crate) last_intent: Option<u64>,
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

/// An intent without an end in this log: at work now, or its keeper is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct OpenIntent {
    pub(crate) index: u64,
    pub(crate) keeper: String,
    pub(crate) repository: String,
    pub(crate) purpose: String,
    pub(crate) time: String,
    #[serde(skip)]
    key: KeyId,
    #[serde(skip)]
    payload: Sha256,
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
    fn add(&mut self, index: u64, what: impl Into<String>) {
        self.total += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(Finding { index, what: what.into() });
        }
    }
}

impl Ends {
    pub(crate) fn new(origin: &str, vkey: String) -> Self {
        Self {
            origin: origin.to_owned(),
            vkey,
            next: 0,
            open: BTreeMap::new(),
            waiting: BTreeMap::new(),
            counts: Counts::default(),
            findings: Findings::default(),
            last_intent: None,
        }
    }

    /// Takes the entries in order.
    pub(crate) fn entry(&mut self, index: u64, bytes: &[u8]) {
        let expected = self.next;
        self.next = index + 1;
        match Leaf::decode(bytes) {
            Ok(leaf) => {
                *self.counts.kinds.entry(leaf.kind()).or_default() += 1;
                if (index == 0) != matches!(leaf, Leaf::Genesis(_)) || index != expected {
                    self.findings.add(index, "the first entry, and no other, is the genesis entry");
                }
                self.leaf(index, leaf);
            }
            Err(e) => self.findings.add(index, format!("not an entry of a Chancery log: {e}")),
        }
    }

    /// The intents that have no end, oldest first.
    pub(crate) fn open(&self) -> impl ExactSizeIterator<Item = &OpenIntent> {
        self.open.values()
    }

    fn leaf(&mut self, index: u64, leaf: Leaf) {
        match leaf {
            Leaf::Genesis(genesis) => self.genesis(index, &genesis),
            Leaf::Intent(intent) => self.intent(index, &intent),
            Leaf::Completion(completion) => self.completion(index, &completion),
            Leaf::Outcome(outcome) => self.outcome(index, &outcome),
            Leaf::Denial(_) | Leaf::Event(_) => {}
        }
    }

    fn genesis(&mut self, index: u64, genesis: &Genesis) {
        if genesis.log.as_str() != self.origin || genesis.vkey != self.vkey {
            self.findings.add(index, "the genesis entry names another log or another log key");
        }
    }

    fn intent(&mut self, index: u64, intent: &Intent) {
        self.last_intent = Some(index);
        if intent.log.as_str() != self.origin {
            self.findings.add(index, format!("an intent for the log {}", intent.log));
        }
        if intent.purpose != intent.action.purpose() || intent.format != intent.action.format() {
            self.findings.add(index, "an intent whose purpose or format is not that of its action");
        }
        self.waiting.entry((intent.key, intent.payload)).or_default().insert(index);
        let open = OpenIntent {
            index,
            keeper: intent.keeper.to_string(),
            repository: intent.repository.to_string(),
            purpose: intent.purpose.to_string(),
            time: intent.time.to_string(),
            key: intent.key,
            payload: intent.payload,
        };
        self.open.insert(index, open);
    }

    fn completion(&mut self, index: u64, completion: &Completion) {
        if !completion.verifies() {
            self.findings.add(index, format!("the signature does not verify with key {}", completion.key()));
        }
        let oldest = self.waiting.get(&(completion.key(), completion.payload)).and_then(BTreeSet::first);
        match oldest.copied() {
            Some(intent) => {
                self.counts.signed += 1;
                self.close(intent);
            }
            None => self
                .findings
                .add(index, format!("a signature by key {} that no open intent announced", completion.key())),
        }
    }

    fn outcome(&mut self, index: u64, outcome: &Outcome) {
        let Some(open) = self.open.get(&outcome.intent) else {
            let text = format!("an outcome for entry {}, which is no open intent", outcome.intent);
            return self.findings.add(index, text);
        };
        if open.keeper != outcome.keeper.as_str() {
            let text = format!("keeper {} closes an intent of keeper {}", outcome.keeper, open.keeper);
            return self.findings.add(index, text);
        }
        match outcome.outcome {
            OutcomeKind::Failed => self.counts.failed += 1,
            OutcomeKind::Unknown => self.counts.unknown += 1,
            OutcomeKind::Void => self.counts.void += 1,
        }
        self.close(outcome.intent);
    }

    fn close(&mut self, intent: u64) {
        let Some(open) = self.open.remove(&intent) else { return };
        let place = (open.key, open.payload);
        if let Some(waiting) = self.waiting.get_mut(&place) {
            waiting.remove(&intent);
            if waiting.is_empty() {
                self.waiting.remove(&place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::synthetic::{Log, completion, intent, outcome};

    fn walk(log: &Log) -> Ends {
        let mut ends = Ends::new(log.vkey().name(), log.vkey().to_string());
        for (index, bytes) in (0..).zip(log.entries()) {
            ends.entry(index, bytes);
        }
        ends
    }

    fn findings(log: &Log) -> Vec<(u64, String)> {
        walk(log).findings.listed.into_iter().map(|f| (f.index, f.what)).collect()
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
        let ends = walk(&log);
        assert_eq!(ends.findings.total, 0, "{:?}", ends.findings);
        let counts = &ends.counts;
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
        let ends = walk(&log);
        assert_eq!((ends.findings.total, ends.counts.signed, ends.open().len()), (0, 1, 0));
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
        assert_eq!(ends.findings.total, 1);
    }

    #[test]
    fn findings_are_counted_beyond_those_that_are_kept() {
        let mut log = Log::new();
        for _ in 0..MAX_LISTED + 5 {
            log.push(completion(1));
        }
        let ends = walk(&log);
        assert_eq!((ends.findings.listed.len(), ends.findings.total), (MAX_LISTED, MAX_LISTED as u64 + 5));
    }
}
