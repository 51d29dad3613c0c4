//! The member `piv` of a token's table: which YubiKey, and what must be proven of its keys.
//!
//! ```toml
//! [token]
//! piv = { serial = 12345678, attestation_chain = ["yubico-intermediate.pem", "yubico-ca-1.pem"] }
//! pin_credential = "yubikey-pin"
//! ```
//!
//! | member | default | |
//! |---|---|---|
//! | `serial` | | the card, whatever reader it is in |
//! | `attestation` | `"required"` | `"none"`: keys are taken that prove nothing, such as imported ones |
//! | `attestation_chain` | `[]` | PEM files with the certificates above the card's own; trusted only through a root |
//! | `attestation_roots` | `[]` | PEM files with roots that are trusted besides Yubico's |
//! | `firmware_floor` | `"5.7.0"` | oldest firmware for ECDSA keys; lower only for keys that exist already |
//! | `touch_wait_ms` | 15000 | how long the card waits for a touch |

use super::{PinSource, beside, wrong};
use crate::exit::Fatal;
use crate::token::Firmware;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What a call may take besides the wait for a touch: a slow card's answers, and a reader that others use.
const TOUCH_MARGIN_MS: u64 = 5_000;
/// What real cards wait.
const TOUCH_WAIT_MS: u64 = 15_000;

/// How to reach a YubiKey, and what its keys must prove.
#[derive(Debug, Clone)]
pub struct PivConfig {
    /// The card's serial number.
    pub serial: u32,
    /// Where the PIN comes from.
    pub pin: PinSource,
    /// What its keys must prove.
    pub demands: Demands,
    /// How long the card waits for a touch.
    pub touch_wait_ms: u64,
    /// After this long in one call of PC/SC the process ends.
    pub call_deadline_ms: u64,
}

impl PivConfig {
    /// The card of an operator's command.
    pub(crate) fn of_command(serial: u32, pin: PinSource, demands: Demands) -> Self {
        let call_deadline_ms = command_deadline_ms();
        Self { serial, pin, demands, touch_wait_ms: TOUCH_WAIT_MS, call_deadline_ms }
    }
}

/// After this long in its calls of PC/SC an operator's command ends.
pub(crate) fn command_deadline_ms() -> u64 {
    usual_deadline(TOUCH_WAIT_MS)
}

/// What the keys of a card must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demands {
    /// Whether they must prove that they were made on this card.
    pub attestation: Attestation,
    /// Files with certificates that may stand between a root and the card's own.
    pub attestation_chain: Vec<PathBuf>,
    /// Files with trusted roots besides Yubico's.
    pub attestation_roots: Vec<PathBuf>,
    /// Oldest firmware for ECDSA keys.
    pub firmware_floor: Firmware,
}

/// The shortest deadline of a call in which the card may wait for a touch.
pub(super) fn least_deadline(touch_wait_ms: u64) -> u64 {
    touch_wait_ms.saturating_add(TOUCH_MARGIN_MS)
}

/// The usual one: another program may have the card for as long, and we wait behind it.
pub(super) fn usual_deadline(touch_wait_ms: u64) -> u64 {
    least_deadline(touch_wait_ms).saturating_mul(2)
}

/// Whether a key must prove that it was made on its card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Attestation {
    /// A key without a proof is refused.
    #[default]
    Required,
    /// No proof is asked for, of any key of this card.
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PivTable {
    serial: u32,
    #[serde(default)]
    attestation: Attestation,
    #[serde(default)]
    attestation_chain: Vec<PathBuf>,
    #[serde(default)]
    attestation_roots: Vec<PathBuf>,
    #[serde(default = "Firmware::default_floor")]
    firmware_floor: Firmware,
    #[serde(default = "default_touch_wait")]
    pub(super) touch_wait_ms: u64,
}

fn default_touch_wait() -> u64 {
    TOUCH_WAIT_MS
}

impl PivTable {
    pub(super) fn check(
        self,
        file: &Path,
        pin: PinSource,
        call_deadline_ms: u64,
    ) -> Result<PivConfig, Fatal> {
        if self.serial == 0 {
            return Err(wrong(file, "token.piv.serial", "is the number that stands on the key".into()));
        }
        if !(100..=60_000).contains(&self.touch_wait_ms) {
            return Err(wrong(file, "token.piv.touch_wait_ms", "must be 100 to 60000".into()));
        }
        if self.firmware_floor < Firmware::OLDEST {
            let why =
                format!("must be {} or newer: older cards do not tell what a key wants", Firmware::OLDEST);
            return Err(wrong(file, "token.piv.firmware_floor", why));
        }
        let beside = |paths: Vec<PathBuf>| paths.into_iter().map(|path| beside(file, path)).collect();
        Ok(PivConfig {
            serial: self.serial,
            pin,
            demands: Demands {
                attestation: self.attestation,
                attestation_chain: beside(self.attestation_chain),
                attestation_roots: beside(self.attestation_roots),
                firmware_floor: self.firmware_floor,
            },
            touch_wait_ms: self.touch_wait_ms,
            call_deadline_ms,
        })
    }
}
