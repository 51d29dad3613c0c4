//! `chanceryd backup create`.

use super::fatal;
use crate::{
    config::Config,
    fatal::Fatal,
    opening::{self, state},
    store::{FORMAT, Head, Store, StoreError},
};
use backup::{Draft, Facts, payload_paths};
use record::{Clock, Leaf, Sha256, SystemClock};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Instant,
};
use tlog::{Checkpoint, TILE_WIDTH, TileKind, TilePath, VerifierKey, tile_paths};

/// Writes a backup of everything that is committed now into `out`. What `out` has already is not written again.
pub async fn create(config: &Config, out: &Path) -> Result<(), Fatal> {
    let vkey = opening::vkey(config)?;
    let path = Store::path_in(&config.data);
    let source = Source { store: Store::open_to_read(&path).await?, path };
    let created = SystemClock.now();
    let head = source.read(source.store.head().await)?;
    let checkpoint = source.checkpoint(&head, &vkey)?;
    let mut draft = Draft::open(out).map_err(fatal)?;
    source.extends(&draft, &head, out).await?;
    source.edge_is_signed(&checkpoint).await?;
    source.copy_tiles(&mut draft, checkpoint.size).await?;
    source.copy_payloads(&mut draft, head.size).await?;
    source.copy_tail(&mut draft, checkpoint.size, head.size).await?;
    // After the head: a row that an intent below it names was there before.
    let generations = source.read(source.store.generations().await)?;
    let requests = source.copy_requests(&mut draft).await?;
    let facts = Facts {
        log: vkey.to_string(),
        created,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        database_format: FORMAT.unsigned_abs(),
        checkpoint: head.note,
        noted: (checkpoint.size, Sha256::from_bytes(checkpoint.root.0)),
        head: (head.size, Sha256::from_bytes(head.root.0)),
        epoch: head.epoch,
        generations,
    };
    let written = draft.written();
    let manifest = draft.finish(facts, requests).map_err(fatal)?;
    source.store.close().await;
    tracing::info!(
        folder = %out.display(),
        leaves = manifest.leaves,
        noted = manifest.size,
        files = manifest.files.len(),
        written,
        "the backup is whole; keep it, and a checkpoint of the log, on another machine"
    );
    Ok(())
}

/// The database that is copied from.
struct Source {
    store: Store,
    path: PathBuf,
}

impl Source {
    fn read<T>(&self, read: Result<T, StoreError>) -> Result<T, Fatal> {
        read.map_err(|e| opening::unreadable(&self.path, &e))
    }

    /// The newest stored note: what stands behind it is in the backup, too, but nobody has signed it yet.
    fn checkpoint(&self, head: &Head, vkey: &VerifierKey) -> Result<Checkpoint, Fatal> {
        if head.vkey != vkey.to_string() {
            return Err(state(
                &self.path,
                format!("it holds the log {}, and {vkey} is configured", head.vkey),
            ));
        }
        if head.note.is_empty() {
            return Err(Fatal::State {
                path: self.path.clone(),
                why: "it has no signed note yet".into(),
                next: "start the service, and make the backup when it is ready".into(),
            });
        }
        Checkpoint::open(&head.note, vkey).map_err(|e| state(&self.path, format!("its stored note: {e}")))
    }

    /// The backup that is there must be of this history, and not of a later part of it.
    async fn extends(&self, draft: &Draft, head: &Head, out: &Path) -> Result<(), Fatal> {
        let Some(previous) = draft.previous() else { return Ok(()) };
        let refused = |why: String, next: &str| Fatal::State { path: out.to_owned(), why, next: next.into() };
        if previous.log != head.vkey {
            let why = format!("it holds a backup of the log {}, and this is {}", previous.log, head.vkey);
            return Err(refused(why, "name another folder"));
        }
        if previous.leaves > head.size {
            let why = format!("its backup has {} leaves, and the database {}", previous.leaves, head.size);
            let next = "the database is older than its backup: find out why before you do anything else; \
                        a start of the service refills it from the log keeper's spool";
            return Err(refused(why, next));
        }
        let root = self.read(self.store.root_at(previous.leaves).await)?;
        if root.0 != *previous.leaves_root.as_bytes() {
            let why = format!("its {} leaves are not the first ones of the database", previous.leaves);
            return Err(refused(why, "keep both: one of them was rewritten; name another folder"));
        }
        Ok(())
    }

    /// Tiles that are full are checked as they are read; those on the right edge of the tree by the signed root.
    async fn edge_is_signed(&self, checkpoint: &Checkpoint) -> Result<(), Fatal> {
        let root = self.read(self.store.root_at(checkpoint.size).await)?;
        if root == checkpoint.root {
            return Ok(());
        }
        let size = checkpoint.size;
        let why = format!("the right edge of its tree does not give the signed root of {size} leaves");
        Err(state(&self.path, why))
    }

    async fn copy_tiles(&self, draft: &mut Draft, size: u64) -> Result<(), Fatal> {
        for path in tile_paths(size) {
            let name = path.to_string();
            if !draft.keep(&name) {
                let begun = Instant::now();
                let bytes = self.tile(path, size).await?;
                let mut file = draft.begin(&name).map_err(fatal)?;
                file.add(&bytes).and_then(|()| draft.end(file)).map_err(fatal)?;
                rest(begun).await;
            }
        }
        Ok(())
    }

    async fn tile(&self, path: TilePath, size: u64) -> Result<Vec<u8>, Fatal> {
        let from = path.index() * TILE_WIDTH;
        match (path.kind(), path.tile()) {
            (TileKind::Hashes(_), Some(id)) => {
                let tiles = self.read(self.store.tiles(BTreeSet::from([id]), size).await)?;
                Ok(tlog::encode_tile(tiles.get(id).unwrap_or_default()))
            }
            _ => {
                let leaves = self.leaves(from, from + path.width()).await?;
                tlog::encode_bundle(leaves.iter().map(Vec::as_slice))
                    .map_err(|e| state(&self.path, format!("leaves from {from} on: {e}")))
            }
        }
    }

    async fn copy_payloads(&self, draft: &mut Draft, leaves: u64) -> Result<(), Fatal> {
        for (bundle, width, name) in payload_paths(leaves) {
            if !draft.keep(&name) {
                let begun = Instant::now();
                let from = bundle * TILE_WIDTH;
                let mut file = draft.begin(&name).map_err(fatal)?;
                for leaf in self.leaves(from, from + width).await? {
                    if let Some(payload) = self.payload(&leaf).await? {
                        file.add_payload(&payload).map_err(fatal)?;
                    }
                }
                draft.end(file).map_err(fatal)?;
                rest(begun).await;
            }
        }
        Ok(())
    }

    /// What an intent asks to sign.
    async fn payload(&self, leaf: &[u8]) -> Result<Option<Vec<u8>>, Fatal> {
        let Ok(Leaf::Intent(intent)) = Leaf::decode(leaf) else { return Ok(None) };
        match self.read(self.store.blob(&intent.payload).await)? {
            Some(payload) => Ok(Some(payload)),
            None => {
                let why = format!("bytes {} are named in the log and not stored", intent.payload);
                Err(state(&self.path, why))
            }
        }
    }

    async fn copy_tail(&self, draft: &mut Draft, from: u64, until: u64) -> Result<(), Fatal> {
        let mut file = draft.begin_tail().map_err(fatal)?;
        for leaf in self.leaves(from, until).await? {
            file.add_leaf(&leaf).map_err(fatal)?;
        }
        draft.end(file).map_err(fatal)
    }

    /// How many there are.
    async fn copy_requests(&self, draft: &mut Draft) -> Result<u64, Fatal> {
        let mut file = draft.begin_requests().map_err(fatal)?;
        let (mut last, mut count) = (None, 0);
        loop {
            let begun = Instant::now();
            let rows = self.read(self.store.accepted_requests(last.as_ref()).await)?;
            let Some(newest) = rows.last() else { break };
            last = Some(newest.id.clone());
            count += rows.len() as u64;
            rows.iter().try_for_each(|row| file.add_request(row)).map_err(fatal)?;
            rest(begun).await;
        }
        draft.end(file).map_err(fatal)?;
        Ok(count)
    }

    async fn leaves(&self, from: u64, until: u64) -> Result<Vec<Vec<u8>>, Fatal> {
        let leaves = self.read(self.store.leaves(from, until - from).await)?;
        if leaves.len() as u64 == until - from {
            return Ok(leaves);
        }
        Err(state(&self.path, format!("it has {} of the leaves {from} to {until}", leaves.len())))
    }
}

/// Leaves the disk to the daemon for as long as the last file has taken: a backup is never more than half of its load.
async fn rest(begun: Instant) {
    tokio::time::sleep(begun.elapsed()).await;
}
