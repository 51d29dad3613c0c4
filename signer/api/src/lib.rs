//! The HTTP API's documents: what `chanceryd` answers and `chancery` reads. Every document refuses unknown members.
//!
//! Errors are RFC 9457 problem documents, [`Problem`]; its `code` is the stable word that programs test.

mod actions;
mod client;

pub use actions::actions_id_token;
pub use client::{
    CONNECT_DEADLINE, Client, ClientError, IdempotencyKey, LONG_POLL_MAX_S, MAX_DOCUMENT, MAX_LOG_FILE,
    Probe, REQUEST_DEADLINE, Secret, Trust, chain_text,
};

use record::{
    Digest, ImageRef, KeyRecord, PivSlot, Principal, Reason, Repository, RequestId, Sha256, Tag, Time,
    TokenId,
};
use serde::{Deserialize, Serialize};

/// `POST /v1/requests`: sign this image under this tag. Needs the header `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRequest {
    /// The image, by digest.
    pub image: ImageRef,
    /// The tag that shall name it.
    pub tag: Tag,
}

/// A signing request, as `POST /v1/requests` and `GET /v1/requests/{id}` answer it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// Where it stands.
    pub state: RequestState,
    /// The repository.
    pub repository: Repository,
    /// The image.
    pub digest: Digest,
    /// The tag.
    pub tag: Tag,
    /// Who asked.
    pub by: String,
    /// When it was made.
    pub created: Time,
    /// What stands in the log for it so far.
    pub log: LogPlaces,
    /// Version of the targets file that holds the tag, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets_version: Option<u64>,
    /// A touch that it waits for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touch: Option<Touch>,
    /// What stands in its way now, in one sentence; it goes on by itself when that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
    /// Why it ended badly, for [`RequestState::Failed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// A bearer, `chy_poll_<secret>`, that reads this request for a day and can do nothing else: so who waits need not keep
    /// what it has asked with. Only in the first answer to `POST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<String>,
}

/// `POST /v1/auth/exchange`: a CI job's token, as its issuer has signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// The token in its compact form.
    pub token: String,
}

/// What it is exchanged for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The bearer, `chy_session_<secret>`. It is shown once.
    pub bearer: String,
    /// Whose it is, `ci:<issuer>/<immutable id>`.
    pub principal: Principal,
    /// When it ends.
    pub expires: Time,
}

/// A touch that a device waits for: somebody's finger decides whether this is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Touch {
    /// The device, such as `YubiKey 12345678`.
    pub device: String,
    /// The slot of the key.
    pub slot: PivSlot,
    /// When the device gives up. Also tells one touch from the next.
    pub until: Time,
    /// What it is for, such as `release r.example/app:v1 sha256:...`.
    pub what: String,
}

/// `GET /v1/repositories/touch?name=GUN&wait=SECONDS&touch=KNOWN`: for those who wait for a new collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwaitedTouch {
    /// What the repository's files wait for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touch: Option<Touch>,
}

/// Leaf indices of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPlaces {
    /// The refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<u64>,
    /// The intent of the targets file that holds the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<u64>,
    /// That intent's completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<u64>,
}

/// Where a request stands. `Published`, `Denied` and `Failed` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestState {
    /// Allowed; waits for the repository's next targets version.
    Ready,
    /// Its intent is in the log.
    Signing,
    /// Signed and recorded; clients do not see it yet.
    Recorded,
    /// Clients see it.
    Published,
    /// Refused.
    Denied,
    /// Not signed, and it will not be tried again.
    Failed,
}

impl RequestState {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Published | Self::Denied | Self::Failed)
    }

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Signing => "signing",
            Self::Recorded => "recorded",
            Self::Published => "published",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// `POST /v1/repositories`: make the collection's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRepository {
    /// Its name, the GUN.
    pub repository: Repository,
}

/// A Docker Content Trust collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryInfo {
    /// Its name, the GUN.
    pub repository: Repository,
    /// SHA-256 of the root file; pin this file in clients.
    pub root_sha256: Sha256,
    /// TUF key id of the root certificate, for notary's `trust_pinning`.
    pub root_certificate_id: String,
    /// Versions in force.
    pub versions: Versions,
    /// When the timestamp that clients see ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_expires: Option<Time>,
}

/// TUF versions that clients see; 0 where there is none yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// Root.
    pub root: u64,
    /// Targets.
    pub targets: u64,
    /// Snapshot.
    pub snapshot: u64,
    /// Timestamp.
    pub timestamp: u64,
}

/// `GET /v1/keys`: every signing key, by keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The keys.
    pub keys: Vec<KeyInfo>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyInfo {
    /// SHA-256 of its SPKI.
    pub id: record::KeyId,
    /// Its keeper.
    pub keeper: record::KeeperName,
    /// Whether that keeper can be reached now.
    pub available: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The leaf by which its keeper last presented it, in these words.
    pub entry: u64,
    /// What its keeper says of it.
    #[serde(rename = "key")]
    pub record: KeyRecord,
}

/// `GET /v1/keepers` (scope `audit` or `admin`): how the keepers are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keepers {
    /// Leaves in the log.
    pub log_size: u64,
    /// Why nothing new is written into the log until the daemon is restarted, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// The log keeper.
    pub log: KeeperState,
    /// The signing keepers, by name.
    pub keepers: Vec<KeeperInfo>,
    /// How far the daemon is with reading everything from its disk again.
    #[serde(default)]
    pub scrub: Scrub,
    /// What somebody should look at although signatures are made, one sentence each: such as a witness that does not
    /// cosign the log, or a mirror that does not follow it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
}

/// The rounds in which a daemon reads everything from its disk again. What they find seals it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scrub {
    /// The round that runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<ScrubProgress>,
    /// The last round since the daemon's start that found everything whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<ScrubRound>,
}

/// How far a round is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubProgress {
    /// Leaves that were read.
    pub leaves: u64,
    /// How many there are to read.
    pub of: u64,
}

/// A round that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubRound {
    /// When it ended.
    pub time: Time,
    /// Leaves that were read.
    pub leaves: u64,
    /// Hashes of the tree above them.
    pub nodes: u64,
    /// Payloads and signed files.
    pub blobs: u64,
    /// Bytes of leaves, payloads and files.
    pub bytes: u64,
}

/// One signing keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeeperInfo {
    /// Its name.
    pub name: record::KeeperName,
    /// How it is.
    pub state: KeeperState,
    /// How many keys it last presented.
    pub keys: u64,
    /// The leaf by which it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// Its intents that have no end in the log.
    pub open_intents: u64,
    /// Leaves of the log that it has seen, as it last said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
}

/// How a keeper is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeeperState {
    /// Whether it can be used.
    pub reachable: bool,
    /// Since when.
    pub since: Time,
    /// Why it cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<KeeperTrouble>,
    /// The last trouble since the daemon started, also if it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<PastTrouble>,
}

/// Why a keeper cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeeperTrouble {
    /// Which kind, for programs.
    pub code: KeeperFault,
    /// One sentence.
    pub says: String,
    /// What an operator does about it.
    pub remedy: String,
}

/// Trouble that a keeper had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastTrouble {
    /// When it was last seen.
    pub time: Time,
    /// One sentence.
    pub says: String,
}

/// Kinds of trouble with a keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeeperFault {
    /// The daemon has just started.
    NotConnected,
    /// No connection, or it broke.
    Unreachable,
    /// It and the daemon have seen different logs.
    Fork,
    /// Its journal is older than what it has signed.
    OlderJournal,
    /// It is another keeper, or another log's.
    Mismatch,
    /// The daemon's configuration has it no more, and intents of it are open.
    NotConfigured,
    /// It is connected, and its token, or one of its keys, would not sign now.
    Token,
    /// What it says makes no sense, or cannot be worked with now.
    Unusable,
}

/// `POST /v1/tokens` (scope `admin`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Repositories it may ask for: exact names, or prefixes that end in '/'.
    pub repositories: Vec<String>,
    /// When it ends; at most 90 days ahead.
    pub expires: Time,
    /// What it is for; at most 200 characters.
    pub note: String,
}

/// The answer to [`NewToken`]: the only time that the secret is seen.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreatedToken {
    /// Its public part.
    pub token: TokenInfo,
    /// The bearer token, `chy_<id>_<secret>`.
    pub bearer: String,
}

impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken").field("token", &self.token).finish_non_exhaustive()
    }
}

/// An API token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenInfo {
    /// Its public id.
    pub id: TokenId,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Repositories it may ask for.
    pub repositories: Vec<String>,
    /// When it ends.
    pub expires: Time,
    /// What it is for.
    pub note: String,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// `GET /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// All tokens, oldest first.
    pub tokens: Vec<TokenInfo>,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Ask for signatures in its repositories, create them, and see its own requests.
    Sign,
    /// Read the whole log and every request.
    Audit,
    /// Make and revoke tokens.
    Admin,
}

impl Scope {
    /// The word in JSON and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Audit => "audit",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Sign, Self::Audit, Self::Admin]
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| format!("unknown scope {text:?}: sign, audit or admin"))
    }
}

/// `GET /readyz`: 200 when ready, 503 otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readiness {
    /// Whether signatures can be asked for.
    pub ready: bool,
    /// The daemon's version.
    pub version: String,
    /// Leaves in the log.
    pub log_size: u64,
    /// What is missing, one sentence each; empty when ready.
    pub problems: Vec<String>,
    /// What somebody should look at although signatures are made, one sentence each: such as a witness that does not
    /// cosign the log, or a mirror that does not follow it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// Who keeps a head of the log off the daemon's host, as far as the daemon knows and can be sure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<KeptHead>,
}

/// A head of the log that is kept off the daemon's host: whoever keeps it would notice that the log was put back to less.
/// Everybody may read this, so it names nothing that the published checkpoint does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case", deny_unknown_fields)]
pub enum KeptHead {
    /// A witness, in its own state.
    Witness {
        /// The name in its cosignatures.
        name: String,
        /// Entries under the last checkpoint that it cosigned.
        size: u64,
    },
    /// A mirror, as its checkpoint. Which one is not said.
    Mirror {
        /// Entries under its checkpoint.
        size: u64,
    },
}

/// An RFC 9457 problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// The code as a URI, `urn:chancery:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The stable word that programs test, such as `denied` or `audit-unavailable`.
    pub code: String,
    /// The code in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened, and what to do next.
    pub detail: String,
    /// The id that the daemon's own log has for this call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The request this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// Leaf of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// Every reason of a refusal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Whether the same call can succeed later without a change.
    pub retryable: bool,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}
