//! One copy of what a mirror lacks: the tiles between two sizes, then the checkpoint, then the partial tiles go whose tile
//! has become full (C2SP tlog-tiles, "Partial tiles": they are owed until then).
//!
//! Promises: the checkpoint is written when every file under it is there, and what this host holds still has its root. A copy that was cut off goes on where it was.

use super::{
    MirrorError,
    follow::Source,
    place::{CHECKPOINT, Place, PlaceError},
};
use crate::{audit::Noted, store::StoreError};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tlog::{TILE_WIDTH, TileId, TileKind, TilePath};

/// Files that are written at once.
const AT_ONCE: usize = 8;

/// Writes that are on their way, in the order of their files.
type Writes = FuturesOrdered<BoxFuture<'static, Result<(), PlaceError>>>;

/// A copy on its way.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    /// The size of the mirror's checkpoint.
    pub(super) from: u64,
    /// What the mirror will hold. A newer checkpoint waits: on a slow line there would always be one.
    pub(super) to: Noted,
    entries: bool,
    /// How many of the tiles are written, in their order.
    done: usize,
}

impl Copy {
    pub(super) fn new(from: u64, to: Noted, entries: bool) -> Self {
        Self { from, to, entries, done: 0 }
    }

    /// Writes tiles and checkpoint.
    pub(super) async fn run(&mut self, place: &Place, source: &impl Source) -> Result<(), MirrorError> {
        self.go_on(place).await?;
        let mut writes = FuturesOrdered::new();
        for path in self.tiles().skip(self.done) {
            if writes.len() == AT_ONCE {
                self.finish_one(&mut writes).await?;
            }
            let (place, bytes) = (place.clone(), source.file(path, self.to.size).await?);
            writes.push_back(async move { place.write(&path.to_string(), bytes).await }.boxed());
        }
        while !writes.is_empty() {
            self.finish_one(&mut writes).await?;
        }
        self.prove(source).await?;
        Ok(place.write(CHECKPOINT, self.to.note.as_bytes().to_vec()).await?)
    }

    /// Computes the root from the tiles at the right edge, which no full tile vouches for: a checkpoint over ones that have
    /// gone bad would make a mirror that never verifies.
    async fn prove(&self, source: &impl Source) -> Result<(), MirrorError> {
        let Noted { size, root, .. } = &self.to;
        let found = source.root_at(*size).await?;
        if found == *root {
            return Ok(());
        }
        Err(MirrorError::Store(StoreError::Contradiction(format!(
            "the first {size} leaves have the root {found:?}, and the checkpoint over them says {root:?}"
        ))))
    }

    /// Waits for the first of the writes that are on their way: what is counted as done is done without a gap.
    async fn finish_one(&mut self, writes: &mut Writes) -> Result<(), MirrorError> {
        if let Some(written) = writes.next().await {
            written?;
            self.done += 1;
        }
        Ok(())
    }

    /// The tiles that were partial and became full.
    pub(super) fn filled(&self) -> impl Iterator<Item = TilePath> {
        let from = self.from;
        let was_partial =
            move |path: &TilePath| (1..TILE_WIDTH).contains(&tlog::tile_width(hashes(path), from));
        self.tiles().filter(move |path| !path.is_partial() && was_partial(path))
    }

    fn tiles(&self) -> impl Iterator<Item = TilePath> + use<> {
        let entries = self.entries;
        tlog::tile_paths_since(self.from, self.to.size)
            .filter(move |path| entries || path.kind() != TileKind::Entries)
    }

    /// Begins anew where the last file that was written is gone: somebody has emptied the place.
    async fn go_on(&mut self, place: &Place) -> Result<(), MirrorError> {
        let Some(last) = self.done.checked_sub(1).and_then(|last| self.tiles().nth(last)) else {
            return Ok(());
        };
        if !place.has(&last.to_string()).await? {
            self.done = 0;
        }
        Ok(())
    }
}

/// Removes partial tiles that stayed behind, after a crash for instance: of tiles that are full in a tree of `size` leaves,
/// which the mirror has.
pub(super) async fn sweep(place: &Place, size: u64) -> Result<(), MirrorError> {
    for full in place.partial_tiles().await? {
        if tlog::tile_width(hashes(&full), size) == TILE_WIDTH {
            place.remove_partials(full).await?;
        }
    }
    Ok(())
}

/// The hash tile that is as wide as this one: of a bundle, that of its entries.
fn hashes(path: &TilePath) -> TileId {
    path.tile().unwrap_or(TileId { level: 0, index: path.index() })
}
