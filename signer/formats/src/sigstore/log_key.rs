//! How Sigstore's clients name and write a log's key.

use record::{Sha256, Spki, wire::Blob};
use serde::Serialize;
use tlog::VerifierKey;

/// The signature type of Ed25519 over a note's text (C2SP signed-note).
const ED25519: u8 = 0x01;
/// DER of an Ed25519 `SubjectPublicKeyInfo` before the 32 bytes of the key (RFC 8410).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

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
    /// The key that signs checkpoints. Its id is the whole hash of which a note's signature lines have the first four bytes.
    pub(super) fn of_checkpoints(vkey: &VerifierKey) -> Self {
        let key = vkey.public_key();
        let named = [vkey.name().as_bytes(), &[b'\n', ED25519], key].concat();
        Self {
            spki: [&ED25519_SPKI[..], key].concat(),
            details: "PKIX_ED25519",
            id: LogId { key_id: Blob(Sha256::of(&named).as_bytes().to_vec()) },
        }
    }

    /// The key that signs SETs, whose id is over the key alone.
    pub(super) fn of_sets(spki: &Spki) -> Self {
        Self {
            spki: spki.der().to_vec(),
            details: "PKIX_ECDSA_P256_SHA_256",
            id: LogId { key_id: Blob(spki.id().sha256().as_bytes().to_vec()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_begins_with_the_four_bytes_of_the_notes_lines() {
        let vkey: VerifierKey =
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse().unwrap();
        let key = LogKey::of_checkpoints(&vkey);
        assert_eq!(key.id.key_id.0[..4], vkey.key_id().to_be_bytes());
        assert_eq!(key.spki.len(), 44);
    }
}
