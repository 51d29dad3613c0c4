//! The PKCS#11 modules that tests sign with, and the card without one: a fresh token of each in one call.
//!
//! One file a kind of token says how it is made; [`Provisioned`] is the same for all. Another module is another file, a
//! variant here, and a test in `tests/tests/matrix.rs`.

mod card;
mod kryoptic;
mod nss;
mod provisioned;
mod softhsm;
mod tpm2;

pub use provisioned::{Provisioned, PublicKey};

use crate::{Error, tools};
use hsm_sim_yubikey::{Pcscd, Profile};
use provisioned::Raw;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// What a token of files is asked for at most; the card has fewer slots.
const MAX_KEYS: usize = 16;

/// A kind of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Module {
    /// SoftHSM 2, as Debian installs it.
    SoftHsm,
    /// Kryoptic, built by `tests/modules.sh`.
    Kryoptic,
    /// NSS softokn, unpacked by `tests/modules.sh`.
    NssSoftokn,
    /// tpm2-pkcs11 over swtpm, a software TPM; unpacked by `tests/modules.sh`.
    Tpm2,
    /// Yubico's ykcs11 2.2 over a virtual YubiKey 5.4.3.
    Ykcs11,
    /// OpenSC's module over a virtual YubiKey 5.4.3.
    OpenSc,
    /// A virtual YubiKey 5.7.4 without a PKCS#11 module.
    Piv,
}

impl Module {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::SoftHsm, Self::Kryoptic, Self::NssSoftokn, Self::Tpm2, Self::Ykcs11, Self::OpenSc, Self::Piv];

    /// Its name in texts.
    pub fn name(self) -> &'static str {
        match self {
            Self::SoftHsm => "SoftHSM2",
            Self::Kryoptic => "Kryoptic",
            Self::NssSoftokn => "NSS softokn",
            Self::Tpm2 => "tpm2-pkcs11",
            Self::Ykcs11 => "ykcs11",
            Self::OpenSc => "opensc-pkcs11",
            Self::Piv => "PIV",
        }
    }

    /// Whether every machine that runs the tests has it: `tests/setup.sh` fails without.
    pub fn required(self) -> bool {
        matches!(self, Self::SoftHsm | Self::Kryoptic | Self::Ykcs11 | Self::Piv)
    }

    /// Most keys that [`Module::provision`] puts into one token.
    pub fn max_keys(self) -> usize {
        card::slots(self).map_or(MAX_KEYS, <[_]>::len)
    }

    /// What this machine lacks for it, and where that comes from.
    pub fn missing(self) -> Option<String> {
        let tools: &[&str] = match self {
            Self::SoftHsm => &["softhsm2-util", "pkcs11-tool"],
            Self::Kryoptic | Self::NssSoftokn | Self::Tpm2 => &["pkcs11-tool"],
            Self::OpenSc => &["yubico-piv-tool", "openssl"],
            Self::Ykcs11 | Self::Piv => &[],
        };
        tools::missing(tools).or_else(|| self.missing_files()).or_else(|| {
            let card = matches!(self, Self::Ykcs11 | Self::OpenSc | Self::Piv);
            card.then(Pcscd::missing).flatten()
        })
    }

    fn missing_files(self) -> Option<String> {
        let library = match self.library() {
            Ok(library) => library?,
            Err(error) => return Some(error.to_string()),
        };
        let from = match self {
            Self::Kryoptic => "`tests/setup.sh modules` builds it",
            Self::NssSoftokn | Self::Tpm2 => {
                "`tests/setup.sh modules` unpacks it, where Debian's packages can be had"
            }
            _ => "`tests/setup.sh` installs it",
        };
        (!library.is_file()).then(|| format!("{}: {} is not here; {from}", self.name(), library.display()))
    }

    /// The PKCS#11 library; none for the card without one.
    fn library(self) -> Result<Option<PathBuf>, Error> {
        Ok(Some(match self {
            Self::SoftHsm => crate::SoftHsm::installed()?,
            Self::Kryoptic => kryoptic::library(),
            Self::NssSoftokn => nss::library(),
            Self::Tpm2 => tpm2::library(),
            Self::Ykcs11 => tools::system_library("libykcs11.so"),
            Self::OpenSc => tools::system_library("opensc-pkcs11.so"),
            Self::Piv => return Ok(None),
        }))
    }

    /// Its version as its package says; for the card without a module, the card's.
    pub fn version(self) -> Result<String, Error> {
        let package = match self {
            Self::Kryoptic => return kryoptic::version(),
            Self::NssSoftokn => return nss::version(),
            Self::Tpm2 => return tpm2::version(),
            Self::Piv => return Ok(format!("firmware {}", Profile::V5_7_4)),
            Self::SoftHsm => "libsofthsm2",
            Self::Ykcs11 => "ykcs11",
            Self::OpenSc => "opensc-pkcs11",
        };
        tools::run(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", package]))
    }

    /// Makes a token in `dir` (made if absent; refused if there is a token in it) with so many P-256 keys that cannot
    /// leave it. `label` is its label where the module lets one choose; [`Provisioned::label`] says. A token over
    /// OpenSC has at least one key, since its label is that key's certificate's.
    ///
    /// What the token needs besides files, a TPM or a card and its reader, runs until the answer is dropped.
    pub fn provision(self, dir: &Path, label: &str, keys: usize) -> Result<Provisioned, Error> {
        if keys > self.max_keys() {
            return Err(Error::TooManyKeys { module: self.name(), wanted: keys, most: self.max_keys() });
        }
        if let Some(why) = self.missing() {
            return Err(Error::Missing { why });
        }
        Provisioned::with_keys(self.raw(dir, label, keys)?, keys)
    }

    fn raw(self, dir: &Path, label: &str, keys: usize) -> Result<Raw, Error> {
        match self {
            Self::SoftHsm => softhsm::make(dir, label),
            Self::Kryoptic => kryoptic::make(dir, label),
            Self::NssSoftokn => nss::make(dir, label),
            Self::Tpm2 => tpm2::make(dir, label),
            Self::Ykcs11 | Self::OpenSc | Self::Piv => card::make(self, dir, label, keys),
        }
    }
}
