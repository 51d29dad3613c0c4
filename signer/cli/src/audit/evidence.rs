//! Evidence for one signature in one file: the intent, its end, the key's attestation, and the proofs that all of them are
//! under a checkpoint of the log. It is made from a whole verified log and verified without a network or the log.
//!
//! Promises: [`verify`] believes nothing in a file but what the log's key signed, or what hashes lead there from, and says
//! what one file cannot prove.

use super::{
    AuditError,
    facts::{Ended, Facts},
    verify::Witness,
};
use record::{RequestId, Sha256};
use serde::{Deserialize, Serialize};
use tlog::{Checkpoint, Hash};

mod check;
mod collect;
#[cfg(test)]
mod tests;

pub(crate) use check::verify;
pub(crate) use collect::collect;

/// The `schema` member of a file.
const SCHEMA: &str = "chancery.evidence/v1";
/// The longest file: four entries of 64 KiB each, written as JSON strings, with a note and four proofs.
pub(crate) const MAX_EVIDENCE_LEN: u64 = 4 * 1024 * 1024;
/// What a file with a signature does not show.
const FIRST_OF_ITS_KIND: &str = "that no earlier intent for the same bytes and key was open, which the signature would belong to: \
     chancery log verify shows it from the whole log";
/// What a file with an intent and its end does not show.
const FIRST_END: &str =
    "that this intent had not ended before: chancery log verify shows it from the whole log";
/// What a file with an end and no intent does not show.
const NO_INTENT: &str = "that this entry ends an intent: chancery log verify shows it from the whole log";
/// What a file with an intent alone does not show.
const NO_END: &str = "whether this intent has ended: chancery log search shows it from the whole log";

/// Which entry the evidence is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Index(u64),
    Request(RequestId),
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map(Self::Index).map_err(|_| "no log has an entry of this index".to_owned());
        }
        RequestId::parse(text)
            .map(Self::Request)
            .map_err(|_| "give an entry's index, or a request's id".to_owned())
    }
}

/// A file, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evidence {
    schema: String,
    /// The log's verifier key, for people: whoever verifies brings a key of his own.
    log: String,
    /// The checkpoint with all its signature lines.
    checkpoint: String,
    /// In the order of the log.
    pub(crate) entries: Vec<Proven>,
}

/// An entry and its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proven {
    pub(crate) role: Role,
    pub(crate) index: u64,
    /// The entry's bytes.
    leaf: String,
    /// Base64, the leaf's sibling first.
    proof: Vec<String>,
}

/// What an entry is to the others. Each role is at most once in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Entry 0: the log's name and key, and the keepers with which it began.
    Genesis,
    /// Where the keeper presented the key, if that is not the genesis entry.
    Keeper,
    /// What was to be signed, why, and by whose wish.
    Intent,
    /// The signature, or that there is none.
    End,
    /// Any entry but an intent, such as a denial.
    Entry,
}

/// A file's content, and what whoever makes it must hear besides.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) evidence: Evidence,
    /// Other intents that name the request.
    pub(crate) other_intents: Vec<u64>,
    /// How much is wrong with the log's entries.
    pub(crate) findings: u64,
}

/// What a file proves.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    pub(crate) origin: String,
    pub(crate) size: u64,
    pub(crate) root: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) witnesses: Option<Vec<Witness>>,
    #[serde(flatten)]
    pub(crate) about: About,
    #[serde(skip)]
    pub(crate) checkpoint: Checkpoint,
}

/// What a file is about.
#[derive(Debug, Serialize)]
pub(crate) struct About {
    /// The intent, if there is one.
    pub(crate) index: u64,
    pub(crate) kind: &'static str,
    #[serde(flatten)]
    pub(crate) facts: Facts,
    #[serde(flatten)]
    pub(crate) ended: Option<Ended>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<SignatureShown>,
    pub(crate) not_proven: Vec<&'static str>,
}

/// A signature that was verified, and what is known of its key.
#[derive(Debug, Serialize)]
pub(crate) struct SignatureShown {
    /// SHA-256 of the signed bytes.
    pub(crate) payload: Sha256,
    /// Base64 of `r || s` by a P-256 key; of another kind, its word, a colon, and base64 as PKCS#11 has it.
    pub(crate) signature: record::Signature,
    pub(crate) public_key: record::Spki,
    /// The entry in which the keeper presented the key, and with what evidence.
    pub(crate) presented_at: u64,
    pub(crate) evidence: Vec<String>,
}

impl Evidence {
    /// The note of the checkpoint.
    pub(crate) fn checkpoint(&self) -> &str {
        &self.checkpoint
    }

    /// The intent, if the evidence is about one.
    pub(crate) fn intent(&self) -> Option<&Proven> {
        self.entries.iter().find(|entry| entry.role == Role::Intent)
    }

    /// How the intent ended.
    pub(crate) fn end(&self) -> Option<&Proven> {
        self.entries.iter().find(|entry| entry.role == Role::End)
    }

    /// The file's bytes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, AuditError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| AuditError::Log(e.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl Proven {
    /// The entry's bytes.
    pub(crate) fn leaf(&self) -> &[u8] {
        self.leaf.as_bytes()
    }

    /// Its inclusion proof, the leaf's sibling first.
    pub(crate) fn hashes(&self) -> Result<Vec<Hash>, AuditError> {
        let hashes = self.proof.iter().map(|hash| Hash::from_base64(hash)).collect::<Result<_, _>>();
        hashes.map_err(|e| AuditError::Evidence(e.to_string()))
    }
}
