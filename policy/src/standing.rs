//! What follows from facts and data alone: how a caller, an image and its approvals stand under one entry.
//!
//! Promises: a pure function of both, so a decision can be decided again; a quorum counts people and not signatures, never
//! the caller, and no method that the entry does not take. It does not know Cedar.

use crate::{
    Ask, Facts, RepositoryRules, Signing,
    data::{Conditions, Data, Freeze, Group, Quorum, WorkloadRules, best},
};
use record::Time;
use std::collections::BTreeSet;

/// Most seconds that a time of the image may be ahead of ours: clocks differ, and nothing is made in the future.
const AHEAD_S: i64 = 300;

/// How things stand.
pub(crate) struct Standing<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) rules: &'a RepositoryRules,
    pub(crate) data: &'a Data,
    /// The binding that fits the CI job best, and how well.
    pub(crate) binding: Option<(&'a WorkloadRules, Conditions)>,
    pub(crate) tag_protected: bool,
    /// People who approved by a method that counts, without the caller.
    pub(crate) approvers: BTreeSet<&'a str>,
    pub(crate) requester_approved: bool,
    pub(crate) missing: Vec<Group>,
    pub(crate) missing_break_glass: Vec<Group>,
    pub(crate) break_glass: BreakGlassStanding,
    pub(crate) freeze: Option<&'a Freeze>,
    pub(crate) scan_age_s: Option<i64>,
    pub(crate) image_age_s: Option<i64>,
    pub(crate) key_ends: Option<Time>,
}

/// How an emergency stands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BreakGlassStanding {
    pub(crate) claimed: bool,
    pub(crate) allowed: bool,
    pub(crate) approved: bool,
    /// The rules that give way do.
    pub(crate) in_effect: bool,
}

impl<'a> Standing<'a> {
    pub(crate) fn of(facts: &'a Facts, rules: &'a RepositoryRules, data: &'a Data) -> Self {
        let signing = facts.ask.signing();
        let caller = facts.caller.principal().as_str();
        let approvals = signing.map_or(&[][..], |signing| signing.approvals.as_slice());
        let counts = approvals.iter().filter(|a| rules.approval_methods.contains(&a.method));
        let approvers: BTreeSet<&str> = counts.map(|a| a.person.as_str()).filter(|p| *p != caller).collect();
        let missing = |quorum: &Quorum| quorum.missing(&approvers, data.teams());
        let missing_break_glass = rules.break_glass.as_ref().map(missing).unwrap_or_default();
        let age_s = |at: &Time| age_s(*at, facts.now);
        Self {
            binding: facts.caller.ci().and_then(|ci| best(data.workloads_of(rules), ci)),
            tag_protected: signing.is_some_and(|signing| rules.protects(signing.tag.as_str())),
            requester_approved: approvals.iter().any(|a| a.person.as_str() == caller),
            missing: rules.approvals.as_ref().map(missing).unwrap_or_default(),
            break_glass: BreakGlassStanding::of(&facts.ask, rules, &missing_break_glass),
            missing_break_glass,
            freeze: data.freeze(&facts.repository, facts.now),
            scan_age_s: signing.and_then(|s| s.attestations.scan.found()).map(|scan| age_s(&scan.at)),
            image_age_s: signing.and_then(|s| s.image_created.found()).map(age_s),
            key_ends: signing.and_then(|s| s.key.found()).and_then(|key| data.key_ends(key.id)),
            approvers,
            facts,
            rules,
            data,
        }
    }

    /// The facts about the image, where there is one.
    pub(crate) fn signing(&self) -> Option<&'a Signing> {
        self.facts.ask.signing()
    }
}

impl BreakGlassStanding {
    fn of(ask: &Ask, rules: &RepositoryRules, missing: &[Group]) -> Self {
        let claimed = ask.signing().is_some_and(|signing| signing.break_glass.found().is_some());
        let allowed = rules.break_glass.is_some();
        let approved = allowed && missing.is_empty();
        // A request must be let in before anybody can approve it.
        let enters = matches!(ask, Ask::RequestSign(_));
        Self { claimed, allowed, approved, in_effect: claimed && allowed && (approved || enters) }
    }
}

/// A time of the future makes what it stands on as good as too old.
fn age_s(at: Time, now: Time) -> i64 {
    let age = now.unix_s() - at.unix_s();
    if age < -AHEAD_S { i64::MAX } else { age.max(0) }
}
