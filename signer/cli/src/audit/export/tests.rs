use super::*;
use crate::audit::synthetic::{Log, completion, denial, intent, outcome, time};
use record::OutcomeKind;

fn log() -> Log {
    let mut log = Log::with_requests(150);
    log.push(denial(400, "v9"));
    log.push(intent(401, 9));
    log.push(intent(402, 8));
    log.push(outcome(302, OutcomeKind::Unknown));
    log.push(completion(8));
    log.push_bytes(b"not\nJSON \xff".to_vec());
    log
}

fn exported(log: &Log, range: &Range) -> (tempfile::TempDir, Result<Exported, AuditError>) {
    let (published, out) = (log.published(log.size()), tempfile::tempdir().unwrap());
    let end = export(&published.source(), &log.trust(), range, &out.path().join("out"), None);
    (out, end.map(|(exported, _)| exported))
}

#[test]
fn any_stretch_of_the_log_is_bound_to_its_checkpoint() {
    let log = log();
    assert_eq!(log.size(), 307);
    for (from, until) in
        [(0, 307), (0, 1), (1, 2), (255, 257), (256, 256), (300, 307), (307, 307), (0, 0), (13, 299)]
    {
        let range = Range { from: Some(from), until: Some(until), ..Range::default() };
        let (out, end) = exported(&log, &range);
        let end = end.unwrap();
        assert_eq!((end.manifest.from, end.manifest.until, end.size), (from, until, 307));
        let lines = fs::read_to_string(out.path().join("out").join(ENTRIES)).unwrap();
        assert_eq!(lines.lines().count() as u64, until - from);
        assert_eq!(verify(&out.path().join("out"), &log.trust(), None).unwrap(), end);
    }
    for (from, until) in [(Some(308), None), (None, Some(308)), (Some(9), Some(8))] {
        let (_, end) = exported(&log, &Range { from, until, ..Range::default() });
        assert!(matches!(end, Err(AuditError::NoRange { size: 307, .. })));
    }
}

#[test]
fn a_period_is_from_its_first_entry_to_the_one_behind_its_last() {
    let mut log = Log::with_requests(150);
    for n in 400..403 {
        log.push(denial(n, "v9"));
    }
    let (_, end) =
        exported(&log, &Range { since: Some(time(400)), before: Some(time(402)), ..Range::default() });
    let end = end.unwrap();
    assert_eq!((end.manifest.from, end.manifest.until), (301, 303));
    let (_, end) = exported(&log, &Range { since: Some(time(9999)), ..Range::default() });
    assert_eq!(end.unwrap().manifest.from, 304);
}

#[test]
fn a_period_leaves_out_nothing_of_it_where_times_go_back() {
    let mut log = Log::new();
    for n in [10, 30, 12, 31, 40] {
        log.push(denial(n, "v1"));
    }
    for (since, before, expected) in
        [(None, Some(20), (0, 4)), (Some(12), Some(31), (2, 4)), (Some(5), Some(35), (1, 5))]
    {
        let range = Range { since: since.map(time), before: before.map(time), ..Range::default() };
        let end = exported(&log, &range).1.unwrap();
        assert_eq!((end.manifest.from, end.manifest.until), expected);
    }
    let range = Range { before: Some(time(0)), ..Range::default() };
    assert_eq!(exported(&log, &range).1.unwrap().manifest.until, 0);
}

#[test]
fn the_table_says_who_asked_for_what_and_how_it_ended() {
    let log = log();
    let (out, end) = exported(&log, &Range { from: Some(301), ..Range::default() });
    end.unwrap();
    let table = fs::read_to_string(out.path().join("out").join(DECISIONS)).unwrap();
    let rows: Vec<Vec<&str>> = table.split_terminator("\r\n").map(|row| row.split(',').collect()).collect();
    assert_eq!(rows.len(), 4, "{table}");
    let columns = |row: usize| [0, 2, 3, 4, 6, 12, 13].map(|column| rows[row][column]);
    assert_eq!(columns(1), ["301", "denied", "r.example/a", "v9", "token:ci", "", ""]);
    assert_eq!(columns(2), ["302", "allowed", "r.example/a", "v9", "token:ci", "unknown", "304"]);
    assert_eq!(columns(3), ["303", "allowed", "r.example/a", "v8", "token:ci", "signed", "305"]);
}

#[test]
fn no_cell_is_a_formula_or_breaks_its_row() {
    for (text, cell) in [
        ("plain", "plain"),
        ("", ""),
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("a,b", "\"a,b\""),
        ("=\"a\"", "\"'=\"\"a\"\"\""),
        ("a\r\nb", "\"a\r\nb\""),
    ] {
        assert_eq!(csv::cell_text(text), cell);
    }
}

#[test]
fn an_altered_file_of_an_export_is_refused_even_with_a_manifest_that_fits_it() {
    let log = log();
    let (out, end) = exported(&log, &Range { from: Some(3), until: Some(200), ..Range::default() });
    end.unwrap();
    let dir = out.path().join("out");
    for name in [ENTRIES, DECISIONS, CHECKPOINT, MANIFEST] {
        let whole = fs::read(dir.join(name)).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 2] {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            fs::write(dir.join(name), &altered).unwrap();
            assert!(verify(&dir, &log.trust(), None).is_err(), "{name} byte {at}");
            assert!(
                name == MANIFEST || refitted(&dir, name, &altered, &log).is_err(),
                "{name} byte {at}, refitted"
            );
        }
        fs::write(dir.join(name), &whole).unwrap();
        fs::remove_file(dir.join(name)).unwrap();
        assert!(verify(&dir, &log.trust(), None).is_err(), "{name} missing");
        fs::write(dir.join(name), whole).unwrap();
    }
    let entries = fs::read_to_string(dir.join(ENTRIES)).unwrap();
    let without_last = entries.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n";
    fs::write(dir.join(ENTRIES), &without_last).unwrap();
    assert!(refitted(&dir, ENTRIES, without_last.as_bytes(), &log).is_err());
}

/// The verification with a manifest that names the altered file.
fn refitted(dir: &Path, name: &str, bytes: &[u8], log: &Log) -> Result<Exported, AuditError> {
    let manifest = fs::read(dir.join(MANIFEST)).unwrap();
    let mut other: Manifest = serde_json::from_slice(&manifest).unwrap();
    let file = other.files.iter_mut().find(|file| file.name == name).unwrap();
    (file.sha256, file.bytes) = (Sha256::of(bytes), bytes.len() as u64);
    fs::write(dir.join(MANIFEST), serde_json::to_vec(&other).unwrap()).unwrap();
    let end = verify(dir, &log.trust(), None);
    fs::write(dir.join(MANIFEST), manifest).unwrap();
    end
}

#[test]
fn what_is_wrong_with_the_log_is_counted_outside_of_the_stretch_too() {
    for (log, expected) in [(log(), 1), (Log::with_requests(3), 0)] {
        let (published, out) = (log.published(log.size()), tempfile::tempdir().unwrap());
        let range = Range { until: Some(2), ..Range::default() };
        let (_, findings) =
            export(&published.source(), &log.trust(), &range, &out.path().join("out"), None).unwrap();
        assert_eq!(findings, expected);
    }
}

#[test]
fn a_folder_that_holds_something_is_left_alone() {
    let log = Log::with_requests(1);
    let (published, out) = (log.published(log.size()), tempfile::tempdir().unwrap());
    fs::write(out.path().join("mine"), "x").unwrap();
    let end = export(&published.source(), &log.trust(), &Range::default(), out.path(), None);
    assert!(matches!(end, Err(AuditError::Write { .. })));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
}
