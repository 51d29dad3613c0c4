//! `[[workload]]`: which CI jobs count as one identity, by ids that its provider never gives again.

use super::{DataError, check};
use crate::glob::Glob;
use record::{Ci, CiText};
use serde::Deserialize;

/// What starts a job whose code somebody with write access has put there, unless the operator says otherwise.
const EVENTS: [&str; 6] = ["push", "web", "workflow_dispatch", "release", "schedule", "merge_group"];

/// An identity of CI jobs and the conditions on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadRules {
    /// Its name in the file.
    pub name: String,
    /// The issuer's name in the daemon's configuration.
    pub issuer: String,
    /// The immutable id of the source repository, project, pipeline or service account.
    pub repository_id: String,
    /// The immutable id of its owner; a repository that is made again by others has another.
    pub owner_id: Option<String>,
    /// Git references that may run; none given: any.
    pub refs: Option<Vec<Glob>>,
    /// Whether the reference must be protected.
    pub ref_protected: bool,
    /// Workflow files, exactly; none given: any.
    pub workflows: Option<Vec<String>>,
    /// References at which that file may be read; none given: any.
    pub workflow_refs: Option<Vec<Glob>>,
    /// Deployment environments; none given: any, or none.
    pub environments: Option<Vec<String>>,
    /// What may have started the job; none given: what nobody from outside can start.
    pub events: Option<Vec<String>>,
    /// Whether the provider's own machine must run it.
    pub hosted_runner: bool,
}

/// Which conditions of a binding a job fulfils. Without a binding all are false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Conditions {
    pub(crate) bound: bool,
    pub(crate) reference: bool,
    pub(crate) ref_protected: bool,
    pub(crate) workflow: bool,
    pub(crate) workflow_ref: bool,
    pub(crate) environment: bool,
    pub(crate) event: bool,
    pub(crate) runner: bool,
}

impl Conditions {
    fn failures(&self) -> usize {
        let all = [
            self.reference,
            self.ref_protected,
            self.workflow,
            self.workflow_ref,
            self.environment,
            self.event,
            self.runner,
        ];
        all.iter().filter(|met| !**met).count()
    }
}

/// The binding that fits a job best, and how well: a job is let in exactly if one binding fits wholly.
pub(crate) fn best<'a>(
    bindings: impl Iterator<Item = &'a WorkloadRules>,
    ci: &Ci,
) -> Option<(&'a WorkloadRules, Conditions)> {
    let bound = bindings.filter(|rules| rules.names(ci)).map(|rules| (rules, rules.conditions(ci)));
    bound.min_by_key(|(_, conditions)| conditions.failures())
}

impl WorkloadRules {
    /// Whether the job is this identity: issuer and immutable ids, never a name.
    pub(crate) fn names(&self, ci: &Ci) -> bool {
        let owner = ci.owner_id.as_ref().map(CiText::as_str);
        self.issuer == ci.issuer.as_str()
            && self.repository_id == ci.repository_id.as_str()
            && self.owner_id.as_deref().is_none_or(|id| owner == Some(id))
    }

    fn conditions(&self, ci: &Ci) -> Conditions {
        let event = match (&self.events, &ci.event) {
            (Some(events), Some(event)) => events.iter().any(|e| e == event.as_str()),
            (None, Some(event)) => EVENTS.contains(&event.as_str()),
            (Some(_), None) => false,
            // Providers whose jobs no event starts.
            (None, None) => true,
        };
        Conditions {
            bound: true,
            reference: covered(self.refs.as_deref(), ci.reference.as_ref()),
            ref_protected: ci.ref_protected || !self.ref_protected,
            workflow: listed(self.workflows.as_deref(), ci.workflow.as_ref()),
            workflow_ref: covered(self.workflow_refs.as_deref(), ci.workflow_ref.as_ref()),
            environment: listed(self.environments.as_deref(), ci.environment.as_ref()),
            event,
            runner: ci.hosted_runner || !self.hosted_runner,
        }
    }

    /// What may have started a job, for a denial.
    pub(crate) fn events_text(&self) -> String {
        self.events.as_ref().map_or_else(|| EVENTS.join(", "), |events| events.join(", "))
    }
}

fn covered(patterns: Option<&[Glob]>, text: Option<&CiText>) -> bool {
    patterns.is_none_or(|all| text.is_some_and(|text| all.iter().any(|glob| glob.covers(text.as_str()))))
}

fn listed(names: Option<&[String]>, text: Option<&CiText>) -> bool {
    names.is_none_or(|all| text.is_some_and(|text| all.iter().any(|name| name == text.as_str())))
}

/// The entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWorkload {
    name: String,
    issuer: String,
    repository_id: String,
    owner_id: Option<String>,
    refs: Option<Vec<String>>,
    #[serde(default = "yes")]
    ref_protected: bool,
    workflows: Option<Vec<String>>,
    workflow_refs: Option<Vec<String>>,
    environments: Option<Vec<String>>,
    events: Option<Vec<String>>,
    #[serde(default = "yes")]
    hosted_runner: bool,
}

fn yes() -> bool {
    true
}

impl RawWorkload {
    pub(super) fn check(self) -> Result<WorkloadRules, DataError> {
        check::name("workload", &self.name)?;
        let place = |key: &str| format!("workload {:?}, {key}", self.name);
        let ids = [
            ("issuer", Some(&self.issuer)),
            ("repository_id", Some(&self.repository_id)),
            ("owner_id", self.owner_id.as_ref()),
        ];
        for (key, id) in ids {
            if let Some(id) = id.filter(|id| CiText::parse(id).is_err()) {
                return Err(check::bad(
                    &place(key),
                    id,
                    "is no id: write it in quotes, as the provider's token has it",
                ));
            }
        }
        Ok(WorkloadRules {
            refs: check::globs(&place("refs"), self.refs)?,
            workflows: check::nonempty(&place("workflows"), self.workflows)?,
            workflow_refs: check::globs(&place("workflow_refs"), self.workflow_refs)?,
            environments: check::nonempty(&place("environments"), self.environments)?,
            events: check::nonempty(&place("events"), self.events)?,
            ref_protected: self.ref_protected,
            hosted_runner: self.hosted_runner,
            issuer: self.issuer,
            repository_id: self.repository_id,
            owner_id: self.owner_id,
            name: self.name,
        })
    }
}
