//! The last note seen of each log, remembered on this machine: what makes a log that shrinks or forks visible to
//! whoever looks twice.

use super::{
    AuditError, LogSource, Prover, opened_checkpoint,
    trust::{Accepted, Trust},
};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
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

/// How a log stands to the note that was remembered of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// Entries under the remembered note, if there was one.
    pub(crate) seen_before: Option<u64>,
    /// Whether the log is smaller than that, which only a folder may be.
    #[serde(rename = "older_than_seen")]
    pub(crate) older: bool,
}

/// A log that was followed: what was remembered, and the newest checkpoint, which is remembered now.
#[derive(Debug)]
pub(crate) struct Advanced {
    pub(crate) memory: Memory,
    pub(crate) note: String,
    pub(crate) checkpoint: Checkpoint,
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

    /// Demands that `note`, which `source` gave, is of the log that is remembered for this key, and remembers the newer one.
    ///
    /// Another command may have remembered a newer note since `note` was read, and a server may answer a little late: a
    /// smaller note alone proves nothing. The log shrank if it is still smaller when it is asked now, under the lock.
    pub(crate) fn advance(
        &self,
        note: &str,
        trust: &Trust,
        source: &LogSource,
    ) -> Result<Advanced, AuditError> {
        let path = self.path(&trust.key)?;
        let fault = |why: io::Error| AuditError::Memory { path: path.clone(), why: why.to_string() };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(fault)?;
        let _lock = lock(&with_suffix(&path, ".lock")).map_err(fault)?;
        let given = trust.accept(note)?;
        let old = self.remembered(&trust.key)?;
        let newest = match &old {
            Some(old) if old.size > given.checkpoint.size => opened_checkpoint(source, trust)?,
            _ => given.clone(),
        };
        let mut prover = Prover::new(source, &newest.checkpoint);
        old.iter().try_for_each(|old| prover.extends(old))?;
        // What the caller has worked with is of this log as well, if it is not the newest itself.
        prover.extends(&given.checkpoint)?;
        replace(&path, newest.note.as_bytes()).map_err(fault)?;
        let memory = Memory { seen_before: old.map(|o| o.size), older: false };
        let Accepted { note, checkpoint, .. } = newest;
        Ok(Advanced { memory, note, checkpoint })
    }

    /// How a log that is read without a network stands to the remembered note; nothing is remembered of it. A log that
    /// contradicts the note is an error; one that is older does not, but nobody can tell offline that it agrees.
    pub(crate) fn compare(
        &self,
        checkpoint: &Checkpoint,
        key: &VerifierKey,
        source: &LogSource,
    ) -> Result<Memory, AuditError> {
        let old = self.remembered(key)?;
        let older = old.as_ref().is_some_and(|old| old.size > checkpoint.size);
        if let (Some(old), false) = (&old, older) {
            Prover::new(source, checkpoint).extends(old)?;
        }
        Ok(Memory { seen_before: old.map(|o| o.size), older })
    }

    /// How a checkpoint without its log stands to the remembered note: only one of the same size can be compared.
    pub(crate) fn compare_alone(
        &self,
        checkpoint: &Checkpoint,
        key: &VerifierKey,
    ) -> Result<Memory, AuditError> {
        match self.remembered(key)? {
            Some(old) if old.size == checkpoint.size && old.root != checkpoint.root => {
                Err(AuditError::Forked { seen: old.size, now: checkpoint.size })
            }
            old => {
                let older = old.as_ref().is_some_and(|old| old.size > checkpoint.size);
                Ok(Memory { seen_before: old.map(|old| old.size), older })
            }
        }
    }

    /// The checkpoint that is remembered for this key, if there is one.
    pub(crate) fn remembered(&self, key: &VerifierKey) -> Result<Option<Checkpoint>, AuditError> {
        let path = self.path(key)?;
        match fs::read_to_string(&path) {
            Ok(text) => open(&text, key).map(Some).map_err(|why| AuditError::Memory { path, why }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(AuditError::Memory { path, why: e.to_string() }),
        }
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
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
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
    use crate::audit::synthetic::{Log, Published};

    #[test]
    fn a_log_that_grows_is_followed() {
        let state = tempfile::tempdir().unwrap();
        let notes = SeenNotes::under(state.path());
        let log = Log::with_requests(200);
        let (small, large) = (log.published(100), log.published(log.size()));
        let advance = |p: &Published| notes.advance(&p.note, &log.trust(), &p.source()).unwrap();
        assert_eq!(advance(&small).memory.seen_before, None);
        assert_eq!(advance(&large).memory.seen_before, Some(100));
        assert_eq!(advance(&large).memory.seen_before, Some(log.size()));
    }

    #[test]
    fn a_note_that_became_old_while_it_was_read_is_no_alarm_and_the_larger_one_is_kept() {
        let state = tempfile::tempdir().unwrap();
        let notes = SeenNotes::under(state.path());
        let log = Log::with_requests(20);
        let (read, now) = (log.published(10), log.published(log.size()));
        notes.advance(&now.note, &log.trust(), &now.source()).unwrap();
        let advanced = notes.advance(&read.note, &log.trust(), &now.source()).unwrap();
        assert_eq!((advanced.checkpoint.size, advanced.note.as_str()), (log.size(), now.note.as_str()));
        assert_eq!(notes.remembered(&log.vkey()).unwrap().unwrap().size, log.size());
    }

    #[test]
    fn a_note_that_became_old_and_is_of_another_log_is_an_alarm() {
        let state = tempfile::tempdir().unwrap();
        let notes = SeenNotes::under(state.path());
        let (log, other) = (Log::with_requests(20), Log::with_other_requests(20));
        let (read, now) = (other.published(10), log.published(log.size()));
        notes.advance(&now.note, &log.trust(), &now.source()).unwrap();
        let error = notes.advance(&read.note, &log.trust(), &now.source()).unwrap_err();
        assert!(matches!(error, AuditError::Forked { seen: 10, .. }), "{error}");
    }

    #[test]
    fn a_folder_is_compared_with_the_remembered_note_and_changes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let notes = SeenNotes::under(state.path());
        let (log, other) = (Log::with_requests(20), Log::with_other_requests(20));
        let compare = |p: &Published| {
            let checkpoint = opened_checkpoint(&p.source(), &log.trust()).unwrap().checkpoint;
            notes.compare(&checkpoint, &log.vkey(), &p.source())
        };
        let (small, middle, large) = (log.published(10), log.published(30), log.published(log.size()));
        assert_eq!(compare(&middle).unwrap(), Memory { seen_before: None, older: false });
        assert!(!state.path().join("notes").exists(), "a comparison needs no memory and makes none");
        notes.advance(&middle.note, &log.trust(), &middle.source()).unwrap();
        assert_eq!(compare(&large).unwrap(), Memory { seen_before: Some(30), older: false });
        assert_eq!(compare(&middle).unwrap(), Memory { seen_before: Some(30), older: false });
        assert_eq!(compare(&small).unwrap(), Memory { seen_before: Some(30), older: true });
        for size in [30, other.size()] {
            let error = compare(&other.published(size)).unwrap_err();
            assert!(matches!(error, AuditError::Forked { seen: 30, .. }), "{error}");
        }
        assert_eq!(notes.remembered(&log.vkey()).unwrap().unwrap().size, 30);
    }

    #[test]
    fn a_log_that_shrinks_is_refused_and_the_larger_note_is_kept() {
        let state = tempfile::tempdir().unwrap();
        let notes = SeenNotes::under(state.path());
        let log = Log::with_requests(20);
        let (small, large) = (log.published(10), log.published(log.size()));
        notes.advance(&large.note, &log.trust(), &large.source()).unwrap();
        for _ in 0..2 {
            let error = notes.advance(&small.note, &log.trust(), &small.source()).unwrap_err();
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
            notes.advance(&before.note, &log.trust(), &before.source()).unwrap();
            let error = notes.advance(&after.note, &log.trust(), &after.source()).unwrap_err();
            assert!(matches!(error, AuditError::Forked { seen: 30, .. }), "{error}");
        }
    }

    #[test]
    fn a_damaged_memory_is_an_error_and_not_a_fresh_start() {
        let state = tempfile::tempdir().unwrap();
        let notes = SeenNotes::under(state.path());
        let log = Log::with_requests(2);
        let now = log.published(log.size());
        notes.advance(&now.note, &log.trust(), &now.source()).unwrap();
        fs::write(notes.path(&log.vkey()).unwrap(), "").unwrap();
        let error = notes.advance(&now.note, &log.trust(), &now.source()).unwrap_err();
        assert!(matches!(error, AuditError::Memory { .. }), "{error}");
    }
}
