//! The journal: one line per event, on disk before `append` returns.
//!
//! Promises: a line is one `write` to a file opened for appending, so lines of several threads and processes do not
//! mix; lines of a process are numbered without a gap, so a lost one shows. After the first failure nothing is written
//! any more: the file may end in half a line, and a further one would hide that.

use serde::Serialize;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process,
    sync::{Mutex, MutexGuard},
};

/// A journal that is worth nothing: the call that wanted a line must fail.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("{}: the journal's path must be absolute; set HSM_SIM_JOURNAL so", path.display())]
    Relative { path: PathBuf },
    #[error("{}: the journal cannot be opened for appending", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{}: a line cannot be written to the journal; it proves nothing from here on", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: the journal failed before; start again with a new one", path.display())]
    Broken { path: PathBuf },
}

/// What is journaled.
#[derive(Debug, Serialize)]
#[serde(tag = "function")]
pub(crate) enum Event {
    #[serde(rename = "C_Sign")]
    Sign(SignatureMade),
    #[serde(rename = "C_SignFinal")]
    SignFinal(SignatureMade),
    #[serde(rename = "C_Login")]
    Login { rv: String },
}

/// A signature that the key made; bytes in lower-case hex.
#[derive(Debug, Serialize)]
pub(crate) struct SignatureMade {
    pub(crate) key: String,
    pub(crate) mechanism: String,
    pub(crate) input_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) input: Option<String>,
    pub(crate) signature: String,
}

/// The open journal of this process.
pub(crate) struct Journal {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: File,
    pid: u32,
    n: u64,
    broken: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    n: u64,
    pid: u32,
    #[serde(flatten)]
    event: &'a Event,
}

impl Journal {
    /// Opens the journal, and makes it if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, JournalError> {
        if !path.is_absolute() {
            return Err(JournalError::Relative { path: path.to_owned() });
        }
        let file =
            open_durably(path).map_err(|source| JournalError::Open { path: path.to_owned(), source })?;
        let state = State { file, pid: process::id(), n: 0, broken: false };
        Ok(Self { path: path.to_owned(), state: Mutex::new(state) })
    }

    /// Fails if a line could not be written now. Asked before the key is used, so that it is not used in vain.
    pub(crate) fn ready(&self) -> Result<(), JournalError> {
        self.sound().map(drop)
    }

    /// Writes one line and waits until it is on disk.
    pub(crate) fn append(&self, event: &Event) -> Result<(), JournalError> {
        let mut state = self.sound()?;
        let written = state.write(event);
        state.broken = written.is_err();
        written.map_err(|source| JournalError::Write { path: self.path.clone(), source })
    }

    fn sound(&self) -> Result<MutexGuard<'_, State>, JournalError> {
        let broken = || JournalError::Broken { path: self.path.clone() };
        let state = self.state.lock().map_err(|_| broken())?;
        if state.broken { Err(broken()) } else { Ok(state) }
    }
}

impl State {
    fn write(&mut self, event: &Event) -> io::Result<()> {
        self.renumber_after_fork();
        let n = self.n + 1;
        let mut line = serde_json::to_vec(&Line { n, pid: self.pid, event })?;
        line.push(b'\n');
        write_at_once(&mut self.file, &line)?;
        self.file.sync_data()?;
        self.n = n;
        Ok(())
    }

    fn renumber_after_fork(&mut self) {
        let pid = process::id();
        if pid != self.pid {
            (self.pid, self.n) = (pid, 0);
        }
    }
}

/// The name is made durable with the file: a journal that vanishes in a power cut would read as "nobody signed".
fn open_durably(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(file)
}

/// Not `write_all`: the rest of a short write would be a second `write`, with another process's line between.
fn write_at_once(file: &mut File, line: &[u8]) -> io::Result<()> {
    loop {
        match file.write(line) {
            Ok(written) if written == line.len() => return Ok(()),
            Ok(written) => {
                let text = format!("only {written} of {} bytes were taken", line.len());
                return Err(io::Error::new(io::ErrorKind::WriteZero, text));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Journal, JournalError, SignatureMade};
    use std::{fs, path::Path, process};

    fn login() -> Event {
        Event::Login { rv: "0xa0".to_owned() }
    }

    #[test]
    fn lines_are_numbered_and_appended_to_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        fs::write(&path, "before\n").unwrap();
        let journal = Journal::open(&path).unwrap();
        journal.append(&login()).unwrap();
        journal.append(&login()).unwrap();
        let pid = process::id();
        let line = |n| format!("{{\"n\":{n},\"pid\":{pid},\"function\":\"C_Login\",\"rv\":\"0xa0\"}}\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), ["before\n", &line(1), &line(2)].concat());
    }

    #[test]
    fn a_signature_is_spelled_as_the_reader_expects() {
        let made = SignatureMade {
            key: "01".to_owned(),
            mechanism: "0x1041".to_owned(),
            input_sha256: "ab".to_owned(),
            input: None,
            signature: "0c".to_owned(),
        };
        assert_eq!(
            serde_json::to_string(&Event::SignFinal(made)).unwrap(),
            r#"{"function":"C_SignFinal","key":"01","mechanism":"0x1041","input_sha256":"ab","signature":"0c"}"#
        );
    }

    #[test]
    fn a_journal_that_failed_once_takes_no_more_lines() {
        let journal = Journal::open(Path::new("/dev/full")).unwrap();
        journal.ready().unwrap();
        assert!(matches!(journal.append(&login()), Err(JournalError::Write { .. })));
        assert!(matches!(journal.ready(), Err(JournalError::Broken { .. })));
        assert!(matches!(journal.append(&login()), Err(JournalError::Broken { .. })));
    }

    #[test]
    fn a_journal_that_cannot_be_opened_is_refused() {
        assert!(matches!(Journal::open(Path::new("journal")), Err(JournalError::Relative { .. })));
        assert!(matches!(
            Journal::open(Path::new("/no/such/folder/journal")),
            Err(JournalError::Open { .. })
        ));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Journal::open(dir.path()), Err(JournalError::Open { .. })));
    }
}
