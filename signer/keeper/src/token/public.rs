//! Public halves of keys, and whether a signature is theirs: what a token gives is compared with these alone.

use p384::ecdsa::signature::hazmat::PrehashVerifier;
use p384::pkcs8::{DecodePublicKey, EncodePublicKey};
use record::{Sha256, Signature, Spki};
use rsa::BoxedUint;
use tlog::{LogKey, VerifierKey, VerifierKeyError};

/// Bytes of a PSS salt: those of the digest (RFC 8017, 9.1).
pub(crate) const SALT: usize = 32;
/// Sizes of RSA keys, in bits: from what is safe to what is fast enough.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=4096;

/// The public half of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// ECDSA on P-256: the roles of image trust, and the log where its token has no Ed25519.
    P256(Spki),
    /// ECDSA on P-384.
    P384(P384Key),
    /// RSA, for PSS.
    Rsa(RsaKey),
    /// Ed25519, RFC 8032 encoding: the log.
    Ed25519([u8; 32]),
}

/// A public key on P-384.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct P384Key(p384::ecdsa::VerifyingKey);

/// A public RSA key of 2048 to 4096 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RsaKey(rsa::RsaPublicKey);

impl PublicKey {
    /// What operators call the kind of key.
    pub fn kind(&self) -> String {
        match self {
            Self::P256(_) => "p256".to_owned(),
            Self::P384(_) => "p384".to_owned(),
            Self::Rsa(key) => format!("rsa{}", key.bits()),
            Self::Ed25519(_) => "ed25519".to_owned(),
        }
    }

    /// Parses the DER of a `SubjectPublicKeyInfo`, of every kind but Ed25519.
    pub fn from_spki_der(der: &[u8]) -> Option<Self> {
        if let Ok(spki) = Spki::from_der(der) {
            return Some(Self::P256(spki));
        }
        if let Ok(key) = p384::ecdsa::VerifyingKey::from_public_key_der(der) {
            return Some(Self::P384(P384Key(key)));
        }
        let key = rsa::RsaPublicKey::from_public_key_der(der).ok().map(RsaKey)?;
        RSA_BITS.contains(&key.bits()).then_some(Self::Rsa(key))
    }

    /// The key of a log; none if it is no point of its curve.
    pub fn of_log(vkey: &VerifierKey) -> Option<Self> {
        match vkey.key() {
            LogKey::Ed25519(key) => Some(Self::Ed25519(*key)),
            LogKey::P256(spki) => Spki::from_der(spki).ok().map(Self::P256),
        }
    }

    /// The verifier key of the log of this name, whose key it is; none for kinds that sign no notes.
    pub(crate) fn verifier_key(&self, origin: &str) -> Option<Result<VerifierKey, VerifierKeyError>> {
        match self {
            Self::Ed25519(key) => Some(VerifierKey::new_ed25519(origin, *key)),
            Self::P256(spki) => Some(VerifierKey::new_p256(origin, spki.der())),
            Self::P384(_) | Self::Rsa(_) => None,
        }
    }

    /// The key, if it is on P-256.
    pub(crate) fn p256(&self) -> Option<&Spki> {
        if let Self::P256(spki) = self { Some(spki) } else { None }
    }

    /// The DER of the `SubjectPublicKeyInfo`; none for Ed25519, whose 32 bytes are its usual form.
    pub fn spki_der(&self) -> Option<Vec<u8>> {
        let made = match self {
            Self::P256(spki) => return Some(spki.der().to_vec()),
            Self::P384(key) => key.0.to_public_key_der(),
            Self::Rsa(key) => key.0.to_public_key_der(),
            Self::Ed25519(_) => return None,
        };
        made.ok().map(|der| der.as_bytes().to_vec())
    }
}

impl P384Key {
    /// A point in SEC1 form, uncompressed: 97 bytes.
    pub fn from_sec1(point: &[u8]) -> Option<Self> {
        p384::ecdsa::VerifyingKey::from_sec1_bytes(point).ok().map(Self)
    }

    /// Whether `raw` (r and s) is this key's signature of a SHA-384 digest.
    pub(crate) fn verifies(&self, digest: &[u8; 48], raw: &[u8]) -> bool {
        p384::ecdsa::Signature::from_slice(raw).is_ok_and(|s| self.0.verify_prehash(digest, &s).is_ok())
    }
}

impl RsaKey {
    /// Modulus and exponent, big-endian; none for sizes that are not used here.
    pub fn from_parts(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let number = |bytes: &[u8]| {
            let first = bytes.iter().position(|b| *b != 0)?;
            let bytes = bytes.get(first..).filter(|b| b.len() <= 512)?;
            BoxedUint::from_be_slice(bytes, u32::try_from(bytes.len()).ok()? * 8).ok()
        };
        let modulus = number(modulus).filter(|n| RSA_BITS.contains(&n.bit_width()))?;
        rsa::RsaPublicKey::new(modulus, number(exponent)?).ok().map(Self)
    }

    fn bits(&self) -> u32 {
        rsa::traits::PublicKeyParts::n(&self.0).bit_width()
    }

    /// Whether `raw` is this key's PSS signature of a SHA-256 digest.
    pub(crate) fn verifies(&self, digest: &Sha256, raw: &[u8]) -> bool {
        let key = rsa::pss::VerifyingKey::<rsa::sha2::Sha256>::new_with_salt_len(self.0.clone(), SALT);
        rsa::pss::Signature::try_from(raw).is_ok_and(|s| key.verify_prehash(digest.as_bytes(), &s).is_ok())
    }
}

/// The signature, if it is this key's.
pub(crate) fn p256(spki: &Spki, digest: &Sha256, raw: &[u8]) -> Option<Signature> {
    Signature::from_raw(raw).ok().filter(|signature| spki.verifies(digest, signature))
}

/// The signature, if it is this key's.
pub(crate) fn ed25519(public: &[u8; 32], message: &[u8], raw: &[u8]) -> Option<[u8; 64]> {
    let signature = <[u8; 64]>::try_from(raw).ok()?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(public).ok()?;
    let given = ed25519_dalek::Signature::from_bytes(&signature);
    key.verify_strict(message, &given).is_ok().then_some(signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rsa_key_has_2048_to_4096_bits() {
        let modulus = |bytes: usize| {
            let mut n = vec![0xff; bytes];
            n.insert(0, 0);
            n
        };
        for (bytes, good) in [(128, false), (255, false), (256, true), (384, true), (512, true), (513, false)]
        {
            assert_eq!(RsaKey::from_parts(&modulus(bytes), &[1, 0, 1]).is_some(), good, "{bytes}");
        }
        assert!(RsaKey::from_parts(&modulus(256), &[]).is_none());
        assert_eq!(PublicKey::Rsa(RsaKey::from_parts(&modulus(384), &[1, 0, 1]).unwrap()).kind(), "rsa3072");
    }
}
