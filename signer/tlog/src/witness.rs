//! What a log and its witness say to each other (C2SP tlog-witness): the body of `add-checkpoint`, and its answers.
//!
//! Promises: one spelling of each. Does not know HTTP, what state a witness holds, or whether a proof is right: that is
//! [`verify_consistency`](crate::verify_consistency)'s.

use crate::{
    Hash, HashError, MAX_NOTE_LEN, Note, NoteError, NoteSignature, checkpoint::parse_size,
    note::parse_signatures,
};
use std::fmt;

/// A consistency proof in a tree below 2^63 has fewer hashes.
const MAX_HASHES: usize = 63;
/// The longest `add-checkpoint` body: the line `old`, 63 hashes of 44 characters, a blank line, the longest note.
pub const MAX_REQUEST_LEN: usize = 24 + MAX_HASHES * 45 + 1 + MAX_NOTE_LEN;

/// The body of `POST <prefix>/add-checkpoint`. Nothing in it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the log believes the witness has seen last.
    pub old: u64,
    /// The consistency proof from there to the checkpoint; none if `old` is 0.
    pub proof: Vec<Hash>,
    /// The checkpoint with the log's signatures.
    pub checkpoint: Note,
}

/// Why bytes are no message of the witness protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessError {
    /// Longer than [`MAX_REQUEST_LEN`].
    #[error("an add-checkpoint request has at most {MAX_REQUEST_LEN} bytes, this has {len}")]
    TooLong {
        /// How many bytes it has.
        len: usize,
    },
    /// The first line is not `old` and a size.
    #[error("the first line is `old`, a space, and a size without leading zeros")]
    Old,
    /// No blank line between proof and checkpoint.
    #[error("a blank line stands between the proof and the checkpoint")]
    Blank,
    /// More hashes than a proof can have.
    #[error("a consistency proof has at most {MAX_HASHES} hashes, this has more")]
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
    /// The checkpoint is no note, or the answer is no signature lines.
    #[error("the checkpoint or the answer has no form of a signed note")]
    Note(#[source] NoteError),
    /// The answer to a wrong `old` is not a size.
    #[error("the answer is a size without leading zeros and a newline")]
    Size,
}

impl AddCheckpoint {
    /// Parses a body as [`Display`](fmt::Display) writes it.
    pub fn parse(body: &str) -> Result<Self, WitnessError> {
        if body.len() > MAX_REQUEST_LEN {
            return Err(WitnessError::TooLong { len: body.len() });
        }
        let (first, rest) = body.split_once('\n').ok_or(WitnessError::Old)?;
        let old = first.strip_prefix("old ").and_then(parse_size).ok_or(WitnessError::Old)?;
        let (proof, note) = match rest.strip_prefix('\n') {
            Some(note) => ("", note),
            None => rest.split_once("\n\n").ok_or(WitnessError::Blank)?,
        };
        let proof = parse_hashes(proof, MAX_HASHES)
            .ok_or(WitnessError::TooManyHashes)?
            .map_err(|(line, source)| WitnessError::Hash { line, source })?;
        let checkpoint = Note::parse(note).map_err(WitnessError::Note)?;
        Ok(Self { old, proof, checkpoint })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", hash.to_base64()))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// The body of an answer 200: the witness's signature lines.
pub fn encode_cosignatures(lines: &[NoteSignature]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The signature lines of an answer 200. Not verified:
/// [`accepted_cosignatures`](crate::accepted_cosignatures) keeps those that are.
pub fn decode_cosignatures(body: &str) -> Result<Vec<NoteSignature>, WitnessError> {
    if body.len() > MAX_NOTE_LEN {
        return Err(WitnessError::TooLong { len: body.len() });
    }
    parse_signatures(body).map_err(WitnessError::Note)
}

/// The body of an answer 409 (`text/x.tlog.size`): the size that the witness has seen last.
pub fn encode_size(size: u64) -> String {
    format!("{size}\n")
}

/// The size in an answer 409. Nobody signs it: it says where to try again, and proves nothing.
pub fn decode_size(body: &str) -> Result<u64, WitnessError> {
    body.strip_suffix('\n').and_then(parse_size).ok_or(WitnessError::Size)
}

/// The hashes of a proof, one a line without the last newline: none if there are more than `most`, and else the number of
/// the first line that is no hash.
pub(crate) fn parse_hashes(lines: &str, most: usize) -> Option<Result<Vec<Hash>, (usize, HashError)>> {
    if lines.is_empty() {
        return Some(Ok(Vec::new()));
    }
    if lines.split('\n').nth(most).is_some() {
        return None;
    }
    let hash = |(number, line)| Hash::from_base64(line).map_err(|source| (number, source));
    Some((1..).zip(lines.split('\n')).map(hash).collect())
}
