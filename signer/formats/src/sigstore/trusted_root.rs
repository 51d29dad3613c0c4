//! `trusted_root.json` (`TrustedRoot` v0.1): the keys of one log that a client shall believe, and no others.

use super::log_key::{LogId, LogKey};
use record::{Spki, wire::Blob};
use serde::Serialize;
use tlog::VerifierKey;

/// A log's key says nothing of its beginning, and a log has one key for life: valid since before any log.
const EVER_SINCE: &str = "1970-01-01T00:00:00Z";

/// The trust in one log: its key, and the key of its SETs if it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustedRoot {
    media_type: &'static str,
    tlogs: Vec<Instance>,
}

/// `TransparencyLogInstance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Instance {
    base_url: String,
    hash_algorithm: &'static str,
    public_key: PublicKey,
    log_id: LogId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicKey {
    raw_bytes: Blob,
    key_details: &'static str,
    valid_for: TimeRange,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct TimeRange {
    start: &'static str,
}

impl TrustedRoot {
    /// Believe this log's checkpoints, and SETs by `set_key` if there is one.
    ///
    /// A client finds a key by the id in an entry. Both stand under one host name, as it demands.
    pub fn of_log(vkey: &VerifierKey, set_key: Option<&Spki>) -> Self {
        let keys = std::iter::once(LogKey::of_checkpoints(vkey)).chain(set_key.map(LogKey::of_sets));
        let instance = |key: LogKey| Instance {
            base_url: format!("https://{}", vkey.name()),
            hash_algorithm: "SHA2_256",
            public_key: PublicKey {
                raw_bytes: Blob(key.spki),
                key_details: key.details,
                valid_for: TimeRange { start: EVER_SINCE },
            },
            log_id: key.id,
        };
        Self {
            media_type: "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            tlogs: keys.map(instance).collect(),
        }
    }

    /// The file's text, with its last newline.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}
