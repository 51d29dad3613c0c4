//! A decision as it is written down, and deciding it again.

use crate::{Decision, Facts, Outcome, PolicySet};
use record::PolicyStamp;
use serde::{Deserialize, Serialize};

/// Everything that it takes to decide again what was decided, but for the policy, which the stamp names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// The facts.
    pub facts: Facts,
    /// What was decided.
    pub outcome: Outcome,
    /// The rules that made it, sorted: those that permit it, or those that stand against it.
    pub rules: Vec<String>,
    /// The policy that decided.
    pub stamp: PolicyStamp,
    /// The engine that evaluated it, as [`PolicySet::engine`] names it.
    pub engine: String,
}

/// What becomes of a decision that is decided again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Whether outcome and rules are those that were written down.
    pub same_decision: bool,
    /// Whether it is the policy that decided.
    pub same_policy: bool,
    /// Whether it is the engine that evaluated it.
    pub same_engine: bool,
    /// What is decided now.
    pub decision: Decision,
}

impl PolicySet {
    /// Decides, and gives what is to be written down of it.
    pub fn decide_to_record(&self, facts: Facts) -> (Decision, Decided) {
        let decision = self.decide(&facts);
        let rules = sorted(&decision);
        let decided = Decided {
            facts,
            outcome: decision.outcome,
            rules,
            stamp: decision.stamp,
            engine: Self::engine(),
        };
        (decision, decided)
    }

    /// Decides again.
    pub fn replay(&self, decided: &Decided) -> Replayed {
        let decision = self.decide(&decided.facts);
        Replayed {
            same_decision: decision.outcome == decided.outcome && sorted(&decision) == decided.rules,
            same_policy: decision.stamp == decided.stamp,
            same_engine: Self::engine() == decided.engine,
            decision,
        }
    }
}

fn sorted(decision: &Decision) -> Vec<String> {
    let mut rules: Vec<String> = decision.determining().into_iter().map(str::to_owned).collect();
    rules.sort();
    rules
}
