//! The messages between `chanceryd` and the keepers: `u32` big-endian length, then one JSON document.
//!
//! Unknown and duplicate members are refused. Hashes travel as hex, bytes as base64. This module knows shapes and
//! limits only; what a message means is in the two programs.

use crate::{FailureCode, KeeperName, KeyId, KeyRecord, Origin, PivSlot, Sha256, Signature, Spki, Time};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{Read, Write};

/// The version of this protocol that `Hello` names.
pub const PROTO: u32 = 1;
/// Largest frame in bytes, without its length prefix.
pub const MAX_FRAME: usize = 8 * 1024 * 1024;
/// Most items in one list of a frame.
pub const MAX_ITEMS: usize = 256;
/// Most approvals of one item: five people for each of 200 changes.
pub const MAX_APPROVALS: usize = 1024;
/// Most leaves in one `Read`.
pub const MAX_READ: u64 = 64;

/// Bytes, base64 in JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Daemon to log keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToLog {
    /// First message of a connection; the connection is the writer's lease.
    Hello {
        /// [`PROTO`].
        proto: u32,
        /// The daemon's name for logs.
        daemon: String,
        /// The highest epoch that its database was written under; 0 for none. The lease gets a higher one, also from a
        /// spool that was made anew or is an older copy.
        epoch: u64,
    },
    /// Write these leaves behind the last one.
    Append {
        /// From `Welcome`.
        epoch: u64,
        /// Must equal the spool's size.
        base: u64,
        /// Encoded leaves.
        leaves: Vec<Blob>,
    },
    /// Sign a note over the durable head.
    Note {},
    /// Sign an entry timestamp (SET, Rekor v1) of the completion that the keeper has at this index.
    Set {
        /// Its index.
        index: u64,
    },
    /// Read leaves.
    Read {
        /// First index.
        from: u64,
        /// How many, at most [`MAX_READ`].
        n: u64,
    },
}

/// Log keeper to daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromLog {
    /// The lease is yours.
    Welcome {
        /// The log's name.
        origin: Origin,
        /// The log key, a C2SP verifier key.
        vkey: String,
        /// This lease's number, durable, higher than any before and than the one in `Hello`.
        epoch: u64,
        /// Leaves in the spool.
        size: u64,
        /// Their root.
        root: Sha256,
        /// The key that signs SETs, if the keeper has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        set_key: Option<Spki>,
    },
    /// Another connection holds the lease.
    Busy {},
    /// The leaves are on disk.
    Appended {
        /// New size.
        size: u64,
        /// New root.
        root: Sha256,
    },
    /// The signed note (C2SP signed-note), built from the keeper's own head.
    Noted {
        /// Whole text with its signature line.
        note: String,
    },
    /// The signed entry timestamp, verified with the key in `Welcome`.
    SetSigned {
        /// The entry in the form of Rekor v1, built by the keeper from its own copy.
        body: Blob,
        /// The keeper's clock, in whole seconds since 1970.
        integrated_time: i64,
        /// Over the RFC 8785 form of body, time, key and index.
        signature: Signature,
    },
    /// Leaves as asked, fewer where the spool ends.
    Leaves {
        /// First index.
        from: u64,
        /// Their bytes.
        leaves: Vec<Blob>,
    },
    /// Nothing was done.
    Refused {
        /// Which rule.
        code: FailureCode,
        /// One sentence.
        detail: String,
    },
}

/// Daemon to signing keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToSigner {
    /// First message of a connection.
    Hello {
        /// [`PROTO`].
        proto: u32,
        /// The daemon's name for logs.
        daemon: String,
        /// The highest generation that this keeper has told and the daemon has kept; 0 for none. A keeper whose own is
        /// lower has lost a part of its journal, and ends.
        generation: u64,
    },
    /// Follow the log, settle, void, sign: in this order, one Reserve record for all of it.
    Batch(Batch),
    /// A signed roster: the first, or the one after that in force. The daemon only carries it.
    Roster {
        /// Its envelope.
        signed: Blob,
    },
}

/// One frame of work for a signing keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// A signed note of the log, at least as large as any sent before.
    pub note: String,
    /// The size that the consistency proof starts at: what the sender believes the keeper to have seen. Another daemon
    /// may have moved the keeper since: it then answers [`FromSigner::Behind`].
    pub from: u64,
    /// RFC 6962 consistency proof from `from` leaves to the note.
    pub consistency: Vec<Sha256>,
    /// Items that the log has closed.
    pub settle: Vec<Settle>,
    /// Intents that must never be signed.
    pub void: Vec<u64>,
    /// Intents to sign.
    pub sign: Vec<Item>,
}

/// The leaf that closes an open item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// Index of the intent.
    pub index: u64,
    /// The completion or outcome leaf.
    pub leaf: Blob,
    /// Index of that leaf.
    pub at: u64,
    /// Its inclusion proof in the note.
    pub inclusion: Vec<Sha256>,
}

/// One intent to act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Index of the intent leaf.
    pub index: u64,
    /// The intent leaf's bytes.
    pub intent: Blob,
    /// Its inclusion proof in the note.
    pub inclusion: Vec<Sha256>,
    /// The files that the intent names by hash.
    pub extra: Extra,
    /// Approvals of the statements that the intent names by hash, each with its statement in it; at most [`MAX_APPROVALS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Blob>,
}

/// What a builder needs besides the intent; the intent names each file by hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Extra {
    /// For a root certificate: nothing.
    RootCertificate {},
    /// For root metadata.
    Root {
        /// DER of the root key's certificate.
        certificate: Blob,
    },
    /// For targets metadata.
    Targets {
        /// The signed file of the version before, absent for the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prev: Option<Blob>,
    },
    /// For snapshot metadata.
    Snapshot {
        /// The root file.
        root: Child,
        /// The targets file.
        targets: Child,
    },
    /// For timestamp metadata.
    Timestamp {
        /// The snapshot file.
        snapshot: Child,
    },
}

/// A signed file that stands below another, with the intent that it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Child {
    /// The signed file.
    pub file: Blob,
    /// Index of its intent.
    pub index: u64,
    /// Its intent's bytes.
    pub leaf: Blob,
    /// The intent's inclusion proof in the note.
    pub inclusion: Vec<Sha256>,
}

/// Signing keeper to daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromSigner {
    /// Answer to `Hello`.
    Welcome(Welcome),
    /// Answer to `Batch`, after the Reserve record is durable and before any result.
    Reserved(Reserved),
    /// Answer to `Roster`: what is in force now, durably.
    Roster(RosterInForce),
    /// The note is older than what this keeper has seen, or its proof starts at another size: ask again from there.
    /// Nothing was done.
    Behind {
        /// What it has seen.
        size: u64,
    },
    /// The note is not an extension of what this keeper has seen, by a proof that starts there. It refuses all work until an operator acts.
    Fork {
        /// What it has seen.
        size: u64,
        /// The root it has seen.
        root: Sha256,
    },
    /// An accepted item stands at its token and needs a person's touch. Its `Result` follows, with or without one.
    Touch(Touch),
    /// What keeps keys from signing now, whenever that changes, and after `Welcome` if there is any.
    Token {
        /// Nothing if the token is well.
        problems: Vec<TokenProblem>,
    },
    /// The result of one accepted item.
    Result {
        /// Index of the intent.
        index: u64,
        /// How it ended.
        result: SignResult,
    },
    /// The message as a whole was refused; nothing was done.
    Refused {
        /// Which rule.
        code: FailureCode,
        /// One sentence.
        detail: String,
    },
}

/// Why a key, or a whole token, would not sign now. Intents are refused by nothing of this: what becomes of one, its
/// `Result` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenProblem {
    /// The one key; absent if it is the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// As a signature would fail.
    pub code: FailureCode,
    /// One sentence for the operator.
    pub detail: String,
}

/// A touch that a device waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Touch {
    /// Index of the intent.
    pub index: u64,
    /// When the device gives up, by the keeper's clock.
    pub deadline: Time,
    /// The device's serial number.
    pub serial: u32,
    /// The slot of the key.
    pub slot: PivSlot,
}

/// What a signing keeper says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// Its name.
    pub keeper: KeeperName,
    /// The log it follows.
    pub origin: Origin,
    /// SHA-256 of its charter's bytes.
    pub charter: Sha256,
    /// Its keys with their evidence.
    pub keys: Vec<KeyRecord>,
    /// The roster by which it counts approvals; absent as long as it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roster: Option<RosterInForce>,
    /// Size of the last accepted checkpoint.
    pub seen_size: u64,
    /// Root of the last accepted checkpoint.
    pub seen_root: Sha256,
    /// Whether it refuses all work since it was shown a fork.
    pub forked: bool,
    /// Items reserved and not yet settled.
    pub open: Vec<OpenItem>,
    /// How many records its journal has ever got; durable, and never falls. The daemon keeps the highest.
    pub generation: u64,
}

/// The roster by which a keeper counts approvals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterInForce {
    /// Its version; never falls.
    pub version: u64,
    /// SHA-256 of its bytes.
    pub sha256: Sha256,
}

/// An item that waits for its leaf in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenItem {
    /// Index of the intent.
    pub index: u64,
    /// Where it stands.
    pub state: OpenState,
}

/// Where an open item stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OpenState {
    /// On its way through the token; its result will be sent on this connection.
    Working {},
    /// Done.
    Finished(SignResult),
}

/// How one item ended at the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SignResult {
    /// Signed, and verified with the pinned public key.
    Signed {
        /// The signature.
        signature: Signature,
    },
    /// No signature was made.
    Failed {
        /// Why.
        code: FailureCode,
    },
    /// The keeper cannot say whether a signature was made.
    Lost {},
}

/// What became of a `Batch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserved {
    /// Size of the checkpoint now followed.
    pub seen: u64,
    /// Items closed.
    pub settled: Vec<u64>,
    /// Settlements that were not accepted; the items stay open.
    pub unsettled: Vec<Refusal>,
    /// Intents that were refused; see `code` for whether their index is spent.
    pub refused: Vec<Refusal>,
    /// Intents that go to the token now; a `Result` follows for each.
    pub accepted: Vec<u64>,
    /// As in [`Welcome`], with the record of this frame.
    pub generation: u64,
}

/// One refused item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Index of the intent.
    pub index: u64,
    /// Which check.
    pub code: FailureCode,
    /// One sentence for the operator.
    pub detail: String,
}

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection failed or ended in the middle of a frame.
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    /// The peer announced a frame over [`MAX_FRAME`].
    #[error("a frame of {0} bytes: the limit is 8 MiB")]
    TooLong(usize),
    /// Not the JSON of such a message.
    #[error("not a message of this protocol: {0}")]
    Shape(#[source] serde_json::Error),
}

/// A message as a frame, length prefix included.
pub fn to_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(FrameError::Shape)?;
    let length = frame.len() - 4;
    match u32::try_from(length) {
        Ok(n) if length <= MAX_FRAME => {
            if let Some(prefix) = frame.get_mut(..4) {
                prefix.copy_from_slice(&n.to_be_bytes());
            }
            Ok(frame)
        }
        _ => Err(FrameError::TooLong(length)),
    }
}

/// The length that a frame's first four bytes announce, checked against [`MAX_FRAME`].
pub fn frame_length(prefix: [u8; 4]) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length > MAX_FRAME { Err(FrameError::TooLong(length)) } else { Ok(length) }
}

/// A message from a frame's body.
pub fn from_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(FrameError::Shape)
}

/// Reads one message; `None` when the peer has closed the connection between two frames.
pub fn read_message<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut prefix = [0u8; 4];
    let first = loop {
        match from.read(&mut prefix) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(prefix.get_mut(first..).unwrap_or_default())?;
    let mut body = vec![0; frame_length(prefix)?];
    from.read_exact(&mut body)?;
    from_body(&body).map(Some)
}

/// Writes one message.
pub fn write_message<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    Ok(to.write_all(&to_frame(message)?)?)
}
