//! Docker Content Trust: the dialect of TUF that the notary clients speak.
//!
//! Shapes: `docs` of notary 0.7 and the Go types of `theupdateframework/notary/tuf/data`. The dialect differs from TUF
//! 1.0: types are capitalised, there is no `spec_version`, expiry has any time zone, snapshot names have no `.json`, the
//! root key is wrapped in a certificate whose common name is the repository, ECDSA signatures are `r || s`.

mod adopted;
pub mod canonical_json;
pub mod certificate;
mod fields;
mod file;
mod key;
pub(crate) mod root;
pub(crate) mod snapshot;
pub(crate) mod targets;

pub use adopted::{AdoptedError, read_adopted};
pub(crate) use file::envelope;
pub use file::{FileError, FileSignature, MAX_FILE_BYTES, MAX_SIGNATURES, SignedFile};
pub use key::{certificate_key_id, key_id};
pub use root::{RoleKey, RootView};
pub use targets::Target;

use record::Purpose;

/// A collection's four roles; delegations are not roles that the service signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Names the keys of all roles.
    Root,
    /// Names the images.
    Targets,
    /// Names the newest root and targets files.
    Snapshot,
    /// Names the newest snapshot file.
    Timestamp,
}

impl Role {
    /// All roles, in the order in which one names the next.
    pub const ALL: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];

    /// The name in URLs and in other files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }

    /// The value of `_type`; clients refuse any other spelling.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Root => "Root",
            Self::Targets => "Targets",
            Self::Snapshot => "Snapshot",
            Self::Timestamp => "Timestamp",
        }
    }
}

impl From<Purpose> for Role {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Root => Self::Root,
            Purpose::Targets => Self::Targets,
            Purpose::Snapshot => Self::Snapshot,
            Purpose::Timestamp => Self::Timestamp,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
