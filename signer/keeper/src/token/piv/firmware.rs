//! Firmware versions of YubiKeys.

use std::fmt;

/// A firmware version, such as `5.7.4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Firmware(u8, u8, u8);

impl Firmware {
    /// The first that has GET METADATA: without it there is no saying what a key wants, and how many tries a PIN has.
    pub const OLDEST: Self = Self(5, 3, 0);
    /// The first whose ECDSA does not leak the key to who can measure it (YSA-2024-03).
    pub const ECDSA_FLOOR: Self = Self(5, 7, 0);

    /// The first whose management key is an AES key from the factory on.
    pub(crate) const AES_MANAGEMENT_KEY: Self = Self(5, 7, 0);
    /// The first that has Ed25519.
    pub(crate) const ED25519: Self = Self(5, 7, 0);

    /// Its three numbers.
    pub(super) fn new([major, minor, patch]: [u8; 3]) -> Self {
        Self(major, minor, patch)
    }

    pub(crate) fn default_floor() -> Self {
        Self::ECDSA_FLOOR
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Text that is no firmware version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a firmware version is three numbers, such as \"5.7.0\"")]
pub struct FirmwareError;

impl std::str::FromStr for Firmware {
    type Err = FirmwareError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers: Result<Vec<u8>, _> = text.split('.').map(str::parse).collect();
        match numbers.as_deref() {
            Ok([major, minor, patch]) => Ok(Self(*major, *minor, *patch)),
            _ => Err(FirmwareError),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Firmware {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers_and_have_an_order() {
        let version = |text: &str| text.parse::<Firmware>().unwrap();
        assert!(version("5.10.0") > version("5.7.4") && version("5.7.0") == Firmware::ECDSA_FLOOR);
        for bad in ["", "5", "5.7", "5.7.4.1", "5.7.x", "5.7.256"] {
            assert_eq!(bad.parse::<Firmware>(), Err(FirmwareError), "{bad:?}");
        }
    }
}
