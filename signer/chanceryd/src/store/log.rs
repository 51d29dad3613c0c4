//! Leaves, the head, and the tree's hashes in the database: one transaction a batch.

use super::{
    Store, StoreError,
    batch::Batch,
    checked::{self, leaf_row, read_tiles},
    project,
    requests::NewRequest,
    sessions::{self, NewSession},
    signed, unsigned,
};
use record::{KeeperName, Leaf, Time};
use sqlx::{Connection, Row, SqliteConnection};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem::ManuallyDrop,
};
use tlog::{Frontier, Hash, TILE_WIDTH, TileId, Tiles};

/// Frames of the write-ahead log (of a page each) from which on they are moved into the file: SQLite's own default.
const CHECKPOINT_FRAMES: i64 = 1000;
/// Frames from which on a checkpoint waits for readers (at most [`BUSY`](super::BUSY)), so that the next commit begins the
/// write-ahead log anew: readers whose times overlap would otherwise let it grow for ever. 64 MiB.
const RESTART_FRAMES: i64 = 16 * CHECKPOINT_FRAMES;

/// The log as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Number of leaves.
    pub size: u64,
    /// Their root.
    pub root: Hash,
    /// The highest lease under which it was written.
    pub epoch: u64,
    /// The last signed note that was stored; may be older than `size`.
    pub note: String,
    /// The log's name.
    pub origin: String,
    /// The log key.
    pub vkey: String,
}

impl Head {
    /// Leaves that the stored note covers; 0 without one. The note was verified when it was stored.
    pub(crate) fn noted(&self) -> u64 {
        let checkpoint =
            tlog::Note::parse(&self.note).ok().and_then(|n| tlog::Checkpoint::parse(n.text()).ok());
        checkpoint.map_or(0, |c| c.size)
    }
}

/// A leaf on its way into the log.
#[derive(Debug)]
pub(crate) struct NewLeaf {
    /// What it says.
    pub leaf: Leaf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// For an intent: the bytes to be signed.
    pub payload: Option<Vec<u8>>,
}

/// Why one leaf of a batch was left out; the others are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejected {
    /// The intent it closes is closed already.
    #[error("the intent has its outcome already")]
    Closed,
    /// There is no open intent that it could close.
    #[error("no open intent for this key and payload")]
    NoIntent,
    /// An open intent exists for the same key and payload.
    #[error("an open intent for the same key and payload exists")]
    Open,
    /// The idempotency key is in use.
    #[error("the idempotency key is in use")]
    IdempotencyKey,
    /// The issuer's token was exchanged before.
    #[error("the token was used before")]
    Used,
    /// No more sessions at once.
    #[error("too many sessions are open")]
    Sessions,
}

/// A row that no leaf gives.
#[derive(Debug, Clone)]
pub(crate) enum NewRow {
    /// A request that was allowed.
    Request(NewRequest),
    /// A session, for a token that is used up.
    Session(NewSession),
    /// The moment from which on tokens must be issued: this database does not know which older ones were used.
    TokenFloor(Time),
}

impl From<NewRequest> for NewRow {
    fn from(request: NewRequest) -> Self {
        Self::Request(request)
    }
}

impl From<NewSession> for NewRow {
    fn from(session: NewSession) -> Self {
        Self::Session(session)
    }
}

impl NewRow {
    async fn insert(&self, connection: &mut SqliteConnection) -> Result<Result<(), Rejected>, StoreError> {
        match self {
            Self::Request(request) => request.insert(connection).await,
            Self::Session(session) => session.insert(connection).await,
            Self::TokenFloor(since) => sessions::refuse_issued_before(connection, *since).await.map(Ok),
        }
    }
}

/// For each leaf its index, and for each row that it is there; or why it was left out.
pub(crate) type Committed = (Vec<Result<u64, Rejected>>, Vec<Result<(), Rejected>>);

/// What becomes of a leaf that does not fit the log's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Misfits {
    /// It alone is left out.
    LeftOut,
    /// Nothing is committed.
    Contradict,
}

/// The one writing connection.
// INVARIANT(no-write-after-fault): the connection is closed by `close` alone, since closing writes and syncs: one that is
// dropped, or that has met a fault, is left as it is and ends with the process.
#[derive(Debug)]
pub(crate) struct Writer {
    connection: ManuallyDrop<SqliteConnection>,
    /// The first error after which nothing may be written.
    fault: Option<String>,
    /// Frames from which on readers are waited for again.
    restart_from: i64,
    /// How many frames the write-ahead log had when a reader was waited for in vain.
    overgrown: Option<i64>,
    head: Head,
    frontier: Frontier,
    generations: BTreeMap<KeeperName, u64>,
    stored: BTreeMap<KeeperName, u64>,
}

impl Writer {
    pub(super) async fn new(mut connection: SqliteConnection) -> Result<Self, StoreError> {
        let head = read_head(&mut connection).await?;
        let tiles = read_tiles(&mut connection, tlog::tiles_for_frontier(head.size), head.size).await?;
        let frontier = tlog::frontier_from_tiles(head.size, &tiles).map_err(|e| {
            StoreError::Contradiction(format!(
                "the tree's hashes do not give a tree of {} leaves: {e}",
                head.size
            ))
        })?;
        if frontier.root() != head.root {
            return Err(StoreError::Contradiction(format!(
                "the stored root {:?} of {} leaves is not the root of the stored hashes, {:?}",
                head.root,
                head.size,
                frontier.root()
            )));
        }
        let behind: Option<i64> =
            sqlx::query_scalar("SELECT max(idx) FROM leaf").fetch_one(&mut connection).await?;
        if behind.map_or(0, |last| unsigned(last) + 1) != head.size {
            return Err(StoreError::Contradiction(format!(
                "its head has {} leaves, and the last leaf is {behind:?}",
                head.size
            )));
        }
        Ok(Self {
            connection: ManuallyDrop::new(connection),
            fault: None,
            restart_from: RESTART_FRAMES,
            overgrown: None,
            head,
            frontier,
            generations: BTreeMap::new(),
            stored: BTreeMap::new(),
        })
    }

    /// Moves the whole write-ahead log into the file and closes the connection. What it moves is on the disk when it
    /// returns.
    ///
    /// On an error, which [`StoreError::Busy`] is too where others read, the connection is left as it is and ends with the
    /// process: closing it would try again and swallow the error. After a fault nothing is done.
    pub(crate) async fn close(mut self) -> Result<(), StoreError> {
        if let Some(why) = &self.fault {
            return Err(after_fault(why));
        }
        sqlx::query("PRAGMA busy_timeout = 2000").execute(&mut *self.connection).await?;
        if !self.checkpoint_as("PRAGMA wal_checkpoint(TRUNCATE)").await? {
            return Err(StoreError::Busy);
        }
        ManuallyDrop::into_inner(self.connection).close().await.map_err(StoreError::from)
    }

    /// The head that is committed.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The right edge of the committed tree.
    pub(crate) fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Remembers a note; it reaches the disk with the next commit. Losing it is harmless: the keeper signs another.
    pub(crate) fn remember_note(&mut self, note: String) {
        self.head.note = note;
    }

    /// What signing keepers told of their journals; it reaches the disk with the next commit.
    pub(crate) fn remember_generations(&mut self, told: BTreeMap<KeeperName, u64>) {
        self.generations = told;
    }

    /// Appends leaves and rows in one transaction. For each leaf its index, or why it was left out.
    ///
    /// On an error nothing of the batch was applied, but for [`StoreError::Integrity`], after which nothing is known, and
    /// nothing is written by this writer any more.
    pub(crate) async fn commit(
        &mut self,
        epoch: u64,
        leaves: &[NewLeaf],
        rows: &[NewRow],
    ) -> Result<Committed, StoreError> {
        self.commit_with(Misfits::LeftOut, epoch, leaves, rows).await
    }

    /// Appends all of the leaves in one transaction, as they stand in another copy of this log, or none: one that does not
    /// follow is a [`StoreError::Contradiction`], after which nothing is written by this writer any more.
    pub(crate) async fn commit_all(&mut self, epoch: u64, leaves: &[NewLeaf]) -> Result<(), StoreError> {
        self.commit_with(Misfits::Contradict, epoch, leaves, &[]).await.map(drop)
    }

    async fn commit_with(
        &mut self,
        misfits: Misfits,
        epoch: u64,
        leaves: &[NewLeaf],
        rows: &[NewRow],
    ) -> Result<Committed, StoreError> {
        if let Some(why) = &self.fault {
            return Err(after_fault(why));
        }
        let done = match self.apply(misfits, epoch, leaves, rows).await {
            Ok(done) => self.checkpoint().await.map(|()| done),
            Err(e) => Err(e),
        };
        let done = done.map_err(StoreError::of_writer);
        if let Err(e) = &done
            && e.is_integrity()
        {
            self.fault = Some(e.full());
        }
        done
    }

    async fn apply(
        &mut self,
        misfits: Misfits,
        epoch: u64,
        leaves: &[NewLeaf],
        rows: &[NewRow],
    ) -> Result<Committed, StoreError> {
        let mut frontier = self.frontier.clone();
        let mut tx = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut placed = Vec::with_capacity(leaves.len());
        let mut batch = Batch::new(frontier.size());
        for new in leaves {
            let index = frontier.size();
            match project::check(&mut tx, &batch, &new.leaf).await? {
                Err(why) if misfits == Misfits::Contradict => {
                    return Err(StoreError::Contradiction(format!(
                        "leaf {index} does not follow from what stands before it: {why}"
                    )));
                }
                Err(why) => placed.push(Err(why)),
                Ok(ends) => {
                    let hash = tlog::leaf_hash(&new.bytes);
                    let mut nodes = Vec::new();
                    frontier.append_with(hash, |tile, place, hash| nodes.push((tile, place, hash)));
                    batch.put_leaf(hash, &new.bytes);
                    insert_nodes(&mut tx, &nodes).await?;
                    project::apply(&mut tx, &mut batch, index, ends, new).await?;
                    batch.relieve(&mut tx).await?;
                    placed.push(Ok(index));
                }
            }
        }
        batch.write(&mut tx).await?;
        let mut inserted = Vec::with_capacity(rows.len());
        for row in rows {
            inserted.push(row.insert(&mut tx).await?);
        }
        let told = self.generations.iter().filter(|told| self.stored.get(told.0) != Some(told.1));
        for (keeper, told) in told {
            put_generation(&mut tx, keeper, *told).await?;
        }
        let head = Head { size: frontier.size(), root: frontier.root(), epoch, ..self.head.clone() };
        replace_head(&mut tx, &self.head, &head).await?;
        tx.commit().await?;
        self.head = head;
        self.frontier = frontier;
        self.stored.clone_from(&self.generations);
        Ok((placed, inserted))
    }

    /// Moves the write-ahead log into the file when it has grown, and tells of every error: one that is not told would be
    /// followed by a sync that seems to succeed.
    async fn checkpoint(&mut self) -> Result<(), StoreError> {
        let moved = async {
            let log = sqlx::query("PRAGMA wal_checkpoint(NOOP)").fetch_one(&mut *self.connection).await?;
            let frames: i64 = log.try_get(1)?;
            if frames >= self.restart_from {
                self.restart_log(frames).await?;
            } else if frames >= CHECKPOINT_FRAMES {
                self.checkpoint_as("PRAGMA wal_checkpoint(PASSIVE)").await?;
            } else {
                (self.restart_from, self.overgrown) = (RESTART_FRAMES, None);
            }
            Ok::<(), StoreError>(())
        };
        match moved.await {
            // The commit stands: the next one tries again.
            Err(StoreError::NotApplied(_)) | Ok(()) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Has the next commit begin the write-ahead log anew. A reader that does not end is waited for once in
    /// [`CHECKPOINT_FRAMES`], not at every commit.
    async fn restart_log(&mut self, frames: i64) -> Result<(), StoreError> {
        if self.checkpoint_as("PRAGMA wal_checkpoint(RESTART)").await? {
            (self.restart_from, self.overgrown) = (RESTART_FRAMES, None);
        } else {
            (self.restart_from, self.overgrown) = (frames.saturating_add(CHECKPOINT_FRAMES), Some(frames));
        }
        Ok(())
    }

    /// What an operator should know of the write-ahead log, if there is something.
    pub(crate) fn alarm(&self) -> Option<String> {
        self.overgrown.map(|frames| {
            format!(
                "the database's journal (chancery.db-wal) has {frames} pages and grows, since some program reads the \
                 database in one transaction that does not end: find it with `fuser chancery.db` and end it"
            )
        })
    }

    /// Whether it did all that its kind does: a reader that is in the way is waited for, and then left in peace.
    async fn checkpoint_as(&mut self, kind: &'static str) -> Result<bool, StoreError> {
        let done = sqlx::query(kind).fetch_one(&mut *self.connection).await?;
        Ok(done.try_get::<i64, _>(0)? == 0)
    }

    /// Leaves from `from` on, at most `n` and at most about `max_bytes`.
    pub(crate) async fn leaves(
        &mut self,
        from: u64,
        n: u64,
        max_bytes: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let bytes = checked::leaves(&mut self.connection, from, from.saturating_add(n)).await?;
        let mut total = 0;
        let within = |leaf: &Vec<u8>| {
            let first = total == 0;
            total += leaf.len();
            first || total <= max_bytes
        };
        Ok(bytes.into_iter().take_while(within).collect())
    }

    /// The root of the first `size` leaves.
    pub(crate) async fn root_at(&mut self, size: u64) -> Result<Hash, StoreError> {
        let tiles = read_tiles(&mut self.connection, tlog::tiles_for_frontier(size), size).await?;
        root_of(size, &tiles)
    }
}

impl Store {
    /// The head as it stands: what is written later only adds to it.
    pub(crate) async fn head(&self) -> Result<Head, StoreError> {
        read_head(&mut *self.readers.acquire().await?).await
    }

    /// Tiles of a tree of `size` leaves, each as wide as that tree has it.
    pub(crate) async fn tiles(&self, ids: BTreeSet<TileId>, size: u64) -> Result<Tiles, StoreError> {
        let mut connection = self.readers.acquire().await?;
        read_tiles(&mut connection, ids, size).await
    }

    /// The root of the first `size` leaves.
    pub(crate) async fn root_at(&self, size: u64) -> Result<Hash, StoreError> {
        root_of(size, &self.tiles(tlog::tiles_for_frontier(size), size).await?)
    }

    /// A leaf's bytes.
    pub(crate) async fn leaf(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT idx, hash, bytes FROM leaf WHERE idx = ?";
        let row = sqlx::query(sql).bind(signed(index)).fetch_optional(&self.readers).await?;
        Ok(row.as_ref().map(leaf_row).transpose()?.map(|(_, _, bytes)| bytes))
    }

    /// The leaves `from..from + n`, all of them, in order.
    pub(crate) async fn leaves(&self, from: u64, n: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let leaves = checked::leaves(&mut connection, from, from.saturating_add(n)).await?;
        match leaves.len() as u64 {
            found if found < n => Err(checked::missing_leaf(from.saturating_add(found))),
            _ => Ok(leaves),
        }
    }
}

fn after_fault(why: &str) -> StoreError {
    StoreError::Contradiction(format!("nothing is written after a fault: {why}"))
}

fn root_of(size: u64, tiles: &Tiles) -> Result<Hash, StoreError> {
    tlog::frontier_from_tiles(size, tiles).map(|f| f.root()).map_err(|e| {
        StoreError::Contradiction(format!("the tree's hashes do not give a tree of {size} leaves: {e}"))
    })
}

pub(super) async fn read_head(connection: &mut SqliteConnection) -> Result<Head, StoreError> {
    let row = sqlx::query("SELECT size, root, epoch, note, origin, vkey FROM head WHERE id = 1")
        .fetch_one(connection)
        .await?;
    Ok(Head {
        size: unsigned(row.try_get(0)?),
        root: checked::hash(row.try_get(1)?)?,
        epoch: unsigned(row.try_get(2)?),
        note: row.try_get(3)?,
        origin: row.try_get(4)?,
        vkey: row.try_get(5)?,
    })
}

// INVARIANT(forward-only): the head is replaced only where it still is what this writer read, by a larger or equal
// size, under an epoch that is not lower.
async fn replace_head(connection: &mut SqliteConnection, old: &Head, new: &Head) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE head SET size = ?, root = ?, epoch = ?, note = ? WHERE id = 1 AND size = ? AND root = ? AND epoch <= ?")
        .bind(signed(new.size))
        .bind(new.root.0.to_vec())
        .bind(signed(new.epoch))
        .bind(&new.note)
        .bind(signed(old.size))
        .bind(old.root.0.to_vec())
        .bind(signed(new.epoch))
        .execute(connection)
        .await?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::Contradiction(format!("another writer moved the head past {} leaves", old.size)))
    }
}

// INVARIANT(forward-only): what a keeper has told is never lowered.
async fn put_generation(
    connection: &mut SqliteConnection,
    keeper: &KeeperName,
    told: u64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO generation (keeper, told) VALUES (?, ?) ON CONFLICT (keeper) DO UPDATE SET told = max(told, excluded.told)")
        .bind(keeper.as_str())
        .bind(signed(told))
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes the hashes that a leaf brought into tiles above the leaves: the roots of the tiles it filled.
async fn insert_nodes(
    connection: &mut SqliteConnection,
    entered: &[(TileId, u8, Hash)],
) -> Result<(), StoreError> {
    for (tile, place, hash) in entered.iter().filter(|(tile, ..)| tile.level > 0) {
        sqlx::query("INSERT INTO node (level, idx, hash) VALUES (?, ?, ?)")
            .bind(i64::from(tile.level))
            .bind(signed(tile.index * TILE_WIDTH + u64::from(*place)))
            .bind(hash.0.to_vec())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::{Clock, Event, Nonce, SystemClock};
    use sqlx::ConnectOptions;

    fn leaf() -> NewLeaf {
        let leaf = Leaf::Event(Event::Stopped { time: SystemClock.now(), nonce: Nonce::random().unwrap() });
        NewLeaf { bytes: leaf.encode().unwrap(), leaf, payload: None }
    }

    async fn damage(writer: &mut Writer, sql: &'static str) {
        assert_eq!(sqlx::query(sql).execute(&mut *writer.connection).await.unwrap().rows_affected(), 1);
    }

    /// INVARIANT(no-write-after-fault)
    #[tokio::test]
    async fn no_write_after_fault() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chancery.db");
        let mut first = Store::create(&path, "log.example", "vkey").await.unwrap();
        let (_store, mut second) = Store::open(&path).await.unwrap();
        second.commit(1, &[leaf()], &[]).await.unwrap();
        // Another writer has moved the head.
        let fault = first.commit(1, &[leaf()], &[]).await.unwrap_err();
        assert!(fault.is_integrity(), "{}", fault.full());
        let wal = dir.path().join("chancery.db-wal");
        let written = std::fs::read(&wal).unwrap();
        let again = first.commit(1, &[leaf()], &[]).await.unwrap_err();
        assert!(again.is_integrity() && again.full().contains("nothing is written after a fault"));
        assert!(first.close().await.is_err());
        drop(second);
        assert_eq!(std::fs::read(&wal).unwrap(), written, "neither moved nor removed");
    }

    /// 110 leaves of 60 kB: more frames than [`CHECKPOINT_FRAMES`].
    async fn commit_much(writer: &mut Writer) {
        let big = || NewLeaf { bytes: vec![0; 60_000], ..leaf() };
        writer.commit(1, &(0..110).map(|_| big()).collect::<Vec<_>>(), &[]).await.unwrap();
    }

    /// More rows than one statement has, and more bytes than a batch holds.
    #[tokio::test]
    async fn every_leaf_of_a_large_transaction_is_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chancery.db");
        let mut writer = Store::create(&path, "log.example", "vkey").await.unwrap();
        let large = |n: u16| NewLeaf { bytes: n.to_be_bytes().repeat(30_000), ..leaf() };
        let leaves: Vec<_> = (0..300).map(large).collect();
        writer.commit_all(1, &leaves).await.unwrap();
        writer.commit_all(1, &[large(300)]).await.unwrap();
        let root = writer.head().root;
        let (store, reopened) = Store::open(&path).await.unwrap();
        assert_eq!((reopened.head().size, reopened.head().root), (301, root));
        let read = store.leaves(0, 301).await.unwrap();
        assert!(read.iter().zip(0..).all(|(bytes, n)| *bytes == large(n).bytes));
    }

    async fn reader(path: &std::path::Path) -> SqliteConnection {
        super::super::options(path).read_only(true).connect().await.unwrap()
    }

    async fn begin_to_read(connection: &mut SqliteConnection) {
        sqlx::raw_sql("BEGIN; SELECT size FROM head").execute(connection).await.unwrap();
    }

    #[tokio::test]
    async fn readers_whose_times_overlap_do_not_let_the_journal_grow_and_one_that_does_not_end_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chancery.db");
        let mut writer = Store::create(&path, "log.example", "vkey").await.unwrap();
        sqlx::query("PRAGMA busy_timeout = 10").execute(&mut *writer.connection).await.unwrap();
        let (mut first, mut second) = (reader(&path).await, reader(&path).await);
        writer.commit(1, &[leaf()], &[]).await.unwrap();
        begin_to_read(&mut first).await;
        let mut commits = 0;
        while writer.alarm().is_none() {
            commit_much(&mut writer).await;
            commits += 1;
            assert!(commits < 20, "a reader that does not end goes unnoticed");
        }
        sqlx::query("PRAGMA busy_timeout = 5000").execute(&mut *writer.connection).await.unwrap();
        let readers = tokio::spawn(async move {
            loop {
                begin_to_read(&mut second).await;
                sqlx::raw_sql("ROLLBACK").execute(&mut first).await.unwrap();
                begin_to_read(&mut first).await;
                sqlx::raw_sql("ROLLBACK").execute(&mut second).await.unwrap();
            }
        });
        for _ in 0..3 {
            commit_much(&mut writer).await;
        }
        assert_eq!(writer.alarm(), None);
        let wal = std::fs::metadata(dir.path().join("chancery.db-wal")).unwrap().len();
        for _ in 0..4 {
            commit_much(&mut writer).await;
        }
        assert_eq!(std::fs::metadata(dir.path().join("chancery.db-wal")).unwrap().len(), wal, "begun anew");
        readers.abort();
    }

    #[tokio::test]
    async fn of_leaves_that_must_follow_each_other_none_is_committed_when_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chancery.db");
        let mut writer = Store::create(&path, "log.example", "vkey").await.unwrap();
        writer.commit(1, &[leaf()], &[]).await.unwrap();
        let astray = Leaf::Outcome(record::Outcome {
            intent: 0,
            outcome: record::OutcomeKind::Void,
            time: SystemClock.now(),
            keeper: KeeperName::parse("k1").unwrap(),
            code: None,
        });
        let astray = NewLeaf { bytes: astray.encode().unwrap(), leaf: astray, payload: None };
        let why = writer.commit_all(1, &[leaf(), astray, leaf()]).await.unwrap_err();
        assert!(why.is_integrity() && why.full().contains("leaf 2 does not follow"), "{}", why.full());
        assert_eq!(Store::open(&path).await.unwrap().1.head().size, 1);
    }

    #[tokio::test]
    async fn a_database_is_closed_only_when_all_of_it_is_in_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chancery.db");
        let wal = dir.path().join("chancery.db-wal");
        let mut writer = Store::create(&path, "log.example", "vkey").await.unwrap();
        writer.commit(1, &[leaf()], &[]).await.unwrap();
        let mut reader = reader(&path).await;
        begin_to_read(&mut reader).await;
        writer.commit(1, &[leaf()], &[]).await.unwrap();
        assert!(matches!(writer.close().await, Err(StoreError::Busy)), "a reader needs the journal");
        assert!(std::fs::metadata(&wal).unwrap().len() > 0);
        assert!(Store::rename(&path, &dir.path().join("renamed.db")).is_err(), "its journal is not empty");
        reader.close().await.unwrap();
        let (store, writer) = Store::open(&path).await.unwrap();
        store.close().await;
        writer.close().await.unwrap();
        assert_eq!(std::fs::metadata(&wal).map_or(0, |about| about.len()), 0);
        let renamed = dir.path().join("renamed.db");
        Store::rename(&path, &renamed).unwrap();
        assert_eq!(Store::open(&renamed).await.unwrap().1.head().size, 2);
    }

    #[tokio::test]
    async fn what_is_not_what_it_was_does_not_leave_the_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chancery.db");
        let mut writer = Store::create(&path, "log.example", "vkey").await.unwrap();
        let leaves: Vec<NewLeaf> = (0..300).map(|_| leaf()).collect();
        writer.commit(1, &leaves, &[]).await.unwrap();
        let (store, _) = Store::open(&path).await.unwrap();
        assert_eq!(store.leaves(0, 300).await.unwrap().len(), 300);
        let full = BTreeSet::from([TileId { level: 0, index: 0 }]);
        assert!(store.tiles(full.clone(), 300).await.is_ok());
        damage(&mut writer, "UPDATE leaf SET bytes = x'00' WHERE idx = 7").await;
        for why in [
            store.leaf(7).await.unwrap_err(),
            store.leaves(0, 256).await.unwrap_err(),
            writer.leaves(5, 10, 4096).await.unwrap_err(),
        ] {
            assert!(why.is_integrity() && why.full().contains("leaf 7"), "{}", why.full());
        }
        damage(&mut writer, "UPDATE leaf SET hash = zeroblob(32) WHERE idx = 9").await;
        let why = store.tiles(full, 300).await.unwrap_err();
        assert!(why.is_integrity() && why.full().contains("tile 0/0"), "{}", why.full());
        damage(&mut writer, "DELETE FROM leaf WHERE idx = 290").await;
        let why = store.leaves(280, 20).await.unwrap_err();
        assert!(why.full().contains("leaf 290 is missing"), "{}", why.full());
        sqlx::query("INSERT INTO blob VALUES (zeroblob(32), x'01')")
            .execute(&mut *writer.connection)
            .await
            .unwrap();
        let why = store.blob(&record::Sha256::from_bytes([0; 32])).await.unwrap_err();
        assert!(why.is_integrity() && why.full().contains(&"0".repeat(64)), "{}", why.full());
    }
}
