use super::*;
use crate::audit::synthetic::{Log, completion, files};
use std::{fs, os::unix::fs::PermissionsExt};

fn fault(dir: &Path, log: &Log) -> String {
    let error = backup::verify(dir, &log.vkey(), |_, _| ()).unwrap_err();
    let failure = Failure::from(AuditError::from(error));
    assert_eq!(failure.exit, Exit::Verification, "{failure}");
    failure.to_string()
}

#[test]
fn a_backup_is_whole_with_and_without_leaves_behind_its_note() {
    for requests in [0, 1, 86, 130] {
        let log = Log::with_requests(requests);
        for tail in [0, 1].into_iter().filter(|tail| *tail < log.size()) {
            let backed = log.backed_up(log.size() - tail);
            let report = verify(backed.path(), &log.trust()).unwrap();
            assert_eq!((report.tail, report.payloads, report.log.findings_total), (tail, requests, 0));
            assert_eq!(report.log.counts.signed, requests);
            // It is a mirror of the log, too.
            let source = LogSource::Dir(backed.path().to_owned());
            let log_report = super::super::verify(&source, &log.trust(), None, &[]).unwrap();
            assert_eq!(log_report.size, log.size() - tail);
        }
    }
}

#[test]
fn every_file_that_is_altered_cut_off_or_missing_is_found_and_named() {
    let log = Log::with_requests(150);
    let backed = log.backed_up(log.size() - 1);
    let all = files(backed.path());
    assert!(all.len() > 8, "{all:?}");
    for file in all {
        let name = file.strip_prefix(backed.path()).unwrap().display().to_string();
        let whole = fs::read(&file).unwrap();
        for at in
            [0, whole.len() / 2, whole.len().saturating_sub(1)].into_iter().filter(|at| *at < whole.len())
        {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&file, bytes).unwrap();
            let said = fault(backed.path(), &log);
            // A byte of the manifest may be one of any file's hash.
            assert!(said.contains(&name) || name == backup::MANIFEST, "{name} byte {at}: {said}");
        }
        let cut = whole.len().saturating_sub(1);
        for bytes in [&whole[..cut], &[&whole[..], b"x"].concat()] {
            fs::write(&file, bytes).unwrap();
            assert!(fault(backed.path(), &log).contains(&name), "{name} with another length");
        }
        fs::remove_file(&file).unwrap();
        assert!(fault(backed.path(), &log).contains(&name), "{name} missing");
        fs::write(&file, whole).unwrap();
    }
    verify(backed.path(), &log.trust()).unwrap();
}

#[test]
fn a_manifest_that_was_made_to_fit_altered_files_hides_nothing_that_is_signed() {
    let log = Log::with_requests(3);
    let backed = log.backed_up(log.size());
    let path = backed.path().join(backup::MANIFEST);
    let manifest = fs::read_to_string(&path).unwrap();
    // The last leaf, and the last payload, which the intent in entry 4 names.
    for (name, place) in
        [("tile/entries/000.p/7", "hash 6 in tile/0/000.p/7"), ("payload/000.p/7", "payload of entry 4")]
    {
        let file = backed.path().join(name);
        let whole = fs::read(&file).unwrap();
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, &bytes).unwrap();
        let hash = |bytes: &[u8]| Sha256::of(bytes).to_string();
        fs::write(&path, manifest.replace(&hash(&whole), &hash(&bytes))).unwrap();
        let said = fault(backed.path(), &log);
        assert!(said.contains(place), "{name}: {said}");
        fs::write(&file, whole).unwrap();
    }
    for (from, to) in
        [("\"size\": 7", "\"size\": 8"), ("payload/000.p/7", "../000"), ("\"leaves\": 7", "\"leaves\": 6")]
    {
        assert!(manifest.contains(from), "{from}: {manifest}");
        fs::write(&path, manifest.replace(from, to)).unwrap();
        assert!(fault(backed.path(), &log).contains(backup::MANIFEST), "{to}");
    }
}

#[test]
fn a_second_backup_writes_only_what_is_new_and_removes_what_it_replaces() {
    let mut log = Log::with_requests(150);
    let backed = log.backed_up(log.size());
    let full = backed.path().join("tile/entries/000");
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let (before, old) = (inode(&full), log.size());
    log.push(completion(99_999));
    let written = log.back_up_into(backed.path(), log.size()).unwrap();
    // The last bundle, its tile, the last payloads, and the two files of state.
    assert_eq!((written, inode(&full)), (5, before));
    let report = verify(backed.path(), &log.trust()).unwrap();
    assert_eq!((report.sequence, report.log.size), (2, old + 1));
    let named = fs::read_to_string(backed.path().join(backup::MANIFEST)).unwrap();
    for file in files(backed.path()) {
        let name = file.strip_prefix(backed.path()).unwrap().display().to_string();
        let own = name == backup::MANIFEST || name == "checkpoint";
        assert!(own || named.contains(&format!("\"{name}\"")), "{name} is left over");
    }
}

#[test]
fn a_backup_that_is_cut_off_leaves_the_one_before_it_whole_and_alone_is_none() {
    let mut log = Log::with_requests(100);
    let backed = log.backed_up(log.size());
    let before = verify(backed.path(), &log.trust()).unwrap().manifest_sha256;
    let cut = |log: &Log, dir: &Path, files: usize| {
        let mut draft = backup::Draft::open(dir).unwrap();
        for path in tlog::tile_paths(log.size()).map(|path| path.to_string()).take(files) {
            let mut file = draft.begin(&path).unwrap();
            file.add(b"half").unwrap();
            if files.is_multiple_of(2) {
                draft.end(file).unwrap();
            }
        }
    };
    (0..40).for_each(|content| log.push(completion(1_000 + content)));
    for files in 0..4 {
        cut(&log, backed.path(), files);
        assert_eq!(verify(backed.path(), &Log::with_requests(1).trust()).unwrap().manifest_sha256, before);
        let fresh = tempfile::tempdir().unwrap();
        cut(&log, fresh.path(), files);
        assert!(fault(fresh.path(), &log).contains("cut off before its end"));
        log.back_up_into(fresh.path(), log.size()).unwrap();
        verify(fresh.path(), &log.trust()).unwrap();
    }
    log.back_up_into(backed.path(), log.size()).unwrap();
    verify(backed.path(), &log.trust()).unwrap();
}

#[test]
fn only_its_owner_reads_a_backup() {
    let log = Log::with_requests(2);
    let backed = log.backed_up(log.size());
    let inner = backed.path().join("inner");
    log.back_up_into(&inner, log.size()).unwrap();
    assert!(backup::Draft::open(backed.path()).unwrap_err().to_string().contains("\"inner\""));
    for file in files(&inner) {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o077, 0o000);
    }
}

#[test]
fn a_backup_of_another_log_or_of_none_is_refused() {
    let log = Log::with_requests(2);
    let backed = log.backed_up(log.size());
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key();
    let other = tlog::VerifierKey::new_ed25519("log.chancery.test", stranger.to_bytes()).unwrap();
    let error = verify(backed.path(), &Trust { key: other, policy: None }).unwrap_err();
    assert_eq!(Failure::from(error).exit, Exit::Verification);
    let error = verify(&backed.path().join("mistyped"), &log.trust()).unwrap_err();
    assert_eq!(Failure::from(error).exit, Exit::NotFound);
}
