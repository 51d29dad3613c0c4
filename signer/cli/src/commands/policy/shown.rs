//! What `chancery policy` shows, as documents and as text.

use crate::output::Answer;
use policy::{CaseResult, Decided, Decision, Explanation, Outcome, Replayed, Said, Warning};
use record::PolicyStamp;
use serde::Serialize;
use std::fmt;

/// A folder that loads.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct Checked {
    pub(super) stamp: PolicyStamp,
    pub(super) engine: String,
    /// Its own tests, which all passed.
    pub(super) cases: usize,
    pub(super) warnings: Vec<Warning>,
}

impl Answer for Checked {
    const SCHEMA: &'static str = "chancery.policy-check/v1";
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "policy      {}, schema {}", self.stamp.set, self.stamp.schema)?;
        writeln!(f, "engine      {}", self.engine)?;
        writeln!(f, "tests       {} passed", self.cases)?;
        warnings(f, &self.warnings)
    }
}

/// What should be looked at again.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct Linted {
    pub(super) warnings: Vec<Warning>,
}

impl Answer for Linted {
    const SCHEMA: &'static str = "chancery.policy-lint/v1";
}

impl fmt::Display for Linted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        warnings(f, &self.warnings)
    }
}

fn warnings(f: &mut fmt::Formatter<'_>, warnings: &[Warning]) -> fmt::Result {
    if warnings.is_empty() {
        return writeln!(f, "lint        nothing to look at again");
    }
    warnings.iter().try_for_each(|warning| writeln!(f, "warning     {}: {}", warning.code, warning.message))
}

/// How cases ended.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct Tested {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) results: Vec<CaseResult>,
}

impl Answer for Tested {
    const SCHEMA: &'static str = "chancery.policy-test/v1";
}

impl fmt::Display for Tested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for result in &self.results {
            match result.passed {
                true => writeln!(f, "passed      {:?}: {}", result.name, result.expected.as_str())?,
                false => writeln!(f, "FAILED      {result}")?,
            }
        }
        writeln!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// What two policies decide differently.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct Diff {
    pub(super) old: PolicyStamp,
    pub(super) new: PolicyStamp,
    /// How many cases were decided by both.
    pub(super) cases: usize,
    pub(super) changes: Vec<Change>,
}

/// One case that two policies decide differently.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct Change {
    case: String,
    old: Word,
    new: Word,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Word {
    outcome: Outcome,
    rules: Vec<String>,
    observed: Vec<String>,
    exempted: Vec<String>,
}

impl Word {
    fn of(decision: &Decision) -> Self {
        let owned = |rules: Vec<&str>| rules.into_iter().map(str::to_owned).collect();
        Self {
            outcome: decision.outcome,
            rules: owned(decision.determining()),
            observed: decision.observed.iter().map(|reason| reason.rule.clone()).collect(),
            exempted: decision.exempted.clone(),
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.outcome.as_str(), self.rules.join(", "))?;
        for (what, rules) in [("observed", &self.observed), ("exempted from", &self.exempted)] {
            if !rules.is_empty() {
                write!(f, "; {what} {}", rules.join(", "))?;
            }
        }
        Ok(())
    }
}

impl Change {
    /// Nothing if both decide alike, by the same rules.
    pub(super) fn between(case: &str, old: &Decision, new: &Decision) -> Option<Self> {
        let (old, new) = (Word::of(old), Word::of(new));
        (old != new).then(|| Self { case: case.to_owned(), old, new })
    }
}

impl Answer for Diff {
    const SCHEMA: &'static str = "chancery.policy-diff/v1";
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Change { case, old, new } in &self.changes {
            writeln!(f, "{case:?}\n  old  {old}\n  new  {new}")?;
        }
        writeln!(f, "{} of {} cases are decided differently", self.changes.len(), self.cases)
    }
}

/// One decision, with the word of every rule.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct Explained {
    #[serde(flatten)]
    pub(super) explanation: Explanation,
    /// Whether the text has the rules that have nothing to say; the document always has them.
    #[serde(skip)]
    pub(super) all: bool,
}

impl Answer for Explained {
    const SCHEMA: &'static str = "chancery.policy-explanation/v1";
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explanation { decision, entry, verdicts } = &self.explanation;
        writeln!(
            f,
            "decision    {}{}",
            decision.outcome.as_str(),
            if decision.alarm { ", with an alarm" } else { "" }
        )?;
        writeln!(f, "entry       {}", entry.as_deref().unwrap_or("none of repositories.toml"))?;
        writeln!(f, "policy      {}", decision.stamp.set)?;
        for reason in &decision.reasons {
            writeln!(f, "missing     {}: {} (remedy: {})", reason.rule, reason.message, reason.remedy)?;
        }
        for reason in &decision.observed {
            writeln!(f, "observed    {}: {}", reason.rule, reason.message)?;
        }
        for warning in &decision.warnings {
            writeln!(f, "warning     {warning}")?;
        }
        let silent = |said: Said| matches!(said, Said::DoesNotApply | Said::NotAsked);
        for verdict in verdicts.iter().filter(|verdict| self.all || !silent(verdict.said)) {
            writeln!(f, "rule        {} {}", verdict.rule, verdict.said.as_str())?;
        }
        Ok(())
    }
}

/// A decision that was decided again.
#[derive(Debug, Serialize)]
pub(in crate::commands) struct Replay {
    #[serde(flatten)]
    pub(super) replayed: Replayed,
    #[serde(skip)]
    pub(super) decided: Decided,
}

impl Answer for Replay {
    const SCHEMA: &'static str = "chancery.policy-replay/v1";
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replayed { same_policy, same_engine, decision, .. } = &self.replayed;
        let same = |same: bool| if same { "the same" } else { "ANOTHER" };
        let (then, now) = (&self.decided, decision.determining().join(", "));
        writeln!(f, "then        {} by {}", then.outcome.as_str(), then.rules.join(", "))?;
        writeln!(f, "now         {} by {now}", decision.outcome.as_str())?;
        writeln!(f, "policy      {}", same(*same_policy))?;
        writeln!(f, "engine      {}", same(*same_engine))
    }
}
