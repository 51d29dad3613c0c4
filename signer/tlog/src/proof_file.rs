//! Offline proofs (C2SP tlog-proof): one entry's inclusion proof and the checkpoint that it leads to, in one file.
//!
//! Promises: [`LogProof::verify`] answers only with a checkpoint that the log's key signed, that the policy's witnesses
//! cosigned, and that has the leaf at the file's index. Does not know what the leaf is the hash of.

use crate::{
    Checkpoint, CheckpointError, Hash, HashError, MAX_NOTE_LEN, Note, NoteError, PolicyError, ProofError,
    VerifierKey, WitnessPolicy, checkpoint::parse_size, verify_inclusion, witness::parse_hashes,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::fmt;

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
/// An inclusion proof in a tree below 2^63 has no more hashes.
const MAX_HASHES: usize = 63;
/// The longest file: as much opaque data and proof as the longest note has bytes, and that note.
pub const MAX_LOG_PROOF_LEN: usize = 2 * MAX_NOTE_LEN;

/// A parsed file. Nothing in it is verified until [`verify`](Self::verify) says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogProof {
    /// What an application has put beside the proof. Nothing protects it, not even `verify`.
    pub extra: Option<Vec<u8>>,
    /// Which entry.
    pub index: u64,
    /// The inclusion proof, the leaf's sibling first.
    pub hashes: Vec<Hash>,
    /// The checkpoint with all its signature lines.
    pub checkpoint: Note,
}

/// Why a file is no proof, or proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogProofError {
    /// Longer than [`MAX_LOG_PROOF_LEN`].
    #[error("a tlog-proof has at most {MAX_LOG_PROOF_LEN} bytes, this has {len}")]
    TooLong {
        /// How many bytes it has.
        len: usize,
    },
    /// Another first line.
    #[error("the first line is not c2sp.org/tlog-proof@v1")]
    Header,
    /// A line `extra` that is not base64.
    #[error("the line `extra` is not in standard, padded base64")]
    Extra,
    /// No line `index`.
    #[error("the line `index` is missing, or its number has no decimal form without leading zeros")]
    Index,
    /// No blank line before the checkpoint.
    #[error("a blank line stands between the proof and the checkpoint")]
    Blank,
    /// More hashes than a proof can have.
    #[error("an inclusion proof has at most {MAX_HASHES} hashes, this has more")]
    TooManyHashes,
    /// A line of the proof is no hash.
    #[error("line {line} of the proof is no hash")]
    Hash {
        /// Which line of the proof, counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: HashError,
    },
    /// The checkpoint is no signed note.
    #[error("the checkpoint is no signed note")]
    Note(#[source] NoteError),
    /// The checkpoint is not this log's.
    #[error("the checkpoint is not accepted")]
    Checkpoint(#[source] CheckpointError),
    /// The witnesses that the policy demands have not cosigned.
    #[error("the checkpoint's witnesses are not accepted")]
    Witnesses(#[source] PolicyError),
    /// The leaf is not at this index of the tree.
    #[error("the entry is not at index {index} of this tree")]
    Inclusion {
        /// The index.
        index: u64,
        /// What is wrong with the proof.
        #[source]
        source: ProofError,
    },
}

impl LogProof {
    /// Parses a file as [`Display`](fmt::Display) writes it.
    pub fn parse(text: &str) -> Result<Self, LogProofError> {
        if text.len() > MAX_LOG_PROOF_LEN {
            return Err(LogProofError::TooLong { len: text.len() });
        }
        let text = text.strip_prefix(HEADER).ok_or(LogProofError::Header)?;
        let (extra, text) = parse_extra(text)?;
        let (index, rest) = text.split_once('\n').ok_or(LogProofError::Index)?;
        let index = index.strip_prefix("index ").and_then(parse_size).ok_or(LogProofError::Index)?;
        let (hashes, note) = match rest.strip_prefix('\n') {
            Some(note) => ("", note),
            None => rest.split_once("\n\n").ok_or(LogProofError::Blank)?,
        };
        let hashes = parse_hashes(hashes, MAX_HASHES)
            .ok_or(LogProofError::TooManyHashes)?
            .map_err(|(line, source)| LogProofError::Hash { line, source })?;
        let checkpoint = Note::parse(note).map_err(LogProofError::Note)?;
        Ok(Self { extra, index, hashes, checkpoint })
    }

    /// Verifies that `leaf` is at the file's index in the tree of its checkpoint, which `key` signed and, if there is a
    /// policy, its witnesses cosigned.
    pub fn verify(
        &self,
        leaf: &Hash,
        key: &VerifierKey,
        policy: Option<&WitnessPolicy>,
    ) -> Result<Checkpoint, LogProofError> {
        let checkpoint = Checkpoint::of_note(&self.checkpoint, key).map_err(LogProofError::Checkpoint)?;
        if let Some(policy) = policy {
            policy.demand(&self.checkpoint).map_err(LogProofError::Witnesses)?;
        }
        verify_inclusion(leaf, self.index, checkpoint.size, &self.hashes, &checkpoint.root)
            .map_err(|source| LogProofError::Inclusion { index: self.index, source })?;
        Ok(checkpoint)
    }
}

impl fmt::Display for LogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEADER)?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", hash.to_base64()))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// The opaque data if there is some, and what follows it.
fn parse_extra(text: &str) -> Result<(Option<Vec<u8>>, &str), LogProofError> {
    let Some(rest) = text.strip_prefix("extra ") else { return Ok((None, text)) };
    let (data, rest) = rest.split_once('\n').ok_or(LogProofError::Extra)?;
    Ok((Some(STANDARD.decode(data).map_err(|_| LogProofError::Extra)?), rest))
}
