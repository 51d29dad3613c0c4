//! The scrub: what is hashed is read from the disk again, all of it, from time to time, so that a bit that flips is found
//! within a day and not by the auditor who asks for it in seven years. One round reads every leaf, every hash of the tree
//! and every payload, and folds the leaves to the root that the log key has signed.
//!
//! It promises to read only, in small batches with pauses between them, and to seal at what it finds. `chancery unseal`
//! walks the same way without pauses.

use crate::{
    audit::Log,
    health::Health,
    store::{Inspection, Store, StoreError},
};
use record::{Clock, Time};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tlog::{Frontier, Hash, TILE_WIDTH};

/// Pause before a round is begun again that found the database busy.
const BUSY: Duration = Duration::from_secs(60);

/// How often a round begins, and how much of the time it may read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// From the end of a round to the next one.
    pub every: Duration,
    /// 1 to 100.
    pub percent: u32,
}

/// What a walk has read so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Read {
    /// Leaves.
    pub leaves: u64,
    /// Hashes of the tree above them.
    pub nodes: u64,
    /// Payloads and files.
    pub blobs: u64,
    /// Bytes of all of these but the hashes.
    pub bytes: u64,
}

/// The rounds of a daemon.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rounds {
    /// What the one that runs has read, and how many leaves it has to read.
    pub running: Option<(Read, u64)>,
    /// What the last one has read that found everything whole, and when it ended.
    pub last: Option<(Read, Time)>,
}

/// One walk over everything, batch after batch.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Where it reads.
    pub disk: Inspection,
    /// The tree of the leaves that were read.
    pub tree: Frontier,
    /// What was read.
    pub read: Read,
    size: u64,
    /// The last row of the payloads that was read.
    behind: i64,
}

/// What a step of a walk has read and found whole.
pub(crate) enum Batch {
    /// Leaves, and the hashes that they bring into the tiles above.
    Leaves(Leaves),
    /// Payloads.
    Blobs,
}

/// Leaves in a row.
pub(crate) struct Leaves {
    /// Index of the first.
    pub from: u64,
    /// Hash and bytes of each.
    pub leaves: Vec<(Hash, Vec<u8>)>,
    before: Frontier,
}

impl Leaves {
    /// The root of the first `size` leaves of the log, if these have the last of them.
    pub(crate) fn root_at(&self, size: u64) -> Option<Hash> {
        let count = usize::try_from(size.checked_sub(self.from)?).ok()?;
        let leaves = self.leaves.get(..count).filter(|leaves| !leaves.is_empty())?;
        let mut tree = self.before.clone();
        leaves.iter().for_each(|(hash, _)| tree.append(*hash));
        Some(tree.root())
    }
}

impl Walk {
    /// A walk over the first `size` leaves, and then over all payloads.
    pub(crate) fn new(disk: Inspection, size: u64) -> Self {
        Self { disk, tree: Frontier::default(), read: Read::default(), size, behind: 0 }
    }

    /// The next batch; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Batch>, StoreError> {
        if self.tree.size() < self.size {
            return self.leaves().await.map(|leaves| Some(Batch::Leaves(leaves)));
        }
        let Some((count, bytes, last)) = self.disk.blobs(self.behind).await? else { return Ok(None) };
        self.behind = last;
        self.read.blobs += count;
        self.read.bytes += bytes;
        Ok(Some(Batch::Blobs))
    }

    async fn leaves(&mut self) -> Result<Leaves, StoreError> {
        let (from, before) = (self.tree.size(), self.tree.clone());
        let leaves = self.disk.leaves(from, TILE_WIDTH.min(self.size - from)).await?;
        let mut nodes = Vec::new();
        for (hash, bytes) in &leaves {
            self.tree.append_with(*hash, |tile, place, hash| nodes.push((tile, place, hash)));
            self.read.bytes += bytes.len() as u64;
        }
        for (tile, place, hash) in nodes.iter().filter(|(tile, ..)| tile.level > 0) {
            self.disk.node(*tile, *place, hash).await?;
            self.read.nodes += 1;
        }
        self.read.leaves += leaves.len() as u64;
        Ok(Leaves { from, leaves, before })
    }
}

/// The task of a daemon.
pub(crate) struct Scrub {
    pub store: Store,
    pub log: Log,
    pub health: Arc<Health>,
    pub clock: Arc<dyn Clock>,
    pub pace: Pace,
}

impl Scrub {
    /// Walks round after round, the first one `after` this, until the daemon is sealed.
    pub(crate) async fn run(self, after: Duration) {
        let mut wait = after;
        loop {
            tokio::time::sleep(wait).await;
            if self.health.sealed().is_some() {
                return;
            }
            let begun = Instant::now();
            match self.round().await {
                Ok(read) => {
                    let Read { leaves, nodes, blobs, bytes } = read;
                    let seconds = begun.elapsed().as_secs();
                    tracing::info!(
                        leaves,
                        nodes,
                        blobs,
                        bytes,
                        seconds,
                        "everything was read from the disk again and is whole"
                    );
                    self.health.scrubbed(read, self.clock.now());
                    wait = self.pace.every;
                }
                Err(e) if e.is_integrity() => {
                    self.health.seal(&format!("scrub: {}", e.full()));
                    return;
                }
                Err(e) => {
                    tracing::warn!(error = %e.full(), "the scrub is begun again later");
                    wait = BUSY;
                }
            }
        }
    }

    async fn round(&self) -> Result<Read, StoreError> {
        let Some(noted) = self.log.noted() else { return Ok(Read::default()) };
        let mut walk = Walk::new(self.store.inspect().await?, noted.size);
        let mut begun = Instant::now();
        while walk.next().await?.is_some() {
            self.health.scrubbing(walk.read, noted.size);
            let worked = begun.elapsed();
            tokio::time::sleep(worked * (100 - self.pace.percent) / self.pace.percent).await;
            begun = Instant::now();
        }
        if walk.tree.root() == noted.root {
            return Ok(walk.read);
        }
        let (ours, size) = (walk.tree.root(), noted.size);
        let text =
            format!("{size} leaves fold to the root {ours:?}, and the log key has signed {:?}", noted.root);
        Err(StoreError::Contradiction(text))
    }
}
