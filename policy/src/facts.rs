//! What is asked and what is answered: the facts of one decision, and the decision.
//!
//! Promises: nothing here is optional out of convenience. Whoever asks must have looked at the token, the log and the
//! registry first. It does not know how those facts were found.

use record::{Digest, PolicyStamp, Principal, Reason, Repository, Tag, Time};

/// Everything that one decision depends on, besides the policy set.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Who asks.
    pub caller: Caller,
    /// For which repository.
    pub repository: Repository,
    /// For what.
    pub ask: Ask,
    /// The time of the decision.
    pub now: Time,
}

/// An authenticated caller with the limits of its credential.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who it is. Only principals of the kind `token` can be allowed anything.
    pub principal: Principal,
    /// Whether the credential has the scope `sign`.
    pub scopes_sign: bool,
    /// What the credential is for: exact names, or prefixes that end in '/'.
    pub repositories: Vec<String>,
    /// When the credential ends; at that very time it is over.
    pub expires: Time,
}

impl Caller {
    /// Whether the credential's list of repositories covers `repository`.
    pub fn covers(&self, repository: &Repository) -> bool {
        self.repositories.iter().any(|prefix| repository.is_under(prefix))
    }
}

/// What the caller wants.
#[derive(Debug, Clone)]
pub enum Ask {
    /// Sign a digest under a tag.
    Sign {
        /// The tag.
        tag: Tag,
        /// The digest.
        digest: Digest,
        /// What the registry says about the digest.
        manifest: Manifest,
        /// The digest that the tag is signed for now, by the collection and not by the registry.
        tag_previous: Option<Digest>,
        /// Whether the repository has a collection.
        collection_exists: bool,
    },
    /// Make the repository's collection: its keys and its root.
    CreateRepository {
        /// Whether the repository has a collection.
        collection_exists: bool,
    },
}

/// What the registry says about a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// It returned bytes that hash to the digest.
    Present {
        /// The manifest's media type.
        media_type: String,
        /// Its size in bytes.
        size: u64,
    },
    /// It says that there is no such manifest.
    Absent,
    /// It could not be asked, or gave an answer that says neither.
    Unreachable,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done. True only if a rule permits it, no rule forbids it, and every rule could be evaluated.
    pub allowed: bool,
    /// Ids of the rules that permit it, sorted; empty unless allowed.
    pub rules: Vec<String>,
    /// Everything that stands against it, sorted by rule; empty exactly if allowed.
    pub reasons: Vec<Reason>,
    /// The policy that decided.
    pub stamp: PolicyStamp,
}
