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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{synthetic::Log, verify},
        exit::Exit,
        failure::Failure,
    };
    use ed25519_dalek::{Signer, SigningKey};
    use tlog::{CosignerKey, cosignature_line, cosigned_message};

    /// A witness, and a policy that asks for it.
    fn witness(log: &Log) -> (SigningKey, CosignerKey, Trust) {
        let key = SigningKey::from_bytes(&[5; 32]);
        let vkey = CosignerKey::new_ed25519("w.example.com", key.verifying_key().to_bytes()).unwrap();
        let policy = WitnessPolicy::parse(&format!("witness w {vkey}\nquorum w\n")).unwrap();
        (key, vkey, Trust { policy: Some(policy), ..log.trust() })
    }

    #[test]
    fn a_log_verifies_with_the_witnesses_that_the_policy_asks_for_and_not_without_them() {
        let log = Log::with_requests(3);
        let (key, vkey, trust) = witness(&log);
        let published = log.published(log.size());
        let error = verify(&published.source(), &trust, None, &[]).unwrap_err();
        assert!(matches!(error, AuditError::Witnesses(_)), "{error}");
        assert_eq!(Failure::from(error).exit, Exit::Verification);
        let note = Note::parse(&published.note).unwrap();
        let time_s = 1_790_000_000;
        let signature = key.sign(cosigned_message(time_s, note.text()).as_bytes()).to_bytes();
        let line = cosignature_line(note.text(), &vkey, time_s, &signature).unwrap();
        let cosigned = note.with_signatures([line]).unwrap().to_string();
        let checkpoint = published.files().into_iter().find(|f| f.ends_with("checkpoint")).unwrap();
        std::fs::write(checkpoint, &cosigned).unwrap();
        let report =
            verify(&published.source(), &trust, None, std::slice::from_ref(&published.note)).unwrap();
        let witnesses = report.witnesses.unwrap();
        assert_eq!((witnesses[0].name.as_str(), witnesses[0].time.as_str()), ("w", "2026-09-21T14:13:20Z"));
        assert_eq!((report.extends, report.note), (1, cosigned));
    }

    #[test]
    fn a_log_that_does_not_extend_another_checkpoint_is_refused() {
        let (log, other) = (Log::with_requests(20), Log::with_other_requests(20));
        let with = |note: &str| {
            verify(&log.published(30).source(), &log.trust(), None, &[note.to_owned()]).map(|r| r.extends)
        };
        assert_eq!(with(&log.published(7).note).unwrap(), 1);
        assert!(matches!(with(&other.published(7).note), Err(AuditError::Forked { seen: 7, now: 30 })));
        assert!(matches!(with(&log.published(41).note), Err(AuditError::Behind { seen: 41, has: 30 })));
        assert!(matches!(with("no note"), Err(AuditError::Log(_))));
    }
}
