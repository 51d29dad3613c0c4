//! The right edge of the tree: all that is needed to append to it and to know its root, 32 bytes a set bit of its size.
//!
//! Does not know whether the leaves it was given are the log's: a frontier from elsewhere is worth what its root is
//! compared with.

use crate::{
    Hash, MAX_SIZE, ProofError, TileId, Tiles, empty_root,
    node::{Node, Span, tiles_of},
    node_hash,
    tile::{TILE_HEIGHT, TILE_WIDTH},
};
use std::collections::BTreeSet;

/// The complete subtrees of a log of some size (a compact range that starts at 0).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    /// One for each set bit of `size`, highest first.
    hashes: Vec<Hash>,
}

/// Why a size and hashes are not a frontier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// Not one hash for each set bit of the size.
    #[error("a frontier of size {size} has {expected} hashes, this has {found}")]
    Count {
        /// The stated size.
        size: u64,
        /// How many bits of it are set.
        expected: usize,
        /// How many hashes there were.
        found: usize,
    },
    /// Beyond [`MAX_SIZE`].
    #[error("a log has at most {MAX_SIZE} entries, this says {size}")]
    Size {
        /// The stated size.
        size: u64,
    },
}

impl Frontier {
    /// Takes a frontier that was stored as its size and [`hashes`](Self::hashes).
    pub fn from_parts(size: u64, hashes: Vec<Hash>) -> Result<Self, FrontierError> {
        if size > MAX_SIZE {
            return Err(FrontierError::Size { size });
        }
        let expected = size.count_ones() as usize;
        if hashes.len() == expected {
            Ok(Self { size, hashes })
        } else {
            Err(FrontierError::Count { size, expected, found: hashes.len() })
        }
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees: one for each set bit of the size, highest first.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let smallest_first = self.hashes.iter().rev().copied();
        smallest_first.reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
    }

    /// Appends a leaf: one hash of a node on average, 63 at most.
    pub fn append(&mut self, leaf: Hash) {
        self.append_with(leaf, |_, _, _| ());
    }

    /// Appends a leaf and tells `enter` every hash that thereby enters a tile: the tile, the position in it, the hash.
    /// Positions of one tile come in order, 0 to 255, without gaps; a tile is full after 255.
    pub fn append_with(&mut self, leaf: Hash, mut enter: impl FnMut(TileId, u8, Hash)) {
        let (mut hash, mut height) = (leaf, 0);
        enter_tile(Node { height, index: self.size }, hash, &mut enter);
        while self.size >> height & 1 == 1 {
            let Some(left) = self.hashes.pop() else { break };
            hash = node_hash(&left, &hash);
            height += 1;
            enter_tile(Node { height, index: self.size >> height }, hash, &mut enter);
        }
        self.hashes.push(hash);
        self.size += 1;
    }
}

/// Tells `enter` about a completed node, if tiles store nodes of its height.
fn enter_tile(node: Node, hash: Hash, enter: &mut impl FnMut(TileId, u8, Hash)) {
    if node.height.is_multiple_of(TILE_HEIGHT) {
        enter(node.tile(), (node.index % TILE_WIDTH) as u8, hash);
    }
}

/// The tiles that [`frontier_from_tiles`] reads: at most eight.
pub fn tiles_for_frontier(size: u64) -> BTreeSet<TileId> {
    tiles_of([Span { start: 0, end: size }])
}

/// The frontier of a log of `size` out of its tiles, so that no leaf has to be read to go on appending.
pub fn frontier_from_tiles(size: u64, tiles: &Tiles) -> Result<Frontier, ProofError> {
    if size > MAX_SIZE {
        return Err(ProofError::Size { size });
    }
    let hashes =
        Span { start: 0, end: size }.nodes().map(|node| node.hash(tiles)).collect::<Result<_, _>>()?;
    Ok(Frontier { size, hashes })
}
