//! What is answered: the decision, everything that stands against it, and what was only looked at.

use record::{PolicyStamp, Reason};
use serde::{Deserialize, Serialize};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Whether it may be done.
    pub outcome: Outcome,
    /// Ids of the rules that permit it, sorted; empty unless allowed.
    pub rules: Vec<String>,
    /// Everything that stands against it, sorted by rule; empty exactly if allowed.
    pub reasons: Vec<Reason>,
    /// What rules under observation (`@mode("observe")`) would have denied, sorted by rule.
    pub observed: Vec<Reason>,
    /// Ids of rules that would have denied and from which the repository is exempted, sorted.
    pub exempted: Vec<String>,
    /// What an operator should know of this decision: rules under observation that could not be evaluated.
    pub warnings: Vec<String>,
    /// People must be told: an emergency was claimed, or a rule could not be evaluated.
    pub alarm: bool,
    /// The policy that decided.
    pub stamp: PolicyStamp,
}

/// Whether it may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A rule permits it, no rule forbids it, and every rule could be evaluated.
    Allowed,
    /// Not now; the reasons say what is missing, and each can still come.
    Waiting,
    /// Not as it stands: at least one reason is final, or a rule could not be evaluated.
    Denied,
}

impl Outcome {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Waiting => "waiting",
            Self::Denied => "denied",
        }
    }
}

impl Decision {
    /// Whether it may be done now.
    pub fn allowed(&self) -> bool {
        self.outcome == Outcome::Allowed
    }

    /// The rules that made it: those that permit it, or those that stand against it.
    pub fn determining(&self) -> Vec<&str> {
        let against = self.reasons.iter().map(|reason| reason.rule.as_str());
        self.rules.iter().map(String::as_str).chain(against).collect()
    }
}
