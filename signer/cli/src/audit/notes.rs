//! The last note seen of each log, remembered on this machine: what makes a log that shrinks or forks visible to
//! whoever looks twice.

use super::{AuditError, LogSource, Prover};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use tlog::{Checkpoint, VerifierKey};

/// The folder of remembered notes.
pub(crate) struct SeenNotes {
    dir: PathBuf,
}

/// `$XDG_STATE_HOME/chancery` (XDG Base Directory), by default `~/.local/state/chancery`.
pub(crate) fn state_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|h| h.join(".local/state")))?;
    Some(base.join("chancery"))
}

impl SeenNotes {
    pub(crate) fn under(state: &Path) -> Self {
        Self { dir: state.join("notes") }
    }

    /// Demands that `note` extends the one remembered for this key, and then remembers it. Gives the size that was
    /// remembered before.
    pub(crate) fn advance(
        &self,
        note: &str,
        key: &VerifierKey,
        source: &LogSource,
    ) -> Result<Option<u64>, AuditError> {
        let path = self.path(key)?;
        let fault = |why: io::Error| AuditError::Memory { path: path.clone(), why: why.to_string() };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(fault)?;
        let _lock = lock(&with_suffix(&path, ".lock")).map_err(fault)?;
        let new = open(note, key).map_err(AuditError::Log)?;
        let old = match fs::read_to_string(&path) {
            Ok(text) => Some(open(&text, key).map_err(|why| AuditError::Memory { path: path.clone(), why })?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(fault(e)),
        };
        if let Some(old) = &old {
            Prover::new(source, &new).extends(old)?;
        }
        replace(&path, note.as_bytes()).map_err(fault)?;
        Ok(old.map(|o| o.size))
    }

    /// One file a key: two logs may carry the same name, such as those of two `chancery dev`.
    fn path(&self, key: &VerifierKey) -> Result<PathBuf, AuditError> {
        let name = record::Origin::parse(key.name()).map_err(|e| AuditError::Log(e.to_string()))?;
        Ok(self.dir.join(format!("{name}+{:08x}.note", key.key_id())))
    }
}

fn open(note: &str, key: &VerifierKey) -> Result<Checkpoint, String> {
    Checkpoint::open(note, key).map_err(|e| api::chain_text(&e))
}

/// Held until it is dropped, so that two commands at once cannot put an older note over a newer one.
fn lock(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).mode(0o600).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// Puts `bytes` at `path` whole or not at all, durably.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = with_suffix(path, ".new");
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// The path with more behind its name. (A tile's name may hold a dot that is no extension.)
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::synthetic::Log;

    #[test]
    fn a_log_that_grows_is_followed() {
        let state = tempfile::tempdir().unwrap();
        let notes = SeenNotes::under(state.path());
        let log = Log::with_requests(200);
        let (small, large) = (log.published(100), log.published(log.size()));
        assert_eq!(notes.advance(&small.note, &log.vkey(), &small.source()).unwrap(), None);
        assert_eq!(notes.advance(&large.note, &log.vkey(), &large.source()).unwrap(), Some(100));
        assert_eq!(notes.advance(&large.note, &log.vkey(), &large.source()).unwrap(), Some(log.size()));
    }

    #[test]
    fn a_log_that_shrinks_is_refused_and_the_larger_note_is_kept() {
        let state = tempfile::tempdir().unwrap();
        let notes = SeenNotes::under(state.path());
        let log = Log::with_requests(20);
        let (small, large) = (log.published(10), log.published(log.size()));
        notes.advance(&large.note, &log.vkey(), &large.source()).unwrap();
        for _ in 0..2 {
            let error = notes.advance(&small.note, &log.vkey(), &small.source()).unwrap_err();
            assert!(matches!(error, AuditError::Shrunk { now: 10, .. }), "{error}");
        }
    }

    #[test]
    fn a_log_that_was_rewritten_is_refused_at_the_same_and_at_a_larger_size() {
        let log = Log::with_requests(20);
        let other = Log::with_other_requests(20);
        for size in [30, other.size()] {
            let state = tempfile::tempdir().unwrap();
            let notes = SeenNotes::under(state.path());
            let (before, after) = (log.published(30), other.published(size));
            notes.advance(&before.note, &log.vkey(), &before.source()).unwrap();
            let error = notes.advance(&after.note, &log.vkey(), &after.source()).unwrap_err();
            assert!(matches!(error, AuditError::Forked { seen: 30, .. }), "{error}");
        }
    }

    #[test]
    fn a_damaged_memory_is_an_error_and_not_a_fresh_start() {
        let state = tempfile::tempdir().unwrap();
        let notes = SeenNotes::under(state.path());
        let log = Log::with_requests(2);
        let now = log.published(log.size());
        notes.advance(&now.note, &log.vkey(), &now.source()).unwrap();
        fs::write(notes.path(&log.vkey()).unwrap(), "").unwrap();
        let error = notes.advance(&now.note, &log.vkey(), &now.source()).unwrap_err();
        assert!(matches!(error, AuditError::Memory { .. }), "{error}");
    }
}
