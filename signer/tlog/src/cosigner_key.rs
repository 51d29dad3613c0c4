//! The verifier key of a witness, type 0x04: Ed25519 over a time and a checkpoint's text (C2SP tlog-cosignature).

use crate::VerifierKeyError;
use crate::verifier_key::{
    Parts, ed25519_point, ed25519_verifies, key_name, named_key_hash, short, write_vkey,
};
use ed25519_dalek::VerifyingKey;
use std::{fmt, str::FromStr};

/// The signature type of Ed25519 over time and text: cosignature/v1.
const COSIGNATURE: u8 = 0x04;

/// The key of a witness, with the name under which it cosigns.
#[derive(Clone, PartialEq, Eq)]
pub struct CosignerKey {
    name: String,
    id: u32,
    key: VerifyingKey,
}

impl CosignerKey {
    /// A witness's key from a name and the 32 bytes of an Ed25519 public key (RFC 8032).
    pub fn new_ed25519(name: impl Into<String>, public_key: [u8; 32]) -> Result<Self, VerifierKeyError> {
        let name = key_name(name.into())?;
        let key = ed25519_point(&public_key)?;
        Ok(Self { id: short(&named_key_hash(&name, COSIGNATURE, &public_key)), name, key })
    }

    /// Parses the text form, as [`Display`](fmt::Display) writes it.
    pub fn parse(text: &str) -> Result<Self, VerifierKeyError> {
        let parts = Parts::parse(text)?;
        if parts.kind != COSIGNATURE {
            return Err(VerifierKeyError::Type { expected: "0x04 (a witness's Ed25519)", found: parts.kind });
        }
        let parsed = Self::new_ed25519(parts.name, parts.ed25519()?)?;
        parts.demand_id(parsed.id)?;
        Ok(parsed)
    }

    /// The name that stands in the signature lines.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The short hash over name, type and key that stands in the signature lines.
    pub fn key_id(&self) -> u32 {
        self.id
    }

    /// The 32 bytes of the public key.
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        ed25519_verifies(&self.key, message, signature)
    }
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_vkey(f, &self.name, self.id, COSIGNATURE, self.public_key())
    }
}

impl fmt::Debug for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosignerKey({self})")
    }
}

impl FromStr for CosignerKey {
    type Err = VerifierKeyError;

    fn from_str(text: &str) -> Result<Self, VerifierKeyError> {
        Self::parse(text)
    }
}
