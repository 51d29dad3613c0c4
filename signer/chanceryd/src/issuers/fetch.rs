//! Fetching an issuer's keys.
//!
//! Promises: only URLs of the configuration are asked, and the one URL on the same host that its discovery document names;
//! no redirect is followed, no answer read further than its limit.

use identity::{Issuer, Jwks, JwksError, KeySource, MAX_JWKS_BYTES};
use serde::Deserialize;
use std::{path::Path, time::Duration};

/// For each of the two answers.
const DEADLINE: Duration = Duration::from_secs(10);
/// Largest discovery document: providers' have two kilobytes.
const MAX_DISCOVERY_BYTES: usize = 64 * 1024;

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{}", api::chain_text(.0))]
    Http(#[from] reqwest::Error),
    #[error("{url} answered {status}")]
    Status { url: String, status: u16 },
    #[error("{url} answered with more than {limit} bytes")]
    TooLarge { url: String, limit: usize },
    #[error("{0} is no discovery document")]
    NoDocument(String),
    #[error("the discovery document is of the issuer {0:?}")]
    OtherIssuer(String),
    #[error(
        "the discovery document names the keys of {0:?}, which is not on the issuer's host: give jwks_url if that is right"
    )]
    OtherHost(String),
    #[error("{0}")]
    File(#[from] std::io::Error),
    #[error("{0}")]
    Keys(#[from] JwksError),
}

/// A client that goes nowhere by itself.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher(reqwest::Client);

/// Of an OpenID Connect discovery document what is needed (Discovery 1.0, 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Fetcher {
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(DEADLINE)
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self(client))
    }

    /// The keys as the issuer has them now: the document, and what was read of it.
    pub(crate) async fn keys(&self, issuer: &Issuer) -> Result<(Vec<u8>, Jwks), FetchError> {
        let bytes = match issuer.source() {
            KeySource::File(path) => return read(path),
            KeySource::Url(url) => self.get(url, MAX_JWKS_BYTES).await?,
            KeySource::Discovery(url) => {
                let document = self.get(url, MAX_DISCOVERY_BYTES).await?;
                let Discovery { issuer: of, jwks_uri } =
                    serde_json::from_slice(&document).map_err(|_| FetchError::NoDocument(url.clone()))?;
                if of != issuer.url() {
                    return Err(FetchError::OtherIssuer(of.chars().take(80).collect()));
                }
                if !issuer.may_have_keys_at(&jwks_uri) {
                    return Err(FetchError::OtherHost(jwks_uri.chars().take(80).collect()));
                }
                self.get(&jwks_uri, MAX_JWKS_BYTES).await?
            }
        };
        let keys = Jwks::parse(&bytes)?;
        Ok((bytes, keys))
    }

    async fn get(&self, url: &str, limit: usize) -> Result<Vec<u8>, FetchError> {
        let mut answer = self.0.get(url).header("Accept", "application/json").send().await?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(FetchError::Status { url: url.to_owned(), status });
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > limit {
                return Err(FetchError::TooLarge { url: url.to_owned(), limit });
            }
        }
        Ok(bytes)
    }
}

/// The keys of a file. It is small and on this host.
pub(crate) fn read(path: &Path) -> Result<(Vec<u8>, Jwks), FetchError> {
    let bytes = std::fs::read(path)?;
    let keys = Jwks::parse(&bytes)?;
    Ok((bytes, keys))
}
