//! Keys in hardware: what the keeper asks of a token, and what an answer means.
//!
//! It promises: a [`Key`] exists only after its public half was found to be the pinned one and its attributes were
//! read back; a signature that is returned was verified with the pinned public key. It does not know why something is
//! signed: the caller has decided that, durably, before.

mod attributes;
mod fault;
mod key_ref;
mod login;
mod pin;
pub(crate) mod piv;
mod pkcs11;
mod pool;
mod public;
mod raw;
mod watchdog;

pub use key_ref::{CkaId, CkaIdError, KeyRef, KeyRefError};
pub use pin::Pin;
pub use piv::{Firmware, FirmwareError};
pub use public::PublicKey;

pub(crate) use attributes::{ExamineError, Found, P256_PARAMS, P384_PARAMS, examine, public_key};
pub(crate) use login::{Login, login_once};
pub(crate) use pkcs11::load;
pub(crate) use pool::{initialize, slot_of, unusable};
pub(crate) use raw::RawSign;
pub(crate) use watchdog::Watchdog;

use crate::config::TokenConfig;
use crate::exit::Fatal;
use record::{Algorithm, FailureCode, PivSlot, Signature, SignatureError, SignedData};
use std::sync::Arc;
use std::time::Duration;

/// A key of a token that was found to be the pinned one and to have every attribute that is required.
#[derive(Debug, Clone)]
pub struct Key {
    id: KeyRef,
    public: PublicKey,
    touch: TouchPolicy,
    evidence: Vec<String>,
}

/// Whether a key wants a person's touch for each signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TouchPolicy {
    /// It signs without.
    #[default]
    Never,
    /// One touch, one signature.
    Always,
}

impl TouchPolicy {
    /// The word in charters and in evidence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Always => "always",
        }
    }
}

/// A device begins to wait for a touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TouchWait {
    /// The device.
    pub serial: u32,
    /// The key's slot.
    pub slot: PivSlot,
    /// How long it waits.
    pub within: Duration,
}

impl Key {
    /// Where it lies.
    pub fn id(&self) -> &KeyRef {
        &self.id
    }

    /// Whether it wants touches.
    pub fn touch(&self) -> TouchPolicy {
        self.touch
    }

    /// Its pinned public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// What the token said of it and what was verified of that, as words such as `CKA_LOCAL=true`, sorted.
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

    /// The code for the log, and the detail for the operator.
    pub fn into_parts(self) -> (FailureCode, String) {
        match self {
            Self::NotSigned { code, detail }
            | Self::Busy { code, detail }
            | Self::Unknown { code, detail } => (code, detail),
        }
    }

    /// Whether it is certain that the key made no signature.
    pub fn surely_not_signed(&self) -> bool {
        matches!(self, Self::NotSigned { .. } | Self::Busy { .. })
    }
}

/// What keeps a key, or the whole token, from signing now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The one key, unless it is the token.
    pub key: Option<KeyRef>,
    /// As a signature would fail.
    pub error: TokenError,
}

/// Opens the configured token, with one try of the PIN where it takes one now.
pub fn open(config: &TokenConfig) -> Result<Arc<dyn Token>, Fatal> {
    match config {
        TokenConfig::Pkcs11(config) => pkcs11::open(config),
        TokenConfig::Piv(config) => piv::open(config),
    }
}

/// The longest evidence that a key can have: for checks of what must hold it before there is a token.
pub(crate) fn longest_evidence() -> Vec<String> {
    let bytes = |words: &Vec<String>| words.iter().map(String::len).sum::<usize>();
    [attributes::longest_evidence(), piv::longest_evidence()]
        .into_iter()
        .max_by_key(bytes)
        .unwrap_or_default()
}

/// A token that is logged in.
///
/// Calls block for as long as the token takes; one that exceeds the configured deadline ends the process. Up to
/// [`Token::sessions`] calls run at the same time, further ones wait.
pub trait Token: Send + Sync {
    /// Finds the key, compares its public half with `pinned` and requires its attributes: else [`Fatal::Key`].
    fn key(&self, id: &KeyRef, pinned: &PublicKey) -> Result<Key, Fatal>;

    /// Signs `data`, which must be of the form that the key's kind signs, and verifies the result. `waits` is called when the
    /// key is about to be asked and wants a touch.
    fn sign(&self, key: &Key, data: &SignedData, waits: &dyn Fn(TouchWait)) -> Result<Signature, TokenError>;

    /// What keeps keys from signing now, as far as that shows without a signature: a glance at the token, and no
    /// try of the PIN. `None` while a call runs: that call will know better, and a device may keep others waiting.
    fn look(&self) -> Option<Vec<Problem>>;

    /// How many calls can run at the same time.
    fn sessions(&self) -> usize;

    /// Why the process must end once the failure of the call before is told: the PIN was refused.
    fn ended(&self) -> Option<Fatal> {
        None
    }
}

/// The signature that a token gave, if it is this key's over `data`.
pub(crate) fn verified(key: &Key, data: &SignedData, raw: &[u8], form: SignatureForm) -> Option<Signature> {
    let spki = key.public.spki()?;
    let made = form(spki.algorithm(), raw).ok()?;
    spki.covers(data, &made).then_some(made)
}

/// How a token writes its signatures.
pub(crate) type SignatureForm = fn(Algorithm, &[u8]) -> Result<Signature, SignatureError>;
