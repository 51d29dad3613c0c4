//! What differs between the cards that can be played: firmware, defaults, and the attestation chain.
//!
//! The chains are test chains and say so in their names (`pki/make.sh` made them). Their upper keys are thrown away; the
//! f9 key is shared by all cards of a profile, as a production batch of real ones shares it.

use crate::{
    algorithm::{Algorithm, Version},
    key::{PrivateKey, Refused},
    management_key::MgmtAlgorithm,
};
use std::{fmt, str::FromStr};

/// A kind of card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Firmware 5.4.3: management key 3DES, no Ed25519, no MOVE KEY, f9 directly under the root.
    V5_4_3,
    /// Firmware 5.7.4: management key AES-192, the attestation PKI of 2024.
    V5_7_4,
}

/// How many bytes a management key may have at factory: 3DES and AES-192 alike.
pub(crate) const FACTORY_MANAGEMENT_KEY: [u8; 24] =
    [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8];

impl Profile {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V5_4_3, Self::V5_7_4];

    /// The firmware version that the card claims.
    pub fn firmware(self) -> Version {
        match self {
            Self::V5_4_3 => Version(5, 4, 3),
            Self::V5_7_4 => Version(5, 7, 4),
        }
    }

    /// The test root that this profile's attestations lead to, in DER. A verifier that accepts it outside of tests
    /// accepts anybody.
    pub fn attestation_root(self) -> &'static [u8] {
        match self {
            Self::V5_4_3 => include_bytes!("../pki/root-263751.der"),
            Self::V5_7_4 => include_bytes!("../pki/root-1.der"),
        }
    }

    /// The certificates between the root and f9, from the root down, in DER. They are not on the card.
    pub fn attestation_intermediates(self) -> &'static [&'static [u8]] {
        match self {
            Self::V5_4_3 => &[],
            Self::V5_7_4 => {
                &[include_bytes!("../pki/intermediate.der"), include_bytes!("../pki/attestation.der")]
            }
        }
    }

    /// The certificate of the factory's f9 key, in DER.
    pub fn attestation_f9(self) -> &'static [u8] {
        match self {
            Self::V5_4_3 => include_bytes!("../pki/f9-5.4.3.der"),
            Self::V5_7_4 => include_bytes!("../pki/f9-5.7.4.der"),
        }
    }

    pub(crate) fn f9_key(self) -> Result<PrivateKey, Refused> {
        let der: &[u8] = match self {
            Self::V5_4_3 => include_bytes!("../pki/f9-5.4.3.key.der"),
            Self::V5_7_4 => include_bytes!("../pki/f9-5.7.4.key.der"),
        };
        PrivateKey::from_rsa_pkcs8(Algorithm::Rsa2048, der)
    }

    pub(crate) fn management_algorithm(self) -> MgmtAlgorithm {
        match self {
            Self::V5_4_3 => MgmtAlgorithm::Tdes,
            Self::V5_7_4 => MgmtAlgorithm::Aes192,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.firmware().fmt(to)
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|profile| profile.to_string() == text);
        found.ok_or_else(|| format!("there is no profile {text:?}; there are 5.4.3 and 5.7.4"))
    }
}
