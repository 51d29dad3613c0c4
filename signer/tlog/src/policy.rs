//! Trust policies (C2SP tlog-policy): which logs and witnesses are known, and which of them must have signed a checkpoint.
//!
//! Promises: a policy that parsed has exactly one quorum, every name in it is defined before it is used, and no witness
//! counts twice. Keys of logs are of the types 0x01 and 0x02, those of witnesses of 0x04. Does not know who decided on a
//! policy.

use crate::{CosignerKey, MAX_SIGNATURES, Note, NoteError, VerifierKey, VerifierKeyError};
use std::collections::{BTreeMap, BTreeSet};

/// The longest policy file: 192 lines with the longest names, keys and URLs that anybody writes are below it.
pub const MAX_POLICY_LEN: usize = 128 * 1024;
/// The most logs, witnesses, and groups, of each; the specification asks for 32. One signature line of a checkpoint is left
/// for its log.
pub const MAX_POLICY_ITEMS: usize = MAX_SIGNATURES - 1;
/// The quorum that asks for no witness.
const NONE: &str = "none";

/// A parsed policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessPolicy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    quorum: Option<Member>,
}

/// A log that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key, whose name is its origin.
    pub key: VerifierKey,
    /// Where it is.
    pub url: Option<String>,
}

/// A witness that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Its name in the policy.
    pub name: String,
    /// Its key.
    pub key: CosignerKey,
    /// The prefix under which it takes checkpoints.
    pub url: Option<String>,
}

/// A witness that cosigned a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// Its name in the policy.
    pub name: String,
    /// When, in seconds since 1970.
    pub time_s: u64,
}

/// What can be in a group: a witness by its place, or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group { threshold: usize, members: Vec<Member> },
}

/// Why a text is no policy, or a checkpoint does not satisfy one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Longer than [`MAX_POLICY_LEN`].
    #[error("a policy has at most {MAX_POLICY_LEN} bytes, this has {len}")]
    TooLong {
        /// How many bytes it has.
        len: usize,
    },
    /// A line that breaks a rule.
    #[error("line {line} of the policy: {what}")]
    Line {
        /// Which line, counted from 1.
        line: usize,
        /// The rule.
        what: &'static str,
    },
    /// A line whose key is none of the kind that it must be.
    #[error("line {line} of the policy has no usable key")]
    Key {
        /// Which line, counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: VerifierKeyError,
    },
    /// No line says which witnesses are enough.
    #[error("the policy has no quorum line: `quorum none` asks for no witness")]
    NoQuorum,
    /// The checkpoint has too few of the cosignatures that the policy asks for.
    #[error("the quorum of witnesses is not reached: {have} of the policy's {known} witnesses have cosigned")]
    Quorum {
        /// How many cosigned.
        have: usize,
        /// How many the policy knows.
        known: usize,
    },
    /// A known witness's line in the checkpoint does not verify.
    #[error("the checkpoint is not accepted")]
    Note(#[source] NoteError),
}

impl WitnessPolicy {
    /// Parses a policy of at most [`MAX_POLICY_LEN`] bytes and [`MAX_POLICY_ITEMS`] logs, witnesses and groups each.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY_LEN {
            return Err(PolicyError::TooLong { len: text.len() });
        }
        let mut reader = Reader::default();
        // A last newline ends the last line; it begins no other.
        for (line, text) in (1..).zip(text.strip_suffix('\n').unwrap_or(text).split('\n')) {
            reader.line(text).map_err(|fault| fault.at(line))?;
        }
        reader.quorum.map_or(Err(PolicyError::NoQuorum), |quorum| {
            Ok(Self { logs: reader.logs, witnesses: reader.witnesses, quorum })
        })
    }

    /// The logs, in the policy's order.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The witnesses, in the policy's order.
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// The policy's witnesses that cosigned this checkpoint. Lines of unknown keys are ignored; a line of a known witness
    /// that does not verify makes the whole note worthless.
    pub fn witnessed(&self, checkpoint: &Note) -> Result<Vec<Witnessed>, PolicyError> {
        let by = |witness: &PolicyWitness| match checkpoint.cosigned_at(&witness.key) {
            Ok(time_s) => Some(Ok(Witnessed { name: witness.name.clone(), time_s })),
            Err(NoteError::NotSignedBy { .. }) => None,
            Err(error) => Some(Err(PolicyError::Note(error))),
        };
        self.witnesses.iter().filter_map(by).collect()
    }

    /// Demands that enough witnesses cosigned this checkpoint, and says which did. The log's own signature is
    /// [`Checkpoint::open`](crate::Checkpoint::open)'s.
    pub fn demand(&self, checkpoint: &Note) -> Result<Vec<Witnessed>, PolicyError> {
        let found = self.witnessed(checkpoint)?;
        let names: BTreeSet<&str> = found.iter().map(|w| w.name.as_str()).collect();
        if self.is_reached_by(|witness| names.contains(witness.name.as_str())) {
            return Ok(found);
        }
        Err(PolicyError::Quorum { have: found.len(), known: self.witnesses.len() })
    }

    /// Whether these witnesses together are the quorum. A policy that asks for no witness is reached by nobody's word.
    pub fn is_reached_by(&self, signed: impl Fn(&PolicyWitness) -> bool) -> bool {
        let signed = |place: usize| self.witnesses.get(place).is_some_and(&signed);
        self.quorum.as_ref().is_none_or(|quorum| quorum.is_reached(&signed))
    }
}

impl Member {
    /// Groups are nested in the order of their lines, so no deeper than [`MAX_POLICY_ITEMS`].
    fn is_reached(&self, signed: &impl Fn(usize) -> bool) -> bool {
        match self {
            Self::Witness(place) => signed(*place),
            Self::Group { threshold, members } => {
                members.iter().filter(|m| m.is_reached(signed)).count() >= *threshold
            }
        }
    }
}

/// What is wrong with a line, before its number is known.
enum Fault {
    Rule(&'static str),
    Key(VerifierKeyError),
}

impl Fault {
    fn at(self, line: usize) -> PolicyError {
        match self {
            Self::Rule(what) => PolicyError::Line { line, what },
            Self::Key(source) => PolicyError::Key { line, source },
        }
    }
}

/// A policy so far.
#[derive(Default)]
struct Reader {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: usize,
    /// What each name stands for, and whether it is a member of a group already.
    names: BTreeMap<String, (Member, bool)>,
    /// None before its line; `Some(None)` for `quorum none`.
    quorum: Option<Option<Member>>,
}

impl Reader {
    fn line(&mut self, text: &str) -> Result<(), Fault> {
        if text.chars().any(|c| c.is_ascii_control() && c != '\t') {
            return Err(Fault::Rule("the only control characters are tab and newline"));
        }
        let items: Vec<&str> = text.split([' ', '\t']).filter(|item| !item.is_empty()).collect();
        match items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key, url @ ..] if url.len() < 2 => self.log(key, url.first()),
            ["witness", name, key, url @ ..] if url.len() < 2 => self.witness(name, key, url.first()),
            ["group", name, threshold, members @ ..] => self.group(name, threshold, members),
            ["quorum", name] => self.quorum(name),
            _ => Err(Fault::Rule(
                "a line is `log <vkey> [<url>]`, `witness <name> <vkey> [<url>]`, `group <name> any|all|<k> <member>...`, \
                 `quorum <name>|none`, or begins with #",
            )),
        }
    }

    fn log(&mut self, key: &str, url: Option<&&str>) -> Result<(), Fault> {
        let key: VerifierKey = key.parse().map_err(Fault::Key)?;
        if self.logs.iter().any(|log| log.key.key() == key.key()) {
            return Err(Fault::Rule("this log's key stands on an earlier line"));
        }
        limited(self.logs.len())?;
        self.logs.push(PolicyLog { key, url: url.map(|u| (*u).to_owned()) });
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str, url: Option<&&str>) -> Result<(), Fault> {
        let key: CosignerKey = key.parse().map_err(Fault::Key)?;
        if self.witnesses.iter().any(|witness| witness.key.public_key() == key.public_key()) {
            return Err(Fault::Rule("this witness's key stands on an earlier line"));
        }
        limited(self.witnesses.len())?;
        self.define(name, Member::Witness(self.witnesses.len()))?;
        self.witnesses.push(PolicyWitness { name: name.to_owned(), key, url: url.map(|u| (*u).to_owned()) });
        Ok(())
    }

    fn group(&mut self, name: &str, threshold: &str, members: &[&str]) -> Result<(), Fault> {
        limited(self.groups)?;
        let threshold = match threshold {
            "any" => Some(1),
            "all" => Some(members.len()),
            number => number.parse().ok().filter(|k: &usize| k.to_string() == number),
        };
        let threshold = threshold
            .filter(|k| (1..=members.len()).contains(k))
            .ok_or(Fault::Rule("a group is reached by any, by all, or by 1 to as many members as it has"))?;
        let members = members.iter().map(|member| self.take(member)).collect::<Result<_, _>>()?;
        self.define(name, Member::Group { threshold, members })?;
        self.groups += 1;
        Ok(())
    }

    fn quorum(&mut self, name: &str) -> Result<(), Fault> {
        if self.quorum.is_some() {
            return Err(Fault::Rule("there is a quorum line before this one"));
        }
        self.quorum = Some(if name == NONE { None } else { Some(self.known(name)?.0.clone()) });
        Ok(())
    }

    fn define(&mut self, name: &str, member: Member) -> Result<(), Fault> {
        if name == NONE || self.names.contains_key(name) {
            return Err(Fault::Rule("this name is taken"));
        }
        self.names.insert(name.to_owned(), (member, false));
        Ok(())
    }

    /// A name's member for a group: each name is in one group at most, so that no witness counts twice.
    fn take(&mut self, name: &str) -> Result<Member, Fault> {
        let (member, is_taken) = self.known(name)?;
        if *is_taken {
            return Err(Fault::Rule("it uses a name that is a member of a group already"));
        }
        let member = member.clone();
        self.names.insert(name.to_owned(), (member.clone(), true));
        Ok(member)
    }

    fn known(&self, name: &str) -> Result<&(Member, bool), Fault> {
        self.names.get(name).ok_or(Fault::Rule("it uses a name that no earlier line defines"))
    }
}

fn limited(count: usize) -> Result<(), Fault> {
    if count < MAX_POLICY_ITEMS {
        return Ok(());
    }
    Err(Fault::Rule("it is one more than the 63 logs, witnesses or groups that a policy may have of each"))
}
