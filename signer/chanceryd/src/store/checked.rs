//! Reading what is hashed: leaves, tiles and payloads leave the database only when they have the hashes under which they
//! are stored. A bit that has flipped on the disk or in memory is found here, before anybody relies on it.

use super::{StoreError, signed, unsigned};
use record::Sha256;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use std::collections::BTreeSet;
use tlog::{Frontier, Hash, TILE_WIDTH, TileId, Tiles};

/// Leaves from `from` on and below `until`, in order, without a gap.
pub(super) async fn leaves(
    connection: &mut SqliteConnection,
    from: u64,
    until: u64,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let sql = "SELECT idx, hash, bytes FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx";
    let rows = sqlx::query(sql).bind(signed(from)).bind(signed(until)).fetch_all(connection).await?;
    let bytes = |(expected, row): (u64, &SqliteRow)| {
        let (index, _, bytes) = leaf_row(row)?;
        if index == expected { Ok(bytes) } else { Err(missing_leaf(expected)) }
    };
    (from..).zip(&rows).map(bytes).collect()
}

/// Index, hash and bytes of a row of `leaf`.
pub(super) fn leaf_row(row: &SqliteRow) -> Result<(u64, Hash, Vec<u8>), StoreError> {
    let (index, stored) = (unsigned(row.try_get(0)?), hash(row.try_get(1)?)?);
    let bytes: Vec<u8> = row.try_get(2)?;
    if tlog::leaf_hash(&bytes) == stored {
        Ok((index, stored, bytes))
    } else {
        Err(StoreError::Contradiction(format!(
            "the bytes of leaf {index} do not have the hash that the tree has for it"
        )))
    }
}

pub(super) fn missing_leaf(index: u64) -> StoreError {
    StoreError::Contradiction(format!("leaf {index} is missing"))
}

/// The bytes under a name, if there are any.
pub(super) fn blob(name: &Sha256, bytes: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, StoreError> {
    match bytes {
        Some(bytes) if Sha256::of(&bytes) != *name => Err(StoreError::Contradiction(format!(
            "the stored bytes {name} have another hash than their name"
        ))),
        bytes => Ok(bytes),
    }
}

/// Tiles of a tree of `size` leaves, each as wide as that tree has it.
pub(super) async fn read_tiles(
    connection: &mut SqliteConnection,
    ids: BTreeSet<TileId>,
    size: u64,
) -> Result<Tiles, StoreError> {
    let mut tiles = Tiles::default();
    for id in ids {
        let width = tlog::tile_width(id, size);
        let hashes = read_tile(connection, id, width).await?;
        if width == TILE_WIDTH {
            check_full(connection, id, &hashes).await?;
        }
        tiles.insert(id, hashes);
    }
    Ok(tiles)
}

/// A full tile leads to the hash that the tile above it has; what is not full is checked by the
/// proof that is made of it, or where the whole edge of the tree is checked by the signed root.
async fn check_full(
    connection: &mut SqliteConnection,
    id: TileId,
    hashes: &[Hash],
) -> Result<(), StoreError> {
    let sql = "SELECT hash FROM node WHERE level = ? AND idx = ?";
    let above: Option<Vec<u8>> = sqlx::query_scalar(sql)
        .bind(i64::from(id.level) + 1)
        .bind(signed(id.index))
        .fetch_optional(connection)
        .await?;
    let mut tree = Frontier::default();
    hashes.iter().for_each(|hash| tree.append(*hash));
    if above.map(hash).transpose()? == Some(tree.root()) {
        Ok(())
    } else {
        let (level, index) = (id.level, id.index);
        let text = format!("tile {level}/{index} does not lead to the hash {index} that is stored above it");
        Err(StoreError::Contradiction(text))
    }
}

async fn read_tile(
    connection: &mut SqliteConnection,
    id: TileId,
    width: u64,
) -> Result<Vec<Hash>, StoreError> {
    let from = id.index.saturating_mul(TILE_WIDTH);
    let to = from.saturating_add(width);
    let rows: Vec<Vec<u8>> = if id.level == 0 {
        let query = sqlx::query_scalar("SELECT hash FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx");
        query.bind(signed(from)).bind(signed(to)).fetch_all(connection).await?
    } else {
        let query =
            sqlx::query_scalar("SELECT hash FROM node WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx");
        query.bind(i64::from(id.level)).bind(signed(from)).bind(signed(to)).fetch_all(connection).await?
    };
    if u64::try_from(rows.len()).ok() != Some(width) {
        return Err(StoreError::Contradiction(format!(
            "tile {}/{} has {} of {width} hashes",
            id.level,
            id.index,
            rows.len()
        )));
    }
    rows.into_iter().map(hash).collect()
}

/// A hash of the tree as a row has it.
pub(super) fn hash(bytes: Vec<u8>) -> Result<Hash, StoreError> {
    bytes
        .try_into()
        .map(Hash)
        .map_err(|b: Vec<u8>| StoreError::Contradiction(format!("a hash of {} bytes", b.len())))
}
