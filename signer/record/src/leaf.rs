//! Leaves of the log: one JSON document each, RFC 8785 canonical, under 64 KiB, in one envelope
//! `{"apiVersion","kind","spec"}`. Completions are Rekor v2 `hashedrekord` 0.0.2 to the byte wherever that form can hold
//! them; all other kinds are Chancery's own, version `1`.

use crate::completion::{self, HashedRekord, OverMessage};
use crate::{
    Adopted, AdoptedPart, AdoptedReservation, Completion, Continues, Digest, Intent, KeeperName, KeyId,
    Nonce, Origin, PolicyStamp, Principal, Purpose, RequestId, Sha256, Spki, Tag, Time, TokenId, canonical,
    canonical::CanonicalError,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// C2SP tlog-tiles frames an entry with a 16-bit length.
pub const MAX_LEAF_BYTES: usize = 65_535;

/// What one leaf says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "every other leaf is an intent; boxing it would cost all its readers"
)]
pub enum Leaf {
    /// The first leaf of a log.
    Genesis(Genesis),
    /// A signature is about to be asked for.
    Intent(Intent),
    /// A signature was made.
    Completion(Completion),
    /// An intent ended without a signature that Chancery has.
    Outcome(Outcome),
    /// A request was refused.
    Denial(Denial),
    /// A request was allowed: stands before every intent that names it.
    Allowance(Allowance),
    /// Something else that auditors must see.
    Event(Event),
}

/// Why a leaf cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// Not canonical, or not of its kind's shape.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// A kind or version that this program does not know.
    #[error("unknown leaf kind {kind:?}, version {version:?}")]
    Kind {
        /// What the leaf calls itself.
        kind: String,
        /// The version it claims.
        version: String,
    },
    /// Too long for an entry bundle.
    #[error("a leaf of {0} bytes: the limit is 65535")]
    TooLong(usize),
}

const OWN_VERSION: &str = "1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope<T> {
    api_version: String,
    kind: String,
    spec: T,
}

impl Leaf {
    /// The leaf's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, LeafError> {
        let bytes = match self {
            Self::Genesis(spec) => envelope("genesis", OWN_VERSION, spec),
            Self::Intent(spec) => envelope("intent", OWN_VERSION, spec),
            Self::Completion(spec) => {
                let (kind, version) = spec.kind();
                envelope(kind, version, &completion::Spec::from(spec))
            }
            Self::Outcome(spec) => envelope("outcome", OWN_VERSION, spec),
            Self::Denial(spec) => envelope("denied", OWN_VERSION, spec),
            Self::Allowance(spec) => envelope("allowed", OWN_VERSION, spec),
            Self::Event(spec) => envelope("event", OWN_VERSION, spec),
        }?;
        if bytes.len() > MAX_LEAF_BYTES { Err(LeafError::TooLong(bytes.len())) } else { Ok(bytes) }
    }

    /// Reads bytes that [`Self::encode`] wrote, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, LeafError> {
        if bytes.len() > MAX_LEAF_BYTES {
            return Err(LeafError::TooLong(bytes.len()));
        }
        let outer: Envelope<serde::de::IgnoredAny> =
            serde_json::from_slice(bytes).map_err(CanonicalError::Shape)?;
        let leaf = match (outer.kind.as_str(), outer.api_version.as_str()) {
            ("genesis", OWN_VERSION) => Self::Genesis(spec(bytes)?),
            ("intent", OWN_VERSION) => Self::Intent(spec(bytes)?),
            completion::HASHED_REKORD => Self::Completion(spec::<HashedRekord>(bytes)?.try_into()?),
            completion::SIGNATURE => Self::Completion(spec::<OverMessage>(bytes)?.try_into()?),
            ("outcome", OWN_VERSION) => Self::Outcome(spec(bytes)?),
            ("denied", OWN_VERSION) => Self::Denial(spec(bytes)?),
            ("allowed", OWN_VERSION) => Self::Allowance(spec(bytes)?),
            ("event", OWN_VERSION) => Self::Event(spec(bytes)?),
            _ => return Err(LeafError::Kind { kind: outer.kind, version: outer.api_version }),
        };
        if leaf.encode()? == bytes { Ok(leaf) } else { Err(CanonicalError::NotCanonical.into()) }
    }

    /// When it was written; a completion does not say.
    pub fn time(&self) -> Option<Time> {
        match self {
            Self::Genesis(genesis) => Some(genesis.time),
            Self::Intent(intent) => Some(intent.time),
            Self::Completion(_) => None,
            Self::Outcome(outcome) => Some(outcome.time),
            Self::Denial(denial) => Some(denial.time),
            Self::Allowance(allowance) => Some(allowance.time),
            Self::Event(event) => Some(event.time()),
        }
    }

    /// The kind's word, as it stands in the envelope.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Genesis(_) => "genesis",
            Self::Intent(_) => "intent",
            Self::Completion(completion) => completion.kind().0,
            Self::Outcome(_) => "outcome",
            Self::Denial(_) => "denied",
            Self::Allowance(_) => "allowed",
            Self::Event(_) => "event",
        }
    }
}

fn envelope<T: Serialize>(kind: &str, version: &str, spec: &T) -> Result<Vec<u8>, LeafError> {
    Ok(canonical::encode(&Envelope { api_version: version.to_owned(), kind: kind.to_owned(), spec })?)
}

fn spec<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LeafError> {
    let whole: Envelope<T> = serde_json::from_slice(bytes).map_err(CanonicalError::Shape)?;
    Ok(whole.spec)
}

/// The first leaf: what the log is, and with which keepers it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// The log's name.
    pub log: Origin,
    /// The log key, as a C2SP verifier key.
    pub vkey: String,
    /// When.
    pub time: Time,
    /// 128 random bits.
    pub nonce: Nonce,
    /// The signing keepers and the SHA-256 of each one's charter.
    pub keepers: Vec<KeeperRecord>,
    /// The log that this one continues; absent for a first log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Continues>,
}

/// A signing keeper as it presented itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeeperRecord {
    /// Its name.
    pub name: KeeperName,
    /// SHA-256 of its charter's bytes.
    pub charter: Sha256,
    /// Its keys.
    pub keys: Vec<KeyRecord>,
}

/// A key as its keeper presented it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// The public key.
    pub spki: Spki,
    /// What it is for.
    pub purpose: Purpose,
    /// Repositories it may sign for: exact names, or prefixes that end in '/'.
    pub repositories: Vec<String>,
    /// Attributes read back from the token, as words such as `CKA_LOCAL=true` or `PIV_TOUCH=always`, sorted.
    pub evidence: Vec<String>,
}

/// An intent's end without a signature in our hands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Index of the intent.
    pub intent: u64,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// When this was written.
    pub time: Time,
    /// The intent's keeper, whose word this is; with the code `keeper-retired` it is the operator's, since the keeper is lost.
    pub keeper: KeeperName,
    /// The code for a failure or refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<FailureCode>,
}

impl OutcomeKind {
    /// The word, as leaves write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Void => "void",
        }
    }
}

/// How an intent ended, other than by a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeKind {
    /// The keeper says that no signature was made.
    Failed,
    /// The keeper cannot say: it died in the act, or the token's error does not tell, or the keeper itself is lost.
    Unknown,
    /// It never reached a key and never will.
    Void,
}

/// A keeper's reason for a failure or a refusal: a word of `a-z 0-9 -`, at most 32 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailureCode(String);
crate::string_newtype!(FailureCode);

impl FailureCode {
    /// Parses a code.
    pub fn parse(text: &str) -> Result<Self, crate::GrammarError> {
        let ok = !text.is_empty()
            && text.len() <= 32
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(crate::GrammarError::new("code", text, "1 to 32 of a-z 0-9 and '-'"))
        }
    }
}

/// A refused request. The image is kept as it was asked for, cut to its limits, since it may not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// The request's id.
    pub request: RequestId,
    /// Who asked.
    pub by: Principal,
    /// When.
    pub time: Time,
    /// 128 random bits.
    pub nonce: Nonce,
    /// Action asked for, `sign` or `create-repository`.
    pub action: String,
    /// Repository.
    pub repository: crate::Repository,
    /// Tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The policy that decided.
    pub policy: PolicyStamp,
    /// Every reason, not only the first.
    pub reasons: Vec<Reason>,
    /// Everything by which it was decided; absent where policy was not what refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// By what a decision was made: whoever has the policy can make it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The facts, as policy writes them.
    pub facts: serde_json::Value,
    /// The engine that evaluated the policy.
    pub engine: String,
}

/// A request that policy allowed, and everything by which it did. It stands in the same commit as the intents that name it ([`Requested::decision`]), before them.
///
/// [`Requested::decision`]: crate::Requested::decision
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// The request's id.
    pub request: RequestId,
    /// Who asked.
    pub by: Principal,
    /// When it was decided.
    pub time: Time,
    /// 128 random bits.
    pub nonce: Nonce,
    /// Action asked for, `sign` or `create-repository`.
    pub action: String,
    /// Repository.
    pub repository: crate::Repository,
    /// Tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The policy that decided.
    pub policy: PolicyStamp,
    /// Ids of the rules that permitted it, sorted.
    pub rules: Vec<String>,
    /// Everything by which it was decided.
    pub evidence: Evidence,
}

/// How many entries before its intent an [`Allowance`] stands at the most: they are of one commit.
pub const MAX_BEFORE: u64 = 512;

/// One reason of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// The rule's id.
    pub rule: String,
    /// What could still make the request succeed: nothing (`final`), time (`retry`), doing what the message says (`act`),
    /// `approval`, `touch`, `break-glass`.
    pub remedy: String,
    /// One sentence for people.
    pub message: String,
}

/// An event that is neither intent nor outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// A daemon began to serve.
    Started {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// The daemon's version.
        version: String,
        /// The policy in force.
        policy: PolicyStamp,
        /// The configuration file that it read.
        config: Sha256,
        /// The file with the policy of the log's witnesses, if it has witnesses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        witness_policy: Option<Sha256>,
    },
    /// A daemon ended in good order.
    Stopped {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
    },
    /// The daemon before this one did not end in good order: it was killed, it crashed, or the power failed.
    Recovered {
        /// When this was written, by the next one.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
    },
    /// An earlier daemon sealed itself, since disk or data could not be trusted. Then a full check from disk has found the
    /// state whole, and an operator has lifted the seal.
    Unsealed {
        /// When this was written, by the next daemon.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// Why it was sealed, in the daemon's words.
        reason: String,
        /// When it was sealed.
        at: Time,
    },
    /// A signing keeper presented itself with keys or a charter other than before.
    Keeper {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// What it presented.
        keeper: KeeperRecord,
    },
    /// An API token was made. The secret is 256 random bits; only its SHA-256 is anywhere.
    TokenCreated {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// Who made it.
        by: Principal,
        /// Its public id.
        token: TokenId,
        /// SHA-256 of the secret.
        secret_sha256: Sha256,
        /// `sign`, `audit`, `admin`: sorted.
        scopes: Vec<String>,
        /// Repositories it may ask for: exact names, or prefixes that end in '/'.
        repositories: Vec<String>,
        /// When it ends.
        expires: Time,
        /// What it is for, in its maker's words.
        note: String,
    },
    /// An API token was revoked.
    TokenRevoked {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// Who revoked it.
        by: Principal,
        /// Its public id.
        token: TokenId,
    },
    /// The database was behind the log keeper's spool and was refilled from it.
    StoreRolledBack {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// Size of the log in the database.
        database: u64,
        /// Size of the log in the spool.
        spool: u64,
    },
    /// The log keeper's spool was older than a note that its key had signed, and was filled from the database.
    SpoolRolledBack {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// Size of the log in the spool.
        spool: u64,
        /// Size that the newest stored note covers.
        noted: u64,
    },
    /// What keeps a keeper's keys from signing has changed: its token is out, or something is wrong with it or with a key.
    /// A daemon knows nothing of what an earlier one has told: trouble that lasts is told again after [`Event::Started`], and
    /// what was told before it says nothing of the time after it.
    TokenTrouble {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// The keeper.
        keeper: KeeperName,
        /// Everything that is wrong now, sorted; at least one.
        problems: Vec<TokenFault>,
    },
    /// The last trouble with a keeper's token has ended.
    TokenWell {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// The keeper.
        keeper: KeeperName,
    },
    /// The operator's policy was read again while the daemon served, and from here on another one decides.
    PolicyChanged {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// The policy that decided before.
        old: PolicyStamp,
        /// The policy that decides now.
        new: PolicyStamp,
    },
    /// The daemon's wall clock was set, or its machine slept.
    ClockStepped {
        /// When, by the clock as it is now.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// Milliseconds by which it was set forward; negative: back.
        by_ms: i64,
    },
    /// A caller was refused so often that its further refusals are counted only: [`Event::RefusalsCounted`] says how
    /// many there were, unless the daemon died before.
    RefusalsLimited {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// The caller.
        by: Principal,
        /// Since when its refusals are taken together.
        from: Time,
    },
    /// Refusals that have no entry of their own.
    RefusalsCounted {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// The caller; absent for all that came without a valid token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Principal>,
        /// The first of them was not before.
        from: Time,
        /// The last of them was before.
        until: Time,
        /// How many.
        count: u64,
    },
    /// A witness of the log does not cosign its checkpoints any more.
    WitnessLost {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// Its name in the policy of witnesses.
        witness: String,
        /// What was wrong at first, such as `unreachable` or `bad-answer`.
        code: FailureCode,
    },
    /// A witness says that it has cosigned a larger checkpoint than this log has, and shows none. Nobody signs that word.
    WitnessConflict {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// Its name in the policy of witnesses.
        witness: String,
        /// The size that it claims, at most [`MAX_CLAIMED`].
        claimed: u64,
        /// The size of the checkpoint that it was asked to cosign.
        size: u64,
    },
    /// A witness that was lost, or in conflict, cosigns again.
    WitnessBack {
        /// When.
        time: Time,
        /// 128 random bits.
        nonce: Nonce,
        /// Its name in the policy of witnesses.
        witness: String,
        /// Since when it did not.
        since: Time,
    },
    /// A file of a former log was taken over.
    Adopted(Adopted),
    /// Bytes of a file that the next [`Event::Adopted`] takes over.
    AdoptedPart(AdoptedPart),
    /// A version of a former log that may have been signed, and of which there is no file.
    AdoptedReservation(AdoptedReservation),
}

/// The largest number of an entry that strangers have chosen: RFC 8785 carries whole numbers below 2^53.
pub const MAX_CLAIMED: u64 = (1 << 53) - 1;
/// Why a key, or a whole token, cannot sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFault {
    /// The one key; absent if it is the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The code with which its keeper would fail a signature.
    pub code: FailureCode,
}

impl Event {
    /// When it was written.
    pub fn time(&self) -> Time {
        match self {
            Self::Started { time, .. }
            | Self::Stopped { time, .. }
            | Self::Recovered { time, .. }
            | Self::Unsealed { time, .. }
            | Self::Keeper { time, .. }
            | Self::TokenCreated { time, .. }
            | Self::TokenRevoked { time, .. }
            | Self::StoreRolledBack { time, .. }
            | Self::SpoolRolledBack { time, .. }
            | Self::TokenTrouble { time, .. }
            | Self::TokenWell { time, .. }
            | Self::PolicyChanged { time, .. }
            | Self::ClockStepped { time, .. }
            | Self::RefusalsLimited { time, .. }
            | Self::RefusalsCounted { time, .. }
            | Self::WitnessLost { time, .. }
            | Self::WitnessConflict { time, .. }
            | Self::WitnessBack { time, .. }
            | Self::Adopted(Adopted { time, .. })
            | Self::AdoptedPart(AdoptedPart { time, .. })
            | Self::AdoptedReservation(AdoptedReservation { time, .. }) => *time,
        }
    }
}
