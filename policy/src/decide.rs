//! The policy set, and how it decides.
//!
//! Promises: whatever goes wrong on the way to a decision denies. A denial holds every reason, not the first. A rule under
//! observation changes no decision.

use crate::{
    Caller, Decision, Facts, MAX_APPROVALS, Outcome, RepositoryRules, Sources,
    cases::{Case, CaseError},
    data::{Data, DataError},
    message,
    request::{Names, Question, RequestError},
    rules::{BUILTIN, RuleError, Rules, SCHEMA},
    sources::SourceError,
    standing::Standing,
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
    /// `tests.toml` is refused, or the set does not decide as it says.
    #[error(transparent)]
    Case(#[from] CaseError),
    /// The built-in schema does not have the names that this program uses: the program is broken.
    #[error("the built-in Cedar schema is not the one this program was written for: this build is broken")]
    Names(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Sources {
    /// Reads `repositories.toml`, which must exist, `tests.toml`, and every `*.cedar` file of `directory`, in the order of
    /// their names.
    pub fn read(directory: &Path) -> Result<Self, PolicyError> {
        Ok(Self::read_directory(directory)?)
    }
}

/// A loaded policy set: immutable; replace it as a whole to change policy.
#[derive(Debug)]
pub struct PolicySet {
    pub(crate) rules: Rules,
    pub(crate) data: Data,
    names: Names,
    stamp: PolicyStamp,
    cases: Vec<Case>,
}

impl PolicySet {
    /// Parses, checks and merges the texts with the built-in guardrails, and runs the set's own tests.
    pub fn load(sources: Sources) -> Result<Self, PolicyError> {
        let set = Self::load_untested(sources)?;
        set.test(&set.cases)?;
        Ok(set)
    }

    /// The same without running the tests, for tools that show how they end. A set for use must have passed them.
    pub fn load_untested(sources: Sources) -> Result<Self, PolicyError> {
        let sources = sources.checked()?;
        let data = Data::parse(&sources.data)?;
        let rules = Rules::load(&sources.cedar, &data)?;
        let cases = sources.tests.as_deref().map(Case::parse_all).transpose()?.unwrap_or_default();
        let names = Names::new().map_err(|e| PolicyError::Names(Box::new(e)))?;
        let stamp = PolicyStamp { set: sources.hash(BUILTIN), schema: Sha256::of(SCHEMA.as_bytes()) };
        Ok(Self { rules, data, names, stamp, cases })
    }

    /// Names this policy set: `set` covers data, guardrails and operator policies, `schema` the Cedar schema.
    pub fn stamp(&self) -> PolicyStamp {
        self.stamp
    }

    /// The engine that evaluates the rules, as `cedar-policy 4.14.1`: decides the same facts in the same way under one stamp.
    pub fn engine() -> String {
        format!("cedar-policy {}", cedar_policy::get_sdk_version())
    }

    /// The text of the Cedar schema: what policies may ask about.
    pub fn schema() -> &'static str {
        SCHEMA
    }

    /// The text of the guardrails that every set contains.
    pub fn guardrails() -> &'static str {
        BUILTIN
    }

    /// The set's own tests.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// The entry that speaks for a repository: the one of its exact name, else the one with the longest prefix.
    pub fn repository(&self, name: &Repository) -> Option<&RepositoryRules> {
        self.data.entry(name)
    }

    /// Decides. Anything that cannot be evaluated denies.
    pub fn decide(&self, facts: &Facts) -> Decision {
        self.evaluate(facts).decision
    }

    /// Decides, and keeps what each rule said.
    pub(crate) fn evaluate(&self, facts: &Facts) -> Evaluation {
        // Cedar would answer an unknown repository or caller with evaluation errors, which explain nothing.
        let Some(rules) = self.repository(&facts.repository) else {
            return self.refused(facts, unknown_repository(facts));
        };
        if let Some(reason) = contradiction(facts) {
            return self.refused(facts, reason);
        }
        let standing = Standing::of(facts, rules, &self.data);
        match self.names.question(&self.rules.schema, &standing) {
            Ok(question) => self.judge(&question, &standing),
            Err(e) => self.refused(facts, not_evaluated(&e)),
        }
    }

    /// Permits and forbids are evaluated apart. The decision is Cedar's own (a forbid wins, and nothing is allowed without
    /// a permit), but for errors, which deny, and for forbids that are observed or exempted, which do not count.
    fn judge(&self, question: &Question, standing: &Standing<'_>) -> Evaluation {
        let ask = |set| Authorizer::new().is_authorized(&question.request, set, &question.entities);
        let (permitting, forbidding) = (ask(&self.rules.permits), ask(&self.rules.forbids));
        let mut weighed = Weighed::default();
        for error in permitting.diagnostics().errors().chain(forbidding.diagnostics().errors()) {
            weighed.failed(self, error);
        }
        for id in determining(&forbidding) {
            weighed.forbidden(self, id, standing);
        }
        let permits = determining(&permitting);
        if weighed.reasons.is_empty() && permits.is_empty() {
            weighed.reasons.push(no_permit(standing.facts));
        }
        let evaluated = Evaluated {
            permits: permits.clone(),
            forbids: determining(&forbidding),
            failed: std::mem::take(&mut weighed.failed),
        };
        let emergency = standing.break_glass.claimed;
        Evaluation { decision: self.conclude(weighed, permits, emergency), evaluated: Some(evaluated) }
    }

    fn refused(&self, facts: &Facts, reason: Reason) -> Evaluation {
        let error = reason.rule == EVALUATION_ERROR;
        let weighed = Weighed { reasons: vec![reason], error, ..Weighed::default() };
        let emergency = facts.ask.signing().is_some_and(|signing| signing.break_glass.found().is_some());
        Evaluation { decision: self.conclude(weighed, Vec::new(), emergency), evaluated: None }
    }

    /// The only place that makes a decision: `reasons` is empty exactly if it is allowed.
    fn conclude(&self, mut weighed: Weighed, permits: Vec<String>, emergency: bool) -> Decision {
        weighed.reasons.sort_by(|a, b| (&a.rule, &a.message).cmp(&(&b.rule, &b.message)));
        weighed.observed.sort_by(|a, b| a.rule.cmp(&b.rule));
        let lasting = weighed.error || weighed.reasons.iter().any(|reason| reason.remedy == "final");
        let outcome = match (weighed.reasons.is_empty(), lasting) {
            (true, _) => Outcome::Allowed,
            (false, false) => Outcome::Waiting,
            (false, true) => Outcome::Denied,
        };
        Decision {
            outcome,
            rules: if outcome == Outcome::Allowed { permits } else { Vec::new() },
            reasons: weighed.reasons,
            observed: weighed.observed,
            exempted: weighed.exempted,
            warnings: weighed.warnings,
            alarm: emergency || weighed.error,
            stamp: self.stamp,
        }
    }
}

/// A decision, and what each rule said on the way.
pub(crate) struct Evaluation {
    pub(crate) decision: Decision,
    /// Nothing if the facts were refused before any rule was asked.
    pub(crate) evaluated: Option<Evaluated>,
}

/// Ids of rules by what they said; all others did not apply.
pub(crate) struct Evaluated {
    pub(crate) permits: Vec<String>,
    pub(crate) forbids: Vec<String>,
    pub(crate) failed: Vec<String>,
}

/// What stands against a request, sorted by what counts.
#[derive(Default)]
struct Weighed {
    reasons: Vec<Reason>,
    observed: Vec<Reason>,
    exempted: Vec<String>,
    warnings: Vec<String>,
    failed: Vec<String>,
    error: bool,
}

impl Weighed {
    fn forbidden(&mut self, set: &PolicySet, rule: String, standing: &Standing<'_>) {
        let Some(note) = set.rules.note(&rule) else {
            self.reasons.push(reason(&rule, "final", "this rule forbids it"));
            return;
        };
        let (repository, now) = (&standing.facts.repository, standing.facts.now);
        if note.exemptible && set.data.exempts(&rule, repository, now) {
            self.exempted.push(rule);
            return;
        }
        let message = message::render(&note.message, standing);
        let remedy = note.remedy(standing.break_glass.allowed).to_owned();
        let into = if note.observe { &mut self.observed } else { &mut self.reasons };
        into.push(Reason { rule, remedy, message });
    }

    /// Cedar skips a policy whose evaluation fails, a forbid as well, and may then answer Allow: so every error denies, but
    /// for rules that could not have denied either.
    fn failed(&mut self, set: &PolicySet, error: &AuthorizationError) {
        let AuthorizationError::PolicyEvaluationError(error) = error;
        let id = error.policy_id().to_string();
        let what = format!("rule {id} cannot be evaluated for this request: {}", error.inner());
        if set.rules.note(&id).is_some_and(|note| note.observe) {
            self.warnings.push(message::one_line(&what));
        } else {
            self.reasons.push(evaluation_error(&what));
            self.error = true;
        }
        self.failed.push(id);
    }
}

/// The ids of the policies that made the answer, sorted.
fn determining(response: &Response) -> Vec<String> {
    let mut ids: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    ids.sort();
    ids
}

/// Facts that cannot be true together, or are too many.
fn contradiction(facts: &Facts) -> Option<Reason> {
    let principal = facts.caller.principal();
    if !facts.caller.is_consistent() {
        let kind = match facts.caller {
            Caller::Token(_) => "API token",
            Caller::Workload(_) => "CI job as its record says",
            Caller::Machine(_) => "machine",
            Caller::Person(_) => "person",
        };
        return Some(reason(
            "builtin/not-a-caller",
            "final",
            &format!("{principal} is no {kind}, and is asked as one"),
        ));
    }
    let approvals = facts.ask.signing().map_or(0, |signing| signing.approvals.len());
    let many = approvals > MAX_APPROVALS;
    many.then(|| evaluation_error(&format!("{approvals} approvals are given, the limit is {MAX_APPROVALS}")))
}

fn unknown_repository(facts: &Facts) -> Reason {
    let message = format!(
        "{} is served by no entry of repositories.toml: ask an operator to add it, or check its spelling",
        facts.repository
    );
    reason("builtin/unknown-repository", "act", &message)
}

fn no_permit(facts: &Facts) -> Reason {
    let message = format!("no rule permits {} to do this in {}", facts.caller.principal(), facts.repository);
    reason("builtin/no-permit", "final", &message)
}

fn not_evaluated(error: &RequestError) -> Reason {
    evaluation_error(&format!("this request cannot be evaluated: {error}"))
}

const EVALUATION_ERROR: &str = "builtin/evaluation-error";

fn evaluation_error(what: &str) -> Reason {
    let message = format!("{what}; tell an operator, who can correct the policy");
    reason(EVALUATION_ERROR, "act", &message)
}

fn reason(rule: &str, remedy: &str, message: &str) -> Reason {
    Reason { rule: rule.to_owned(), remedy: remedy.to_owned(), message: message::one_line(message) }
}

#[cfg(test)]
mod properties;
