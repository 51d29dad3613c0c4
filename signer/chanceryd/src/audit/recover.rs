//! Two heads become one: what the database has, and what the log keeper's spool has. The same code runs at start,
//! after every lost connection, and when a database is rebuilt.

use super::{LinkError, LogLink};
use crate::{
    health::Health,
    store::{NewLeaf, StoreError, Writer},
};
use record::{Clock, Event, Leaf, Nonce, Time, wire::MAX_READ};
use tlog::Hash;

/// Bytes of leaves in one message to the keeper: half a frame, since base64 adds a third.
const MAX_APPEND_BYTES: usize = 4 * 1024 * 1024;
/// Leaves in one message to the keeper.
const MAX_APPEND: u64 = record::wire::MAX_ITEMS as u64;
/// Leaves in one commit of a refill, and their bytes: so many that the wait for the disk does not count, and few enough
/// to be held in memory.
const REFILL_COMMIT: (usize, usize) = (4096, 16 * 1024 * 1024);

/// How far a database may be refilled from the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refill {
    /// At most so many leaves: a fail-over. More looks like a restored backup, and an operator decides.
    UpTo(u64),
    /// As many as there are: the operator has decided.
    All,
}

/// Why the heads could not be made one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    /// The keeper is away: try again.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The database failed.
    #[error("{}", .0.full())]
    Store(#[from] StoreError),
    /// The daemon is sealed: nothing is written any more.
    #[error("sealed: {0}")]
    Sealed(String),
    /// Two logs under one name: seal, and never repair by lowering.
    #[error("FORK: {0}")]
    Fork(String),
    /// The database is empty, or older than the spool by more than a fail-over explains.
    #[error(
        "the database has {database} leaves and the log keeper's spool {spool}: the database is new, or was restored from \
         an older copy; run `chanceryd rebuild` to refill it from the spool, after you know why"
    )]
    RolledBack {
        /// Leaves in the database.
        database: u64,
        /// Leaves in the spool.
        spool: u64,
    },
}

impl RecoverError {
    /// Whether a later try can help: the keeper or the database was away or busy, and nothing contradicts anything.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Link(LinkError::Down(_) | LinkError::Busy | LinkError::Token { .. })
                | Self::Store(StoreError::NotApplied(_) | StoreError::Starved(_))
        )
    }
}

/// What follows every new lease: heads are compared and made one, and what was found to be older stands in the log before it
/// is as new again, so that no end between the two loses it. That the database was, stands in the commit that ends its
/// refill: a refill that was cut off goes on at the next start, and then tells from where that one began. That the spool
/// was, is committed before the spool gets what it lacks, that entry too.
pub(crate) async fn recover(
    writer: &mut Writer,
    link: &mut LogLink,
    refill: Refill,
    clock: &dyn Clock,
    health: Option<&Health>,
) -> Result<(), RecoverError> {
    let (database, spool) = (writer.head().size, link.size);
    if spool < writer.head().noted() {
        tell_of_spool(writer, link, clock, health).await?;
    }
    let refilled = event_leaf(clock, |time, nonce| Event::StoreRolledBack { time, nonce, database, spool });
    make_one(writer, link, refill, refilled, health).await
}

/// Commits that the spool is older than a note of its key, unless that stands at the end of the log: nothing is written
/// between this commit and the end of the filling.
async fn tell_of_spool(
    writer: &mut Writer,
    link: &mut LogLink,
    clock: &dyn Clock,
    health: Option<&Health>,
) -> Result<(), RecoverError> {
    agree(writer, link).await?;
    let (spool, noted) = (link.size, writer.head().noted());
    tracing::error!(
        spool,
        noted,
        "the log keeper's spool is older than a note of its key; it is filled from the database"
    );
    let last = writer.leaves(writer.head().size.saturating_sub(1), 1, usize::MAX).await?;
    let last = last.first().and_then(|bytes| Leaf::decode(bytes).ok());
    // A filling that was cut off has left the spool at more than it began with.
    if let Some(Leaf::Event(Event::SpoolRolledBack { spool: told, noted: of, .. })) = last
        && of == noted
        && told <= spool
    {
        return Ok(());
    }
    demand_unsealed(health)?;
    let leaf = event_leaf(clock, |time, nonce| Event::SpoolRolledBack { time, nonce, spool, noted });
    Ok(writer.commit_all(link.epoch, leaf.as_slice()).await?)
}

/// A leaf for an event; `None` only when the system gives no random bytes or the leaf no bytes.
fn event_leaf(clock: &dyn Clock, event: impl FnOnce(Time, Nonce) -> Event) -> Option<NewLeaf> {
    let leaf = Leaf::Event(event(clock.now(), Nonce::random().ok()?));
    let bytes = leaf.encode().ok()?;
    Some(NewLeaf { leaf, bytes, payload: None })
}

/// Brings spool and database to one head. Where a daemon serves meanwhile, its `health` is asked before each write.
pub(crate) async fn reconcile(
    writer: &mut Writer,
    link: &mut LogLink,
    refill: Refill,
    health: Option<&Health>,
) -> Result<(), RecoverError> {
    make_one(writer, link, refill, None, health).await
}

/// As [`reconcile`]; a refill of the database ends with a leaf that says so.
async fn make_one(
    writer: &mut Writer,
    link: &mut LogLink,
    refill: Refill,
    refilled: Option<NewLeaf>,
    health: Option<&Health>,
) -> Result<(), RecoverError> {
    let (database, spool) = (writer.head().size, link.size);
    if spool > database {
        refill_store(writer, link, refill, refilled, health).await?;
        compare(spool, writer.root_at(spool).await?, link.root)?;
    } else {
        agree(writer, link).await?;
        append_missing(writer, link, health).await?;
        compare(link.size, writer.head().root, link.root)?;
    }
    link.agreed = Some(link.size);
    Ok(())
}

/// Compares the spool with as many leaves of the database. One that was compared on this connection has only grown by what
/// this writer appended.
async fn agree(writer: &mut Writer, link: &mut LogLink) -> Result<(), RecoverError> {
    if link.agreed != Some(link.size) {
        compare(link.size, writer.root_at(link.size).await?, link.root)?;
        link.agreed = Some(link.size);
    }
    Ok(())
}

// INVARIANT(no-write-after-fault): the scrub, or a reader, may seal while leaves go to and fro.
fn demand_unsealed(health: Option<&Health>) -> Result<(), RecoverError> {
    health.and_then(Health::sealed).map_or(Ok(()), |why| Err(RecoverError::Sealed(why)))
}

// INVARIANT(no-reset): heads that differ at the same size stop everything; nothing is ever lowered to make them agree.
fn compare(size: u64, database: Hash, spool: Hash) -> Result<(), RecoverError> {
    if database == spool {
        Ok(())
    } else {
        Err(RecoverError::Fork(format!(
            "at {size} leaves the database has root {database:?} and the log keeper {spool:?}"
        )))
    }
}

/// Committed here, not yet appended there.
async fn append_missing(
    writer: &mut Writer,
    link: &mut LogLink,
    health: Option<&Health>,
) -> Result<(), RecoverError> {
    while link.size < writer.head().size {
        demand_unsealed(health)?;
        let leaves = writer.leaves(link.size, MAX_APPEND, MAX_APPEND_BYTES).await?;
        link.append(leaves).await?;
    }
    Ok(())
}

/// Appended there, not (any more) committed here.
async fn refill_store(
    writer: &mut Writer,
    link: &mut LogLink,
    refill: Refill,
    mut refilled: Option<NewLeaf>,
    health: Option<&Health>,
) -> Result<(), RecoverError> {
    let (database, spool) = (writer.head().size, link.size);
    if let Refill::UpTo(most) = refill
        && (database == 0 || spool - database > most)
    {
        return Err(RecoverError::RolledBack { database, spool });
    }
    tracing::error!(database, spool, "the database is behind the log keeper's spool and is refilled from it");
    let mut fold = writer.frontier().clone();
    while fold.size() < spool {
        for leaf in read(link, fold.size()).await? {
            fold.append(tlog::leaf_hash(&leaf));
        }
    }
    compare(spool, fold.root(), link.root)?;
    while writer.head().size < spool {
        let mut leaves = read_batch(link, writer.head().size).await?;
        if writer.head().size + leaves.len() as u64 >= spool {
            leaves.extend(refilled.take());
        }
        demand_unsealed(health)?;
        // The spool has the root that its keeper signs: a leaf that does not follow from rows of ours shows that these are
        // damaged. Left out, it would move all others to places that are not theirs.
        writer.commit_all(link.epoch, &leaves).await.map_err(|e| does_not_follow(e, database))?;
    }
    Ok(())
}

/// Where the refill began with an empty database, all rows are of the spool, and it is the spool that is wrong.
fn does_not_follow(error: StoreError, database: u64) -> RecoverError {
    match error {
        StoreError::Contradiction(why) if database == 0 => {
            RecoverError::Fork(format!("the log keeper's spool: {why}"))
        }
        StoreError::Contradiction(why) => StoreError::Contradiction(format!(
            "{why}. Move chancery.db with its -wal and -shm away and run `chanceryd rebuild`"
        ))
        .into(),
        other => other.into(),
    }
}

/// The leaves of one commit.
async fn read_batch(link: &mut LogLink, from: u64) -> Result<Vec<NewLeaf>, RecoverError> {
    let (mut leaves, mut bytes) = (Vec::new(), 0);
    let mut at = from;
    while at < link.size && leaves.len() < REFILL_COMMIT.0 && bytes < REFILL_COMMIT.1 {
        for leaf in read(link, at).await? {
            bytes += leaf.len();
            leaves.push(decode(leaf)?);
            at += 1;
        }
    }
    Ok(leaves)
}

async fn read(link: &mut LogLink, from: u64) -> Result<Vec<Vec<u8>>, RecoverError> {
    let leaves = link.read(from, MAX_READ).await?;
    if leaves.is_empty() {
        return Err(RecoverError::Fork(format!(
            "the log keeper tells of {} leaves and gives only {from}",
            link.size
        )));
    }
    Ok(leaves)
}

fn decode(bytes: Vec<u8>) -> Result<NewLeaf, RecoverError> {
    let leaf = Leaf::decode(&bytes)
        .map_err(|e| RecoverError::Fork(format!("a leaf of the spool cannot be read: {e}")))?;
    Ok(NewLeaf { leaf, bytes, payload: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::stand_in::{StandIn, Then},
        store::Store,
    };
    use ed25519_dalek::Signer;
    use record::SystemClock;
    use std::path::Path;

    fn stopped(n: u64) -> NewLeaf {
        let nonce: Nonce = format!("{n:032x}").parse().unwrap();
        let leaf = Leaf::Event(Event::Stopped { time: SystemClock.now(), nonce });
        NewLeaf { bytes: leaf.encode().unwrap(), leaf, payload: None }
    }

    /// A start that goes as far as the log keeper lets it; its process ends without a word.
    async fn start(path: &Path, keeper: &StandIn) -> Result<(), RecoverError> {
        let (_store, mut writer) = Store::open(path).await.unwrap();
        let known = writer.head().epoch;
        let mut link = LogLink::connect(&keeper.socket, &keeper.vkey(), known).await?;
        recover(&mut writer, &mut link, Refill::UpTo(0), &SystemClock, None).await
    }

    #[tokio::test]
    async fn that_the_spool_was_rolled_back_stands_in_the_log_once_however_often_its_filling_is_cut_off() {
        for cuts in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            // More than one message to the keeper can carry, of which it has 3.
            let leaves: Vec<_> = (0..300).map(stopped).collect();
            let older = leaves.iter().take(3).map(|new| new.bytes.clone()).collect();
            let mut left = cuts;
            let keeper = StandIn::start(dir.path(), older, move || match left {
                0 => Then::Answer,
                _ => {
                    left -= 1;
                    Then::HangUp
                }
            });
            let (path, vkey) = (Store::path_in(dir.path()), keeper.vkey());
            let mut writer = Store::create(&path, vkey.name(), &vkey.to_string()).await.unwrap();
            writer.commit_all(1, &leaves).await.unwrap();
            let (size, root) = (writer.head().size, writer.head().root);
            let text = tlog::Checkpoint { origin: vkey.name().into(), size, root }.text();
            let signature = keeper.key.sign(text.as_bytes()).to_bytes();
            writer.remember_note(tlog::signed_note(&text, &vkey, &signature).unwrap());
            writer.commit_all(1, &[]).await.unwrap();
            drop(writer);

            let mut starts = 1;
            while start(&path, &keeper).await.is_err() {
                starts += 1;
                assert!(starts < 9, "{cuts} cuts");
            }
            let told: Vec<_> = keeper
                .leaves()
                .iter()
                .filter_map(|bytes| match Leaf::decode(bytes).unwrap() {
                    Leaf::Event(Event::SpoolRolledBack { spool, noted, .. }) => Some((spool, noted)),
                    _ => None,
                })
                .collect();
            assert_eq!(told, [(3, 300)], "{cuts} cuts");
        }
    }
}
