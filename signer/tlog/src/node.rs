//! Positions in the tree: complete subtrees ([`Node`]), ranges of leaves ([`Span`]), and how the second falls into the first.
//!
//! Everything that reads hashes out of tiles (proofs, the frontier) says which spans it needs; this file turns them into
//! tiles and hashes.

use crate::{
    Hash, ProofError, TileId, Tiles, empty_root, node_hash,
    tile::{TILE_HEIGHT, TILE_WIDTH},
};
use std::collections::BTreeSet;

/// A complete subtree: the leaves `[index << height, (index + 1) << height)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) height: u32,
    pub(crate) index: u64,
}

impl Node {
    /// The tile that holds this node's hash, or the row of hashes below it.
    pub(crate) fn tile(self) -> TileId {
        let level = (self.height / TILE_HEIGHT) as u8;
        TileId { level, index: self.first_entry() / TILE_WIDTH }
    }

    /// Where in its tile the row begins, and how many hashes it has.
    fn row(self) -> (usize, usize) {
        ((self.first_entry() % TILE_WIDTH) as usize, 1 << (self.height % TILE_HEIGHT))
    }

    /// The number, among all entries of its tile level, of the first one below this node.
    fn first_entry(self) -> u64 {
        self.index << (self.height % TILE_HEIGHT)
    }

    /// Reads this node's hash out of `tiles`.
    pub(crate) fn hash(self, tiles: &Tiles) -> Result<Hash, ProofError> {
        let (tile, (first, count)) = (self.tile(), self.row());
        let hashes = tiles.get(tile).ok_or(ProofError::MissingTile { tile })?;
        let row = hashes.get(first..first + count).ok_or(ProofError::ShortTile {
            tile,
            found: hashes.len(),
            needed: first + count,
        })?;
        Ok(fold_row(row))
    }
}

/// The root over a row of hashes whose length is a power of two.
fn fold_row(row: &[Hash]) -> Hash {
    match row {
        [] => empty_root(),
        [one] => *one,
        _ => {
            let (left, right) = row.split_at(row.len() / 2);
            node_hash(&fold_row(left), &fold_row(right))
        }
    }
}

/// The leaves `[start, end)`, where `start` is a multiple of a power of two that is not below the length: one operand of
/// the recursion in RFC 6962 section 2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Span {
    /// Splits a span of at least two leaves where RFC 6962 does: at the largest power of two below its length.
    pub(crate) fn split(self) -> (Self, Self) {
        let last = self.end.saturating_sub(self.start).saturating_sub(1);
        let middle = self.start + (1 << last.checked_ilog2().unwrap_or(0));
        (Self { end: middle, ..self }, Self { start: middle, ..self })
    }

    /// The complete subtrees that make up this span, largest first.
    pub(crate) fn nodes(self) -> impl DoubleEndedIterator<Item = Node> {
        let len = self.end - self.start;
        (0..u64::BITS).rev().filter(move |height| len >> height & 1 == 1).map(move |height| {
            // The larger subtrees to the left of this one are the higher bits of the length.
            let before = len.checked_shr(height + 1).unwrap_or(0).checked_shl(height + 1).unwrap_or(0);
            Node { height, index: (self.start + before) >> height }
        })
    }

    /// The root over this span, read out of `tiles`.
    pub(crate) fn hash(self, tiles: &Tiles) -> Result<Hash, ProofError> {
        let mut hashes = self.nodes().rev().map(|node| node.hash(tiles));
        let Some(smallest) = hashes.next() else { return Ok(empty_root()) };
        hashes.try_fold(smallest?, |right, left| Ok(node_hash(&left?, &right)))
    }
}

/// The tiles that hold the hashes of all these spans.
pub(crate) fn tiles_of(spans: impl IntoIterator<Item = Span>) -> BTreeSet<TileId> {
    spans.into_iter().flat_map(Span::nodes).map(Node::tile).collect()
}
