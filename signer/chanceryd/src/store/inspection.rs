//! Reading everything that is hashed from the disk, in small batches, on a connection of its own: for the scrub of a running
//! daemon and for the check after a seal.

use super::{
    Store, StoreError,
    checked::{self, leaf_row},
    options,
    project::to_json,
    rows, signed, unsigned,
};
use record::{Event, Intent, Sha256};
use sqlx::{ConnectOptions, Row, SqliteConnection};
use std::{
    collections::BTreeMap,
    fs::File,
    mem::ManuallyDrop,
    path::{Path, PathBuf},
};
use tlog::{Hash, TileId};

/// Blobs in one batch: each is a metadata file at most.
const BLOBS: i64 = 16;
/// Findings of SQLite's own check that are told.
const FINDINGS: usize = 3;

/// A reading connection that has cached nothing, on a file that the system has not cached either, as far as it lets go.
#[derive(Debug)]
pub(crate) struct Inspection {
    connection: SqliteConnection,
}

impl Store {
    /// A look at the disk beside the connections of this process.
    pub(crate) async fn inspect(&self) -> Result<Inspection, StoreError> {
        self.file.forget_cached();
        Inspection::connect(self.file.path()).await
    }
}

impl Inspection {
    /// Opens the database of a data folder for reading, in a process that has it open nowhere else.
    pub(crate) async fn open_alone(data: &Path) -> Result<Self, StoreError> {
        let path = Store::path_in(data);
        if !path.is_file() {
            return Err(StoreError::Contradiction("there is no database".into()));
        }
        forget_cached(&path);
        Self::connect(&path).await
    }

    async fn connect(path: &Path) -> Result<Self, StoreError> {
        if !path.is_file() {
            return Err(StoreError::Contradiction("there is no database".into()));
        }
        // No lock stands on the journal: it may be opened and closed at any time.
        forget_cached(&PathBuf::from(format!("{}-wal", path.display())));
        Ok(Self { connection: options(path).read_only(true).connect().await? })
    }

    /// SQLite's own check of pages, rows and indices.
    pub(crate) async fn structure(&mut self) -> Result<(), StoreError> {
        let found: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check(10)").fetch_all(&mut self.connection).await?;
        if found == ["ok"] {
            return Ok(());
        }
        let told: Vec<String> = found.into_iter().take(FINDINGS).collect();
        Err(StoreError::Contradiction(format!("the file is damaged: {}", told.join("; "))))
    }

    /// The next leaves with their hashes: at most `n`, in order, without a gap, checked.
    pub(crate) async fn leaves(&mut self, from: u64, n: u64) -> Result<Vec<(Hash, Vec<u8>)>, StoreError> {
        let sql = "SELECT idx, hash, bytes FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx";
        let rows = sqlx::query(sql)
            .bind(signed(from))
            .bind(signed(from.saturating_add(n)))
            .fetch_all(&mut self.connection)
            .await?;
        let mut leaves = Vec::with_capacity(rows.len());
        for (expected, row) in (from..).zip(&rows) {
            let (index, hash, bytes) = leaf_row(row)?;
            if index != expected {
                return Err(checked::missing_leaf(expected));
            }
            leaves.push((hash, bytes));
        }
        if (leaves.len() as u64) < n {
            return Err(checked::missing_leaf(from.saturating_add(leaves.len() as u64)));
        }
        Ok(leaves)
    }

    /// Whether the stored hash at a place of a tile above the leaves is this one.
    pub(crate) async fn node(&mut self, tile: TileId, place: u8, hash: &Hash) -> Result<(), StoreError> {
        let index = tile.index.saturating_mul(tlog::TILE_WIDTH).saturating_add(u64::from(place));
        let stored: Option<Vec<u8>> = sqlx::query_scalar("SELECT hash FROM node WHERE level = ? AND idx = ?")
            .bind(i64::from(tile.level))
            .bind(signed(index))
            .fetch_optional(&mut self.connection)
            .await?;
        if stored.map(checked::hash).transpose()? == Some(*hash) {
            return Ok(());
        }
        let (level, tile) = (tile.level, tile.index);
        let text = format!("hash {place} of tile {level}/{tile} is not that of the leaves below it");
        Err(StoreError::Contradiction(text))
    }

    /// Checks the next payloads and files behind a row; gives how many there were, their bytes, and the row to go on
    /// behind. None at the end.
    pub(crate) async fn blobs(&mut self, behind: i64) -> Result<Option<(u64, u64, i64)>, StoreError> {
        let rows =
            sqlx::query("SELECT rowid, sha256, bytes FROM blob WHERE rowid > ? ORDER BY rowid LIMIT ?")
                .bind(behind)
                .bind(BLOBS)
                .fetch_all(&mut self.connection)
                .await?;
        let (mut last, mut bytes) = (None, 0);
        for row in &rows {
            let name = rows::sha256(row.try_get(1)?)?;
            let found = checked::blob(&name, Some(row.try_get(2)?))?;
            bytes += found.map_or(0, |b| b.len() as u64);
            last = Some(row.try_get(0)?);
        }
        Ok(last.map(|last| (rows.len() as u64, bytes, last)))
    }

    /// The row that a leaf's intent has, and the bytes that it wants signed.
    pub(crate) async fn intent(&mut self, index: u64, intent: &Intent) -> Result<(), StoreError> {
        let row = sqlx::query("SELECT keeper, key, payload, repository, purpose FROM intent WHERE idx = ?")
            .bind(signed(index))
            .fetch_optional(&mut self.connection)
            .await?;
        let found = row
            .map(|row| {
                Ok::<_, StoreError>(
                    row.try_get::<String, _>(0)? == intent.keeper.as_str()
                        && rows::sha256(row.try_get(1)?)? == intent.key.sha256()
                        && row.try_get::<Vec<u8>, _>(2)? == intent.digest().as_bytes()
                        && row.try_get::<String, _>(3)? == intent.repository.as_str()
                        && row.try_get::<String, _>(4)? == intent.purpose.as_str(),
                )
            })
            .transpose()?;
        if found != Some(true) {
            let text = format!("the row of intent {index} is not what its leaf says");
            return Err(StoreError::Contradiction(text));
        }
        self.has_blob(&intent.payload).await
    }

    async fn has_blob(&mut self, name: &Sha256) -> Result<(), StoreError> {
        let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM blob WHERE sha256 = ?)")
            .bind(name.as_bytes().to_vec())
            .fetch_one(&mut self.connection)
            .await?;
        if there {
            return Ok(());
        }
        Err(StoreError::Contradiction(format!("bytes {name} are named in the log and not stored")))
    }

    /// The row of a token that a leaf has made or revoked says the same: who may ask is not changed beside the log.
    pub(crate) async fn token(&mut self, index: u64, event: &Event) -> Result<(), StoreError> {
        let is_so: bool = match event {
            Event::TokenCreated { token, secret_sha256, scopes, repositories, expires, note, .. } => {
                let sql = "SELECT EXISTS (SELECT 1 FROM token WHERE id = ? AND secret_sha256 = ? AND scopes = ? AND repositories = ? \
                           AND expires_ms = ? AND note = ? AND created = ?)";
                let row = sqlx::query_scalar(sql)
                    .bind(token.as_str())
                    .bind(secret_sha256.as_bytes().to_vec())
                    .bind(to_json(scopes)?)
                    .bind(to_json(repositories)?)
                    .bind(expires.unix_ms())
                    .bind(note)
                    .bind(signed(index));
                row.fetch_one(&mut self.connection).await?
            }
            Event::TokenRevoked { token, .. } => {
                let sql = "SELECT NOT EXISTS (SELECT 1 FROM token WHERE id = ? AND (revoked IS NULL OR revoked > ?))";
                let row = sqlx::query_scalar(sql).bind(token.as_str()).bind(signed(index));
                row.fetch_one(&mut self.connection).await?
            }
            _ => true,
        };
        if is_so {
            return Ok(());
        }
        Err(StoreError::Contradiction(format!("the row of a token is not what leaf {index} says")))
    }

    /// How many tokens there are, with those that were revoked.
    pub(crate) async fn tokens(&mut self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM token";
        Ok(unsigned(sqlx::query_scalar(sql).fetch_one(&mut self.connection).await?))
    }

    /// How many rows of intents have each end, by its word; `None` for those that are open. Those of a former log are not this
    /// log's.
    pub(crate) async fn ends(&mut self) -> Result<BTreeMap<Option<String>, u64>, StoreError> {
        let sql = "SELECT end_kind, count(*) FROM intent WHERE end_kind IS NOT 'former' GROUP BY end_kind";
        let rows: Vec<(Option<String>, i64)> = sqlx::query_as(sql).fetch_all(&mut self.connection).await?;
        Ok(rows.into_iter().map(|(end, count)| (end, unsigned(count))).collect())
    }

    /// How many rows there are of leaves, and of hashes above them.
    pub(crate) async fn sizes(&mut self) -> Result<(u64, u64), StoreError> {
        let sql = "SELECT (SELECT count(*) FROM leaf), (SELECT count(*) FROM node)";
        let (leaves, nodes): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut self.connection).await?;
        Ok((unsigned(leaves), unsigned(nodes)))
    }

    /// The head: size, root, and note.
    pub(crate) async fn head(&mut self) -> Result<super::log::Head, StoreError> {
        super::log::read_head(&mut self.connection).await
    }
}

/// The database file, open as long as the process lives.
// INVARIANT(locks-stay): the database is never closed in a process beside SQLite's own connections. POSIX would drop all
// locks that the process holds on it; the next program that opens the database would take itself for the only one, and
// remove the journal that this process goes on writing into.
#[derive(Debug)]
pub(super) struct OpenFile {
    path: PathBuf,
    file: ManuallyDrop<File>,
}

impl OpenFile {
    /// Opens the file to read it; its place in the file is of no concern.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: ManuallyDrop::new(File::open(path)?) })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn forget_cached(&self) {
        advise(&self.file);
    }
}

fn forget_cached(path: &Path) {
    if let Ok(file) = File::open(path) {
        advise(&file);
    }
}

/// Has the system read a file from the disk again, where that is possible: pages that were written and never reached the
/// disk stay.
fn advise(file: &File) {
    let _advice = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

#[cfg(test)]
mod tests_of_locks {
    use super::*;
    use crate::store::{NewLeaf, Writer};
    use record::{Clock, Event, Leaf, Nonce, SystemClock};
    use std::process::Command;

    async fn commit(writer: &mut Writer) -> Result<(), StoreError> {
        let leaf = Leaf::Event(Event::Stopped { time: SystemClock.now(), nonce: Nonce::random().unwrap() });
        let leaf = NewLeaf { bytes: leaf.encode().unwrap(), leaf, payload: None };
        writer.commit(1, &[leaf], &[]).await.map(drop)
    }

    /// Opens the database to read and write in another process, and closes it; how many leaves it saw. None without the
    /// program, which is any with an SQLite of its own.
    fn foreign_open_and_close(path: &Path) -> Option<u64> {
        let script = "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); \
                      print(c.execute('select count(*) from leaf').fetchone()[0]); c.close()";
        let ran = Command::new("python3").args(["-c", script]).arg(path).output().ok()?;
        String::from_utf8_lossy(&ran.stdout).trim().parse().ok()
    }

    /// INVARIANT(locks-stay)
    #[tokio::test]
    async fn another_program_that_closes_the_database_after_a_scrub_takes_no_commit_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = Store::path_in(dir.path());
        Store::create(&path, "log.example", "vkey").await.unwrap().close().await.unwrap();
        let (store, mut writer) = Store::open(&path).await.unwrap();
        commit(&mut writer).await.unwrap();
        let mut disk = store.inspect().await.unwrap();
        disk.structure().await.unwrap();
        assert_eq!(disk.leaves(0, 1).await.unwrap().len(), 1);
        drop(disk);
        let Some(seen) = foreign_open_and_close(&path) else {
            println!("SKIPPED: no python3 with sqlite3");
            return;
        };
        assert_eq!(seen, 1);
        assert!(dir.path().join("chancery.db-wal").exists(), "it took itself for the only one");
        commit(&mut writer).await.unwrap();
        assert_eq!(foreign_open_and_close(&path), Some(2));
    }
}

#[cfg(test)]
mod tests_of_rows {
    use super::*;
    use crate::store::NewLeaf;
    use record::{Action, Algorithm, Clock, Leaf, Nonce, SystemClock, TokenId};

    fn leaf(leaf: Leaf, payload: Option<&[u8]>) -> NewLeaf {
        NewLeaf { bytes: leaf.encode().unwrap(), leaf, payload: payload.map(<[u8]>::to_vec) }
    }

    /// A database with these leaves.
    async fn with(leaves: &[NewLeaf]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Store::create(&Store::path_in(dir.path()), "log.example", "vkey").await.unwrap();
        writer.commit(1, leaves, &[]).await.unwrap();
        writer.close().await.unwrap();
        dir
    }

    fn intent(algorithm: Algorithm) -> Intent {
        let action = Action::RootCertificate {
            serial: Nonce::random().unwrap(),
            not_before: SystemClock.now(),
            not_after: SystemClock.now().plus_s(60),
        };
        let mut intent = Intent {
            log: "log.example".parse().unwrap(),
            keeper: "signing".parse().unwrap(),
            key: "0".repeat(64).parse().unwrap(),
            purpose: action.purpose(),
            format: action.format(),
            time: SystemClock.now(),
            nonce: Nonce::random().unwrap(),
            repository: "r.example/app".parse().unwrap(),
            policy: None,
            requested: None,
            retries: None,
            action,
            payload: Sha256::of(b""),
            payload_sha384: None,
        };
        intent.name_payload(algorithm, b"bytes").unwrap();
        intent
    }

    #[tokio::test]
    async fn the_row_of_an_intent_is_compared_by_what_its_kind_of_key_signs() {
        for algorithm in [Algorithm::EcdsaP256, Algorithm::EcdsaP384] {
            let intent = intent(algorithm);
            let dir = with(&[leaf(Leaf::Intent(intent.clone()), Some(b"bytes"))]).await;
            let mut disk = Inspection::open_alone(dir.path()).await.unwrap();
            disk.intent(0, &intent).await.unwrap();
            let mut other = intent;
            other.name_payload(algorithm, b"other bytes").unwrap();
            assert!(disk.intent(0, &other).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_token_that_was_changed_beside_the_log_is_found() {
        let token = TokenId::parse("abc").unwrap();
        let by: record::Principal = "system:operator".parse().unwrap();
        let (time, nonce) = (SystemClock.now(), Nonce::random().unwrap());
        let created = Event::TokenCreated {
            time,
            nonce: nonce.clone(),
            by: by.clone(),
            token: token.clone(),
            secret_sha256: Sha256::of(b"secret"),
            scopes: vec!["sign".into()],
            repositories: vec![],
            expires: time.plus_s(60),
            note: String::new(),
        };
        let revoked = Event::TokenRevoked { time, nonce, by, token };
        let events = [created, revoked];
        for damage in [
            None,
            Some("UPDATE token SET scopes = '[\"admin\"]'"),
            Some("UPDATE token SET secret_sha256 = zeroblob(32)"),
            Some("UPDATE token SET expires_ms = expires_ms + 1"),
            Some("UPDATE token SET revoked = NULL"),
            Some("DELETE FROM token"),
        ] {
            let dir = with(&events.clone().map(|event| leaf(Leaf::Event(event), None))).await;
            if let Some(sql) = damage {
                let mut disk = options(&Store::path_in(dir.path())).connect().await.unwrap();
                assert_eq!(sqlx::query(sql).execute(&mut disk).await.unwrap().rows_affected(), 1);
            }
            let mut disk = Inspection::open_alone(dir.path()).await.unwrap();
            let mut is_whole = true;
            for (index, event) in (0..).zip(&events) {
                is_whole &= disk.token(index, event).await.is_ok();
            }
            assert_eq!(is_whole, damage.is_none(), "{damage:?}");
        }
    }
}
