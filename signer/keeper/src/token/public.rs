//! Public halves of keys as tokens show them: what a token gives is compared with these alone.

use record::{Algorithm, Spki};
use tlog::{LogKey, VerifierKey, VerifierKeyError};

/// The public half of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// ECDSA on P-256: the roles of image trust, and the log where its token has no Ed25519.
    P256(Spki),
    /// ECDSA on P-384.
    P384(Spki),
    /// RSA of 2048, 3072 or 4096 bits, for PSS.
    Rsa(Spki),
    /// Ed25519, RFC 8032 encoding: the log.
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// What operators call the kind of key.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::P256(spki) | Self::P384(spki) | Self::Rsa(spki) => spki.algorithm().as_str(),
            Self::Ed25519(_) => Algorithm::Ed25519.as_str(),
        }
    }

    /// Parses the DER of a `SubjectPublicKeyInfo`, of every kind but Ed25519.
    pub fn from_spki_der(der: &[u8]) -> Option<Self> {
        Self::from_spki(Spki::from_der(der).ok()?)
    }

    /// Sorts a key by its kind; of Ed25519 there is another form here.
    pub(crate) fn from_spki(spki: Spki) -> Option<Self> {
        match spki.algorithm() {
            Algorithm::EcdsaP256 => Some(Self::P256(spki)),
            Algorithm::EcdsaP384 => Some(Self::P384(spki)),
            Algorithm::RsaPss2048 | Algorithm::RsaPss3072 | Algorithm::RsaPss4096 => Some(Self::Rsa(spki)),
            Algorithm::Ed25519 => None,
        }
    }

    /// The key as completions hold it; none for an Ed25519 key that is no point, or one under which anything verifies.
    pub fn spki(&self) -> Option<Spki> {
        match self {
            Self::P256(spki) | Self::P384(spki) | Self::Rsa(spki) => Some(spki.clone()),
            Self::Ed25519(key) => Spki::from_ed25519(key).ok(),
        }
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
        match self {
            Self::P256(spki) | Self::P384(spki) | Self::Rsa(spki) => Some(spki.der().to_vec()),
            Self::Ed25519(_) => None,
        }
    }
}
