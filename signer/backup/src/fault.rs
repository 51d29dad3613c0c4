//! What is wrong with a backup, or with reading or writing one.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why there is no backup, or none that can be believed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no such folder: this says nothing about any backup.
    #[error("there is no folder {}", path.display())]
    NoFolder {
        /// What was named.
        path: PathBuf,
    },
    /// The file system said no; trying again may help.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file system said no; the backup before this one is still whole.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder is not a whole, unaltered backup of this log.
    #[error("the backup does not verify: {place}: {why}")]
    Wrong {
        /// The file, or what in it.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// The folder cannot take this backup.
    #[error("{} cannot take this backup: {why}", path.display())]
    Unfit {
        /// The folder.
        path: PathBuf,
        /// What is in the way.
        why: String,
    },
}

pub(crate) fn wrong(place: impl Into<String>, why: impl ToString) -> BackupError {
    BackupError::Wrong { place: place.into(), why: why.to_string() }
}

pub(crate) fn unreadable(path: &Path) -> impl Fn(io::Error) -> BackupError + use<'_> {
    |source| BackupError::Read { path: path.to_owned(), source }
}

pub(crate) fn unwritable(path: &Path) -> impl Fn(io::Error) -> BackupError + use<'_> {
    |source| BackupError::Write { path: path.to_owned(), source }
}
