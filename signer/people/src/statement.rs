//! The statement: one change, as an in-toto Statement v1 in canonical JSON, in the bytes that people sign.
//!
//! It promises that whatever parses names the whole change (log, request, requester, repository, digest, formats and keys),
//! ends within a day, and has one spelling; its SHA-256 is how an intent names it. The subject is the image, or the exact
//! bytes, and stands nowhere else in it, so that no two members can differ.

use record::canonical::{self, CanonicalError};
use record::wire::Blob;
use record::{
    Format, KeyId, Nonce, Origin, PolicyStamp, Principal, Repository, RequestId, Sha256, Tag, Time,
};
use serde::{Deserialize, Serialize};

/// The `_type` of every statement (in-toto attestation framework, Statement v1).
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The `predicateType` of this form of statement. A UUID and no web address, which would claim a domain.
pub const PREDICATE_TYPE: &str = "urn:uuid:36e898e0-2228-4a81-bf5d-5db6542dcd66";
/// Most bytes of a statement: an index of [`MAX_CHILDREN`] images stays below half of it.
pub const MAX_STATEMENT_BYTES: usize = 16 * 1024;
/// Most images of one index: more platforms than there are.
pub const MAX_CHILDREN: usize = 64;
/// Most signatures that one statement can be for.
pub const MAX_SIGNATURES: usize = 8;
/// Longest time from the start of a statement's validity to its end: a day.
pub const MAX_VALIDITY_MS: i64 = 24 * 60 * 60 * 1000;
/// Longest reason for breaking the glass, in bytes.
pub const MAX_BREAK_GLASS: usize = 500;
/// Longest media type, in bytes (RFC 6838: 127 for each half).
const MAX_MEDIA_TYPE: usize = 255;

/// A change that people decide on, in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    content: Content,
    bytes: Blob,
}

/// What a statement says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Whether its signer wants the change.
    pub decision: Decision,
    /// The log in which the change will stand.
    pub log: Origin,
    /// The request.
    pub request: RequestId,
    /// Who made it: never one of those who approve it.
    pub requester: Principal,
    /// The repository, which is the collection's GUN.
    pub repository: Repository,
    /// The image's digest, or the SHA-256 of the exact bytes.
    pub subject: Sha256,
    /// What will be done with the subject.
    pub change: Change,
    /// In which forms and by which keys it will be signed: 1 to [`MAX_SIGNATURES`], sorted, each once.
    pub signatures: Vec<Signing>,
    /// The policy that was in force when people were asked.
    pub policy: PolicyStamp,
    /// Makes two statements of equal content two.
    pub nonce: Nonce,
    /// Counts from then on.
    pub not_before: Time,
    /// Counts until then, at most [`MAX_VALIDITY_MS`] later.
    pub expires: Time,
    /// Why the glass is broken: 1 to [`MAX_BREAK_GLASS`] bytes without control characters.
    pub break_glass: Option<String>,
}

/// What people say of a change. Both words are signed: a refusal is evidence too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It shall be signed.
    Approve,
    /// It shall not.
    Reject,
}

/// The kind of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// A tag shall name the image.
    #[serde(rename_all = "camelCase")]
    Image {
        /// The tag.
        tag: Tag,
        /// Size of its manifest in bytes.
        size: u64,
        /// Media type of its manifest, as the registry's bytes say.
        media_type: String,
        /// The manifests that an index names, as it names them; at most [`MAX_CHILDREN`], none for one image.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        children: Vec<record::Digest>,
    },
    /// The subject's bytes shall be signed as they are: metadata of a root, or a root key's certificate.
    Bytes {},
}

/// One signature that a change asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signing {
    /// The kind of bytes.
    pub format: Format,
    /// The key.
    pub key: KeyId,
}

/// Why bytes are no statement, or no statement can be made of this.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Not canonical JSON of this shape.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// Over [`MAX_STATEMENT_BYTES`].
    #[error("a statement of {0} bytes: the limit is {MAX_STATEMENT_BYTES}")]
    TooLong(usize),
    /// Another in-toto document.
    #[error("{member} is {found:?}, not {wanted:?}")]
    Type {
        /// `_type` or `predicateType`.
        member: &'static str,
        /// What it says.
        found: String,
        /// What it must say.
        wanted: &'static str,
    },
    /// A value outside its grammar or limit.
    #[error("{member}: {why}")]
    Member {
        /// The member.
        member: &'static str,
        /// The rule.
        why: &'static str,
    },
}

impl Statement {
    /// The statement that says this.
    pub fn new(content: Content) -> Result<Self, StatementError> {
        check(&content)?;
        let bytes = canonical::encode(&Document::from(content.clone()))?;
        within_limit(&bytes)?;
        Ok(Self { content, bytes: Blob(bytes) })
    }

    /// Reads the bytes of a statement, and nothing else.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        within_limit(bytes)?;
        let document: Document = canonical::decode(bytes)?;
        let content = document.content()?;
        check(&content)?;
        Ok(Self { content, bytes: Blob(bytes.to_vec()) })
    }

    /// What it says.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes.0
    }

    /// How intents name it.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(&self.bytes.0)
    }

    /// Six digits by which people see that two screens show the same statement: the first eight bytes of its SHA-256,
    /// big-endian, modulo a million. No proof of anything: what counts are the signed bytes.
    pub fn code(&self) -> String {
        let number = self.sha256().as_bytes().iter().take(8).fold(0u64, |n, b| n << 8 | u64::from(*b));
        let code = number % 1_000_000;
        format!("{:03} {:03}", code / 1000, code % 1000)
    }

    /// The statement about the same change that says this of it.
    pub fn deciding(&self, decision: Decision) -> Result<Self, StatementError> {
        Self::new(Content { decision, ..self.content.clone() })
    }
}

fn within_limit(bytes: &[u8]) -> Result<(), StatementError> {
    if bytes.len() <= MAX_STATEMENT_BYTES { Ok(()) } else { Err(StatementError::TooLong(bytes.len())) }
}

fn check(content: &Content) -> Result<(), StatementError> {
    let need =
        |fits: bool, member, why| if fits { Ok(()) } else { Err(StatementError::Member { member, why }) };
    if let Change::Image { media_type, children, .. } = &content.change {
        let plain = media_type.bytes().all(|b| b.is_ascii_graphic()) && media_type.contains('/');
        need(
            plain && media_type.len() <= MAX_MEDIA_TYPE,
            "mediaType",
            "type/subtype of at most 255 ASCII characters",
        )?;
        need(children.len() <= MAX_CHILDREN, "children", "at most 64 images in one index")?;
    }
    let signatures = &content.signatures;
    need((1..=MAX_SIGNATURES).contains(&signatures.len()), "signatures", "1 to 8 signatures")?;
    need(signatures.is_sorted_by(|a, b| a < b), "signatures", "sorted by format and key, each once")?;
    let latest = content.not_before.plus_ms(MAX_VALIDITY_MS);
    let ends = content.not_before < content.expires && content.expires <= latest;
    need(ends, "expires", "after notBefore, and at most 24 hours after it")?;
    let reason = content.break_glass.as_deref().unwrap_or("-");
    let short = (1..=MAX_BREAK_GLASS).contains(&reason.len()) && !reason.chars().any(char::is_control);
    need(short, "breakGlass", "1 to 500 bytes without control characters")
}

/// The form of in-toto.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "_type")]
    kind: String,
    subject: [Subject; 1],
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: Repository,
    digest: DigestSet,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DigestSet {
    sha256: Sha256,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Predicate {
    decision: Decision,
    log: Origin,
    request: RequestId,
    requester: Principal,
    change: Change,
    signatures: Vec<Signing>,
    policy: PolicyStamp,
    nonce: Nonce,
    not_before: Time,
    expires: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    break_glass: Option<String>,
}

impl From<Content> for Document {
    fn from(content: Content) -> Self {
        let Content { decision, log, request, requester, repository, subject, .. } = content;
        let Content { change, signatures, policy, nonce, not_before, expires, break_glass, .. } = content;
        Self {
            kind: STATEMENT_TYPE.into(),
            subject: [Subject { name: repository, digest: DigestSet { sha256: subject } }],
            predicate_type: PREDICATE_TYPE.into(),
            predicate: Predicate {
                decision,
                log,
                request,
                requester,
                change,
                signatures,
                policy,
                nonce,
                not_before,
                expires,
                break_glass,
            },
        }
    }
}

impl Document {
    fn content(self) -> Result<Content, StatementError> {
        named("_type", self.kind, STATEMENT_TYPE)?;
        named("predicateType", self.predicate_type, PREDICATE_TYPE)?;
        let [Subject { name: repository, digest }] = self.subject;
        let Predicate { decision, log, request, requester, change, signatures, .. } = self.predicate;
        let Predicate { policy, nonce, not_before, expires, break_glass, .. } = self.predicate;
        Ok(Content {
            decision,
            log,
            request,
            requester,
            repository,
            subject: digest.sha256,
            change,
            signatures,
            policy,
            nonce,
            not_before,
            expires,
            break_glass,
        })
    }
}

fn named(member: &'static str, found: String, wanted: &'static str) -> Result<(), StatementError> {
    if found == wanted { Ok(()) } else { Err(StatementError::Type { member, found, wanted }) }
}
