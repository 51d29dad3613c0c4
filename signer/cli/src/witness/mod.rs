//! A witness of other people's logs (C2SP tlog-witness): it cosigns checkpoints, and never two that contradict each other.
//!
//! Promises: what it has cosigned last is on disk, whole and synced, before anybody has the cosignature; one process at a
//! time works on a folder; a file that is missing or damaged ends the process, and nothing but `add-log` begins a log
//! anew. After a write that failed nothing is cosigned any more. It does not know what is in a log.

mod folder;
mod http;
mod key;
mod lines;
mod memory;

pub(crate) use folder::{Answer, Witness};
pub(crate) use http::serve;
pub(crate) use key::WitnessKey;
pub(crate) use lines::Lines;

use std::path::{Path, PathBuf};

/// Why a witness's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WitnessFault {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what it was when it was written, or not of this witness or log.
    #[error("{}: {why}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Another process works on the folder.
    #[error("{}: another process works on this folder", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> WitnessFault {
    let path = path.to_owned();
    move |source| WitnessFault::Io { path, source }
}

fn state(path: &Path, why: impl Into<String>) -> WitnessFault {
    WitnessFault::State { path: path.to_owned(), why: why.into() }
}
