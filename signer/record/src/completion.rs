//! Completions: the leaves that hold signatures.
//!
//! One by a key that signs a digest is a `hashedrekord` 0.0.2 of Rekor v2 to the byte; of P-256 keys stock clients are seen to verify it.
//! An Ed25519 key signs the message itself, which that form cannot hold: its completion is a leaf of Chancery's own, kind
//! `signature`, with the same members and the message besides. The message is always there, so that every signature in the
//! log verifies with the log alone; what is too long for that is never signed with such a key.

use crate::canonical::CanonicalError;
use crate::leaf::LeafError;
use crate::{
    Algorithm, Intent, KeyId, Message, PayloadDigest, Sha256, Sha384, Signature, SignedData, Spki, wire::Blob,
};
use serde::{Deserialize, Serialize, de::Error as _};
use std::{borrow::Borrow, num::NonZero, thread};

/// A signature over the payload of an intent. Completions match the intents for the same key and payload in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    spki: Spki,
    data: SignedData,
    signature: Signature,
}

/// Key, data and signature are not of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {key} key makes no signature of this form: the signature is a {signature} key's")]
pub struct CompletionError {
    key: Algorithm,
    signature: Algorithm,
}

impl Completion {
    /// A key, what it signed, and the signature, which must be of one kind. Whether it verifies is [`Self::verifies`]'s word.
    pub fn new(spki: Spki, data: SignedData, signature: Signature) -> Result<Self, CompletionError> {
        let (key, made) = (spki.algorithm(), signature.algorithm());
        if key == made && data.is_for(key) {
            Ok(Self { spki, data, signature })
        } else {
            Err(CompletionError { key, signature: made })
        }
    }

    /// The public key.
    pub fn spki(&self) -> &Spki {
        &self.spki
    }

    /// The key's id.
    pub fn key(&self) -> KeyId {
        self.spki.id()
    }

    /// What was signed.
    pub fn data(&self) -> &SignedData {
        &self.data
    }

    /// By what it is matched with an intent.
    pub fn digest(&self) -> PayloadDigest {
        self.data.digest()
    }

    /// The signature.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Whether the signature is the key's over the data.
    pub fn verifies(&self) -> bool {
        self.spki.covers(&self.data, &self.signature)
    }

    /// Whether it is the end of an intent like this one: by its key, over its payload.
    pub fn is_of(&self, intent: &Intent) -> bool {
        self.key() == intent.key && self.digest() == intent.digest()
    }

    /// The leaf's kind and version.
    pub(crate) fn kind(&self) -> (&'static str, &'static str) {
        match self.data {
            SignedData::Sha256(_) | SignedData::Sha384(_) => HASHED_REKORD,
            SignedData::Message(_) => SIGNATURE,
        }
    }
}

/// Completions from which on several threads verify them: to start one costs less than a verification.
const ENOUGH_FOR_THREADS: usize = 8;

/// The indices of the completions whose signature is not their key's, in the order of the list. Many are verified on all
/// cores: of all that is done with an entry, this takes longest.
pub fn wrong_signatures<C: Borrow<Completion> + Sync>(completions: &[(u64, C)]) -> Vec<u64> {
    let wrong = |part: &[(u64, C)]| -> Vec<u64> {
        let is_wrong = |(index, c): &(u64, C)| (!c.borrow().verifies()).then_some(*index);
        part.iter().filter_map(is_wrong).collect()
    };
    if completions.len() < ENOUGH_FOR_THREADS {
        return wrong(completions);
    }
    // Asked only now: the answer takes reading files.
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let parts = completions.chunks(completions.len().div_ceil(threads));
        let started: Vec<_> = parts.map(|part| (part, scope.spawn(move || wrong(part)))).collect();
        // Of what a thread that did not end has verified, nothing is known.
        let ended = started.into_iter().map(|(part, thread)| {
            thread.join().unwrap_or_else(|_| part.iter().map(|(index, _)| *index).collect())
        });
        ended.flatten().collect()
    })
}

/// Kind and version of a completion in Rekor's form.
pub(crate) const HASHED_REKORD: (&str, &str) = ("hashedrekord", "0.0.2");
/// Kind and version of a completion that holds its message.
pub(crate) const SIGNATURE: (&str, &str) = ("signature", "1");

/// `spec` of `hashedrekord` 0.0.2 (rekor-tiles, `HashedRekordLogEntryV002`, protojson in JCS).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HashedRekord {
    #[serde(rename = "hashedRekordV002")]
    v002: V002,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct V002 {
    data: DigestPart,
    signature: SignaturePart,
}

/// `spec` of a completion that holds its message.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OverMessage {
    data: MessagePart,
    signature: SignaturePart,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DigestPart {
    algorithm: String,
    digest: Blob,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessagePart {
    algorithm: String,
    content: Blob,
    digest: Blob,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignaturePart {
    content: Blob,
    verifier: Verifier,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Verifier {
    key_details: String,
    public_key: RawKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawKey {
    raw_bytes: Blob,
}

const SHA2_256: &str = "SHA2_256";
const SHA2_384: &str = "SHA2_384";

/// What a completion's leaf says.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Spec {
    Digest(HashedRekord),
    Message(OverMessage),
}

impl From<&Completion> for Spec {
    fn from(c: &Completion) -> Self {
        let signature = SignaturePart::of(c);
        let digest = |algorithm: &str, digest: &[u8]| DigestPart {
            algorithm: algorithm.to_owned(),
            digest: Blob(digest.to_vec()),
        };
        let data = match &c.data {
            SignedData::Sha256(sha256) => digest(SHA2_256, sha256.as_bytes()),
            SignedData::Sha384(sha384) => digest(SHA2_384, sha384.as_bytes()),
            SignedData::Message(message) => {
                let DigestPart { algorithm, digest } =
                    digest(SHA2_256, Sha256::of(message.bytes()).as_bytes());
                let data = MessagePart { algorithm, content: Blob(message.bytes().to_vec()), digest };
                return Self::Message(OverMessage { data, signature });
            }
        };
        Self::Digest(HashedRekord { v002: V002 { data, signature } })
    }
}

impl TryFrom<HashedRekord> for Completion {
    type Error = LeafError;

    fn try_from(leaf: HashedRekord) -> Result<Self, LeafError> {
        let V002 { data, signature } = leaf.v002;
        let data = match data.algorithm.as_str() {
            SHA2_256 => SignedData::Sha256(Sha256::from_bytes(exactly(data.digest)?)),
            SHA2_384 => SignedData::Sha384(Sha384::from_bytes(exactly(data.digest)?)),
            other => return Err(shape(&format!("a digest of the algorithm {other:?}"))),
        };
        signature.over(data)
    }
}

impl TryFrom<OverMessage> for Completion {
    type Error = LeafError;

    fn try_from(leaf: OverMessage) -> Result<Self, LeafError> {
        let OverMessage { data, signature } = leaf;
        let message = Message::new(&data.content.0).map_err(|e| shape(&e.to_string()))?;
        let named = Sha256::from_bytes(exactly(data.digest)?);
        if data.algorithm != SHA2_256 || named != Sha256::of(message.bytes()) {
            return Err(shape("the digest is not the SHA-256 of the message"));
        }
        signature.over(SignedData::Message(message))
    }
}

impl SignaturePart {
    fn of(c: &Completion) -> Self {
        Self {
            content: Blob(c.signature.to_der()),
            verifier: Verifier {
                key_details: c.spki.algorithm().key_details().to_owned(),
                public_key: RawKey { raw_bytes: Blob(c.spki.der().to_vec()) },
            },
        }
    }

    fn over(self, data: SignedData) -> Result<Completion, LeafError> {
        let Verifier { key_details, public_key } = self.verifier;
        let spki = Spki::from_der(&public_key.raw_bytes.0).map_err(|e| shape(&e.to_string()))?;
        if spki.algorithm().key_details() != key_details {
            return Err(shape(&format!("keyDetails {key_details:?} for a {} key", spki.algorithm())));
        }
        let signature = Signature::from_client(spki.algorithm(), &self.content.0);
        let signature = signature.map_err(|e| shape(&e.to_string()))?;
        Completion::new(spki, data, signature).map_err(|e| shape(&e.to_string()))
    }
}

fn exactly<const N: usize>(bytes: Blob) -> Result<[u8; N], LeafError> {
    bytes.0.try_into().map_err(|_| shape(&format!("a digest of this algorithm has {N} bytes")))
}

fn shape(why: &str) -> LeafError {
    LeafError::Canonical(CanonicalError::Shape(serde_json::Error::custom(why)))
}
