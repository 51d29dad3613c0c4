//! The verification of a whole log from its published files: what an auditor runs over a mirror, a backup or a download.
//!
//! Promises: after `Ok`, the entries that the visitor saw are exactly those that the checkpoint stands for, and every hash
//! tile that a client would read for this size is right. Holds one bundle and one unfinished tile a level in memory,
//! however large the log. Does not know where files come from, or what entries mean.

use crate::{
    BundleError, Checkpoint, CheckpointError, Frontier, Hash, TILE_WIDTH, TileError, TileId, TilePath,
    VerifierKey,
    bundle::split_bundle,
    decode_tile, leaf_hash,
    path::{TileKind, tile_paths},
};
use std::collections::BTreeMap;

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogReport {
    /// The checkpoint that the log's key has signed.
    pub checkpoint: Checkpoint,
    /// How many entries were read and hashed: the checkpoint's size.
    pub entries: u64,
}

/// Why the files are not a whole, unaltered log. `E` is what the caller's reader fails with.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError<E> {
    /// A file could not be read; nothing is said about its contents, trying again may help.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// What the reader said.
        #[source]
        source: E,
    },
    /// A file that a log of this size must publish is not there.
    #[error("{path} is missing: the log is not complete")]
    Missing {
        /// The file.
        path: String,
    },
    /// The checkpoint is not one of this log.
    #[error("the file checkpoint does not verify")]
    Checkpoint(#[source] CheckpointError),
    /// The checkpoint is no text.
    #[error("the file checkpoint is not UTF-8")]
    CheckpointText,
    /// A file of entries is no bundle.
    #[error("{path} is no entry bundle")]
    Bundle {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: BundleError,
    },
    /// A file of hashes is no tile.
    #[error("{path} is no tile")]
    Tile {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: TileError,
    },
    /// A bundle or tile has more or fewer entries than its name says.
    #[error("{path} has {found} entries, its name says {expected}")]
    Width {
        /// The file.
        path: String,
        /// What its name says.
        expected: u64,
        /// How many it has.
        found: usize,
    },
    /// A published hash is not the one that the entries give.
    #[error("hash {position} in {path} is not that of the entries: tile or entries were altered")]
    Hash {
        /// The tile.
        path: String,
        /// Which hash in it, counted from 0.
        position: usize,
    },
    /// The entries do not give the root that was signed.
    #[error(
        "the {size} entries have the root {computed:?}, the checkpoint says {signed:?}: entries were altered"
    )]
    Root {
        /// The checkpoint's size.
        size: u64,
        /// The root of the entries.
        computed: Hash,
        /// The root in the checkpoint.
        signed: Hash,
    },
}

/// Verifies a whole log: the checkpoint under `key`, every entry bundle, every hash tile of every level, the root.
///
/// `read` gives the bytes of a file by its path in the log (`checkpoint`, `tile/0/000.p/5`, ...), or `None` if there is no
/// such file. A partial tile that is gone may have been replaced by the full one, which is then read instead.
/// `visit` sees every entry with its index, in order. It sees them before the root is known to be right: what it
/// collects counts only once this function has returned `Ok`.
pub fn verify_log<E>(
    read: impl FnMut(&str) -> Result<Option<Vec<u8>>, E>,
    key: &VerifierKey,
    mut visit: impl FnMut(u64, &[u8]),
) -> Result<LogReport, VerifyError<E>> {
    let mut files = Files { read };
    let checkpoint = files.checkpoint(key)?;
    let mut rebuilt = Rebuilt::default();
    for path in tile_paths(checkpoint.size).take_while(|path| path.kind() == TileKind::Entries) {
        let (found_at, bytes) = files.tile(&path)?;
        for entry in entries_of(&path, &found_at, &bytes)? {
            visit(rebuilt.frontier.size(), entry);
            rebuilt.append(leaf_hash(entry));
        }
        for (tile, hashes) in rebuilt.take_full() {
            files.compare(&TilePath::in_tree(tile, checkpoint.size), &hashes)?;
        }
    }
    for (tile, hashes) in rebuilt.unfinished {
        files.compare(&TilePath::in_tree(tile, checkpoint.size), &hashes)?;
    }
    let (size, computed) = (rebuilt.frontier.size(), rebuilt.frontier.root());
    if computed != checkpoint.root {
        return Err(VerifyError::Root { size, computed, signed: checkpoint.root });
    }
    Ok(LogReport { checkpoint, entries: size })
}

/// The tree as the entries give it.
#[derive(Default)]
struct Rebuilt {
    frontier: Frontier,
    /// The last tile of each level, at most 256 hashes each, and those that became full since they were last taken.
    unfinished: BTreeMap<TileId, Vec<Hash>>,
}

impl Rebuilt {
    fn append(&mut self, leaf: Hash) {
        let tiles = &mut self.unfinished;
        self.frontier.append_with(leaf, |tile, _, hash| tiles.entry(tile).or_default().push(hash));
    }

    /// The tiles that are full now; they will not change any more.
    fn take_full(&mut self) -> BTreeMap<TileId, Vec<Hash>> {
        self.unfinished.extract_if(.., |_, hashes| hashes.len() as u64 == TILE_WIDTH).collect()
    }
}

/// The caller's files.
struct Files<R> {
    read: R,
}

impl<E, R: FnMut(&str) -> Result<Option<Vec<u8>>, E>> Files<R> {
    fn checkpoint(&mut self, key: &VerifierKey) -> Result<Checkpoint, VerifyError<E>> {
        let path = "checkpoint";
        let bytes = self.read(path)?.ok_or_else(|| VerifyError::Missing { path: path.to_owned() })?;
        let note = str::from_utf8(&bytes).map_err(|_| VerifyError::CheckpointText)?;
        Checkpoint::open(note, key).map_err(VerifyError::Checkpoint)
    }

    /// Reads a bundle or tile, from its own path or that of the full one; says which.
    fn tile(&mut self, path: &TilePath) -> Result<(TilePath, Vec<u8>), VerifyError<E>> {
        for candidate in [*path, path.full()] {
            if let Some(bytes) = self.read(&candidate.to_string())? {
                return Ok((candidate, bytes));
            }
        }
        Err(VerifyError::Missing { path: path.to_string() })
    }

    /// Compares a published hash tile with the hashes that the entries give.
    fn compare(&mut self, path: &TilePath, hashes: &[Hash]) -> Result<(), VerifyError<E>> {
        let (found_at, bytes) = self.tile(path)?;
        let published =
            decode_tile(&bytes).map_err(|source| VerifyError::Tile { path: found_at.to_string(), source })?;
        check_width(&found_at, published.len())?;
        match hashes.iter().zip(&published).position(|(ours, theirs)| ours != theirs) {
            Some(position) => Err(VerifyError::Hash { path: found_at.to_string(), position }),
            None => Ok(()),
        }
    }

    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, VerifyError<E>> {
        (self.read)(path).map_err(|source| VerifyError::Read { path: path.to_owned(), source })
    }
}

/// The entries of `path`, out of the bundle that was found for it.
fn entries_of<'a, E>(
    path: &TilePath,
    found_at: &TilePath,
    bytes: &'a [u8],
) -> Result<impl Iterator<Item = &'a [u8]> + use<'a, E>, VerifyError<E>> {
    let entries =
        split_bundle(bytes).map_err(|source| VerifyError::Bundle { path: found_at.to_string(), source })?;
    check_width(found_at, entries.len())?;
    Ok(entries.into_iter().take(path.width() as usize))
}

fn check_width<E>(path: &TilePath, found: usize) -> Result<(), VerifyError<E>> {
    let expected = path.width();
    if found as u64 == expected {
        Ok(())
    } else {
        Err(VerifyError::Width { path: path.to_string(), expected, found })
    }
}
