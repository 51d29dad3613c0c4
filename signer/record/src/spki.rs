//! Public keys of every kind that signs, and whether a signature is theirs.

use crate::signature::Made;
use crate::{Algorithm, KeyId, Sha256, Signature, SignedData, wire::Blob};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};
use rsa::{RsaPublicKey, traits::PublicKeyParts};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes of a PSS salt: those of the digest (RFC 8017, 9.1).
pub const PSS_SALT: usize = 32;
/// Bytes of the largest modulus.
const MAX_MODULUS: usize = 512;

/// A public key as DER `SubjectPublicKeyInfo` (RFC 5280; RFC 5480, 8017 and 8410 for its kinds): parsed, so a point is on
/// its curve, and spelled the one way that the id is computed over. Base64 in JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Spki {
    der: Vec<u8>,
    key: Key,
}

/// The parsed key; boxed where it is much larger than the others.
#[derive(Clone, PartialEq, Eq)]
enum Key {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    Rsa(Box<RsaPublicKey>, Algorithm),
    Ed25519(ed25519_dalek::VerifyingKey),
}

/// Bytes that are no public key of a kind that signs here, in canonical DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a SubjectPublicKeyInfo in canonical DER of a P-256, P-384, Ed25519, or RSA key of 2048, 3072 or 4096 bits"
)]
pub struct SpkiError;

impl Spki {
    /// Parses DER.
    pub fn from_der(der: &[u8]) -> Result<Self, SpkiError> {
        let parsed = Key::PARSERS.iter().find_map(|parse| parse(der)).ok_or(SpkiError)?;
        let spki = Self::new(parsed)?;
        if spki.der == der { Ok(spki) } else { Err(SpkiError) }
    }

    /// Parses PEM (`-----BEGIN PUBLIC KEY-----`).
    pub fn from_pem(pem: &str) -> Result<Self, SpkiError> {
        let (label, der) = p256::pkcs8::der::pem::decode_vec(pem.as_bytes()).map_err(|_| SpkiError)?;
        if label == "PUBLIC KEY" { Self::from_der(&der) } else { Err(SpkiError) }
    }

    /// Builds the DER from an uncompressed SEC1 point: `04 x y`, 65 bytes on P-256 and 97 on P-384.
    pub fn from_sec1(point: &[u8]) -> Result<Self, SpkiError> {
        let key = match point.len() {
            65 => p256::ecdsa::VerifyingKey::from_sec1_bytes(point).map(Key::P256),
            97 => p384::ecdsa::VerifyingKey::from_sec1_bytes(point).map(Key::P384),
            _ => return Err(SpkiError),
        };
        Self::new(key.map_err(|_| SpkiError)?)
    }

    /// Builds the DER from a modulus and an exponent, big-endian.
    pub fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, SpkiError> {
        let number = |bytes: &[u8]| {
            let first = bytes.iter().position(|b| *b != 0)?;
            let bytes = bytes.get(first..).filter(|b| b.len() <= MAX_MODULUS)?;
            rsa::BoxedUint::from_be_slice(bytes, u32::try_from(bytes.len()).ok()? * 8).ok()
        };
        let (n, e) = number(modulus).zip(number(exponent)).ok_or(SpkiError)?;
        Self::new(rsa_key(RsaPublicKey::new(n, e).map_err(|_| SpkiError)?).ok_or(SpkiError)?)
    }

    /// Builds the DER from the 32 bytes of RFC 8032.
    pub fn from_ed25519(key: &[u8; 32]) -> Result<Self, SpkiError> {
        Self::new(
            ed25519_key(ed25519_dalek::VerifyingKey::from_bytes(key).map_err(|_| SpkiError)?)
                .ok_or(SpkiError)?,
        )
    }

    fn new(key: Key) -> Result<Self, SpkiError> {
        Ok(Self { der: key.to_der().ok_or(SpkiError)?, key })
    }

    /// The DER bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the DER.
    pub fn id(&self) -> KeyId {
        KeyId::of_spki(&self.der)
    }

    /// The kind of key.
    pub fn algorithm(&self) -> Algorithm {
        match &self.key {
            Key::P256(_) => Algorithm::EcdsaP256,
            Key::P384(_) => Algorithm::EcdsaP384,
            Key::Rsa(_, algorithm) => *algorithm,
            Key::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// The key as PEM (`-----BEGIN PUBLIC KEY-----`), for files that people hand to clients.
    pub fn to_pem(&self) -> String {
        match &self.key {
            Key::P256(key) => key.to_public_key_pem(LineEnding::LF),
            Key::P384(key) => key.to_public_key_pem(LineEnding::LF),
            Key::Rsa(key, _) => key.to_public_key_pem(LineEnding::LF),
            Key::Ed25519(key) => key.to_public_key_pem(LineEnding::LF),
        }
        .unwrap_or_default()
    }

    /// Whether `signature` is this key's over the message whose SHA-256 is `digest`; never for a key that signs another hash
    /// or the message itself.
    pub fn verifies(&self, digest: &Sha256, signature: &Signature) -> bool {
        self.covers(&SignedData::Sha256(*digest), signature)
    }

    /// Whether `signature` is this key's over `data`, and `data` of the form that this kind of key signs.
    pub fn covers(&self, data: &SignedData, signature: &Signature) -> bool {
        match (&self.key, data, signature.made()) {
            (Key::P256(key), SignedData::Sha256(digest), Made::P256(made)) => {
                key.verify_prehash(digest.as_bytes(), made).is_ok()
            }
            (Key::P384(key), SignedData::Sha384(digest), Made::P384(made)) => {
                key.verify_prehash(digest.as_bytes(), made).is_ok()
            }
            (Key::Rsa(key, _), SignedData::Sha256(digest), Made::RsaPss(made)) => {
                pss_verifies(key, digest, made)
            }
            (Key::Ed25519(key), SignedData::Message(message), Made::Ed25519(made)) => {
                key.verify_strict(message.bytes(), &ed25519_dalek::Signature::from_bytes(made)).is_ok()
            }
            _ => false,
        }
    }
}

/// Takes the DER of one kind of key.
type Parser = fn(&[u8]) -> Option<Key>;

impl Key {
    /// One for each kind; each refuses what is another's.
    const PARSERS: [Parser; 4] = [
        |der| p256::ecdsa::VerifyingKey::from_public_key_der(der).ok().map(Self::P256),
        |der| p384::ecdsa::VerifyingKey::from_public_key_der(der).ok().map(Self::P384),
        |der| ed25519_dalek::VerifyingKey::from_public_key_der(der).ok().and_then(ed25519_key),
        |der| RsaPublicKey::from_public_key_der(der).ok().and_then(rsa_key),
    ];

    fn to_der(&self) -> Option<Vec<u8>> {
        let made = match self {
            Self::P256(key) => key.to_public_key_der(),
            Self::P384(key) => key.to_public_key_der(),
            Self::Rsa(key, _) => key.to_public_key_der(),
            Self::Ed25519(key) => key.to_public_key_der(),
        };
        made.ok().map(p256::pkcs8::Document::into_vec)
    }
}

/// A point of small order is no key: anything verifies under it.
fn ed25519_key(key: ed25519_dalek::VerifyingKey) -> Option<Key> {
    (!key.is_weak()).then_some(Key::Ed25519(key))
}

/// Sigstore has names for these sizes only.
fn rsa_key(key: RsaPublicKey) -> Option<Key> {
    let algorithm = match key.n().bit_width() {
        2048 => Algorithm::RsaPss2048,
        3072 => Algorithm::RsaPss3072,
        4096 => Algorithm::RsaPss4096,
        _ => return None,
    };
    Some(Key::Rsa(Box::new(key), algorithm))
}

fn pss_verifies(key: &RsaPublicKey, digest: &Sha256, signature: &[u8]) -> bool {
    let key = rsa::pss::VerifyingKey::<rsa::sha2::Sha256>::new_with_salt_len(key.clone(), PSS_SALT);
    rsa::pss::Signature::try_from(signature)
        .is_ok_and(|made| key.verify_prehash(digest.as_bytes(), &made).is_ok())
}

impl fmt::Debug for Spki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spki({}, {})", self.algorithm(), self.id())
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

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::{Signature as P256Signature, SigningKey, signature::hazmat::PrehashSigner};

    fn p256() -> (SigningKey, Spki) {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let spki = Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
        (key, spki)
    }

    #[test]
    fn a_signature_verifies_in_both_forms_and_only_over_its_digest() {
        let (key, spki) = p256();
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
        let (_, spki) = p256();
        assert_eq!(Spki::from_der(spki.der()).unwrap(), spki);
        let mut longer = spki.der().to_vec();
        longer.push(0);
        assert!(Spki::from_der(&longer).is_err());
        assert!(Spki::from_der(&spki.der()[..90]).is_err());
    }

    #[test]
    fn a_key_under_which_anything_verifies_is_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(Spki::from_ed25519(&identity).is_err() && Spki::from_ed25519(&[0; 32]).is_err());
    }

    #[test]
    fn an_rsa_key_has_2048_3072_or_4096_bits() {
        for (bytes, good) in
            [(128, false), (255, false), (256, true), (320, false), (384, true), (512, true), (513, false)]
        {
            let modulus = [vec![0], vec![0xff; bytes]].concat();
            let key = Spki::from_rsa(&modulus, &[1, 0, 1]);
            assert_eq!(key.is_ok(), good, "{bytes}");
            assert!(key.is_err() || Spki::from_der(key.as_ref().unwrap().der()) == key);
            assert!(Spki::from_rsa(&modulus, &[]).is_err());
        }
    }
}
