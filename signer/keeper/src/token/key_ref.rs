//! Where a key lies in its token: `CKA_ID` for PKCS#11, a slot for a PIV card.

use record::PivSlot;
use std::fmt;

/// A key's place in its token. Files name it as `cka_id = "02"` or `slot = "9c"`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRef {
    /// In a PKCS#11 token.
    CkaId(CkaId),
    /// On a PIV card.
    Slot(PivSlot),
}

/// A key of which a file does not say in one way where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give either cka_id, for a key in a PKCS#11 token, or slot, for one on a PIV card")]
pub struct KeyRefError;

impl KeyRef {
    /// From the two members of a key's table, of which one must be there.
    pub fn from_members(cka_id: Option<CkaId>, slot: Option<PivSlot>) -> Result<Self, KeyRefError> {
        match (cka_id, slot) {
            (Some(id), None) => Ok(Self::CkaId(id)),
            (None, Some(slot)) => Ok(Self::Slot(slot)),
            _ => Err(KeyRefError),
        }
    }

    /// The member that names it.
    pub fn member(&self) -> &'static str {
        match self {
            Self::CkaId(_) => "cka_id",
            Self::Slot(_) => "slot",
        }
    }

    /// The `CKA_ID`, in a PKCS#11 token.
    pub fn cka_id(&self) -> Option<&CkaId> {
        if let Self::CkaId(id) = self { Some(id) } else { None }
    }

    /// The slot, on a PIV card.
    pub fn slot(&self) -> Option<PivSlot> {
        if let Self::Slot(slot) = self { Some(*slot) } else { None }
    }
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CkaId(id) => id.fmt(f),
            Self::Slot(slot) => slot.fmt(f),
        }
    }
}

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

    #[test]
    fn a_key_lies_in_one_place() {
        let (id, slot) = (CkaId::parse("02").unwrap(), PivSlot::parse("9c").unwrap());
        assert_eq!(KeyRef::from_members(Some(id.clone()), None), Ok(KeyRef::CkaId(id.clone())));
        assert_eq!(KeyRef::from_members(None, Some(slot)), Ok(KeyRef::Slot(slot)));
        assert_eq!(KeyRef::from_members(None, None), Err(KeyRefError));
        assert_eq!(KeyRef::from_members(Some(id), Some(slot)), Err(KeyRefError));
    }
}
