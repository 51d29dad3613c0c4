//! Reading what the forwarder wrote: which signatures the keys really made, and which logins were tried.
//!
//! Promises: what is returned is everything that was written, in the order of writing; a line that is torn, strange or
//! lost is an error, never a shorter answer. It does not know: whether a signature is right; tests verify it.

use crate::Error;
use serde::{Deserialize, Deserializer, de};
use std::{collections::HashMap, fs, path::Path};

/// About half a million signatures: more than any test makes, and a bound for what is read into memory.
pub const MAX_JOURNAL_BYTES: u64 = 256 * 1024 * 1024;

/// The journal of a token, written by every process that loaded the forwarder with it.
#[derive(Debug)]
pub struct Journal;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The key made this signature.
    Signature {
        /// The process that asked for it.
        pid: u32,
        /// The line's number among those of its process, from 1.
        n: u64,
        /// The call that returned it.
        function: SignFunction,
        /// The private key's `CKA_ID`.
        key_id: Vec<u8>,
        /// The `CKM_` number given to `C_SignInit`.
        mechanism: u64,
        /// SHA-256 of what was handed to the token.
        input_sha256: [u8; 32],
        /// What was handed to the token, if it has at most 64 bytes.
        input: Option<Vec<u8>>,
        /// The signature as the token returned it: `r || s` for ECDSA.
        signature: Vec<u8>,
    },
    /// Somebody tried to log in.
    Login {
        /// The process that did.
        pid: u32,
        /// The line's number among those of its process, from 1.
        n: u64,
        /// The token's answer, a `CKR_` number: 0 is a success, 0xa0 a wrong PIN.
        rv: u64,
    },
}

/// The call that returned a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignFunction {
    /// `C_Sign`: the whole input in one call.
    Sign,
    /// `C_SignFinal`: the input in parts.
    SignFinal,
}

impl Journal {
    /// Every line of the journal at `path`, in order. Read it when its writers ended or are idle.
    pub fn read(path: &Path) -> Result<Vec<Entry>, Error> {
        let text = read_bounded(path, MAX_JOURNAL_BYTES)?;
        let mut numbers = Numbers::default();
        lines(&text)
            .map(|(line, bytes)| {
                let torn = || Error::JournalTorn { path: path.to_owned(), line };
                let bytes = bytes.strip_suffix(b"\n").ok_or_else(torn)?;
                let entry = serde_json::from_slice::<Line>(bytes)
                    .map(Entry::from)
                    .map_err(|source| Error::JournalLine { path: path.to_owned(), line, source })?;
                numbers.check(path, line, &entry)?;
                Ok(entry)
            })
            .collect()
    }
}

impl Entry {
    /// The signature, if this line is one.
    pub fn signature(&self) -> Option<&[u8]> {
        match self {
            Self::Signature { signature, .. } => Some(signature),
            Self::Login { .. } => None,
        }
    }

    fn number(&self) -> (u32, u64) {
        match self {
            Self::Signature { pid, n, .. } | Self::Login { pid, n, .. } => (*pid, *n),
        }
    }
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::JournalRead { path: path.to_owned(), source };
    if fs::metadata(path).map_err(unreadable)?.len() > limit {
        return Err(Error::JournalTooLarge { path: path.to_owned(), limit });
    }
    fs::read(path).map_err(unreadable)
}

fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    text.split_inclusive(|byte| *byte == b'\n').enumerate().map(|(index, bytes)| (index + 1, bytes))
}

/// The last number of each process. 1 begins anew: a process id comes back in a long run.
#[derive(Default)]
struct Numbers(HashMap<u32, u64>);

impl Numbers {
    fn check(&mut self, path: &Path, line: usize, entry: &Entry) -> Result<(), Error> {
        let (pid, found) = entry.number();
        let expected = self.0.insert(pid, found).unwrap_or(0) + 1;
        if found == expected || found == 1 {
            return Ok(());
        }
        Err(Error::JournalGap { path: path.to_owned(), line, pid, found, expected })
    }
}

/// The forwarder's own spelling of a line.
#[derive(Deserialize)]
#[serde(tag = "function")]
enum Line {
    #[serde(rename = "C_Sign")]
    Sign(SignatureLine),
    #[serde(rename = "C_SignFinal")]
    SignFinal(SignatureLine),
    #[serde(rename = "C_Login")]
    Login(LoginLine),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureLine {
    n: u64,
    pid: u32,
    #[serde(deserialize_with = "hex")]
    key: Vec<u8>,
    #[serde(deserialize_with = "number")]
    mechanism: u64,
    #[serde(deserialize_with = "sha256")]
    input_sha256: [u8; 32],
    #[serde(default, deserialize_with = "some_hex")]
    input: Option<Vec<u8>>,
    #[serde(deserialize_with = "hex")]
    signature: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginLine {
    n: u64,
    pid: u32,
    #[serde(deserialize_with = "number")]
    rv: u64,
}

impl From<Line> for Entry {
    fn from(line: Line) -> Self {
        match line {
            Line::Sign(line) => line.into_entry(SignFunction::Sign),
            Line::SignFinal(line) => line.into_entry(SignFunction::SignFinal),
            Line::Login(LoginLine { n, pid, rv }) => Self::Login { pid, n, rv },
        }
    }
}

impl SignatureLine {
    fn into_entry(self, function: SignFunction) -> Entry {
        let Self { n, pid, key, mechanism, input_sha256, input, signature } = self;
        Entry::Signature { pid, n, function, key_id: key, mechanism, input_sha256, input, signature }
    }
}

fn hex<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    parse_hex(&text).ok_or_else(|| de::Error::custom("bytes are pairs of lower-case hex digits"))
}

fn some_hex<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    hex(from).map(Some)
}

fn sha256<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
    hex(from)?.try_into().map_err(|_| de::Error::custom("a SHA-256 has 64 hex digits"))
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    let parsed = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    parsed.ok_or_else(|| de::Error::custom("a PKCS#11 number is 0x and hex digits"))
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Journal, SignFunction, read_bounded};
    use crate::Error;
    use std::{fs, path::PathBuf};

    struct Written {
        _dir: tempfile::TempDir,
        path: PathBuf,
    }

    fn written(text: &str) -> Written {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        fs::write(&path, text).unwrap();
        Written { _dir: dir, path }
    }

    fn read(text: &str) -> Result<Vec<Entry>, Error> {
        Journal::read(&written(text).path)
    }

    fn login(pid: u32, n: u64) -> String {
        format!("{{\"n\":{n},\"pid\":{pid},\"function\":\"C_Login\",\"rv\":\"0x0\"}}\n")
    }

    fn signature(function: &str) -> String {
        let hash = "ab".repeat(32);
        format!(
            "{{\"n\":1,\"pid\":7,\"function\":\"{function}\",\"key\":\"01\",\"mechanism\":\"0x1041\",\
             \"input_sha256\":\"{hash}\",\"input\":\"00ff\",\"signature\":\"0a0b\"}}\n"
        )
    }

    #[test]
    fn a_signature_line_is_read_back_whole() {
        for (name, function) in [("C_Sign", SignFunction::Sign), ("C_SignFinal", SignFunction::SignFinal)] {
            let expected = Entry::Signature {
                pid: 7,
                n: 1,
                function,
                key_id: vec![1],
                mechanism: 0x1041,
                input_sha256: [0xab; 32],
                input: Some(vec![0, 0xff]),
                signature: vec![10, 11],
            };
            assert_eq!(read(&signature(name)).unwrap(), [expected]);
        }
    }

    #[test]
    fn long_inputs_stand_only_as_their_hash() {
        let entries = read(&signature("C_Sign").replace("\"input\":\"00ff\",", "")).unwrap();
        assert!(matches!(entries.as_slice(), [Entry::Signature { input: None, .. }]));
    }

    #[test]
    fn every_cut_of_the_last_line_is_refused_as_torn() {
        let first = login(1, 1);
        let text = format!("{first}{}", login(1, 2));
        for cut in first.len() + 1..text.len() {
            let outcome = read(&text[..cut]);
            assert!(matches!(outcome, Err(Error::JournalTorn { line: 2, .. })), "cut at {cut}: {outcome:?}");
        }
        assert_eq!(read(&text).unwrap().len(), 2);
        assert_eq!(read(&first).unwrap().len(), 1);
    }

    #[test]
    fn a_line_that_the_forwarder_did_not_write_is_refused() {
        let login = login(1, 1);
        for bad in [
            "\n".to_owned(),
            "{}\n".to_owned(),
            login.replace("C_Login", "C_Logout"),
            login.replace("0x0", "0"),
            login.replace("\"rv\"", "\"more\":1,\"rv\""),
            login.replace("\"rv\"", "\"rv\":\"0x1\",\"rv\""),
            signature("C_Sign").replace("0a0b", "0A0B"),
            signature("C_Sign").replace("0a0b", "0a0"),
            signature("C_Sign").replace("abab", "ab"),
        ] {
            let outcome = read(&bad);
            assert!(matches!(outcome, Err(Error::JournalLine { line: 1, .. })), "{bad}: {outcome:?}");
        }
    }

    #[test]
    fn a_lost_line_is_noticed() {
        let text = [login(1, 1), login(2, 1), login(1, 3)].concat();
        assert!(matches!(read(&text), Err(Error::JournalGap { line: 3, pid: 1, found: 3, expected: 2, .. })));
        assert!(matches!(read(&login(1, 2)), Err(Error::JournalGap { expected: 1, .. })));
    }

    #[test]
    fn a_process_id_that_comes_back_begins_anew() {
        let text = [login(1, 1), login(1, 2), login(2, 1), login(1, 1)].concat();
        assert_eq!(read(&text).unwrap().len(), 4);
    }

    #[test]
    fn a_journal_that_nobody_opened_is_an_error_and_an_empty_one_is_not() {
        let written = written("");
        assert_eq!(Journal::read(&written.path).unwrap(), []);
        fs::remove_file(&written.path).unwrap();
        assert!(matches!(Journal::read(&written.path), Err(Error::JournalRead { .. })));
    }

    #[test]
    fn a_journal_beyond_the_limit_is_refused() {
        let written = written(&login(1, 1));
        assert!(matches!(read_bounded(&written.path, 10), Err(Error::JournalTooLarge { limit: 10, .. })));
    }
}
