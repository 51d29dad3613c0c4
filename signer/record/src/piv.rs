//! Slots of a PIV card, as charters, keepers and clients name them.

use crate::GrammarError;

/// A slot whose key can sign for the service (NIST SP 800-73-4, and Yubico's retired slots): `9a`, `9c`, `9d`, or `82` to
/// `95`. Lower-case hex, as every tool prints it. `9e` is not among them: its key works without the PIN. Nor is `f9`, the
/// attestation key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PivSlot(u8);

impl PivSlot {
    /// Parses its two hex digits.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        let wrong = || GrammarError::new("PIV slot", text, "9a, 9c, 9d, or 82 to 95");
        let number = u8::from_str_radix(text, 16).map_err(|_| wrong())?;
        let slot = Self(number);
        let known = matches!(number, 0x9a | 0x9c | 0x9d | 0x82..=0x95);
        if known && slot.to_string() == text { Ok(slot) } else { Err(wrong()) }
    }

    /// All of them, in the order of their references.
    pub fn all() -> impl Iterator<Item = Self> {
        (0x82..=0x95).chain([0x9a, 0x9c, 0x9d]).map(Self)
    }

    /// The key reference in APDUs.
    pub fn reference(self) -> u8 {
        self.0
    }
}

impl std::fmt::Display for PivSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

impl std::str::FromStr for PivSlot {
    type Err = GrammarError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl serde::Serialize for PivSlot {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for PivSlot {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_spelling_and_the_attestation_key_is_none() {
        for good in ["9a", "9c", "9d", "82", "95"] {
            assert_eq!(PivSlot::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "9", "9A", "9e", "f9", "9b", "81", "96", "+9c", "0x9c", "09c"] {
            assert!(PivSlot::parse(bad).is_err(), "{bad:?}");
        }
        assert!(PivSlot::all().all(|slot| PivSlot::parse(&slot.to_string()) == Ok(slot)));
        assert_eq!(
            PivSlot::all().count(),
            (0..=u8::MAX).filter(|n| PivSlot::parse(&format!("{n:02x}")).is_ok()).count()
        );
    }
}
