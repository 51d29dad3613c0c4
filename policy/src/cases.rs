//! `tests.toml`: facts with names, and what must be decided of them. A set that decides otherwise is not loaded.
//!
//! Promises: a case has all facts; `like` takes over those of an earlier case, and `facts` then says only what is different.

use crate::{Decision, Facts, Outcome, PolicySet, nearest};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// Most cases of one file.
pub const MAX_CASES: usize = 2_000;
/// Most failed cases that an error names: all have one cause, as a rule.
const MAX_TOLD: usize = 8;
/// The version of the file's shape that this program reads.
const SCHEMA: i64 = 1;

/// Facts, and what must be decided of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The facts.
    pub facts: Facts,
    /// What must be decided.
    pub expect: Outcome,
    /// The rules that must make the decision, all of them, sorted: those that permit, or those that stand against it.
    pub rules: Vec<String>,
}

/// Why `tests.toml` is refused, or a set because of it.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// Not TOML, or a value of the wrong type.
    #[error("tests.toml is not TOML of this file's shape")]
    Toml(#[source] Box<toml::de::Error>),
    /// Another version of the file's shape.
    #[error("tests.toml: schema = {0} is not known to this program; write schema = 1")]
    Schema(i64),
    /// Two cases of one name, or one without a case to be like.
    #[error("tests.toml: case {name:?}: {what}")]
    Case {
        /// The case.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The facts are not all there, or one is no fact.
    #[error("tests.toml: case {name:?}: these are not the facts of a request")]
    Facts {
        /// The case.
        name: String,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
    /// Too many.
    #[error("tests.toml: {0} cases, the limit is {MAX_CASES}")]
    TooMany(usize),
    /// The set decides otherwise.
    #[error("{failed} of its own {cases} tests fail, so this policy is not taken:\n{}", told.join("\n"))]
    Failed {
        /// How many fail.
        failed: usize,
        /// How many there are.
        cases: usize,
        /// The first of them, in words.
        told: Vec<String>,
    },
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseResult {
    /// The case.
    pub name: String,
    /// Whether all is as it must be.
    pub passed: bool,
    /// What was decided.
    pub decision: Decision,
    /// What should have been.
    pub expected: Outcome,
    /// And by which rules.
    pub expected_rules: Vec<String>,
}

impl std::fmt::Display for CaseResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rules = |rules: &[&str]| if rules.is_empty() { "no rule".to_owned() } else { rules.join(", ") };
        let decided = (self.decision.outcome.as_str(), rules(&self.decision.determining()));
        let expected = rules(&self.expected_rules.iter().map(String::as_str).collect::<Vec<_>>());
        let (name, wanted) = (&self.name, self.expected.as_str());
        write!(f, "{name:?} is {} by {}, and must be {wanted} by {expected}", decided.0, decided.1)
    }
}

impl PolicySet {
    /// How these cases end.
    pub fn run(&self, cases: &[Case]) -> Vec<CaseResult> {
        let run = |case: &Case| {
            let decision = self.decide(&case.facts);
            let mut rules = decision.determining();
            rules.sort_unstable();
            let passed = decision.outcome == case.expect && rules == case.rules;
            let (name, expected_rules) = (case.name.clone(), case.rules.clone());
            CaseResult { name, passed, expected: case.expect, expected_rules, decision }
        };
        cases.iter().map(run).collect()
    }

    /// All of these cases end as they must.
    pub(crate) fn test(&self, cases: &[Case]) -> Result<(), CaseError> {
        let failed: Vec<_> = self.run(cases).into_iter().filter(|result| !result.passed).collect();
        if failed.is_empty() {
            return Ok(());
        }
        let told = failed.iter().take(MAX_TOLD).map(ToString::to_string).collect();
        Err(CaseError::Failed { failed: failed.len(), cases: cases.len(), told })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    schema: i64,
    #[serde(default)]
    case: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    like: Option<String>,
    #[serde(default)]
    facts: Table,
    expect: Outcome,
    rules: Vec<String>,
}

impl Case {
    /// Reads a file of cases.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, CaseError> {
        let raw: RawFile = toml::from_str(text).map_err(|e| CaseError::Toml(Box::new(e)))?;
        if raw.schema != SCHEMA {
            return Err(CaseError::Schema(raw.schema));
        }
        if raw.case.len() > MAX_CASES {
            return Err(CaseError::TooMany(raw.case.len()));
        }
        let mut tables: BTreeMap<String, Table> = BTreeMap::new();
        let mut cases = Vec::new();
        for case in raw.case {
            let table = case.whole(&tables)?;
            let facts = Facts::deserialize(Value::Table(table.clone()))
                .map_err(|e| CaseError::Facts { name: case.name.clone(), source: Box::new(e) })?;
            if tables.insert(case.name.clone(), table).is_some() {
                return Err(CaseError::Case {
                    name: case.name,
                    what: "stands there twice; rename one".to_owned(),
                });
            }
            let rules = case.rules.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            cases.push(Self { name: case.name, facts, expect: case.expect, rules });
        }
        Ok(cases)
    }
}

impl RawCase {
    fn whole(&self, earlier: &BTreeMap<String, Table>) -> Result<Table, CaseError> {
        let Some(like) = &self.like else { return Ok(self.facts.clone()) };
        let mut table = earlier.get(like).cloned().ok_or_else(|| CaseError::Case {
            name: self.name.clone(),
            what: format!(
                "no case above it is named {like:?}{}",
                nearest::hint(like, earlier.keys().map(String::as_str))
            ),
        })?;
        merge(&mut table, &self.facts);
        Ok(table)
    }
}

/// Tables are merged, everything else is replaced. A table with one key, as `{ found = ... }`, is one of several kinds of
/// value: another key replaces it.
fn merge(into: &mut Table, changes: &Table) {
    for (key, change) in changes {
        match (into.get_mut(key), change) {
            (Some(Value::Table(old)), Value::Table(new)) if !is_other_kind(old, new) => merge(old, new),
            _ => drop(into.insert(key.clone(), change.clone())),
        }
    }
}

fn is_other_kind(old: &Table, new: &Table) -> bool {
    let key = |table: &Table| table.keys().next().filter(|_| table.len() == 1).cloned();
    matches!((key(old), key(new)), (Some(old), Some(new)) if old != new)
}
