//! The issuers whose tokens CI jobs come with, and their keys.
//!
//! Promises: nobody is asked for anything because of what a token says, but for the keys of the issuer that the operator has
//! configured, and that at most once a minute; keys that were fetched too long ago verify nothing. It does not know which
//! tokens were used before.

mod fetch;
mod kept;
mod keys;

use crate::{fatal::Fatal, health::Health};
use fetch::Fetcher;
use identity::{Issuer, IssuerConfig, Refused, Token, Verified};
use keys::KeyCache;
use record::{Clock, Time};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

/// Most issuers in one configuration.
const MAX_ISSUERS: usize = 32;

/// The issuers of the configuration, by their URL.
pub(crate) struct Issuers(BTreeMap<String, Arc<KeyCache>>);

/// Why a token says nothing here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unverified {
    /// Its issuer is none of the configuration.
    #[error("no issuer of the configuration has issued this token")]
    UnknownIssuer,
    /// It is not a token of its issuer, not for us, or not for now.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// The issuer's keys are not there, or too old. The same token may be accepted later.
    #[error("the keys of the issuer {0} cannot be had")]
    NoKeys(String),
}

impl Unverified {
    /// A stable word for each.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::UnknownIssuer => "issuer",
            Self::Refused(refused) => refused.code(),
            Self::NoKeys(_) => "no-keys",
        }
    }
}

/// Refuses what would make one issuer two, or two one.
pub(crate) fn check(issuers: &[IssuerConfig]) -> Result<(), String> {
    if issuers.len() > MAX_ISSUERS {
        return Err(format!("more than {MAX_ISSUERS} [[issuer]]"));
    }
    let (mut names, mut urls) = (BTreeSet::new(), BTreeSet::new());
    for issuer in issuers {
        if !names.insert(issuer.name.as_str()) {
            return Err(format!("[[issuer]] name = {:?} stands there twice", issuer.name.as_str()));
        }
        if !urls.insert(issuer.issuer.as_str()) {
            return Err(format!("[[issuer]] issuer = {:?} stands there twice", issuer.issuer));
        }
    }
    Ok(())
}

impl Issuers {
    /// Checks every issuer, and takes the keys that were kept of it. Nobody is asked yet.
    pub(crate) fn open(
        configured: &[IssuerConfig],
        data: &Path,
        clock: &Arc<dyn Clock>,
        health: &Arc<Health>,
    ) -> Result<Self, Fatal> {
        let fetcher = Fetcher::new().map_err(|e| Fatal::Unavailable {
            what: "the client for issuers' keys".into(),
            why: e.to_string(),
        })?;
        let mut issuers = BTreeMap::new();
        for config in configured {
            let issuer = checked(config)?;
            let kept = kept::Kept::in_folder(data, issuer.name().as_str());
            let url = issuer.url().to_owned();
            let cache = KeyCache::new(issuer, fetcher.clone(), kept, clock.clone(), health.clone());
            issuers.insert(url, Arc::new(cache));
        }
        Ok(Self(issuers))
    }

    /// Keeps the keys of every issuer fresh, until the daemon ends.
    pub(crate) fn start(&self) {
        for cache in self.0.values() {
            tokio::spawn(cache.clone().run());
        }
    }

    /// Verifies a token in its compact form; also says whose it is, by the issuer's URL.
    pub(crate) async fn verify(&self, token: &str, now: Time) -> Result<(String, Verified), Unverified> {
        let token = Token::parse(token)?;
        let found = token.issuer().and_then(|url| self.0.get_key_value(url));
        let (url, cache) = found.ok_or(Unverified::UnknownIssuer)?;
        Ok((url.clone(), cache.verify(&token, now).await?))
    }

    /// Whether an issuer of this name is in the configuration: a session of one that was taken out is worth nothing.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.values().any(|cache| cache.issuer().name().as_str() == name)
    }
}

fn checked(config: &IssuerConfig) -> Result<Issuer, Fatal> {
    let bad = |why: String| Fatal::Config { path: format!("[[issuer]] {}", config.name).into(), why };
    let claims = match &config.claims {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            Some(text.map_err(|e| bad(format!("claims = {:?}: {e}", path.display())))?)
        }
        None => None,
    };
    let issuer = Issuer::new(config.clone(), claims.as_deref()).map_err(|e| bad(e.to_string()))?;
    // A file that cannot be read now would be found out only when the first job comes.
    if let identity::KeySource::File(path) = issuer.source() {
        fetch::read(path).map_err(|e| bad(format!("jwks_file = {:?}: {e}", path.display())))?;
    }
    Ok(issuer)
}
