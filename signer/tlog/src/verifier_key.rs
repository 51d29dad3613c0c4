//! Verifier keys of signed notes (C2SP signed-note, "Verifier keys"): `<name>+<key id>+<base64(type || key)>`.
//!
//! Two types, both Ed25519: 0x01 signs a note's text, and is what public witnesses demand of a log's key; 0x04 is a
//! witness's, whose signatures carry the time and cover it (C2SP tlog-cosignature).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};

/// The signature type of Ed25519 over the note's text.
const ED25519: u8 = 0x01;
/// The signature type of Ed25519 over time and text: cosignature/v1.
const COSIGNATURE: u8 = 0x04;
/// A log's name is a host name, of 253 characters at most; a witness's has a path too.
const MAX_NAME_LEN: usize = 255;
/// Name, two `+`, eight hex digits, and the base64 of 33 bytes.
const MAX_VKEY_LEN: usize = MAX_NAME_LEN + 2 + 8 + 44;

/// The key of a log: its signatures are over a note's text.
pub type VerifierKey = Ed25519Key<ED25519>;
/// The key of a witness: its signatures are over a time and a checkpoint's text.
pub type CosignerKey = Ed25519Key<COSIGNATURE>;

/// An Ed25519 public key with the name under which it signs notes, for signatures of one type.
#[derive(Clone, PartialEq, Eq)]
pub struct Ed25519Key<const TYPE: u8> {
    name: String,
    id: u32,
    key: VerifyingKey,
}

/// Why something is no verifier key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifierKeyError {
    /// Not `<name>+<8 hex digits>+<base64>` in its one spelling.
    #[error("a verifier key is written <name>+<8 hex digits>+<base64 of type and key>")]
    Grammar,
    /// Empty, too long, or with a space, a control character or a `+`.
    #[error("the name of a note's key is 1 to 255 bytes without spaces, control characters and '+'")]
    Name,
    /// A signature type other than the one that is needed here.
    #[error(
        "the key's type is {found:#04x}; here it must be {expected:#04x} (0x01: a log's Ed25519, 0x04: a witness's)"
    )]
    Type {
        /// What is needed here.
        expected: u8,
        /// What the key says.
        found: u8,
    },
    /// The 32 bytes are no point, or one of small order, under which anything verifies.
    #[error("the bytes are no usable Ed25519 public key")]
    Key,
    /// The key id does not belong to this name and key: one of the three was altered.
    #[error("the key id is {found:08x}, but name and key give {expected:08x}")]
    KeyId {
        /// As computed.
        expected: u32,
        /// As written.
        found: u32,
    },
}

impl<const TYPE: u8> Ed25519Key<TYPE> {
    /// A verifier key from a name and the 32 bytes of an Ed25519 public key (RFC 8032).
    pub fn new_ed25519(name: impl Into<String>, public_key: [u8; 32]) -> Result<Self, VerifierKeyError> {
        let name = name.into();
        if !is_key_name(&name) {
            return Err(VerifierKeyError::Name);
        }
        let key = VerifyingKey::from_bytes(&public_key).map_err(|_| VerifierKeyError::Key)?;
        if key.is_weak() {
            return Err(VerifierKeyError::Key);
        }
        let id = key_id(&name, TYPE, &public_key);
        Ok(Self { name, id, key })
    }

    /// Parses the text form, as [`Display`](fmt::Display) writes it.
    pub fn parse(text: &str) -> Result<Self, VerifierKeyError> {
        if text.len() > MAX_VKEY_LEN {
            return Err(VerifierKeyError::Grammar);
        }
        let (name, rest) = text.split_once('+').ok_or(VerifierKeyError::Grammar)?;
        let (id, key) = rest.split_once('+').ok_or(VerifierKeyError::Grammar)?;
        let found = parse_key_id(id).ok_or(VerifierKeyError::Grammar)?;
        let parsed = Self::new_ed25519(name, parse_typed_key(key, TYPE)?)?;
        if parsed.id == found {
            Ok(parsed)
        } else {
            Err(VerifierKeyError::KeyId { expected: parsed.id, found })
        }
    }

    /// The name that stands in the signature lines; for a log's key, the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The short hash over name, type and key that stands in the signature lines.
    pub fn key_id(&self) -> u32 {
        self.id
    }

    /// The 32 bytes of the public key.
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|sig| self.key.verify_strict(message, &sig).is_ok())
    }
}

/// Whether a name may stand in a signature line: not empty, no Unicode space, no control character, no `+`.
pub(crate) fn is_key_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    !name.is_empty() && name.len() <= MAX_NAME_LEN && !name.contains(bad)
}

/// C2SP signed-note: the first four bytes of SHA-256(name || newline || type || key), big-endian.
fn key_id(name: &str, kind: u8, public_key: &[u8; 32]) -> u32 {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', kind])
        .chain_update(public_key)
        .finalize()
        .into();
    let [a, b, c, d, ..] = hash;
    u32::from_be_bytes([a, b, c, d])
}

fn parse_key_id(text: &str) -> Option<u32> {
    let id = u32::from_str_radix(text, 16).ok()?;
    (format!("{id:08x}") == text).then_some(id)
}

fn parse_typed_key(text: &str, expected: u8) -> Result<[u8; 32], VerifierKeyError> {
    let bytes = STANDARD.decode(text).map_err(|_| VerifierKeyError::Grammar)?;
    match bytes.split_first() {
        Some((&found, key)) if found == expected => key.try_into().map_err(|_| VerifierKeyError::Key),
        Some((&found, _)) => Err(VerifierKeyError::Type { expected, found }),
        None => Err(VerifierKeyError::Grammar),
    }
}

impl<const TYPE: u8> fmt::Display for Ed25519Key<TYPE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed: Vec<u8> = std::iter::once(TYPE).chain(*self.public_key()).collect();
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(typed))
    }
}

impl<const TYPE: u8> fmt::Debug for Ed25519Key<TYPE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ed25519Key({self})")
    }
}

impl<const TYPE: u8> FromStr for Ed25519Key<TYPE> {
    type Err = VerifierKeyError;

    fn from_str(text: &str) -> Result<Self, VerifierKeyError> {
        Self::parse(text)
    }
}
