//! How Sigstore's clients name and write a log's key.

use record::{Algorithm, Spki, wire::Blob};
use serde::Serialize;
use tlog::VerifierKey;

/// `LogId`: which log, by its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogId {
    key_id: Blob,
}

/// A public key and what kind it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogKey {
    /// DER of the `SubjectPublicKeyInfo`.
    pub(super) spki: Vec<u8>,
    /// `PublicKeyDetails` of protobuf-specs.
    pub(super) details: &'static str,
    pub(super) id: LogId,
}

impl LogKey {
    /// The key that signs checkpoints.
    pub(super) fn of_checkpoints(vkey: &VerifierKey) -> Self {
        let algorithm = match vkey.key() {
            tlog::LogKey::Ed25519(_) => Algorithm::Ed25519,
            tlog::LogKey::P256(_) => Algorithm::EcdsaP256,
        };
        Self {
            spki: vkey.spki_der(),
            details: algorithm.key_details(),
            id: LogId { key_id: Blob(vkey.log_id().to_vec()) },
        }
    }

    /// The key that signs SETs, whose id is over the key alone.
    pub(super) fn of_sets(spki: &Spki) -> Self {
        Self {
            spki: spki.der().to_vec(),
            details: spki.algorithm().key_details(),
            id: LogId { key_id: Blob(spki.id().sha256().as_bytes().to_vec()) },
        }
    }
}
