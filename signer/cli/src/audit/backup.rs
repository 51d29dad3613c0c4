//! A backup verified as an auditor does on another machine: its files, the log's key, and nothing of the service.

use super::{
    AuditError, LogSource, Memory, Report, SeenNotes, Trust,
    ends::Ends,
    state_dir,
    verify::{Witness, report},
};
use crate::{exit::Exit, failure::Failure};
use backup::{BackupError, Verified};
use record::{Sha256, Time};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What a backup holds. The log's part is as of `log verify`, over all of its entries.
#[derive(Debug, Serialize)]
pub(crate) struct BackupReport {
    pub(crate) dir: PathBuf,
    /// The how-manieth backup into this folder.
    pub(crate) sequence: u64,
    pub(crate) created: Time,
    pub(crate) version: String,
    /// Files that the manifest names, and their bytes.
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Entries behind those that the checkpoint covers.
    pub(crate) tail: u64,
    /// One for each intent.
    pub(crate) payloads: u64,
    /// Requests that were accepted with an idempotency key.
    pub(crate) requests: u64,
    pub(crate) manifest_sha256: Sha256,
    #[serde(flatten)]
    pub(crate) log: Report,
}

/// Verifies every file of the backup, every entry as `log verify` does, and that the backup is of the log that this machine
/// remembers.
pub(crate) fn verify(dir: &Path, trust: &Trust) -> Result<BackupReport, AuditError> {
    let mut ends = Ends::new(trust.key.name(), trust.key.to_string());
    let verified = backup::verify(dir, &trust.key, |index, leaf| {
        ends.entry(index, leaf);
    })?;
    let Verified { manifest, manifest_sha256, payloads, bytes, checkpoint } = verified;
    let accepted = trust.accept(&manifest.checkpoint)?;
    let witnesses = trust.policy.is_some().then(|| accepted.witnesses.iter().map(Witness::from).collect());
    let memory = match state_dir() {
        Some(state) => {
            let source = LogSource::Dir(dir.to_owned());
            SeenNotes::under(&state).compare(&checkpoint, &trust.key, &source)?
        }
        None => Memory::default(),
    };
    Ok(BackupReport {
        dir: dir.to_owned(),
        sequence: manifest.sequence,
        created: manifest.created,
        version: manifest.version,
        files: manifest.files.len() as u64,
        bytes,
        tail: manifest.leaves - manifest.size,
        payloads,
        requests: manifest.requests,
        manifest_sha256,
        log: Report { witnesses, memory, ..report(&accepted, &mut ends) },
    })
}

/// How a command ends that was given this.
pub(super) fn failure(error: &BackupError) -> Failure {
    let (exit, next) = match error {
        BackupError::Wrong { .. } => (
            Exit::Verification,
            "do not rely on this backup; make a new one into a new folder, and keep this one if somebody may have altered it",
        ),
        BackupError::NoFolder { .. } | BackupError::Read { .. } => {
            (Exit::NotFound, "give a folder that chancery backup create has written")
        }
        BackupError::Write { .. } | BackupError::Unfit { .. } => (Exit::State, "give another folder"),
    };
    Failure::new(exit, error.to_string()).next(next)
}

#[cfg(test)]
mod tests;
