//! The log as C2SP tlog-tiles publish it: checkpoint and hash tiles for everybody, entry bundles for auditors.

use super::{App, CallerProof, Fail};
use crate::audit::Noted;
use api::Scope;
use axum::{
    extract::{FromRequestParts, Path, State},
    http::{HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tlog::{TILE_WIDTH, TileKind, TilePath};

/// The published checkpoint changes at most this often; notes in between are internal evidence.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// What was last published, and when.
static PUBLISHED: Mutex<Option<(Instant, Noted)>> = Mutex::new(None);

/// `GET /v1/log/checkpoint`.
pub(super) async fn checkpoint(State(service): State<App>) -> Result<Response, Fail> {
    let newest = service.log.noted().ok_or_else(|| Fail::audit_unavailable("there is no signed head yet"))?;
    let note = publish(newest).note.to_string();
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, note).into_response())
}

fn publish(newest: Noted) -> Noted {
    let mut published = PUBLISHED.lock().unwrap_or_else(PoisonError::into_inner);
    match published.as_ref() {
        Some((at, noted)) if at.elapsed() < PUBLISH_EVERY && noted.size <= newest.size => noted.clone(),
        _ => {
            *published = Some((Instant::now(), newest.clone()));
            newest
        }
    }
}

/// A caller, if it shows a token at all.
pub(super) struct MaybeCaller(Option<CallerProof>);

impl FromRequestParts<App> for MaybeCaller {
    type Rejection = Fail;

    async fn from_request_parts(parts: &mut Parts, service: &App) -> Result<Self, Fail> {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            CallerProof::from_request_parts(parts, service).await.map(|p| Self(Some(p)))
        } else {
            Ok(Self(None))
        }
    }
}

/// `GET /v1/log/tile/...`.
pub(super) async fn tile(
    State(service): State<App>,
    MaybeCaller(caller): MaybeCaller,
    Path(path): Path<String>,
) -> Result<Response, Fail> {
    let missing = || Fail::not_found("no such tile in the published tree");
    let path = TilePath::parse(&format!("tile/{path}")).map_err(|_| missing())?;
    let size = service.log.noted_size();
    let bytes = match (path.kind(), path.tile()) {
        (TileKind::Entries, _) => {
            let demanded =
                || Fail::unauthenticated("entries are for auditors: send a token with the scope `audit`");
            caller.ok_or_else(demanded)?.demand(Scope::Audit)?;
            let from = path
                .index()
                .checked_mul(TILE_WIDTH)
                .filter(|from| from + path.width() <= size)
                .ok_or_else(missing)?;
            let entries = service.store.leaves(from, path.width()).await?;
            tlog::encode_bundle(entries.iter().map(Vec::as_slice))
                .map_err(|e| Fail::audit_unavailable(&e.to_string()))?
        }
        (_, Some(id)) => {
            if tlog::tile_width(id, size) < path.width() {
                return Err(missing());
            }
            let tiles = service.log.tiles(BTreeSet::from([id]), size).await?;
            let width = usize::try_from(path.width()).unwrap_or(0);
            let hashes = tiles.get(id).and_then(|hashes| hashes.get(..width)).ok_or_else(missing)?;
            tlog::encode_tile(hashes)
        }
        (_, None) => return Err(missing()),
    };
    let mut response = bytes.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    Ok(response)
}
