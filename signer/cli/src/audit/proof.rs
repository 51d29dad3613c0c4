//! Proofs out of published tiles, each checked against the root before it is handed out.

use super::{AuditError, LogSource};
use record::Sha256;
use serde::Serialize;
use tlog::{
    Checkpoint, Frontier, Hash, TILE_WIDTH, TileId, TilePath, Tiles, decode_bundle, decode_tile, tile_width,
};

/// Makes proofs under one checkpoint; remembers the tiles that it has loaded.
pub(crate) struct Prover<'a> {
    source: &'a LogSource,
    checkpoint: &'a Checkpoint,
    tiles: Tiles,
}

/// A proof that one entry is under a checkpoint: the leaf's sibling first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Inclusion {
    pub(crate) index: u64,
    pub(crate) size: u64,
    pub(crate) leaf_hash: String,
    /// Base64, as the formats write hashes.
    pub(crate) hashes: Vec<String>,
}

impl<'a> Prover<'a> {
    pub(crate) fn new(source: &'a LogSource, checkpoint: &'a Checkpoint) -> Self {
        Self { source, checkpoint, tiles: Tiles::new() }
    }

    /// Proves that the published leaf `index` is under the root.
    pub(crate) fn inclusion(&mut self, index: u64) -> Result<Inclusion, AuditError> {
        let leaf = self.leaf(index)?;
        self.inclusion_of(index, leaf)
    }

    /// Proves that this leaf hash is at `index` under the root.
    pub(crate) fn inclusion_of(&mut self, index: u64, leaf: Hash) -> Result<Inclusion, AuditError> {
        let size = self.checkpoint.size;
        let proof = tlog::tiles_for_inclusion(index, size)
            .map_err(|_| AuditError::NoEntry { index, size })
            .and_then(|needed| self.load(needed))
            .and_then(|()| tlog::inclusion_proof(index, size, &self.tiles).map_err(broken))?;
        tlog::verify_inclusion(&leaf, index, size, &proof, &self.checkpoint.root).map_err(|e| {
            AuditError::Log(format!("entry {index} is not in the tree that the log's key signed: {e}"))
        })?;
        let hashes = proof.iter().map(Hash::to_base64).collect();
        Ok(Inclusion { index, size, leaf_hash: Sha256::from_bytes(leaf.0).to_string(), hashes })
    }

    /// Proves that the checkpoint extends an older one.
    pub(crate) fn extends(&mut self, old: &Checkpoint) -> Result<(), AuditError> {
        let new = self.checkpoint;
        let (seen, now) = (old.size, new.size);
        if seen > now {
            return Err(AuditError::Shrunk { seen, now });
        }
        let proof = self.consistency(seen)?;
        let leads_from = |root: &Hash| tlog::verify_consistency(seen, root, now, &new.root, &proof).is_ok();
        if leads_from(&old.root) {
            return Ok(());
        }
        // Altered tiles give a wrong proof, which accuses nobody who signed. It is a fork only if the tiles are those of
        // the new checkpoint, and say that the tree began otherwise. Two roots of one size need no tiles.
        if seen == now || leads_from(&self.frontier(seen)?.root()) {
            return Err(AuditError::Forked { seen, now });
        }
        Err(AuditError::Log(format!(
            "tiles were altered: they do not lead from {seen} entries to the root of {now}"
        )))
    }

    /// The proof that the checkpoint extends the tree of its first `old` entries. Not verified: wrong tiles give a wrong
    /// proof.
    pub(crate) fn consistency(&mut self, old: u64) -> Result<Vec<Hash>, AuditError> {
        let needed = tlog::tiles_for_consistency(old, self.checkpoint.size).map_err(broken)?;
        self.load(needed)?;
        tlog::consistency_proof(old, self.checkpoint.size, &self.tiles).map_err(broken)
    }

    /// The frontier of the tree of the first `size` entries. Not verified either.
    pub(crate) fn frontier(&mut self, size: u64) -> Result<Frontier, AuditError> {
        self.load(tlog::tiles_for_frontier(size))?;
        tlog::frontier_from_tiles(size, &self.tiles).map_err(broken)
    }

    /// The entries of bundle `bundle` (from `bundle * 256` on), as far as the checkpoint reaches.
    pub(crate) fn entries(&self, bundle: u64) -> Result<Vec<Vec<u8>>, AuditError> {
        let width = tile_width(TileId { level: 0, index: bundle }, self.checkpoint.size);
        let path = TilePath::entries(bundle, width).map_err(broken)?;
        let mut entries = decode_bundle(&read(self.source, path)?).map_err(broken)?;
        if (entries.len() as u64) < width {
            let found = entries.len();
            return Err(AuditError::Log(format!("{path} has {found} entries, the checkpoint says {width}")));
        }
        entries.truncate(usize::try_from(width).unwrap_or(usize::MAX));
        Ok(entries)
    }

    fn leaf(&mut self, index: u64) -> Result<Hash, AuditError> {
        let size = self.checkpoint.size;
        if index >= size {
            return Err(AuditError::NoEntry { index, size });
        }
        let tile = TileId { level: 0, index: index / TILE_WIDTH };
        self.load([tile])?;
        let position = usize::try_from(index % TILE_WIDTH).unwrap_or(usize::MAX);
        let hash = self.tiles.get(tile).and_then(|hashes| hashes.get(position)).copied();
        hash.ok_or_else(|| AuditError::Log(format!("the tile of entry {index} is too short")))
    }

    fn load(&mut self, needed: impl IntoIterator<Item = TileId>) -> Result<(), AuditError> {
        for tile in needed {
            if self.tiles.get(tile).is_none() {
                self.tiles.insert(tile, load_tile(self.source, tile, self.checkpoint.size)?);
            }
        }
        Ok(())
    }
}

/// The hashes of a published tile in a tree of `size`.
fn load_tile(source: &LogSource, tile: TileId, size: u64) -> Result<Vec<Hash>, AuditError> {
    let path = TilePath::hashes(tile, tile_width(tile, size)).map_err(broken)?;
    decode_tile(&read(source, path)?).map_err(broken)
}

/// The file at `path`, or the full one that has taken its place.
fn read(source: &LogSource, path: TilePath) -> Result<Vec<u8>, AuditError> {
    for candidate in [path, path.full()] {
        if let Some(bytes) = source.read(&candidate.to_string())? {
            return Ok(bytes);
        }
    }
    Err(AuditError::Log(format!("{path} is missing")))
}

fn broken(error: impl std::fmt::Display) -> AuditError {
    AuditError::Log(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{
        opened_checkpoint,
        synthetic::{Log, Published},
    };
    use std::fs;

    /// The published file whose path has this in it.
    fn file(published: &Published, part: &str) -> std::path::PathBuf {
        published.files().into_iter().find(|f| f.to_string_lossy().contains(part)).unwrap()
    }

    #[test]
    fn a_bundle_that_is_cut_short_behind_a_whole_entry_is_refused() {
        let log = Log::with_requests(20);
        let published = log.published(41);
        let checkpoint = opened_checkpoint(&published.source(), &log.trust()).unwrap().checkpoint;
        let bundle = file(&published, "entries");
        let short = tlog::encode_bundle(log.entries().take(40)).unwrap();
        let source = published.source();
        assert_eq!(Prover::new(&source, &checkpoint).entries(0).unwrap().len(), 41);
        fs::write(bundle, short).unwrap();
        let error = Prover::new(&source, &checkpoint).entries(0).unwrap_err();
        assert!(matches!(&error, AuditError::Log(why) if why.contains("has 40 entries")), "{error}");
    }

    #[test]
    fn altered_tiles_are_no_fork_and_a_fork_is_one_at_any_size() {
        let (log, other) = (Log::with_requests(20), Log::with_other_requests(20));
        for old in [1, 7, 8, 31, 32, 40] {
            let before = opened_checkpoint(&log.published(old).source(), &log.trust()).unwrap().checkpoint;
            let published = log.published(41);
            let now = opened_checkpoint(&published.source(), &log.trust()).unwrap().checkpoint;
            let source = published.source();
            assert!(Prover::new(&source, &now).extends(&before).is_ok(), "{old}");
            let tile = file(&published, "tile/0/");
            let mut bytes = fs::read(&tile).unwrap();
            bytes.iter_mut().for_each(|byte| *byte ^= 1);
            fs::write(&tile, bytes).unwrap();
            let error = Prover::new(&source, &now).extends(&before).unwrap_err();
            assert!(matches!(&error, AuditError::Log(why) if why.contains("altered")), "{old}: {error}");
            if old > 1 {
                let rewritten = other.published(41);
                let now = opened_checkpoint(&rewritten.source(), &log.trust()).unwrap().checkpoint;
                let error = Prover::new(&rewritten.source(), &now).extends(&before).unwrap_err();
                assert!(matches!(error, AuditError::Forked { .. }), "{old}: {error}");
            }
        }
    }
}
