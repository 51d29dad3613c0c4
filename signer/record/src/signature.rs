//! Signatures of every kind, and what of a payload each is over.

use crate::{Algorithm, Sha256, Sha384};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest payload that an Ed25519 key signs here. Its completion carries the payload, since nothing shorter is enough
/// to verify the signature, and must fit into a leaf of 65 535 bytes as base64.
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024;

/// What of a payload a signature is over, in the form that the key's kind signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedData {
    /// ECDSA on P-256, and RSA.
    Sha256(Sha256),
    /// ECDSA on P-384.
    Sha384(Sha384),
    /// Ed25519: the payload itself.
    Message(Message),
}

/// A payload that is short enough for its completion.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(Vec<u8>);

/// A payload that no completion by an Ed25519 key can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a payload of {0} bytes: an Ed25519 key signs at most {MAX_MESSAGE_BYTES}, since the log must hold them; use a key of another type"
)]
pub struct MessageTooLong(usize);

/// By what a completion is matched with its intent: the payload's digest in the hash that the key's kind signs, SHA-256 for
/// one that signs the message itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PayloadDigest {
    /// Of all kinds of keys but one.
    Sha256(Sha256),
    /// Of P-384 keys.
    Sha384(Sha384),
}

impl SignedData {
    /// The form in which a key of this kind signs `payload`.
    pub fn of(algorithm: Algorithm, payload: &[u8]) -> Result<Self, MessageTooLong> {
        match algorithm {
            Algorithm::EcdsaP256 | Algorithm::RsaPss2048 | Algorithm::RsaPss3072 | Algorithm::RsaPss4096 => {
                Ok(Self::Sha256(Sha256::of(payload)))
            }
            Algorithm::EcdsaP384 => Ok(Self::Sha384(Sha384::of(payload))),
            Algorithm::Ed25519 => Message::new(payload).map(Self::Message),
        }
    }

    /// Whether a key of this kind signs data of this form.
    pub(crate) fn is_for(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Sha256(_) => !matches!(algorithm, Algorithm::EcdsaP384 | Algorithm::Ed25519),
            Self::Sha384(_) => algorithm == Algorithm::EcdsaP384,
            Self::Message(_) => algorithm == Algorithm::Ed25519,
        }
    }

    /// What matches a completion with its intent.
    pub fn digest(&self) -> PayloadDigest {
        match self {
            Self::Sha256(digest) => PayloadDigest::Sha256(*digest),
            Self::Sha384(digest) => PayloadDigest::Sha384(*digest),
            Self::Message(message) => PayloadDigest::Sha256(Sha256::of(&message.0)),
        }
    }
}

impl Message {
    /// A payload of at most [`MAX_MESSAGE_BYTES`].
    pub fn new(payload: &[u8]) -> Result<Self, MessageTooLong> {
        if payload.len() <= MAX_MESSAGE_BYTES {
            Ok(Self(payload.to_vec()))
        } else {
            Err(MessageTooLong(payload.len()))
        }
    }

    /// The payload.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes)", self.0.len())
    }
}

impl PayloadDigest {
    /// The 32 or 48 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(digest) => digest.as_bytes(),
            Self::Sha384(digest) => digest.as_bytes(),
        }
    }
}

/// Hex; the length says which hash it is.
impl fmt::Display for PayloadDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => fmt::Display::fmt(digest, f),
            Self::Sha384(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

impl Serialize for PayloadDigest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// A signature of one kind of key. In JSON it is base64 of the form in which tokens give it (PKCS#11: `r || s` for ECDSA),
/// behind the word of its kind and a colon for every kind but P-256, which has none.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature(Made);

/// The parsed signature.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Made {
    P256(p256::ecdsa::Signature),
    P384(p384::ecdsa::Signature),
    RsaPss(Vec<u8>),
    Ed25519([u8; 64]),
}

/// Bytes that are no signature of the kind: wrong length, or numbers outside their range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a signature by a {0} key")]
pub struct SignatureError(Algorithm);

impl Signature {
    /// Parses `r || s` by a P-256 key, 64 bytes (PKCS#11 `CKM_ECDSA`).
    pub fn from_raw(bytes: &[u8]) -> Result<Self, SignatureError> {
        Self::from_token(Algorithm::EcdsaP256, bytes)
    }

    /// Parses the ASN.1 DER form of a P-256 signature that X.509, cosign and Rekor use.
    pub fn from_der(bytes: &[u8]) -> Result<Self, SignatureError> {
        Self::from_client(Algorithm::EcdsaP256, bytes)
    }

    /// Parses what a token gives (PKCS#11): `r || s` for ECDSA, the bytes of RFC 8017 and RFC 8032 for the others.
    pub fn from_token(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, SignatureError> {
        let made = match algorithm {
            Algorithm::EcdsaP256 => p256::ecdsa::Signature::from_slice(bytes).ok().map(Made::P256),
            Algorithm::EcdsaP384 => p384::ecdsa::Signature::from_slice(bytes).ok().map(Made::P384),
            _ => not_ecdsa(algorithm, bytes),
        };
        made.map(Self).ok_or(SignatureError(algorithm))
    }

    /// Parses what clients read: ASN.1 DER for ECDSA, the bytes of RFC 8017 and RFC 8032 for the others.
    pub fn from_client(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, SignatureError> {
        let made = match algorithm {
            Algorithm::EcdsaP256 => p256::ecdsa::Signature::from_der(bytes).ok().map(Made::P256),
            Algorithm::EcdsaP384 => p384::ecdsa::Signature::from_der(bytes).ok().map(Made::P384),
            _ => not_ecdsa(algorithm, bytes),
        };
        made.map(Self).ok_or(SignatureError(algorithm))
    }

    /// As a token gives it; of ECDSA `r || s`.
    pub fn to_raw(&self) -> Vec<u8> {
        match &self.0 {
            Made::P256(made) => made.to_bytes().to_vec(),
            Made::P384(made) => made.to_bytes().to_vec(),
            Made::RsaPss(bytes) => bytes.clone(),
            Made::Ed25519(bytes) => bytes.to_vec(),
        }
    }

    /// As clients read it; of ECDSA in ASN.1 DER.
    pub fn to_der(&self) -> Vec<u8> {
        match &self.0 {
            Made::P256(made) => made.to_der().as_bytes().to_vec(),
            Made::P384(made) => made.to_der().as_bytes().to_vec(),
            Made::RsaPss(_) | Made::Ed25519(_) => self.to_raw(),
        }
    }

    /// The kind of key that makes such signatures.
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Made::P256(_) => Algorithm::EcdsaP256,
            Made::P384(_) => Algorithm::EcdsaP384,
            Made::RsaPss(bytes) => match bytes.len() {
                256 => Algorithm::RsaPss2048,
                384 => Algorithm::RsaPss3072,
                _ => Algorithm::RsaPss4096,
            },
            Made::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    pub(crate) fn made(&self) -> &Made {
        &self.0
    }
}

/// The kinds that have one form only.
fn not_ecdsa(algorithm: Algorithm, bytes: &[u8]) -> Option<Made> {
    let pss = |length| (bytes.len() == length).then(|| Made::RsaPss(bytes.to_vec()));
    match algorithm {
        Algorithm::EcdsaP256 | Algorithm::EcdsaP384 => None,
        Algorithm::RsaPss2048 => pss(256),
        Algorithm::RsaPss3072 => pss(384),
        Algorithm::RsaPss4096 => pss(512),
        Algorithm::Ed25519 => bytes.try_into().ok().map(Made::Ed25519),
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}, {})", self.algorithm(), Sha256::of(&self.to_raw()))
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let bytes = STANDARD.encode(self.to_raw());
        match self.algorithm() {
            Algorithm::EcdsaP256 => s.serialize_str(&bytes),
            other => s.collect_str(&format_args!("{other}:{bytes}")),
        }
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(d)?;
        let (algorithm, bytes) = match text.split_once(':') {
            None => (Algorithm::EcdsaP256, text.as_str()),
            Some((word, bytes)) => {
                let named = |a: &Algorithm| *a != Algorithm::EcdsaP256 && a.as_str() == word;
                let known = Algorithm::ALL.into_iter().find(named);
                (known.ok_or_else(|| Error::custom("a signature of an unknown kind"))?, bytes)
            }
        };
        let bytes = STANDARD.decode(bytes).map_err(Error::custom)?;
        Self::from_token(algorithm, &bytes).map_err(Error::custom)
    }
}
