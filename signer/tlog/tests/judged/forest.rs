//! One log of a million entries, hashed once, by us and by `tlog_tiles`, and the sizes at which trees change shape.

use proptest::prelude::*;
use std::sync::LazyLock;
use tlog::{Frontier, Hash, TileId, Tiles, leaf_hash, tile_width};
use tlog_tiles::tlog as judge;

/// A little beyond 2^20, so that sizes just above it can be asked for.
pub(crate) const FOREST: u64 = (1 << 20) + 600;

/// The entries that stand behind every test tree.
pub(crate) fn entry(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// The hash of one of them.
pub(crate) fn leaf(index: u64) -> Hash {
    leaf_hash(&entry(index))
}

/// The same million entries as two implementations keep them.
pub(crate) struct Forest {
    tiles: Tiles,
    stored: Vec<judge::Hash>,
}

static THE_FOREST: LazyLock<Forest> = LazyLock::new(Forest::grow);

/// The forest; grown by whoever asks first.
pub(crate) fn forest() -> &'static Forest {
    &THE_FOREST
}

impl Forest {
    fn grow() -> Self {
        let mut forest = Self { tiles: Tiles::new(), stored: Vec::new() };
        let mut rows = std::collections::BTreeMap::<TileId, Vec<Hash>>::new();
        let mut frontier = Frontier::default();
        for index in 0..FOREST {
            frontier.append_with(leaf(index), |tile, position, hash| {
                let row = rows.entry(tile).or_default();
                assert_eq!(row.len(), usize::from(position));
                row.push(hash);
            });
            let record = judge::record_hash(&entry(index));
            let more = judge::stored_hashes_for_record_hash(index, record, &forest).unwrap();
            forest.stored.extend(more);
        }
        forest.tiles = rows.into_iter().collect();
        forest
    }

    /// The tiles of these names as a tree of `size` publishes them: no hash more.
    pub(crate) fn tiles(&self, names: impl IntoIterator<Item = TileId>, size: u64) -> Tiles {
        let cut = |id| self.tiles.get(id).unwrap()[..tile_width(id, size) as usize].to_vec();
        names.into_iter().map(|id| (id, cut(id))).collect()
    }

    /// The root of a tree of `size`, by `tlog_tiles`.
    pub(crate) fn root(&self, size: u64) -> Hash {
        Hash(judge::tree_hash(size, self).unwrap().0)
    }

    pub(crate) fn inclusion(&self, index: u64, size: u64) -> Vec<Hash> {
        let needed = tlog::tiles_for_inclusion(index, size).unwrap();
        tlog::inclusion_proof(index, size, &self.tiles(needed, size)).unwrap()
    }

    pub(crate) fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
        let needed = tlog::tiles_for_consistency(old, new).unwrap();
        tlog::consistency_proof(old, new, &self.tiles(needed, new)).unwrap()
    }

    pub(crate) fn frontier(&self, size: u64) -> Frontier {
        let needed = tlog::tiles_for_frontier(size);
        tlog::frontier_from_tiles(size, &self.tiles(needed, size)).unwrap()
    }
}

impl judge::HashReader for Forest {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<judge::Hash>, judge::Error> {
        Ok(indexes.iter().map(|&i| self.stored[i as usize]).collect())
    }
}

/// Sizes from 0 to a little over 2^20, most of them where a tree or a tile changes shape.
pub(crate) fn sizes() -> impl Strategy<Value = u64> {
    let near = |centre: u64, off: i64| centre.saturating_add_signed(off).min(FOREST);
    prop_oneof![
        2 => 0..600u64,
        4 => (0..=20u32, -3..=3i64).prop_map(move |(bit, off)| near(1 << bit, off)),
        4 => (0..=4098u64, -2..=2i64).prop_map(move |(tiles, off)| near(tiles * 256, off)),
        2 => (0..=16u64, -2..=2i64).prop_map(move |(tiles, off)| near(tiles * 65_536, off)),
        1 => 0..=FOREST,
    ]
}

/// A size of at least one, and a leaf in it: often the first, the last, or next to a tile's edge.
pub(crate) fn leaves() -> impl Strategy<Value = (u64, u64)> {
    (sizes(), sizes(), any::<prop::sample::Index>(), 0..4u8).prop_map(|(size, near, anywhere, kind)| {
        let size = size.max(1);
        let index = match kind {
            0 => size - 1,
            1 => near % size,
            _ => anywhere.index(size as usize) as u64,
        };
        (index, size)
    })
}

/// Two sizes, the smaller first.
pub(crate) fn pairs() -> impl Strategy<Value = (u64, u64)> {
    (sizes(), sizes()).prop_map(|(a, b)| (a.min(b), a.max(b)))
}
