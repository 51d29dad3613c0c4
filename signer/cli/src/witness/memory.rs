//! What a witness has cosigned last of one log, in one file:
//!
//! | line | |
//! |---|---|
//! | 1 | `chancery.witness-log/v1` |
//! | 2 | `log <verifier key>` |
//! | 3 | `seen nothing`, and the file ends; or `seen checkpoint` |
//! | 4 | blank |
//! | 5 to the end | the checkpoint with the log's signature and this witness's cosignature |
//!
//! A file that was cut off or altered does not verify, and is never taken for one that has seen nothing.

use super::{WitnessFault, io, state};
use crate::audit::replace;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use tlog::{Checkpoint, CosignerKey, MAX_NOTE_LEN, Note, VerifierKey};

const HEAD: &str = "chancery.witness-log/v1";
/// The note, and three short lines.
const MAX_LEN: u64 = MAX_NOTE_LEN as u64 + 1024;

/// The memory of one log.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    log: VerifierKey,
    /// What was cosigned last.
    last: Option<(Checkpoint, Note)>,
    /// A write failed: what the file says now is not known.
    broken: bool,
    /// A wrong proof was told to the operator since the last checkpoint was taken.
    doubted: bool,
}

impl Memory {
    /// The file of a log that was not known before; one that is there stays as it is.
    pub(super) fn create(path: &Path, log: &VerifierKey) -> Result<(), WitnessFault> {
        // Whole, or not there: a torn file could neither be served nor begun again.
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
        let text = text(log, None);
        made.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(io(&unfinished))?;
        let linked = fs::hard_link(&unfinished, path).map_err(io(path));
        fs::remove_file(&unfinished).map_err(io(&unfinished))?;
        linked?;
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))
    }

    /// Reads the file of this log, which this witness has written, and writes it once more: a process that was killed may have
    /// put it in its place without syncing the folder, and what is answered from it must outlive a power cut.
    pub(super) fn open(path: &Path, log: &VerifierKey, own: &CosignerKey) -> Result<Self, WitnessFault> {
        let size = fs::metadata(path).map_err(io(path))?.len();
        if size > MAX_LEN {
            return Err(state(path, "too long for the memory of a log"));
        }
        let text = fs::read_to_string(path).map_err(io(path))?;
        let last = parse(&text, log, own).map_err(|why| state(path, why))?;
        replace(path, text.as_bytes()).map_err(io(path))?;
        Ok(Self { path: path.to_owned(), log: log.clone(), last, broken: false, doubted: false })
    }

    pub(super) fn log(&self) -> &VerifierKey {
        &self.log
    }

    /// The checkpoint that was cosigned last, and its note.
    pub(super) fn last(&self) -> Option<&(Checkpoint, Note)> {
        self.last.as_ref()
    }

    /// Takes what is about to be cosigned, which extends the last: durable when this returns. After an error nothing is
    /// taken any more until the file is read anew.
    pub(super) fn keep(&mut self, checkpoint: Checkpoint, cosigned: Note) -> Result<(), WitnessFault> {
        if self.broken {
            return Err(state(&self.path, "an earlier write failed"));
        }
        let written = replace(&self.path, text(&self.log, Some(&cosigned)).as_bytes());
        self.broken = written.is_err();
        written.map_err(io(&self.path))?;
        self.last = Some((checkpoint, cosigned));
        self.doubted = false;
        Ok(())
    }

    /// Whether a wrong proof is worth a line to the operator: the first after each checkpoint that was taken, since anybody
    /// can send one.
    pub(super) fn doubt(&mut self) -> bool {
        !std::mem::replace(&mut self.doubted, true)
    }
}

fn text(log: &VerifierKey, last: Option<&Note>) -> String {
    match last {
        None => format!("{HEAD}\nlog {log}\nseen nothing\n"),
        Some(note) => format!("{HEAD}\nlog {log}\nseen checkpoint\n\n{note}"),
    }
}

fn parse(text: &str, log: &VerifierKey, own: &CosignerKey) -> Result<Option<(Checkpoint, Note)>, String> {
    let rest = text
        .strip_prefix(&format!("{HEAD}\nlog {log}\n"))
        .ok_or_else(|| format!("it does not begin as the memory of the log {log}"))?;
    if rest == "seen nothing\n" {
        return Ok(None);
    }
    let note = rest.strip_prefix("seen checkpoint\n\n").ok_or("it was cut off or altered")?;
    let damaged = |why: String| format!("what it has seen does not verify: {why}");
    let note = Note::parse(note).map_err(|e| damaged(api::chain_text(&e)))?;
    let checkpoint = Checkpoint::of_note(&note, log).map_err(|e| damaged(api::chain_text(&e)))?;
    note.cosigned_at(own).map_err(|e| damaged(api::chain_text(&e)))?;
    Ok(Some((checkpoint, note)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::witness::key::WitnessKey;
    use ed25519_dalek::SigningKey;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_was_read_is_written_and_synced_anew_before_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let point = SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        let log = VerifierKey::new_ed25519("log.example", point).unwrap();
        let own = WitnessKey::generate("witness.example").unwrap();
        Memory::create(&path, &log).unwrap();
        let before = (fs::metadata(&path).unwrap().ino(), fs::read(&path).unwrap());
        Memory::open(&path, &log, own.public()).unwrap();
        let after = (fs::metadata(&path).unwrap().ino(), fs::read(&path).unwrap());
        assert_ne!(before.0, after.0);
        assert_eq!(before.1, after.1);
        fs::write(&path, "altered").unwrap();
        Memory::open(&path, &log, own.public()).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"altered", "what cannot be read stays as evidence");
    }

    #[test]
    fn a_memory_that_was_cut_off_while_it_was_made_can_be_made_again_and_one_that_is_there_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let point = SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        let log = VerifierKey::new_ed25519("log.example", point).unwrap();
        fs::write(folder.path().join("log.unfinished"), "chancery.wit").unwrap();
        Memory::create(&path, &log).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text(&log, None));
        fs::write(&path, "what was cosigned").unwrap();
        let refused = Memory::create(&path, &log).unwrap_err();
        assert!(
            matches!(refused, WitnessFault::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists)
        );
        assert_eq!(fs::read(&path).unwrap(), b"what was cosigned");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
