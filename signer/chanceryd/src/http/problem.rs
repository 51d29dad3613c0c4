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
use serde::de::DeserializeOwned;

/// An answer that is an error.
#[derive(Debug, Clone)]
pub(crate) struct Fail(Box<Problem>);

impl Fail {
    /// A problem with a stable code and words for people.
    pub(crate) fn new(status: StatusCode, code: &str, detail: &str) -> Self {
        Self(Box::new(Problem {
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
        }))
    }

    /// The same call can succeed later.
    pub(crate) fn retryable(mut self) -> Self {
        self.0.retryable = true;
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

    /// The log cannot be written now.
    pub(crate) fn audit_unavailable(why: &str) -> Self {
        let detail = format!("nothing is signed while the audit log cannot be written: {why}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "audit-unavailable", &detail).retryable()
    }

    /// Policy said no; the log has it.
    pub(crate) fn denied(denied: Denied) -> Self {
        let count = denied.reasons.len();
        let detail = format!(
            "policy refuses this for {count} reason(s); the refusal is entry {} of the log",
            denied.entry
        );
        let mut fail = Self::new(StatusCode::FORBIDDEN, "denied", &detail);
        fail.0.entry = Some(denied.entry);
        fail.0.request = Some(denied.request);
        fail.0.reasons = denied.reasons;
        fail
    }

    /// The document, for a request that carries it.
    pub(crate) fn into_problem(self) -> Problem {
        *self.0
    }
}

fn title(code: &str) -> &'static str {
    match code {
        "denied" => "Policy refuses this request",
        "unauthenticated" => "Not authenticated",
        "scope" => "The token may not do this",
        "not-found" => "Not found",
        "bad-request" => "The request cannot be read",
        "audit-unavailable" => "The audit log is unavailable",
        "token-unavailable" => "The signing token is unavailable",
        "idempotency-mismatch" => "The idempotency key was used for another request",
        "overloaded" => "Too much at once",
        "unknown-outcome" => "It is not known whether a signature was made",
        "signing-failed" => "No signature was made",
        _ => "The request failed",
    }
}

/// Gives an answer the id that the daemon's log has for its call: the header of every answer, and the `call` of a problem.
/// Handlers do not know the id, so a problem is written once more with it.
pub(super) fn identified(mut response: Response, call: &str) -> Response {
    if let Some(Fail(mut problem)) = response.extensions_mut().remove() {
        problem.call = Some(call.to_owned());
        response = Fail(problem).into_response();
    }
    if let Ok(value) = call.parse() {
        response.headers_mut().insert("x-chancery-call", value);
    }
    response
}

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.0.retryable {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Fail {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %error.full(), "the database failed under a call");
        Self::audit_unavailable("the database cannot be read")
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
            other => {
                let detail = other.to_string();
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "token-unavailable", &detail).retryable()
            }
        }
    }
}

/// A JSON body of exactly one content type, with no unknown or duplicate member; errors never echo the body.
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
        let answer = identified(Fail::unauthenticated("who?").retryable().into_response(), "c0ffee");
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
        let answer = identified("ok\n".into_response(), "c0ffee");
        assert_eq!(
            (answer.status(), &answer.headers()["x-chancery-call"]),
            (StatusCode::OK, &HeaderValue::from_static("c0ffee"))
        );
    }
}
