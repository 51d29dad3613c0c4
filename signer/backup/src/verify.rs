//! Whether a folder is a whole, unaltered backup: what an auditor runs on a second site, and what a restore runs first.

use crate::{
    BackupError, MANIFEST, Manifest, RequestRow, fault::wrong, files::Files, layout, payloads::Payloads,
};
use record::{Leaf, Sha256};
use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    rc::Rc,
};
use tlog::{Checkpoint, Frontier, MAX_ENTRY_LEN, VerifierKey, VerifyError, leaf_hash};

/// The longest line of the requests file: two names, a media type and a key, each of some hundred bytes.
const MAX_ROW: u64 = 64 * 1024;
/// The longest file of the log: a bundle of 256 entries with their lengths.
const MAX_TILE: u64 = 256 * (MAX_ENTRY_LEN as u64 + 2);

/// What a verified backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its manifest.
    pub manifest: Manifest,
    /// SHA-256 of the manifest: two backups with the same one are the same.
    pub manifest_sha256: Sha256,
    /// The checkpoint that the log's key has signed.
    pub checkpoint: Checkpoint,
    /// Payloads: one for each intent.
    pub payloads: u64,
    /// Bytes of all files that the manifest names.
    pub bytes: u64,
}

/// Verifies a backup under the log's key. `visit` sees every leaf in order, those that no note covers last; what it
/// collects counts only once this has returned.
///
/// Memory: the manifest, one bundle of entries and one payload.
pub fn verify(
    dir: &Path,
    key: &VerifierKey,
    mut visit: impl FnMut(u64, &[u8]),
) -> Result<Verified, BackupError> {
    if !dir.is_dir() {
        return Err(BackupError::NoFolder { path: dir.to_owned() });
    }
    let unfinished =
        || wrong(MANIFEST, "there is none: the backup was cut off before its end, or this is none");
    let (manifest, manifest_sha256) = Manifest::read(dir)?.ok_or_else(unfinished)?;
    let files = Rc::new(Files::new(dir, &manifest));
    let checkpoint = opened(&manifest, key)?;
    files.demand_checkpoint(&manifest)?;
    let payloads = Payloads::new(files.clone(), manifest.leaves);
    let mut walk = Walk { frontier: Frontier::default(), payloads, count: 0 };
    let mut fault = None;
    let read = |path: &str| match path {
        "checkpoint" => Ok(Some(manifest.checkpoint.clone().into_bytes())),
        path => files.read(path, MAX_TILE),
    };
    let verified = tlog::verify_log(read, key, |index, bytes| {
        if fault.is_none() {
            fault = walk.leaf(index, bytes).err();
            visit(index, bytes);
        }
    });
    verified.map_err(altered)?;
    fault.map_or(Ok(()), Err)?;
    for leaf in tail(&files, &manifest)? {
        let index = walk.frontier.size();
        walk.leaf(index, &leaf)?;
        visit(index, &leaf);
    }
    walk.payloads.finish()?;
    if (walk.frontier.size(), walk.frontier.root().0) != (manifest.leaves, *manifest.leaves_root.as_bytes()) {
        let why =
            format!("they and the log's are not the {} leaves that the manifest tells of", manifest.leaves);
        return Err(wrong(layout::tail(manifest.sequence), why));
    }
    let payloads = walk.count;
    let mut rows = 0;
    for row in requests(&files, &manifest)? {
        row?;
        rows += 1;
    }
    if rows != manifest.requests {
        let why = format!("it has {rows} rows, and the manifest says {}", manifest.requests);
        return Err(wrong(layout::requests(manifest.sequence), why));
    }
    let bytes = manifest.files.iter().map(|file| file.bytes).sum();
    Ok(Verified { manifest, manifest_sha256, checkpoint, payloads, bytes })
}

/// The leaves that no note covers.
pub(crate) fn tail(files: &Files, manifest: &Manifest) -> Result<Vec<Vec<u8>>, BackupError> {
    let path = layout::tail(manifest.sequence);
    let most = (manifest.leaves - manifest.size).saturating_mul(MAX_ENTRY_LEN as u64 + 2);
    let bytes = files.read(&path, most)?.unwrap_or_default();
    let (mut leaves, mut rest) = (Vec::new(), bytes.as_slice());
    while !rest.is_empty() {
        let cut = || wrong(&path, format!("it ends inside leaf {}", leaves.len()));
        let (length, behind) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
        let (leaf, behind) =
            behind.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or_else(cut)?;
        leaves.push(leaf.to_vec());
        rest = behind;
    }
    if leaves.len() as u64 != manifest.leaves - manifest.size {
        let why =
            format!("it has {} leaves, and {} belong there", leaves.len(), manifest.leaves - manifest.size);
        return Err(wrong(path, why));
    }
    Ok(leaves)
}

/// The requests, one after the other. The file is hashed before the first of them is believed.
pub(crate) fn requests(
    files: &Files,
    manifest: &Manifest,
) -> Result<impl Iterator<Item = Result<RequestRow, BackupError>> + use<>, BackupError> {
    let path = layout::requests(manifest.sequence);
    files.demand_whole(&path)?;
    let mut file = BufReader::new(files.open(&path)?);
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        let mut line = String::new();
        number += 1;
        match (&mut file).take(MAX_ROW).read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).map_err(|e| wrong(format!("{path} line {number}"), e))),
            Err(source) => Some(Err(BackupError::Read { path: (&path).into(), source })),
        }
    }))
}

/// The manifest's note, if the log's key signed it and it says what the manifest says.
pub(crate) fn opened(manifest: &Manifest, key: &VerifierKey) -> Result<Checkpoint, BackupError> {
    let place = format!("the checkpoint in {MANIFEST}");
    let checkpoint = Checkpoint::open(&manifest.checkpoint, key).map_err(|e| {
        wrong(
            place.clone(),
            format!("{e}; the manifest names the log {}, and the key is {key}", manifest.log),
        )
    })?;
    if (checkpoint.size, checkpoint.root.0) != (manifest.size, *manifest.root.as_bytes()) {
        return Err(wrong(place, "it is not over the size and root that stand beside it"));
    }
    Ok(checkpoint)
}

/// What is gathered over the leaves.
struct Walk {
    frontier: Frontier,
    payloads: Payloads,
    count: u64,
}

impl Walk {
    fn leaf(&mut self, index: u64, bytes: &[u8]) -> Result<(), BackupError> {
        self.frontier.append(leaf_hash(bytes));
        let leaf = Leaf::decode(bytes).map_err(|e| wrong(format!("entry {index}"), e))?;
        self.count += u64::from(self.payloads.of(index, &leaf)?.is_some());
        Ok(())
    }
}

fn altered(error: VerifyError<BackupError>) -> BackupError {
    match error {
        VerifyError::Read { source, .. } => source,
        other => {
            let text = std::iter::successors(std::error::Error::source(&other), |e| e.source())
                .fold(other.to_string(), |text, e| format!("{text}: {e}"));
            wrong("the log in it", text)
        }
    }
}
