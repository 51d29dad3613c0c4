//! Signed entry timestamps (SETs) of Rekor v1: what clients from before Rekor v2 take for the log's word.
//!
//! An SET is a signature by a key of its own over `{body, integratedTime, logID, logIndex}` in RFC 8785 form. It promises that the
//! log had the entry at that time; no proof goes with it. `body` is the completion in the older form, `hashedrekord` 0.0.1.

use base64::{Engine, engine::general_purpose::STANDARD};
use record::{
    Algorithm, Completion, Sha256, Signature, SignedData, Spki,
    canonical::{self, CanonicalError},
    wire::Blob,
};
use serde::{Deserialize, Serialize};

/// What an SET is over, in the form in which bundles carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EntryTimestamp {
    body: Blob,
    integrated_time: i64,
    /// SHA-256 of the SET key's SPKI, hex.
    #[serde(rename = "logID")]
    log_id: Sha256,
    log_index: u64,
}

/// An SET with what it is over: the annotation `dev.sigstore.cosign/bundle` of images, and `rekorBundle` of blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct SignedEntryTimestamp {
    /// ASN.1 DER.
    signed_entry_timestamp: Blob,
    payload: EntryTimestamp,
}

/// cosign's bundle for blobs from before Sigstore bundles, for a signature by a bare key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyBundle {
    base64_signature: Blob,
    rekor_bundle: SignedEntryTimestamp,
}

impl EntryTimestamp {
    /// That the log whose SETs `set_key` signs had this completion at `index` at a time in whole seconds since 1970. The
    /// completion must be by a P-256 key.
    pub fn of(
        completion: &Completion,
        index: u64,
        integrated_time_s: i64,
        set_key: &Spki,
    ) -> Result<Self, CanonicalError> {
        let body = Blob(canonical::encode(&Body::of(completion)?)?);
        Ok(Self { body, integrated_time: integrated_time_s, log_id: set_key.id().sha256(), log_index: index })
    }

    /// The bytes that are signed: their SHA-256 goes to the key.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical::encode(self)
    }

    /// The entry in the form of Rekor v1.
    pub fn body(&self) -> &[u8] {
        &self.body.0
    }

    /// With its signature, if that is `set_key`'s over it.
    pub fn signed(self, signature: &Signature, set_key: &Spki) -> Option<SignedEntryTimestamp> {
        let digest = Sha256::of(&self.signed_bytes().ok()?);
        let set = Blob(signature.to_der());
        (set_key.id().sha256() == self.log_id && set_key.verifies(&digest, signature))
            .then_some(SignedEntryTimestamp { signed_entry_timestamp: set, payload: self })
    }
}

impl SignedEntryTimestamp {
    /// Whether `set_key` says here that the log has this completion at `index`.
    pub fn says(&self, completion: &Completion, index: u64, set_key: &Spki) -> bool {
        let expected = EntryTimestamp::of(completion, index, self.payload.integrated_time, set_key);
        let Ok(signature) = Signature::from_der(&self.signed_entry_timestamp.0) else { return false };
        expected.is_ok_and(|expected| expected == self.payload)
            && self.payload.clone().signed(&signature, set_key).is_some()
    }
}

impl LegacyBundle {
    /// The bundle of a completion and its SET.
    pub fn of(completion: &Completion, set: SignedEntryTimestamp) -> Self {
        Self { base64_signature: Blob(completion.signature().to_der()), rekor_bundle: set }
    }

    /// The file's text, with its last newline.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self).map(|text| text + "\n")
    }
}

/// Rekor v1 `hashedrekord` 0.0.1.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    api_version: &'static str,
    kind: &'static str,
    spec: Spec,
}

#[derive(Serialize)]
struct Spec {
    data: Data,
    signature: BodySignature,
}

#[derive(Serialize)]
struct Data {
    hash: DataHash,
}

#[derive(Serialize)]
struct DataHash {
    algorithm: &'static str,
    value: Sha256,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BodySignature {
    content: Blob,
    public_key: BodyKey,
}

#[derive(Serialize)]
struct BodyKey {
    /// Base64 of the PEM.
    content: String,
}

impl Body {
    fn of(completion: &Completion) -> Result<Self, CanonicalError> {
        let by_p256 = completion.spki().algorithm() == Algorithm::EcdsaP256;
        let SignedData::Sha256(payload) = completion.data() else { return Err(no_form()) };
        if !by_p256 {
            return Err(no_form());
        }
        Ok(Self {
            api_version: "0.0.1",
            kind: "hashedrekord",
            spec: Spec {
                data: Data { hash: DataHash { algorithm: "sha256", value: *payload } },
                signature: BodySignature {
                    content: Blob(completion.signature().to_der()),
                    public_key: BodyKey { content: STANDARD.encode(completion.spki().to_pem()) },
                },
            },
        })
    }
}

fn no_form() -> CanonicalError {
    CanonicalError::Unencodable("only signatures by P-256 keys have a form in Rekor v1 here".into())
}
