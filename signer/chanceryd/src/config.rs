//! The daemon's configuration: one TOML file, every unknown member refused, every error naming file and member.

mod machines;
mod mirror;
mod witnesses;

pub use machines::MachinesConfig;
pub use mirror::{BucketConfig, MirrorConfig, MirrorPlace};
pub use witnesses::{MaxUnwitnessed, WithoutQuorum, WitnessConfig};

use crate::{fatal::Fatal, issuers};
use identity::IssuerConfig;
use record::{KeeperName, Sha256};
use reqwest::Url;
use serde::Deserialize;
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

/// Largest configuration file: anything longer is a mistake.
const MAX_BYTES: u64 = 256 * 1024;

/// `chanceryd.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where HTTPS is served.
    pub listen: SocketAddr,
    /// The folder of the database.
    pub data: PathBuf,
    /// The folder of the policy files.
    pub policy: PathBuf,
    /// PEM chain of the server's certificate.
    pub tls_certificate: PathBuf,
    /// PEM private key of the server's certificate.
    pub tls_key: PathBuf,
    /// The log keeper.
    pub log: LogConfig,
    /// The signing keepers.
    #[serde(rename = "keeper")]
    pub keepers: Vec<KeeperConfig>,
    /// The registries that may be asked whether an image exists; no other host is ever contacted.
    #[serde(rename = "registry", default)]
    pub registries: Vec<RegistryConfig>,
    /// The issuers whose tokens CI jobs may come with.
    #[serde(rename = "issuer", default)]
    pub issuers: Vec<IssuerConfig>,
    /// Where the published log is copied to.
    #[serde(rename = "mirror", default)]
    pub mirrors: Vec<MirrorConfig>,
    /// The listener for client certificates; without this there is none.
    #[serde(default)]
    pub machines: Option<MachinesConfig>,
    /// How the service copes with its limits.
    #[serde(default)]
    pub limits: Limits,
}

/// Where the log keeper is, and which key it must prove.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Its socket.
    pub socket: PathBuf,
    /// The log key, a C2SP verifier key; its name is the log's origin.
    pub vkey: String,
    /// The witnesses of the published checkpoint; without this nobody is asked.
    #[serde(default)]
    pub witnesses: Option<WitnessConfig>,
}

/// Where a signing keeper is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeeperConfig {
    /// Its name, which it must confirm.
    pub name: KeeperName,
    /// Its socket.
    pub socket: PathBuf,
}

/// A registry that may be asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Host and port as they stand in image names.
    pub host: String,
    /// `https`, or `http` for a registry on this machine.
    #[serde(default)]
    pub scheme: Scheme,
}

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// TLS with the system's roots.
    #[default]
    Https,
    /// Plain HTTP: image bytes are re-hashed, so only availability is at stake.
    Http,
}

impl Scheme {
    /// The word in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// Numbers an operator may turn.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Leaves that a start refills from the log keeper's spool by itself (a fail-over); more needs `chanceryd rebuild`.
    pub refill_leaves: u64,
    /// HTTPS connections at once, of each listener.
    pub connections: usize,
    /// Requests that wait to be signed, over all repositories.
    pub waiting_requests: usize,
    /// Hours from the end of one scrub (everything is read from the disk again) to the next one.
    pub scrub_hours: u64,
    /// How much of the time a scrub reads, in percent: the rest is for those who sign.
    pub scrub_percent: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            refill_leaves: 4096,
            connections: 1024,
            waiting_requests: 4096,
            scrub_hours: 24,
            scrub_percent: 20,
        }
    }
}

impl Config {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, Fatal> {
        Self::read_with_digest(path).map(|(config, _)| config)
    }

    /// Reads and checks the file; also says the SHA-256 of its bytes, for the log. They hold no secret: no member takes one,
    /// and keys and credentials are named by their paths.
    pub fn read_with_digest(path: &Path) -> Result<(Self, Sha256), Fatal> {
        let bad = |why: String| Fatal::Config { path: path.to_owned(), why };
        let size = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(bad(format!("{size} bytes: the limit is {MAX_BYTES}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        let config: Self = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
        config.check().map_err(bad)?;
        Ok((config, Sha256::of(text.as_bytes())))
    }

    fn check(&self) -> Result<(), String> {
        if self.keepers.is_empty() {
            return Err("no [[keeper]]: nothing could ever be signed".into());
        }
        let mut names: Vec<_> = self.keepers.iter().map(|k| k.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|w| w.first() == w.last()) {
            return Err(format!(
                "[[keeper]] {:?} stands there twice",
                twice.first().copied().unwrap_or_default()
            ));
        }
        for registry in &self.registries {
            record::Repository::parse(&format!("{}/x", registry.host))
                .map_err(|e| format!("[[registry]] host {:?}: {e}", registry.host))?;
        }
        if let Some(witnesses) = &self.log.witnesses {
            witnesses.check()?;
        }
        if let Some(machines) = &self.machines {
            machines.check()?;
        }
        issuers::check(&self.issuers)?;
        if self.mirrors.len() > mirror::MAX_MIRRORS {
            return Err(format!("more than {} [[mirror]]", mirror::MAX_MIRRORS));
        }
        let mut places: Vec<_> = self.mirrors.iter().map(|m| m.to.to_string()).collect();
        places.sort_unstable();
        if let Some([twice, _]) = places.array_windows().find(|[a, b]| a == b) {
            return Err(format!("[[mirror]] to = {twice:?} stands there twice"));
        }
        if self.limits.connections == 0 || self.limits.waiting_requests == 0 {
            return Err("[limits] connections and waiting_requests must be at least 1".into());
        }
        if !(1..=8760).contains(&self.limits.scrub_hours) || !(1..=100).contains(&self.limits.scrub_percent) {
            return Err("[limits] scrub_hours must be 1 to 8760 and scrub_percent 1 to 100".into());
        }
        Ok(())
    }
}

/// Whether a URL leads to this machine by what it says: `localhost`, or a loopback address.
pub(crate) fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_on_this_machine_is_told_from_one_elsewhere() {
        for (url, here) in [
            ("http://localhost:8480/", true),
            ("https://127.0.0.1/", true),
            ("https://127.9.9.9:1/x", true),
            ("https://[::1]:8480/", true),
            ("https://[::ffff:127.0.0.1]/", true),
            ("https://localhost.example.com/", false),
            ("https://witness.example.com/", false),
            ("https://192.0.2.7/", false),
            ("https://[2001:db8::7]/", false),
        ] {
            assert_eq!(is_this_machine(&Url::parse(url).unwrap()), here, "{url}");
        }
    }
}
