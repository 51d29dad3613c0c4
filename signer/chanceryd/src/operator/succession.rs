//! A log that goes on where another one ended: what its first entries take over from the former database. That is only read.

use super::new_leaf;
use crate::{
    fatal::Fatal,
    opening,
    store::{CurrentFile, NewLeaf, Store},
};
use record::{
    Adopted, AdoptedPart, Clock, Continues, Event, Leaf, MAX_ADOPTED_BYTES, MAX_REASON, Nonce, Origin,
    Repository, Sha256, Time, wire::Blob,
};
use std::path::{Path, PathBuf};
use tlog::{Checkpoint, VerifierKey};

/// The log that a new one continues, as its operator names it.
#[derive(Debug)]
pub struct Former {
    /// The file with its last note.
    pub note: PathBuf,
    /// Its key.
    pub vkey: String,
    /// The data folder of its daemon, which does not run.
    pub data: PathBuf,
    /// Why it ended.
    pub reason: String,
}

/// What the new log says of the former one: in its genesis entry, and in those directly behind.
pub(super) struct Succession {
    pub(super) continues: Continues,
    pub(super) adopted: Vec<NewLeaf>,
}

/// Reads what is taken over. The former database must hold the log of that key, with the note's root at its size; it may be
/// sealed, and may have entries beyond the note.
pub(super) async fn read(
    former: &Former,
    origin: &Origin,
    path: &Path,
    clock: &dyn Clock,
) -> Result<Succession, Fatal> {
    let bad = |option: &str, why: String| Fatal::Config { path: option.into(), why };
    let vkey = VerifierKey::parse(&former.vkey).map_err(|e| bad("--former-vkey", e.to_string()))?;
    let log = Origin::parse(vkey.name()).map_err(|e| bad("--former-vkey", e.to_string()))?;
    if log == *origin {
        let why = format!(
            "it is the key of a log {log}: the new log must have another name, which nobody remembers anything of"
        );
        return Err(bad("[log] vkey", why));
    }
    if former.reason.trim().is_empty() || former.reason.chars().count() > MAX_REASON {
        return Err(bad(
            "--reason",
            format!("1 to {MAX_REASON} characters that say why the former log ended"),
        ));
    }
    let note = std::fs::read_to_string(&former.note)
        .map_err(|e| bad(&former.note.to_string_lossy(), e.to_string()))?;
    let last = Checkpoint::open(&note, &vkey).map_err(|e| {
        bad(&former.note.to_string_lossy(), format!("not a note of the log {log}: {}", api::chain_text(&e)))
    })?;
    let _lock = opening::lock(&former.data)?;
    let database = Store::path_in(&former.data);
    let store = Store::open_to_read(&database).await?;
    let unfit = |why: String| {
        Fatal::State {
        path: database.clone(),
        why,
        next: "name the data folder of the log that ended, as new as it is to be had, and a note of that log which it covers"
            .into(),
    }
    };
    let head = store.head().await.map_err(|e| unfit(e.full()))?;
    if head.vkey != vkey.to_string() {
        return Err(unfit(format!("it holds the log {}, and {vkey} is named", head.vkey)));
    }
    if head.size < last.size {
        return Err(unfit(format!("it has {} entries, and the note covers {}", head.size, last.size)));
    }
    let root = store.root_at(last.size).await.map_err(|e| unfit(e.full()))?;
    if root != last.root {
        return Err(unfit(format!("its first {} entries are not those that the note covers", last.size)));
    }
    let mut adopted = Vec::new();
    let names = store.collections().await.map_err(|e| unfit(e.full()))?;
    for repository in &names {
        for file in store.current_files(repository).await.map_err(|e| unfit(e.full()))? {
            adopted.extend(leaves(repository, &file, clock.now(), path)?);
        }
    }
    store.close().await;
    tracing::info!(former = %log, entries = last.size, collections = names.len(), "taking over what it had signed");
    let root = Sha256::from_bytes(last.root.0);
    let continues =
        Continues { log, vkey: vkey.to_string(), size: last.size, root, reason: former.reason.clone() };
    Ok(Succession { continues, adopted })
}

/// The leaves that take over one file: its last one names it.
fn leaves(
    repository: &Repository,
    file: &CurrentFile,
    time: Time,
    path: &Path,
) -> Result<Vec<NewLeaf>, Fatal> {
    let nonce = || {
        Nonce::random().map_err(|e| Fatal::Unavailable { what: "random bytes".into(), why: e.to_string() })
    };
    let mut chunks: Vec<&[u8]> = file.bytes.chunks(MAX_ADOPTED_BYTES).collect();
    let last = chunks.pop().unwrap_or_default();
    let parts = chunks.len() as u64;
    let mut leaves = Vec::new();
    for chunk in chunks {
        let part = AdoptedPart { time, nonce: nonce()?, content: Blob(chunk.to_vec()) };
        leaves.push(new_leaf(Leaf::Event(Event::AdoptedPart(part)), path)?);
    }
    let row = &file.row;
    let adopted = Adopted {
        time,
        nonce: nonce()?,
        repository: repository.clone(),
        role: row.role,
        version: row.version,
        reserved: file.reserved,
        key: file.key.id(),
        payload: row.payload,
        file: row.file,
        expires: row.expires,
        parts,
        content: Blob(last.to_vec()),
    };
    leaves.push(new_leaf(Leaf::Event(Event::Adopted(adopted)), path)?);
    Ok(leaves)
}
