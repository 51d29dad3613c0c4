//! Whom an auditor believes about a log: its key, and the witnesses of a policy if there is one.

use super::AuditError;
use tlog::{Checkpoint, Note, VerifierKey, WitnessPolicy};

/// What a checkpoint must carry to be one of this log.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    pub(crate) key: VerifierKey,
    pub(crate) policy: Option<WitnessPolicy>,
}

/// A checkpoint that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) note: String,
    pub(crate) checkpoint: Checkpoint,
    /// The policy's witnesses that cosigned it; none without a policy.
    pub(crate) witnesses: Vec<tlog::Witnessed>,
}

impl Trust {
    /// Takes the checkpoint out of a note that the log's key signed and the policy's quorum cosigned.
    pub(crate) fn accept(&self, note: &str) -> Result<Accepted, AuditError> {
        let parsed = Note::parse(note).map_err(refused)?;
        let checkpoint = Checkpoint::of_note(&parsed, &self.key).map_err(refused)?;
        let witnesses = match &self.policy {
            Some(policy) => policy.demand(&parsed).map_err(|e| AuditError::Witnesses(api::chain_text(&e)))?,
            None => Vec::new(),
        };
        Ok(Accepted { note: note.to_owned(), checkpoint, witnesses })
    }
}

fn refused(error: impl std::error::Error) -> AuditError {
    AuditError::Log(format!("checkpoint: {}", api::chain_text(&error)))
}
