//! The last good keys of an issuer on the disk, so that a restart while the issuer is away does not lock its jobs out.
//!
//! The file is a cache: what cannot be read is as if it were not there. It is as trusted as the folder of the database.

use identity::Jwks;
use record::Time;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The folder below the data folder.
const FOLDER: &str = "issuers";

/// Where an issuer's keys are kept.
#[derive(Debug)]
pub(crate) struct Kept(PathBuf);

/// The file, JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    /// The issuer's URL: the name may have been given to another one.
    issuer: String,
    /// When the keys were fetched.
    fetched_at: Time,
    /// The key set, as it came.
    jwks: String,
}

impl Kept {
    /// The file of the issuer with this name.
    pub(crate) fn in_folder(data: &Path, name: &str) -> Self {
        Self(data.join(FOLDER).join(format!("{name}.json")))
    }

    /// What was kept of this issuer, and when it was fetched.
    pub(crate) fn read(&self, issuer: &str) -> Option<(Jwks, Time)> {
        let document: Document = serde_json::from_slice(&fs::read(&self.0).ok()?).ok()?;
        let keys = Jwks::parse(document.jwks.as_bytes()).ok()?;
        (document.issuer == issuer).then_some((keys, document.fetched_at))
    }

    /// Puts these in the place of what was kept.
    pub(crate) fn write(&self, issuer: &str, fetched_at: Time, jwks: &[u8]) -> io::Result<()> {
        let jwks = String::from_utf8_lossy(jwks).into_owned();
        let bytes = serde_json::to_vec(&Document { issuer: issuer.to_owned(), fetched_at, jwks })?;
        if let Some(folder) = self.0.parent() {
            fs::create_dir_all(folder)?;
        }
        let new = self.0.with_extension("new");
        let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, &self.0)
    }
}
