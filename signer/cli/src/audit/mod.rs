//! Reading and verifying the log, from a server or from files alone.
//!
//! Promises: nothing here is believed because a server says so: a note counts when the log's key signed it, an entry
//! when it is proven to be under such a note, and a newer note when it extends the last one that was seen.

mod adoption;
pub(crate) mod backup;
mod decisions;
mod ends;
pub(crate) mod evidence;
pub(crate) mod export;
mod facts;
mod matching;
mod notes;
mod proof;
pub(crate) mod search;
mod source;
mod trust;
mod verify;
mod walk;
pub(crate) mod watch;

pub(crate) use facts::Decision;
pub(crate) use matching::End;
pub(crate) use notes::{Advanced, Memory, SeenNotes, replace, state_dir};
pub(crate) use proof::{Inclusion, Prover};
pub(crate) use source::{LogSource, ReadError};
pub(crate) use trust::{Accepted, Trust};
pub(crate) use verify::{Report, Witness, opened_checkpoint, verify};

/// What is wrong with a log, or with reading it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// A file could not be read; this says nothing about the log.
    #[error("cannot read the log")]
    Read(#[from] ReadError),
    /// Files that are no whole, unaltered log.
    #[error("the log does not verify: {0}")]
    Log(String),
    /// A checkpoint that the policy's witnesses have not cosigned, or not rightly.
    #[error("the checkpoint's witnesses are not those that the policy demands: {0}")]
    Witnesses(String),
    /// The log is smaller than it was.
    #[error("the log shrank: a note of {seen} entries was seen before, now it has {now}")]
    Shrunk {
        /// Entries before.
        seen: u64,
        /// Entries now.
        now: u64,
    },
    /// Files that are older than what they are compared with, which accuses nobody.
    #[error(
        "these files have {has} entries, and the checkpoint that was given has {seen}: they cannot be compared"
    )]
    Behind {
        /// Entries under the checkpoint.
        seen: u64,
        /// Entries in the files.
        has: u64,
    },
    /// The log is not the one that was seen.
    #[error(
        "the log of {now} entries does not extend the one of {seen} that was seen before: it was rewritten"
    )]
    Forked {
        /// Entries before.
        seen: u64,
        /// Entries now.
        now: u64,
    },
    /// An evidence file that proves nothing.
    #[error("the evidence does not verify: {0}")]
    Evidence(String),
    /// A folder that is no whole, unaltered backup, or could not be read.
    #[error(transparent)]
    Backup(#[from] ::backup::BackupError),
    /// An export that is not what its manifest and the log's checkpoint say.
    #[error("the export does not verify: {0}")]
    Export(String),
    /// A range that the log does not have.
    #[error("the log has {size} entries and none from {from} to {until}")]
    NoRange {
        /// The first entry.
        from: u64,
        /// The entry behind the last one.
        until: u64,
        /// The log's size.
        size: u64,
    },
    /// A result could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Writing failed; where is for the caller to say.
    #[error("cannot write: {0}")]
    Io(#[from] std::io::Error),
    /// No entry names the request.
    #[error("none of the log's {size} entries names the request {request}")]
    NoRequest {
        /// What was asked for.
        request: String,
        /// The log's size.
        size: u64,
    },
    /// No such entry.
    #[error("the log has {size} entries and none with index {index}")]
    NoEntry {
        /// What was asked for.
        index: u64,
        /// The log's size.
        size: u64,
    },
    /// The memory of notes on this machine cannot be used.
    #[error("cannot use the remembered note {}: {why}", path.display())]
    Memory {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl From<AuditError> for crate::failure::Failure {
    fn from(error: AuditError) -> Self {
        use crate::{exit::Exit, failure::Failure};
        match error {
            AuditError::Read(source) => source.into(),
            AuditError::Evidence(_) | AuditError::Export(_) => Failure::new(Exit::Verification, error.to_string())
                .next("ask whoever gave it to you to make it again; the log itself is not in question yet"),
            AuditError::Write { .. } | AuditError::Io(_) => Failure::new(Exit::State, error.to_string())
                .next("give a folder that does not exist or is empty, with room for the files"),
            AuditError::Backup(source) => backup::failure(&source),
            AuditError::Behind { .. } => Failure::new(Exit::Temporary, error.to_string())
                .next("complete the folder with chancery log fetch, then verify again"),
            AuditError::NoRange { .. } => Failure::new(Exit::Usage, error.to_string()),
            AuditError::NoEntry { .. } | AuditError::NoRequest { .. } => Failure::new(Exit::NotFound, error.to_string()),
            AuditError::Memory { .. } => Failure::new(Exit::State, error.to_string())
                .next("look at the file; remove it only if you know why it is wrong"),
            AuditError::Witnesses(_) => Failure::new(Exit::Verification, error.to_string())
                .next("try again later: a witness may be away. If it lasts, ask the people who run the log and the witnesses"),
            AuditError::Log(_) | AuditError::Shrunk { .. } | AuditError::Forked { .. } => {
                Failure::new(Exit::Verification, error.to_string())
                    .next("keep the files as evidence and tell the people who run the log, by another way")
            }
        }
    }
}

#[cfg(test)]
mod of_every_kind;
#[cfg(test)]
pub(crate) mod synthetic;
