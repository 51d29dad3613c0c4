//! Where the published files of a log come from: a folder, or a server.

use crate::{exit::Exit, failure::Failure};
use api::{Client, ClientError, MAX_LOG_FILE};
use std::{fs, io, path::PathBuf};
use tokio::runtime::Handle;

/// The files of one log.
#[derive(Debug, Clone)]
pub(crate) enum LogSource {
    /// A folder as `log fetch` writes it. No network is used.
    Dir(PathBuf),
    /// A server. Reads block their thread on this runtime, so they stand in `spawn_blocking`.
    Remote(Client, Handle),
}

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The folder's file system said no.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder has no checkpoint, or there is no folder: this is no log, which says nothing about any log.
    #[error("no log is here: there is no {}", path.display())]
    NoLog {
        /// What is missing.
        path: PathBuf,
    },
    /// The server said no.
    #[error(transparent)]
    Server(#[from] ClientError),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Server(error) => error.into(),
            ReadError::File { .. } | ReadError::NoLog { .. } => Self::new(Exit::NotFound, error.to_string())
                .next("give a folder that chancery log fetch has written, or a URL"),
        }
    }
}

impl LogSource {
    /// The bytes of a published file by its path in the log, or `None` where there is none.
    pub(crate) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ReadError> {
        match self {
            Self::Dir(dir) => read_file(dir.join(path)),
            Self::Remote(client, runtime) if path == "checkpoint" => {
                Ok(Some(runtime.block_on(client.log_checkpoint())?.into_bytes()))
            }
            Self::Remote(client, runtime) => Ok(runtime.block_on(client.log_file(path))?),
        }
    }

    /// The bytes of the checkpoint, without which there is no log.
    pub(crate) fn checkpoint(&self) -> Result<Vec<u8>, ReadError> {
        let missing = || match self {
            Self::Dir(dir) if dir.is_dir() => dir.join("checkpoint"),
            Self::Dir(dir) => dir.clone(),
            Self::Remote(..) => "checkpoint".into(),
        };
        self.read("checkpoint")?.ok_or_else(|| ReadError::NoLog { path: missing() })
    }

    pub(crate) fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(..))
    }
}

fn read_file(path: PathBuf) -> Result<Option<Vec<u8>>, ReadError> {
    let end = fs::metadata(&path).and_then(|about| {
        if about.len() > MAX_LOG_FILE as u64 {
            return Err(io::Error::other(format!("longer than {MAX_LOG_FILE} bytes")));
        }
        fs::read(&path)
    });
    match end {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReadError::File { path, source }),
    }
}
