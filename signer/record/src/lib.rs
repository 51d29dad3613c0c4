//! The words of the service: what an image, a key, an intent and an outcome are, and their one canonical encoding.
//!
//! Promises: every value was parsed once, by the grammar its specification gives, and cannot hold anything else;
//! [`canonical::encode`] is the only way to bytes, and [`canonical::decode`] accepts nothing but what it wrote.
//! It does not know: networks, files, tokens, policy, or how a leaf gets into the log.

mod algorithm;
pub mod canonical;
mod ci;
mod clock;
mod completion;
mod digest;
mod ids;
mod image;
mod intent;
mod key;
mod leaf;
mod piv;
mod signature;
mod spki;
mod succession;
pub mod wire;

pub use algorithm::Algorithm;
pub use ci::{Ci, CiText, MAX_CI_TEXT};
pub use clock::{Clock, FixedClock, SystemClock, Time, TimeError};
pub use completion::{Completion, CompletionError, wrong_signatures};
pub use digest::{Digest, DigestError, Sha256, Sha256Stream, Sha384};
pub use ids::{KeeperName, Nonce, Origin, Principal, RequestId, TokenId};
pub use image::{ImageRef, Repository, Tag};
pub use intent::{Action, Change, FileRef, Intent, MAX_CHANGES, PolicyStamp, Requested, RoleKeys};
pub use key::{Format, KeyId, Purpose};
pub use leaf::{
    Allowance, Denial, Event, Evidence, FailureCode, Genesis, KeeperRecord, KeyRecord, Leaf, LeafError,
    MAX_BEFORE, MAX_CLAIMED, MAX_LEAF_BYTES, Outcome, OutcomeKind, Reason, TokenFault,
};
pub use piv::PivSlot;
pub use signature::{
    MAX_MESSAGE_BYTES, Message, MessageTooLong, PayloadDigest, Signature, SignatureError, SignedData,
};
pub use spki::{PSS_SALT, Spki, SpkiError};
pub use succession::{
    Adopted, AdoptedPart, AdoptedReservation, Continues, MAX_ADOPTED_BYTES, MAX_REASON, MAX_WITHOUT,
    ReservedRoot,
};

/// A name or number that does not fit its grammar. The text says which rule was broken and never echoes more than
/// the offending value's first 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?}: {why}")]
pub struct GrammarError {
    what: &'static str,
    value: String,
    why: &'static str,
}

impl GrammarError {
    pub(crate) fn new(what: &'static str, value: &str, why: &'static str) -> Self {
        Self { what, value: value.chars().take(80).collect(), why }
    }
}

/// Implements `Display`, `FromStr`-based serde and `AsRef<str>` for a newtype over a `String` field named `0`
/// with a `parse(&str) -> Result<Self, GrammarError>` constructor.
macro_rules! string_newtype {
    ($name:ident) => {
        impl $name {
            /// The text, as it was parsed.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::GrammarError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(d)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use string_newtype;
