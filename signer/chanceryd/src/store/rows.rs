//! Rows for tokens and keepers, and what all rows share.

use super::{Store, StoreError, requests::parse, unsigned};
use record::{KeeperName, KeeperRecord, Sha256, Time, TokenId};
use sqlx::Row;
use std::collections::BTreeMap;

/// An API token without its secret.
#[derive(Debug, Clone)]
pub(crate) struct TokenRow {
    pub id: TokenId,
    pub secret_sha256: Sha256,
    pub scopes: Vec<String>,
    pub repositories: Vec<String>,
    pub expires: Time,
    pub note: String,
    pub revoked: bool,
}

impl Store {
    /// All tokens, oldest first.
    pub(crate) async fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        let sql = "SELECT id, secret_sha256, scopes, repositories, expires_ms, note, revoked FROM token ORDER BY created, id";
        let rows = sqlx::query(sql).fetch_all(&self.readers).await?;
        rows.iter()
            .map(|row| {
                Ok(TokenRow {
                    id: parse(row.try_get(0)?)?,
                    secret_sha256: sha256(row.try_get(1)?)?,
                    scopes: json(row.try_get(2)?)?,
                    repositories: json(row.try_get(3)?)?,
                    expires: time(row.try_get(4)?)?,
                    note: row.try_get(5)?,
                    revoked: row.try_get::<Option<i64>, _>(6)?.map(unsigned).is_some(),
                })
            })
            .collect()
    }

    /// The highest generation that each keeper has told of its journal.
    pub(crate) async fn generations(&self) -> Result<BTreeMap<KeeperName, u64>, StoreError> {
        let rows = sqlx::query("SELECT keeper, told FROM generation").fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((parse(row.try_get(0)?)?, unsigned(row.try_get(1)?)))).collect()
    }

    /// What each keeper last presented, and the leaf that says so.
    pub(crate) async fn keepers(&self) -> Result<Vec<(KeeperRecord, u64)>, StoreError> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT record, leaf FROM keeper ORDER BY name").fetch_all(&self.readers).await?;
        rows.iter().map(|(text, leaf)| Ok((json(text)?, unsigned(*leaf)))).collect()
    }
}

/// JSON that this program wrote, back to its type.
pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Contradiction(e.to_string()))
}

/// A time as a row has it, milliseconds since 1970.
pub(super) fn time(unix_ms: i64) -> Result<Time, StoreError> {
    Time::from_unix_ms(unix_ms).map_err(|e| StoreError::Contradiction(e.to_string()))
}

/// A hash as a row has it, 32 bytes.
pub(super) fn sha256(bytes: Vec<u8>) -> Result<Sha256, StoreError> {
    bytes
        .try_into()
        .map(Sha256::from_bytes)
        .map_err(|b: Vec<u8>| StoreError::Contradiction(format!("a hash of {} bytes", b.len())))
}
