//! An issuer as the operator has configured it: `[[issuer]]` of `chanceryd.toml`.

use crate::map::{ClaimMap, MapError};
use serde::Deserialize;
use std::{fmt, path::PathBuf};

/// Longest life of a token that may be configured, in seconds: a day, the longest job that providers run by default.
pub const MAX_LIFETIME_S: u32 = 86_400;
/// Longest URL, audience, owner or name of a provider.
const MAX_TEXT: usize = 512;
/// Most owners of one issuer.
const MAX_OWNERS: usize = 64;

/// `[[issuer]]`, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// The operator's name for it: part of every principal for ever.
    pub name: IssuerName,
    /// The kind of provider: it names the claim map.
    pub provider: String,
    /// What `iss` must be, to the byte.
    pub issuer: String,
    /// What `aud` must be: the one audience that stands for this service.
    pub audience: String,
    /// The algorithms that a signature may have.
    #[serde(default = "rs256")]
    pub algorithms: Vec<Algorithm>,
    /// Owners whose jobs are accepted, by their immutable ids. Must be given for issuers that serve everybody.
    #[serde(default)]
    pub owners: Vec<String>,
    /// Where the keys are, instead of asking the issuer's discovery document for it.
    pub jwks_url: Option<String>,
    /// A file with the keys: nobody is asked for them.
    pub jwks_file: Option<PathBuf>,
    /// A file with a claim map, instead of the one that comes with the service.
    pub claims: Option<PathBuf>,
    /// Longest time from `iat` to `exp`, in seconds; by default what the claim map says.
    pub max_lifetime_s: Option<u32>,
    /// Longest time since `iat`, in seconds; by default the same as `max_lifetime_s`.
    pub max_age_s: Option<u32>,
}

fn rs256() -> Vec<Algorithm> {
    vec![Algorithm::RS256]
}

/// The name of an issuer: 1 to 32 of `a-z 0-9 -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct IssuerName(String);

impl IssuerName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for IssuerName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fits = (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text)) } else { Err(format!("issuer name {text:?}: 1 to 32 of a-z 0-9 and '-'")) }
    }
}

impl fmt::Display for IssuerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Algorithms of RFC 7518, 3.1, and RFC 8037 that verify with a public key. There are no others: no `none`, no HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "their names are those of the RFCs")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// The value of `alg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }
}

/// Where the keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The issuer's discovery document, which names a URL on the same host.
    Discovery(String),
    /// This URL.
    Url(String),
    /// This file.
    File(PathBuf),
}

/// Why an issuer cannot be configured so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A URL of another form.
    #[error("{0:?} is no URL of the form https://host/path; http only for localhost, 127.0.0.1 and [::1]")]
    Url(String),
    /// Empty, too long, or with spaces or control characters.
    #[error("{0} must be 1 to {MAX_TEXT} printable characters without spaces")]
    Text(&'static str),
    /// No algorithm.
    #[error("algorithms is empty: no token could ever be verified")]
    NoAlgorithm,
    /// Both places for keys.
    #[error("jwks_url and jwks_file are both given: keys come from one place")]
    TwoSources,
    /// A number out of its range.
    #[error("{0} must be 1 to {MAX_LIFETIME_S}")]
    Seconds(&'static str),
    /// Everybody can have tokens of this issuer.
    #[error(
        "everybody's jobs get tokens of this issuer: name yours with owners = [\"ID\"], the immutable ids of your organisations"
    )]
    OwnersNeeded,
    /// Owners that no claim could ever match.
    #[error("the claim map makes no ownerId, so owners could match nothing")]
    NoOwner,
    /// More than 64.
    #[error("more than {MAX_OWNERS} owners")]
    TooManyOwners,
    /// The claim map is not usable.
    #[error("the claim map: {0}")]
    Map(#[from] MapError),
}

/// An issuer whose configuration was checked.
#[derive(Debug, Clone)]
pub struct Issuer {
    pub(crate) name: IssuerName,
    pub(crate) url: String,
    pub(crate) host: String,
    pub(crate) audience: String,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) owners: Vec<String>,
    pub(crate) max_lifetime_s: i64,
    pub(crate) max_age_s: i64,
    pub(crate) map: ClaimMap,
    source: KeySource,
}

impl Issuer {
    /// Checks a configuration. `claims` is the text of the operator's own claim map, if he has given one.
    pub fn new(config: IssuerConfig, claims: Option<&str>) -> Result<Self, ConfigError> {
        let map = match claims {
            Some(text) => ClaimMap::parse(text)?,
            None => ClaimMap::built_in(&config.provider)?,
        };
        if map.provider() != config.provider {
            return Err(MapError::OtherProvider(map.provider).into());
        }
        let host = host_of(&config.issuer)?.to_owned();
        text("audience", &config.audience)?;
        if config.algorithms.is_empty() {
            return Err(ConfigError::NoAlgorithm);
        }
        check_owners(&config, &map)?;
        let max_lifetime_s = seconds("max_lifetime_s", config.max_lifetime_s.unwrap_or(map.lifetime_s))?;
        let max_age_s = match config.max_age_s {
            Some(age) => seconds("max_age_s", age)?,
            None => max_lifetime_s,
        };
        let source = match (config.jwks_url, config.jwks_file) {
            (Some(_), Some(_)) => return Err(ConfigError::TwoSources),
            (Some(url), None) => host_of(&url).map(|_| KeySource::Url(url.clone()))?,
            (None, Some(file)) => KeySource::File(file),
            // OpenID Connect Discovery 1.0, 4.1: a slash at the end is taken off.
            (None, None) => {
                let base = config.issuer.strip_suffix('/').unwrap_or(&config.issuer);
                KeySource::Discovery(format!("{base}/.well-known/openid-configuration"))
            }
        };
        Ok(Self {
            name: config.name,
            url: config.issuer,
            host,
            audience: config.audience,
            algorithms: config.algorithms,
            owners: config.owners,
            max_lifetime_s,
            max_age_s,
            map,
            source,
        })
    }

    /// The operator's name for it.
    pub fn name(&self) -> &IssuerName {
        &self.name
    }

    /// What `iss` must be.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its keys come from.
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// Whether a URL that the discovery document names may be asked for keys: one of the same scheme and host.
    pub fn may_have_keys_at(&self, url: &str) -> bool {
        let scheme = |url: &str| url.split_once("://").map(|(scheme, _)| scheme.to_owned());
        host_of(url).is_ok_and(|host| host == self.host) && scheme(url) == scheme(&self.url)
    }
}

fn check_owners(config: &IssuerConfig, map: &ClaimMap) -> Result<(), ConfigError> {
    if config.owners.len() > MAX_OWNERS {
        return Err(ConfigError::TooManyOwners);
    }
    config.owners.iter().try_for_each(|owner| text("owners", owner))?;
    if !config.owners.is_empty() && map.ci.owner_id.is_none() {
        return Err(ConfigError::NoOwner);
    }
    // GitHub Enterprise has issuers below the public one's URL: each serves one enterprise.
    let shared = map.shared_issuers.contains(&config.issuer);
    if shared && config.owners.is_empty() { Err(ConfigError::OwnersNeeded) } else { Ok(()) }
}

fn text(what: &'static str, text: &str) -> Result<(), ConfigError> {
    let fits = (1..=MAX_TEXT).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(()) } else { Err(ConfigError::Text(what)) }
}

fn seconds(what: &'static str, seconds: u32) -> Result<i64, ConfigError> {
    if (1..=MAX_LIFETIME_S).contains(&seconds) { Ok(seconds.into()) } else { Err(ConfigError::Seconds(what)) }
}

/// Host and port of a URL that may be asked: no user, query or fragment, and plain HTTP on this host only.
fn host_of(url: &str) -> Result<&str, ConfigError> {
    let bad = || ConfigError::Url(url.chars().take(80).collect());
    let plain = |b: u8| b.is_ascii_graphic() && !b"?#@\\\"<>^`{|}".contains(&b);
    if url.len() > MAX_TEXT || !url.bytes().all(plain) {
        return Err(bad());
    }
    let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
    let host = rest.split('/').next().unwrap_or_default();
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|n| n > 0 && n.to_string() == port));
    let here = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
    let name_fits = here
        || (!name.is_empty()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b)));
    let scheme_fits = scheme == "https" || (scheme == "http" && here);
    if port_fits && name_fits && scheme_fits { Ok(host) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GITHUB: &str = r#"
name = "github"
provider = "github"
issuer = "https://token.actions.githubusercontent.com"
audience = "https://sign.example.com"
owners = ["1234"]
"#;

    fn issuer(text: &str) -> Result<Issuer, ConfigError> {
        Issuer::new(toml::from_str(text).unwrap(), None)
    }

    #[test]
    fn an_issuer_needs_little_and_gets_safe_defaults() {
        let issuer = issuer(GITHUB).unwrap();
        assert_eq!(
            (issuer.algorithms.as_slice(), issuer.max_lifetime_s),
            ([Algorithm::RS256].as_slice(), 600)
        );
        let discovery = "https://token.actions.githubusercontent.com/.well-known/openid-configuration";
        assert_eq!(*issuer.source(), KeySource::Discovery(discovery.into()));
        assert!(issuer.may_have_keys_at("https://token.actions.githubusercontent.com/.well-known/jwks"));
        for elsewhere in [
            "https://token.actions.githubusercontent.com.evil.example/jwks",
            "http://token.actions.githubusercontent.com/jwks",
            "https://token.actions.githubusercontent.com:8443/jwks",
            "https://x@token.actions.githubusercontent.com/jwks",
            "file:///etc/passwd",
        ] {
            assert!(!issuer.may_have_keys_at(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn an_issuer_that_would_accept_too_much_or_nothing_is_refused() {
        let with = |from: &str, to: &str| {
            assert!(GITHUB.contains(from), "{from}");
            issuer(&GITHUB.replace(from, to)).unwrap_err()
        };
        assert_eq!(with("owners = [\"1234\"]", ""), ConfigError::OwnersNeeded);
        assert_eq!(with("owners", "algorithms = []\nowners"), ConfigError::NoAlgorithm);
        assert_eq!(with("owners", "max_age_s = 0\nowners"), ConfigError::Seconds("max_age_s"));
        assert_eq!(with("owners", "max_lifetime_s = 86401\nowners"), ConfigError::Seconds("max_lifetime_s"));
        assert_eq!(
            with("owners", "jwks_file = \"a\"\njwks_url = \"https://a\"\nowners"),
            ConfigError::TwoSources
        );
        assert_eq!(with("https://sign.example.com", "a b"), ConfigError::Text("audience"));
        assert_eq!(with("provider = \"github\"", "provider = \"kubernetes\""), ConfigError::NoOwner);
        for url in [
            "http://a.example",
            "https://",
            "https://A.example",
            "https://u@a",
            "https://a/?q",
            "a",
            "https://a:0",
        ] {
            assert_eq!(
                with("https://token.actions.githubusercontent.com", url),
                ConfigError::Url(url.into())
            );
        }
        let here = GITHUB.replace("https://token.actions.githubusercontent.com", "http://127.0.0.1:8080/x");
        assert!(issuer(&here).is_ok());
        for (from, to) in [
            ("owners", "admins"),
            ("owners", "algorithms = [\"HS256\"]\nowners"),
            ("owners", "algorithms = [\"none\"]\nowners"),
            ("name = \"github\"", "name = \"Git/Hub\""),
            ("audience = \"https://sign.example.com\"", "audience = [\"https://sign.example.com\"]"),
        ] {
            let text = GITHUB.replace(from, to);
            assert!(toml::from_str::<IssuerConfig>(&text).is_err(), "{text}");
        }
    }
}
