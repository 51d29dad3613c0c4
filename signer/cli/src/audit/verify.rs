//! A whole log verified, from its published files alone.

use super::{
    AuditError, LogSource, Prover,
    ends::{Counts, Ends, Finding, Findings, MAX_LISTED, UnknownOutcome},
    matching::OpenIntent,
    notes::Memory,
    proof::Inclusion,
    trust::{Accepted, Trust},
    walk::{Walked, walk},
};
use record::Continues;
use serde::Serialize;

/// What a verification found. The hashes, the root and the note are right wherever there is a report at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    pub(crate) origin: String,
    pub(crate) size: u64,
    /// Base64, as in the checkpoint.
    pub(crate) root: String,
    /// The policy's witnesses that cosigned the checkpoint; absent without a policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) witnesses: Option<Vec<Witness>>,
    /// The log that this one says it continues; absent for a first log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) continues: Option<Continues>,
    /// How many other checkpoints the log extends.
    pub(crate) extends: u64,
    #[serde(flatten)]
    pub(crate) counts: Counts,
    /// Intents without an end, the oldest ones.
    pub(crate) open: Vec<OpenIntent>,
    pub(crate) open_total: u64,
    /// Intents of which nobody can say whether a signature was made, the oldest ones.
    pub(crate) unknown_outcomes: Vec<UnknownOutcome>,
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

/// A witness that cosigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Witness {
    /// Its name in the policy.
    pub(crate) name: String,
    /// When, by its own clock.
    pub(crate) time: String,
}

impl From<&tlog::Witnessed> for Witness {
    fn from(witnessed: &tlog::Witnessed) -> Self {
        Self { name: witnessed.name.clone(), time: time_text(witnessed.time_s) }
    }
}

/// The time of a cosignature for people. One beyond the year 9999 is shown as the number that it is.
pub(super) fn time_text(time_s: u64) -> String {
    let ms = i64::try_from(time_s).ok().and_then(|s| s.checked_mul(1000));
    let time = ms.and_then(|ms| record::Time::from_unix_ms(ms).ok());
    time.map_or_else(|| time_s.to_string(), |t| t.to_rfc3339_seconds())
}

/// Verifies everything that `source` publishes: every hash, the root, the note and its witnesses, every signature in the
/// log, that no end comes without its intent and no intent ends twice, that the log extends each of `others`, and one proof
/// (of `index`, or of the last intent). Intents without an end are reported, and are no fault: they are at work, or their
/// keeper is away.
pub(crate) fn verify(
    source: &LogSource,
    trust: &Trust,
    index: Option<u64>,
    others: &[String],
) -> Result<Report, AuditError> {
    let Walked { accepted, mut ends } = walk(source, trust, |_, _, _| ())?;
    let mut prover = Prover::new(source, &accepted.checkpoint);
    for other in others {
        // Another person may have kept it before there were witnesses.
        let other = Trust { policy: None, ..trust.clone() }.accept(other)?.checkpoint;
        let (seen, has) = (other.size, accepted.checkpoint.size);
        // Files may just be old; a server may not.
        if seen > has && !source.is_remote() {
            return Err(AuditError::Behind { seen, has });
        }
        prover.extends(&other)?;
    }
    let proof = index.or(ends.last_intent).map(|i| prover.inclusion(i)).transpose()?;
    let witnesses = trust.policy.is_some().then(|| accepted.witnesses.iter().map(Witness::from).collect());
    Ok(Report { witnesses, extends: others.len() as u64, proof, ..report(&accepted, &mut ends) })
}

/// The source's checkpoint, if it is accepted.
pub(crate) fn opened_checkpoint(source: &LogSource, trust: &Trust) -> Result<Accepted, AuditError> {
    let note = String::from_utf8(source.checkpoint()?)
        .map_err(|_| AuditError::Log("checkpoint is not UTF-8".into()))?;
    trust.accept(&note)
}

/// What a walk over a whole log has found.
pub(super) fn report(accepted: &Accepted, ends: &mut Ends) -> Report {
    let checkpoint = &accepted.checkpoint;
    let Findings { listed, total } = ends.findings().clone();
    Report {
        origin: checkpoint.origin.clone(),
        size: checkpoint.size,
        root: checkpoint.root.to_base64(),
        witnesses: None,
        continues: ends.continues().cloned(),
        extends: 0,
        counts: ends.counts.clone(),
        open: ends.open().take(MAX_LISTED).cloned().collect(),
        open_total: ends.open().len() as u64,
        unknown_outcomes: ends.unknown.clone(),
        findings: listed,
        findings_total: total,
        proof: None,
        memory: Memory::default(),
        note: accepted.note.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::synthetic::{Log, Published, completion, decided, denial, every_event, intent, outcome, time},
        exit::Exit,
        failure::Failure,
    };
    use record::OutcomeKind;
    use std::fs;

    fn exit(published: &Published, log: &Log) -> Exit {
        match verify(&published.source(), &log.trust(), None, &[]) {
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
            let report = verify(&published.source(), &log.trust(), None, &[]).unwrap();
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
        let other = tlog::VerifierKey::new_ed25519("log.chancery.test", stranger.to_bytes()).unwrap();
        let error = verify(&published.source(), &Trust { key: other, policy: None }, None, &[]).unwrap_err();
        assert_eq!(Failure::from(error).exit, Exit::Verification);
    }

    #[test]
    fn a_signature_behind_the_logs_back_is_reported_although_every_hash_is_right() {
        let mut log = Log::with_requests(3);
        log.push(completion(99_999));
        let published = log.published(log.size());
        let report = verify(&published.source(), &log.trust(), None, &[]).unwrap();
        assert_eq!(report.findings_total, 1);
        assert_eq!(report.findings[0].index, log.size() - 1);
    }

    #[test]
    fn a_proof_is_given_for_any_entry_and_for_no_other() {
        let log = Log::with_requests(150);
        let published = log.published(log.size());
        for index in [0, 1, 255, 256, log.size() - 1] {
            let proof = verify(&published.source(), &log.trust(), Some(index), &[]).unwrap().proof.unwrap();
            assert_eq!((proof.index, proof.size), (index, log.size()));
        }
        let error = verify(&published.source(), &log.trust(), Some(log.size()), &[]).unwrap_err();
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
            let by_proof = opened_checkpoint(&source, &log.trust()).map(drop).unwrap_err();
            for error in [verify(&source, &log.trust(), None, &[]).map(drop).unwrap_err(), by_proof] {
                let failure = Failure::from(error);
                assert_eq!(failure.exit, Exit::NotFound);
                let text = failure.to_string();
                assert!(text.contains(&format!("no {}\n", missing.display())), "{text}");
                assert!(!text.contains("evidence"), "{text}");
            }
        }
    }

    /// What the second verifier, in Python, says of the files: exit code, size, ends, and number of findings.
    fn second(published: &Published, log: &Log) -> Option<(i32, serde_json::Value)> {
        let LogSource::Dir(dir) = published.source() else { return None };
        let said = python(&[dir.to_str().unwrap(), &log.vkey().to_string()])?;
        Some((said.status.code().unwrap(), serde_json::from_slice(&said.stdout).unwrap()))
    }

    /// A call of the second verifier.
    fn python(args: &[&str]) -> Option<std::process::Output> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/verifier/verify_log.py");
        let said = std::process::Command::new("python3").arg(script).args(args).output();
        if said.is_err() {
            eprintln!("SKIPPED: python3 is not installed");
        }
        said.ok()
    }

    #[test]
    fn the_second_verifier_ends_with_the_code_that_it_says_and_never_with_a_traceback() {
        let log = Log::with_requests(1);
        let published = log.published(log.size());
        let LogSource::Dir(dir) = published.source() else { panic!() };
        let (dir, vkey) = (dir.to_str().unwrap(), log.vkey().to_string());
        let absent = format!("{dir}/absent");
        for (args, code) in [
            (vec![], 2),
            (vec![dir], 2),
            (vec![dir, "a+b+"], 2),
            (vec![dir, "log"], 2),
            (vec![dir, &vkey, &absent], 2),
            (vec![&absent, &vkey], 5),
            (vec!["http://127.0.0.1:1", &vkey], 9),
            (vec!["nothing://127.0.0.1", &vkey], 9),
            (vec![dir, &vkey], 0),
        ] {
            let Some(said) = python(&args) else { return };
            let error = String::from_utf8_lossy(&said.stderr);
            assert_eq!(said.status.code(), Some(code), "{args:?}: {error}");
            assert!(!error.contains("Traceback"), "{args:?}: {error}");
        }
        let tile = published.files().into_iter().find(|f| f.to_string_lossy().contains("entries")).unwrap();
        fs::remove_file(&tile).unwrap();
        fs::create_dir(&tile).unwrap();
        assert_eq!(second(&published, &log).unwrap().0, 9);
    }

    #[test]
    fn the_second_verifier_knows_the_members_of_every_leaf() {
        let text = |leaf: record::Leaf| String::from_utf8(leaf.encode().unwrap()).unwrap();
        let (end, refused) = (text(outcome(5, OutcomeKind::Void)), text(denial(9, "v9")));
        let back = |event: &record::Event| matches!(event, record::Event::ClockStepped { by_ms: ..0, .. });
        let stepped = text(record::Leaf::Event(every_event().into_iter().find(back).unwrap()));
        for (whole, old, new) in [
            (&end, "\"intent\":5", "\"intent\":5.0"),
            (&end, "\"intent\":5", "\"intent\":true"),
            (&end, "\"outcome\":", "\"more\":1,\"outcome\":"),
            (&end, "\"keeper\":\"signing\",", "\"code\":null,\"keeper\":\"signing\","),
            (&refused, "\"action\":\"sign\",", ""),
            (&refused, "\"reasons\":[", "\"reasons\":[[],"),
            (&text(intent(9, 9)), "\"version\":9", "\"version\":\"9\""),
            (&text(completion(9)), "\"algorithm\"", "\"a\":1,\"algorithm\""),
            (&stepped, "-90000", "-90000.0"),
        ] {
            let altered = whole.replacen(old, new, 1);
            assert_ne!(*whole, altered, "{old}");
            let mut log = Log::with_requests(2);
            log.push(intent(5, 9));
            log.push_bytes(altered.clone().into_bytes());
            let published = log.published(log.size());
            let ours = verify(&published.source(), &log.trust(), None, &[]).unwrap();
            let Some((code, theirs)) = second(&published, &log) else { return };
            let theirs = (theirs["findings_total"].as_u64(), theirs["open_total"].as_u64());
            assert_eq!((ours.findings_total, ours.open_total), (1, 1), "{altered}");
            assert_eq!((code, theirs), (10, (Some(1), Some(1))), "{altered}");
        }
        let mut deep = Log::with_requests(1);
        deep.push_bytes(format!("{}{}", "[".repeat(30_000), "]".repeat(30_000)).into_bytes());
        let published = deep.published(deep.size());
        assert_eq!(verify(&published.source(), &deep.trust(), None, &[]).unwrap().findings_total, 1);
        assert!(
            second(&published, &deep).is_none_or(|(code, said)| code == 10 && said["findings_total"] == 1)
        );
    }

    #[test]
    fn the_second_verifier_takes_an_event_of_every_kind_and_a_clock_set_back() {
        let mut log = Log::with_requests(1);
        every_event().into_iter().for_each(|event| log.push(record::Leaf::Event(event)));
        let published = log.published(log.size());
        let ours = verify(&published.source(), &log.trust(), None, &[]).unwrap();
        assert_eq!((ours.findings_total, ours.size), (0, 3 + every_event().len() as u64));
        let Some((code, theirs)) = second(&published, &log) else { return };
        assert_eq!(code, 0, "{theirs}");
    }

    /// A log with a decision that was altered by `alter`, and an intent that names it as it is.
    fn with_decision(alter: fn(&mut record::Allowance)) -> Log {
        let [decision, named] = decided(9, 9);
        let (record::Leaf::Allowance(mut decision), record::Leaf::Intent(mut intent)) = (decision, named)
        else {
            panic!("no decision and its intent")
        };
        alter(&mut decision);
        let decision = record::Leaf::Allowance(decision);
        let record::Action::Targets { changes, .. } = &mut intent.action else { panic!("no targets") };
        changes[0].requested.decision = Some(record::Sha256::of(&decision.encode().unwrap()));
        let mut log = Log::with_requests(2);
        log.push(decision);
        log.push(record::Leaf::Intent(intent));
        log.push(outcome(6, OutcomeKind::Void));
        log
    }

    #[test]
    fn an_intent_names_the_decision_about_itself_directly_before_it_or_both_verifiers_find_it() {
        let [decision, named] = decided(9, 9);
        let at_distance = |between: u64| {
            let mut log = Log::with_requests(2);
            log.push(decision.clone());
            (0..between).for_each(|n| log.push(denial(n, "v1")));
            log.push(named.clone());
            log
        };
        let mut without = Log::with_requests(2);
        without.push(named.clone());
        let logs = [
            (true, with_decision(|_| {})),
            (true, at_distance(record::MAX_BEFORE - 1)),
            (false, at_distance(record::MAX_BEFORE)),
            (false, without),
            (false, with_decision(|d| d.request = record::RequestId::new(time(77)))),
            (false, with_decision(|d| d.by = "token:other".parse().unwrap())),
            (false, with_decision(|d| d.rules.push("more".into()))),
            (false, with_decision(|d| d.policy.set = record::Sha256::of(b"another"))),
            (false, with_decision(|d| d.repository = "r.example/b".parse().unwrap())),
            (false, with_decision(|d| d.tag = Some("v10".parse().unwrap()))),
            (false, with_decision(|d| d.digest = None)),
        ];
        for (at, (good, log)) in logs.iter().enumerate() {
            let published = log.published(log.size());
            let ours = verify(&published.source(), &log.trust(), None, &[]).unwrap();
            let ours = serde_json::to_value(&ours).unwrap();
            assert_eq!(ours["findings_total"], u64::from(!good), "log {at}: {ours}");
            let Some((code, theirs)) = second(&published, log) else { continue };
            assert_eq!((code == 0, &theirs["findings_total"]), (*good, &ours["findings_total"]), "log {at}");
        }
    }

    #[test]
    fn the_second_verifier_agrees_on_good_logs_and_on_bad_ones() {
        let with = |leaves: Vec<record::Leaf>| {
            let mut log = Log::with_requests(2);
            leaves.into_iter().for_each(|leaf| log.push(leaf));
            log
        };
        let mut foreign = with(vec![intent(9, 9)]);
        foreign.push_outcome_by("stranger", 5);
        let mut odd = with(vec![]);
        let spaced = intent(9, 9).encode().unwrap();
        odd.push_bytes([b" ", spaced.as_slice()].concat());
        odd.push_bytes(b"\xff".to_vec());
        let mut keyless = Log::without_keepers();
        keyless.push(intent(1, 1));
        let logs = [
            with(vec![]),
            Log::with_requests(300),
            with(vec![intent(9, 9), outcome(5, OutcomeKind::Unknown), intent(10, 9), completion(9)]),
            with(vec![completion(9)]),
            with(vec![completion(1)]),
            with(vec![intent(9, 9), outcome(5, OutcomeKind::Void), outcome(5, OutcomeKind::Failed)]),
            with(vec![outcome(0, OutcomeKind::Failed), denial(9, "v9")]),
            with(vec![record::Leaf::decode(Log::new().entries().next().unwrap()).unwrap()]),
            foreign,
            odd,
            keyless,
        ];
        let mut bad = 0;
        for (at, log) in logs.iter().enumerate() {
            let published = log.published(log.size());
            let Some((code, theirs)) = second(&published, log) else { return };
            let ours = verify(&published.source(), &log.trust(), None, &[]).unwrap();
            let ours = serde_json::to_value(&ours).unwrap();
            for member in
                ["size", "root", "signed", "failed", "unknown", "void", "open_total", "findings_total"]
            {
                assert_eq!(ours[member], theirs[member], "log {at}, {member}: {ours} {theirs}");
            }
            bad += usize::from(code != 0);
            assert_eq!(code == 10, ours["findings_total"] != 0, "log {at}");
        }
        assert_eq!(bad, 8);
    }

    #[test]
    fn the_second_verifier_refuses_every_altered_or_missing_file() {
        let log = Log::with_requests(130);
        let published = log.published(log.size());
        for file in published.files() {
            let whole = fs::read(&file).unwrap();
            let mut altered = whole.clone();
            altered[whole.len() / 2] ^= 1;
            fs::write(&file, altered).unwrap();
            let Some((code, said)) = second(&published, &log) else { return };
            assert_eq!(code, 10, "{}: {said}", file.display());
            fs::remove_file(&file).unwrap();
            let missing = if file.ends_with("checkpoint") { 5 } else { 10 };
            assert_eq!(second(&published, &log).unwrap().0, missing, "{}", file.display());
            fs::write(&file, whole).unwrap();
        }
        assert_eq!(second(&published, &log).unwrap().0, 0);
    }
}
