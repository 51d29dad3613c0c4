//! Keys: their identity, and what they are for.

use crate::Sha256;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A key's identity everywhere in Chancery: the SHA-256 of its DER `SubjectPublicKeyInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(Sha256);

impl KeyId {
    /// The id of the key with this DER.
    pub(crate) fn of_spki(der: &[u8]) -> Self {
        Self(Sha256::of(der))
    }

    /// The bare hash.
    pub fn sha256(&self) -> Sha256 {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::str::FromStr for KeyId {
    type Err = crate::DigestError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// What a key may sign. A key has exactly one purpose, in its charter and in the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Root metadata of collections, and the certificate of the root key itself.
    Root,
    /// Targets metadata.
    Targets,
    /// Snapshot metadata.
    Snapshot,
    /// Timestamp metadata.
    Timestamp,
}

impl Purpose {
    /// All purposes, in the order of a collection's files.
    pub const ALL: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];

    /// The word that charters, metrics and TUF use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Purpose {
    type Err = crate::GrammarError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|p| p.as_str() == text)
            .ok_or_else(|| crate::GrammarError::new("purpose", text, "root, targets, snapshot or timestamp"))
    }
}

/// The kind of bytes that an intent asks to have signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `TBSCertificate` of a collection's root key (RFC 5280), as Docker Content Trust wants it.
    DctRootCertificate,
    /// Canonical JSON of a `signed` member, Docker Content Trust's dialect of TUF.
    DctMetadata,
}
