//! The intent: everything that will be signed and why, written down before any key is used.
//!
//! The bytes to sign are a pure function of an intent and the files it names by hash; daemon and keeper both build
//! them, and the intent's `payload` is the SHA-256 they must agree on. No two of them with other bytes end alike: a completion names
//! the payload in the hash that its key signs, and the intent names it in that hash too.

use crate::{
    Algorithm, Digest, Format, KeeperName, KeyId, MessageTooLong, Nonce, Origin, PayloadDigest, Principal,
    Purpose, Repository, RequestId, Sha256, Sha384, SignedData, Tag, Time,
};
use serde::{Deserialize, Serialize};

/// Most changes in one targets version: keeps the leaf under [`crate::MAX_LEAF_BYTES`] together with the byte check.
pub const MAX_CHANGES: usize = 200;

/// One signature that is about to be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The log it stands in.
    pub log: Origin,
    /// The only keeper that may act on it, and whose word closes it.
    pub keeper: KeeperName,
    /// The key to use.
    pub key: KeyId,
    /// The purpose of that key.
    pub purpose: Purpose,
    /// The kind of bytes.
    pub format: Format,
    /// When it was made; a keeper refuses it when it is more than five minutes away from its own clock.
    pub time: Time,
    /// Makes two intents of equal content two leaves.
    pub nonce: Nonce,
    /// The repository, which is the collection's GUN.
    pub repository: Repository,
    /// The policy under which it was allowed; absent only where the service acts by itself (snapshot, timestamp).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyStamp>,
    /// Who asked, where one request stands behind the whole intent (root and its certificate).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<Requested>,
    /// The index of an earlier intent for the same change whose outcome was failed, void or unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u64>,
    /// What the bytes are built from.
    pub action: Action,
    /// SHA-256 of the exact bytes to sign.
    pub payload: Sha256,
    /// Their SHA-384, if and only if the key is on P-384: what it signs, and its completion names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_sha384: Option<Sha384>,
}

impl Intent {
    /// What the completion of this intent names of its payload.
    pub fn digest(&self) -> PayloadDigest {
        self.payload_sha384.map_or(PayloadDigest::Sha256(self.payload), PayloadDigest::Sha384)
    }

    /// Names the bytes that a key of this kind shall sign; gives what it signs of them.
    pub fn name_payload(
        &mut self,
        algorithm: Algorithm,
        payload: &[u8],
    ) -> Result<SignedData, MessageTooLong> {
        let data = SignedData::of(algorithm, payload)?;
        self.payload = Sha256::of(payload);
        self.payload_sha384 = match &data {
            SignedData::Sha384(sha384) => Some(*sha384),
            SignedData::Sha256(_) | SignedData::Message(_) => None,
        };
        Ok(data)
    }
}

/// The hashes of the policy set and schema that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyStamp {
    /// SHA-256 over all policies and data in force.
    pub set: Sha256,
    /// SHA-256 of the Cedar schema.
    pub schema: Sha256,
}

/// The request behind a change, and the rules that allowed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// The request.
    pub request: RequestId,
    /// Who made it.
    pub by: Principal,
    /// Ids of the rules that permitted it, sorted.
    pub rules: Vec<String>,
    /// SHA-256 of the `allowed` entry that has everything by which it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Sha256>,
    /// SHA-256 of the statement that people have approved, where the key's rule asks for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<Sha256>,
}

/// What will be signed. Versions are TUF versions, from 1; times have whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// The X.509 certificate that Docker Content Trust wraps a root key in: CN = the exact GUN, self-signed.
    RootCertificate {
        /// The certificate's serial number, 128 bits.
        serial: Nonce,
        /// Start of its validity.
        not_before: Time,
        /// End of its validity.
        not_after: Time,
    },
    /// Root metadata.
    Root {
        /// TUF version.
        version: u64,
        /// TUF expiry.
        expires: Time,
        /// SHA-256 of the DER of the root key's certificate.
        certificate: Sha256,
        /// The key of each role.
        roles: RoleKeys,
    },
    /// Targets metadata: the previous version with these changes applied.
    Targets {
        /// TUF version.
        version: u64,
        /// TUF expiry.
        expires: Time,
        /// Payload hash of the version that the changes are applied to; absent for a collection's first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prev: Option<Sha256>,
        /// The changes, sorted by tag, one a tag, at most [`MAX_CHANGES`].
        changes: Vec<Change>,
    },
    /// Snapshot metadata, naming the signed root and targets files.
    Snapshot {
        /// TUF version.
        version: u64,
        /// TUF expiry.
        expires: Time,
        /// The signed root file.
        root: FileRef,
        /// The signed targets file.
        targets: FileRef,
    },
    /// Timestamp metadata, naming the signed snapshot file.
    Timestamp {
        /// TUF version.
        version: u64,
        /// TUF expiry.
        expires: Time,
        /// The signed snapshot file.
        snapshot: FileRef,
    },
}

impl Action {
    /// The purpose a key must have for this action.
    pub fn purpose(&self) -> Purpose {
        match self {
            Self::RootCertificate { .. } | Self::Root { .. } => Purpose::Root,
            Self::Targets { .. } => Purpose::Targets,
            Self::Snapshot { .. } => Purpose::Snapshot,
            Self::Timestamp { .. } => Purpose::Timestamp,
        }
    }

    /// The kind of bytes this action gives.
    pub fn format(&self) -> Format {
        match self {
            Self::RootCertificate { .. } => Format::DctRootCertificate,
            _ => Format::DctMetadata,
        }
    }

    /// The TUF version, for actions that make metadata.
    pub fn version(&self) -> Option<u64> {
        match self {
            Self::RootCertificate { .. } => None,
            Self::Root { version, .. }
            | Self::Targets { version, .. }
            | Self::Snapshot { version, .. }
            | Self::Timestamp { version, .. } => Some(*version),
        }
    }

    /// When what is signed ends to be valid.
    pub fn expires(&self) -> Time {
        match self {
            Self::RootCertificate { not_after, .. } => *not_after,
            Self::Root { expires, .. }
            | Self::Targets { expires, .. }
            | Self::Snapshot { expires, .. }
            | Self::Timestamp { expires, .. } => *expires,
        }
    }
}

/// The keys of a collection's four roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleKeys {
    /// Signs root metadata.
    pub root: KeyId,
    /// Signs targets metadata.
    pub targets: KeyId,
    /// Signs snapshot metadata.
    pub snapshot: KeyId,
    /// Signs timestamp metadata.
    pub timestamp: KeyId,
}

impl RoleKeys {
    /// The key of `purpose`.
    pub fn of(&self, purpose: Purpose) -> KeyId {
        match purpose {
            Purpose::Root => self.root,
            Purpose::Targets => self.targets,
            Purpose::Snapshot => self.snapshot,
            Purpose::Timestamp => self.timestamp,
        }
    }
}

/// One tag that shall name one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The tag: the TUF target's name.
    pub tag: Tag,
    /// The image.
    pub digest: Digest,
    /// Size of its manifest in bytes.
    pub size: u64,
    /// Media type of its manifest, as the registry's bytes say.
    pub media_type: String,
    /// Who asked, and why it was allowed.
    pub requested: Requested,
}

/// A file by its SHA-256 and length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// SHA-256 of all bytes.
    pub sha256: Sha256,
    /// Number of bytes.
    pub length: u64,
}

impl FileRef {
    /// Names these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: Sha256::of(bytes), length: u64::try_from(bytes.len()).unwrap_or(u64::MAX) }
    }
}
