//! A mirror in a bucket of S3, or of a server that speaks its protocol.
//!
//! Promises: only the configured server is spoken to: no redirect, no proxy, no service that hands out credentials. What it
//! says is cut to a code and a few words before anybody sees it.

use super::{
    credentials::Credentials,
    place::{CHECKPOINT, PlaceError},
};
use crate::config::BucketConfig;
use futures_util::{StreamExt, TryStreamExt};
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, PutOptions,
    PutPayload, RetryConfig,
    aws::AmazonS3Builder,
    client::{HttpClient, HttpConnector},
    path::Path,
};
use reqwest::Certificate;
use std::{sync::Arc, time::Duration};
use tlog::TilePath;

/// For a connection, and for one request with its answer.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(15);
/// A request that the server could not do now is sent again so often; after that the round is.
const MAX_RETRIES: usize = 2;
/// Characters of what the HTTP client or the server says that are shown.
const MAX_SAID: usize = 300;
/// A tile never changes.
const IMMUTABLE: &str = "max-age=31536000, immutable";

/// A bucket and what stands before each path.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    /// What caches between here and readers may keep the tiles.
    shared: &'static str,
    credentials: Option<Credentials>,
}

impl Bucket {
    /// Reads the credentials and makes a client; the server is not asked anything.
    pub(super) fn open(config: &BucketConfig, entries: bool) -> Result<Self, PlaceError> {
        let unusable = |e: Error| PlaceError::Server(format!("its client: {e}"));
        let credentials = Credentials::read(&config.credentials_file)?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            .with_access_key_id(&credentials.access_key_id)
            .with_secret_access_key(&credentials.secret_access_key)
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: MAX_RETRIES,
                retry_timeout: REQUEST,
            })
            .with_http_connector(Connector::new(config)?);
        if let Some(token) = &credentials.session_token {
            builder = builder.with_token(token);
        }
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        let store: Arc<dyn ObjectStore> = Arc::new(builder.build().map_err(unusable)?);
        Ok(Self { credentials: Some(credentials), ..Self::over(store, &config.prefix, entries) })
    }

    /// Any store of objects.
    pub(super) fn over(store: Arc<dyn ObjectStore>, prefix: &str, entries: bool) -> Self {
        let shared = if entries { "private" } else { "public" };
        Self { store, prefix: prefix.to_owned(), shared, credentials: None }
    }

    pub(super) async fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, PlaceError> {
        let found = match self.store.get(&self.key(path)).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|e| self.failed(&e))?,
        };
        let bytes = found.meta.size;
        if bytes > most as u64 {
            return Err(PlaceError::TooLarge { path: path.to_owned(), bytes, most });
        }
        Ok(Some(found.bytes().await.map_err(|e| self.failed(&e))?.to_vec()))
    }

    pub(super) async fn has(&self, path: &str) -> Result<bool, PlaceError> {
        match self.store.head(&self.key(path)).await {
            Err(Error::NotFound { .. }) => Ok(false),
            found => found.map(|_| true).map_err(|e| self.failed(&e)),
        }
    }

    pub(super) async fn write(&self, path: &str, bytes: Vec<u8>) -> Result<(), PlaceError> {
        let (kind, cache) = match path {
            CHECKPOINT => ("text/plain; charset=utf-8", "no-cache".to_owned()),
            _ => ("application/octet-stream", format!("{}, {IMMUTABLE}", self.shared)),
        };
        let attributes = Attributes::from_iter([
            (Attribute::ContentType, kind.to_owned()),
            (Attribute::CacheControl, cache),
        ]);
        let options = PutOptions { attributes, ..PutOptions::default() };
        let written = self.store.put_opts(&self.key(path), PutPayload::from(bytes), options).await;
        written.map(drop).map_err(|e| self.failed(&e))
    }

    pub(super) async fn has_entries(&self) -> Result<bool, PlaceError> {
        let first = self.store.list(Some(&self.key("tile/entries"))).next().await;
        first.transpose().map(|first| first.is_some()).map_err(|e| self.failed(&e))
    }

    pub(super) async fn partial_tiles(&self) -> Result<Vec<TilePath>, PlaceError> {
        let mut found = Vec::new();
        let mut names = self.store.list(Some(&self.key("tile")));
        while let Some(object) = names.next().await {
            let key = object.map_err(|e| self.failed(&e))?.location;
            let path = self.path(&key).filter(TilePath::is_partial).map(|path| path.full());
            // Those of one tile are listed one after the other.
            found.extend(path.filter(|path| found.last() != Some(path)));
        }
        Ok(found)
    }

    pub(super) async fn remove_partials(&self, full: TilePath) -> Result<(), PlaceError> {
        let names = self.store.list(Some(&self.key(&format!("{full}.p"))));
        let keys: Vec<_> =
            names.map_ok(|object| object.location).try_collect().await.map_err(|e| self.failed(&e))?;
        for key in keys.iter().filter(|key| self.path(key).is_some_and(|path| path.is_partial())) {
            match self.store.delete(key).await {
                Err(Error::NotFound { .. }) => {}
                removed => removed.map_err(|e| self.failed(&e))?,
            }
        }
        Ok(())
    }

    fn key(&self, path: &str) -> Path {
        Path::from(format!("{}/{path}", self.prefix))
    }

    /// The tile that an object is, if it is one.
    fn path(&self, key: &Path) -> Option<TilePath> {
        let path = key.as_ref().strip_prefix(&self.prefix)?;
        TilePath::parse(path.strip_prefix('/').unwrap_or(path)).ok()
    }

    fn failed(&self, error: &Error) -> PlaceError {
        let said = said(error);
        let said = self.credentials.as_ref().map_or(said.clone(), |credentials| credentials.redact(&said));
        PlaceError::Server(match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                format!(
                    "the bucket's server refuses: {said}; look at credentials_file and the bucket's policy"
                )
            }
            Error::NotFound { .. } => format!("there is no such bucket: {said}"),
            _ => said,
        })
    }
}

/// What an error says, and its first cause.
fn said(error: &Error) -> String {
    let (text, mut cause): (_, &dyn std::error::Error) = (error.to_string(), error);
    while let Some(source) = cause.source() {
        cause = source;
    }
    let (said, cause) = (words(&text), cause.to_string());
    // Most errors repeat their cause.
    if text.contains(&cause) { said } else { format!("{said}: {}", words(&cause)) }
}

/// A text of the client, without the body of the server's answer but for the code in it, since bodies may repeat
/// credentials; and without what is different each time, such as how long it took.
fn words(text: &str) -> String {
    let code =
        text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let before = text.split_once('<').map_or(text, |(before, _)| before).trim_end_matches([':', ' ', '\n']);
    let before = before.rsplit_once(" - ").map_or(before, |(_, what)| what);
    let words: String = before.chars().take(MAX_SAID).map(|c| if c.is_control() { ' ' } else { c }).collect();
    match code.filter(|code| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric())) {
        Some(code) => format!("{words} {code}"),
        None => words,
    }
}

/// Makes the HTTP client that the store uses for everything.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl Connector {
    fn new(config: &BucketConfig) -> Result<Self, PlaceError> {
        let unusable = |e: reqwest::Error| PlaceError::Server(format!("its client: {}", api::chain_text(&e)));
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(path) = &config.ca {
            let pem =
                std::fs::read(path).map_err(|source| PlaceError::File { path: path.clone(), source })?;
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(&pem).map_err(unusable)?);
        }
        builder.build().map(Self).map_err(unusable)
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_servers_answer_the_code_is_shown_and_not_the_body() {
        let body = "<?xml version=\"1.0\"?><Error><Code>ExpiredToken</Code><Token-0>t0ken - </Token-0>";
        let text = format!("Error performing PUT http://x/y in 12ms - Server returned 403 Forbidden: {body}");
        assert_eq!(words(&text), "Server returned 403 Forbidden ExpiredToken");
        assert_eq!(words("no route\nto host"), "no route to host");
        assert_eq!(words(&"x".repeat(1000)).len(), MAX_SAID);
        assert_eq!(words("a: <Code>not a code</Code>"), "a");
        let source = std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into();
        let said = said(&Error::Generic { store: "S3", source });
        assert_eq!(said.matches("connection refused").count(), 1, "{said}");
    }
}
