//! A log that goes on where another one ended: what its first leaves say of the former log and of that log's files.

use crate::wire::Blob;
use crate::{FileRef, KeyId, Nonce, Origin, Purpose, Repository, RoleKeys, Sha256, Time};
use serde::{Deserialize, Serialize};

/// Most bytes of a file in one leaf: base64 and all other members stay well under a leaf's 64 KiB.
pub const MAX_ADOPTED_BYTES: usize = 32 * 1024;
/// Most characters of the reason for which a log ended.
pub const MAX_REASON: usize = 500;
/// Most collections that may be left out: their names stay well under a leaf's 64 KiB.
pub const MAX_WITHOUT: usize = 100;

/// The log that another one continues, and where it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Continues {
    /// The former log's name.
    pub log: Origin,
    /// Its key, as a C2SP verifier key.
    pub vkey: String,
    /// Leaves under its last note.
    pub size: u64,
    /// Their Merkle root.
    pub root: Sha256,
    /// Why it ended, in its operator's words: at most [`MAX_REASON`] characters.
    pub reason: String,
    /// Collections of the former log that are not taken over, at most [`MAX_WITHOUT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Repository>,
}

/// A file of the former log that this log takes over: the newest one of a collection's role. Its bytes are in the log,
/// so that the log alone gives every file again: those that [`Self::content`] has, behind those of the `adopted-part`
/// leaves that stand directly before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopted {
    /// When.
    pub time: Time,
    /// 128 random bits.
    pub nonce: Nonce,
    /// The collection.
    pub repository: Repository,
    /// The role.
    pub role: Purpose,
    /// TUF version.
    pub version: u64,
    /// The highest version for which the former log let a key be asked, where that is above [`Self::version`]: it is never
    /// used for other content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<u64>,
    /// The key that signed it.
    pub key: KeyId,
    /// SHA-256 of the signed bytes.
    pub payload: Sha256,
    /// The signed file.
    pub file: FileRef,
    /// When it expires.
    pub expires: Time,
    /// How many `adopted-part` leaves stand directly before this one.
    pub parts: u64,
    /// The file's last bytes: at most [`MAX_ADOPTED_BYTES`].
    pub content: Blob,
}

/// Bytes of a file that is too long for one leaf: [`MAX_ADOPTED_BYTES`] of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptedPart {
    /// When.
    pub time: Time,
    /// 128 random bits.
    pub nonce: Nonce,
    /// The bytes.
    pub content: Blob,
}

/// A version for which the former log let a key be asked, of a role that has no file which could be taken over. It is
/// never used for other content: its keeper may hold it as the newest one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptedReservation {
    /// When.
    pub time: Time,
    /// 128 random bits.
    pub nonce: Nonce,
    /// The collection.
    pub repository: Repository,
    /// The role.
    pub role: Purpose,
    /// TUF version.
    pub version: u64,
    /// What the root was to be, exactly where [`Self::role`] is root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<ReservedRoot>,
}

/// All that a collection's first root is made of: no other root can follow it, so the very same is asked for again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservedRoot {
    /// The root key's certificate, DER.
    pub certificate: Blob,
    /// The keys that it names.
    pub roles: RoleKeys,
    /// When it expires.
    pub expires: Time,
}
