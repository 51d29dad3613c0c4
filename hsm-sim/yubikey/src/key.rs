//! Private keys: generation, import, the raw operations of GENERAL AUTHENTICATE, and the public half in both spellings
//! (the card's own TLV and SubjectPublicKeyInfo).
//!
//! It does not know: policies, slots, who may use a key.

use crate::{algorithm::Algorithm, hex::Hex, rng::Expander, tlv};
use curve25519_dalek::montgomery::MontgomeryPoint;
use ed25519_dalek::Signer;
use p256::ecdsa::signature::hazmat::RandomizedPrehashSigner;
use p256::elliptic_curve::{Generate, sec1::ToSec1Point};
use rsa::{
    BoxedUint, RsaPrivateKey,
    hazmat::rsa_decrypt_and_check,
    pkcs8::DecodePrivateKey,
    traits::{PrivateKeyParts, PublicKeyParts},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Yubico's cards know no other exponent.
const RSA_EXPONENT: u32 = 65537;

/// `rsaEncryption` (RFC 8017) with its NULL, as an AlgorithmIdentifier's content.
const RSA_OID: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0];
/// `id-ecPublicKey` with `secp256r1` (RFC 5480).
const P256_OID: &[u8] =
    &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// `id-ecPublicKey` with `secp384r1` (RFC 5480).
const P384_OID: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 5, 0x2b, 0x81, 4, 0, 0x22];
/// `id-Ed25519` (RFC 8410).
const ED25519_OID: &[u8] = &[0x06, 3, 0x2b, 0x65, 0x70];
/// `id-X25519` (RFC 8410).
const X25519_OID: &[u8] = &[0x06, 3, 0x2b, 0x65, 0x6e];

/// A request that this key cannot answer: wrong length, a point off the curve, the wrong kind of key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused;

/// A private key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub(crate) enum PrivateKey {
    Rsa(Algorithm, Box<RsaPrivateKey>),
    P256(p256::SecretKey),
    P384(p384::SecretKey),
    Ed25519(Box<ed25519_dalek::SigningKey>),
    X25519([u8; 32]),
}

impl PrivateKey {
    pub(crate) fn generate(algorithm: Algorithm, rng: &mut Expander) -> Result<Self, Refused> {
        match algorithm {
            Algorithm::EccP256 => Ok(Self::P256(p256::SecretKey::generate_from_rng(rng))),
            Algorithm::EccP384 => Ok(Self::P384(p384::SecretKey::generate_from_rng(rng))),
            Algorithm::Ed25519 => Self::from_secret(algorithm, &[&rng.bytes::<32>()]),
            Algorithm::X25519 => Self::from_secret(algorithm, &[&rng.bytes::<32>()]),
            rsa => {
                let bits = rsa.rsa_bits().ok_or(Refused)?;
                RsaPrivateKey::new(rng, bits).map(|key| Self::Rsa(rsa, Box::new(key))).map_err(|_| Refused)
            }
        }
    }

    /// From what IMPORT carries and the state file keeps: the two primes, the scalar, or the seed.
    pub(crate) fn from_secret(algorithm: Algorithm, parts: &[&[u8]]) -> Result<Self, Refused> {
        match (algorithm, parts) {
            (Algorithm::EccP256, [scalar]) => {
                p256::SecretKey::from_slice(scalar).map(Self::P256).map_err(|_| Refused)
            }
            (Algorithm::EccP384, [scalar]) => {
                p384::SecretKey::from_slice(scalar).map(Self::P384).map_err(|_| Refused)
            }
            (Algorithm::Ed25519, [seed]) => {
                let seed: &[u8; 32] = (*seed).try_into().map_err(|_| Refused)?;
                Ok(Self::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(seed))))
            }
            (Algorithm::X25519, [scalar]) => (*scalar).try_into().map(Self::X25519).map_err(|_| Refused),
            (rsa, [p, q]) => rsa_from_primes(rsa, p, q),
            _ => Err(Refused),
        }
    }

    /// From an RSA key in PKCS #8.
    pub(crate) fn from_rsa_pkcs8(algorithm: Algorithm, der: &[u8]) -> Result<Self, Refused> {
        RsaPrivateKey::from_pkcs8_der(der).map(|key| Self::Rsa(algorithm, Box::new(key))).map_err(|_| Refused)
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(algorithm, _) => *algorithm,
            Self::P256(_) => Algorithm::EccP256,
            Self::P384(_) => Algorithm::EccP384,
            Self::Ed25519(_) => Algorithm::Ed25519,
            Self::X25519(_) => Algorithm::X25519,
        }
    }

    /// Tag 81 of GENERAL AUTHENTICATE: a digest for ECDSA, the message for Ed25519, a padded block for RSA (which
    /// decrypts in the same way). ECDSA signatures are DER and not deterministic, as a real card's.
    pub(crate) fn sign(&self, input: &[u8], rng: &mut Expander) -> Result<Vec<u8>, Refused> {
        match self {
            Self::Rsa(_, key) => rsa_raw(key, input),
            Self::P256(key) => {
                let digest = fit::<32>(input)?;
                let made: Result<p256::ecdsa::Signature, _> =
                    p256::ecdsa::SigningKey::from(key).sign_prehash_with_rng(rng, &digest);
                made.map(|signature| signature.to_der().as_bytes().to_vec()).map_err(|_| Refused)
            }
            Self::P384(key) => {
                let digest = fit::<48>(input)?;
                let made: Result<p384::ecdsa::Signature, _> =
                    p384::ecdsa::SigningKey::from(key).sign_prehash_with_rng(rng, &digest);
                made.map(|signature| signature.to_der().as_bytes().to_vec()).map_err(|_| Refused)
            }
            Self::Ed25519(key) => Ok(key.sign(input).to_bytes().to_vec()),
            Self::X25519(_) => Err(Refused),
        }
    }

    /// Tag 85 of GENERAL AUTHENTICATE: the x-coordinate of the shared point.
    pub(crate) fn agree(&self, point: &[u8]) -> Result<Vec<u8>, Refused> {
        match self {
            Self::P256(key) => {
                let peer = p256::PublicKey::from_sec1_bytes(point).map_err(|_| Refused)?;
                let shared = p256::ecdh::diffie_hellman(key.to_nonzero_scalar(), peer.as_affine());
                Ok(shared.raw_secret_bytes().to_vec())
            }
            Self::P384(key) => {
                let peer = p384::PublicKey::from_sec1_bytes(point).map_err(|_| Refused)?;
                let shared = p384::ecdh::diffie_hellman(key.to_nonzero_scalar(), peer.as_affine());
                Ok(shared.raw_secret_bytes().to_vec())
            }
            Self::X25519(scalar) => {
                let peer: [u8; 32] = point.try_into().map_err(|_| Refused)?;
                Ok(MontgomeryPoint(peer).mul_clamped(*scalar).to_bytes().to_vec())
            }
            Self::Rsa(..) | Self::Ed25519(_) => Err(Refused),
        }
    }

    /// The content of GENERATE's 7F49 and of METADATA's 04.
    pub(crate) fn public_tlv(&self) -> Vec<u8> {
        match self {
            Self::Rsa(_, key) => {
                [tlv::encode(0x81, &modulus(key)), tlv::encode(0x82, &minimal(key.e()))].concat()
            }
            _ => tlv::encode(0x86, &self.point()),
        }
    }

    /// SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7).
    pub(crate) fn spki(&self) -> Vec<u8> {
        let (oid, public) = match self {
            Self::Rsa(_, key) => (RSA_OID, rsa_public(key)),
            Self::P256(_) => (P256_OID, self.point()),
            Self::P384(_) => (P384_OID, self.point()),
            Self::Ed25519(_) => (ED25519_OID, self.point()),
            Self::X25519(_) => (X25519_OID, self.point()),
        };
        let bits = tlv::encode(0x03, &[&[0], public.as_slice()].concat());
        tlv::encode(0x30, &[tlv::encode(0x30, oid), bits].concat())
    }

    fn point(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => key.public_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::P384(key) => key.public_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::Ed25519(key) => key.verifying_key().to_bytes().to_vec(),
            Self::X25519(scalar) => MontgomeryPoint::mul_base_clamped(*scalar).to_bytes().to_vec(),
            Self::Rsa(..) => Vec::new(),
        }
    }

    fn secret(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Rsa(_, key) => key.primes().iter().map(minimal).collect(),
            Self::P256(key) => vec![key.to_bytes().to_vec()],
            Self::P384(key) => vec![key.to_bytes().to_vec()],
            Self::Ed25519(key) => vec![key.to_bytes().to_vec()],
            Self::X25519(scalar) => vec![scalar.to_vec()],
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "PrivateKey({:?})", self.algorithm())
    }
}

/// A key as the state file has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    algorithm: Algorithm,
    secret: Vec<Hex>,
}

impl From<PrivateKey> for Stored {
    fn from(key: PrivateKey) -> Self {
        Self { algorithm: key.algorithm(), secret: key.secret().into_iter().map(Hex).collect() }
    }
}

impl TryFrom<Stored> for PrivateKey {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let parts: Vec<&[u8]> = stored.secret.iter().map(|part| part.0.as_slice()).collect();
        Self::from_secret(stored.algorithm, &parts)
            .map_err(|_| format!("this is no {:?} key", stored.algorithm))
    }
}

/// The leftmost bytes of a long digest; zeros before a short one (FIPS 186-5 section 6.4.1).
fn fit<const N: usize>(digest: &[u8]) -> Result<[u8; N], Refused> {
    if digest.is_empty() {
        return Err(Refused);
    }
    let mut fitted = [0; N];
    let gap = N.saturating_sub(digest.len());
    fitted.iter_mut().skip(gap).zip(digest).for_each(|(to, from)| *to = *from);
    Ok(fitted)
}

fn rsa_from_primes(algorithm: Algorithm, p: &[u8], q: &[u8]) -> Result<PrivateKey, Refused> {
    let bits = u32::try_from(algorithm.rsa_bits().ok_or(Refused)?).map_err(|_| Refused)?;
    let number = |bytes: &[u8]| BoxedUint::from_be_slice(bytes, bits / 2).map_err(|_| Refused);
    let key = RsaPrivateKey::from_p_q(number(p)?, number(q)?, RSA_EXPONENT.into()).map_err(|_| Refused)?;
    let fits = key.n().bit_width() == bits;
    fits.then(|| PrivateKey::Rsa(algorithm, Box::new(key))).ok_or(Refused)
}

/// No padding is added or taken away: the card does neither. `None` as generator: no blinding, nothing to protect.
fn rsa_raw(key: &RsaPrivateKey, block: &[u8]) -> Result<Vec<u8>, Refused> {
    if block.len() != key.size() {
        return Err(Refused);
    }
    let number = BoxedUint::from_be_slice(block, key.n().bits_precision()).map_err(|_| Refused)?;
    let made = rsa_decrypt_and_check(key, None::<&mut Expander>, &number).map_err(|_| Refused)?;
    let bytes = made.to_be_bytes();
    let surplus = bytes.len().saturating_sub(key.size());
    Ok(bytes.iter().skip(surplus).copied().collect())
}

fn modulus(key: &RsaPrivateKey) -> Vec<u8> {
    minimal(key.n())
}

fn minimal(number: &BoxedUint) -> Vec<u8> {
    number.to_be_bytes().iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// `RSAPublicKey` (RFC 8017 appendix A.1.1).
fn rsa_public(key: &RsaPrivateKey) -> Vec<u8> {
    tlv::encode(0x30, &[der_unsigned(&modulus(key)), der_unsigned(&minimal(key.e()))].concat())
}

/// A DER INTEGER that is not negative; the number comes without leading zeros.
pub(crate) fn der_unsigned(number: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if number.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    tlv::encode(0x02, &[sign, number].concat())
}
