//! The policy set, and the decision.
//!
//! Promises: whatever goes wrong on the way to a decision denies. A denial holds every reason, not the first.

use crate::{
    Decision, Facts, RepositoryRules, Sources, message,
    repositories::{DataError, Repositories, is_token},
    request::{Names, Question, RequestError},
    rules::{BUILTIN, RuleError, Rules, SCHEMA},
    sources::SourceError,
};
use cedar_policy::{AuthorizationError, Authorizer, Response};
use record::{PolicyStamp, Reason, Repository, Sha256};
use std::path::Path;

/// Why there is no policy set. Nothing can be decided without one; one that is in force stays in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The texts cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// `repositories.toml` is refused.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A policy is refused.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The built-in schema does not have the names that this program uses: the program is broken.
    #[error("the built-in Cedar schema is not the one this program was written for: this build is broken")]
    Names(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Sources {
    /// Reads `repositories.toml`, which must exist, and every `*.cedar` file of `directory`, in the order of their names.
    pub fn read(directory: &Path) -> Result<Self, PolicyError> {
        Ok(Self::read_directory(directory)?)
    }
}

/// A loaded policy set: immutable; replace it as a whole to change policy.
#[derive(Debug)]
pub struct PolicySet {
    rules: Rules,
    repositories: Repositories,
    names: Names,
    stamp: PolicyStamp,
}

impl PolicySet {
    /// Parses, checks and merges the texts with the built-in guardrails.
    pub fn load(sources: Sources) -> Result<Self, PolicyError> {
        let sources = sources.checked()?;
        let repositories = Repositories::parse(&sources.data)?;
        let rules = Rules::load(&sources.cedar, &repositories)?;
        let names = Names::new().map_err(|e| PolicyError::Names(Box::new(e)))?;
        let stamp = PolicyStamp { set: sources.hash(BUILTIN), schema: Sha256::of(SCHEMA.as_bytes()) };
        Ok(Self { rules, repositories, names, stamp })
    }

    /// Names this policy set: `set` covers data, guardrails and operator policies, `schema` the Cedar schema.
    pub fn stamp(&self) -> PolicyStamp {
        self.stamp
    }

    /// The entry that speaks for a repository: the one of its exact name, else the one with the longest prefix.
    pub fn repository(&self, name: &Repository) -> Option<&RepositoryRules> {
        self.repositories.entry(name)
    }

    /// Decides. Anything that cannot be evaluated denies.
    pub fn decide(&self, facts: &Facts) -> Decision {
        // Cedar would answer an unknown repository or caller with evaluation errors, which explain nothing.
        let Some(rules) = self.repository(&facts.repository) else {
            return self.deny(vec![unknown_repository(facts)]);
        };
        if !is_token(facts.caller.principal.as_str()) {
            return self.deny(vec![no_token(facts)]);
        }
        let teams = self.repositories.teams_of(&facts.caller.principal);
        match self.names.question(&self.rules.schema, facts, rules, teams) {
            Ok(question) => self.evaluate(&question, facts, rules),
            Err(e) => self.deny(vec![not_evaluated(&e)]),
        }
    }

    fn evaluate(&self, question: &Question, facts: &Facts, rules: &RepositoryRules) -> Decision {
        let response =
            Authorizer::new().is_authorized(&question.request, &self.rules.policies, &question.entities);
        let failed: Vec<Reason> = response.diagnostics().errors().map(rule_failed).collect();
        let allowed = response.decision() == cedar_policy::Decision::Allow;
        if allowed && failed.is_empty() {
            return Decision {
                allowed,
                rules: determining(&response),
                reasons: Vec::new(),
                stamp: self.stamp,
            };
        }
        let forbids = if allowed { Vec::new() } else { determining(&response) };
        let mut reasons: Vec<Reason> =
            forbids.into_iter().map(|id| self.forbidden(id, facts, rules)).chain(failed).collect();
        if reasons.is_empty() {
            reasons.push(no_permit(facts));
        }
        self.deny(reasons)
    }

    fn forbidden(&self, rule: String, facts: &Facts, rules: &RepositoryRules) -> Reason {
        match self.rules.note(&rule) {
            Some(note) => {
                let message = message::render(&note.message, facts, rules);
                Reason { rule, remedy: note.remedy.clone(), message }
            }
            None => reason(&rule, "final", "this rule forbids it"),
        }
    }

    /// The only place that denies, always with a reason: `reasons` is empty exactly if `allowed`.
    fn deny(&self, mut reasons: Vec<Reason>) -> Decision {
        reasons.sort_by(|a, b| (&a.rule, &a.message).cmp(&(&b.rule, &b.message)));
        Decision { allowed: false, rules: Vec::new(), reasons, stamp: self.stamp }
    }
}

/// The ids of the policies that made the decision, sorted.
fn determining(response: &Response) -> Vec<String> {
    let mut ids: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    ids.sort();
    ids
}

fn unknown_repository(facts: &Facts) -> Reason {
    let message = format!(
        "{} is served by no entry of repositories.toml: ask an operator to add it, or check its spelling",
        facts.repository
    );
    reason("builtin/unknown-repository", "act", &message)
}

fn no_token(facts: &Facts) -> Reason {
    let message = format!("{} is no API token, and only a token may ask for this", facts.caller.principal);
    reason("builtin/not-a-token", "final", &message)
}

fn no_permit(facts: &Facts) -> Reason {
    let message = format!("no rule permits {} to do this in {}", facts.caller.principal, facts.repository);
    reason("builtin/no-permit", "final", &message)
}

/// Cedar skips a policy whose evaluation fails, a forbid as well, and may then answer Allow: so every error denies.
fn rule_failed(error: &AuthorizationError) -> Reason {
    let AuthorizationError::PolicyEvaluationError(error) = error;
    evaluation_error(&format!(
        "rule {} cannot be evaluated for this request: {}",
        error.policy_id(),
        error.inner()
    ))
}

fn not_evaluated(error: &RequestError) -> Reason {
    evaluation_error(&format!("this request cannot be evaluated: {error}"))
}

fn evaluation_error(what: &str) -> Reason {
    reason(
        "builtin/evaluation-error",
        "act",
        &format!("{what}; tell an operator, who can correct the policy"),
    )
}

fn reason(rule: &str, remedy: &str, message: &str) -> Reason {
    Reason { rule: rule.to_owned(), remedy: remedy.to_owned(), message: message::one_line(message) }
}

#[cfg(test)]
mod properties;
