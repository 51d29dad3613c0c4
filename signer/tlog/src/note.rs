//! Signed notes (C2SP signed-note): a text, a blank line, and signature lines `— <name> <base64(key id || signature)>`.
//!
//! Promises: [`Note::verify`] succeeds only if the key signed the text and none of its signature lines is wrong.
//! Does not know what the text says, and holds no private key: the caller signs the text wherever that key lives.

use crate::{CosignerKey, VerifierKey, verifier_key::is_key_name};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{fmt, str::FromStr};

/// The longest note: a checkpoint with 16 of the largest signatures that the specification knows is below it, and so is one
/// with [`MAX_SIGNATURES`] of Ed25519.
pub const MAX_NOTE_LEN: usize = 64 * 1024;
/// How many signature lines a note may have: those of a log's keys and of all witnesses of a policy.
pub const MAX_SIGNATURES: usize = 64;
/// What a signature line begins with: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// A parsed note. Nothing about it is verified until [`verify`](Self::verify) says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The name of the key.
    pub name: String,
    /// The id of the key.
    pub id: u32,
    /// The signature, in the form that the key's type demands.
    pub sig: Vec<u8>,
}

/// Why something is no note, or a note that proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`MAX_NOTE_LEN`].
    #[error("a note has at most {MAX_NOTE_LEN} bytes, this has {len}")]
    TooLong {
        /// How many bytes it has.
        len: usize,
    },
    /// More lines than [`MAX_SIGNATURES`].
    #[error("a note has at most {MAX_SIGNATURES} signatures, this has more")]
    TooManySignatures,
    /// The text does not end with a newline, or has another control character.
    #[error("a note's text ends with a newline and has no other control characters")]
    Text,
    /// No blank line with signature lines after it.
    #[error("a note ends with a blank line and at least one signature line")]
    Unsigned,
    /// A line after the blank line that is no signature line.
    #[error("signature line {line} is not of the form: em dash, name, base64 of key id and signature")]
    SignatureLine {
        /// Which signature line, counted from 1.
        line: usize,
    },
    /// No signature line is by this key.
    #[error("the note is not signed by {vkey}")]
    NotSignedBy {
        /// The key that was asked for.
        vkey: String,
    },
    /// A signature line by this key does not verify.
    #[error("the signature by {vkey} does not verify: text or signature was altered")]
    BadSignature {
        /// The key that was asked for.
        vkey: String,
    },
}

impl Note {
    /// Parses a note of at most [`MAX_NOTE_LEN`] bytes and [`MAX_SIGNATURES`] signatures.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        check_text(note)?;
        // The last blank line: a text may have blank lines of its own.
        let blank = note.rfind("\n\n").ok_or(NoteError::Unsigned)?;
        let (text, signatures) = note.split_at(blank + 1);
        let signatures = parse_signatures(signatures.strip_prefix('\n').unwrap_or_default())?;
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// A note that nobody has signed yet.
    pub(crate) fn unsigned(text: &str) -> Self {
        Self { text: text.to_owned(), signatures: Vec::new() }
    }

    /// The signed text, with its final newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, in order.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Verifies that `key` signed the text. Lines of other keys are ignored; a line of this key that does not verify
    /// makes the whole note worthless, whatever other lines say.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        self.each_by(key, |signature| key.verifies(self.text.as_bytes(), signature).then_some(())).map(drop)
    }

    /// The note with more signature lines behind its own, such as the answer of a witness. A line that it has already is
    /// not added again. Nothing is verified here.
    pub fn with_signatures(
        mut self,
        lines: impl IntoIterator<Item = NoteSignature>,
    ) -> Result<Self, NoteError> {
        for line in lines {
            if self.signatures.contains(&line) {
                continue;
            }
            if self.signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::TooManySignatures);
            }
            self.signatures.push(line);
        }
        match self.to_string().len() {
            len if len > MAX_NOTE_LEN => Err(NoteError::TooLong { len }),
            _ => Ok(self),
        }
    }

    /// What `judge` finds in each signature of a key, of which there is at least one. One that it refuses makes the whole
    /// note worthless.
    pub(crate) fn each_by<T>(
        &self,
        key: &impl NoteKey,
        judge: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NoteError> {
        let by_key = self.signatures.iter().filter(|s| s.id == key.key_id() && s.name == key.name());
        let found: Vec<_> = by_key.map(|s| judge(&s.sig)).collect();
        if found.is_empty() {
            return Err(NoteError::NotSignedBy { vkey: key.to_string() });
        }
        let verified: Option<Vec<T>> = found.into_iter().collect();
        verified.ok_or_else(|| NoteError::BadSignature { vkey: key.to_string() })
    }
}

/// A key whose signature lines are found by its name and id.
pub(crate) trait NoteKey: fmt::Display {
    fn name(&self) -> &str;
    fn key_id(&self) -> u32;
}

impl NoteKey for VerifierKey {
    fn name(&self) -> &str {
        self.name()
    }

    fn key_id(&self) -> u32 {
        self.key_id()
    }
}

impl NoteKey for CosignerKey {
    fn name(&self) -> &str {
        self.name()
    }

    fn key_id(&self) -> u32 {
        self.key_id()
    }
}

/// Makes a note of `text` and its signature by `key`: the 64 bytes of RFC 8032 for Ed25519, ASN.1 DER for ECDSA. The
/// signature is verified first, so that a token's wrong answer never becomes a note.
pub fn signed_note(text: &str, key: &VerifierKey, signature: &[u8]) -> Result<String, NoteError> {
    check_text(text)?;
    let sig = signature.to_vec();
    let line = NoteSignature { name: key.name().to_owned(), id: key.key_id(), sig };
    let note = Note { text: text.to_owned(), signatures: vec![line] };
    note.verify(key)?;
    let note = note.to_string();
    if note.len() > MAX_NOTE_LEN { Err(NoteError::TooLong { len: note.len() }) } else { Ok(note) }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id.to_be_bytes(), self.sig.as_slice()].concat();
        write!(f, "{SIGNATURE_PREFIX}{} {}", self.name, STANDARD.encode(bytes))
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        Self::parse(note)
    }
}

/// What the specification demands of a note's text, and so of the whole note.
fn check_text(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_NOTE_LEN {
        return Err(NoteError::TooLong { len: text.len() });
    }
    let bad = |b: u8| b < 0x20 && b != b'\n';
    if text.ends_with('\n') && !text.bytes().any(bad) { Ok(()) } else { Err(NoteError::Text) }
}

/// Parses signature lines, at least one and each with its newline: what follows the blank line of a note, and what a witness
/// answers.
pub(crate) fn parse_signatures(lines: &str) -> Result<Vec<NoteSignature>, NoteError> {
    let lines = lines.strip_suffix('\n').ok_or(NoteError::Unsigned)?;
    let mut signatures = Vec::new();
    for (line, text) in (1..).zip(lines.split('\n')) {
        if line > MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        signatures.push(parse_signature(text).ok_or(NoteError::SignatureLine { line })?);
    }
    Ok(signatures)
}

fn parse_signature(line: &str) -> Option<NoteSignature> {
    let (name, base64) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    let bytes = STANDARD.decode(base64).ok()?;
    let (id, sig) = bytes.split_first_chunk::<4>()?;
    let valid = is_key_name(name) && !sig.is_empty();
    valid.then(|| NoteSignature { name: name.to_owned(), id: u32::from_be_bytes(*id), sig: sig.to_vec() })
}
