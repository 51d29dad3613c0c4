//! Digests. [`Digest`] is an image digest in its OCI spelling, [`Sha256`] any other hash, in hex; [`Sha384`] is there for
//! the payloads of P-384 keys alone.

use sha2::Digest as _;
use std::{fmt, str::FromStr};

/// A text that is no digest that Chancery accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not 64 lower-case hex digits.
    #[error("a SHA-256 value is 64 lower-case hex digits")]
    Hex,
    /// Not 96 lower-case hex digits.
    #[error("a SHA-384 value is 96 lower-case hex digits")]
    Hex384,
    /// Another algorithm, or none.
    #[error("an image digest is sha256: and 64 lower-case hex digits; no other algorithm is accepted")]
    Algorithm,
    /// The digest of zero bytes, which no image manifest has.
    #[error("this is the digest of an empty file, which is no image")]
    Empty,
}

/// A SHA-256 value; written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// A value computed elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A SHA-256 over bytes that come piece by piece.
#[derive(Clone, Default)]
pub struct Sha256Stream(sha2::Sha256);

impl Sha256Stream {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The SHA-256 of all bytes so far.
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        unhex(text).map(Self).ok_or(DigestError::Hex)
    }
}

/// The SHA-384 of a payload, as ECDSA on P-384 signs it; written as 96 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha384([u8; 48]);

impl Sha384 {
    /// The SHA-384 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha384::digest(bytes).into())
    }

    /// A value computed elsewhere.
    pub fn from_bytes(bytes: [u8; 48]) -> Self {
        Self(bytes)
    }

    /// The 48 bytes.
    pub fn as_bytes(&self) -> &[u8; 48] {
        &self.0
    }
}

impl fmt::Display for Sha384 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Sha384 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha384 {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        unhex(text).map(Self).ok_or(DigestError::Hex384)
    }
}

/// Bytes from exactly as many lower-case hex digits.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    if text.len() != 2 * N {
        return None;
    }
    for (out, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *out = pair.iter().try_fold(0u8, |acc, &c| Some(acc << 4 | nibble(c)?))?;
    }
    Some(bytes)
}

fn nibble(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

/// The digest of an image manifest or index, `sha256:<64 hex>` (OCI image specification, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Sha256);

impl Digest {
    /// The digest of these manifest bytes.
    pub fn of(manifest: &[u8]) -> Self {
        Self(Sha256::of(manifest))
    }

    /// The value without its algorithm.
    pub fn sha256(&self) -> Sha256 {
        self.0
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let value: Sha256 = text.strip_prefix("sha256:").ok_or(DigestError::Algorithm)?.parse()?;
        if value == Sha256::of(b"") { Err(DigestError::Empty) } else { Ok(Self(value)) }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
serde_as_text!(Sha256);
serde_as_text!(Sha384);
serde_as_text!(Digest);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lower_case_sha256_is_a_digest() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        for bad in [
            format!("sha256:{}", "0A".repeat(32)),
            format!("sha256:{}", "0a".repeat(31)),
            format!("sha256:{}", "0a".repeat(33)),
            format!("sha512:{}", "0a".repeat(64)),
            format!("sha1:{}", "0a".repeat(20)),
            "0a".repeat(32),
            String::new(),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert_eq!(Digest::of(b"").to_string().parse::<Digest>(), Err(DigestError::Empty));
    }
}
