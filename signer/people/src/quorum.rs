//! Whether a rule's people have approved one statement.

use crate::approval::{Approval, ApprovalError};
use crate::name::Name;
use crate::roster::{Method, Person, Roster};
use crate::rule::{MethodKind, Need, Rule};
use crate::statement::{Decision, Statement};
use record::{KeyId, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A rule's people have approved.
#[derive(Debug)]
pub struct Quorum {
    /// Who, one for each place of the rule.
    pub counted: Vec<Counted>,
    /// Approvals that were shown and did not count.
    pub uncounted: Vec<Uncounted>,
}

/// One person in one place of the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The person.
    pub person: Name,
    /// For which group.
    pub group: Name,
}

/// An approval that did not count.
#[derive(Debug)]
pub struct Uncounted {
    /// The key it says it is by.
    pub key: KeyId,
    /// Whose that key is, if the roster has it.
    pub person: Option<Name>,
    /// Why it did not count.
    pub why: Why,
}

/// Why an approval did not count.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// Signed for another change.
    #[error("it is for another statement")]
    OtherStatement,
    /// Of a key that the roster does not have.
    #[error("the roster has no such key")]
    UnknownKey,
    /// Not a signature of its key.
    #[error(transparent)]
    Proof(#[from] ApprovalError),
    /// By the one who asks.
    #[error("the requester does not approve")]
    Requester,
    /// By a person of no group of the rule.
    #[error("not a member of a group that the rule names")]
    NoMember,
    /// By a method that the rule does not allow for any of the person's groups.
    #[error("the rule does not take approvals by {0}")]
    Method(MethodKind),
    /// A second one by the same person.
    #[error("the same person has approved already")]
    SamePerson,
}

/// Why a statement is not approved.
#[derive(Debug)]
pub enum NoQuorum {
    /// It says that the change shall not be.
    Rejection,
    /// It does not count yet.
    NotYet {
        /// From when it counts.
        not_before: Time,
        /// What the clock shows.
        now: Time,
    },
    /// It does not count any more.
    Expired {
        /// Until when it counted.
        expires: Time,
        /// What the clock shows.
        now: Time,
    },
    /// A member of one of the rule's groups has refused it.
    Rejected(Name),
    /// People are missing.
    Missing {
        /// For each group of the rule: how many are counted, and how many are needed.
        groups: Vec<(Name, u32, u32)>,
        /// Approvals that were shown and did not count.
        uncounted: Vec<Uncounted>,
    },
}

/// Whether `approvals` fulfil `rule` for `statement` at `now`, by the people of `roster`.
///
/// One person fills one place, whatever keys they have and groups they are in. Approvals that do not count never undo
/// those that do; a rejection by a member of one of the rule's groups does.
// INVARIANT(people): only a quorum of the rule, of distinct people, for this very statement, gives `Ok`.
pub fn counted(
    statement: &Statement,
    approvals: &[Approval],
    roster: &Roster,
    rule: &Rule,
    now: Time,
) -> Result<Quorum, NoQuorum> {
    valid(statement, now)?;
    let mut ballot = Ballot { statement, roster, rule, by: BTreeMap::new(), uncounted: vec![] };
    approvals.iter().try_for_each(|approval| ballot.take(approval))?;
    ballot.close()
}

fn valid(statement: &Statement, now: Time) -> Result<(), NoQuorum> {
    let content = statement.content();
    let (not_before, expires) = (content.not_before, content.expires);
    if content.decision == Decision::Reject {
        Err(NoQuorum::Rejection)
    } else if now < not_before {
        Err(NoQuorum::NotYet { not_before, now })
    } else if now >= expires {
        Err(NoQuorum::Expired { expires, now })
    } else {
        Ok(())
    }
}

/// The approvals of one statement as they are looked at.
struct Ballot<'a> {
    statement: &'a Statement,
    roster: &'a Roster,
    rule: &'a Rule,
    /// How each person has approved.
    by: BTreeMap<&'a Name, BTreeSet<MethodKind>>,
    uncounted: Vec<Uncounted>,
}

impl<'a> Ballot<'a> {
    fn take(&mut self, approval: &Approval) -> Result<(), NoQuorum> {
        let known = self.roster.key(approval.key());
        let why = match self.judge(approval) {
            Ok((person, method)) => {
                let (first, methods) =
                    (!self.by.contains_key(&person.name), self.by.entry(&person.name).or_default());
                methods.insert(method);
                if first {
                    return Ok(());
                }
                Why::SamePerson
            }
            Err(Judged::Rejected(name)) => return Err(NoQuorum::Rejected(name)),
            Err(Judged::Not(why)) => why,
        };
        let person = known.map(|(person, _)| person.name.clone());
        self.uncounted.push(Uncounted { key: approval.key(), person, why });
        Ok(())
    }

    fn judge(&self, approval: &Approval) -> Result<(&'a Person, MethodKind), Judged> {
        let said = self.said(approval).ok_or(Why::OtherStatement)?;
        let (person, key) = self.roster.key(approval.key()).ok_or(Why::UnknownKey)?;
        approval.verify(key).map_err(Why::Proof)?;
        let method = match key.method {
            Method::Piv { .. } => MethodKind::Piv,
            Method::Webauthn { .. } => MethodKind::Webauthn,
        };
        let needs =
            || self.rule.needs().iter().filter(|n| self.roster.members(&n.group).contains(&person.name));
        if needs().next().is_none() {
            return Err(Why::NoMember.into());
        }
        if said == Decision::Reject {
            return Err(Judged::Rejected(person.name.clone()));
        }
        if person.is(&self.statement.content().requester) {
            return Err(Why::Requester.into());
        }
        if !needs().any(|need| need.methods.contains(&method)) {
            return Err(Why::Method(method).into());
        }
        Ok((person, method))
    }

    /// What an approval says of this change; nothing if it is about another one.
    fn said(&self, approval: &Approval) -> Option<Decision> {
        let about = approval.statement();
        if about == self.statement {
            return Some(Decision::Approve);
        }
        let rejection = about.content().decision == Decision::Reject;
        let same = || about.deciding(Decision::Approve).is_ok_and(|s| s == *self.statement);
        (rejection && same()).then_some(Decision::Reject)
    }

    fn close(self) -> Result<Quorum, NoQuorum> {
        let placed = give_places(&self.places());
        let have = |need: &Need| {
            let sits =
                |(place, _): &(usize, usize)| self.need_of(*place).is_some_and(|n| n.group == need.group);
            u32::try_from(placed.iter().filter(|place| sits(place)).count()).unwrap_or(u32::MAX)
        };
        let groups = self.rule.needs().iter().map(|n| (n.group.clone(), have(n), n.count));
        let groups: Vec<(Name, u32, u32)> = groups.collect();
        if groups.iter().any(|(_, have, count)| have < count) {
            return Err(NoQuorum::Missing { groups, uncounted: self.uncounted });
        }
        let people: Vec<&Name> = self.by.keys().copied().collect();
        let counted = placed.iter().filter_map(|(place, person)| {
            let (need, person) = (self.need_of(*place)?, people.get(*person)?);
            Some(Counted { person: (*person).clone(), group: need.group.clone() })
        });
        Ok(Quorum { counted: counted.collect(), uncounted: self.uncounted })
    }

    /// The need of each place: every need has as many places as it counts people.
    fn needs(&self) -> impl Iterator<Item = &Need> {
        self.rule.needs().iter().flat_map(|need| (0..need.count).map(move |_| need))
    }

    fn need_of(&self, place: usize) -> Option<&Need> {
        self.needs().nth(place)
    }

    /// For each place of the rule, which of the people could fill it.
    fn places(&self) -> Vec<Vec<usize>> {
        let fills = |need: &Need, (person, methods): (&&Name, &BTreeSet<MethodKind>)| {
            let member = self.roster.members(&need.group).contains(person);
            member && need.methods.iter().any(|m| methods.contains(m))
        };
        let who = |need: &Need| {
            let able = self.by.iter().enumerate().filter(|(_, by)| fills(need, *by));
            able.map(|(number, _)| number).collect::<Vec<_>>()
        };
        self.needs().map(who).collect()
    }
}

/// Why a judgement gave no person.
enum Judged {
    Rejected(Name),
    Not(Why),
}

impl From<Why> for Judged {
    fn from(why: Why) -> Self {
        Self::Not(why)
    }
}

/// Gives as many places as possible a person of their own: `(place, person)`. Augmenting paths (Kuhn); a rule has at most
/// 128 places.
fn give_places(places: &[Vec<usize>]) -> Vec<(usize, usize)> {
    let mut sits: BTreeMap<usize, usize> = BTreeMap::new();
    for place in 0..places.len() {
        find(place, places, &mut sits, &mut BTreeSet::new());
    }
    let mut placed: Vec<(usize, usize)> = sits.into_iter().map(|(person, place)| (place, person)).collect();
    placed.sort_unstable();
    placed
}

/// Seats somebody at `place`, moving others where they can move. Each person is asked once.
fn find(
    place: usize,
    places: &[Vec<usize>],
    sits: &mut BTreeMap<usize, usize>,
    asked: &mut BTreeSet<usize>,
) -> bool {
    for person in places.get(place).into_iter().flatten() {
        if !asked.insert(*person) {
            continue;
        }
        let free = match sits.get(person).copied() {
            None => true,
            Some(other) => find(other, places, sits, asked),
        };
        if free {
            sits.insert(*person, place);
            return true;
        }
    }
    false
}

impl fmt::Display for Uncounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.person {
            Some(person) => write!(f, "{person}'s does not count: {}", self.why),
            None => write!(f, "that of key {} does not count: {}", self.key, self.why),
        }
    }
}

impl std::error::Error for NoQuorum {}

impl fmt::Display for NoQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejection => f.write_str("the statement is a rejection"),
            Self::NotYet { not_before, now } => {
                write!(f, "the statement counts from {not_before} on, and now it is {now}")
            }
            Self::Expired { expires, now } => {
                write!(f, "the statement counted until {expires}, and now it is {now}: ask the people anew")
            }
            Self::Rejected(name) => write!(f, "{name} has rejected it"),
            Self::Missing { groups, uncounted } => {
                let short = groups.iter().filter(|(_, have, need)| have < need);
                let short: Vec<String> = short
                    .map(|(group, have, need)| {
                        format!("group {group} has approved with {have} of {need} people")
                    })
                    .collect();
                f.write_str(&short.join(", "))?;
                uncounted.iter().try_for_each(|one| write!(f, "; {one}"))
            }
        }
    }
}
