//! `[machines]`: the listener where a client certificate says who asks.

use serde::Deserialize;
use std::{net::SocketAddr, path::PathBuf};

/// Most CRL files, and most trust domains: one organisation's.
const MAX_LIST: usize = 64;

/// A listener of its own for client certificates: whoever has none does not get past the TLS handshake.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachinesConfig {
    /// Where it is served, with the certificate of the other listener.
    pub listen: SocketAddr,
    /// PEM file with the CAs that may vouch for machines.
    pub roots: PathBuf,
    /// PEM files with the CRLs of every CA in every chain. There is no default: an empty list says that nothing is ever
    /// revoked, as where certificates live for an hour.
    pub crls: Vec<PathBuf>,
    /// The SPIFFE trust domains that these CAs speak for; machines without a SPIFFE id go by their public key.
    #[serde(default)]
    pub trust_domains: Vec<String>,
}

impl MachinesConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.crls.len() > MAX_LIST || self.trust_domains.len() > MAX_LIST {
            return Err(format!("[machines] has at most {MAX_LIST} crls and as many trust_domains"));
        }
        match self.trust_domains.iter().find(|domain| !crate::machines::is_trust_domain(domain)) {
            None => Ok(()),
            Some(bad) => Err(format!(
                "[machines] trust_domains: {bad:?} is no trust domain: write it bare, as in spiffe://prod.example/..., \
                 with a-z 0-9 . - _"
            )),
        }
    }
}
