//! What is asked: the facts of one decision.
//!
//! Promises: nothing here is optional out of convenience. Whoever asks must have looked at the caller, the log, the
//! registry and the approvals first, or says of a fact that it did not look ([`Fact::NotLookedAt`]), which denies wherever a
//! repository's rule wants the fact. Facts have one canonical form ([`record::canonical`]), so a decision can be decided again
//! from what was written down. It does not know how the facts were found.

mod approval;
mod caller;
mod image;

pub use approval::{
    Approval, BreakGlass, Justification, JustificationError, MAX_APPROVALS, MAX_JUSTIFICATION, Method,
};
pub use caller::{Caller, Machine, Person, Token, Workload};
pub(crate) use caller::{is_member, is_person, is_token};
pub use image::{Attestations, Children, Manifest, Provenance, Scan};

use record::{Digest, KeyId, Purpose, Repository, Tag, Time};
use serde::{Deserialize, Serialize};

/// Everything that one decision depends on, besides the policy set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Who asks.
    pub caller: Caller,
    /// For which repository.
    pub repository: Repository,
    /// For what.
    pub ask: Ask,
    /// The time of the decision. Weekday and minute of the day, in UTC, follow from it.
    pub now: Time,
}

/// What the caller wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// May this request enter the queue? People, touches and the time of day are not asked for yet.
    RequestSign(Box<Signing>),
    /// May the key be used now?
    Sign(Box<Signing>),
    /// Make the repository's collection: its keys and its root.
    CreateRepository {
        /// Whether the repository has a collection.
        collection_exists: bool,
    },
}

impl Ask {
    /// The facts about the image, where there is one.
    pub fn signing(&self) -> Option<&Signing> {
        match self {
            Self::RequestSign(signing) | Self::Sign(signing) => Some(signing),
            Self::CreateRepository { .. } => None,
        }
    }
}

/// A digest that shall be signed under a tag, and everything about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signing {
    /// The tag.
    pub tag: Tag,
    /// The digest.
    pub digest: Digest,
    /// What the registry says about the digest.
    pub manifest: Manifest,
    /// The manifests that an index names; absent if the digest names no index.
    pub children: Fact<Children>,
    /// When the image was built, by its configuration.
    pub image_created: Fact<Time>,
    /// What others have signed about the image.
    pub attestations: Attestations,
    /// The digest that the tag is signed for now, by this service's log and not by the registry.
    pub tag_previous: Fact<Digest>,
    /// Whether the repository has a collection.
    pub collection_exists: bool,
    /// The key that would sign.
    pub key: Fact<SigningKey>,
    /// How much was signed in the hour before now.
    pub signed_last_hour: Fact<Signed>,
    /// The approvals of exactly this change whose signatures were verified.
    pub approvals: Vec<Approval>,
    /// When somebody touched the token that signs, for this request.
    pub touched: Fact<Time>,
    /// That the caller claims an emergency.
    pub break_glass: Fact<BreakGlass>,
}

/// A fact that the host may not have looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact<T> {
    /// Nobody has looked: where a rule wants the fact, this denies.
    NotLookedAt,
    /// It was looked for, and there is none.
    Absent,
    /// What was found.
    Found(T),
}

impl<T> Fact<T> {
    /// What was found, if it was looked for and found.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(value) => Some(value),
            Self::NotLookedAt | Self::Absent => None,
        }
    }
}

/// What somebody has looked for.
impl<T> From<Option<T>> for Fact<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::Absent, Self::Found)
    }
}

/// A key, by what its keeper has shown of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningKey {
    /// Its id.
    pub id: KeyId,
    /// What it is for.
    pub purpose: Purpose,
    /// Whether its maker's attestation proves that it was made in hardware and cannot leave it.
    pub attested: bool,
    /// Whether the hardware asks for a touch at each signature.
    pub touch_always: bool,
}

/// Numbers of signatures on images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// That this caller asked for, in any repository.
    pub by_caller: u32,
    /// In this repository, whoever asked.
    pub of_repository: u32,
}
