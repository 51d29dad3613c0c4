//! The one encoding: RFC 8785 (JCS), and a decoder that accepts only what the encoder writes.
//!
//! Strictness is checked by encoding again: white space, member order, duplicate or unknown members, and numbers in
//! any other spelling all give other bytes, and are refused.

use serde::{Serialize, de::DeserializeOwned};

/// Why bytes are not a canonical document of the wanted type.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// Not JSON, or not of this shape (unknown and duplicate members included).
    #[error("not a document of this kind: {0}")]
    Shape(#[source] serde_json::Error),
    /// The right shape in another spelling.
    #[error("not in canonical form (RFC 8785)")]
    NotCanonical,
    /// A value that RFC 8785 cannot carry, such as an integer beyond 2^53.
    #[error("cannot be written in canonical form: {0}")]
    Unencodable(String),
}

/// Encodes `value` as RFC 8785 bytes.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    serde_json_canonicalizer::to_vec(value).map_err(|e| CanonicalError::Unencodable(e.to_string()))
}

/// Decodes bytes that [`encode`] wrote; any other spelling is an error.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, CanonicalError> {
    let value: T = serde_json::from_slice(bytes).map_err(CanonicalError::Shape)?;
    if encode(&value)? == bytes { Ok(value) } else { Err(CanonicalError::NotCanonical) }
}
