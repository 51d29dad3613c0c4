//! How the daemon before this one ended, in the file `seal` of the data folder: in good order, not so, or sealed.
//!
//! The file is 4 KiB from its beginning on and is overwritten in place, so that a seal can also be kept on a full disk. It
//! promises that what cannot be read counts as sealed. It does not know why anybody seals.

use crate::fatal::Fatal;
use record::Time;
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Bytes of the file: one block of every usual file system.
const BYTES: usize = 4096;
/// Characters of a reason that are kept: with every one escaped it still fits.
const MAX_REASON: usize = 600;

/// What the file says: one JSON object, padded with spaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Mark {
    /// The last daemon ended in good order.
    Stopped {},
    /// A daemon runs; or it ended without a word.
    Running {},
    /// A daemon sealed itself: nothing starts before `chancery unseal`.
    Sealed {
        /// Why.
        reason: String,
        /// When.
        at: Time,
    },
    /// A full check has found the state whole after a seal; the next daemon writes that into the log.
    Unsealed {
        /// Why it was sealed.
        reason: String,
        /// When it was sealed.
        at: Time,
    },
}

impl Mark {
    /// A seal, its reason cut to what is kept.
    pub(crate) fn sealed(reason: &str, at: Time) -> Self {
        Self::Sealed { reason: reason.chars().take(MAX_REASON).collect(), at }
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.resize(BYTES - 1, b' ');
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// The file, open as long as the daemon lives: a seal needs no new handle.
#[derive(Debug)]
pub(crate) struct MarkFile {
    file: File,
    path: PathBuf,
    /// Whether this process has sealed, held while it writes: a seal is the last thing that it writes here.
    sealed: Mutex<bool>,
}

impl MarkFile {
    /// Opens the file of a data folder, and makes it where there is none; gives what it said, which is nothing for a new
    /// one. `now` stands for the time of a seal that cannot be read.
    pub(crate) fn open(data: &Path, now: Time) -> Result<(Self, Option<Mark>), Fatal> {
        let path = data.join("seal");
        let failed = |e: io::Error| Fatal::Disk { path: path.clone(), why: e.to_string() };
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mark = Self { file: file.map_err(failed)?, path: path.clone(), sealed: Mutex::new(false) };
        let said = mark.read(now).map_err(failed)?;
        if said.is_none() {
            mark.write(&Mark::Running {}).and_then(|()| File::open(data)?.sync_all()).map_err(failed)?;
        }
        Ok((mark, said))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self, now: Time) -> io::Result<Option<Mark>> {
        let mut bytes = vec![0; BYTES];
        match self.file.metadata()?.len() {
            0 => return Ok(None),
            len if len == BYTES as u64 => self.file.read_exact_at(&mut bytes, 0)?,
            _ => {}
        }
        let unreadable = || Mark::sealed("the mark of the last seal cannot be read", now);
        Ok(Some(serde_json::from_slice(&bytes).unwrap_or_else(|_| unreadable())))
    }

    /// Overwrites the mark; it is on the disk when this returns. After a seal nothing is written any more.
    pub(crate) fn write(&self, mark: &Mark) -> io::Result<()> {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        if *sealed {
            return Ok(());
        }
        *sealed = matches!(mark, Mark::Sealed { .. });
        self.file.write_all_at(&mark.encode()?, 0)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Time {
        Time::from_unix_ms(1_790_000_000_000).unwrap()
    }

    #[test]
    fn a_mark_reads_back_and_needs_no_space_that_the_file_has_not_had_from_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let (file, said) = MarkFile::open(dir.path(), now()).unwrap();
        assert_eq!(said, None);
        let worst = "\u{1}".repeat(100_000);
        drop(file);
        for mark in [
            Mark::Unsealed { reason: "the disk".into(), at: now() },
            Mark::Running {},
            Mark::Stopped {},
            Mark::sealed("the disk", now()),
            Mark::sealed(&worst, now()),
            Mark::sealed(&"\u{10348}".repeat(1000), now()),
        ] {
            let (file, _) = MarkFile::open(dir.path(), now()).unwrap();
            file.write(&mark).unwrap();
            assert_eq!(std::fs::metadata(file.path()).unwrap().len(), BYTES as u64);
            assert_eq!(MarkFile::open(dir.path(), now()).unwrap().1, Some(mark));
        }
    }

    #[test]
    fn nothing_is_written_over_the_seal_of_this_process() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = MarkFile::open(dir.path(), now()).unwrap();
        let seal = Mark::sealed("the disk", now());
        for mark in [&seal, &Mark::Running {}, &Mark::Stopped {}] {
            file.write(mark).unwrap();
        }
        assert_eq!(MarkFile::open(dir.path(), now()).unwrap().1, Some(seal));
    }

    #[test]
    fn a_mark_that_cannot_be_read_counts_as_a_seal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal");
        for bytes in
            [vec![b' '; BYTES], vec![0; BYTES], b"{\"state\":\"stopped\"}".to_vec(), vec![b'x'; 5000]]
        {
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(MarkFile::open(dir.path(), now()).unwrap().1, Some(Mark::Sealed { .. })));
        }
    }
}
