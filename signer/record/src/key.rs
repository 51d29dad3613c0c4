//! Keys: their identity, their purpose, and what a signature by one is.

use crate::{Sha256, wire::Blob};
use p256::ecdsa::{Signature as P256Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use p256::pkcs8::DecodePublicKey;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A key's identity everywhere in Chancery: the SHA-256 of its DER `SubjectPublicKeyInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(Sha256);

impl KeyId {
    /// The bare hash.
    pub fn sha256(&self) -> Sha256 {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::str::FromStr for KeyId {
    type Err = crate::DigestError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A P-256 public key as DER `SubjectPublicKeyInfo` (RFC 5480): parsed, so the point is on the curve, and spelled the
/// one way that the id is computed over. Base64 in JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Spki {
    der: Vec<u8>,
    key: VerifyingKey,
}

/// What is no P-256 public key, in canonical DER where it is DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 SubjectPublicKeyInfo, or not in canonical DER")]
pub struct SpkiError;

impl Spki {
    /// Parses DER.
    pub fn from_der(der: &[u8]) -> Result<Self, SpkiError> {
        use p256::pkcs8::EncodePublicKey;
        let key = VerifyingKey::from_public_key_der(der).map_err(|_| SpkiError)?;
        let again = key.to_public_key_der().map_err(|_| SpkiError)?;
        if again.as_bytes() == der { Ok(Self { der: der.to_vec(), key }) } else { Err(SpkiError) }
    }

    /// Parses PEM (`-----BEGIN PUBLIC KEY-----`).
    pub fn from_pem(pem: &str) -> Result<Self, SpkiError> {
        let key = VerifyingKey::from_public_key_pem(pem).map_err(|_| SpkiError)?;
        Self::from_sec1(key.to_sec1_point(false).as_bytes())
    }

    /// Builds the DER from an uncompressed SEC1 point (65 bytes, `04 x y`).
    pub fn from_sec1(point: &[u8]) -> Result<Self, SpkiError> {
        use p256::pkcs8::EncodePublicKey;
        let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| SpkiError)?;
        let der = key.to_public_key_der().map_err(|_| SpkiError)?.as_bytes().to_vec();
        Ok(Self { der, key })
    }

    /// The DER bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the DER.
    pub fn id(&self) -> KeyId {
        KeyId(Sha256::of(&self.der))
    }

    /// The key as PEM (`-----BEGIN PUBLIC KEY-----`), for files that people hand to clients.
    pub fn to_pem(&self) -> String {
        use p256::pkcs8::{EncodePublicKey, LineEnding};
        self.key.to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// Whether `signature` is this key's over the message whose SHA-256 is `digest`.
    pub fn verifies(&self, digest: &Sha256, signature: &Signature) -> bool {
        self.key.verify_prehash(digest.as_bytes(), &signature.0).is_ok()
    }
}

impl fmt::Debug for Spki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spki({})", self.id())
    }
}

impl Serialize for Spki {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Blob(self.der.clone()).serialize(s)
    }
}

impl<'de> Deserialize<'de> for Spki {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::from_der(&Blob::deserialize(d)?.0).map_err(serde::de::Error::custom)
    }
}

/// An ECDSA P-256 signature; in JSON the base64 of its fixed form `r || s`, 64 bytes (PKCS#11 `CKM_ECDSA`).
#[derive(Clone, PartialEq, Eq)]
pub struct Signature(P256Signature);

/// Bytes that are no P-256 signature: wrong length, or r or s outside 1..n-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an ECDSA P-256 signature")]
pub struct SignatureError;

impl Signature {
    /// Parses `r || s`.
    pub fn from_raw(bytes: &[u8]) -> Result<Self, SignatureError> {
        P256Signature::from_slice(bytes).map(Self).map_err(|_| SignatureError)
    }

    /// Parses the ASN.1 DER form that X.509, cosign and Rekor use.
    pub fn from_der(bytes: &[u8]) -> Result<Self, SignatureError> {
        P256Signature::from_der(bytes).map(Self).map_err(|_| SignatureError)
    }

    /// `r || s`, 64 bytes.
    pub fn to_raw(&self) -> Vec<u8> {
        self.0.to_bytes().to_vec()
    }

    /// ASN.1 DER.
    pub fn to_der(&self) -> Vec<u8> {
        self.0.to_der().as_bytes().to_vec()
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", Sha256::of(&self.to_raw()))
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Blob(self.to_raw()).serialize(s)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::from_raw(&Blob::deserialize(d)?.0).map_err(serde::de::Error::custom)
    }
}

/// What a key may sign. A key has exactly one purpose, in its charter and in the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Root metadata of collections, and the certificate of the root key itself.
    Root,
    /// Targets metadata.
    Targets,
    /// Snapshot metadata.
    Snapshot,
    /// Timestamp metadata.
    Timestamp,
}

impl Purpose {
    /// All purposes, in the order of a collection's files.
    pub const ALL: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];

    /// The word that charters, metrics and TUF use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Purpose {
    type Err = crate::GrammarError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|p| p.as_str() == text)
            .ok_or_else(|| crate::GrammarError::new("purpose", text, "root, targets, snapshot or timestamp"))
    }
}

/// The kind of bytes that an intent asks to have signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `TBSCertificate` of a collection's root key (RFC 5280), as Docker Content Trust wants it.
    DctRootCertificate,
    /// Canonical JSON of a `signed` member, Docker Content Trust's dialect of TUF.
    DctMetadata,
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::{SigningKey, signature::hazmat::PrehashSigner};

    #[test]
    fn a_signature_verifies_in_both_forms_and_only_over_its_digest() {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let spki = Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
        let digest = Sha256::of(b"payload");
        let made: P256Signature = key.sign_prehash(digest.as_bytes()).unwrap();
        let raw = Signature::from_raw(&made.to_bytes()).unwrap();
        assert_eq!(Signature::from_der(&raw.to_der()).unwrap(), raw);
        assert!(spki.verifies(&digest, &raw));
        assert!(!spki.verifies(&Sha256::of(b"other"), &raw));
        assert!(Signature::from_raw(&[0; 64]).is_err() && Signature::from_raw(&[1; 63]).is_err());
    }

    #[test]
    fn a_public_key_has_one_spelling() {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let spki = Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
        assert_eq!(Spki::from_der(spki.der()).unwrap(), spki);
        assert_eq!(Spki::from_pem(&spki.to_pem()).unwrap(), spki);
        let mut longer = spki.der().to_vec();
        longer.push(0);
        assert!(Spki::from_der(&longer).is_err());
        assert!(Spki::from_der(&spki.der()[..90]).is_err());
    }
}
