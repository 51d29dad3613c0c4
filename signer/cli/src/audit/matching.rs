//! Which end belongs to which intent.
//!
//! Outcomes name their intent. Completions name none: they match the oldest open intent for the same key and payload, since
//! no two open intents that reached a key share both (INVARIANT(one-open) of the signing keepers).

use record::{Completion, Intent, KeyId, Outcome, OutcomeKind, PayloadDigest};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The intents that have no end so far.
#[derive(Default)]
pub(crate) struct Matching {
    open: BTreeMap<u64, OpenIntent>,
    waiting: BTreeMap<(KeyId, PayloadDigest), BTreeSet<u64>>,
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
    pub(crate) unix_ms: i64,
    #[serde(skip)]
    key: KeyId,
    #[serde(skip)]
    digest: PayloadDigest,
}

/// How an intent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    /// With a signature
    Signed,
    /// Its keeper says that no signature was made
    Failed,
    /// Its keeper cannot say whether one was made
    Unknown,
    /// It never reached a key
    Void,
    /// Not yet
    Open,
}

impl End {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Void => "void",
            Self::Open => "open",
        }
    }
}

impl From<OutcomeKind> for End {
    fn from(kind: OutcomeKind) -> Self {
        match kind {
            OutcomeKind::Failed => Self::Failed,
            OutcomeKind::Unknown => Self::Unknown,
            OutcomeKind::Void => Self::Void,
        }
    }
}

impl Matching {
    /// The intents that have no end, oldest first.
    pub(crate) fn open(&self) -> impl ExactSizeIterator<Item = &OpenIntent> {
        self.open.values()
    }

    pub(crate) fn intent(&mut self, index: u64, intent: &Intent) {
        self.waiting.entry((intent.key, intent.digest())).or_default().insert(index);
        let open = OpenIntent {
            index,
            keeper: intent.keeper.to_string(),
            repository: intent.repository.to_string(),
            purpose: intent.purpose.to_string(),
            time: intent.time.to_string(),
            unix_ms: intent.time.unix_ms(),
            key: intent.key,
            digest: intent.digest(),
        };
        self.open.insert(index, open);
    }

    /// Closes the intent that this completion ends, if one is open.
    pub(crate) fn completion(&mut self, completion: &Completion) -> Option<OpenIntent> {
        let place = (completion.key(), completion.digest());
        let oldest = self.waiting.get(&place).and_then(BTreeSet::first).copied()?;
        self.close(oldest)
    }

    /// Closes the intent that this outcome names, if it is open and of the same keeper; otherwise says why not.
    pub(crate) fn outcome(&mut self, outcome: &Outcome) -> Result<OpenIntent, String> {
        let none = || format!("an outcome for entry {}, which is no open intent", outcome.intent);
        let open = self.open.get(&outcome.intent).ok_or_else(none)?;
        if open.keeper != outcome.keeper.as_str() {
            return Err(format!("keeper {} closes an intent of keeper {}", outcome.keeper, open.keeper));
        }
        self.close(outcome.intent).ok_or_else(none)
    }

    fn close(&mut self, intent: u64) -> Option<OpenIntent> {
        let open = self.open.remove(&intent)?;
        let place = (open.key, open.digest);
        if let Some(waiting) = self.waiting.get_mut(&place) {
            waiting.remove(&intent);
            if waiting.is_empty() {
                self.waiting.remove(&place);
            }
        }
        Some(open)
    }
}
