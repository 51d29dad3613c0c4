//! Who asks: four kinds of caller, each with the limits of its credential.

use record::{Ci, Principal, Repository, Time, TokenId};
use serde::{Deserialize, Serialize};

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Caller {
    /// An API token.
    Token(Token),
    /// A CI job.
    Workload(Box<Workload>),
    /// A machine with a client certificate.
    Machine(Machine),
    /// A person.
    Person(Person),
}

/// The limits of an API token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// `token:<id>`.
    pub principal: Principal,
    /// Whether it has the scope `sign`.
    pub scopes_sign: bool,
    /// What it is for: exact names, or prefixes that end in '/'.
    pub repositories: Vec<String>,
    /// When it ends; at that very time it is over.
    pub expires: Time,
}

/// A CI job, by what its provider has signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// `ci:<issuer>/<immutable id>`, both as `ci` has them.
    pub principal: Principal,
    /// The job.
    pub ci: Ci,
    /// When its credential ends.
    pub expires: Time,
}

/// A machine, by its client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// `machine:<SPIFFE id or SHA-256 of the public key>`.
    pub principal: Principal,
    /// When the certificate ends.
    pub expires: Time,
}

/// A person, by a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// `person:<name in the roster>`.
    pub principal: Principal,
    /// Whether the roster in force has the person.
    pub active: bool,
    /// When the login ends.
    pub expires: Time,
}

impl Caller {
    /// Who it is.
    pub fn principal(&self) -> &Principal {
        match self {
            Self::Token(token) => &token.principal,
            Self::Workload(workload) => &workload.principal,
            Self::Machine(machine) => &machine.principal,
            Self::Person(person) => &person.principal,
        }
    }

    /// When the credential ends; at that very time it is over.
    pub fn expires(&self) -> Time {
        match self {
            Self::Token(token) => token.expires,
            Self::Workload(workload) => workload.expires,
            Self::Machine(machine) => machine.expires,
            Self::Person(person) => person.expires,
        }
    }

    /// The CI job, if it is one.
    pub fn ci(&self) -> Option<&Ci> {
        match self {
            Self::Workload(workload) => Some(&workload.ci),
            _ => None,
        }
    }

    /// Whether this is a token whose list of repositories covers `repository`.
    pub fn covers(&self, repository: &Repository) -> bool {
        match self {
            Self::Token(token) => token.repositories.iter().any(|prefix| repository.is_under(prefix)),
            _ => false,
        }
    }

    /// Whether the principal is one of this kind, and of this job.
    pub(crate) fn is_consistent(&self) -> bool {
        let principal = self.principal().as_str();
        match self {
            Self::Token(_) => is_token(principal),
            Self::Workload(job) => principal == format!("ci:{}/{}", job.ci.issuer, job.ci.repository_id),
            Self::Machine(_) => principal.starts_with("machine:"),
            Self::Person(_) => principal.starts_with("person:"),
        }
    }
}

pub(crate) fn is_token(principal: &str) -> bool {
    principal.strip_prefix("token:").is_some_and(|id| TokenId::parse(id).is_ok())
}

pub(crate) fn is_person(principal: &str) -> bool {
    principal.starts_with("person:") && Principal::parse(principal).is_ok()
}

/// Whether a team may have this member.
pub(crate) fn is_member(principal: &str) -> bool {
    let kind = principal.split_once(':').map_or("", |(kind, _)| kind);
    is_token(principal)
        || (["ci", "machine", "person"].contains(&kind) && Principal::parse(principal).is_ok())
}
