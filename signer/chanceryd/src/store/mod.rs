//! The database: SQLite with one writer and a pool of readers.
//!
//! Promises: a commit that returned is on disk (`synchronous=FULL`, asserted at open); a head is only ever replaced by
//! its successor (compare-and-set); nothing is created but by [`Store::create`]; what leaves it is hashed again; after an
//! error that says that the disk or the data cannot be trusted, nothing is written any more. It does not know keepers or
//! HTTP.

mod adopt;
mod backup;
mod batch;
mod checked;
mod identity;
mod inspection;
mod log;
mod project;
mod requests;
mod rows;
#[cfg(test)]
mod samples;
mod sessions;
mod tuf;

pub(crate) use adopt::{CurrentFile, Reservation};
pub(crate) use inspection::Inspection;
pub(crate) use log::{Committed, Head, NewLeaf, NewRow, Rejected, Writer};
pub(crate) use requests::{ImageRow, NewRequest, RequestRow, Waiting};
pub(crate) use rows::TokenRow;
pub(crate) use sessions::{NewPollToken, NewSession, SessionRow};
pub(crate) use tuf::{Collection, FileRow, Role};

use crate::fatal::Fatal;
use inspection::OpenFile;
use record::Time;
use sqlx::{
    ConnectOptions, Connection, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The format of the tables in `schema.sql`.
pub(crate) const FORMAT: i64 = 2;
/// Reading connections: enough for two cores, each may wait on disk.
const READERS: u32 = 4;
/// How long a statement waits for another connection's lock before it counts as not applied.
const BUSY: Duration = Duration::from_secs(5);

/// What went wrong in the database, by what it means for the data.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The change was surely not made; the same call may be tried again.
    #[error("the database was busy and changed nothing")]
    NotApplied(#[source] sqlx::Error),
    /// A file could not be opened or no memory was left: mostly the process has used up its handles, which says nothing of
    /// the data: a read may be tried again. For the writer it is not known what was applied; see
    /// [`of_writer`](Self::of_writer).
    #[error("the database could not be opened, or had no memory")]
    Starved(#[source] sqlx::Error),
    /// Others read from its journal, which therefore stays. Nothing is lost.
    #[error("the database is read by others, and its journal (-wal) stays beside it")]
    Busy,
    /// The disk or the data cannot be trusted any more: the daemon must seal.
    #[error("the database failed")]
    Integrity(#[source] sqlx::Error),
    /// Two parts of the data contradict each other: the daemon must seal.
    #[error("the database contradicts itself: {0}")]
    Contradiction(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        // SQLite primary result codes (sqlite.org/rescode.html): BUSY 5, LOCKED 6, NOMEM 7, CANTOPEN 14. All others mean
        // that something is wrong with the disk, the file or our own statements, and none of these gets better by trying
        // again.
        let primary = match &error {
            sqlx::Error::Database(e) => e.code().and_then(|c| c.parse::<i64>().ok()).map(|c| c & 0xff),
            // Closed: the daemon is stopping.
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Some(5),
            _ => None,
        };
        match primary {
            Some(5 | 6) => Self::NotApplied(error),
            Some(7 | 14) => Self::Starved(error),
            _ => Self::Integrity(error),
        }
    }
}

impl StoreError {
    /// Whether nothing may be written any more: the data cannot be trusted, or it is not known what was applied.
    pub(crate) fn is_integrity(&self) -> bool {
        !matches!(self, Self::NotApplied(_) | Self::Starved(_) | Self::Busy)
    }

    /// What an error means for the connection that writes: one that was starved within a commit does not know its end.
    pub(crate) fn of_writer(self) -> Self {
        match self {
            Self::Starved(e) => Self::Integrity(e),
            other => other,
        }
    }

    /// The error with its cause, for the log and for operators.
    pub(crate) fn full(&self) -> String {
        match self {
            Self::NotApplied(e) | Self::Starved(e) | Self::Integrity(e) => format!("{self}: {e}"),
            Self::Busy | Self::Contradiction(_) => self.to_string(),
        }
    }
}

/// Readers of one database file.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    readers: SqlitePool,
    file: Arc<OpenFile>,
}

impl Store {
    /// The database file in a data folder.
    pub(crate) fn path_in(data: &Path) -> PathBuf {
        data.join("chancery.db")
    }

    /// Makes a new, empty database; refuses where a file stands already.
    pub(crate) async fn create(path: &Path, origin: &str, vkey: &str) -> Result<Writer, Fatal> {
        let bad = |why: String| {
            Fatal::State {
            path: path.to_owned(),
            why,
            next: "init makes new state only; remove the file yourself if it is left over from an init that failed".into(),
        }
        };
        // SQLite would replay a left-over journal into the new file.
        for suffix in ["-wal", "-shm", "-journal"] {
            let companion = PathBuf::from(format!("{}{suffix}", path.display()));
            if companion.exists() {
                return Err(bad(format!("{} is left over from another database", companion.display())));
            }
        }
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|e| bad(e.to_string()))?;
        let mut connection = options(path).connect().await.map_err(|e| bad(e.to_string()))?;
        let made = async {
            let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::raw_sql(include_str!("schema.sql")).execute(&mut *tx).await?;
            sqlx::query("INSERT INTO head (id, format, origin, vkey, size, root, epoch, note) VALUES (1, ?, ?, ?, 0, ?, 0, '')")
                .bind(FORMAT)
                .bind(origin)
                .bind(vkey)
                .bind(tlog::empty_root().0.to_vec())
                .execute(&mut *tx)
                .await?;
            tx.commit().await
        };
        made.await.map_err(|e| bad(e.to_string()))?;
        sync_directory(path).and_then(|()| identity::note(path)).map_err(|e| bad(e.to_string()))?;
        Writer::new(connection).await.map_err(|e| bad(e.full()))
    }

    /// Opens what [`Store::create`] made to read it only, beside a daemon that writes or without one.
    pub(crate) async fn open_to_read(path: &Path) -> Result<Self, Fatal> {
        let bad = |why: String| Fatal::State {
            path: path.to_owned(),
            why,
            next: "name the configuration of a service that has begun its log".into(),
        };
        if !path.is_file() {
            return Err(bad("there is no database".into()));
        }
        let file = Arc::new(OpenFile::open(path).map_err(|e| bad(e.to_string()))?);
        let store = Self { readers: readers(path).await.map_err(|e| bad(e.to_string()))?, file };
        let format: i64 = sqlx::query_scalar("SELECT format FROM head WHERE id = 1")
            .fetch_one(&store.readers)
            .await
            .map_err(|e| bad(e.to_string()))?;
        match format {
            FORMAT => Ok(store),
            other => Err(bad(format!("the file has format {other}; this program reads format {FORMAT}"))),
        }
    }

    /// Gives a new database, whose writer is closed, its name: whole and on the disk. Its journal would stay behind, so
    /// there must be none.
    pub(crate) fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
        let journal = PathBuf::from(format!("{}-wal", from.display()));
        if std::fs::metadata(&journal).is_ok_and(|about| about.len() > 0) {
            return Err(std::io::Error::other(format!("{} is not empty", journal.display())));
        }
        std::fs::File::open(from)?.sync_all()?;
        identity::forget(from)?;
        std::fs::rename(from, to)?;
        sync_directory(to)
    }

    /// Refuses a copy that was made file by file while a daemon may have written.
    pub(crate) fn refuse_live_copy(path: &Path) -> Result<(), Fatal> {
        match identity::is_live_copy(path) {
            Ok(false) => Ok(()),
            Ok(true) => Err(copied(path)),
            Err(e) => Err(crate::opening::state(path, e.to_string())),
        }
    }

    /// Refuses such a copy of a sealed daemon's folder, too, unless it was begun after the seal: only then nothing was written
    /// while it was made.
    pub(crate) fn refuse_copy_begun_before(path: &Path, seal: Time) -> Result<(), Fatal> {
        let unread = |e: std::io::Error| crate::opening::state(path, e.to_string());
        if !identity::is_live_copy(path).map_err(unread)? {
            return Ok(());
        }
        let why = match identity::is_born_after(path, seal).map_err(unread)? {
            Some(true) => return Ok(()),
            Some(false) => format!(
                "this is a copy that was begun before the seal of {seal}: the daemon still wrote while it was made, its journal \
                 (-wal) may not be its own, and rows may be gone that nobody would miss at once"
            ),
            None => format!(
                "this is a copy that was made file by file, and this file system does not tell whether it was begun after the \
                 seal of {seal}: rows may be gone that nobody would miss at once"
            ),
        };
        let next = "the seal stays. Copy the whole folder anew from the disk that the sealed daemon had, into an empty folder on a \
                    file system that knows when a file was made (ext4, XFS, Btrfs); or move chancery.db and all files beside it \
                    away and run `chanceryd rebuild`; or restore a backup";
        Err(Fatal::State { path: path.to_owned(), why, next: next.into() })
    }

    /// Takes a copy for the database: nothing wrote while it was made, and it was found whole.
    pub(crate) fn adopt(path: &Path) -> std::io::Result<()> {
        identity::note(path)
    }

    /// Closes the readers.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
    }

    /// Opens what [`Store::create`] made: a missing, short or foreign file is an error, never a fresh start.
    pub(crate) async fn open(path: &Path) -> Result<(Self, Writer), Fatal> {
        let bad = |why: String| Fatal::State {
            path: path.to_owned(),
            why,
            next: "restore it from a backup, or run `chanceryd rebuild` with the log keeper's spool in place"
                .into(),
        };
        match std::fs::metadata(path) {
            Err(e) => return Err(bad(format!("{e}: a missing database is never replaced by an empty one"))),
            Ok(m) if m.len() == 0 => return Err(bad("the file is empty".into())),
            Ok(_) => {}
        }
        Self::refuse_live_copy(path)?;
        identity::note(path).map_err(|e| bad(e.to_string()))?;
        let file = Arc::new(OpenFile::open(path).map_err(|e| bad(e.to_string()))?);
        let mut connection = options(path).connect().await.map_err(|e| bad(e.to_string()))?;
        assert_settings(&mut connection).await.map_err(bad)?;
        let store = Self { readers: readers(path).await.map_err(|e| bad(e.to_string()))?, file };
        let writer = Writer::new(connection).await.map_err(|e| bad(e.full()))?;
        Ok((store, writer))
    }
}

/// See [`identity`].
fn copied(path: &Path) -> Fatal {
    Fatal::State {
        path: path.to_owned(),
        why: "this is a copy that was made file by file, with a journal (-wal) that may not be its own: rows may be gone \
              that nobody would miss at once"
            .into(),
        next: "restore a backup, or move chancery.db and all files beside it away and run `chanceryd rebuild`; only if no \
               chanceryd ran while it was copied, move the journal in with `sqlite3 chancery.db 'PRAGMA \
               wal_checkpoint(TRUNCATE)'`"
            .into(),
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        // SQLite's own checkpoints swallow their errors, and sync a file again whose sync has failed: `Writer` makes them.
        .pragma("wal_autocheckpoint", "0")
        .disable_statement_logging()
}

/// All reading connections, open from the beginning to the end: none is opened at a time when the handles of the process
/// have run out.
async fn readers(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new()
        .min_connections(READERS)
        .max_connections(READERS)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options(path).read_only(true))
        .await
}

/// What the build of SQLite and the file really do, not what was asked for.
async fn assert_settings(connection: &mut SqliteConnection) -> Result<(), String> {
    let version: String = scalar(connection, "SELECT sqlite_version()").await?;
    if version_number(&version) < (3, 51, 3) {
        return Err(format!("SQLite {version} can lose a commit when its WAL is reset (fixed in 3.51.3)"));
    }
    let synchronous: i64 = scalar(connection, "PRAGMA synchronous").await?;
    if synchronous < 2 {
        return Err(format!(
            "PRAGMA synchronous is {synchronous}, not FULL: a commit would not survive a power cut"
        ));
    }
    let automatic: i64 = scalar(connection, "PRAGMA wal_autocheckpoint").await?;
    if automatic != 0 {
        return Err(format!(
            "PRAGMA wal_autocheckpoint is {automatic}, not 0: an error of a checkpoint would go unseen"
        ));
    }
    let format: i64 = scalar(connection, "SELECT format FROM head WHERE id = 1").await?;
    if format != FORMAT {
        return Err(format!("the file has format {format}; this program reads format {FORMAT}"));
    }
    Ok(())
}

async fn scalar<T>(connection: &mut SqliteConnection, sql: &'static str) -> Result<T, String>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + Send + Unpin,
{
    sqlx::query_scalar(sql).fetch_one(connection).await.map_err(|e| e.to_string())
}

fn version_number(text: &str) -> (u32, u32, u32) {
    let mut parts = text.split('.').map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn sync_directory(file: &Path) -> std::io::Result<()> {
    std::fs::File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// A row's integer that can never be negative.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A number for a row; sizes and versions stay far below 2^63.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A program that reads the database in a transaction that does not end.
#[cfg(test)]
pub(crate) async fn reading(path: &Path) -> SqliteConnection {
    let mut connection = options(path).read_only(true).connect().await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT size FROM head").execute(&mut connection).await.unwrap();
    connection
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How SQLite would find the rows of a statement, one step a line.
    async fn plan(connection: &mut SqliteConnection, sql: &str) -> String {
        let sql = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(sql).fetch_all(connection).await.unwrap();
        steps.into_iter().map(|(.., step)| step + "\n").collect()
    }

    #[tokio::test]
    async fn a_reader_that_gets_no_handle_is_no_sign_of_damage_and_a_writer_that_gets_none_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = Store::path_in(folder.path());
        let cannot_open = || async { StoreError::from(options(&path).connect().await.unwrap_err()) };
        let starved = cannot_open().await;
        assert!(matches!(starved, StoreError::Starved(_)) && !starved.is_integrity(), "{}", starved.full());
        assert!(cannot_open().await.of_writer().is_integrity());
        // A file that is gone is not one that could not be opened.
        assert!(Inspection::open_alone(folder.path()).await.unwrap_err().is_integrity());
    }

    #[tokio::test]
    async fn all_readers_are_open_from_the_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = Store::path_in(folder.path());
        Store::create(&path, "log.example", "vkey").await.unwrap().close().await.unwrap();
        let store = Store::open_to_read(&path).await.unwrap();
        assert_eq!(store.readers.size(), READERS);
    }

    #[tokio::test]
    async fn what_a_start_and_a_request_ask_for_is_found_without_a_walk_over_the_whole_history() {
        let folder = tempfile::tempdir().unwrap();
        let path = Store::path_in(folder.path());
        Store::create(&path, "log.example", "vkey").await.unwrap().close().await.unwrap();
        let mut connection = options(&path).connect().await.unwrap();
        for (sql, index) in [
            (tuf::COLLECTIONS, "SEARCH intent USING COVERING INDEX intent_role (repository>?)"),
            (tuf::NEWEST_SIGNED, "SEARCH intent USING COVERING INDEX intent_signed (keeper=?)"),
            (requests::REPOSITORIES_WAITING, "INDEX request_waiting"),
            (requests::WAITING_COUNT, "INDEX request_waiting"),
        ] {
            let plan = plan(&mut connection, sql).await;
            assert!(plan.contains(index), "{sql}: {plan}");
            assert!(!plan.contains("SCAN intent"), "{sql}: {plan}");
        }
    }
}
