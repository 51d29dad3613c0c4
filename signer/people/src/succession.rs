//! How one roster follows another: the first by the hash that an operator has pinned, each next one by the signatures of the
//! one before it.
//!
//! The envelope is DSSE with a payload type of its own, so that no signature over a roster is one over anything else.

use crate::approval::{pae, signs};
use crate::name::Name;
use crate::roster::{Changes, Method, Roster, RosterError};
use record::canonical::{self, CanonicalError};
use record::wire::Blob;
use record::{KeyId, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// DSSE's `payloadType` of rosters.
pub const ROSTER_TYPE: &str = "application/vnd.chancery.roster.v1+json";
/// Most bytes of a signed roster: it fits into one leaf of the log with room for the leaf's own members.
pub const MAX_SIGNED_ROSTER_BYTES: usize = 62 * 1024;
/// Most signatures under one roster.
const MAX_ROSTER_SIGNATURES: usize = 32;

/// A roster with the signatures of the people of the version before. The first has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRoster {
    roster: Roster,
    signatures: Vec<(KeyId, Vec<u8>)>,
}

/// Why a roster does not come into force.
#[derive(Debug, thiserror::Error)]
pub enum SuccessionError {
    /// Over [`MAX_SIGNED_ROSTER_BYTES`].
    #[error("a signed roster of {0} bytes: the limit is {MAX_SIGNED_ROSTER_BYTES}")]
    TooLong(usize),
    /// Not canonical JSON of this shape.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// An envelope of something else.
    #[error("payloadType is {0:?}, not {ROSTER_TYPE:?}")]
    PayloadType(String),
    /// More signatures than the limit, or out of order.
    #[error("at most {MAX_ROSTER_SIGNATURES} signatures, sorted by keyid, each once")]
    Signatures,
    /// Its payload is no roster.
    #[error("its payload: {0}")]
    Roster(#[from] RosterError),
    /// Offered as the first, and not what was pinned.
    #[error("it is version {version} with SHA-256 {found}, and the pin is for version 1 with {pinned}")]
    NotPinned {
        /// Its version.
        version: u64,
        /// Its hash.
        found: Sha256,
        /// The pinned hash.
        pinned: Sha256,
    },
    /// The first carries no signatures: nobody is there yet to have made one.
    #[error("version 1 carries no signatures: its hash is what is pinned")]
    SignedFirst,
    /// Not the next version.
    #[error("it is version {offered}, and version {} is what follows version {current}", .current.saturating_add(1))]
    Version {
        /// What is in force.
        current: u64,
        /// What was offered.
        offered: u64,
    },
    /// The next version of another roster.
    #[error("it follows another version {0} than the one in force")]
    Previous(u64),
    /// A key that the version before does not have, or not for PIV.
    #[error("key {0} is no PIV key of the version in force")]
    Key(KeyId),
    /// A signature that does not verify.
    #[error("the signature of key {0} does not verify")]
    Signature(KeyId),
    /// Too few people.
    #[error("{have} of {count} members of group {group} have signed it: {} more must", .count.saturating_sub(*.have))]
    Quorum {
        /// The group.
        group: Name,
        /// How many are needed.
        count: u32,
        /// How many signed.
        have: u32,
    },
}

impl SignedRoster {
    /// A roster with signatures (DER), sorted here.
    pub fn new(roster: Roster, mut signatures: Vec<(KeyId, Vec<u8>)>) -> Self {
        signatures.sort();
        Self { roster, signatures }
    }

    /// Reads an envelope.
    pub fn parse(bytes: &[u8]) -> Result<Self, SuccessionError> {
        if bytes.len() > MAX_SIGNED_ROSTER_BYTES {
            return Err(SuccessionError::TooLong(bytes.len()));
        }
        let Envelope { payload, payload_type, signatures } = canonical::decode(bytes)?;
        if payload_type != ROSTER_TYPE {
            return Err(SuccessionError::PayloadType(payload_type.chars().take(80).collect()));
        }
        if signatures.len() > MAX_ROSTER_SIGNATURES || !signatures.is_sorted_by(|a, b| a.keyid < b.keyid) {
            return Err(SuccessionError::Signatures);
        }
        let roster = Roster::parse(&payload.0)?;
        Ok(Self { roster, signatures: signatures.into_iter().map(|s| (s.keyid, s.sig.0)).collect() })
    }

    /// The envelope's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, SuccessionError> {
        let signed = |(keyid, sig): &(KeyId, Vec<u8>)| Signed { keyid: *keyid, sig: Blob(sig.clone()) };
        let bytes = canonical::encode(&Envelope {
            payload: Blob(self.roster.bytes().to_vec()),
            payload_type: ROSTER_TYPE.into(),
            signatures: self.signatures.iter().map(signed).collect(),
        })?;
        if bytes.len() > MAX_SIGNED_ROSTER_BYTES {
            return Err(SuccessionError::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    /// What it says, whether or not it is in force.
    pub fn offered(&self) -> &Roster {
        &self.roster
    }

    /// The signatures (DER), by their keys.
    pub fn signatures(&self) -> &[(KeyId, Vec<u8>)] {
        &self.signatures
    }

    /// What each signature under it is over.
    pub fn signed_bytes(roster: &Roster) -> Vec<u8> {
        pae(ROSTER_TYPE, roster.bytes())
    }

    /// The first roster, if it is the one that was pinned.
    pub fn first(self, pinned: Sha256) -> Result<Roster, SuccessionError> {
        let (version, found) = (self.roster.version(), self.roster.sha256());
        if version != 1 || found != pinned {
            return Err(SuccessionError::NotPinned { version, found, pinned });
        }
        if self.signatures.is_empty() { Ok(self.roster) } else { Err(SuccessionError::SignedFirst) }
    }

    /// The roster, if it follows `current` by the word of that one's people. Every signature under it must be one of theirs:
    /// one that is not shows a mistake that its maker should see.
    // INVARIANT(forward-only): only the next version follows, and only the one that names this very roster.
    pub fn after(self, current: &Roster) -> Result<Roster, SuccessionError> {
        let (current_version, offered) = (current.version(), self.roster.version());
        if current_version.checked_add(1) != Some(offered) {
            return Err(SuccessionError::Version { current: current_version, offered });
        }
        if self.roster.content().previous != Some(current.sha256()) {
            return Err(SuccessionError::Previous(current_version));
        }
        let Changes { group, count } = &current.content().changes;
        let have = self.signers(current)?.intersection(&current.members(group).iter().collect()).count();
        let have = u32::try_from(have).unwrap_or(u32::MAX);
        if have < *count {
            return Err(SuccessionError::Quorum { group: group.clone(), count: *count, have });
        }
        Ok(self.roster)
    }

    /// The people of `current` who have signed by PIV.
    fn signers<'a>(&self, current: &'a Roster) -> Result<BTreeSet<&'a Name>, SuccessionError> {
        let message = Self::signed_bytes(&self.roster);
        let signer = |(id, signature): &(KeyId, Vec<u8>)| match current.key(*id) {
            Some((person, key)) if matches!(key.method, Method::Piv { .. }) => {
                let made = signs(&key.spki, &message, signature);
                if made { Ok(&person.name) } else { Err(SuccessionError::Signature(*id)) }
            }
            _ => Err(SuccessionError::Key(*id)),
        };
        self.signatures.iter().map(signer).collect()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: Blob,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<Signed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    keyid: KeyId,
    sig: Blob,
}
