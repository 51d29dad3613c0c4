//! Where a policy set comes from: the texts, how they are read from a directory, and the hash that names them all.
//!
//! Promises: what is hashed is exactly what is loaded. It does not know what the texts mean.

use record::Sha256;
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Most `.cedar` files in a directory: each is a topic, and a person must be able to read them all.
pub const MAX_POLICY_FILES: usize = 64;
/// Largest `.cedar` file in bytes: more than anybody reads.
pub const MAX_POLICY_FILE_BYTES: usize = 64 * 1024;
/// Largest `repositories.toml` in bytes: room for every entry that the limits on entries allow.
pub const MAX_DATA_BYTES: usize = 4 * 1024 * 1024;

/// Largest `tests.toml` in bytes.
pub const MAX_TESTS_BYTES: usize = 4 * 1024 * 1024;

const DATA_FILE: &str = "repositories.toml";
const TESTS_FILE: &str = "tests.toml";

/// The operator's texts.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The text of `repositories.toml`.
    pub data: String,
    /// The operator's policies: file name and text; may be empty.
    pub cedar: Vec<(String, String)>,
    /// The text of `tests.toml`, if there is one: what the set must decide in order to be loaded. It decides nothing, and the
    /// hash of the set does not cover it.
    pub tests: Option<String>,
}

/// Why the texts cannot be had or are too many.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or the directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is longer than its limit.
    #[error("{name} has more than {limit} bytes: split it, or cover many repositories with one prefix")]
    TooLong {
        /// Which one.
        name: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// Too many policy files.
    #[error("more than {MAX_POLICY_FILES} .cedar files: put policies that belong together into one file")]
    TooManyFiles,
    /// Two files of one name.
    #[error("two policy files are named {0:?}: errors could not say which one they mean; rename one")]
    SameName(String),
}

impl Sources {
    pub(crate) fn read_directory(directory: &Path) -> Result<Self, SourceError> {
        let data = read_text(&directory.join(DATA_FILE), MAX_DATA_BYTES)?;
        let mut cedar = Vec::new();
        for path in policy_files(directory)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            cedar.push((name, read_text(&path, MAX_POLICY_FILE_BYTES)?));
        }
        let tests = directory.join(TESTS_FILE);
        let tests = if tests.exists() { Some(read_text(&tests, MAX_TESTS_BYTES)?) } else { None };
        Ok(Self { data, cedar, tests })
    }

    /// The same limits for texts that did not come from a directory, and one order for all.
    pub(crate) fn checked(mut self) -> Result<Self, SourceError> {
        let too_long = |name: &str, limit| SourceError::TooLong { name: name.to_owned(), limit };
        if self.data.len() > MAX_DATA_BYTES {
            return Err(too_long(DATA_FILE, MAX_DATA_BYTES));
        }
        if self.cedar.len() > MAX_POLICY_FILES {
            return Err(SourceError::TooManyFiles);
        }
        if let Some((name, _)) = self.cedar.iter().find(|(_, text)| text.len() > MAX_POLICY_FILE_BYTES) {
            return Err(too_long(name, MAX_POLICY_FILE_BYTES));
        }
        if self.tests.as_ref().is_some_and(|text| text.len() > MAX_TESTS_BYTES) {
            return Err(too_long(TESTS_FILE, MAX_TESTS_BYTES));
        }
        self.cedar.sort();
        let twins = self.cedar.iter().zip(self.cedar.iter().skip(1)).find(|(a, b)| a.0 == b.0);
        match twins {
            Some(((name, _), _)) => Err(SourceError::SameName(name.clone())),
            None => Ok(self),
        }
    }

    /// SHA-256 over everything that decides. Each text stands behind its kind, its name and its length, so that no two
    /// sets of texts give the same bytes.
    pub(crate) fn hash(&self, builtin: &str) -> Sha256 {
        let mut bytes = b"chancery policy set 1\n".to_vec();
        let mut frame = |kind: &str, name: &str, text: &str| {
            for part in [kind, name, text] {
                bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                bytes.extend_from_slice(part.as_bytes());
            }
        };
        frame("data", DATA_FILE, &self.data);
        frame("builtin", "", builtin);
        for (name, text) in &self.cedar {
            frame("operator", name, text);
        }
        Sha256::of(&bytes)
    }
}

/// The `.cedar` files of a directory, sorted by name; names that begin with a dot are editors' files, as for a shell.
fn policy_files(directory: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let failed = |source| SourceError::Read { path: directory.to_owned(), source };
    let mut files = Vec::new();
    for entry in directory.read_dir().map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "cedar") {
            files.push(path);
        }
        if files.len() > MAX_POLICY_FILES {
            return Err(SourceError::TooManyFiles);
        }
    }
    files.sort();
    Ok(files)
}

pub(crate) fn read_text(path: &Path, limit: usize) -> Result<String, SourceError> {
    let failed = |source| SourceError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let within = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).map_err(failed)?.take(within).read_to_string(&mut text).map_err(failed)?;
    if text.len() > limit {
        return Err(SourceError::TooLong { name: path.display().to_string(), limit });
    }
    Ok(text)
}
