//! A log as a test reads it: every intent with its end.

use record::{FailureCode, Intent, Leaf, OutcomeKind, Tag};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// The leaves of a log from some index on, in order.
#[derive(Debug)]
pub struct History {
    from: u64,
    leaves: Vec<Leaf>,
}

/// An intent, and what the log says of its end.
#[derive(Debug)]
pub struct Told {
    /// Its index.
    pub index: u64,
    /// What it says.
    pub intent: Intent,
    /// How it ended.
    pub end: End,
    /// The reason that its outcome gives.
    pub code: Option<FailureCode>,
}

/// How an intent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The log does not say yet.
    Open,
    /// With a signature.
    Signed,
    /// Without one.
    Without(OutcomeKind),
}

#[derive(Deserialize)]
struct Line {
    index: u64,
    verified: bool,
    leaf: Box<RawValue>,
}

impl History {
    /// The lines of `chancery log show -o json` from this index on, which must be proven and without a gap.
    pub(crate) fn read(lines: &str, from: u64) -> Self {
        let leaf = |(expected, line): (u64, &str)| {
            let line: Line = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(line.verified && line.index == expected, "entry {expected}: {}", line.leaf);
            Leaf::decode(line.leaf.get().as_bytes()).unwrap_or_else(|e| panic!("{e}: {}", line.leaf))
        };
        Self { from, leaves: (from..).zip(lines.lines()).map(leaf).collect() }
    }

    /// Puts the leaves behind this one's.
    pub(crate) fn extend(&mut self, more: Self) {
        assert_eq!(self.from + self.leaves.len() as u64, more.from);
        self.leaves.extend(more.leaves);
    }

    /// The leaves.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// Every intent with its end, in the order of the log. An end of an intent before these leaves is a fault.
    pub fn intents(&self) -> Vec<Told> {
        let mut told: Vec<Told> = Vec::new();
        let (mut by_index, mut by_payload) = (HashMap::new(), HashMap::<_, Vec<usize>>::new());
        for (index, leaf) in (self.from..).zip(&self.leaves) {
            match leaf {
                Leaf::Intent(intent) => {
                    by_index.insert(index, told.len());
                    by_payload.entry((intent.digest(), intent.key)).or_default().push(told.len());
                    told.push(Told { index, intent: intent.clone(), end: End::Open, code: None });
                }
                Leaf::Completion(c) => {
                    let same = by_payload.get(&(c.digest(), c.key())).map_or(&[][..], Vec::as_slice);
                    let open = same.iter().find(|place| told[**place].end == End::Open);
                    told[*open.expect("a completion has an earlier open intent")].end = End::Signed;
                }
                Leaf::Outcome(o) => {
                    let ended =
                        &mut told[*by_index.get(&o.intent).expect("an outcome names an earlier intent")];
                    assert_eq!(ended.end, End::Open, "an outcome names an open intent");
                    (ended.end, ended.code) = (End::Without(o.outcome), o.code.clone());
                }
                Leaf::Genesis(_) | Leaf::Denial(_) | Leaf::Allowance(_) | Leaf::Event(_) => {}
            }
        }
        told
    }

    /// The intents of targets files that bring in this tag.
    pub fn intents_for(&self, tag: &Tag) -> Vec<Told> {
        let brings = |intent: &Intent| match &intent.action {
            record::Action::Targets { changes, .. } => changes.iter().any(|c| c.tag == *tag),
            _ => false,
        };
        self.intents().into_iter().filter(|t| brings(&t.intent)).collect()
    }
}
