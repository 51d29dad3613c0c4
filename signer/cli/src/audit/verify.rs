//! A whole log verified, from its published files alone.

use super::{
    AuditError, LogSource, Prover, ReadError,
    ends::{Counts, Ends, Finding, MAX_LISTED, OpenIntent},
    notes::Memory,
    proof::Inclusion,
};
use serde::Serialize;
use tlog::{Checkpoint, VerifierKey, VerifyError};

/// What a verification found. The hashes, the root and the note are right wherever there is a report at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    pub(crate) origin: String,
    pub(crate) size: u64,
    /// Base64, as in the checkpoint.
    pub(crate) root: String,
    #[serde(flatten)]
    pub(crate) counts: Counts,
    /// Intents without an end, the oldest ones.
    pub(crate) open: Vec<OpenIntent>,
    pub(crate) open_total: u64,
    /// What is wrong, the first ones.
    pub(crate) findings: Vec<Finding>,
    pub(crate) findings_total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proof: Option<Inclusion>,
    /// How the log stands to the note that this machine remembers of it.
    #[serde(flatten)]
    pub(crate) memory: Memory,
    /// The note, as it was verified.
    #[serde(skip)]
    pub(crate) note: String,
}

/// Verifies everything that `source` publishes under `key`: every hash, the root, the note, every signature in the
/// log, that no end comes without its intent and no intent ends twice, and one proof (of `index`, or of the last intent).
/// Intents without an end are reported, and are no fault: they are at work, or their keeper is away.
pub(crate) fn verify(
    source: &LogSource,
    key: &VerifierKey,
    index: Option<u64>,
) -> Result<Report, AuditError> {
    let mut ends = Ends::new(key.name(), key.to_string());
    let mut note = Vec::new();
    let read = |path: &str| {
        if path == "checkpoint" {
            note = source.checkpoint()?;
            return Ok(Some(note.clone()));
        }
        source.read(path)
    };
    let checkpoint =
        tlog::verify_log(read, key, |at, entry| ends.entry(at, entry)).map_err(altered)?.checkpoint;
    let index = index.or(ends.last_intent);
    let proof = index.map(|i| Prover::new(source, &checkpoint).inclusion(i)).transpose()?;
    Ok(report(&checkpoint, &ends, proof, String::from_utf8_lossy(&note).into_owned()))
}

/// The source's checkpoint with its note, if `key` has signed it.
pub(crate) fn opened_checkpoint(
    source: &LogSource,
    key: &VerifierKey,
) -> Result<(String, Checkpoint), AuditError> {
    let note = String::from_utf8(source.checkpoint()?)
        .map_err(|_| AuditError::Log("checkpoint is not UTF-8".into()))?;
    let checkpoint = Checkpoint::open(&note, key).map_err(|e| AuditError::Log(api::chain_text(&e)))?;
    Ok((note, checkpoint))
}

fn altered(error: VerifyError<ReadError>) -> AuditError {
    match error {
        VerifyError::Read { source, .. } => AuditError::Read(source),
        other => AuditError::Log(api::chain_text(&other)),
    }
}

fn report(checkpoint: &Checkpoint, ends: &Ends, proof: Option<Inclusion>, note: String) -> Report {
    Report {
        origin: checkpoint.origin.clone(),
        size: checkpoint.size,
        root: checkpoint.root.to_base64(),
        counts: ends.counts.clone(),
        open: ends.open().take(MAX_LISTED).cloned().collect(),
        open_total: ends.open().len() as u64,
        findings: ends.findings.listed.clone(),
        findings_total: ends.findings.total,
        proof,
        memory: Memory::default(),
        note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::synthetic::{Log, Published, completion},
        exit::Exit,
        failure::Failure,
    };
    use std::fs;

    fn exit(published: &Published, log: &Log) -> Exit {
        match verify(&published.source(), &log.vkey(), None) {
            Ok(report) if report.findings_total == 0 => Exit::Ok,
            Ok(_) => Exit::Verification,
            Err(error) => Failure::from(error).exit,
        }
    }

    #[test]
    fn a_whole_log_verifies_from_its_files_alone() {
        for requests in [0, 1, 85, 86, 300] {
            let log = Log::with_requests(requests);
            let published = log.published(log.size());
            let report = verify(&published.source(), &log.vkey(), None).unwrap();
            assert_eq!((report.findings_total, report.open_total, report.size), (0, 0, log.size()));
            assert_eq!(report.counts.signed, requests);
            assert_eq!(report.proof.is_some(), requests > 0);
            assert_eq!(report.note, published.note);
        }
    }

    #[test]
    fn every_file_that_is_altered_or_missing_is_found() {
        let log = Log::with_requests(150);
        let published = log.published(log.size());
        let files = published.files();
        assert!(files.len() > 4, "{files:?}");
        for file in files {
            let whole = fs::read(&file).unwrap();
            for at in [0, whole.len() / 2, whole.len() - 1] {
                let mut bytes = whole.clone();
                bytes[at] ^= 1;
                fs::write(&file, bytes).unwrap();
                assert_eq!(exit(&published, &log), Exit::Verification, "{} byte {at}", file.display());
            }
            fs::write(&file, &whole[..whole.len() - 1]).unwrap();
            assert_eq!(exit(&published, &log), Exit::Verification, "{} shortened", file.display());
            fs::remove_file(&file).unwrap();
            // Without its checkpoint a folder claims to be no log; without another file it claims what is not so.
            let missing = if file.ends_with("checkpoint") { Exit::NotFound } else { Exit::Verification };
            assert_eq!(exit(&published, &log), missing, "{} missing", file.display());
            fs::write(&file, whole).unwrap();
        }
        assert_eq!(exit(&published, &log), Exit::Ok);
    }

    #[test]
    fn a_log_that_another_key_signed_is_refused() {
        let log = Log::with_requests(3);
        let published = log.published(log.size());
        let stranger = ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key();
        let other = VerifierKey::new_ed25519("log.chancery.test", stranger.to_bytes()).unwrap();
        let error = verify(&published.source(), &other, None).unwrap_err();
        assert_eq!(Failure::from(error).exit, Exit::Verification);
    }

    #[test]
    fn a_signature_behind_the_logs_back_is_reported_although_every_hash_is_right() {
        let mut log = Log::with_requests(3);
        log.push(completion(99_999));
        let published = log.published(log.size());
        let report = verify(&published.source(), &log.vkey(), None).unwrap();
        assert_eq!(report.findings_total, 1);
        assert_eq!(report.findings[0].index, log.size() - 1);
    }

    #[test]
    fn a_proof_is_given_for_any_entry_and_for_no_other() {
        let log = Log::with_requests(150);
        let published = log.published(log.size());
        for index in [0, 1, 255, 256, log.size() - 1] {
            let proof = verify(&published.source(), &log.vkey(), Some(index)).unwrap().proof.unwrap();
            assert_eq!((proof.index, proof.size), (index, log.size()));
        }
        let error = verify(&published.source(), &log.vkey(), Some(log.size())).unwrap_err();
        assert_eq!(Failure::from(error).exit, Exit::NotFound);
    }

    #[test]
    fn a_folder_that_is_no_log_is_not_found_and_accuses_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::with_requests(1);
        for (folder, missing) in [
            (dir.path().to_owned(), dir.path().join("checkpoint")),
            (dir.path().join("mistyped"), dir.path().join("mistyped")),
        ] {
            let source = LogSource::Dir(folder);
            let by_proof = opened_checkpoint(&source, &log.vkey()).map(drop).unwrap_err();
            for error in [verify(&source, &log.vkey(), None).map(drop).unwrap_err(), by_proof] {
                let failure = Failure::from(error);
                assert_eq!(failure.exit, Exit::NotFound);
                let text = failure.to_string();
                assert!(text.contains(&format!("no {}\n", missing.display())), "{text}");
                assert!(!text.contains("evidence"), "{text}");
            }
        }
    }
}
