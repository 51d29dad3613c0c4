//! The one place that turns errors into HTTP: RFC 9457 problem documents.

use crate::{
    audit::AppendError,
    sign::{Denied, SignError},
    store::StoreError,
};
use api::Problem;
use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use record::Reason;
use serde::de::DeserializeOwned;

/// An answer that is an error.
#[derive(Debug, Clone)]
pub(crate) struct Fail {
    problem: Box<Problem>,
    /// Why the whole service must be sealed, if it must.
    seal: Option<String>,
}

impl Fail {
    /// A problem with a stable code and words for people.
    pub(crate) fn new(status: StatusCode, code: &str, detail: &str) -> Self {
        let problem = Problem {
            kind: format!("urn:chancery:problem:{code}"),
            code: code.to_owned(),
            title: title(code).to_owned(),
            status: status.as_u16(),
            detail: detail.to_owned(),
            call: None,
            request: None,
            entry: None,
            reasons: Vec::new(),
            retryable: false,
        };
        Self { problem: Box::new(problem), seal: None }
    }

    /// The same call can succeed later.
    pub(crate) fn retryable(mut self) -> Self {
        self.problem.retryable = true;
        self
    }

    /// Nothing there.
    pub(crate) fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// The call's words are off.
    pub(crate) fn bad(detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// Nobody we know.
    pub(crate) fn unauthenticated(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
    }

    /// A token of a CI job says nothing here, for this reason.
    pub(crate) fn token_refused(code: &str, rule: &str, message: &str) -> Self {
        let detail = format!("the CI job's token is not accepted: {message}");
        let mut fail = Self::new(StatusCode::UNAUTHORIZED, code, &detail);
        let (rule, remedy) = (format!("token/{rule}"), "final".to_owned());
        fail.problem.reasons = vec![Reason { rule, remedy, message: message.to_owned() }];
        fail
    }

    /// The log cannot be written now, or may not grow further without its witnesses.
    pub(crate) fn audit_unavailable(why: &str) -> Self {
        let detail = format!("nothing is signed while the audit log is not as it must be: {why}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable", &detail).retryable()
    }

    /// The clock is behind the log: an intent would stand there with a wrong time.
    pub(crate) fn clock(why: &str) -> Self {
        let detail = format!("nothing is signed before the server's clock is right: {why}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "clock", &detail).retryable()
    }

    /// Policy said no; the log has it.
    pub(crate) fn denied(denied: Denied) -> Self {
        let count = denied.reasons.len();
        let place = match denied.entry {
            Some(entry) => format!("is entry {entry} of the log"),
            None => "is counted in the log without an entry of its own, like this caller's further ones of these ten minutes".into(),
        };
        let detail = format!("policy refuses this for {count} reason(s); the refusal {place}");
        let mut fail = Self::new(StatusCode::FORBIDDEN, "denied", &detail);
        fail.problem.entry = denied.entry;
        fail.problem.request = Some(denied.request);
        fail.problem.reasons = denied.reasons;
        fail
    }

    /// The problem by which a request ended.
    pub(crate) fn from_problem(mut problem: Problem, request: record::RequestId) -> Self {
        problem.request = Some(request);
        Self { problem: Box::new(problem), seal: None }
    }

    /// Its HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The document, for a request that carries it.
    pub(crate) fn into_problem(self) -> Problem {
        *self.problem
    }
}

fn title(code: &str) -> &'static str {
    match code {
        "denied" => "Policy refuses this request",
        "unauthenticated" => "Not authenticated",
        "token-replayed" => "The token was used before",
        "unknown-issuer" => "The token's issuer is not accepted here",
        "issuer-unavailable" => "The issuer's keys are unavailable",
        "scope" => "The token may not do this",
        "not-found" => "Not found",
        "bad-request" => "The request cannot be read",
        "audit-unavailable" => "The audit log is unavailable",
        "clock" => "The server's clock is wrong",
        "token-unavailable" => "The signing token is unavailable",
        "idempotency-mismatch" => "The idempotency key was used for another request",
        "overloaded" => "Too much at once",
        "unknown-outcome" => "It is not known whether a signature was made",
        "signing-failed" => "No signature was made",
        "keeper-refused" => "The keeper refuses this",
        "timestamp-refused" => "The log keeper gives no timestamp of this entry",
        "no-set-key" => "This log gives no entry timestamps",
        _ => "The request failed",
    }
}

/// An answer as it leaves: a problem carries the id of its call, which handlers do not know, and an error that comes
/// from below the handlers (a limit, a deadline, a path or query that cannot be read) is made a problem.
///
/// Also gives what a database error under the call means for the whole service: the reason to seal it.
pub(super) fn finished(mut response: Response, call: &str) -> (Response, Option<String>) {
    let fail = response.extensions_mut().remove::<Fail>().or_else(|| plain(&response));
    let mut seal = None;
    if let Some(mut fail) = fail {
        fail.problem.call = Some(call.to_owned());
        seal = fail.seal.take();
        response = fail.into_response();
    }
    if let Ok(value) = call.parse() {
        response.headers_mut().insert("x-chancery-call", value);
    }
    (response, seal)
}

/// The problem that stands for an error without a document of its own.
fn plain(response: &Response) -> Option<Fail> {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !(status.is_client_error() || status.is_server_error()) || kind.starts_with("application/") {
        return None;
    }
    let (code, detail) = match status {
        StatusCode::PAYLOAD_TOO_LARGE => ("body", "the body is longer than 64 KiB"),
        StatusCode::BAD_REQUEST => {
            ("bad-request", "the path or the query cannot be read: see the API reference")
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            ("deadline", "the call took too long; what it began may still end: ask again")
        }
        _ => ("internal", "the call failed; the daemon's own log has more under this call's id"),
    };
    let fail = Fail::new(status, code, detail);
    Some(if status == StatusCode::SERVICE_UNAVAILABLE { fail.retryable() } else { fail })
}

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        // A tile that is not there yet must not stay away because somebody in between remembers that.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.problem.retryable {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Fail {
    fn from(error: StoreError) -> Self {
        // The alarm is the seal, told once; a database that fails, fails under every call.
        tracing::warn!(error = %error.full(), "the database failed under a call");
        let fail = Self::audit_unavailable("the database cannot be read");
        Self { seal: error.is_integrity().then(|| error.full()), ..fail }
    }
}

impl From<AppendError> for Fail {
    fn from(error: AppendError) -> Self {
        Self::audit_unavailable(&error.to_string())
    }
}

impl From<SignError> for Fail {
    fn from(error: SignError) -> Self {
        match error {
            SignError::Append(e) => e.into(),
            SignError::Store(e) => e.into(),
            SignError::Clock(why) => Self::clock(&why),
            other => {
                let detail = other.to_string();
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "token-unavailable", &detail).retryable()
            }
        }
    }
}

/// A JSON body of exactly one content type, with no unknown or duplicate member; errors name the place, and show at
/// most the member that is wrong.
pub(crate) struct StrictJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for StrictJson<T> {
    type Rejection = Fail;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fail> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        if kind != Some("application/json") {
            let detail = "send the body as `Content-Type: application/json`";
            return Err(Fail::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", detail));
        }
        if request.headers().contains_key(header::CONTENT_ENCODING) {
            let detail = "send the body without a Content-Encoding";
            return Err(Fail::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-encoding", detail));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|e| {
            let status = e.status();
            Fail::new(status, "body", "the body is longer than 64 KiB, or did not come in time")
        })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|e| {
            let detail = format!("line {} column {} of the body: {}", e.line(), e.column(), why(&e));
            Fail::bad(&detail)
        })
    }
}

fn why(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => error.to_string().chars().take(160).collect(),
        _ => "not well-formed JSON".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_problem_carries_the_id_of_its_call_in_the_body_and_in_the_header() {
        let (answer, seal) = finished(Fail::unauthenticated("who?").retryable().into_response(), "c0ffee");
        assert_eq!(seal, None);
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        for (name, value) in [
            ("x-chancery-call", "c0ffee"),
            ("content-type", "application/problem+json"),
            ("www-authenticate", "Bearer"),
            ("retry-after", "1"),
        ] {
            assert_eq!(answer.headers()[name], value, "{name}");
        }
        let body = axum::body::to_bytes(answer.into_body(), 4096).await.unwrap();
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!((problem.call.as_deref(), problem.detail.as_str()), (Some("c0ffee"), "who?"));
    }

    #[test]
    fn an_answer_that_is_no_problem_keeps_its_body_and_gets_the_header() {
        let (answer, _) = finished("ok\n".into_response(), "c0ffee");
        assert_eq!(
            (answer.status(), &answer.headers()["x-chancery-call"]),
            (StatusCode::OK, &HeaderValue::from_static("c0ffee"))
        );
    }

    #[tokio::test]
    async fn an_error_from_below_the_handlers_becomes_a_problem() {
        for status in
            [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_REQUEST]
        {
            let (answer, _) = finished((status, "length limit exceeded").into_response(), "c0ffee");
            assert_eq!(answer.status(), status);
            let body = axum::body::to_bytes(answer.into_body(), 4096).await.unwrap();
            let problem: Problem = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem.retryable, status == StatusCode::SERVICE_UNAVAILABLE);
        }
    }

    #[test]
    fn a_database_that_cannot_be_trusted_seals_and_a_busy_one_does_not() {
        let of = |error: StoreError| finished(Fail::from(error).into_response(), "c0ffee").1;
        assert!(
            of(StoreError::Contradiction("two heads".into())).is_some_and(|why| why.contains("two heads"))
        );
        assert_eq!(of(StoreError::NotApplied(sqlx::Error::PoolTimedOut)), None);
    }
}
