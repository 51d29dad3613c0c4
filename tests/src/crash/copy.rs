//! The log as an auditor copies it from the service, and every checkpoint that the service ever served.

use record::Leaf;
use std::fmt;
use tlog::{
    Checkpoint, Frontier, Hash, TILE_WIDTH, TilePath, VerifierKey, decode_bundle, empty_root, leaf_hash,
};

/// Leaves from the first on, and the root over every prefix of them.
#[derive(Clone)]
pub struct LogCopy {
    leaves: Vec<Leaf>,
    frontier: Frontier,
    /// At each size, from 0.
    roots: Vec<Hash>,
}

impl Default for LogCopy {
    fn default() -> Self {
        Self { leaves: Vec::new(), frontier: Frontier::default(), roots: vec![empty_root()] }
    }
}

impl LogCopy {
    /// Puts an entry behind the others; an error for bytes that are no leaf.
    pub fn push(&mut self, entry: &[u8]) -> Result<(), String> {
        let leaf = Leaf::decode(entry).map_err(|e| format!("entry {} is no leaf: {e}", self.size()))?;
        self.leaves.push(leaf);
        self.frontier.append(leaf_hash(entry));
        self.roots.push(self.frontier.root());
        Ok(())
    }

    /// The leaves.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// How many there are.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root over the first leaves; `None` beyond the end.
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        self.roots.get(usize::try_from(size).ok()?).copied()
    }
}

impl fmt::Debug for LogCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogCopy({} leaves, root {:?})", self.size(), self.frontier.root())
    }
}

/// Who copies it.
pub(crate) struct Auditor {
    client: api::Client,
    key: VerifierKey,
    /// What was copied last.
    pub(crate) log: LogCopy,
    /// Every checkpoint that was served, in order.
    pub(crate) seen: Vec<Checkpoint>,
}

impl Auditor {
    /// Nothing is read yet. The client's token may read entries.
    pub(crate) fn new(client: api::Client, key: VerifierKey) -> Self {
        Self { client, key, log: LogCopy::default(), seen: Vec::new() }
    }

    /// Takes the checkpoint that is served now, and keeps it for ever.
    pub(crate) async fn look(&mut self) -> Result<Checkpoint, String> {
        let note = self.client.log_checkpoint().await.map_err(|e| api::chain_text(&e))?;
        let checkpoint = Checkpoint::open(&note, &self.key).map_err(|e| format!("the checkpoint: {e}"))?;
        if self.seen.last() != Some(&checkpoint) {
            self.seen.push(checkpoint.clone());
        }
        Ok(checkpoint)
    }

    /// Copies what the log has under the checkpoint that is served now. What was copied before is copied again only if
    /// the root does not come out without that.
    pub(crate) async fn copy(&mut self) -> Result<(), String> {
        let checkpoint = self.look().await?;
        let kept = std::mem::take(&mut self.log);
        for start in [kept, LogCopy::default()] {
            let mut log = start;
            while log.size() < checkpoint.size {
                self.bundle(&mut log, checkpoint.size).await?;
            }
            let whole =
                log.root_at(checkpoint.size) == Some(checkpoint.root) && log.size() == checkpoint.size;
            self.log = log;
            if whole {
                return Ok(());
            }
        }
        Err(format!("the entries do not hash to the checkpoint of {} leaves", checkpoint.size))
    }

    /// Appends the rest of the bundle in which the copy ends.
    async fn bundle(&self, log: &mut LogCopy, size: u64) -> Result<(), String> {
        let index = log.size() / TILE_WIDTH;
        let path = TilePath::entries(index, TILE_WIDTH.min(size - index * TILE_WIDTH));
        let path = path.map_err(|e| e.to_string())?.to_string();
        let file = self.client.log_file(&path).await.map_err(|e| api::chain_text(&e))?;
        let entries = decode_bundle(&file.ok_or_else(|| format!("{path} is missing"))?);
        let entries = entries.map_err(|e| format!("{path}: {e}"))?;
        let have = usize::try_from(log.size() % TILE_WIDTH).unwrap_or(usize::MAX);
        if entries.len() <= have {
            return Err(format!("{path} has {} entries", entries.len()));
        }
        entries.iter().skip(have).try_for_each(|entry| log.push(entry))
    }
}
