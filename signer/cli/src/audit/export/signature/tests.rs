use super::*;
use crate::audit::{
    export::{CHECKPOINT, Exported, Range, export, verify},
    synthetic::Log,
};
use std::fs;
use tlog::{Checkpoint, VerifierKey};

const TIME_S: u64 = 1_790_000_000;

/// An export of a small log, in a folder of its own, and its log.
fn exported(log: &Log, key: Option<&WitnessKey>) -> (tempfile::TempDir, Exported) {
    let out = tempfile::tempdir().unwrap();
    let exporter = key.map(|key| Exporter { key, time_s: TIME_S });
    let source = log.published(log.size());
    let range = Range { from: Some(1), ..Range::default() };
    let dir = out.path().join("out");
    let (exported, _) = export(&source.source(), &log.trust(), &range, &dir, exporter.as_ref()).unwrap();
    (out, exported)
}

fn key(name: &str) -> WitnessKey {
    WitnessKey::generate(name).unwrap()
}

#[test]
fn a_signed_export_says_who_handed_it_out_and_when() {
    let (log, ours) = (Log::with_requests(2), key("auditor.example"));
    let (out, exported) = exported(&log, Some(&ours));
    let verified = ManifestSignature::Verified {
        signer: ours.public().to_string(),
        time: "2026-09-21T14:13:20Z".into(),
    };
    assert_eq!(exported.signature, verified);
    let dir = out.path().join("out");
    assert_eq!(verify(&dir, &log.trust(), Some(ours.public())).unwrap(), exported);
    let unchecked = verify(&dir, &log.trust(), None).unwrap();
    assert_eq!(unchecked.signature, ManifestSignature::NotChecked);
    fs::remove_file(dir.join(SIGNATURE)).unwrap();
    assert_eq!(verify(&dir, &log.trust(), None).unwrap().signature, ManifestSignature::Absent);
}

#[test]
fn the_signed_text_is_the_documented_one_and_no_checkpoint() {
    let (log, ours) = (Log::with_requests(2), key("auditor.example"));
    let (out, _) = exported(&log, Some(&ours));
    let dir = out.path().join("out");
    let note = Note::parse(&fs::read_to_string(dir.join(SIGNATURE)).unwrap()).unwrap();
    let sha256 = Sha256::of(&fs::read(dir.join(MANIFEST)).unwrap());
    let (vkey, size): (VerifierKey, u64) = (log.vkey(), log.size());
    let expected = format!("chancery.export-manifest/v1\nlog {vkey}\nentries 1 {size}\nsha256 {sha256}\n");
    assert_eq!(note.text(), expected);
    assert!(Checkpoint::parse(note.text()).is_err());
}

#[test]
fn a_signature_that_is_missing_altered_of_another_key_or_of_another_manifest_is_refused() {
    let (log, ours) = (Log::with_requests(2), key("auditor.example"));
    let (out, _) = exported(&log, Some(&ours));
    let dir = out.path().join("out");
    let refused = |signer: &WitnessKey| {
        let end = verify(&dir, &log.trust(), Some(signer.public()));
        let Err(AuditError::Export(why)) = end else { panic!("accepted: {end:?}") };
        why
    };
    for other in ["auditor.example", "else.example"] {
        assert!(refused(&key(other)).contains("not signed by"), "another key of the name {other}");
    }
    let (note, manifest) = (dir.join(SIGNATURE), dir.join(MANIFEST));
    let (whole, bytes) = (fs::read(&note).unwrap(), fs::read(&manifest).unwrap());
    for at in 0..whole.len() {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        fs::write(&note, &altered).unwrap();
        refused(&ours);
    }
    let checkpoint = fs::read_to_string(dir.join(CHECKPOINT)).unwrap();
    for text in ["", "no note", &checkpoint] {
        fs::write(&note, text).unwrap();
        refused(&ours);
    }
    fs::remove_file(&note).unwrap();
    assert!(refused(&ours).contains("missing"));
    fs::write(&note, &whole).unwrap();
    // The same manifest in other bytes still binds the files: only the signature knows that they are others.
    fs::write(&manifest, [b" ", bytes.as_slice()].concat()).unwrap();
    assert!(verify(&dir, &log.trust(), None).is_ok());
    assert!(refused(&ours).contains("not over this manifest.json"));
    fs::write(&manifest, &bytes).unwrap();
    assert!(verify(&dir, &log.trust(), Some(ours.public())).is_ok());
}
