//! How commands name a token of either kind, a key in it, and what a key must prove.

use crate::admin::{LoginArgs, TokenArgs};
use crate::config::{Attestation, Demands};
use crate::exit::Fatal;
use crate::token::{CkaId, Firmware, TouchPolicy};
use record::PivSlot;
use std::path::PathBuf;

/// A token of a PKCS#11 library, or a YubiKey.
#[derive(Debug, Clone, clap::Args)]
pub struct DeviceArgs {
    /// The PKCS#11 library.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "piv_serial",
        requires = "token_label",
        conflicts_with_all = ["DemandArgs", "attestation"]
    )]
    module: Option<PathBuf>,
    /// The token's label.
    #[arg(long, value_name = "LABEL", requires = "module")]
    token_label: Option<String>,
    /// The token's serial number, where several have the label.
    #[arg(long, value_name = "SERIAL", requires = "module")]
    serial: Option<String>,
    /// Instead of a library's token: the YubiKey with this serial number.
    #[arg(long, value_name = "SERIAL", conflicts_with = "module")]
    piv_serial: Option<u32>,
    /// On a YubiKey: whether keys must prove that they were made there [default: required].
    #[arg(long, value_enum)]
    attestation: Option<Attestation>,
    #[command(flatten)]
    demands: DemandArgs,
}

/// What the keys of a YubiKey must prove, as in the member `piv` of a configuration.
#[derive(Debug, Clone, clap::Args)]
pub struct DemandArgs {
    /// Certificates between the YubiKey's own and a root, in PEM; may be given more than once.
    #[arg(long, value_name = "FILE")]
    attestation_chain: Vec<PathBuf>,
    /// Roots that are trusted besides Yubico's, in PEM; may be given more than once.
    #[arg(long, value_name = "FILE")]
    attestation_root: Vec<PathBuf>,
    /// Oldest firmware for ECDSA keys; older than 5.7.0 leaks them to who can open the card [default: 5.7.0].
    #[arg(long, value_name = "VERSION")]
    firmware_floor: Option<Firmware>,
}

/// A token, of either kind.
#[derive(Debug)]
pub enum Device {
    /// In a slot of a PKCS#11 library.
    Token(TokenArgs),
    /// In a reader of PC/SC.
    YubiKey(PivArgs),
}

/// One YubiKey.
#[derive(Debug, Clone)]
pub struct PivArgs {
    pub(super) serial: u32,
    pub(super) demands: Demands,
}

impl PivArgs {
    /// The card with this serial number, whose keys must prove where they were made.
    pub fn proving(serial: u32, demands: &DemandArgs) -> Self {
        Self { serial, demands: demands.demands(Attestation::Required) }
    }
}

impl DeviceArgs {
    /// The token that is meant.
    pub fn device(self) -> Device {
        match (self.piv_serial, self.module) {
            (Some(serial), _) => {
                let demands = self.demands.demands(self.attestation.unwrap_or_default());
                Device::YubiKey(PivArgs { serial, demands })
            }
            (None, module) => Device::Token(TokenArgs {
                module: module.unwrap_or_default(),
                token_label: self.token_label.unwrap_or_default(),
                serial: self.serial,
            }),
        }
    }
}

/// The keys of a token, and what it takes to see them.
#[derive(Debug)]
pub enum Keys {
    /// Private keys of a library's token are seen after a login only.
    InToken(LoginArgs),
    /// A YubiKey shows its keys to everybody.
    OnCard(PivArgs),
}

/// One key.
#[derive(Debug)]
pub enum Key {
    /// In a library's token.
    InToken(LoginArgs, CkaId),
    /// On a YubiKey.
    OnCard(PivArgs, PivSlot),
}

impl DeviceArgs {
    /// All keys of the token.
    pub fn keys(self, pin_file: Option<PathBuf>) -> Keys {
        match self.device() {
            Device::Token(token) => {
                Keys::InToken(LoginArgs { token, pin_file: pin_file.unwrap_or_default() })
            }
            Device::YubiKey(card) => Keys::OnCard(card),
        }
    }

    /// The key in this place of the token.
    pub fn key(self, place: PlaceArgs, pin_file: Option<PathBuf>) -> Result<Key, Fatal> {
        match (self.keys(pin_file), place.id, place.slot) {
            (Keys::InToken(login), Some(id), None) => Ok(Key::InToken(login, id)),
            (Keys::OnCard(card), None, Some(slot)) => Ok(Key::OnCard(card, slot)),
            _ => {
                let why = "--id names a key in a library's token, --slot one on a YubiKey";
                Err(Fatal::Config { file: "the command line".into(), why: why.into() })
            }
        }
    }
}

impl DemandArgs {
    pub(super) fn demands(&self, attestation: Attestation) -> Demands {
        Demands {
            attestation,
            attestation_chain: self.attestation_chain.clone(),
            attestation_roots: self.attestation_root.clone(),
            firmware_floor: self.firmware_floor.unwrap_or(Firmware::ECDSA_FLOOR),
        }
    }
}

/// A key, where it lies.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub struct PlaceArgs {
    /// In a library's token: the key's CKA_ID in hex, such as 02.
    #[arg(long, requires = "module")]
    pub id: Option<CkaId>,
    /// On a YubiKey: the key's slot, 9a, 9c, 9d, or 82 to 95.
    #[arg(long, requires = "piv_serial")]
    pub slot: Option<PivSlot>,
}

/// The kinds of keys that a YubiKey makes for the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CardKind {
    /// ECDSA on P-256, for image keys.
    P256,
    /// Ed25519, for the log key; firmware 5.7 or newer.
    Ed25519,
}

/// When a key wants the PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Policy {
    /// Before each signature.
    Always,
    /// Once while the card has power.
    Once,
    /// Not at all.
    Never,
}

/// Parses a touch policy; of `cached` it says why it is none.
pub(super) fn touch_policy(text: &str) -> Result<TouchPolicy, &'static str> {
    match text {
        "always" => Ok(TouchPolicy::Always),
        "never" => Ok(TouchPolicy::Never),
        "cached" => Err(
            "one touch would let everything be signed that is asked for within 15 s: take always, or never",
        ),
        _ => Err("a touch policy is always or never"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touch_that_counts_for_more_than_one_signature_is_refused_with_the_reason() {
        assert_eq!(touch_policy("always"), Ok(TouchPolicy::Always));
        assert_eq!(touch_policy("never"), Ok(TouchPolicy::Never));
        assert!(touch_policy("cached").unwrap_err().contains("15 s"));
        assert!(touch_policy("").is_err());
    }
}
