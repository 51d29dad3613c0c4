//! The names and numbers of Yubico's PIV: firmware versions, algorithms, slots and policies
//! (docs.yubico.com, "PIV APDU"; NIST SP 800-78-4 table 6-2).

use serde::{Deserialize, Serialize};
use std::fmt;

/// A firmware version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(pub u8, pub u8, pub u8);

impl Version {
    /// The three bytes of GET VERSION.
    pub(crate) fn bytes(self) -> [u8; 3] {
        [self.0, self.1, self.2]
    }
}

impl fmt::Display for Version {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts: Result<Vec<u8>, _> = text.split('.').map(str::parse).collect();
        match parts.as_deref() {
            Ok([major, minor, patch]) => Ok(Self(*major, *minor, *patch)),
            _ => Err(format!("{text:?} is no version of the form 5.7.4")),
        }
    }
}

/// What a key can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// RSA with 1024 bits.
    Rsa1024,
    /// RSA with 2048 bits.
    Rsa2048,
    /// RSA with 3072 bits, from 5.7.
    Rsa3072,
    /// RSA with 4096 bits, from 5.7.
    Rsa4096,
    /// ECDSA and ECDH on NIST P-256.
    EccP256,
    /// ECDSA and ECDH on NIST P-384.
    EccP384,
    /// Ed25519 (RFC 8032), from 5.7.
    Ed25519,
    /// X25519 (RFC 7748), from 5.7.
    X25519,
}

impl Algorithm {
    const ALL: [Self; 8] = [
        Self::Rsa1024,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::EccP256,
        Self::EccP384,
        Self::Ed25519,
        Self::X25519,
    ];

    /// The number in `P1` of GENERAL AUTHENTICATE.
    pub fn id(self) -> u8 {
        match self {
            Self::Rsa1024 => 0x06,
            Self::Rsa2048 => 0x07,
            Self::Rsa3072 => 0x05,
            Self::Rsa4096 => 0x16,
            Self::EccP256 => 0x11,
            Self::EccP384 => 0x14,
            Self::Ed25519 => 0xe0,
            Self::X25519 => 0xe1,
        }
    }

    /// The algorithm with this number, if this firmware has it.
    pub(crate) fn from_id(id: u8, firmware: Version) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.id() == id && firmware >= algorithm.since())
    }

    /// The bits of the modulus.
    pub(crate) fn rsa_bits(self) -> Option<usize> {
        match self {
            Self::Rsa1024 => Some(1024),
            Self::Rsa2048 => Some(2048),
            Self::Rsa3072 => Some(3072),
            Self::Rsa4096 => Some(4096),
            _ => None,
        }
    }

    fn since(self) -> Version {
        match self {
            Self::Rsa3072 | Self::Rsa4096 | Self::Ed25519 | Self::X25519 => Version(5, 7, 0),
            _ => Version(4, 0, 0),
        }
    }
}

/// The reference of a key: 9a, 9c, 9d, 9e, 82 to 95, or f9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slot(u8);

impl Slot {
    /// PIV authentication.
    pub const AUTHENTICATION: Self = Self(0x9a);
    /// Digital signature: PIN always by default.
    pub const SIGNATURE: Self = Self(0x9c);
    /// Key management.
    pub const KEY_MANAGEMENT: Self = Self(0x9d);
    /// Card authentication: PIN never by default.
    pub const CARD_AUTHENTICATION: Self = Self(0x9e);
    /// The key that signs attestations.
    pub const ATTESTATION: Self = Self(0xf9);

    /// `None` if there is no such slot.
    pub fn new(reference: u8) -> Option<Self> {
        matches!(reference, 0x9a | 0x9c..=0x9e | 0x82..=0x95 | 0xf9).then_some(Self(reference))
    }

    /// The number in `P2` of GENERAL AUTHENTICATE.
    pub fn reference(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:02x}", self.0)
    }
}

impl From<Slot> for String {
    fn from(slot: Slot) -> Self {
        slot.to_string()
    }
}

impl TryFrom<String> for Slot {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let reference = u8::from_str_radix(&text, 16).ok().and_then(Self::new);
        reference.ok_or_else(|| format!("{text:?} is no slot: 9a, 9c, 9d, 9e, 82 to 95, or f9"))
    }
}

/// When a key wants the PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinPolicy {
    /// Never.
    Never,
    /// Once in a session.
    Once,
    /// Right before each use.
    Always,
}

impl PinPolicy {
    /// The byte in GENERATE, IMPORT, METADATA and attestations.
    pub fn id(self) -> u8 {
        match self {
            Self::Never => 1,
            Self::Once => 2,
            Self::Always => 3,
        }
    }

    /// Bio's 4 and 5 are refused: this card has no fingerprint reader.
    pub(crate) fn from_id(id: u8) -> Option<Self> {
        [Self::Never, Self::Once, Self::Always].into_iter().find(|policy| policy.id() == id)
    }

    /// What a slot gets if nobody asked for a policy.
    pub(crate) fn default_of(slot: Slot) -> Self {
        match slot {
            Slot::SIGNATURE => Self::Always,
            Slot::CARD_AUTHENTICATION => Self::Never,
            _ => Self::Once,
        }
    }
}

/// When a key wants a touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TouchPolicy {
    /// Never.
    Never,
    /// At each use.
    Always,
    /// At each use, unless one was given within the last 15 seconds.
    Cached,
}

impl TouchPolicy {
    /// The byte in GENERATE, IMPORT, METADATA and attestations.
    pub fn id(self) -> u8 {
        match self {
            Self::Never => 1,
            Self::Always => 2,
            Self::Cached => 3,
        }
    }

    pub(crate) fn from_id(id: u8) -> Option<Self> {
        [Self::Never, Self::Always, Self::Cached].into_iter().find(|policy| policy.id() == id)
    }
}
