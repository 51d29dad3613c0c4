//! Signing requests as rows. A row is inserted when a request was allowed; everything after that is a projection of
//! the log.

use super::{NewPollToken, Rejected, Store, StoreError, signed, unsigned};
use policy::Caller;
use record::{Digest, Principal, Repository, RequestId, Sha256, Tag, Time};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

/// An allowed request that waits for its repository's next targets version.
#[derive(Debug, Clone)]
pub(crate) struct NewRequest {
    /// Its id.
    pub id: RequestId,
    /// Who asked.
    pub by: Principal,
    /// What is kept of the caller; nothing of an API token.
    pub caller: Option<Caller>,
    /// The caller's idempotency key and the hash of what it was used for.
    pub idempotency: (String, Sha256),
    /// The image and its tag.
    pub image: ImageRow,
    /// When it was allowed.
    pub created: Time,
    /// What its maker may read it with; none of a request that a backup gives.
    pub poll: Option<NewPollToken>,
}

/// What a request wants signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageRow {
    pub repository: Repository,
    pub tag: Tag,
    pub digest: Digest,
    pub size: u64,
    pub media_type: String,
}

/// A waiting request, as the publish loop needs it.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub id: RequestId,
    pub by: Principal,
    /// What was kept of the caller, if anything.
    pub caller: Option<Caller>,
    pub image: ImageRow,
    /// The last intent for it that ended without a signature.
    pub retries: Option<u64>,
}

/// A request as it stands.
#[derive(Debug, Clone)]
pub(crate) struct RequestRow {
    pub id: RequestId,
    pub by: Principal,
    pub fingerprint: Option<Sha256>,
    pub repository: Repository,
    pub tag: Tag,
    pub digest: Digest,
    pub created: Time,
    pub intent: Option<u64>,
    pub targets_version: Option<u64>,
    pub completion: Option<u64>,
    pub denied: Option<u64>,
    /// JSON of the problem document, for a request that failed.
    pub problem: Option<String>,
}

impl NewRequest {
    /// Inserts the row unless its idempotency key is taken.
    pub(super) async fn insert(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<Result<(), Rejected>, StoreError> {
        let done = sqlx::query(
            "INSERT INTO request (id, principal, caller, idempotency_key, fingerprint, repository, tag, digest, size, media_type, created_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(self.id.as_str())
        .bind(self.by.as_str())
        .bind(self.caller.as_ref().map(super::project::to_json).transpose()?)
        .bind(&self.idempotency.0)
        .bind(self.idempotency.1.as_bytes().to_vec())
        .bind(self.image.repository.as_str())
        .bind(self.image.tag.as_str())
        .bind(self.image.digest.to_string())
        .bind(signed(self.image.size))
        .bind(&self.image.media_type)
        .bind(self.created.unix_ms())
        .execute(&mut *connection)
        .await?;
        if done.rows_affected() != 1 {
            return Ok(Err(Rejected::IdempotencyKey));
        }
        if let Some(poll) = &self.poll {
            poll.insert(connection, &self.id).await?;
        }
        Ok(Ok(()))
    }
}

const COLUMNS: &str = "id, principal, fingerprint, repository, tag, digest, created_ms, intent, targets_version, completion, denied, problem";

// By the index of what waits: refused requests have no intent either, and there are as many of them as there ever were.
pub(super) const REPOSITORIES_WAITING: &str =
    "SELECT DISTINCT repository FROM request INDEXED BY request_waiting
     WHERE intent IS NULL AND denied IS NULL AND problem IS NULL";
pub(super) const WAITING_COUNT: &str = "SELECT count(*) FROM request INDEXED BY request_waiting
     WHERE intent IS NULL AND denied IS NULL AND problem IS NULL";

impl Store {
    /// A request by its id.
    pub(crate) async fn request(&self, id: &RequestId) -> Result<Option<RequestRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM request WHERE id = ?"));
        let row = sqlx::query(sql).bind(id.as_str()).fetch_optional(&self.readers).await?;
        row.as_ref().map(request).transpose()
    }

    /// The request that a caller made with this idempotency key.
    pub(crate) async fn request_by_key(
        &self,
        by: &Principal,
        key: &str,
    ) -> Result<Option<RequestRow>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM request WHERE principal = ? AND idempotency_key = ?"
        ));
        let row = sqlx::query(sql).bind(by.as_str()).bind(key).fetch_optional(&self.readers).await?;
        row.as_ref().map(request).transpose()
    }

    /// Waiting requests of a repository, oldest first.
    pub(crate) async fn waiting(
        &self,
        repository: &Repository,
        limit: usize,
    ) -> Result<Vec<Waiting>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, principal, tag, digest, size, media_type, retries, caller FROM request
             WHERE repository = ? AND intent IS NULL AND denied IS NULL AND problem IS NULL ORDER BY id LIMIT ?",
        )
        .bind(repository.as_str())
        .bind(signed(limit as u64))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| waiting(repository, row)).collect()
    }

    /// Repositories that have waiting requests.
    pub(crate) async fn repositories_waiting(&self) -> Result<Vec<Repository>, StoreError> {
        let rows: Vec<String> = sqlx::query_scalar(REPOSITORIES_WAITING).fetch_all(&self.readers).await?;
        rows.iter().map(|name| parse(name)).collect()
    }

    /// Requests from `since` on, up to and without `before`, that were neither refused nor failed: how many this caller made,
    /// and how many are for this repository.
    pub(crate) async fn admitted_between(
        &self,
        since: Time,
        before: &RequestId,
        by: &Principal,
        repository: &Repository,
    ) -> Result<(u32, u32), StoreError> {
        // Ids sort by the time of their making, so the primary key bounds the walk.
        let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE principal = ?), count(*) FILTER (WHERE repository = ?) FROM request
             WHERE id >= ? AND id < ? AND created_ms >= ? AND denied IS NULL AND problem IS NULL",
        )
        .bind(by.as_str())
        .bind(repository.as_str())
        .bind(RequestId::new(since.plus_ms(-1)).as_str())
        .bind(before.as_str())
        .bind(since.unix_ms())
        .fetch_one(&self.readers)
        .await?;
        let count = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
        Ok((count(row.try_get(0)?), count(row.try_get(1)?)))
    }

    /// How many requests wait, over all repositories.
    pub(crate) async fn waiting_count(&self) -> Result<u64, StoreError> {
        Ok(unsigned(sqlx::query_scalar(WAITING_COUNT).fetch_one(&self.readers).await?))
    }
}

fn waiting(repository: &Repository, row: &SqliteRow) -> Result<Waiting, StoreError> {
    Ok(Waiting {
        id: parse(row.try_get(0)?)?,
        by: parse(row.try_get(1)?)?,
        image: ImageRow {
            repository: repository.clone(),
            tag: parse(row.try_get(2)?)?,
            digest: parse(row.try_get(3)?)?,
            size: unsigned(row.try_get(4)?),
            media_type: row.try_get(5)?,
        },
        retries: row.try_get::<Option<i64>, _>(6)?.map(unsigned),
        caller: row.try_get::<Option<String>, _>(7)?.as_deref().map(super::rows::json).transpose()?,
    })
}

fn request(row: &SqliteRow) -> Result<RequestRow, StoreError> {
    let number = |column: usize| row.try_get::<Option<i64>, _>(column).map(|n| n.map(unsigned));
    let fingerprint: Option<Vec<u8>> = row.try_get(2)?;
    Ok(RequestRow {
        id: parse(row.try_get(0)?)?,
        by: parse(row.try_get(1)?)?,
        fingerprint: fingerprint.map(super::rows::sha256).transpose()?,
        repository: parse(row.try_get(3)?)?,
        tag: parse(row.try_get(4)?)?,
        digest: parse(row.try_get(5)?)?,
        created: super::rows::time(row.try_get(6)?)?,
        intent: number(7)?,
        targets_version: number(8)?,
        completion: number(9)?,
        denied: number(10)?,
        problem: row.try_get(11)?,
    })
}

/// Text that this program wrote, back to its type.
pub(super) fn parse<T>(text: &str) -> Result<T, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e: T::Err| StoreError::Contradiction(e.to_string()))
}
