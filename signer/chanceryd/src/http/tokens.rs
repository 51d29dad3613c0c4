//! API tokens: made, listed and revoked by administrators; every change is a leaf.

use super::{App, CallerProof, Fail, problem::StrictJson};
use crate::{auth, service::Service, store::TokenRow};
use api::{CreatedToken, NewToken, Scope, TokenInfo, Tokens};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use record::{Event, Leaf, Nonce, Repository, TokenId};

/// Longest life of a token.
const MAX_LIFE_S: i64 = 90 * 86_400;
/// Most repositories in one token's scope.
const MAX_REPOSITORIES: usize = 64;
/// Longest note.
const MAX_NOTE: usize = 200;

/// `POST /v1/tokens`.
pub(super) async fn create(
    State(service): State<App>,
    caller: CallerProof,
    StrictJson(new): StrictJson<NewToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Fail> {
    caller.demand(Scope::Admin)?;
    check(&service, &new)?;
    let (id, bearer, secret_sha256) = auth::new_token().map_err(|e| Fail::audit_unavailable(&e))?;
    let mut scopes = new.scopes.clone();
    scopes.sort_unstable();
    scopes.dedup();
    let event = Event::TokenCreated {
        time: service.clock.now(),
        nonce: nonce()?,
        by: caller.0.principal().clone(),
        token: id.clone(),
        secret_sha256,
        scopes: scopes.iter().map(|s| s.as_str().to_owned()).collect(),
        repositories: new.repositories,
        expires: new.expires,
        note: new.note,
    };
    write(&service, event).await?;
    let row = find(&service, &id).await?;
    Ok((StatusCode::CREATED, Json(CreatedToken { token: info(row)?, bearer })))
}

/// `GET /v1/tokens`.
pub(super) async fn list(State(service): State<App>, caller: CallerProof) -> Result<Json<Tokens>, Fail> {
    caller.demand(Scope::Admin)?;
    let rows = service.store.tokens().await?;
    Ok(Json(Tokens { tokens: rows.into_iter().map(info).collect::<Result<_, _>>()? }))
}

/// `DELETE /v1/tokens/{id}`.
pub(super) async fn revoke(
    State(service): State<App>,
    caller: CallerProof,
    Path(id): Path<String>,
) -> Result<Json<TokenInfo>, Fail> {
    caller.demand(Scope::Admin)?;
    let id = TokenId::parse(&id).map_err(|e| Fail::bad(&e.to_string()))?;
    find(&service, &id).await?;
    let by = caller.0.principal().clone();
    write(
        &service,
        Event::TokenRevoked { time: service.clock.now(), nonce: nonce()?, by, token: id.clone() },
    )
    .await?;
    Ok(Json(info(find(&service, &id).await?)?))
}

fn check(service: &Service, new: &NewToken) -> Result<(), Fail> {
    let now = service.clock.now();
    if new.scopes.is_empty() {
        return Err(Fail::bad("a token needs at least one scope: sign, audit or admin"));
    }
    if new.expires <= now || new.expires > now.plus_s(MAX_LIFE_S) {
        return Err(Fail::bad("a token ends between now and 90 days from now"));
    }
    if new.repositories.len() > MAX_REPOSITORIES || new.note.len() > MAX_NOTE {
        return Err(Fail::bad("at most 64 repositories and 200 bytes of note"));
    }
    if new.note.chars().any(char::is_control) {
        return Err(Fail::bad("a note is one line of text"));
    }
    if new.scopes.contains(&Scope::Sign) && new.repositories.is_empty() {
        return Err(Fail::bad("a token with the scope sign names the repositories it is for"));
    }
    new.repositories.iter().try_for_each(|scope| scope_is_well_formed(scope))
}

/// An exact repository, or a prefix that ends in '/' and names at least a registry.
fn scope_is_well_formed(scope: &str) -> Result<(), Fail> {
    let sample = if scope.ends_with('/') { format!("{scope}x") } else { scope.to_owned() };
    Repository::parse(&sample).map(|_| ()).map_err(|e| Fail::bad(&e.to_string()))
}

fn nonce() -> Result<Nonce, Fail> {
    Nonce::random().map_err(|e| Fail::audit_unavailable(&e.to_string()))
}

async fn write(service: &Service, event: Event) -> Result<(), Fail> {
    service.log.append(Leaf::Event(event)).await?;
    // One at a time: an older reading that came later would bring a revoked token back to life.
    let _turn = service.token_turn.lock().await;
    service.tokens.replace(service.store.tokens().await?);
    Ok(())
}

async fn find(service: &Service, id: &TokenId) -> Result<TokenRow, Fail> {
    let rows = service.store.tokens().await?;
    rows.into_iter().find(|row| row.id == *id).ok_or_else(|| Fail::not_found("there is no such token"))
}

fn info(row: TokenRow) -> Result<TokenInfo, Fail> {
    let scopes = row.scopes.iter().map(|s| s.parse()).collect::<Result<_, String>>();
    Ok(TokenInfo {
        id: row.id,
        scopes: scopes.map_err(|e| Fail::audit_unavailable(&e))?,
        repositories: row.repositories,
        expires: row.expires,
        note: row.note,
        revoked: row.revoked,
    })
}
