//! Proofs and tiles, from the tree's stored hashes. No proof leaves that does not lead to the signed root. A tile only grows, so one that was read serves every narrower view.

use super::{Log, Noted};
use crate::store::StoreError;
use record::Sha256;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};
use tlog::{Hash, ProofError, TILE_WIDTH, TileId, TilePath, Tiles};

/// Tiles that are kept: up to 8 KiB each.
const CACHED_TILES: usize = 1024;

/// Tiles that were read before, as wide as they were then.
#[derive(Debug, Default)]
pub(super) struct TileCache(Mutex<HashMap<TileId, Vec<Hash>>>);

impl Log {
    /// RFC 6962 audit path of a leaf in the tree that a note covers, verified before it is given out.
    pub(crate) async fn inclusion(
        &self,
        index: u64,
        leaf: &[u8],
        noted: &Noted,
    ) -> Result<Vec<Sha256>, StoreError> {
        let ids = tlog::tiles_for_inclusion(index, noted.size).map_err(no_proof)?;
        let tiles = self.tiles(ids.clone(), noted.size).await?;
        let proof = tlog::inclusion_proof(index, noted.size, &tiles).map_err(no_proof)?;
        tlog::verify_inclusion(&tlog::leaf_hash(leaf), index, noted.size, &proof, &noted.root)
            .map_err(|e| wrong_proof(&format!("leaf {index}"), &ids, noted, &e))?;
        Ok(to_record(proof))
    }

    /// RFC 6962 consistency proof from a size and its root to the tree that a note covers, verified before it is given
    /// out.
    pub(crate) async fn consistency(
        &self,
        old: u64,
        root: &Hash,
        noted: &Noted,
    ) -> Result<Vec<Sha256>, StoreError> {
        let ids = tlog::tiles_for_consistency(old, noted.size).map_err(no_proof)?;
        let tiles = self.tiles(ids.clone(), noted.size).await?;
        let proof = tlog::consistency_proof(old, noted.size, &tiles).map_err(no_proof)?;
        tlog::verify_consistency(old, root, noted.size, &noted.root, &proof)
            .map_err(|e| wrong_proof(&format!("the first {old} leaves"), &ids, noted, &e))?;
        Ok(to_record(proof))
    }

    /// The same between two sizes whose roots nobody has shown: they are taken from the tree's edges.
    pub(crate) async fn consistency_of_sizes(&self, old: u64, new: u64) -> Result<Vec<Sha256>, StoreError> {
        let (old_root, root) = (self.root_at(old).await?, self.root_at(new).await?);
        self.consistency(old, &old_root, &Noted { size: new, root, note: "".into() }).await
    }

    /// The root of the first `size` leaves.
    pub(crate) async fn root_at(&self, size: u64) -> Result<Hash, StoreError> {
        self.store.root_at(size).await
    }

    /// The bytes of a hash tile or an entry bundle as a log of `size` leaves publishes it, and of narrower ones; `None`
    /// where that log has no such file.
    pub(crate) async fn published(&self, path: TilePath, size: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(id) = path.tile() else {
            let from = path.index().checked_mul(TILE_WIDTH);
            let is_there = |from: &u64| from.checked_add(path.width()).is_some_and(|end| end <= size);
            let Some(from) = from.filter(is_there) else { return Ok(None) };
            let entries = self.store.leaves(from, path.width()).await?;
            let bundle = tlog::encode_bundle(entries.iter().map(Vec::as_slice));
            return bundle.map(Some).map_err(|e| StoreError::Contradiction(format!("{path}: {e}")));
        };
        if tlog::tile_width(id, size) < path.width() {
            return Ok(None);
        }
        let tiles = self.tiles(BTreeSet::from([id]), size).await?;
        let width = usize::try_from(path.width()).unwrap_or(usize::MAX);
        Ok(tiles.get(id).and_then(|hashes| hashes.get(..width)).map(tlog::encode_tile))
    }

    /// Tiles of the tree of `size` leaves.
    pub(crate) async fn tiles(&self, ids: BTreeSet<TileId>, size: u64) -> Result<Tiles, StoreError> {
        let mut found = Tiles::default();
        let missing = self.cache.take_known(ids, size, &mut found);
        if !missing.is_empty() {
            let read = self.store.tiles(missing.clone(), size).await?;
            for id in missing {
                let hashes = read.get(id).map(<[Hash]>::to_vec).unwrap_or_default();
                self.cache.keep(id, &hashes);
                found.insert(id, hashes);
            }
        }
        Ok(found)
    }
}

impl TileCache {
    /// Moves what is known into `found`; returns what is not.
    fn take_known(&self, ids: BTreeSet<TileId>, size: u64, found: &mut Tiles) -> BTreeSet<TileId> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing = BTreeSet::new();
        for id in ids {
            let width = usize::try_from(tlog::tile_width(id, size)).unwrap_or(usize::MAX);
            match known.get(&id).and_then(|hashes| hashes.get(..width)) {
                Some(hashes) => found.insert(id, hashes.to_vec()),
                None => {
                    missing.insert(id);
                }
            }
        }
        missing
    }

    fn keep(&self, id: TileId, hashes: &[Hash]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CACHED_TILES {
            known.clear();
        }
        known.insert(id, hashes.to_vec());
    }
}

fn to_record(hashes: Vec<Hash>) -> Vec<Sha256> {
    hashes.into_iter().map(|h| Sha256::from_bytes(h.0)).collect()
}

/// A proof that does not lead to the signed root: one of the tiles that it is made of is not what it was.
fn wrong_proof(of: &str, ids: &BTreeSet<TileId>, noted: &Noted, error: &ProofError) -> StoreError {
    let tiles: Vec<String> = ids.iter().map(|id| format!("{}/{}", id.level, id.index)).collect();
    let (tiles, size) = (tiles.join(", "), noted.size);
    StoreError::Contradiction(format!(
        "the proof of {of} in the tree of {size} leaves is wrong ({error}): one of the tiles {tiles} is damaged"
    ))
}

fn no_proof(error: ProofError) -> StoreError {
    StoreError::Contradiction(format!("no proof: {error}"))
}
