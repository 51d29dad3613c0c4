//! The daemon's database as a test reads it, from outside.

use sqlx::{Column, Connection, Row, SqliteConnection, TypeInfo, ValueRef, sqlite::SqliteRow};
use std::path::Path;

/// Every row of every table of the database in a data folder, as text: the table, then its columns; sorted.
pub fn dump(data: &Path) -> Vec<String> {
    on(data, async |connection| {
        let tables =
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut *connection).await?;
        let mut all = Vec::new();
        for table in tables {
            let sql = sqlx::AssertSqlSafe(format!("SELECT * FROM {table}"));
            let rows = sqlx::query(sql).fetch_all(&mut *connection).await?;
            let mut rows: Vec<String> = rows.iter().map(|row| cells(&table, row)).collect();
            rows.sort();
            all.extend(rows);
        }
        Ok(all)
    })
}

/// Moves the journal into the database's file and begins the journal anew, as SQLite does by itself now and then.
pub fn checkpoint(data: &Path) {
    on(data, async |connection| {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await.map(drop)
    });
}

/// Runs a statement that changes rows, on a database that nobody has open.
pub fn alter(data: &Path, sql: &str) {
    let changed = on(data, async |connection| {
        let statement = sqlx::AssertSqlSafe(sql.to_owned());
        Ok(sqlx::query(statement).execute(connection).await?.rows_affected())
    });
    assert_ne!(changed, 0, "{sql}");
}

fn on<T>(data: &Path, work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let url = format!("sqlite://{}", data.join("chancery.db").display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        let done = work(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        done
    })
}

/// A row with each value, or for bytes their SHA-256.
fn cells(table: &str, row: &SqliteRow) -> String {
    let cell = |column: &sqlx::sqlite::SqliteColumn| {
        let at = column.ordinal();
        let value = row.try_get_raw(at).unwrap();
        let value = match (value.is_null(), value.type_info().name()) {
            (true, _) => "NULL".to_owned(),
            (_, "BLOB") => record::Sha256::of(row.get::<&[u8], _>(at)).to_string(),
            (_, "INTEGER") => row.get::<i64, _>(at).to_string(),
            _ => row.get::<String, _>(at),
        };
        format!("{}={value}", column.name())
    };
    format!("{table}: {}", row.columns().iter().map(cell).collect::<Vec<_>>().join(" "))
}
