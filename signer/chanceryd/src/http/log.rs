//! The log as C2SP tlog-tiles publish it: checkpoint and hash tiles for everybody, entry bundles for auditors. And for auditors
//! what stock clients need of a signature besides: the signed bytes, and an entry timestamp.

use super::{App, CallerProof, Fail};
use crate::{
    audit::{Noted, TimestampError},
    service::Service,
};
use api::Scope;
use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use record::{Leaf, Sha256};
use tlog::{TileKind, TilePath};

/// Nothing below a tile's or bundle's path ever changes: a wider one has another path.
const UNCHANGING: &str = "max-age=31536000, immutable";

/// `GET /v1/log/checkpoint`.
pub(super) async fn checkpoint(State(service): State<App>) -> Result<Response, Fail> {
    let noted = published(&service, service.log.noted_size()).await;
    let missing = || match service.health.unwitnessed() {
        Some(why) => Fail::audit_unavailable(&why),
        None => Fail::audit_unavailable("there is no signed head yet"),
    };
    let note = noted.ok_or_else(missing)?.note.to_string();
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, note).into_response())
}

/// The newest published checkpoint, if possible one that covers `size` leaves. One that waits for its witnesses is not waited
/// for.
async fn published(service: &Service, size: u64) -> Option<Noted> {
    match service.health.awaits_quorum() {
        true => service.published.newest(),
        false => service.published.covering(size).await,
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
    let shared = if path.kind() == TileKind::Entries {
        let demanded =
            || Fail::unauthenticated("entries are for auditors: send a token with the scope `audit`");
        caller.ok_or_else(demanded)?.demand(Scope::Audit)?;
        "private"
    } else {
        "public"
    };
    let bytes = service.log.published(path, size).await?.ok_or_else(missing)?;
    let cache = format!("{shared}, {UNCHANGING}");
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CACHE_CONTROL, cache)];
    Ok((headers, bytes).into_response())
}

/// `GET /v1/log/set/{index}`: the signed entry timestamp of a completion under the published checkpoint. For a client without a
/// network it takes the checkpoint's place, so it is worth no less: it waits for the same witnesses.
pub(super) async fn entry_timestamp(
    State(service): State<App>,
    caller: CallerProof,
    Path(index): Path<u64>,
) -> Result<Response, Fail> {
    caller.demand(Scope::Audit)?;
    let leaf =
        if index < service.log.noted_size() { service.store.leaves(index, 1).await?.pop() } else { None };
    let leaf = leaf.ok_or_else(|| Fail::not_found("the log has no such entry"))?;
    let Ok(Leaf::Completion(completion)) = Leaf::decode(&leaf) else {
        return Err(Fail::not_found("this entry is no signature: only those have a timestamp"));
    };
    if published(&service, index + 1).await.is_none_or(|noted| noted.size <= index) {
        let why =
            format!("no published checkpoint covers entry {index} yet, and before that it has no timestamp");
        return Err(Fail::new(StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable", &why).retryable());
    }
    Ok(Json(service.log.timestamp(index, completion).await?).into_response())
}

impl From<TimestampError> for Fail {
    fn from(error: TimestampError) -> Self {
        let (status, code) = match &error {
            TimestampError::NoKey => (StatusCode::NOT_IMPLEMENTED, "no-set-key"),
            TimestampError::Refused { .. } => (StatusCode::CONFLICT, "timestamp-refused"),
            TimestampError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable"),
            TimestampError::Token { .. } => (StatusCode::SERVICE_UNAVAILABLE, "token-unavailable"),
        };
        let fail = Self::new(status, code, &error.to_string());
        if error.is_temporary() { fail.retryable() } else { fail }
    }
}

/// `GET /v1/log/payload/{sha256}`: the bytes that were to be signed, by the intent's SHA-256 of them.
pub(super) async fn payload(
    State(service): State<App>,
    caller: CallerProof,
    Path(sha256): Path<Sha256>,
) -> Result<Response, Fail> {
    caller.demand(Scope::Audit)?;
    let bytes = service
        .store
        .blob(&sha256)
        .await?
        .ok_or_else(|| Fail::not_found("no intent of the log has bytes of this SHA-256"))?;
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}
