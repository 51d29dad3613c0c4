//! Entry bundles (C2SP tlog-tiles, "Log entries"): up to 256 entries, each after its length in two bytes, big-endian.
//!
//! Does not know what an entry means.

use crate::TILE_WIDTH;

/// The longest entry: its length is written in 16 bits.
pub const MAX_ENTRY_LEN: usize = u16::MAX as usize;
/// A bundle goes with one tile of leaf hashes.
const MAX_ENTRIES: usize = TILE_WIDTH as usize;

/// Why entries or bytes are no bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// A bundle without entries is never published.
    #[error("a bundle has at least one entry, this has none")]
    Empty,
    /// More than one tile's worth.
    #[error("a bundle has at most 256 entries, this has more")]
    TooMany,
    /// An entry whose length does not fit 16 bits.
    #[error("entry {position} of the bundle has {len} bytes; at most 65535 fit")]
    TooLong {
        /// Which entry, counted from 0.
        position: usize,
        /// How many bytes it has.
        len: usize,
    },
    /// The bytes end inside an entry.
    #[error("the bundle ends inside entry {position}: it was cut off, or is no bundle")]
    Truncated {
        /// Which entry, counted from 0.
        position: usize,
    },
}

/// The bytes of a bundle of 1 to 256 entries of at most 65535 bytes each.
pub fn encode_bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::new();
    for (position, entry) in entries.into_iter().enumerate() {
        if position == MAX_ENTRIES {
            return Err(BundleError::TooMany);
        }
        let len = entry.len();
        let prefix = u16::try_from(len).map_err(|_| BundleError::TooLong { position, len })?;
        bytes.extend_from_slice(&prefix.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    if bytes.is_empty() { Err(BundleError::Empty) } else { Ok(bytes) }
}

/// The entries of a bundle, in order.
pub fn decode_bundle(bytes: &[u8]) -> Result<Vec<Vec<u8>>, BundleError> {
    Ok(split_bundle(bytes)?.into_iter().map(<[u8]>::to_vec).collect())
}

/// The entries of a bundle, in order, where they lie.
pub(crate) fn split_bundle(mut bytes: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let position = entries.len();
        if position == MAX_ENTRIES {
            return Err(BundleError::TooMany);
        }
        let (entry, rest) = split_entry(bytes).ok_or(BundleError::Truncated { position })?;
        entries.push(entry);
        bytes = rest;
    }
    if entries.is_empty() { Err(BundleError::Empty) } else { Ok(entries) }
}

fn split_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bundle_is_length_and_bytes_of_each_entry() {
        let bytes = encode_bundle([b"ab".as_slice(), b"", b"c"]).unwrap();
        assert_eq!(bytes, b"\0\x02ab\0\0\0\x01c");
        assert_eq!(decode_bundle(&bytes).unwrap(), [b"ab".to_vec(), vec![], b"c".to_vec()]);
    }

    #[test]
    fn limits_of_a_bundle_are_refused_on_both_ways() {
        let long = vec![0; MAX_ENTRY_LEN + 1];
        assert!(encode_bundle([&long[1..]]).is_ok());
        assert_eq!(
            encode_bundle([b"".as_slice(), &long]),
            Err(BundleError::TooLong { position: 1, len: 65_536 })
        );
        assert_eq!(encode_bundle([b"".as_slice(); 257]), Err(BundleError::TooMany));
        assert_eq!(decode_bundle(&[0; 2 * 257]), Err(BundleError::TooMany));
        assert_eq!(decode_bundle(&[0; 2 * 256]).map(|e| e.len()), Ok(256));
        assert_eq!(encode_bundle([]), Err(BundleError::Empty));
        assert_eq!(decode_bundle(&[]), Err(BundleError::Empty));
        assert_eq!(decode_bundle(&[0, 0, 0]), Err(BundleError::Truncated { position: 1 }));
        assert_eq!(decode_bundle(&[0, 2, 0]), Err(BundleError::Truncated { position: 0 }));
    }

    proptest! {
        #[test]
        fn whatever_decodes_as_a_bundle_encodes_to_the_same_bytes(bytes: Vec<u8>) {
            if let Ok(entries) = decode_bundle(&bytes) {
                let again = encode_bundle(entries.iter().map(Vec::as_slice));
                prop_assert_eq!(again.unwrap(), bytes);
            }
        }
    }
}
