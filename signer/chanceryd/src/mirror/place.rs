//! A place that holds a copy of the published log: a folder or a bucket, by one set of calls.
//!
//! Promises: what [`Place::write`] has answered is durable there, and a reader sees either the file before or the whole
//! new one; every call ends within [`DEADLINE`]. It does not know what the files mean.

use super::{
    bucket::Bucket,
    credentials::CredentialsError,
    folder::{Calls, Folder},
};
use crate::config::{MirrorConfig, MirrorPlace};
use std::{io, path::PathBuf, time::Duration};
use tlog::TilePath;

/// For one call.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
/// The file that is written last, and the only one that is ever replaced.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// A folder or a bucket.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Folder(Folder),
    Bucket(Bucket),
}

/// Why a call of a place failed. Trying again may help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bucket's server; no secret is in it.
    #[error("{0}")]
    Server(String),
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No answer in time.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Slow,
    /// A file is larger than any of its kind.
    #[error("the file {path} has {bytes} bytes, and {most} are the most that it can have")]
    TooLarge {
        /// Its path in the mirror.
        path: String,
        /// Its length.
        bytes: u64,
        /// The limit.
        most: usize,
    },
}

impl Place {
    /// Opens the place of a mirror; nothing is written there.
    pub(super) fn open(config: &MirrorConfig, calls: &Calls) -> Result<Self, PlaceError> {
        match &config.to {
            MirrorPlace::Folder(root) => Ok(Self::Folder(Folder::new(root, config.entries, calls.clone()))),
            MirrorPlace::Bucket(bucket) => Bucket::open(bucket, config.entries).map(Self::Bucket),
        }
    }

    /// The bytes of a file; `None` if there is none. One of more than `most` bytes is an error.
    pub(super) async fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, PlaceError> {
        in_time(async {
            match self {
                Self::Folder(folder) => folder.read(path, most).await,
                Self::Bucket(bucket) => bucket.read(path, most).await,
            }
        })
        .await
    }

    /// Whether there is such a file.
    pub(super) async fn has(&self, path: &str) -> Result<bool, PlaceError> {
        in_time(async {
            match self {
                Self::Folder(folder) => folder.has(path).await,
                Self::Bucket(bucket) => bucket.has(path).await,
            }
        })
        .await
    }

    /// Writes a file, or replaces it as a whole.
    pub(super) async fn write(&self, path: &str, bytes: Vec<u8>) -> Result<(), PlaceError> {
        in_time(async {
            match self {
                Self::Folder(folder) => folder.write(path, bytes).await,
                Self::Bucket(bucket) => bucket.write(path, bytes).await,
            }
        })
        .await
    }

    /// Whether there is any entry bundle.
    pub(super) async fn has_entries(&self) -> Result<bool, PlaceError> {
        in_time(async {
            match self {
                Self::Folder(folder) => folder.has_entries().await,
                Self::Bucket(bucket) => bucket.has_entries().await,
            }
        })
        .await
    }

    /// The tiles of which there is a partial one, each by the path that it has when it is full. Reads the names of all
    /// files in a bucket, a thousand a call: there it has no deadline as a whole.
    pub(super) async fn partial_tiles(&self) -> Result<Vec<TilePath>, PlaceError> {
        match self {
            Self::Folder(folder) => in_time(folder.partial_tiles()).await,
            Self::Bucket(bucket) => bucket.partial_tiles().await,
        }
    }

    /// Removes every partial tile of a tile.
    pub(super) async fn remove_partials(&self, full: TilePath) -> Result<(), PlaceError> {
        in_time(async {
            match self {
                Self::Folder(folder) => folder.remove_partials(full).await,
                Self::Bucket(bucket) => bucket.remove_partials(full).await,
            }
        })
        .await
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, PlaceError>>) -> Result<T, PlaceError> {
    tokio::time::timeout(DEADLINE, call).await.unwrap_or(Err(PlaceError::Slow))
}
