//! The log as C2SP tlog-tiles publish it: checkpoint and hash tiles for everybody, entry bundles for auditors.

use super::{App, CallerProof, Fail};
use api::Scope;
use axum::{
    extract::{FromRequestParts, Path, State},
    http::{header, request::Parts},
    response::{IntoResponse, Response},
};
use std::collections::BTreeSet;
use tlog::{TILE_WIDTH, TileKind, TilePath};

/// Nothing below a tile's or bundle's path ever changes: a wider one has another path.
const UNCHANGING: &str = "max-age=31536000, immutable";

/// `GET /v1/log/checkpoint`.
pub(super) async fn checkpoint(State(service): State<App>) -> Result<Response, Fail> {
    // A checkpoint that waits for its witnesses is not waited for here.
    let noted = match service.health.awaits_quorum() {
        true => service.published.newest(),
        false => service.published.covering(service.log.noted_size()).await,
    };
    let missing = || match service.health.unwitnessed() {
        Some(why) => Fail::audit_unavailable(&why),
        None => Fail::audit_unavailable("there is no signed head yet"),
    };
    let note = noted.ok_or_else(missing)?.note.to_string();
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, note).into_response())
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

/// `GET /v1/log/tile/...`: every tile and bundle of the tree under the newest note, at any width that it has had. The published
/// checkpoint's are among them, and stay so when they have grown. What is beyond it is no secret and no promise: notes in
/// between are given to those whose signatures they prove, and they must be able to check them.
pub(super) async fn tile(
    State(service): State<App>,
    MaybeCaller(caller): MaybeCaller,
    Path(path): Path<String>,
) -> Result<Response, Fail> {
    let missing = || Fail::not_found("no such tile in the published tree");
    let path = TilePath::parse(&format!("tile/{path}")).map_err(|_| missing())?;
    let size = service.log.noted_size();
    let (bytes, cache) = match (path.kind(), path.tile()) {
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
            let bundle = tlog::encode_bundle(entries.iter().map(Vec::as_slice))
                .map_err(|e| Fail::audit_unavailable(&e.to_string()))?;
            (bundle, format!("private, {UNCHANGING}"))
        }
        (_, Some(id)) => {
            if tlog::tile_width(id, size) < path.width() {
                return Err(missing());
            }
            let tiles = service.log.tiles(BTreeSet::from([id]), size).await?;
            let width = usize::try_from(path.width()).unwrap_or(0);
            let hashes = tiles.get(id).and_then(|hashes| hashes.get(..width)).ok_or_else(missing)?;
            (tlog::encode_tile(hashes), format!("public, {UNCHANGING}"))
        }
        (_, None) => return Err(missing()),
    };
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CACHE_CONTROL, cache)];
    Ok((headers, bytes).into_response())
}
