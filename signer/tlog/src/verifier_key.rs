//! Verifier keys of signed notes (C2SP signed-note, "Verifier keys"): `<name>+<key id>+<base64(type || key)>`.
//!
//! A log's key is of one of two types: 0x01, Ed25519 over a note's text, which public witnesses demand; and 0x02, ECDSA on
//! P-256 over its SHA-256, for tokens that have no Ed25519. A witness's key is a [`CosignerKey`](crate::CosignerKey).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::pkcs8::{DecodePublicKey, EncodePublicKey};
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};

/// The signature type of Ed25519 over the note's text.
const ED25519: u8 = 0x01;
/// The signature type of ECDSA over the hash of the note's text. Of its curves only P-256 is taken.
const ECDSA: u8 = 0x02;
/// What a log's key may be, for people.
const LOG_TYPES: &str = "0x01 (a log's Ed25519) or 0x02 (a log's ECDSA on P-256)";
/// A log's name is a host name, of 253 characters at most; a witness's has a path too.
const MAX_NAME_LEN: usize = 255;
/// Name, two `+`, eight hex digits, and the base64 of a type and of the 91 bytes of a P-256 key's SPKI.
const MAX_VKEY_LEN: usize = MAX_NAME_LEN + 2 + 8 + 124;
/// What stands before the 32 bytes of an Ed25519 key in the DER of its `SubjectPublicKeyInfo` (RFC 8410).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The key of a log, with the name under which it signs notes: the log's origin.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    log_id: [u8; 32],
    key: Public,
}

/// The point, and the bytes that stand behind the type.
#[derive(Clone, PartialEq, Eq)]
enum Public {
    Ed25519(ed25519_dalek::VerifyingKey),
    P256 { key: p256::ecdsa::VerifyingKey, spki: Vec<u8> },
}

/// A log's public key by itself: what a token must hold to sign for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKey<'a> {
    /// The 32 bytes of RFC 8032.
    Ed25519(&'a [u8; 32]),
    /// The DER of the `SubjectPublicKeyInfo` (RFC 5480) of a key on P-256.
    P256(&'a [u8]),
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
    /// A signature type other than those that are needed here.
    #[error("the key's type is {found:#04x}; here it must be {expected}")]
    Type {
        /// What is needed here.
        expected: &'static str,
        /// What the key says.
        found: u8,
    },
    /// The bytes are no point of the curve in their one spelling, or one of small order, under which anything verifies.
    #[error("the bytes are no usable public key of this type")]
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

impl VerifierKey {
    /// A log's key of type 0x01 from its name and the 32 bytes of an Ed25519 public key (RFC 8032).
    pub fn new_ed25519(name: impl Into<String>, public_key: [u8; 32]) -> Result<Self, VerifierKeyError> {
        let name = key_name(name.into())?;
        let key = ed25519_point(&public_key)?;
        Ok(Self { log_id: named_key_hash(&name, ED25519, &public_key), name, key: Public::Ed25519(key) })
    }

    /// A log's key of type 0x02 from its name and the DER of the `SubjectPublicKeyInfo` of a key on P-256 (RFC 5480).
    pub fn new_p256(name: impl Into<String>, spki_der: &[u8]) -> Result<Self, VerifierKeyError> {
        let name = key_name(name.into())?;
        let key =
            p256::ecdsa::VerifyingKey::from_public_key_der(spki_der).map_err(|_| VerifierKeyError::Key)?;
        let spki = key.to_public_key_der().map_err(|_| VerifierKeyError::Key)?.into_vec();
        if spki != spki_der {
            return Err(VerifierKeyError::Key);
        }
        Ok(Self { name, log_id: Sha256::digest(&spki).into(), key: Public::P256 { key, spki } })
    }

    /// Parses the text form, as [`Display`](fmt::Display) writes it.
    pub fn parse(text: &str) -> Result<Self, VerifierKeyError> {
        let parts = Parts::parse(text)?;
        let parsed = match parts.kind {
            ED25519 => Self::new_ed25519(parts.name, parts.ed25519()?)?,
            ECDSA => Self::new_p256(parts.name, &parts.key)?,
            found => return Err(VerifierKeyError::Type { expected: LOG_TYPES, found }),
        };
        parts.demand_id(parsed.key_id())?;
        Ok(parsed)
    }

    /// The name that stands in the signature lines: the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The short hash that stands in the signature lines: the first four bytes of the [`log_id`](Self::log_id).
    pub fn key_id(&self) -> u32 {
        short(&self.log_id)
    }

    /// The hash that the key id is cut from, which Sigstore calls the log's id: for Ed25519 SHA-256(name, newline, type,
    /// key), for ECDSA SHA-256 of the SPKI.
    pub fn log_id(&self) -> &[u8; 32] {
        &self.log_id
    }

    /// The key by itself.
    pub fn key(&self) -> LogKey<'_> {
        match &self.key {
            Public::Ed25519(key) => LogKey::Ed25519(key.as_bytes()),
            Public::P256 { spki, .. } => LogKey::P256(spki),
        }
    }

    /// The DER of the key's `SubjectPublicKeyInfo`, as X.509 and Sigstore's trusted roots have it.
    pub fn spki_der(&self) -> Vec<u8> {
        match self.key() {
            LogKey::Ed25519(key) => [ED25519_SPKI.as_slice(), key].concat(),
            LogKey::P256(spki) => spki.to_vec(),
        }
    }

    /// Whether a public witness takes checkpoints by this key: they demand Ed25519 of a log.
    pub fn is_for_public_witnesses(&self) -> bool {
        matches!(self.key, Public::Ed25519(_))
    }

    /// Whether `signature`, in the form of a signature line, is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Public::Ed25519(key) => ed25519_verifies(key, message, signature),
            Public::P256 { key, .. } => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|made| key.verify_prehash(&Sha256::digest(message), &made).is_ok()),
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key() {
            LogKey::Ed25519(key) => write_vkey(f, &self.name, self.key_id(), ED25519, key),
            LogKey::P256(spki) => write_vkey(f, &self.name, self.key_id(), ECDSA, spki),
        }
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl FromStr for VerifierKey {
    type Err = VerifierKeyError;

    fn from_str(text: &str) -> Result<Self, VerifierKeyError> {
        Self::parse(text)
    }
}

/// What a verifier key's text consists of.
pub(crate) struct Parts<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: u8,
    key: Vec<u8>,
    id: u32,
}

impl<'a> Parts<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, VerifierKeyError> {
        if text.len() > MAX_VKEY_LEN {
            return Err(VerifierKeyError::Grammar);
        }
        let (name, rest) = text.split_once('+').ok_or(VerifierKeyError::Grammar)?;
        let (id, typed) = rest.split_once('+').ok_or(VerifierKeyError::Grammar)?;
        let id = parse_key_id(id).ok_or(VerifierKeyError::Grammar)?;
        let typed = STANDARD.decode(typed).map_err(|_| VerifierKeyError::Grammar)?;
        let (&kind, key) = typed.split_first().ok_or(VerifierKeyError::Grammar)?;
        Ok(Self { name, kind, key: key.to_vec(), id })
    }

    /// The bytes of an Ed25519 key.
    pub(crate) fn ed25519(&self) -> Result<[u8; 32], VerifierKeyError> {
        self.key.as_slice().try_into().map_err(|_| VerifierKeyError::Key)
    }

    /// Demands that the id is that of the name and the key.
    pub(crate) fn demand_id(&self, expected: u32) -> Result<(), VerifierKeyError> {
        if self.id == expected { Ok(()) } else { Err(VerifierKeyError::KeyId { expected, found: self.id }) }
    }
}

/// Writes the text of a verifier key.
pub(crate) fn write_vkey(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    id: u32,
    kind: u8,
    key: &[u8],
) -> fmt::Result {
    write!(f, "{name}+{id:08x}+{}", STANDARD.encode([&[kind], key].concat()))
}

/// Whether a name may stand in a signature line: not empty, no Unicode space, no control character, no `+`.
pub(crate) fn is_key_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    !name.is_empty() && name.len() <= MAX_NAME_LEN && !name.contains(bad)
}

/// The name, if it may stand in a signature line.
pub(crate) fn key_name(name: String) -> Result<String, VerifierKeyError> {
    if is_key_name(&name) { Ok(name) } else { Err(VerifierKeyError::Name) }
}

/// A point of Ed25519 that is not of small order.
pub(crate) fn ed25519_point(bytes: &[u8; 32]) -> Result<ed25519_dalek::VerifyingKey, VerifierKeyError> {
    let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| VerifierKeyError::Key)?;
    if key.is_weak() { Err(VerifierKeyError::Key) } else { Ok(key) }
}

/// Whether the 64 bytes are this key's signature of the message.
pub(crate) fn ed25519_verifies(key: &ed25519_dalek::VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    ed25519_dalek::Signature::from_slice(signature)
        .is_ok_and(|made| key.verify_strict(message, &made).is_ok())
}

/// C2SP signed-note, of all types but ECDSA: SHA-256(name || newline || type || key), of which four bytes are the key id.
pub(crate) fn named_key_hash(name: &str, kind: u8, public_key: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(name).chain_update([b'\n', kind]).chain_update(public_key).finalize().into()
}

/// The first four bytes, big-endian.
pub(crate) fn short(hash: &[u8; 32]) -> u32 {
    let [a, b, c, d, ..] = *hash;
    u32::from_be_bytes([a, b, c, d])
}

fn parse_key_id(text: &str) -> Option<u32> {
    let id = u32::from_str_radix(text, 16).ok()?;
    (format!("{id:08x}") == text).then_some(id)
}
