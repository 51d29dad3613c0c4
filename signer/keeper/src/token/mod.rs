//! Keys in hardware: what the keeper asks of a token, and what an answer means.
//!
//! It promises: a [`Key`] exists only after its public half was found to be the pinned one and its attributes were
//! read back; a signature that is returned was verified with the pinned public key. It does not know why something is
//! signed: the caller has decided that, durably, before.

mod attributes;
mod fault;
mod login;
mod pin;
mod pkcs11;
mod pool;
mod public;
mod raw;
mod watchdog;

pub use pin::Pin;
pub use pkcs11::open;
pub use public::{P384Key, PublicKey, RsaKey};

pub(crate) use attributes::{
    ExamineError, Found, P256_PARAMS, P384_PARAMS, examine, longest_evidence, public_key,
};
pub(crate) use login::login_once;
pub(crate) use pkcs11::{load, pss_sha256};
pub(crate) use pool::{initialize, slot_of, unusable};
pub(crate) use watchdog::Watchdog;

use crate::code;
use crate::exit::Fatal;
use record::{FailureCode, Sha256, Signature};
use std::fmt;

/// Largest message that is sent to a token whole (Ed25519 hashes inside the token): far beyond any checkpoint.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// A key's `CKA_ID`: 1 to 32 bytes, lower-case hex in files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CkaId(Vec<u8>);

/// Text that is no `CKA_ID`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a CKA_ID is 1 to 32 bytes in lower-case hex, such as \"02\"")]
pub struct CkaIdError;

impl CkaId {
    /// Parses hex.
    pub fn parse(text: &str) -> Result<Self, CkaIdError> {
        let digits = |pair: &[u8]| {
            let lower = pair.iter().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(c));
            let text = std::str::from_utf8(pair).ok().filter(|t| lower && t.len() == 2)?;
            u8::from_str_radix(text, 16).ok()
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(digits).collect();
        bytes.filter(|b| (1..=32).contains(&b.len())).map(Self).ok_or(CkaIdError)
    }

    /// An id as a token gave it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CkaIdError> {
        if (1..=32).contains(&bytes.len()) { Ok(Self(bytes.to_vec())) } else { Err(CkaIdError) }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for CkaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl std::str::FromStr for CkaId {
    type Err = CkaIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl<'de> serde::Deserialize<'de> for CkaId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A key of a token that was found to be the pinned one and to have every attribute that is required.
#[derive(Debug, Clone)]
pub struct Key {
    id: CkaId,
    public: PublicKey,
    evidence: Vec<String>,
}

impl Key {
    /// Its `CKA_ID`.
    pub fn id(&self) -> &CkaId {
        &self.id
    }

    /// Its pinned public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Its attributes as the token gave them, as `CKA_...=true` words, sorted.
    pub fn evidence(&self) -> &[String] {
        &self.evidence
    }
}

/// Why there is no signature to return.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No signature was made. Another intent may ask again.
    #[error("not signed ({code}): {detail}")]
    NotSigned {
        /// For the log.
        code: FailureCode,
        /// For the operator.
        detail: String,
    },
    /// No signature was made, and the token is at a limit or away: the same intent may ask again after a pause.
    #[error("not signed yet ({code}): {detail}")]
    Busy {
        /// For the log.
        code: FailureCode,
        /// For the operator.
        detail: String,
    },
    /// A signature may have been made, and this keeper does not have it. Never ask again for the same intent.
    #[error("not known whether signed ({code}): {detail}")]
    Unknown {
        /// For the log.
        code: FailureCode,
        /// For the operator.
        detail: String,
    },
}

impl TokenError {
    /// The code for the log.
    pub fn code(&self) -> &FailureCode {
        match self {
            Self::NotSigned { code, .. } | Self::Busy { code, .. } | Self::Unknown { code, .. } => code,
        }
    }

    /// Whether it is certain that the key made no signature.
    pub fn surely_not_signed(&self) -> bool {
        matches!(self, Self::NotSigned { .. } | Self::Busy { .. })
    }
}

/// A token that is logged in.
///
/// Calls block for as long as the token takes; one that exceeds the configured deadline ends the process. Up to
/// [`Token::sessions`] calls run at the same time, further ones wait.
pub trait Token: Send + Sync {
    /// Finds the key, compares its public half with `pinned` and requires its attributes: else [`Fatal::Key`].
    fn key(&self, id: &CkaId, pinned: &PublicKey) -> Result<Key, Fatal>;

    /// Signs a digest with ECDSA on P-256 and verifies the result.
    fn sign_p256(&self, key: &Key, digest: &Sha256) -> Result<Signature, TokenError>;

    /// Signs a message of at most [`MAX_MESSAGE`] bytes with Ed25519 and verifies the result.
    fn sign_ed25519(&self, key: &Key, message: &[u8]) -> Result<[u8; 64], TokenError>;

    /// Signs a SHA-384 digest with ECDSA on P-384 and verifies the result, which is `r || s`.
    fn sign_p384(&self, _key: &Key, _digest: &[u8; 48]) -> Result<Vec<u8>, TokenError> {
        Err(not_here("ECDSA on P-384"))
    }

    /// Signs a SHA-256 digest with RSA-PSS, with a salt of 32 bytes, and verifies the result.
    fn sign_rsa_pss(&self, _key: &Key, _digest: &Sha256) -> Result<Vec<u8>, TokenError> {
        Err(not_here("RSA-PSS"))
    }

    /// How many calls can run at the same time.
    fn sessions(&self) -> usize;

    /// Why the process must end once the failure of the call before is told: the PIN was refused.
    fn ended(&self) -> Option<Fatal> {
        None
    }
}

fn not_here(algorithm: &str) -> TokenError {
    TokenError::NotSigned {
        code: code("token-refused"),
        detail: format!("this token does not sign with {algorithm}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cka_id_has_one_spelling() {
        assert_eq!(CkaId::parse("02").unwrap().as_bytes(), [2]);
        assert_eq!(CkaId::parse("00ff").unwrap().to_string(), "00ff");
        for bad in ["", "2", "0g", "FF", "+1", "0 ", &"00".repeat(33)] {
            assert!(CkaId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
