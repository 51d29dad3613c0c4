//! `manifest.json`: what the backup holds, by name, length and hash. It is written last.

use crate::{
    BackupError,
    fault::{unreadable, wrong},
    layout,
};
use record::{Digest, KeeperName, Principal, Repository, RequestId, Sha256, Tag, Time};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";
/// The form of the manifest and of the files it names.
pub const SCHEMA: &str = "chancery.backup/v1";
/// The longest manifest: three files of about 120 bytes for 256 leaves, for 100 million leaves and more.
const MAX_MANIFEST: u64 = 256 * 1024 * 1024;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// The log's verifier key, as a hint: whoever verifies brings their own.
    pub log: String,
    /// How many backups were made into this folder, this one included.
    pub sequence: u64,
    /// When it was begun.
    pub created: Time,
    /// The version of the program that made it.
    pub version: String,
    /// The format of the database that it was made from.
    pub database_format: u64,
    /// The newest note, with every signature that it has.
    pub checkpoint: String,
    /// Leaves under that note.
    pub size: u64,
    /// Their root.
    pub root: Sha256,
    /// All leaves: those, and what was committed behind them before the next note.
    pub leaves: u64,
    /// The root of all leaves.
    pub leaves_root: Sha256,
    /// Rows of the requests file.
    pub requests: u64,
    /// The highest lease under which the database was written.
    pub epoch: u64,
    /// How far each signing keeper's journal had grown, as it told.
    pub generations: BTreeMap<KeeperName, u64>,
    /// Every other file but `checkpoint`, which repeats what stands here for readers of the log.
    pub files: Vec<NamedFile>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedFile {
    /// Below the backup's folder, with `/` between.
    pub path: String,
    /// Of its bytes.
    pub sha256: Sha256,
    /// Its length.
    pub bytes: u64,
}

/// A request as it was accepted: what no leaf says of it. What became of it the leaves say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestRow {
    /// Its id.
    pub id: RequestId,
    /// Who asked.
    pub by: Principal,
    /// What was kept of the caller, if it was no API token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<serde_json::Value>,
    /// The caller's idempotency key.
    pub idempotency_key: String,
    /// SHA-256 of what the key was used for.
    pub fingerprint: Sha256,
    /// The image's repository.
    pub repository: Repository,
    /// The tag that shall name it.
    pub tag: Tag,
    /// The image.
    pub digest: Digest,
    /// Length of its manifest in bytes.
    pub size: u64,
    /// Media type of its manifest.
    pub media_type: String,
    /// When it was accepted.
    pub created: Time,
}

impl Manifest {
    /// Reads the manifest of a folder, and its SHA-256; `None` where there is none.
    ///
    /// The files that it names are exactly those that its numbers ask for: a manifest that lacks one, or that leads out
    /// of the folder, is refused here.
    pub(crate) fn read(dir: &Path) -> Result<Option<(Self, Sha256)>, BackupError> {
        let path = dir.join(MANIFEST);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(MAX_MANIFEST + 1).read_to_end(&mut bytes));
        match read {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(unreadable(&path))?,
        };
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(wrong(MANIFEST, format!("it is longer than {MAX_MANIFEST} bytes")));
        }
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|e| wrong(MANIFEST, e))?;
        if manifest.encode().map_err(|e| wrong(MANIFEST, e))? != bytes {
            return Err(wrong(MANIFEST, "it is not spelled as a manifest is: it was altered or cut off"));
        }
        manifest.check()?;
        Ok(Some((manifest, Sha256::of(&bytes))))
    }

    /// The manifest's one spelling.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn check(&self) -> Result<(), BackupError> {
        if self.schema != SCHEMA {
            let why = format!("its form is {:?}, and this program reads {SCHEMA}", self.schema);
            return Err(wrong(MANIFEST, why));
        }
        if self.leaves < self.size || self.leaves > tlog::MAX_SIZE {
            let why = format!("{} leaves cannot be, with {} under its note", self.leaves, self.size);
            return Err(wrong(MANIFEST, why));
        }
        // As many names as there are leaves for: the expected ones are not counted out for a number out of the air.
        if (self.files.len() as u64) < self.leaves / tlog::TILE_WIDTH {
            return Err(wrong(MANIFEST, "it names fewer files than its leaves need"));
        }
        let mut expected = layout::expected(self);
        for file in &self.files {
            if !expected.remove(&file.path) {
                let why = format!(
                    "it names {:?}, which a backup of this size does not have, or has only once",
                    file.path
                );
                return Err(wrong(MANIFEST, why));
            }
        }
        match expected.first() {
            Some(path) => Err(wrong(path.as_str(), "the manifest does not name it")),
            None => Ok(()),
        }
    }

    /// The named files by their paths.
    pub(crate) fn by_path(&self) -> BTreeMap<&str, &NamedFile> {
        self.files.iter().map(|file| (file.path.as_str(), file)).collect()
    }
}
