//! One decision with the word of every rule.

use crate::{Decision, Facts, PolicySet};
use serde::Serialize;

/// A decision, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// The name of the entry of `repositories.toml` that speaks for the repository; none if none does.
    pub entry: Option<String>,
    /// Every rule of the set, sorted.
    pub verdicts: Vec<Verdict>,
}

/// What one rule said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The rule.
    pub rule: String,
    /// Its word.
    pub said: Said,
}

/// The words that a rule can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// It permits the request.
    Permits,
    /// It forbids the request.
    Forbids,
    /// It would forbid the request, and is only observed.
    Observed,
    /// It would forbid the request, and the repository is exempted from it.
    Exempted,
    /// It could not be evaluated.
    Failed,
    /// It has nothing to say to this request.
    DoesNotApply,
    /// The facts were refused before any rule was asked.
    NotAsked,
}

impl Said {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permits => "permits",
            Self::Forbids => "forbids",
            Self::Observed => "observed",
            Self::Exempted => "exempted",
            Self::Failed => "failed",
            Self::DoesNotApply => "does-not-apply",
            Self::NotAsked => "not-asked",
        }
    }
}

impl PolicySet {
    /// Decides, and says what each rule said.
    pub fn explain(&self, facts: &Facts) -> Explanation {
        let evaluation = self.evaluate(facts);
        let decision = evaluation.decision;
        let said = |rule: &String| {
            let Some(evaluated) = &evaluation.evaluated else { return Said::NotAsked };
            if evaluated.failed.contains(rule) {
                Said::Failed
            } else if evaluated.permits.contains(rule) {
                Said::Permits
            } else if !evaluated.forbids.contains(rule) {
                Said::DoesNotApply
            } else if decision.exempted.contains(rule) {
                Said::Exempted
            } else if decision.observed.iter().any(|reason| reason.rule == *rule) {
                Said::Observed
            } else {
                Said::Forbids
            }
        };
        let verdicts =
            self.rules.ids().into_iter().map(|(rule, _)| Verdict { said: said(&rule), rule }).collect();
        let entry = self.repository(&facts.repository).map(|rules| rules.name.clone());
        Explanation { verdicts, entry, decision }
    }
}
