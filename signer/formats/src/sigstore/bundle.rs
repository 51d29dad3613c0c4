//! Sigstore bundle v0.3 for a signature that is an entry of a Chancery log.

use super::{
    int64,
    log_key::{LogId, LogKey},
};
use record::{Algorithm, Completion, Leaf, LeafError, SignedData, wire::Blob};
use serde::Serialize;
use tlog::{Checkpoint, CheckpointError, Hash, ProofError, VerifierKey, leaf_hash};

/// An entry of the log, and what proves that it is one. Nothing in it is verified.
#[derive(Debug, Clone, Copy)]
pub struct Included<'a> {
    /// Its place.
    pub index: u64,
    /// Its bytes.
    pub leaf: &'a [u8],
    /// RFC 6962 audit path, the leaf's sibling first.
    pub hashes: &'a [Hash],
    /// The signed checkpoint, with all its signature lines.
    pub note: &'a str,
}

/// Why there is no bundle for an entry.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not the bytes of an entry.
    #[error("it is no entry of a Chancery log")]
    Leaf(#[from] LeafError),
    /// An entry of another kind.
    #[error("entry {index} is {kind}, and no signature")]
    NoSignature {
        /// Its place.
        index: u64,
        /// What it is.
        kind: &'static str,
    },
    /// The signature in the entry is not the key's over the digest.
    #[error("the signature in entry {index} does not verify")]
    Signature {
        /// Its place.
        index: u64,
    },
    /// By a kind of key of which no client is known to take a bundle. Clients look in no log for a signature over a message
    /// itself; and they take a bare RSA key for one that signs by PKCS #1 v1.5, where these keys sign by PSS.
    #[error(
        "entry {index} is by a {algorithm} key: Sigstore's clients are known to take bundles of P-256 keys only"
    )]
    NoClient {
        /// Its place.
        index: u64,
        /// The kind of key.
        algorithm: Algorithm,
    },
    /// Not a checkpoint of this log.
    #[error("the checkpoint is not this log's")]
    Checkpoint(#[from] CheckpointError),
    /// The path does not lead from the entry to the checkpoint's root.
    #[error("the inclusion proof does not verify")]
    Proof(#[from] ProofError),
}

/// A bundle: the signature, the key to look for, and the log's entry with its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    media_type: &'static str,
    verification_material: VerificationMaterial,
    message_signature: MessageSignature,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct VerificationMaterial {
    public_key: PublicKeyIdentifier,
    tlog_entries: [TransparencyLogEntry; 1],
}

/// cosign writes the base64 of the SHA-256 of the SPKI; verifiers ignore it and use the key that they were given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PublicKeyIdentifier {
    hint: Blob,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    message_digest: HashOutput,
    signature: Blob,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct HashOutput {
    algorithm: &'static str,
    digest: Blob,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct TransparencyLogEntry {
    #[serde(serialize_with = "int64")]
    log_index: u64,
    log_id: LogId,
    kind_version: KindVersion,
    /// Rekor v2 entries have no time of their own.
    #[serde(serialize_with = "int64")]
    integrated_time: u64,
    inclusion_proof: InclusionProof,
    canonicalized_body: Blob,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct KindVersion {
    kind: &'static str,
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct InclusionProof {
    #[serde(serialize_with = "int64")]
    log_index: u64,
    root_hash: Blob,
    #[serde(serialize_with = "int64")]
    tree_size: u64,
    hashes: Vec<Blob>,
    checkpoint: SignedCheckpoint,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct SignedCheckpoint {
    envelope: String,
}

impl HashOutput {
    /// The digest that a P-256 key signed; none of another kind of key.
    fn of(completion: &Completion) -> Option<Self> {
        match (completion.spki().algorithm(), completion.data()) {
            (Algorithm::EcdsaP256, SignedData::Sha256(digest)) => {
                Some(Self { algorithm: "SHA2_256", digest: Blob(digest.as_bytes().to_vec()) })
            }
            _ => None,
        }
    }
}

impl Bundle {
    /// The bundle of a P-256 key's signature over a blob, such as a role's metadata, from the completion that the log has of
    /// it. What is handed out was verified as a client will.
    pub fn of_blob(entry: Included<'_>, vkey: &VerifierKey) -> Result<Self, BundleError> {
        let completion = verified(entry)?;
        let message_digest = HashOutput::of(&completion)
            .ok_or(BundleError::NoClient { index: entry.index, algorithm: completion.spki().algorithm() })?;
        Ok(Self {
            media_type: "application/vnd.dev.sigstore.bundle.v0.3+json",
            verification_material: VerificationMaterial {
                public_key: PublicKeyIdentifier { hint: Blob(completion.key().sha256().as_bytes().to_vec()) },
                tlog_entries: [TransparencyLogEntry::of(entry, vkey)?],
            },
            message_signature: MessageSignature {
                message_digest,
                signature: Blob(completion.signature().to_der()),
            },
        })
    }

    /// The file's text, with its last newline.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self).map(|text| text + "\n")
    }
}

/// The completion that an entry is, its signature verified.
fn verified(entry: Included<'_>) -> Result<Completion, BundleError> {
    match Leaf::decode(entry.leaf)? {
        Leaf::Completion(completion) if completion.verifies() => Ok(completion),
        Leaf::Completion(_) => Err(BundleError::Signature { index: entry.index }),
        other => Err(BundleError::NoSignature { index: entry.index, kind: other.kind() }),
    }
}

impl TransparencyLogEntry {
    fn of(entry: Included<'_>, vkey: &VerifierKey) -> Result<Self, BundleError> {
        let Included { index, leaf, hashes, note } = entry;
        let checkpoint = Checkpoint::open(note, vkey)?;
        tlog::verify_inclusion(&leaf_hash(leaf), index, checkpoint.size, hashes, &checkpoint.root)?;
        Ok(Self {
            log_index: index,
            log_id: LogKey::of_checkpoints(vkey).id,
            kind_version: KindVersion { kind: "hashedrekord", version: "0.0.2" },
            integrated_time: 0,
            inclusion_proof: InclusionProof {
                log_index: index,
                root_hash: blob(&checkpoint.root),
                tree_size: checkpoint.size,
                hashes: hashes.iter().map(blob).collect(),
                checkpoint: SignedCheckpoint { envelope: note.to_owned() },
            },
            canonicalized_body: Blob(leaf.to_vec()),
        })
    }
}

fn blob(hash: &Hash) -> Blob {
    Blob(hash.0.to_vec())
}
