//! Proofs (RFC 6962 section 2.1.1 and 2.1.2): made from tiles, and verified by the algorithms of RFC 9162 section 2.1.
//!
//! Making and verifying share no code but the hash, so that a mistake in one shows in the other. Making is in two steps,
//! because tiles may lie in a database: ask which tiles a proof needs, load them, make it.

use crate::{
    Hash, MAX_SIZE, TileId, Tiles, empty_root,
    node::{Span, tiles_of},
    node_hash,
};
use std::collections::BTreeSet;

/// Why a proof cannot be made, or proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf is not in a tree of this size.
    #[error("a tree of size {size} has no leaf {index}")]
    Index {
        /// The leaf asked for.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The older tree is the larger one.
    #[error("a tree of size {new} cannot extend one of size {old}")]
    Order {
        /// Size of the older tree.
        old: u64,
        /// Size of the newer tree.
        new: u64,
    },
    /// Beyond [`MAX_SIZE`].
    #[error("a log has at most {MAX_SIZE} entries, this says {size}")]
    Size {
        /// The stated size.
        size: u64,
    },
    /// The caller did not load a tile that the proof needs.
    #[error("tile {tile} is needed and was not loaded")]
    MissingTile {
        /// Which tile.
        tile: TileId,
    },
    /// A loaded tile ends before a hash that the proof needs.
    #[error("tile {tile} has {found} hashes, {needed} are needed")]
    ShortTile {
        /// Which tile.
        tile: TileId,
        /// How many hashes it has.
        found: usize,
        /// How many it must have at least.
        needed: usize,
    },
    /// The proof has more or fewer hashes than one for these sizes.
    #[error("the proof has the wrong number of hashes for these sizes")]
    Length,
    /// The hashes do not lead to the root of the (newer) tree.
    #[error("the proof does not lead to the root")]
    Root,
    /// The hashes do not lead to the root of the older tree: one of the two trees rewrites the other.
    #[error("the proof does not lead to the root of the older tree")]
    OldRoot,
}

/// The tiles that [`inclusion_proof`] reads.
pub fn tiles_for_inclusion(index: u64, size: u64) -> Result<BTreeSet<TileId>, ProofError> {
    Ok(tiles_of(inclusion_spans(index, size)?))
}

/// The hashes that prove leaf `index` to be in the tree of `size`: the leaf's sibling first. Not yet verified against any
/// root: wrong tiles give a wrong proof.
pub fn inclusion_proof(index: u64, size: u64, tiles: &Tiles) -> Result<Vec<Hash>, ProofError> {
    inclusion_spans(index, size)?.into_iter().map(|span| span.hash(tiles)).collect()
}

/// The tiles that [`consistency_proof`] reads.
pub fn tiles_for_consistency(old: u64, new: u64) -> Result<BTreeSet<TileId>, ProofError> {
    Ok(tiles_of(consistency_spans(old, new)?))
}

/// The hashes that prove the tree of size `new` to begin with the tree of size `old`; none if `old` is 0 or equals `new`.
/// Not yet verified against any root: wrong tiles give a wrong proof.
pub fn consistency_proof(old: u64, new: u64, tiles: &Tiles) -> Result<Vec<Hash>, ProofError> {
    consistency_spans(old, new)?.into_iter().map(|span| span.hash(tiles)).collect()
}

/// Verifies that the tree of `size` with this `root` has `leaf` at `index` (RFC 9162 section 2.1.3.2).
///
/// A root does not say its size: take both from one verified checkpoint.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    check_index(index, size)?;
    let mut climb = Climb { node: index, last: size - 1 };
    let mut hash = *leaf;
    for sibling in proof {
        hash = match climb.step()? {
            Side::Left => node_hash(sibling, &hash),
            Side::Right => node_hash(&hash, sibling),
        };
    }
    climb.finish()?;
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Verifies that the tree of size `new` begins with the tree of size `old` (RFC 9162 section 2.1.4.2). Equal sizes need
/// equal roots and an empty proof; an `old` of 0 needs the root of the empty tree and an empty proof.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    check_order(old, new)?;
    if old == 0 || old == new {
        return verify_trivial_consistency(old, old_root, new, new_root, proof);
    }
    let mut climb = Climb { node: old - 1, last: new - 1 };
    climb.skip_left_turns();
    // A complete old tree is a node of the new one: its root stands for the first hash of the proof.
    let (start, proof) = if old.is_power_of_two() {
        (old_root, proof)
    } else {
        proof.split_first().ok_or(ProofError::Length)?
    };
    let (mut old_hash, mut new_hash) = (*start, *start);
    for sibling in proof {
        match climb.step()? {
            Side::Left => {
                old_hash = node_hash(sibling, &old_hash);
                new_hash = node_hash(sibling, &new_hash);
            }
            Side::Right => new_hash = node_hash(&new_hash, sibling),
        }
    }
    climb.finish()?;
    match (old_hash == *old_root, new_hash == *new_root) {
        (true, true) => Ok(()),
        (false, _) => Err(ProofError::OldRoot),
        (true, false) => Err(ProofError::Root),
    }
}

/// The two cases in which there is nothing to hash.
fn verify_trivial_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if !proof.is_empty() {
        return Err(ProofError::Length);
    }
    if old == 0 && *old_root != empty_root() {
        return Err(ProofError::OldRoot);
    }
    if old == new && old_root != new_root { Err(ProofError::Root) } else { Ok(()) }
}

/// On which side of the path a sibling stands.
enum Side {
    Left,
    Right,
}

/// The way from a leaf to the root: `fn` and `sn` of RFC 9162.
struct Climb {
    /// The number, in its row, of the node on the path.
    node: u64,
    /// The number of the last node of that row.
    last: u64,
}

impl Climb {
    /// Goes one hash up and says on which side that hash stands.
    fn step(&mut self) -> Result<Side, ProofError> {
        if self.last == 0 {
            return Err(ProofError::Length);
        }
        let side = if self.node & 1 == 1 || self.node == self.last { Side::Left } else { Side::Right };
        if matches!(side, Side::Left) {
            // The last node of a row has no right sibling: it goes up unchanged until it is one.
            while self.node & 1 == 0 && self.node != 0 {
                self.up();
            }
        }
        self.up();
        Ok(side)
    }

    /// Goes up for as long as the node ends a complete subtree.
    fn skip_left_turns(&mut self) {
        while self.node & 1 == 1 {
            self.up();
        }
    }

    fn up(&mut self) {
        self.node >>= 1;
        self.last >>= 1;
    }

    /// The path must have come to the root.
    fn finish(&self) -> Result<(), ProofError> {
        if self.last == 0 { Ok(()) } else { Err(ProofError::Length) }
    }
}

/// PATH of RFC 6962 section 2.1.1, as spans of leaves: the sibling of the leaf first.
fn inclusion_spans(index: u64, size: u64) -> Result<Vec<Span>, ProofError> {
    check_index(index, size)?;
    let mut spans = Vec::new();
    let mut tree = Span { start: 0, end: size };
    while tree.end - tree.start > 1 {
        let (left, right) = tree.split();
        let (inside, sibling) = if index < left.end { (left, right) } else { (right, left) };
        spans.push(sibling);
        tree = inside;
    }
    spans.reverse();
    Ok(spans)
}

/// SUBPROOF of RFC 6962 section 2.1.2, as spans of leaves.
fn consistency_spans(old: u64, new: u64) -> Result<Vec<Span>, ProofError> {
    check_order(old, new)?;
    let mut spans = Vec::new();
    if old == 0 {
        return Ok(spans);
    }
    let mut tree = Span { start: 0, end: new };
    while old != tree.end {
        let (left, right) = tree.split();
        let (inside, sibling) = if old <= left.end { (left, right) } else { (right, left) };
        spans.push(sibling);
        tree = inside;
    }
    // A span that starts at 0 is the old tree itself, whose root the verifier has.
    if tree.start != 0 {
        spans.push(tree);
    }
    spans.reverse();
    Ok(spans)
}

fn check_index(index: u64, size: u64) -> Result<(), ProofError> {
    check_size(size)?;
    if index < size { Ok(()) } else { Err(ProofError::Index { index, size }) }
}

fn check_order(old: u64, new: u64) -> Result<(), ProofError> {
    check_size(new)?;
    if old <= new { Ok(()) } else { Err(ProofError::Order { old, new }) }
}

fn check_size(size: u64) -> Result<(), ProofError> {
    if size <= MAX_SIZE { Ok(()) } else { Err(ProofError::Size { size }) }
}
