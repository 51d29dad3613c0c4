//! Proofs and tiles, from the tree's stored hashes. No proof leaves that does not lead to the signed root, and no tile that
//! does not lead to the hash above it or, on the right edge of the tree, to the signed root. A tile only grows, so one that
//! was read serves every narrower view.

use super::{Log, Noted};
use crate::store::StoreError;
use record::Sha256;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};
use tlog::{Hash, ProofError, TILE_WIDTH, TileId, TilePath, Tiles};

/// Tiles that are kept: up to 8 KiB each.
const CACHED_TILES: usize = 1024;

/// Tiles that were read before, as wide as they were then.
#[derive(Debug, Default)]
pub(super) struct TileCache {
    known: Mutex<HashMap<TileId, Vec<Hash>>>,
    /// The tiles of the right edge that were found to give the root under a note.
    edge: Mutex<Option<(Noted, Arc<Tiles>)>>,
}

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
        let Some(noted) = self.noted().filter(|_| path.width() <= tlog::tile_width(id, size)) else {
            return Ok(None);
        };
        let tiles = match tlog::tile_width(id, noted.size) {
            TILE_WIDTH => Arc::new(self.tiles(BTreeSet::from([id]), noted.size).await?),
            _ => self.edge(&noted).await?,
        };
        let width = usize::try_from(path.width()).unwrap_or(usize::MAX);
        Ok(tiles.get(id).and_then(|hashes| hashes.get(..width)).map(tlog::encode_tile))
    }

    /// The tiles on the right edge of the tree that a note covers: all that are not full, every hash of them checked by the
    /// signed root, to which they fold.
    async fn edge(&self, noted: &Noted) -> Result<Arc<Tiles>, StoreError> {
        if let Some(edge) = self.cache.edge_of(noted) {
            return Ok(edge);
        }
        let ids = tlog::tiles_for_frontier(noted.size);
        let tiles = self.store.tiles(ids.clone(), noted.size).await?;
        let edge = tlog::frontier_from_tiles(noted.size, &tiles).map_err(no_proof)?;
        if edge.root() != noted.root {
            let (names, size) = (names(&ids), noted.size);
            return Err(StoreError::Contradiction(format!(
                "the right edge of the tree does not give the signed root of {size} leaves: one of the tiles {names} is damaged"
            )));
        }
        let tiles = Arc::new(tiles);
        self.cache.keep_edge(noted.clone(), tiles.clone());
        Ok(tiles)
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
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CACHED_TILES {
            known.clear();
        }
        known.insert(id, hashes.to_vec());
    }

    fn edge_of(&self, noted: &Noted) -> Option<Arc<Tiles>> {
        let edge = self.edge.lock().unwrap_or_else(PoisonError::into_inner);
        let of_note = |(of, _): &&(Noted, _)| (of.size, of.root) == (noted.size, noted.root);
        edge.as_ref().filter(of_note).map(|(_, tiles)| tiles.clone())
    }

    fn keep_edge(&self, noted: Noted, tiles: Arc<Tiles>) {
        *self.edge.lock().unwrap_or_else(PoisonError::into_inner) = Some((noted, tiles));
    }
}

fn to_record(hashes: Vec<Hash>) -> Vec<Sha256> {
    hashes.into_iter().map(|h| Sha256::from_bytes(h.0)).collect()
}

/// A proof that does not lead to the signed root: one of the tiles that it is made of is not what it was.
fn wrong_proof(of: &str, ids: &BTreeSet<TileId>, noted: &Noted, error: &ProofError) -> StoreError {
    let (tiles, size) = (names(ids), noted.size);
    StoreError::Contradiction(format!(
        "the proof of {of} in the tree of {size} leaves is wrong ({error}): one of the tiles {tiles} is damaged"
    ))
}

fn names(ids: &BTreeSet<TileId>) -> String {
    let names: Vec<String> = ids.iter().map(|id| format!("{}/{}", id.level, id.index)).collect();
    names.join(", ")
}

fn no_proof(error: ProofError) -> StoreError {
    StoreError::Contradiction(format!("no proof: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Parts, Refill, Sequencer},
        generations::Generations,
        health::Health,
        store::{NewLeaf, Store},
    };
    use ed25519_dalek::SigningKey;
    use record::{Clock, Event, Leaf, Nonce, Origin, SystemClock};
    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
    use std::path::Path;
    use tlog::VerifierKey;

    const SIZE: u64 = 300;

    /// A log of [`SIZE`] leaves under a note.
    async fn log(path: &Path) -> (Log, Sequencer) {
        let origin = "log.example.com";
        let key = SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
        let vkey = VerifierKey::new_ed25519(origin, key).unwrap();
        Store::create(path, origin, &vkey.to_string()).await.unwrap();
        let (store, mut writer) = Store::open(path).await.unwrap();
        let leaf = |_| {
            let leaf =
                Leaf::Event(Event::Stopped { time: SystemClock.now(), nonce: Nonce::random().unwrap() });
            NewLeaf { bytes: leaf.encode().unwrap(), leaf, payload: None }
        };
        writer.commit(1, &(0..SIZE).map(leaf).collect::<Vec<_>>(), &[]).await.unwrap();
        let noted = Noted { size: SIZE, root: writer.head().root, note: "".into() };
        let parts = Parts {
            writer,
            socket: "nowhere".into(),
            vkey,
            refill: Refill::UpTo(0),
            clock: Arc::new(SystemClock),
            generations: Arc::new(Generations::new(Default::default())),
            link: None,
        };
        let health = Arc::new(Health::new(Arc::new(SystemClock), None));
        let (log, sequencer) = Log::new(parts, Origin::parse(origin).unwrap(), store, health);
        sequencer.show(noted);
        (log, sequencer)
    }

    #[tokio::test]
    async fn a_tile_that_is_not_full_leaves_only_if_the_edge_of_the_tree_gives_the_signed_root() {
        let edge = TileId { level: 0, index: 1 };
        let partial = TilePath::hashes(edge, SIZE - TILE_WIDTH).unwrap();
        let narrower = TilePath::hashes(edge, 5).unwrap();
        let above = TilePath::hashes(TileId { level: 1, index: 0 }, 1).unwrap();
        let full = TilePath::hashes(TileId { level: 0, index: 0 }, TILE_WIDTH).unwrap();
        for damage in [
            None,
            Some("UPDATE leaf SET hash = zeroblob(32) WHERE idx = 290"),
            Some("UPDATE node SET hash = zeroblob(32)"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = Store::path_in(dir.path());
            let (log, _sequencer) = log(&path).await;
            if let Some(sql) = damage {
                let mut disk = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
                assert_eq!(sqlx::query(sql).execute(&mut disk).await.unwrap().rows_affected(), 1);
            }
            for path in [&partial, &narrower, &above] {
                match (log.published(*path, SIZE).await, damage) {
                    (Ok(Some(bytes)), None) => assert_eq!(bytes.len() as u64, 32 * path.width()),
                    (Err(why), Some(_)) => {
                        assert!(why.is_integrity() && why.full().contains("0/1, 1/0"), "{}", why.full());
                    }
                    (other, _) => panic!("{path} {damage:?}: {other:?}"),
                }
            }
            let is_whole = damage.is_none_or(|sql| sql.contains("leaf"));
            assert_eq!(log.published(full, SIZE).await.is_ok(), is_whole);
            let beyond = TilePath::hashes(edge, SIZE - TILE_WIDTH + 1).unwrap();
            assert_eq!(log.published(beyond, SIZE).await.unwrap(), None);
        }
    }
}
