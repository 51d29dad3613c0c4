//! Reading and verifying the log, from a server or from files alone.
//!
//! Promises: nothing here is believed because a server says so: a note counts when the log's key signed it, an entry
//! when it is proven to be under such a note, and a newer note when it extends the last one that was seen.

mod ends;
mod notes;
mod proof;
mod source;
mod verify;

pub(crate) use notes::{Advanced, Memory, SeenNotes, replace, state_dir};
pub(crate) use proof::{Inclusion, Prover};
pub(crate) use source::{LogSource, ReadError};
pub(crate) use verify::{Report, opened_checkpoint, verify};

/// What is wrong with a log, or with reading it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// A file could not be read; this says nothing about the log.
    #[error("cannot read the log")]
    Read(#[from] ReadError),
    /// Files that are no whole, unaltered log.
    #[error("the log does not verify: {0}")]
    Log(String),
    /// The log is smaller than it was.
    #[error("the log shrank: a note of {seen} entries was seen before, now it has {now}")]
    Shrunk {
        /// Entries before.
        seen: u64,
        /// Entries now.
        now: u64,
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
            AuditError::NoEntry { .. } => Failure::new(Exit::NotFound, error.to_string()),
            AuditError::Memory { .. } => Failure::new(Exit::State, error.to_string())
                .next("look at the file; remove it only if you know why it is wrong"),
            AuditError::Log(_) | AuditError::Shrunk { .. } | AuditError::Forked { .. } => {
                Failure::new(Exit::Verification, error.to_string())
                    .next("keep the files as evidence and tell the people who run the log, by another way")
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod synthetic;
