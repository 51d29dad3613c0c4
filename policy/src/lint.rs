//! What loads and should be looked at again: look-alike names, quorums of one, what nothing refers to, what is over.
//!
//! Promises: a lint never refuses a set. It knows the time only as a value.

use crate::{PolicySet, data::Quorum};
use cedar_policy::{PrincipalConstraint, ResourceConstraint};
use record::Time;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Days that an exemption should not outlast: by then the reason has changed, or it is no exemption.
const LONG_DAYS: i64 = 90;

/// One thing to look at again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Warning {
    /// Which kind of thing.
    pub code: &'static str,
    /// One sentence: what, why, what to do.
    pub message: String,
}

impl PolicySet {
    /// Everything that should be looked at again, sorted.
    pub fn lint(&self, now: Time) -> Vec<Warning> {
        let mut found = Vec::new();
        self.look_alikes(&mut found);
        self.quorums(&mut found);
        self.unused(&mut found);
        self.over(now, &mut found);
        self.policies(&mut found);
        found.sort();
        found
    }

    fn look_alikes(&self, found: &mut Vec<Warning>) {
        let mut by_look: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for entry in self.data.entries() {
            by_look.entry(look(&entry.name)).or_default().push(&entry.name);
        }
        for names in by_look.values().filter(|names| names.len() > 1) {
            let message = format!(
                "these names look alike to people: {}; make sure that all are meant",
                names.join(", ")
            );
            found.push(Warning { code: "look-alike", message });
        }
    }

    fn quorums(&self, found: &mut Vec<Warning>) {
        for entry in self.data.entries() {
            let name = &entry.name;
            let one = |quorum: &Option<Quorum>| quorum.as_ref().is_some_and(|quorum| quorum.people() == 1);
            for (key, quorum) in [("approvals", &entry.approvals), ("break_glass", &entry.break_glass)] {
                if one(quorum) {
                    let message = format!(
                        "{name}: '{key}' asks for one person: whoever has that person's key decides alone"
                    );
                    found.push(Warning { code: "quorum-of-one", message });
                }
            }
            if entry.protected_tags.is_some() && entry.approvals.is_none() {
                let message = format!(
                    "{name}: 'protected_tags' protects nothing without 'approvals', unless a policy asks for context.tagProtected"
                );
                found.push(Warning { code: "unused", message });
            }
        }
    }

    fn unused(&self, found: &mut Vec<Warning>) {
        let entries = self.data.entries();
        let mut teams: BTreeSet<&str> = entries.iter().flat_map(|e| &e.signers).map(String::as_str).collect();
        let quorums = entries.iter().flat_map(|e| [&e.approvals, &e.break_glass]).flatten();
        teams.extend(quorums.flat_map(Quorum::groups).map(|group| group.team.as_str()));
        let literals: Vec<_> = self.rules.literals().collect();
        teams.extend(literals.iter().map(String::as_str));
        let used = |list: fn(&crate::RepositoryRules) -> &Vec<String>| -> BTreeSet<&str> {
            entries.iter().flat_map(|e| list(e)).map(String::as_str).collect()
        };
        let (workloads, keys) = (used(|e| &e.workloads), used(|e| &e.keys));
        let mut unused = |what: &str, name: &str, why: &str| {
            found.push(Warning { code: "unused", message: format!("{what} {name:?}: {why}") });
        };
        for (team, members) in self.data.teams() {
            if !teams.contains(team.as_str()) {
                unused("team", team, "no entry and no policy refers to it");
            } else if members.is_empty() {
                unused("team", team, "it has no members, so what refers to it lets nobody in");
            }
        }
        for workload in self.data.workloads().filter(|w| !workloads.contains(w.name.as_str())) {
            unused("workload", &workload.name, "no repository has it among its 'workloads'");
        }
        for key in self.data.keys().filter(|k| !keys.contains(k.name.as_str()) && k.not_after.is_none()) {
            unused("key", &key.name, "no repository has it among its 'keys', and its use does not end");
        }
        for exemption in self.data.exemptions().iter().filter(|e| self.data.entry(&e.repository).is_none()) {
            unused("exemption for", exemption.repository.as_str(), "no entry speaks for this repository");
        }
    }

    fn over(&self, now: Time, found: &mut Vec<Warning>) {
        let mut push = |code, message: String| found.push(Warning { code, message });
        for freeze in self.data.freezes().iter().filter(|freeze| freeze.until <= now) {
            push("over", format!("freeze {:?} ended at {}: remove it", freeze.name, freeze.until));
        }
        for key in self.data.keys().filter(|key| key.not_after.is_some_and(|at| at <= now)) {
            push("over", format!("key {:?} is not to be used any more: nothing is signed with it", key.name));
        }
        for exemption in self.data.exemptions() {
            let (rule, repository, until) = (&exemption.rule, &exemption.repository, exemption.until);
            if until <= now {
                push(
                    "over",
                    format!("the exemption of {repository} from {rule} ended at {until}: remove it"),
                );
            } else if until > now.plus_s(LONG_DAYS * 86_400) {
                let owner = &exemption.owner;
                let message = format!(
                    "{repository} is exempted from {rule} until {until}, which is more than {LONG_DAYS} days; {owner} should end it \
                     sooner and ask again"
                );
                push("long-exemption", message);
            }
        }
    }

    fn policies(&self, found: &mut Vec<Warning>) {
        let ours = |id: &str| id.starts_with(crate::rules::BUILTIN_PREFIX);
        for policy in self.rules.permits.policies().filter(|policy| !ours(policy.id().as_ref())) {
            let anybody = policy.principal_constraint() == PrincipalConstraint::Any;
            if anybody && policy.resource_constraint() == ResourceConstraint::Any {
                let message = format!(
                    "permit {} names neither who nor where: it lets in whoever no guardrail forbids; name a team or a namespace",
                    policy.id()
                );
                found.push(Warning { code: "broad-permit", message });
            }
        }
        for policy in self.rules.permits.policies().chain(self.rules.forbids.policies()) {
            let text = policy.to_string();
            let arithmetic = [".offset(", ".durationSince("].into_iter().find(|call| text.contains(call));
            if let Some(call) = arithmetic {
                let message = format!(
                    "policy {} uses {call}): a time that overflows makes every request denied; compare with a constant instead",
                    policy.id()
                );
                found.push(Warning { code: "arithmetic", message });
            }
        }
    }
}

/// What a name looks like to somebody who reads it quickly: letters that look alike are one, separators none.
fn look(name: &str) -> String {
    let plain = |c: char| match c {
        '1' | 'i' => Some('l'),
        '0' => Some('o'),
        '5' => Some('s'),
        '2' => Some('z'),
        '-' | '_' | '.' => None,
        c => Some(c),
    };
    let text: String = name.trim_end_matches('/').chars().filter_map(plain).collect();
    text.replace("rn", "m").replace("vv", "w").replace("cl", "d")
}

#[cfg(test)]
mod tests {
    use super::look;

    #[test]
    fn names_that_people_take_for_each_other_look_alike() {
        for (a, b) in [
            ("r.example/paypa1", "r.example/paypal"),
            ("r.example/rnail", "r.example/mail"),
            ("r.example/a-b", "r.example/a_b"),
        ] {
            assert_eq!(look(a), look(b));
        }
        assert_ne!(look("r.example/app"), look("r.example/api"));
    }
}
