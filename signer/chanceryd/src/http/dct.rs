//! The reading side of the Docker Content Trust server's protocol: what `notary` and `docker trust` fetch.
//!
//! Bytes are served as they were signed and stored; a file is visible once its completion stands under a note, and a
//! collection once it has a timestamp. Errors have the reference server's codes and stay under 1 KiB.

use super::App;
use crate::{
    service::Service,
    store::{FileRow, Role, StoreError},
};
use axum::{
    Json,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use record::{Repository, Sha256, Time};
use serde_json::json;

/// `GET /v2/`: clients take 200 as "a trust server that needs no login for reading".
pub(super) async fn ping() -> Json<serde_json::Value> {
    Json(json!({}))
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// `<role>.json`.
    Newest(Role),
    /// `<role>.<sha256>.json`.
    Hash(Role, Sha256),
    /// `<N>.<role>.json`.
    Version(Role, u64),
}

/// `GET /v2/<gun>/_trust/tuf/<file>`.
pub(super) async fn read(State(service): State<App>, Path(path): Path<String>) -> Response {
    let Some((repository, wanted)) = parse(&path) else { return not_found() };
    let by_name = matches!(wanted, Wanted::Newest(_));
    match find(&service, &repository, wanted).await {
        Ok(Some((row, bytes))) => serve(&row, bytes, by_name),
        Ok(None) => not_found(),
        Err(e) => {
            service.log.judge(&e);
            tracing::error!(error = %e.full(), "the database failed under a trust client");
            error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the server cannot read its metadata now")
        }
    }
}

fn parse(path: &str) -> Option<(Repository, Wanted)> {
    let (gun, file) = path.split_once("/_trust/tuf/")?;
    let repository = Repository::parse(gun).ok()?;
    let stem = file.strip_suffix(".json")?;
    let wanted = match stem.split_once('.') {
        None => Wanted::Newest(stem.parse().ok()?),
        Some((role, hash)) if hash.len() == 64 => Wanted::Hash(role.parse().ok()?, hash.parse().ok()?),
        Some((number, role)) if number.bytes().all(|b| b.is_ascii_digit()) => {
            Wanted::Version(role.parse().ok()?, number.parse().ok()?)
        }
        Some(_) => return None,
    };
    Some((repository, wanted))
}

async fn find(
    service: &Service,
    repository: &Repository,
    wanted: Wanted,
) -> Result<Option<(FileRow, Vec<u8>)>, StoreError> {
    let noted = service.log.noted_size();
    // Before the first timestamp a collection does not exist for clients: half a collection would only confuse them.
    let Some(timestamp) = service.store.published(repository, noted).await? else { return Ok(None) };
    let store = &service.store;
    let row = match wanted {
        Wanted::Newest(Role::Timestamp) => Some(timestamp),
        Wanted::Newest(Role::Root) => store.published_root(repository, noted).await?,
        Wanted::Newest(Role::Snapshot) => below(service, repository, Some(timestamp)).await?,
        Wanted::Newest(Role::Targets) => {
            let snapshot = below(service, repository, Some(timestamp)).await?;
            below(service, repository, snapshot).await?
        }
        Wanted::Hash(role, hash) => store.file_by_hash(repository, &hash).await?.filter(|f| f.role == role),
        Wanted::Version(role, version) => store.file_by_version(repository, role, version).await?,
    };
    let Some(row) = row.filter(|f| f.completion < noted) else { return Ok(None) };
    let bytes = store.blob(&row.file.sha256).await?;
    let bytes =
        bytes.ok_or_else(|| StoreError::Contradiction(format!("file {} is not stored", row.file.sha256)))?;
    Ok(Some((row, bytes)))
}

/// The file that this one names.
async fn below(
    service: &Service,
    repository: &Repository,
    file: Option<FileRow>,
) -> Result<Option<FileRow>, StoreError> {
    match file.and_then(|f| f.below) {
        Some(hash) => service.store.file_by_hash(repository, &hash).await,
        None => Ok(None),
    }
}

fn serve(row: &FileRow, bytes: Vec<u8>, by_name: bool) -> Response {
    // What a name stands for changes; a cached timestamp would be a free freeze attack.
    let cache =
        if by_name { "max-age=0, no-cache, no-store" } else { "public, max-age=2592000, s-maxage=2592000" };
    let headers = [
        (header::CONTENT_TYPE, "application/json; charset=utf-8".to_owned()),
        (header::CACHE_CONTROL, cache.to_owned()),
        (header::LAST_MODIFIED, http_date(row.created)),
    ];
    (headers, bytes).into_response()
}

/// RFC 9110 IMF-fixdate.
fn http_date(time: Time) -> String {
    let days = time.unix_s().div_euclid(86_400);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = time.to_rfc3339_seconds();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let name = |names: &[&'static str], index: usize| names.get(index).copied().unwrap_or_default();
    let weekday = name(&weekday, usize::try_from(days.rem_euclid(7)).unwrap_or(0));
    let month = name(&months, part(5, 7).parse::<usize>().unwrap_or(1).saturating_sub(1));
    format!("{weekday}, {} {month} {} {} GMT", part(8, 10), part(0, 4), part(11, 19))
}

fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "METADATA_NOT_FOUND", "You have requested metadata that does not exist.")
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "errors": [{ "code": code, "message": message }] }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_that_clients_fetch_is_understood_and_no_other() {
        let hash = "ab".repeat(32);
        let gun = "localhost:5000/demo/app";
        let wanted = |file: &str| parse(&format!("{gun}/_trust/tuf/{file}")).map(|(_, w)| w);
        assert_eq!(wanted("timestamp.json"), Some(Wanted::Newest(Role::Timestamp)));
        assert_eq!(wanted("7.root.json"), Some(Wanted::Version(Role::Root, 7)));
        assert_eq!(
            wanted(&format!("snapshot.{hash}.json")),
            Some(Wanted::Hash(Role::Snapshot, hash.parse().unwrap()))
        );
        for file in [
            "",
            "root",
            "root.json/",
            "targets/releases.json",
            "root.AB.json",
            "x.root.json",
            "timestamp.key",
        ] {
            assert_eq!(wanted(file), None, "{file}");
        }
        assert!(parse("../x/_trust/tuf/root.json").is_none());
    }

    #[test]
    fn dates_are_written_as_http_wants_them() {
        let time: Time = "2026-11-23T10:20:30.000Z".parse().unwrap();
        assert_eq!(http_date(time), "Mon, 23 Nov 2026 10:20:30 GMT");
    }
}
