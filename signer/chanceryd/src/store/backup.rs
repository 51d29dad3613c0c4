//! What a backup needs of the database that no leaf gives.

use super::{Store, StoreError, requests::parse, rows, unsigned};
use backup::RequestRow;
use record::RequestId;
use sqlx::{Row, sqlite::SqliteRow};

/// Rows that are read at once: a reader that holds its view for long keeps the journal from being emptied.
const AT_ONCE: i64 = 4096;

impl Store {
    /// Requests that came with an idempotency key, as they were accepted, in the order of their ids behind `after`. What
    /// became of them the leaves say.
    pub(crate) async fn accepted_requests(
        &self,
        after: Option<&RequestId>,
    ) -> Result<Vec<RequestRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, principal, idempotency_key, fingerprint, repository, tag, digest, size, media_type, created_ms, caller
             FROM request WHERE id > ? AND idempotency_key IS NOT NULL ORDER BY id LIMIT ?",
        )
        .bind(after.map_or("", RequestId::as_str))
        .bind(AT_ONCE)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(request).collect()
    }
}

fn request(row: &SqliteRow) -> Result<RequestRow, StoreError> {
    Ok(RequestRow {
        id: parse(row.try_get(0)?)?,
        by: parse(row.try_get(1)?)?,
        idempotency_key: row.try_get(2)?,
        fingerprint: rows::sha256(row.try_get(3)?)?,
        repository: parse(row.try_get(4)?)?,
        tag: parse(row.try_get(5)?)?,
        digest: parse(row.try_get(6)?)?,
        size: unsigned(row.try_get(7)?),
        media_type: row.try_get(8)?,
        created: rows::time(row.try_get(9)?)?,
        caller: row.try_get::<Option<String>, _>(10)?.as_deref().map(rows::json).transpose()?,
    })
}
