//! A backup: the folder from which a log's service can be restored, and from which anybody verifies the log.
//!
//! Promises: a folder has a manifest only if everything that it names is there and on the disk; a backup that was cut off
//! leaves the one before it whole. What never changes is never written again, so that the second backup into a folder
//! costs what the log grew by. [`verify()`] believes nothing but the log's key: every file is hashed against the manifest,
//! every leaf against the signed root, every payload against the intent that names it.
//!
//! Does not know: databases, sockets, or what the leaves do. Holds no key, no PIN, and of tokens only what the leaves
//! have, the hash of the secret. docs/backup-format.md has the byte tables.

mod contents;
mod draft;
mod fault;
mod files;
mod layout;
mod manifest;
mod payloads;
mod verify;

pub use contents::{BackedLeaf, Contents};
pub use draft::{Draft, DraftFile, Facts};
pub use fault::BackupError;
pub use layout::{payload_path, payload_paths};
pub use manifest::{MANIFEST, Manifest, NamedFile, RequestRow, SCHEMA};
pub use verify::{Verified, verify};

/// The longest payload: an intent's bytes went to a keeper in one frame.
pub const MAX_PAYLOAD_BYTES: usize = record::wire::MAX_FRAME;
