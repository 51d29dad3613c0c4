//! The journal: every signature the card ever made, one JSON line each, on disk before the reply leaves.
//!
//! Promises: lines are numbered without a gap from 1, over restarts too; what [`YubiKeyJournal::read`] returns is
//! everything that was written, and a line that is torn, strange or lost is an error, never a shorter answer. It does not
//! know: whether a signature is right; tests verify it.

use crate::{
    Error,
    algorithm::{Algorithm, PinPolicy, Slot, TouchPolicy},
    hex,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// About half a million signatures: more than any test makes, and a bound for what is read into memory.
pub const MAX_JOURNAL_BYTES: u64 = 256 * 1024 * 1024;
/// Inputs up to here (a SHA-512) stand in the journal whole; of longer ones only the hash.
const MAX_INPUT_BYTES: usize = 64;

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The command that asked for it.
    pub operation: Operation,
    /// The key that made it: for an attestation, f9.
    pub slot: Slot,
    /// The key's algorithm.
    pub algorithm: Algorithm,
    /// SHA-256 of what was signed: digest, padded block or message of GENERAL AUTHENTICATE, or the certificate's TBS.
    #[serde(with = "hex::bytes")]
    pub input_sha256: Vec<u8>,
    /// What was signed, if it has at most 64 bytes.
    #[serde(default, with = "hex::some", skip_serializing_if = "Option::is_none")]
    pub input: Option<Vec<u8>>,
    /// The signature as the card returned it: DER for ECDSA, 64 bytes for Ed25519, a block for RSA.
    #[serde(with = "hex::bytes")]
    pub signature: Vec<u8>,
    /// The key's PIN policy.
    pub pin_policy: PinPolicy,
    /// What the session knew of the PIN when the key was used.
    pub pin: PinState,
    /// The key's touch policy.
    pub touch_policy: TouchPolicy,
    /// What there was of a touch.
    pub touch: TouchState,
}

/// The command that asked for a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// GENERAL AUTHENTICATE. With RSA this may have been a decryption: the card cannot tell.
    Sign,
    /// ATTEST.
    Attest,
}

/// What the session knew of the PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinState {
    /// It was not given.
    None,
    /// It was given, and a key was used since.
    Verified,
    /// It was given, and no key was used since.
    Fresh,
}

/// What there was of a touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TouchState {
    /// None was needed.
    None,
    /// One was given for this signature.
    Given,
    /// One had been given within the last 15 seconds.
    Cached,
}

impl Signed {
    /// The fields that follow from the input.
    pub(crate) fn digest(input: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
        let whole = (input.len() <= MAX_INPUT_BYTES).then(|| input.to_vec());
        (Sha256::digest(input).to_vec(), whole)
    }
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The signature's number among all of this journal, from 1.
    pub n: u64,
    /// The card's serial number.
    pub serial: u32,
    /// What was signed, and how.
    #[serde(flatten)]
    pub signed: Signed,
}

/// The journal of a card.
#[derive(Debug)]
pub struct YubiKeyJournal;

impl YubiKeyJournal {
    /// Every signature in the journal at `path`, in order.
    pub fn read(path: &Path) -> Result<Vec<Entry>, Error> {
        let text = read_bounded(path, MAX_JOURNAL_BYTES)?;
        let mut entries = Vec::new();
        for (line, bytes) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
            let torn = || Error::JournalTorn { path: path.to_owned(), line };
            let bytes = bytes.strip_suffix(b"\n").ok_or_else(torn)?;
            let entry: Entry = serde_json::from_slice(bytes).map_err(|source| Error::JournalLine {
                path: path.to_owned(),
                line,
                source,
            })?;
            if entry.n != line {
                return Err(Error::JournalGap { path: path.to_owned(), line, found: entry.n });
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let length = fs::metadata(path).map_err(Error::file("read the journal", path))?.len();
    if length > limit {
        return Err(Error::JournalTooLarge { path: path.to_owned(), limit });
    }
    fs::read(path).map_err(Error::file("read the journal", path))
}

/// The writer's end. After the first failure nothing is written any more: the file may end in half a line, and a further
/// one would hide that.
#[derive(Debug)]
pub(crate) struct Writer {
    file: File,
    serial: u32,
    n: u64,
    broken: bool,
}

impl Writer {
    /// Continues the journal at `path`, or begins it. The file is locked: its numbers have one writer.
    pub(crate) fn open(path: &Path, serial: u32) -> Result<Self, Error> {
        let unusable = || Error::file("open the journal for appending", path);
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(unusable())?;
        file.try_lock()
            .map_err(|error| Error::file("lock the journal for one card alone", path)(error.into()))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(unusable())?;
        let n = YubiKeyJournal::read(path)?.last().map_or(0, |last| last.n);
        Ok(Self { file, serial, n, broken: false })
    }

    /// Writes one line and waits until it is on disk.
    pub(crate) fn append(&mut self, signed: &Signed) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the journal failed before; it proves nothing from there on"));
        }
        let n = self.n + 1;
        let written = self.write(&Entry { n, serial: self.serial, signed: signed.clone() });
        self.broken = written.is_err();
        self.n = n;
        written
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(input: &[u8]) -> Signed {
        let (input_sha256, input) = Signed::digest(input);
        Signed {
            operation: Operation::Sign,
            slot: Slot::SIGNATURE,
            algorithm: Algorithm::EccP256,
            input_sha256,
            input,
            signature: vec![0x30, 0],
            pin_policy: PinPolicy::Always,
            pin: PinState::Fresh,
            touch_policy: TouchPolicy::Cached,
            touch: TouchState::Cached,
        }
    }

    #[test]
    fn lines_are_numbered_over_restarts_and_read_back_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        for (n, input) in [(1, &[1; 64][..]), (2, &[2; 65])] {
            Writer::open(&path, 7).unwrap().append(&signed(input)).unwrap();
            let read = YubiKeyJournal::read(&path).unwrap();
            assert_eq!(read.last(), Some(&Entry { n, serial: 7, signed: signed(input) }));
        }
        assert_eq!(YubiKeyJournal::read(&path).unwrap()[1].signed.input, None);
    }

    #[test]
    fn a_torn_a_strange_and_a_lost_line_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut writer = Writer::open(&path, 7).unwrap();
        writer.append(&signed(&[1])).unwrap();
        writer.append(&signed(&[2])).unwrap();
        drop(writer);
        let text = fs::read(&path).unwrap();
        let first = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in first + 1..text.len() {
            fs::write(&path, &text[..cut]).unwrap();
            assert!(matches!(YubiKeyJournal::read(&path), Err(Error::JournalTorn { line: 2, .. })), "{cut}");
            assert!(Writer::open(&path, 7).is_err());
        }
        fs::write(&path, &text[first..]).unwrap();
        assert!(matches!(YubiKeyJournal::read(&path), Err(Error::JournalGap { line: 1, found: 2, .. })));
        fs::write(&path, b"{}\n").unwrap();
        assert!(matches!(YubiKeyJournal::read(&path), Err(Error::JournalLine { line: 1, .. })));
    }

    #[test]
    fn a_journal_has_one_writer_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let writer = Writer::open(&path, 7).unwrap();
        let error = Writer::open(&path, 8).unwrap_err();
        assert!(error.to_string().contains("lock the journal"), "{error}");
        drop(writer);
        Writer::open(&path, 8).unwrap();
    }

    #[test]
    fn a_journal_that_failed_once_takes_no_more_lines() {
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut writer = Writer { file, serial: 1, n: 0, broken: false };
        assert!(writer.append(&signed(&[1])).is_err());
        writer.file = tempfile::tempfile().unwrap();
        assert!(writer.append(&signed(&[1])).is_err());
    }
}
