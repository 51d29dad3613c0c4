//! The rows of one transaction: kept in memory, read from there, and written many to a statement.
//!
//! A statement costs two changes of threads, and these cost more than what it does. A log is refilled in transactions of
//! thousands of leaves, of which most need only what the leaves right before them brought.

use super::{
    Role, StoreError, checked,
    project::to_json,
    rows, signed,
    tuf::{self, FileRow},
    unsigned,
};
use record::{Completion, Intent, KeeperRecord, PayloadDigest, Repository, Sha256};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, query_builder::Separated};
use std::collections::{BTreeMap, HashMap};
use tlog::Hash;

/// Rows in one statement. What is left over is written one by one: two statements a table, both of them prepared once.
const ROWS: usize = 64;
/// Bytes of leaves and blobs that are held before they are written into the transaction.
const MAX_HELD: usize = 16 * 1024 * 1024;

/// What the leaves of one transaction have brought so far.
pub(super) struct Batch<'a> {
    /// The index of the first leaf that is held; the others follow it.
    first: u64,
    leaves: Vec<(Hash, &'a [u8])>,
    intents: BTreeMap<u64, HeldIntent<'a>>,
    /// Of the intents that are held, those without an end, by key and payload.
    open: HashMap<(Sha256, PayloadDigest), u64>,
    blobs: HashMap<Sha256, Vec<u8>>,
    files: Vec<(Repository, FileRow)>,
    held: usize,
    max_held: usize,
    /// Not verified yet.
    completions: Vec<(u64, &'a Completion)>,
    /// The keys that keepers have presented, read once and again after a leaf that changes them.
    keys: Option<formats::Keys>,
}

struct HeldIntent<'a> {
    intent: &'a Intent,
    end: Option<(u64, &'static str)>,
}

impl<'a> Batch<'a> {
    /// A batch whose first leaf gets this index.
    pub(super) fn new(first: u64) -> Self {
        Self {
            first,
            leaves: Vec::new(),
            intents: BTreeMap::new(),
            open: HashMap::new(),
            blobs: HashMap::new(),
            files: Vec::new(),
            held: 0,
            max_held: MAX_HELD,
            completions: Vec::new(),
            keys: None,
        }
    }

    /// Takes the next leaf.
    pub(super) fn put_leaf(&mut self, hash: Hash, bytes: &'a [u8]) {
        self.held += bytes.len();
        self.leaves.push((hash, bytes));
    }

    /// A leaf's bytes.
    pub(super) async fn leaf(
        &self,
        connection: &mut SqliteConnection,
        index: u64,
    ) -> Result<Vec<u8>, StoreError> {
        let held = index.checked_sub(self.first).and_then(|at| self.leaves.get(usize::try_from(at).ok()?));
        if let Some((_, bytes)) = held {
            return Ok(bytes.to_vec());
        }
        let sql = "SELECT idx, hash, bytes FROM leaf WHERE idx = ?";
        let row = sqlx::query(sql).bind(signed(index)).fetch_one(connection).await?;
        Ok(checked::leaf_row(&row)?.2)
    }

    /// Takes an intent that has no end yet.
    pub(super) fn put_intent(&mut self, index: u64, intent: &'a Intent) {
        self.open.insert((intent.key.sha256(), intent.digest()), index);
        self.intents.insert(index, HeldIntent { intent, end: None });
    }

    /// The intent for this key and payload that has no end.
    pub(super) async fn open_intent(
        &self,
        connection: &mut SqliteConnection,
        key: Sha256,
        payload: PayloadDigest,
    ) -> Result<Option<u64>, StoreError> {
        if let Some(index) = self.open.get(&(key, payload)) {
            return Ok(Some(*index));
        }
        let index: Option<i64> =
            sqlx::query_scalar("SELECT idx FROM intent WHERE key = ? AND payload = ? AND end_leaf IS NULL")
                .bind(key.as_bytes().to_vec())
                .bind(payload.as_bytes().to_vec())
                .fetch_optional(connection)
                .await?;
        Ok(index.map(unsigned))
    }

    /// An intent that is held.
    pub(super) fn intent(&self, index: u64) -> Option<&'a Intent> {
        self.intents.get(&index).map(|held| held.intent)
    }

    /// Whether an intent has no end; `None` if there is no such intent.
    pub(super) async fn is_open(
        &self,
        connection: &mut SqliteConnection,
        index: u64,
    ) -> Result<Option<bool>, StoreError> {
        if let Some(held) = self.intents.get(&index) {
            return Ok(Some(held.end.is_none()));
        }
        let sql = "SELECT end_leaf IS NULL FROM intent WHERE idx = ?";
        Ok(sqlx::query_scalar(sql).bind(signed(index)).fetch_optional(connection).await?)
    }

    /// Gives an intent its end, the leaf `by`; whether it had none before.
    pub(super) async fn close(
        &mut self,
        connection: &mut SqliteConnection,
        index: u64,
        by: u64,
        kind: &'static str,
    ) -> Result<bool, StoreError> {
        if let Some(held) = self.intents.get_mut(&index) {
            self.open.remove(&(held.intent.key.sha256(), held.intent.digest()));
            return Ok(held.end.replace((by, kind)).is_none());
        }
        let done =
            sqlx::query("UPDATE intent SET end_leaf = ?, end_kind = ? WHERE idx = ? AND end_leaf IS NULL")
                .bind(signed(by))
                .bind(kind)
                .bind(signed(index))
                .execute(connection)
                .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Takes a completion whose signature is to be verified before anything is committed.
    pub(super) fn put_completion(&mut self, index: u64, completion: &'a Completion) {
        self.completions.push((index, completion));
    }

    /// Takes bytes, under their SHA-256.
    pub(super) fn put_blob(&mut self, bytes: Vec<u8>) {
        self.held += bytes.len();
        self.blobs.insert(Sha256::of(&bytes), bytes);
    }

    /// The bytes with this SHA-256, which the log names.
    pub(super) async fn blob(
        &self,
        connection: &mut SqliteConnection,
        sha256: &Sha256,
    ) -> Result<Vec<u8>, StoreError> {
        if let Some(bytes) = self.blobs.get(sha256) {
            return Ok(bytes.clone());
        }
        let bytes: Option<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM blob WHERE sha256 = ?")
            .bind(sha256.as_bytes().to_vec())
            .fetch_optional(connection)
            .await?;
        checked::blob(sha256, bytes)?.ok_or_else(|| {
            StoreError::Contradiction(format!("bytes {sha256} are named in the log and not stored"))
        })
    }

    /// Takes a signed file.
    pub(super) fn put_file(&mut self, repository: Repository, row: FileRow) {
        self.files.push((repository, row));
    }

    /// The file whose payload has this hash.
    pub(super) async fn file_by_payload(
        &self,
        connection: &mut SqliteConnection,
        repository: &Repository,
        payload: &Sha256,
    ) -> Result<Option<FileRow>, StoreError> {
        match self.held_file(repository, |file| file.payload == *payload) {
            Some(held) => Ok(Some(held.clone())),
            None => tuf::file_by_payload(connection, repository, payload).await,
        }
    }

    /// The SHA-256 of a collection's newest root file.
    pub(super) async fn newest_root(
        &self,
        connection: &mut SqliteConnection,
        repository: &Repository,
    ) -> Result<Option<Sha256>, StoreError> {
        if let Some(held) = self.held_file(repository, |file| file.role == Role::Root) {
            return Ok(Some(held.file.sha256));
        }
        let sql =
            "SELECT sha256 FROM file WHERE repository = ? AND role = 'root' ORDER BY version DESC LIMIT 1";
        let name: Option<Vec<u8>> =
            sqlx::query_scalar(sql).bind(repository.as_str()).fetch_optional(connection).await?;
        name.map(rows::sha256).transpose()
    }

    /// The version of the targets to which the file with this SHA-256 leads.
    pub(super) async fn leads_to(
        &self,
        connection: &mut SqliteConnection,
        repository: &Repository,
        sha256: &Sha256,
    ) -> Result<u64, StoreError> {
        if let Some(held) = self.held_file(repository, |file| file.file.sha256 == *sha256) {
            return Ok(held.targets_version);
        }
        let version: Option<i64> =
            sqlx::query_scalar("SELECT targets_version FROM file WHERE repository = ? AND sha256 = ?")
                .bind(repository.as_str())
                .bind(sha256.as_bytes().to_vec())
                .fetch_optional(connection)
                .await?;
        version.map(unsigned).ok_or_else(|| {
            StoreError::Contradiction(format!("a signed file names {sha256}, which is not stored"))
        })
    }

    /// From the newest on: what is asked for was mostly put just before.
    fn held_file(&self, repository: &Repository, is_it: impl Fn(&FileRow) -> bool) -> Option<&FileRow> {
        self.files.iter().rev().find(|(of, row)| is_it(row) && of == repository).map(|(_, row)| row)
    }

    /// The keys that keepers have presented.
    pub(super) async fn keys(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> Result<&formats::Keys, StoreError> {
        match &mut self.keys {
            Some(keys) => Ok(keys),
            none => Ok(none.insert(all_keys(connection).await?)),
        }
    }

    /// Takes what a keeper presents.
    pub(super) async fn put_keeper(
        &mut self,
        connection: &mut SqliteConnection,
        index: u64,
        keeper: &KeeperRecord,
    ) -> Result<(), StoreError> {
        self.keys = None;
        sqlx::query("INSERT INTO keeper (name, record, leaf) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET record = excluded.record, leaf = excluded.leaf")
            .bind(keeper.name.as_str())
            .bind(to_json(keeper)?)
            .bind(signed(index))
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Writes what is held when it has become much.
    pub(super) async fn relieve(&mut self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        if self.held < self.max_held { Ok(()) } else { self.write(connection).await }
    }

    /// Writes what is held into the transaction, and forgets it. An error where a signature is not its key's.
    // INVARIANT(verified-before-commit): nothing of a batch is committed but through here.
    pub(super) async fn write(&mut self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        if let Some(wrong) = record::wrong_signatures(&self.completions).first() {
            return Err(StoreError::Contradiction(format!(
                "the signature of completion {wrong} does not verify with its key"
            )));
        }
        self.completions.clear();
        let leaves: Vec<_> = (self.first..).zip(&self.leaves).collect();
        insert(connection, "leaf (idx, hash, bytes)", "", &leaves, |mut row, (index, (hash, bytes))| {
            row.push_bind(signed(*index)).push_bind(hash.0.to_vec()).push_bind(bytes.to_vec());
        })
        .await?;
        self.first += self.leaves.len() as u64;
        self.leaves.clear();
        let blobs: Vec<_> = std::mem::take(&mut self.blobs).into_iter().collect();
        insert(
            connection,
            "blob (sha256, bytes)",
            "ON CONFLICT DO NOTHING",
            &blobs,
            |mut row, (sha256, bytes)| {
                row.push_bind(sha256.as_bytes().to_vec()).push_bind(bytes.clone());
            },
        )
        .await?;
        self.held = 0;
        let columns = "intent (idx, keeper, key, payload, repository, purpose, version, end_leaf, end_kind)";
        let intents: Vec<_> = std::mem::take(&mut self.intents).into_iter().collect();
        insert(connection, columns, "", &intents, |mut row, (index, HeldIntent { intent, end })| {
            row.push_bind(signed(*index))
                .push_bind(intent.keeper.as_str().to_owned())
                .push_bind(intent.key.sha256().as_bytes().to_vec())
                .push_bind(intent.digest().as_bytes().to_vec())
                .push_bind(intent.repository.as_str().to_owned())
                .push_bind(intent.purpose.as_str())
                .push_bind(intent.action.version().map(signed))
                .push_bind(end.map(|(by, _)| signed(by)))
                .push_bind(end.map(|(_, kind)| kind));
        })
        .await?;
        self.open.clear();
        let files = std::mem::take(&mut self.files);
        insert(connection, &tuf::file_columns(), "", &files, |row, (repository, file)| {
            tuf::bind_file(row, repository, file);
        })
        .await
    }
}

/// Inserts rows, many to a statement. `into` is the table with its columns.
async fn insert<R>(
    connection: &mut SqliteConnection,
    into: &str,
    conflict: &str,
    rows: &[R],
    bind: impl Fn(Separated<'_, Sqlite, &'static str>, &R),
) -> Result<(), StoreError> {
    let (whole, rest) = rows.as_chunks::<ROWS>();
    let chunks = whole.iter().map(|chunk| chunk.as_slice()).chain(rest.chunks(1));
    for chunk in chunks {
        let mut query = QueryBuilder::new(format!("INSERT INTO {into} "));
        query.push_values(chunk, &bind);
        query.push(" ").push(conflict);
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn all_keys(connection: &mut SqliteConnection) -> Result<formats::Keys, StoreError> {
    let rows = sqlx::query("SELECT record FROM keeper").fetch_all(connection).await?;
    let mut spkis = Vec::new();
    for row in rows {
        let keeper: KeeperRecord = rows::json(row.try_get(0)?)?;
        spkis.extend(keeper.keys.into_iter().map(|k| k.spki));
    }
    Ok(spkis.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use crate::store::{Store, samples};

    /// INVARIANT(verified-before-commit)
    #[tokio::test]
    async fn verified_before_commit() {
        for count in [1, 20] {
            for wrong in [None, Some(0), Some(count - 1)] {
                let dir = tempfile::tempdir().unwrap();
                let path = Store::path_in(dir.path());
                let mut writer = Store::create(&path, "log.example", "vkey").await.unwrap();
                let leaves: Vec<_> = (1..=count)
                    .flat_map(|n| {
                        [samples::intent("signing", n), samples::completion(n, wrong != Some(n - 1))]
                    })
                    .collect();
                let done = writer.commit_all(1, &leaves).await;
                assert_eq!(done.is_ok(), wrong.is_none(), "{wrong:?} of {count}: {done:?}");
                if let (Err(e), Some(wrong)) = (done, wrong) {
                    let named = format!("the signature of completion {} ", wrong * 2 + 1);
                    assert!(e.is_integrity() && e.full().contains(&named), "{}", e.full());
                    let (_store, reopened) = Store::open(&path).await.unwrap();
                    assert_eq!(reopened.head().size, 0, "something was committed");
                }
            }
        }
    }
}
