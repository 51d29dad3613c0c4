//! `POST /v1/auth/exchange`: a CI job's token, once, for a session of a quarter of an hour.

use super::{App, Fail, problem::StrictJson};
use crate::{
    audit::AppendError,
    auth,
    issuers::Unverified,
    service::Service,
    store::{NewSession, Rejected},
};
use api::{Exchange, Session};
use axum::{Json, extract::State, http::StatusCode};
use record::Time;

/// How long a session lives, in seconds: a job asks for it when it has something to sign.
const SESSION_S: i64 = 15 * 60;

/// 201 with the session; 401 for a token that is not accepted, and that alone is counted among the refusals.
pub(super) async fn exchange(
    State(service): State<App>,
    StrictJson(body): StrictJson<Exchange>,
) -> Result<(StatusCode, Json<Session>), Fail> {
    let now = service.clock.now();
    if let Some(why) = service.log.clock_problem(now) {
        return Err(Fail::clock(&why));
    }
    let session = session_for(&service, &body.token, now).await;
    session.map(|session| (StatusCode::CREATED, Json(session))).inspect_err(|fail| {
        if fail.status() == StatusCode::UNAUTHORIZED {
            service.refusals.unknown(now);
        }
    })
}

async fn session_for(service: &Service, token: &str, now: Time) -> Result<Session, Fail> {
    let (issuer, verified) = service.issuers.verify(token, now).await.map_err(unverified)?;
    // After a database was rolled back it is not known which tokens were used before.
    if service.store.token_floor().await?.is_some_and(|since| verified.issued() < since) {
        let message = "it was issued before the service's database was restored: ask for a new one";
        return Err(Fail::token_refused("unauthenticated", "before-restore", message));
    }
    let (bearer, secret_sha256) = auth::new_session().map_err(|e| Fail::audit_unavailable(&e))?;
    let (principal, expires) = (verified.principal().clone(), now.plus_s(SESSION_S));
    let session = NewSession {
        issuer,
        token_id: verified.token_id().to_owned(),
        forgotten: verified.forgotten(),
        secret_sha256,
        principal: principal.clone(),
        ci: verified.ci().clone(),
        expires,
        now,
    };
    service.log.insert(session).await.map_err(not_stored)?;
    tracing::info!(%principal, run = verified.ci().run.as_ref().map(record::CiText::as_str), "a CI job has a session");
    Ok(Session { bearer, principal, expires })
}

fn unverified(why: Unverified) -> Fail {
    tracing::info!(code = why.code(), "a CI job's token is refused");
    match &why {
        Unverified::UnknownIssuer => Fail::token_refused("unknown-issuer", why.code(), &why.to_string()),
        Unverified::Refused(_) => Fail::token_refused("unauthenticated", why.code(), &why.to_string()),
        Unverified::NoKeys(_) => {
            let detail =
                format!("{why} now, or were fetched too long ago: try again; the daemon's own log says why");
            Fail::new(StatusCode::SERVICE_UNAVAILABLE, "issuer-unavailable", &detail).retryable()
        }
    }
}

fn not_stored(error: AppendError) -> Fail {
    match error {
        AppendError::Rejected(Rejected::Used) => Fail::token_refused(
            "token-replayed",
            "replayed",
            "it was used before: a token is good for one exchange; ask for a new one",
        ),
        AppendError::Rejected(Rejected::Sessions) => {
            let detail = "this job's repository, or all together, has too many sessions: they end within a quarter of an hour";
            Fail::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).retryable()
        }
        other => other.into(),
    }
}
