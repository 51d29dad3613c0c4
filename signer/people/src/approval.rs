//! An approval or a rejection: a statement with one person's signature, in a DSSE envelope.
//!
//! By PIV the signature is DSSE's own, over the pre-authentication encoding. By WebAuthn it cannot be: the authenticator signs
//! the browser's words around the statement's hash, which stand beside the signature in the envelope.

use crate::roster::{Method, PersonKey};
use crate::statement::{Statement, StatementError};
use crate::webauthn::{Assertion, AssertionError, Credential};
use record::canonical::{self, CanonicalError};
use record::wire::Blob;
use record::{KeyId, Signature, SignedData, Spki};
use serde::{Deserialize, Serialize};

/// DSSE's `payloadType` of in-toto statements.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Most bytes of an approval: the longest statement as base64, the longest `clientDataJSON`, and a signature.
pub const MAX_APPROVAL_BYTES: usize = 32 * 1024;

/// One person's signed word on a change. Whether it is theirs, [`Self::verify`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    statement: Statement,
    key: KeyId,
    proof: Proof,
}

/// How the person's key signed. Signatures are ASN.1 DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// ECDSA over the envelope's pre-authentication encoding, by a key on a PIV card.
    Piv(Vec<u8>),
    /// ES256 over an assertion whose challenge is the statement's hash.
    Webauthn(Vec<u8>, Assertion),
}

/// Why an approval cannot be read or is not its key's.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// Over [`MAX_APPROVAL_BYTES`].
    #[error("an approval of {0} bytes: the limit is {MAX_APPROVAL_BYTES}")]
    TooLong(usize),
    /// Not canonical JSON of this shape.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// An envelope of something else.
    #[error("payloadType is {0:?}, not {PAYLOAD_TYPE:?}")]
    PayloadType(String),
    /// Its payload is no statement.
    #[error("its payload: {0}")]
    Statement(#[from] StatementError),
    /// Made in another way than the roster has for its key.
    #[error("the roster has this key for another method")]
    Method,
    /// The signature by PIV.
    #[error("the signature does not verify")]
    Signature,
    /// The assertion.
    #[error(transparent)]
    Assertion(#[from] AssertionError),
}

impl Approval {
    /// The envelope of a statement and its proof.
    pub fn new(statement: Statement, key: KeyId, proof: Proof) -> Self {
        Self { statement, key, proof }
    }

    /// Reads an envelope.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApprovalError> {
        if bytes.len() > MAX_APPROVAL_BYTES {
            return Err(ApprovalError::TooLong(bytes.len()));
        }
        let Envelope { payload, payload_type, signatures: [signed] } = canonical::decode(bytes)?;
        if payload_type != PAYLOAD_TYPE {
            return Err(ApprovalError::PayloadType(payload_type.chars().take(80).collect()));
        }
        let proof = match signed.webauthn {
            None => Proof::Piv(signed.sig.0),
            Some(assertion) => Proof::Webauthn(signed.sig.0, assertion),
        };
        Ok(Self { statement: Statement::parse(&payload.0)?, key: signed.keyid, proof })
    }

    /// The envelope's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, ApprovalError> {
        let (sig, webauthn) = match &self.proof {
            Proof::Piv(sig) => (sig, None),
            Proof::Webauthn(sig, assertion) => (sig, Some(assertion.clone())),
        };
        let bytes = canonical::encode(&Envelope {
            payload: Blob(self.statement.bytes().to_vec()),
            payload_type: PAYLOAD_TYPE.into(),
            signatures: [Signed { keyid: self.key, sig: Blob(sig.clone()), webauthn }],
        })?;
        if bytes.len() > MAX_APPROVAL_BYTES { Err(ApprovalError::TooLong(bytes.len())) } else { Ok(bytes) }
    }

    /// What was signed.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The key that it says it is by.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// How it was signed.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Whether it was made by this key, in the way for which the roster has it.
    pub fn verify(&self, key: &PersonKey) -> Result<(), ApprovalError> {
        match (&self.proof, &key.method) {
            (Proof::Piv(signature), Method::Piv { .. }) => {
                let signed = pae(PAYLOAD_TYPE, self.statement.bytes());
                if signs(&key.spki, &signed, signature) { Ok(()) } else { Err(ApprovalError::Signature) }
            }
            (Proof::Webauthn(signature, assertion), Method::Webauthn { rp_id, origin, .. }) => {
                let credential = Credential { spki: &key.spki, rp_id, origin };
                Ok(assertion.verify(signature, self.statement.bytes(), credential)?)
            }
            _ => Err(ApprovalError::Method),
        }
    }
}

/// DSSE's pre-authentication encoding (v1): what is signed in place of the payload, so that its type is signed too.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// Whether `signature` (DER) is this key's over `message`, in the hash that its kind signs.
pub(crate) fn signs(spki: &Spki, message: &[u8], signature: &[u8]) -> bool {
    let data = SignedData::of(spki.algorithm(), message);
    let signature = Signature::from_client(spki.algorithm(), signature);
    matches!((data, signature), (Ok(data), Ok(signature)) if spki.covers(&data, &signature))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: Blob,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: [Signed; 1],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    keyid: KeyId,
    sig: Blob,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    webauthn: Option<Assertion>,
}
