//! A log that goes on where another one ended: what its first entries take over from the former database. That is only read.

use super::new_leaf;
use crate::{
    fatal::Fatal,
    opening,
    store::{CurrentFile, NewLeaf, Reservation, Role, Store, StoreError},
};
use record::{
    Adopted, AdoptedPart, AdoptedReservation, Clock, Continues, Event, KeeperRecord, KeyId, Leaf,
    MAX_ADOPTED_BYTES, MAX_REASON, MAX_WITHOUT, Nonce, Origin, Repository, RoleKeys, Sha256, Time,
    wire::Blob,
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};
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
    /// Collections that are not taken over.
    pub without: Vec<Repository>,
}

/// Collections that an error lists; the others are counted.
const MAX_LISTED: usize = 20;

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
    keepers: &[KeeperRecord],
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
    let names = store.collections().await.map_err(|e| unfit(e.full()))?;
    let without = left_out(former, &names)?;
    let (mut adopted, mut unreadable) = (Vec::new(), Vec::new());
    let taken: Vec<&Repository> = names.iter().filter(|name| !without.contains(name)).collect();
    for repository in &taken {
        match Collection::read(&store, repository).await {
            Ok(collection) => {
                collection.warn(repository, keepers, clock.now());
                adopted.extend(collection.leaves(repository, clock.now(), path)?);
            }
            Err(e) => unreadable.push(format!("{repository}: {}", e.full())),
        }
    }
    store.close().await;
    if !unreadable.is_empty() {
        return Err(incomplete(database, &unreadable));
    }
    for repository in &without {
        tracing::warn!(%repository, "left out: clients get no file of it any more, and its keeper signs nothing for this name");
    }
    tracing::info!(former = %log, entries = last.size, collections = taken.len(), "taking over what it had signed");
    let root = Sha256::from_bytes(last.root.0);
    let (vkey, size, reason) = (vkey.to_string(), last.size, former.reason.clone());
    let continues = Continues { log, vkey, size, root, reason, without: without.into_iter().collect() };
    Ok(Succession { continues, adopted })
}

/// The collections that an operator leaves out: the former log has them all.
fn left_out(former: &Former, names: &[Repository]) -> Result<BTreeSet<Repository>, Fatal> {
    let bad = |why: String| Fatal::Config { path: "--without".into(), why };
    if let Some(unknown) = former.without.iter().find(|name| !names.contains(name)) {
        return Err(bad(format!("the former log has no collection {unknown}")));
    }
    let without: BTreeSet<Repository> = former.without.iter().cloned().collect();
    if without.len() > MAX_WITHOUT {
        return Err(bad(format!("{} collections: at most {MAX_WITHOUT} can be left out", without.len())));
    }
    Ok(without)
}

fn incomplete(database: PathBuf, unreadable: &[String]) -> Fatal {
    let listed = unreadable.iter().take(MAX_LISTED).map(|one| format!("\n  {one}")).collect::<String>();
    let more = match unreadable.len().saturating_sub(MAX_LISTED) {
        0 => String::new(),
        more => format!("\n  and {more} more"),
    };
    Fatal::State {
        path: database,
        why: format!("collections cannot be taken over from it:{listed}{more}"),
        next: "name the data folder of a whole database that is as new, or leave each of these collections out: --without NAME. \
               One that is left out needs a new name, under which it begins anew"
            .into(),
    }
}

/// What is taken over of a collection.
struct Collection {
    /// The keys of its root; `None` while it has none.
    roles: Option<RoleKeys>,
    files: Vec<CurrentFile>,
    reservations: Vec<Reservation>,
}

impl Collection {
    async fn read(store: &Store, repository: &Repository) -> Result<Self, StoreError> {
        let files = store.current_files(repository).await?;
        let roles = match files.iter().find(|f| f.row.role == Role::Root) {
            Some(root) => Some(store.roles(&root.row).await?),
            None => None,
        };
        Ok(Self { roles, files, reservations: store.reservations(repository).await? })
    }

    fn leaves(&self, repository: &Repository, time: Time, path: &Path) -> Result<Vec<NewLeaf>, Fatal> {
        let mut all = Vec::new();
        for file in &self.files {
            all.extend(leaves(repository, file, time, path)?);
        }
        for Reservation { role, version, root } in &self.reservations {
            let reservation = AdoptedReservation {
                time,
                nonce: nonce()?,
                repository: repository.clone(),
                role: *role,
                version: *version,
                root: root.clone(),
            };
            all.push(new_leaf(Leaf::Event(Event::AdoptedReservation(reservation)), path)?);
        }
        Ok(all)
    }

    /// Tells an operator that a collection will not go on: its keeper must refuse what would follow.
    fn warn(&self, repository: &Repository, keepers: &[KeeperRecord], now: Time) {
        let why = if self.has_a_root_that_its_snapshots_keeper_never_saw(keepers) {
            "its root is of another keeper than its snapshots, and none of them has named it yet"
        } else if self.reservations.iter().filter_map(|r| r.root.as_ref()).any(|root| root.expires <= now) {
            "the root that its key was asked for has expired, and no other can follow"
        } else {
            return;
        };
        tracing::warn!(%repository, "this collection cannot go on, give it a new name: {why}");
    }

    fn has_a_root_that_its_snapshots_keeper_never_saw(&self, keepers: &[KeeperRecord]) -> bool {
        let Some(roles) = &self.roles else { return false };
        let mut asked = self.files.iter().map(|f| f.row.role).chain(self.reservations.iter().map(|r| r.role));
        let keeper = |key: KeyId| {
            let has = |k: &&KeeperRecord| k.keys.iter().any(|of| of.spki.id() == key);
            keepers.iter().find(has).map(|k| &k.name)
        };
        !asked.any(|role| role == Role::Snapshot) && keeper(roles.root) != keeper(roles.snapshot)
    }
}

fn nonce() -> Result<Nonce, Fatal> {
    Nonce::random().map_err(|e| Fatal::Unavailable { what: "random bytes".into(), why: e.to_string() })
}

/// The leaves that take over one file: its last one names it.
fn leaves(
    repository: &Repository,
    file: &CurrentFile,
    time: Time,
    path: &Path,
) -> Result<Vec<NewLeaf>, Fatal> {
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
