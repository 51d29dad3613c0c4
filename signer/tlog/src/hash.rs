//! The hashes of the tree: RFC 6962 section 2.1, with SHA-256 only.
//!
//! Leaves and inner nodes are hashed under different prefixes, so that no entry can pass for a node or the reverse.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// RFC 6962: the byte before an entry.
const LEAF_PREFIX: [u8; 1] = [0x00];
/// RFC 6962: the byte before two child hashes.
const NODE_PREFIX: [u8; 1] = [0x01];

/// A leaf, node or root hash: 32 bytes. Shown in hex for people, written in base64 by the formats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

/// A text or bytes that are no hash of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not the one base64 spelling (RFC 4648 section 4, padded) of some bytes.
    #[error("a hash is written in standard, padded base64")]
    Base64,
    /// Another length than SHA-256 has.
    #[error("a hash has 32 bytes, this has {found}")]
    Length {
        /// How many bytes there were.
        found: usize,
    },
}

impl Hash {
    /// Takes the 32 bytes of a hash.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, HashError> {
        bytes.try_into().map(Self).map_err(|_| HashError::Length { found: bytes.len() })
    }

    /// Parses the padded base64 of a hash: 44 characters.
    pub fn from_base64(text: &str) -> Result<Self, HashError> {
        Self::from_slice(&STANDARD.decode(text).map_err(|_| HashError::Base64)?)
    }

    /// The padded base64 of this hash, as checkpoints and proofs write it.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// The hash of an entry's bytes as a leaf.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update(LEAF_PREFIX).chain_update(entry).finalize().into())
}

/// The hash of an inner node over its two children.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(Sha256::new().chain_update(NODE_PREFIX).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// The root of a log without entries: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_rfc_6962() {
        let hex = |h: Hash| format!("{h:?}");
        assert_eq!(hex(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(leaf_hash(b"")), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        let two = node_hash(&leaf_hash(b""), &leaf_hash(&[0]));
        assert_eq!(hex(two), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
    }

    #[test]
    fn a_hash_has_one_base64_spelling() {
        let text = leaf_hash(b"entry").to_base64();
        assert_eq!(Hash::from_base64(&text), Ok(leaf_hash(b"entry")));
        let unpadded = text.trim_end_matches('=');
        let loose_bits = Hash([0; 32]).to_base64().replace("A=", "B=");
        for bad in [unpadded, &loose_bits, &format!("{text}\n"), &text.replace('=', " ")] {
            assert_eq!(Hash::from_base64(bad), Err(HashError::Base64), "{bad}");
        }
        assert_eq!(Hash::from_base64("AAAA"), Err(HashError::Length { found: 3 }));
        assert_eq!(Hash::from_base64(""), Err(HashError::Length { found: 0 }));
    }
}
