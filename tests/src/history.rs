//! A log as a test reads it: every intent with its end.

use record::{Intent, Leaf, OutcomeKind, Tag};
use serde::Deserialize;
use serde_json::value::RawValue;

/// All leaves of a log, in order.
#[derive(Debug)]
pub struct History(Vec<Leaf>);

/// An intent, and what the log says of its end.
#[derive(Debug)]
pub struct Told {
    /// Its index.
    pub index: u64,
    /// What it says.
    pub intent: Intent,
    /// How it ended.
    pub end: End,
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
    /// The lines of `chancery log show -o json`, which must be proven and without a gap.
    pub(crate) fn read(lines: &str) -> Self {
        let leaf = |(expected, line): (usize, &str)| {
            let line: Line = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(line.verified && line.index == expected as u64, "entry {expected}: {}", line.leaf);
            Leaf::decode(line.leaf.get().as_bytes()).unwrap_or_else(|e| panic!("{e}: {}", line.leaf))
        };
        Self(lines.lines().enumerate().map(leaf).collect())
    }

    /// All leaves.
    pub fn leaves(&self) -> &[Leaf] {
        &self.0
    }

    /// Every intent with its end, in the order of the log.
    pub fn intents(&self) -> Vec<Told> {
        let mut told: Vec<Told> = Vec::new();
        for (index, leaf) in (0..).zip(&self.0) {
            match leaf {
                Leaf::Intent(intent) => told.push(Told { index, intent: intent.clone(), end: End::Open }),
                Leaf::Completion(c) => {
                    let same = |t: &&mut Told| {
                        t.end == End::Open && t.intent.payload == c.payload && t.intent.key == c.key()
                    };
                    told.iter_mut().find(same).expect("a completion has an earlier open intent").end =
                        End::Signed;
                }
                Leaf::Outcome(o) => {
                    let same = |t: &&mut Told| t.index == o.intent && t.end == End::Open;
                    told.iter_mut().find(same).expect("an outcome names an earlier open intent").end =
                        End::Without(o.outcome);
                }
                Leaf::Genesis(_) | Leaf::Denial(_) | Leaf::Event(_) => {}
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
