//! The judge: what the token did and what the log says must agree, whatever died in between.
//!
//! It promises: [`judge`] is a pure function of what was seen from outside, and finds every way in which the two can
//! differ that [`Violation`] names. It does not know how the evidence was gathered, nor whether hashes and signatures of
//! the log are right: the verifiers say that.

#[cfg(test)]
mod tests;

use super::copy::LogCopy;
use crate::ImageSignature;
use record::{Event, Leaf, OutcomeKind, Tag};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
};
use tlog::Checkpoint;

/// Everything that was seen of one service from outside.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The log, as it is served now.
    pub log: &'a LogCopy,
    /// The token's journal, line by line: what an image key signed, if the line says that.
    pub journal: &'a [Option<ImageSignature>],
    /// Moments at which both were looked at.
    pub moments: &'a [Moment],
    /// What clients were told.
    pub acknowledged: &'a [Acknowledged],
    /// Every checkpoint that was ever served.
    pub checkpoints: &'a [Checkpoint],
    /// When the signing keeper died.
    pub deaths: &'a [Death],
}

/// The journal had so many lines, and an intent that came later has at least this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Lines of the token's journal.
    pub journaled: usize,
    /// Index that no intent of those lines reaches.
    pub noted: u64,
}

/// The signing keeper died: intents below `until` may have been at its token, and what is said of them is said at `since`
/// or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// Leaves of the log some time before.
    pub since: u64,
    /// Leaves of the log when it was dead.
    pub until: u64,
}

/// A client was told that its image is signed and published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// The tag that it asked for, of which there is no second one.
    pub tag: Tag,
    /// The intent that it was told.
    pub intent: u64,
    /// The completion that it was told.
    pub completion: u64,
}

/// What the log and the journal hold, and in what they contradict each other or the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Signatures by image keys in the token's journal.
    pub signatures: u64,
    /// Intents in the log.
    pub intents: u64,
    /// Completions in the log.
    pub completions: u64,
    /// Outcomes `void`.
    pub void: u64,
    /// Outcomes `failed`.
    pub failed: u64,
    /// Outcomes `unknown` whose key had signed.
    pub unknown_signed: u64,
    /// Outcomes `unknown` whose key had not.
    pub unknown_unsigned: u64,
    /// Intents without an end.
    pub open: u64,
    /// What is wrong.
    pub violations: Vec<Violation>,
}

/// One thing that must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The token signed what no intent announced.
    NoIntent {
        /// Line of the journal, from 0.
        line: usize,
        /// What was signed.
        signed: ImageSignature,
    },
    /// The token signed it before its intent was in the log.
    LateIntent {
        /// Line of the journal, from 0.
        line: usize,
        /// The first intent for it.
        intent: u64,
        /// Leaves in the log after the signature was made.
        noted: u64,
    },
    /// The token's signatures of a payload by a key are more or fewer than the log's ends allow.
    Count {
        /// What was signed.
        signed: ImageSignature,
        /// Signatures in the journal.
        made: u64,
        /// Completions.
        completed: u64,
        /// Outcomes `unknown`.
        unknown: u64,
    },
    /// A client was told of a completion that the log does not have there.
    NotCompleted(Acknowledged),
    /// A client was told of an intent that is not one for its tag.
    NotIntended(Acknowledged),
    /// A completion or an outcome of an intent that is not there, or has ended.
    SecondEnd {
        /// The leaf.
        leaf: u64,
    },
    /// An intent without an end in a log that is at rest.
    Open {
        /// The intent.
        intent: u64,
    },
    /// `unknown`, although the keeper lived from the intent to its end.
    Unexplained {
        /// The intent.
        intent: u64,
    },
    /// The log has fewer leaves than it had, or others.
    Rewritten {
        /// Leaves under the checkpoint that was seen.
        seen: u64,
        /// Leaves now.
        now: u64,
    },
    /// Database or spool had lost what they had said was on disk. The service mends that from the other's copy; yet a crash
    /// must not do it.
    RolledBack {
        /// The leaf that tells of it.
        leaf: u64,
    },
    /// A verifier, the service or a client found something that must not be.
    Found(String),
}

/// Compares everything. The log must be at rest: an intent without an end is a violation.
pub fn judge(evidence: &Evidence<'_>) -> Account {
    let mut account = Account::default();
    let intents = ends(evidence, &mut account);
    compare_counts(evidence, &intents, &mut account);
    check_order(evidence, &intents, &mut account);
    check_acknowledged(evidence, &intents, &mut account);
    check_unknowns(evidence, &intents, &mut account);
    check_growth(evidence, &mut account);
    check_copies(evidence, &mut account);
    account
}

/// An intent and its end.
struct Told<'a> {
    index: u64,
    signature: ImageSignature,
    tags: Vec<&'a Tag>,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Signed { at: u64 },
    Without { outcome: OutcomeKind, at: u64 },
}

/// Every intent with its end; ends without an open intent are violations.
fn ends<'a>(evidence: &Evidence<'a>, account: &mut Account) -> Vec<Told<'a>> {
    let mut told: Vec<Told<'a>> = Vec::new();
    let mut by_index = HashMap::new();
    let mut open: HashMap<ImageSignature, Vec<usize>> = HashMap::new();
    for (at, leaf) in (0..).zip(evidence.log.leaves()) {
        match leaf {
            Leaf::Intent(intent) => {
                let signature = ImageSignature { key: intent.key, digest: intent.digest() };
                by_index.insert(at, (told.len(), signature));
                open.entry(signature).or_default().push(told.len());
                let tags = match &intent.action {
                    record::Action::Targets { changes, .. } => changes.iter().map(|c| &c.tag).collect(),
                    _ => Vec::new(),
                };
                told.push(Told { index: at, signature, tags, end: End::Open });
            }
            Leaf::Completion(made) => {
                match open.get_mut(&ImageSignature { key: made.key(), digest: made.digest() }) {
                    // The oldest, as the leaf's documentation says.
                    Some(places) if !places.is_empty() => told[places.remove(0)].end = End::Signed { at },
                    _ => account.violations.push(Violation::SecondEnd { leaf: at }),
                }
            }
            Leaf::Outcome(o) => match by_index.get(&o.intent) {
                Some((place, signature)) if told[*place].end == End::Open => {
                    told[*place].end = End::Without { outcome: o.outcome, at };
                    open.entry(*signature).or_default().retain(|other| other != place);
                }
                _ => account.violations.push(Violation::SecondEnd { leaf: at }),
            },
            Leaf::Genesis(_) | Leaf::Denial(_) | Leaf::Allowance(_) | Leaf::Event(_) => {}
        }
    }
    told
}

/// Each payload has by its key as many signatures as completions, and at most one more for each `unknown`.
fn compare_counts(evidence: &Evidence<'_>, intents: &[Told<'_>], account: &mut Account) {
    #[derive(Default)]
    struct Counts {
        made: u64,
        announced: bool,
        completed: u64,
        unknown: u64,
    }
    let mut by_signature = BTreeMap::<ImageSignature, Counts>::new();
    for told in intents {
        let counts = by_signature.entry(told.signature).or_default();
        counts.announced = true;
        account.intents += 1;
        match told.end {
            End::Signed { .. } => {
                counts.completed += 1;
                account.completions += 1;
            }
            End::Without { outcome: OutcomeKind::Unknown, .. } => counts.unknown += 1,
            End::Without { outcome: OutcomeKind::Failed, .. } => account.failed += 1,
            End::Without { outcome: OutcomeKind::Void, .. } => account.void += 1,
            End::Open => {
                account.open += 1;
                account.violations.push(Violation::Open { intent: told.index });
            }
        }
    }
    for (line, signed) in evidence.journal.iter().enumerate() {
        let Some(signed) = *signed else { continue };
        account.signatures += 1;
        let counts = by_signature.entry(signed).or_default();
        counts.made += 1;
        if !counts.announced {
            account.violations.push(Violation::NoIntent { line, signed });
        }
    }
    for (signed, Counts { made, completed, unknown, .. }) in
        by_signature.into_iter().filter(|(_, counts)| counts.announced)
    {
        if !(completed..=completed + unknown).contains(&made) {
            account.violations.push(Violation::Count { signed, made, completed, unknown });
        }
        account.unknown_signed += made.saturating_sub(completed).min(unknown);
        account.unknown_unsigned += (completed + unknown).saturating_sub(made).min(unknown);
    }
}

/// At no moment had the token signed what was not in the log yet: the first signature of a payload has the first intent
/// that may have led to one, the second has the second.
fn check_order(evidence: &Evidence<'_>, intents: &[Told<'_>], account: &mut Account) {
    let mut announced: HashMap<ImageSignature, VecDeque<u64>> = HashMap::new();
    for told in intents {
        let may_have_signed = match told.end {
            End::Signed { .. } | End::Open => true,
            End::Without { outcome, .. } => outcome == OutcomeKind::Unknown,
        };
        if may_have_signed {
            announced.entry(told.signature).or_default().push_back(told.index);
        }
    }
    // Of each line the first moment counts at which it was there.
    let mut moments = evidence.moments.iter().peekable();
    for (line, signed) in evidence.journal.iter().enumerate() {
        while moments.next_if(|moment| moment.journaled <= line).is_some() {}
        let intent = signed.and_then(|signed| announced.get_mut(&signed)?.pop_front());
        let (Some(intent), Some(Moment { noted, .. })) = (intent, moments.peek()) else { continue };
        if intent >= *noted {
            account.violations.push(Violation::LateIntent { line, intent, noted: *noted });
        }
    }
}

/// What clients were told is so.
fn check_acknowledged(evidence: &Evidence<'_>, intents: &[Told<'_>], account: &mut Account) {
    let by_index: HashMap<u64, &Told<'_>> = intents.iter().map(|told| (told.index, told)).collect();
    for told in evidence.acknowledged {
        match by_index.get(&told.intent) {
            Some(intent) if intent.tags.contains(&&told.tag) => {
                if intent.end != (End::Signed { at: told.completion }) {
                    account.violations.push(Violation::NotCompleted(told.clone()));
                }
            }
            _ => account.violations.push(Violation::NotIntended(told.clone())),
        }
    }
}

/// Only a keeper that died does not know what became of an intent: its token makes no errors here.
fn check_unknowns(evidence: &Evidence<'_>, intents: &[Told<'_>], account: &mut Account) {
    for told in intents {
        let End::Without { outcome: OutcomeKind::Unknown, at } = told.end else { continue };
        if !evidence.deaths.iter().any(|death| told.index < death.until && at >= death.since) {
            account.violations.push(Violation::Unexplained { intent: told.index });
        }
    }
}

/// Every checkpoint that was seen is one of this log.
fn check_growth(evidence: &Evidence<'_>, account: &mut Account) {
    for seen in evidence.checkpoints {
        if evidence.log.root_at(seen.size) != Some(seen.root) {
            let now = evidence.log.size();
            account.violations.push(Violation::Rewritten { seen: seen.size, now });
        }
    }
}

/// Neither copy of the leaves ever lacked any.
fn check_copies(evidence: &Evidence<'_>, account: &mut Account) {
    for (leaf, event) in (0..).zip(evidence.log.leaves()) {
        let Leaf::Event(Event::StoreRolledBack { .. } | Event::SpoolRolledBack { .. }) = event else {
            continue;
        };
        account.violations.push(Violation::RolledBack { leaf });
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIntent { line, signed } => {
                write!(f, "the token signed {signed} (journal line {line}), which no intent announced")
            }
            Self::LateIntent { line, intent, noted } => {
                write!(
                    f,
                    "journal line {line} was signed when the log had {noted} leaves; its intent is {intent}"
                )
            }
            Self::Count { signed, made, completed, unknown } => write!(
                f,
                "the token signed {signed} {made} times; the log has {completed} completions and {unknown} unknown"
            ),
            Self::NotCompleted(Acknowledged { tag, intent, completion }) => {
                write!(
                    f,
                    "the client of {tag} was told of completion {completion}, which does not end intent {intent}"
                )
            }
            Self::NotIntended(Acknowledged { tag, intent, .. }) => {
                write!(f, "the client of {tag} was told of intent {intent}, which is not one for it")
            }
            Self::SecondEnd { leaf } => write!(f, "leaf {leaf} ends an intent that is not open"),
            Self::Open { intent } => write!(f, "intent {intent} has no end in a log that is at rest"),
            Self::Unexplained { intent } => {
                write!(f, "intent {intent} is unknown, and its keeper did not die meanwhile")
            }
            Self::Rewritten { seen, now } => {
                write!(
                    f,
                    "a checkpoint of {seen} leaves was served, and the log of {now} leaves does not extend it"
                )
            }
            Self::RolledBack { leaf } => write!(f, "leaf {leaf} says that database or spool had lost leaves"),
            Self::Found(what) => f.write_str(what),
        }
    }
}
