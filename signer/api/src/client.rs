//! The HTTP client of the API, as `chancery` and tests use it.
//!
//! Promises: HTTPS only, TLS 1.3 or newer, and a certificate that one named CA file or the system's roots vouch for;
//! every call has a deadline and every body a limit; no redirect is followed, so the bearer token goes to the host
//! that the caller named and to no other. It does not know: when to try again, or how an error is shown.
//! `HTTPS_PROXY` and `NO_PROXY` are honoured; a proxy sees an encrypted tunnel.

use crate::{
    AwaitedTouch, CreatedToken, Exchange, Keepers, Keys, NewRepository, NewRequest, NewToken, Problem,
    Readiness, RepositoryInfo, Request, Session, Tokens,
};
use record::{Nonce, Repository, RequestId, Time, TokenId};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use serde::de::DeserializeOwned;
use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

/// A server that does not take a connection in this time is away.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Longest call: a long poll of [`LONG_POLL_MAX_S`] with time to spare for its answer.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(40);
/// Longest long poll in seconds; below what proxies commonly cut off.
pub const LONG_POLL_MAX_S: u64 = 30;
/// Largest JSON document: far above any list the API gives.
pub const MAX_DOCUMENT: usize = 1024 * 1024;
/// Largest file of the log: an entry bundle of 256 entries of 65535 bytes, each with its 16-bit length.
pub const MAX_LOG_FILE: usize = 256 * (65_535 + 2);
/// Largest CA file: a bundle of all public roots has 300 kB.
const MAX_CA_FILE: u64 = 1024 * 1024;

/// Whom the client believes that a certificate is the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The roots of the operating system.
    System,
    /// The certificates in this PEM file and no others.
    CaFile(PathBuf),
}

/// A text that is shown to nobody: `Debug` hides it, and there is no `Display`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes a bearer token, `chy_<id>_<secret>`, without surrounding white space.
    pub fn new(text: &str) -> Result<Self, ClientError> {
        let text = text.trim();
        let fits = text.strip_prefix("chy_").is_some_and(|rest| {
            rest.contains('_') && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        });
        if fits && text.len() <= 512 { Ok(Self(text.to_owned())) } else { Err(ClientError::Token) }
    }

    /// The public id inside the token, if it has the usual form.
    pub fn token_id(&self) -> Option<TokenId> {
        let (id, _) = self.0.strip_prefix("chy_")?.split_once('_')?;
        TokenId::parse(id).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Names one wish, so that asking again gives the first answer again: 1 to 128 of letters, digits and `-_.:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A key that nobody has used.
    pub fn random() -> Result<Self, ClientError> {
        Nonce::random().map(|n| Self(n.as_str().to_owned())).map_err(|_| ClientError::Random)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for IdempotencyKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        if (1..=128).contains(&text.len()) && text.bytes().all(word) {
            Ok(Self(text.to_owned()))
        } else {
            Err("an idempotency key is 1 to 128 of letters, digits and - _ . :".into())
        }
    }
}

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server said no, in its own words.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// An answer that is no document of this API: a proxy's page, or another server.
    #[error("{url} answered with HTTP status {status}, which is no answer of this API")]
    Status {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// No connection. Nothing was received; a POST may be sent again with the same idempotency key.
    #[error("cannot connect to {url}")]
    Connect {
        /// What was asked.
        url: String,
        /// What the network says.
        source: reqwest::Error,
    },
    /// A connection, but not to a server whose certificate is trusted.
    #[error("no trusted TLS 1.3 connection to {url}")]
    Tls {
        /// What was asked.
        url: String,
        /// What the handshake says.
        source: reqwest::Error,
    },
    /// Connected, and the connection broke. Whether the server acted is not known.
    #[error("the connection to {url} broke")]
    Broken {
        /// What was asked.
        url: String,
        /// What the network says.
        source: reqwest::Error,
    },
    /// No full answer in time. Whether the server acted is not known.
    #[error("{url} did not answer in time")]
    Timeout {
        /// What was asked.
        url: String,
    },
    /// A body above its limit; it was not read on.
    #[error("the answer of {url} is longer than {limit} bytes")]
    TooLarge {
        /// What was asked.
        url: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// A body that is not the document that was asked for: client and server are of different versions.
    #[error("the answer of {url} is not the expected document: {why}")]
    Shape {
        /// What was asked.
        url: String,
        /// What does not fit.
        why: String,
    },
    /// A base URL that cannot be used.
    #[error("{url:?} is no URL of a Chancery server: {why}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A CA file that cannot be used.
    #[error("cannot use the CA file {}: {why}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A text that is no bearer token. It is not shown.
    #[error("this is no API token: one looks like chy_<id>_<secret>")]
    Token,
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    Random,
}

impl ClientError {
    /// The exit code of a command that ends with this error; the command line's `--help` lists the codes.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Problem(problem) => problem_exit_code(problem),
            Self::Status { status, .. } => status_exit_code(*status),
            Self::Connect { .. } | Self::Broken { .. } | Self::Timeout { .. } => 9,
            Self::Tls { .. } | Self::CaFile { .. } => 78,
            Self::Url { .. } => 2,
            Self::Token => 4,
            Self::TooLarge { .. } | Self::Shape { .. } | Self::Random => 1,
        }
    }

    /// Whether the same call can succeed later without a change. For a POST only with the same idempotency key.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.retryable,
            other => other.exit_code() == 9,
        }
    }
}

fn problem_exit_code(problem: &Problem) -> u8 {
    match problem.code.as_str() {
        "denied" => 3,
        // The request has ended, and the same one never goes on.
        "unknown-outcome" | "signing-failed" | "keeper-refused" => 8,
        _ if problem.retryable => 9,
        _ => status_exit_code(problem.status),
    }
}

fn status_exit_code(status: u16) -> u8 {
    match status {
        401 | 403 => 4,
        404 => 5,
        409 | 422 => 6,
        429 | 502..=504 => 9,
        400..=499 => 2,
        _ => 1,
    }
}

/// A server's readiness together with the time it believes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What `GET /readyz` says.
    pub readiness: Readiness,
    /// The answer's `Date` header (whole seconds), if it has one that can be read.
    pub date: Option<Time>,
}

/// A connection pool to one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Secret>,
}

impl Client {
    /// A client for the server at `base`, such as `https://chancery.example.com`. Nothing is sent yet.
    pub fn new(base: &str, trust: &Trust, token: Option<Secret>) -> Result<Self, ClientError> {
        let base = parse_base(base)?;
        let builder = reqwest::Client::builder()
            .user_agent(concat!("chancery/", env!("CARGO_PKG_VERSION")))
            .https_only(true)
            .tls_version_min(reqwest::tls::Version::TLS_1_3)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(REQUEST_DEADLINE);
        let builder = match trust {
            Trust::System => builder,
            Trust::CaFile(path) => builder.tls_certs_only(read_ca(path)?),
        };
        let http =
            builder.build().map_err(|e| ClientError::Url { url: base.to_string(), why: chain_text(&e) })?;
        Ok(Self { http, base, token })
    }

    /// The same server with another token.
    #[must_use]
    pub fn with_token(&self, token: Secret) -> Self {
        Self { http: self.http.clone(), base: self.base.clone(), token: Some(token) }
    }

    /// The server's URL, without a final `/`.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// `POST /v1/auth/exchange`: a session for the token of a CI job, which is used up by it.
    pub async fn exchange(&self, token: &str) -> Result<Session, ClientError> {
        let body = Exchange { token: token.to_owned() };
        self.document(self.call(Method::POST, "v1/auth/exchange").json(&body)).await
    }

    /// `POST /v1/requests`: asks for a signature. The same `key` with the same request gives the same answer.
    pub async fn sign(&self, request: &NewRequest, key: &IdempotencyKey) -> Result<Request, ClientError> {
        let call = self.call(Method::POST, "v1/requests").query(&[("touch", "none")]);
        let call = call.header("Idempotency-Key", key.as_str());
        self.document(call.json(request)).await
    }

    /// `GET /v1/requests/{id}`: where a request stands; waits up to `wait_s` seconds (at most
    /// [`LONG_POLL_MAX_S`]) for it to become final.
    pub async fn request(&self, id: &RequestId, wait_s: u64) -> Result<Request, ClientError> {
        let call = self.call(Method::GET, &format!("v1/requests/{id}"));
        let wait = wait_s.min(LONG_POLL_MAX_S);
        self.document(if wait == 0 { call } else { call.query(&[("wait", wait)]) }).await
    }

    /// As [`Client::request`], and ends also when the request waits for a touch other than the one of which `known` is the
    /// `until`.
    pub async fn follow(
        &self,
        id: &RequestId,
        wait_s: u64,
        known: Option<Time>,
    ) -> Result<Request, ClientError> {
        let touch = known.map_or_else(|| "none".to_owned(), |until| until.to_string());
        let wait = wait_s.min(LONG_POLL_MAX_S).to_string();
        let call = self.call(Method::GET, &format!("v1/requests/{id}"));
        self.document(call.query(&[("wait", wait), ("touch", touch)])).await
    }

    /// `POST /v1/repositories`: makes a collection's root.
    pub async fn create_repository(&self, new: &NewRepository) -> Result<RepositoryInfo, ClientError> {
        self.document(self.call(Method::POST, "v1/repositories").json(new)).await
    }

    /// `GET /v1/repositories?name=`: one collection.
    pub async fn repository(&self, name: &Repository) -> Result<RepositoryInfo, ClientError> {
        self.document(self.call(Method::GET, "v1/repositories").query(&[("name", name.as_str())])).await
    }

    /// `GET /v1/repositories/touch?name=`: the touch that a repository's own files wait for; waits up to `wait_s` seconds (at
    /// most [`LONG_POLL_MAX_S`]) for one other than the one of which `known` is the `until`.
    pub async fn awaited_touch(
        &self,
        name: &Repository,
        wait_s: u64,
        known: Option<Time>,
    ) -> Result<AwaitedTouch, ClientError> {
        let touch = known.map_or_else(|| "none".to_owned(), |until| until.to_string());
        let wait = wait_s.min(LONG_POLL_MAX_S).to_string();
        let query = [("name", name.as_str()), ("wait", &wait), ("touch", &touch)];
        self.document(self.call(Method::GET, "v1/repositories/touch").query(&query)).await
    }

    /// `GET /v1/keys`.
    pub async fn keys(&self) -> Result<Keys, ClientError> {
        self.document(self.call(Method::GET, "v1/keys")).await
    }

    /// `GET /v1/keepers` (scope `audit` or `admin`).
    pub async fn keepers(&self) -> Result<Keepers, ClientError> {
        self.document(self.call(Method::GET, "v1/keepers")).await
    }

    /// `GET /v1/tokens` (scope `admin`).
    pub async fn tokens(&self) -> Result<Tokens, ClientError> {
        self.document(self.call(Method::GET, "v1/tokens")).await
    }

    /// `POST /v1/tokens` (scope `admin`).
    pub async fn create_token(&self, new: &NewToken) -> Result<CreatedToken, ClientError> {
        self.document(self.call(Method::POST, "v1/tokens").json(new)).await
    }

    /// `DELETE /v1/tokens/{id}` (scope `admin`).
    pub async fn revoke_token(&self, id: &TokenId) -> Result<(), ClientError> {
        let (response, url) = self.send(self.call(Method::DELETE, &format!("v1/tokens/{id}"))).await?;
        checked(response, &url).await.map(drop)
    }

    /// `GET /readyz`: also an answer when the server is not ready.
    pub async fn readyz(&self) -> Result<Probe, ClientError> {
        let (response, url) = self.send(self.call(Method::GET, "readyz")).await?;
        let date = header_text(&response, header::DATE).and_then(|text| http_date(&text));
        let ours = response.status().is_success() || response.status() == StatusCode::SERVICE_UNAVAILABLE;
        let response = if ours { response } else { checked(response, &url).await? };
        let body = read_body(response, &url, MAX_DOCUMENT).await?;
        Ok(Probe { readiness: parse(&body, &url)?, date })
    }

    /// `GET /v1/log/checkpoint`: the newest published note. Its signature is the caller's to check.
    pub async fn log_checkpoint(&self) -> Result<String, ClientError> {
        let (response, url) = self.send(self.call(Method::GET, "v1/log/checkpoint")).await?;
        let body = read_body(checked(response, &url).await?, &url, MAX_DOCUMENT).await?;
        String::from_utf8(body).map_err(|_| ClientError::Shape { url, why: "not UTF-8 text".into() })
    }

    /// `GET /v1/log/<path>`: a published file by its C2SP tlog-tiles path, such as `tile/0/000.p/5`; `None` where
    /// there is none. Entry bundles need scope `audit`.
    pub async fn log_file(&self, path: &str) -> Result<Option<Vec<u8>>, ClientError> {
        let (response, url) = self.send(self.call(Method::GET, &format!("v1/log/{path}"))).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        read_body(checked(response, &url).await?, &url, MAX_LOG_FILE).await.map(Some)
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", url.path()));
        let call = self.http.request(method, url).header(header::ACCEPT, "application/json, */*;q=0.1");
        match &self.token {
            Some(secret) => call.bearer_auth(&secret.0),
            None => call,
        }
    }

    async fn send(&self, call: RequestBuilder) -> Result<(Response, String), ClientError> {
        let call = call.build().map_err(|e| broken(self.base(), e))?;
        let url = call.url().to_string();
        match self.http.execute(call).await {
            Ok(response) => Ok((response, url)),
            Err(source) => Err(broken(&url, source)),
        }
    }

    async fn document<T: DeserializeOwned>(&self, call: RequestBuilder) -> Result<T, ClientError> {
        let (response, url) = self.send(call).await?;
        let body = read_body(checked(response, &url).await?, &url, MAX_DOCUMENT).await?;
        parse(&body, &url)
    }
}

/// The document that another server than Chancery answers with.
pub(crate) async fn document_of<T: DeserializeOwned>(
    client: &reqwest::Client,
    call: RequestBuilder,
    url: &str,
) -> Result<T, ClientError> {
    let call = call.build().map_err(|e| broken(url, e))?;
    let response = client.execute(call).await.map_err(|e| broken(url, e))?;
    let body = read_body(checked(response, url).await?, url, MAX_DOCUMENT).await?;
    parse(&body, url)
}

/// The texts of an error and of everything beneath it, in one line.
pub fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        below = cause.source();
    }
    text
}

fn parse_base(text: &str) -> Result<Url, ClientError> {
    let bad = |why: &str| ClientError::Url { url: text.to_owned(), why: why.to_owned() };
    let mut url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
    if url.scheme() != "https" {
        return Err(bad("it starts with https://, since a token must not travel in clear"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("a user name or password does not belong into it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it has no '?' and no '#'"));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn read_ca(path: &Path) -> Result<Vec<reqwest::Certificate>, ClientError> {
    let bad = |why: String| ClientError::CaFile { path: path.to_owned(), why };
    let length = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if length > MAX_CA_FILE {
        return Err(bad(format!("it is longer than {MAX_CA_FILE} bytes")));
    }
    let pem = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| bad(chain_text(&e)))?;
    if certificates.is_empty() { Err(bad("no PEM certificate is in it".into())) } else { Ok(certificates) }
}

/// Sorts what went wrong below HTTP.
fn broken(url: &str, source: reqwest::Error) -> ClientError {
    let url = url.to_owned();
    if source.is_connect() && is_refused_by_tls(&source) {
        ClientError::Tls { url, source: source.without_url() }
    } else if source.is_connect() {
        ClientError::Connect { url, source: source.without_url() }
    } else if source.is_timeout() {
        ClientError::Timeout { url }
    } else {
        ClientError::Broken { url, source: source.without_url() }
    }
}

/// Whether one side did not accept the other's certificate or protocol, which no second try mends. A connection that
/// was cut in the handshake is none: its server is starting or stopping.
fn is_refused_by_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    // As its source, an I/O error names the source of what it wraps, and not the thing itself.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match wrapped {
        Some(inner) => is_refused_by_tls(inner),
        None => error.source().is_some_and(is_refused_by_tls),
    }
}

/// Lets a success through and turns everything else into the error it is.
async fn checked(response: Response, url: &str) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let unknown = || ClientError::Status { url: url.to_owned(), status: status.as_u16() };
    let kind = header_text(&response, header::CONTENT_TYPE).unwrap_or_default();
    if !kind.starts_with("application/problem+json") {
        return Err(unknown());
    }
    let body = read_body(response, url, MAX_DOCUMENT).await?;
    Err(serde_json::from_slice(&body).map_or_else(|_| unknown(), |p| ClientError::Problem(Box::new(p))))
}

async fn read_body(mut response: Response, url: &str, limit: usize) -> Result<Vec<u8>, ClientError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| broken(url, e))? {
        if body.len().saturating_add(chunk.len()) > limit {
            return Err(ClientError::TooLarge { url: url.to_owned(), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn parse<T: DeserializeOwned>(body: &[u8], url: &str) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|e| ClientError::Shape { url: url.to_owned(), why: e.to_string() })
}

/// RFC 9110 section 5.6.7 in the one form that servers send: `Mon, 23 Nov 2026 10:20:30 GMT`.
fn http_date(text: &str) -> Option<Time> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, date) = text.split_once(", ")?;
    let mut words = date.strip_suffix(" GMT")?.split(' ');
    let (day, month, year, clock) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = 1 + MONTHS.iter().position(|name| *name == month)?;
    if words.next().is_some() { None } else { format!("{year}-{month:02}-{day}T{clock}.000Z").parse().ok() }
}

fn header_text(response: &Response, name: header::HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_a_time_or_nothing() {
        let read = |text: &str| http_date(text).map(|t| t.to_string());
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT").as_deref(), Some("1994-11-06T08:49:37.000Z"));
        assert_eq!(read("Thu, 31 Dec 2026 23:59:59 GMT").as_deref(), Some("2026-12-31T23:59:59.000Z"));
        for bad in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
