//! Tiles (C2SP tlog-tiles): rows of up to 256 hashes, eight levels of the tree apart, in which a log is published.
//!
//! A tile of level 0 holds leaf hashes; entry `i` of a tile of level `n + 1` is the root over a full tile of level `n`.
//! Does not know where tiles are kept.

use crate::Hash;
use std::{collections::BTreeMap, fmt};

/// How many hashes a full tile has.
pub const TILE_WIDTH: u64 = 256;
/// How many levels of the tree lie between two levels of tiles.
pub(crate) const TILE_HEIGHT: u32 = 8;
/// The size of a hash in a tile.
const HASH_LEN: usize = 32;

/// The name of a hash tile: its level and its number in that level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// 0 for leaf hashes; a log below 2^63 entries has no level above 7.
    pub level: u8,
    /// Counted from the first leaf.
    pub index: u64,
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {} index {}", self.level, self.index)
    }
}

/// Bytes that are no tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tile is 1 to 256 hashes of 32 bytes each, this has {len} bytes")]
pub struct TileError {
    /// How many bytes there were.
    pub len: usize,
}

/// How many hashes this tile has in a tree of `size` leaves: 0 (it does not exist) to 256 (full).
pub fn tile_width(id: TileId, size: u64) -> u64 {
    let entries = size.checked_shr(TILE_HEIGHT * u32::from(id.level)).unwrap_or(0);
    entries.saturating_sub(id.index.saturating_mul(TILE_WIDTH)).min(TILE_WIDTH)
}

/// The bytes of a tile as published: its hashes, one after the other.
pub fn encode_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a published tile.
pub fn decode_tile(bytes: &[u8]) -> Result<Vec<Hash>, TileError> {
    let (hashes, rest) = bytes.as_chunks::<HASH_LEN>();
    if hashes.is_empty() || hashes.len() as u64 > TILE_WIDTH || !rest.is_empty() {
        return Err(TileError { len: bytes.len() });
    }
    Ok(hashes.iter().copied().map(Hash).collect())
}

/// The tiles that a caller has loaded for a proof or a frontier. A tile may hold more hashes than the tree in question
/// has, as a tile of a later size does: only those that belong to the tree are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tiles(BTreeMap<TileId, Vec<Hash>>);

impl Tiles {
    /// No tiles yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tile; one of the same name is replaced.
    pub fn insert(&mut self, id: TileId, hashes: Vec<Hash>) {
        self.0.insert(id, hashes);
    }

    /// The hashes of a tile, if it was added.
    pub fn get(&self, id: TileId) -> Option<&[Hash]> {
        self.0.get(&id).map(Vec::as_slice)
    }
}

impl FromIterator<(TileId, Vec<Hash>)> for Tiles {
    fn from_iter<I: IntoIterator<Item = (TileId, Vec<Hash>)>>(tiles: I) -> Self {
        Self(tiles.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_specification() {
        let width = |level, index, size| tile_width(TileId { level, index }, size);
        assert_eq!([width(0, 0, 256), width(0, 1, 256), width(1, 0, 256)], [256, 0, 1]);
        assert_eq!([width(0, 272, 70_000), width(0, 273, 70_000)], [256, 112]);
        assert_eq!([width(1, 0, 70_000), width(1, 1, 70_000), width(2, 0, 70_000)], [256, 17, 1]);
        assert_eq!([width(8, 0, u64::MAX), width(63, 0, u64::MAX), width(0, u64::MAX, u64::MAX)], [0, 0, 0]);
        assert_eq!(width(7, 0, u64::MAX), 255);
    }

    #[test]
    fn only_whole_hashes_and_at_most_256_are_a_tile() {
        let hashes = vec![Hash([7; 32]); 256];
        assert_eq!(decode_tile(&encode_tile(&hashes)), Ok(hashes));
        for len in [0, 31, 33, 257 * 32] {
            assert_eq!(decode_tile(&vec![0; len]), Err(TileError { len }), "{len}");
        }
    }
}
