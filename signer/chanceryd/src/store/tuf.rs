//! Collections: their signed files, what the next step of each role builds on, and what clients may see.

use super::{Store, StoreError, checked, requests::parse, rows, signed, unsigned};
use record::{Digest, FileRef, KeeperName, Purpose, Repository, Sha256, Tag, Time};
use sqlx::{Row, Sqlite, SqliteConnection, query_builder::Separated, sqlite::SqliteRow};

/// A collection's role; the purposes of its keys are the same four.
pub(crate) type Role = Purpose;

/// A signed file.
#[derive(Debug, Clone)]
pub(crate) struct FileRow {
    pub role: Role,
    pub version: u64,
    pub payload: Sha256,
    pub file: FileRef,
    pub created: Time,
    pub expires: Time,
    pub intent: u64,
    pub completion: u64,
    pub targets_version: u64,
    pub below: Option<Sha256>,
}

impl FileRow {
    /// Whether it comes from the log that this one continues: one leaf stands in the place of intent and completion.
    pub(crate) fn is_adopted(&self) -> bool {
        self.intent == self.completion
    }
}

/// A collection's newest recorded files, and the versions that keys have been asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collection {
    /// SHA-256 of the root key's certificate.
    pub certificate: Option<Sha256>,
    files: Vec<FileRow>,
    /// By intents of this log.
    reserved: Vec<(Role, u64)>,
    /// By the former log's word: its last intent may never have reached a key.
    reserved_formerly: Vec<(Role, u64)>,
}

impl Collection {
    /// The newest recorded file of a role.
    pub(crate) fn newest(&self, role: Role) -> Option<&FileRow> {
        self.files.iter().find(|f| f.role == role)
    }

    /// The highest version for which an intent may have reached a key, of this log or of one before it.
    pub(crate) fn reserved(&self, role: Role) -> u64 {
        highest_of(&self.reserved, role).max(highest_of(&self.reserved_formerly, role))
    }

    /// The version to ask for next, where `refused` is the lowest one that the keeper has called out of order; `None` if it
    /// has refused all that can follow.
    ///
    /// The keeper's chain stands at the highest reserved version. Only an intent that was open when a former log ended may
    /// never have reached it: then the chain stands below, and the keeper's refusal says so.
    // INVARIANT(chain): a version that was asked for formerly is asked for again only after the keeper refused the next one,
    // and the keeper signs other content for it only if it never reserved it.
    pub(crate) fn next(&self, role: Role, refused: Option<u64>) -> Option<u64> {
        let known = self.newest(role).map_or(0, |file| file.version).max(highest_of(&self.reserved, role));
        let (lowest, highest) = (known + 1, self.reserved(role) + 1);
        match refused {
            Some(version) if lowest < highest && (lowest..=highest).contains(&version) => {
                Some(version - 1).filter(|below| *below >= lowest)
            }
            _ => Some(highest),
        }
    }
}

fn highest_of(reserved: &[(Role, u64)], role: Role) -> u64 {
    reserved.iter().filter(|(r, _)| *r == role).map(|(_, version)| *version).max().unwrap_or(0)
}

const COLUMNS: &str = "role, version, payload, sha256, length, created_ms, expires_ms, intent, completion, targets_version, below";

/// From one name to the next in the index: what a start costs grows with the repositories, not with their history.
pub(super) const COLLECTIONS: &str = "WITH RECURSIVE name (repository) AS (
         SELECT min(repository) FROM (
             SELECT min(repository) AS repository FROM intent UNION ALL SELECT min(repository) FROM file
         )
         UNION ALL
         SELECT (SELECT min(repository) FROM (
             SELECT min(repository) AS repository FROM intent WHERE repository > name.repository
             UNION ALL
             SELECT min(repository) FROM file WHERE repository > name.repository
         )) FROM name
         WHERE name.repository IS NOT NULL
     )
     SELECT repository FROM name WHERE repository IS NOT NULL";
pub(super) const NEWEST_SIGNED: &str =
    "SELECT idx FROM intent WHERE keeper = ? AND end_kind = 'signed' ORDER BY idx DESC LIMIT 1";

impl Store {
    /// The collection as the next step of its publishing needs it.
    pub(crate) async fn collection(&self, repository: &Repository) -> Result<Collection, StoreError> {
        // From the newest version of each role down: what a step costs does not grow with the history.
        let newest = |columns: &str, from: &str, role: &str, order: &str| {
            let each = Role::ALL.map(|r| {
                format!(
                    "SELECT * FROM (SELECT {columns} FROM {from} AND {role} = '{r}' ORDER BY {order} LIMIT 1)"
                )
            });
            sqlx::AssertSqlSafe(each.join(" UNION ALL "))
        };
        let name = repository.as_str();
        let files = newest(COLUMNS, "file WHERE repository = ?1", "role", "version DESC");
        let files = sqlx::query(files).bind(name).fetch_all(&self.readers).await?;
        let reserved = "intent INDEXED BY intent_role WHERE repository = ?1 AND version IS NOT NULL
                        AND (end_kind IS NULL OR end_kind <> 'void')";
        let columns = "purpose, version, end_kind IS 'former'";
        let reserved = newest(columns, reserved, "purpose", "version DESC, idx DESC");
        let rows = sqlx::query(reserved).bind(name).fetch_all(&self.readers).await?;
        let certificate: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT sha256 FROM certificate WHERE repository = ?")
                .bind(name)
                .fetch_optional(&self.readers)
                .await?;
        let files: Vec<FileRow> = files.iter().map(file).collect::<Result<_, _>>()?;
        let (mut reserved, mut reserved_formerly) = (Vec::new(), Vec::new());
        for row in &rows {
            let of = if row.try_get(2)? { &mut reserved_formerly } else { &mut reserved };
            of.push((parse(row.try_get(0)?)?, unsigned(row.try_get(1)?)));
        }
        for file in files.iter().filter(|f| f.is_adopted()) {
            reserved_formerly.push((file.role, self.reserved_formerly(file).await?));
        }
        let certificate = certificate.map(rows::sha256).transpose()?;
        Ok(Collection { certificate, files, reserved, reserved_formerly })
    }

    /// All repositories that have a collection, or the beginning of one.
    pub(crate) async fn collections(&self) -> Result<Vec<Repository>, StoreError> {
        let names: Vec<String> = sqlx::query_scalar(COLLECTIONS).fetch_all(&self.readers).await?;
        names.iter().map(|n| parse(n)).collect()
    }

    /// The digest that the newest recorded targets file has for a tag.
    pub(crate) async fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        let text: Option<String> =
            sqlx::query_scalar("SELECT digest FROM tag WHERE repository = ? AND tag = ?")
                .bind(repository.as_str())
                .bind(tag.as_str())
                .fetch_optional(&self.readers)
                .await?;
        text.map(|t| parse(&t)).transpose()
    }

    /// The newest timestamp that clients may see: its completion stands under the note over `noted` leaves.
    pub(crate) async fn published(
        &self,
        repository: &Repository,
        noted: u64,
    ) -> Result<Option<FileRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM file WHERE repository = ? AND role = 'timestamp' AND completion < ? ORDER BY version DESC LIMIT 1"
        ));
        let row = sqlx::query(sql)
            .bind(repository.as_str())
            .bind(signed(noted))
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(file).transpose()
    }

    /// The newest root that clients may see.
    pub(crate) async fn published_root(
        &self,
        repository: &Repository,
        noted: u64,
    ) -> Result<Option<FileRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM file WHERE repository = ? AND role = 'root' AND completion < ? ORDER BY version DESC LIMIT 1"
        ));
        let row = sqlx::query(sql)
            .bind(repository.as_str())
            .bind(signed(noted))
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(file).transpose()
    }

    /// A file of this collection and role by the SHA-256 of its bytes.
    pub(crate) async fn file_by_hash(
        &self,
        repository: &Repository,
        sha256: &Sha256,
    ) -> Result<Option<FileRow>, StoreError> {
        let sql =
            sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM file WHERE repository = ? AND sha256 = ?"));
        let query = sqlx::query(sql).bind(repository.as_str()).bind(sha256.as_bytes().to_vec());
        query.fetch_optional(&self.readers).await?.as_ref().map(file).transpose()
    }

    /// A file of this collection by role and version.
    pub(crate) async fn file_by_version(
        &self,
        repository: &Repository,
        role: Role,
        version: u64,
    ) -> Result<Option<FileRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM file WHERE repository = ? AND role = ? AND version = ?"
        ));
        let query = sqlx::query(sql).bind(repository.as_str()).bind(role.as_str()).bind(signed(version));
        query.fetch_optional(&self.readers).await?.as_ref().map(file).transpose()
    }

    /// Bytes by their SHA-256.
    pub(crate) async fn blob(&self, sha256: &Sha256) -> Result<Option<Vec<u8>>, StoreError> {
        let query =
            sqlx::query_scalar("SELECT bytes FROM blob WHERE sha256 = ?").bind(sha256.as_bytes().to_vec());
        checked::blob(sha256, query.fetch_optional(&self.readers).await?)
    }

    /// Intents of a keeper that have no outcome yet.
    pub(crate) async fn open_intents(&self, keeper: &str) -> Result<Vec<u64>, StoreError> {
        let rows: Vec<i64> =
            sqlx::query_scalar("SELECT idx FROM intent WHERE keeper = ? AND end_leaf IS NULL ORDER BY idx")
                .bind(keeper)
                .fetch_all(&self.readers)
                .await?;
        Ok(rows.into_iter().map(unsigned).collect())
    }

    /// The newest intent for a role's metadata that may have reached a key, or the former log's word of one.
    pub(super) async fn last_intent(
        &self,
        repository: &Repository,
        role: Role,
    ) -> Result<Option<u64>, StoreError> {
        let index: Option<i64> = sqlx::query_scalar(
            "SELECT idx FROM intent INDEXED BY intent_role
             WHERE repository = ? AND purpose = ? AND version IS NOT NULL AND (end_kind IS NULL OR end_kind <> 'void')
             ORDER BY version DESC, idx DESC LIMIT 1",
        )
        .bind(repository.as_str())
        .bind(role.as_str())
        .fetch_optional(&self.readers)
        .await?;
        Ok(index.map(unsigned))
    }

    /// Whether an intent for this repository has no outcome yet.
    pub(crate) async fn has_open_intent(&self, repository: &Repository) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM intent INDEXED BY intent_open_in WHERE repository = ? AND end_leaf IS NULL)";
        Ok(sqlx::query_scalar(sql).bind(repository.as_str()).fetch_one(&self.readers).await?)
    }

    /// The newest intent that a keeper has signed, as the log knows.
    pub(crate) async fn newest_signed(&self, keeper: &KeeperName) -> Result<Option<u64>, StoreError> {
        let index: Option<i64> =
            sqlx::query_scalar(NEWEST_SIGNED).bind(keeper.as_str()).fetch_optional(&self.readers).await?;
        Ok(index.map(unsigned))
    }

    /// The leaf that closed an intent; `None` while it is open or if there is no such intent.
    pub(crate) async fn end_of(&self, intent: u64) -> Result<Option<u64>, StoreError> {
        let row: Option<Option<i64>> = sqlx::query_scalar("SELECT end_leaf FROM intent WHERE idx = ?")
            .bind(signed(intent))
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.flatten().map(unsigned))
    }
}

/// The table of signed files with its columns, as [`bind_file`] gives them.
pub(super) fn file_columns() -> String {
    format!("file (repository, {COLUMNS})")
}

/// A signed file's row.
pub(super) fn bind_file(
    mut row: Separated<'_, Sqlite, &'static str>,
    repository: &Repository,
    file: &FileRow,
) {
    row.push_bind(repository.as_str().to_owned())
        .push_bind(file.role.as_str())
        .push_bind(signed(file.version))
        .push_bind(file.payload.as_bytes().to_vec())
        .push_bind(file.file.sha256.as_bytes().to_vec())
        .push_bind(signed(file.file.length))
        .push_bind(file.created.unix_ms())
        .push_bind(file.expires.unix_ms())
        .push_bind(signed(file.intent))
        .push_bind(signed(file.completion))
        .push_bind(signed(file.targets_version))
        .push_bind(file.below.map(|sha256| sha256.as_bytes().to_vec()));
}

/// The file whose payload has this hash, as a projection reads it within its transaction.
pub(super) async fn file_by_payload(
    connection: &mut SqliteConnection,
    repository: &Repository,
    payload: &Sha256,
) -> Result<Option<FileRow>, StoreError> {
    let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM file WHERE repository = ? AND payload = ?"));
    let query = sqlx::query(sql).bind(repository.as_str()).bind(payload.as_bytes().to_vec());
    query.fetch_optional(connection).await?.as_ref().map(file).transpose()
}

fn file(row: &SqliteRow) -> Result<FileRow, StoreError> {
    Ok(FileRow {
        role: parse(row.try_get(0)?)?,
        version: unsigned(row.try_get(1)?),
        payload: rows::sha256(row.try_get(2)?)?,
        file: FileRef { sha256: rows::sha256(row.try_get(3)?)?, length: unsigned(row.try_get(4)?) },
        created: rows::time(row.try_get(5)?)?,
        expires: rows::time(row.try_get(6)?)?,
        intent: unsigned(row.try_get(7)?),
        completion: unsigned(row.try_get(8)?),
        targets_version: unsigned(row.try_get(9)?),
        below: row.try_get::<Option<Vec<u8>>, _>(10)?.map(rows::sha256).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::{completion, intent};

    #[tokio::test]
    async fn the_open_intents_of_a_keeper_are_all_its_own_that_nothing_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chancery.db");
        let mut writer = Store::create(&path, "log.example", "vkey").await.unwrap();
        let of = [("lost", 1), ("lost", 2), ("lost", 4), ("other", 3)];
        let mut leaves: Vec<_> = of.into_iter().map(|(keeper, version)| intent(keeper, version)).collect();
        leaves.push(completion(2, true));
        writer.commit(0, &leaves, &[]).await.unwrap();
        let store = Store::open_to_read(&path).await.unwrap();
        assert_eq!(store.open_intents("lost").await.unwrap(), [0, 2]);
        assert_eq!(store.open_intents("other").await.unwrap(), [3]);
    }
}
