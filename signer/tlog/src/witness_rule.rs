//! What a witness must do with a checkpoint, and a log with the answer (C2SP tlog-witness).
//!
//! Promises: a witness that keeps what [`AddCheckpoint::judge`] accepts, durably and before it answers, never cosigns two
//! checkpoints of a log that contradict each other, nor a smaller one after a larger one. Does not know HTTP, a clock, or
//! where the last checkpoint is kept: comparing and keeping it must be one atomic step of the caller.

use crate::{
    AddCheckpoint, Checkpoint, CheckpointError, CosignerKey, Note, NoteError, NoteSignature, ProofError,
    VerifierKey, WitnessError, decode_cosignatures, empty_root, verify_consistency,
};

/// Why a witness does not cosign a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessRefusal {
    /// The note's text is no checkpoint.
    #[error("the note is no checkpoint")]
    Checkpoint(#[source] CheckpointError),
    /// A log that this witness does not know.
    #[error("the log {origin} is not known here")]
    Origin {
        /// The origin in the checkpoint.
        origin: String,
    },
    /// The log's key has not signed it, or not rightly.
    #[error("the checkpoint is not signed by its log")]
    Unsigned(#[source] NoteError),
    /// The proof starts behind the checkpoint.
    #[error("the old size {old} is beyond the checkpoint's {size}")]
    Shrinks {
        /// Where the proof starts.
        old: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// The proof starts elsewhere than where this witness stands: the log should ask again from there.
    #[error("the last checkpoint seen has {seen} entries, the proof starts at {old}")]
    Conflict {
        /// Where the proof starts.
        old: u64,
        /// The size of the last checkpoint.
        seen: u64,
    },
    /// Another root at the size of the last checkpoint. The two notes together are evidence against the log.
    #[error("the last checkpoint seen has {size} entries too, and another root")]
    Forked {
        /// The size of both.
        size: u64,
    },
    /// The proof does not lead from the last checkpoint to this one. That is no evidence against the log: anybody can send a
    /// wrong proof with a true checkpoint.
    #[error("the proof does not show that the checkpoint extends the last one seen")]
    Inconsistent(#[source] ProofError),
}

impl WitnessRefusal {
    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Checkpoint(CheckpointError::EmptyRoot) | Self::Forked { .. } | Self::Inconsistent(_) => 422,
            Self::Checkpoint(_) | Self::Shrinks { .. } => 400,
            Self::Origin { .. } => 404,
            Self::Unsigned(_) => 403,
            Self::Conflict { .. } => 409,
        }
    }
}

impl AddCheckpoint {
    /// Decides whether a witness that saw `seen` last (nothing, if it never saw this log) cosigns this checkpoint of the log
    /// with `key`, and gives the checkpoint that it must keep first.
    pub fn judge(&self, key: &VerifierKey, seen: Option<&Checkpoint>) -> Result<Checkpoint, WitnessRefusal> {
        let checkpoint = Checkpoint::parse(self.checkpoint.text()).map_err(WitnessRefusal::Checkpoint)?;
        if checkpoint.origin != key.name() {
            return Err(WitnessRefusal::Origin { origin: checkpoint.origin });
        }
        self.checkpoint.verify(key).map_err(WitnessRefusal::Unsigned)?;
        let (old, size) = (self.old, checkpoint.size);
        if old > size {
            return Err(WitnessRefusal::Shrinks { old, size });
        }
        let (seen, root) = seen.map_or((0, empty_root()), |seen| (seen.size, seen.root));
        if old != seen {
            return Err(WitnessRefusal::Conflict { old, seen });
        }
        if size == seen && checkpoint.root != root {
            return Err(WitnessRefusal::Forked { size });
        }
        verify_consistency(old, &root, size, &checkpoint.root, &self.proof)
            .map_err(WitnessRefusal::Inconsistent)?;
        Ok(checkpoint)
    }
}

/// The lines of a witness's answer 200 that are `key`'s and verify, ready for
/// [`Note::with_signatures`](crate::Note::with_signatures). Lines of other keys are left out; one of this key that does not
/// verify, or an answer without one, is an error.
pub fn accepted_cosignatures(
    checkpoint: &Note,
    key: &CosignerKey,
    answer: &str,
) -> Result<Vec<NoteSignature>, WitnessError> {
    let mut lines = decode_cosignatures(answer)?;
    lines.retain(|line| line.id == key.key_id() && line.name == key.name());
    let only_these = Note::unsigned(checkpoint.text()).with_signatures(lines).map_err(WitnessError::Note)?;
    only_these.cosigned_at(key).map_err(WitnessError::Note)?;
    Ok(only_these.signatures().to_vec())
}
