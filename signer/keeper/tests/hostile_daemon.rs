//! A taken-over daemon before a real signing keeper, with a real token behind it: what it can not get.
//!
//! Every row asserts the code of the refusal, and by the token's own journal that no key was touched for it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code, where a panic is a failed test"
)]

#[path = "support/place.rs"]
mod place;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/traced.rs"]
mod traced;
#[path = "support/world.rs"]
mod world;

use record::wire::{Batch, Blob, Extra, FromSigner, OpenState, SignResult, read_message};
use record::{
    Action, Clock, FileRef, Format, Intent, KeeperName, Leaf, Origin, OutcomeKind, Purpose, Repository,
    Sha256, SystemClock,
};
use rig::{Daemon, Rig, hello, tamper};
use std::io::Write;
use traced::Calls;
use world::{Collection, Made, REPOSITORY, World, targets};

/// A repository per row, so that no row stands in another's way.
fn repository(number: usize) -> String {
    format!("r.example/team/row{number}")
}

/// Sends `made` alone; it must be refused with `code`, and no key touched.
fn refused(rig: &Rig, daemon: &mut Daemon, made: &Made, code: &str, row: &str) {
    let before = rig.signed();
    let batch = rig.world.batch(daemon.seen, &[made], vec![]);
    assert_eq!(daemon.refusal(&batch), code, "{row}");
    assert_eq!(rig.signed(), before, "{row}: a key was touched");
}

fn collection(daemon: &mut Daemon, world: &mut World, repository: &str) -> Collection {
    world.collection(repository, |world, made| daemon.through(world, made))
}

/// The file with one bit of its signature flipped.
fn unsigned_file(file: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(file.to_vec()).unwrap();
    let at = text.find("\"sig\":\"").unwrap() + 20;
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &text[..at], &text[at + 1..]).into_bytes()
}

#[test]
fn an_honest_daemon_gets_a_whole_collection_signed_and_each_key_is_touched_once_for_each_file() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let made = collection(&mut daemon, &mut rig.world, REPOSITORY);
    let next = rig.world.next_targets(&made.targets.0, &made.targets.1, 2, "v2");
    let file = daemon.through(&mut rig.world, &next);
    let root = made.root.0.child(&made.root.1);
    let snapshot = rig.world.snapshot(REPOSITORY, 2, root, next.child(&file));
    daemon.through(&mut rig.world, &snapshot);
    let signed = rig.signed();
    assert_eq!(signed.len(), 7);
    assert_eq!((signed[2], signed[5]), (made.targets.0.intent.payload, next.intent.payload));
    assert!(keeper.connect().welcome.open.is_empty());
}

#[test]
fn the_welcome_shows_keys_with_evidence_and_the_charter_that_is_in_force() {
    let Some(rig) = Rig::new() else { return };
    let welcome = rig.start().connect().welcome;
    assert_eq!(welcome.charter, Sha256::of(rig.world.charter().as_bytes()));
    assert_eq!(welcome.keys.len(), 4);
    for key in welcome.keys {
        assert_eq!(key.spki, rig.world.spki[&key.purpose]);
        assert!(key.evidence.iter().any(|e| e == "CKA_NEVER_EXTRACTABLE=true"), "{:?}", key.evidence);
    }
}

/// INVARIANT(log-before-key)
#[test]
fn log_before_key() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let (made, other) =
        (rig.world.first_targets(REPOSITORY, "v1"), rig.world.first_targets(REPOSITORY, "v2"));
    let good = rig.world.batch(0, &[&made], vec![]);
    let mut rows =
        vec![("no proof", good.clone()), ("another index", good.clone()), ("not in the log", good.clone())];
    rows[0].1.sign[0].inclusion.clear();
    rows[1].1.sign[0].index = other.index;
    rows[2].1.sign[0].index = rig.world.log.size();
    let mut beyond = good.clone();
    beyond.note = rig.world.log.note(made.index);
    rows.insert(0, ("a note that ends before it", beyond));
    for (row, mut batch) in rows {
        batch.from = daemon.seen;
        batch.consistency = rig.world.log.consistency(daemon.seen);
        if row.contains("ends before") {
            batch.consistency.clear();
        }
        assert_eq!(daemon.refusal(&batch), "proof", "{row}");
        assert!(rig.signed().is_empty(), "{row}");
    }
    daemon.reserve(&rig.world.batch(daemon.seen, &[&made], vec![]));
    let written = String::from_utf8_lossy(&std::fs::read(rig.journal()).unwrap()).into_owned();
    assert!(written.contains(&made.intent.payload.to_string()), "on the disk when it is answered");
    daemon.signature();
    assert_eq!(rig.signed(), [made.intent.payload]);
}

#[test]
fn a_keeper_that_can_not_write_its_journal_ends_with_74_and_touches_no_key() {
    let Some(mut rig) = Rig::new() else { return };
    let mut keeper = rig.start_on_a_small_disk();
    let mut daemon = keeper.connect();
    let made: Vec<Made> = (0..100).map(|n| rig.world.first_targets(&repository(n), "v1")).collect();
    let batch = rig.world.batch(0, &made.iter().collect::<Vec<_>>(), vec![]);
    assert!(daemon.ask_in_vain(&batch));
    assert_eq!(keeper.ended().0, 74);
    assert!(rig.signed().is_empty());
    let again = rig.start();
    let answer = again.connect().reserve(&batch);
    assert_eq!(answer.accepted.len(), 100, "nothing of the torn record was kept");
}

#[test]
fn a_wrong_pin_is_tried_exactly_once_and_stops_the_supervisor() {
    let Some(rig) = Rig::new() else { return };
    rig.spoil_pin();
    let (code, said) = rig.start_in_vain();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("the PIN was refused") && !said.contains("not the pin"), "{said}");
    assert_eq!(rig.logins(), [0xa0], "CKR_PIN_INCORRECT");
}

/// Whether there is a strace.
fn can_trace() -> bool {
    hsm_sim::missing(&["strace"]).map(hsm_sim::skip).is_none()
}

/// INVARIANT(log-before-key)
#[test]
fn a_reservation_whose_sync_fails_ends_with_74_and_is_neither_answered_nor_signed() {
    let Some(mut rig) = Rig::new() else { return };
    if !can_trace() {
        return;
    }
    // Only that file: the token's journal is synced too.
    let journal = rig.journal().display().to_string();
    let mut keeper = rig.start_traced(&["-P", &journal, "-e", "inject=fdatasync:error=EIO:when=1"]);
    let mut daemon = keeper.connect();
    let made = rig.world.first_targets(REPOSITORY, "v1");
    assert!(daemon.ask_in_vain(&rig.world.batch(0, &[&made], vec![])));
    assert_eq!(keeper.ended().0, 74);
    assert!(rig.signed().is_empty());
    // The record is in memory, marked as written: it is relied on only after it was written once more.
    let (code, said) = rig.start_traced_in_vain(&["-e", "inject=fsync:error=EIO:when=1"]);
    assert!(code == 74 && said.contains("state/journal"), "{code} {said}");
    let keeper = rig.start_traced(&[]);
    let calls = Calls::read(&rig.calls());
    let written = calls.after(0, &["pwrite64", "changes"]);
    let synced = calls.after(written, &["fsync", "= 0"]);
    calls.after(synced, &["listen"]);
    let mut daemon = keeper.connect();
    assert_eq!(daemon.told(made.index), Some(&OpenState::Finished(SignResult::Lost {})));
    refused(&rig, &mut daemon, &made, "used", "reserved, though nobody was told");
}

/// INVARIANT(log-before-key)
#[test]
fn a_reservation_is_synced_before_it_is_answered_and_before_the_token_is_asked() {
    let Some(mut rig) = Rig::new() else { return };
    if !can_trace() {
        return;
    }
    let keeper = rig.start_traced(&[]);
    let mut daemon = keeper.connect();
    let made = rig.world.first_targets(REPOSITORY, "v1");
    daemon.reserve(&rig.world.batch(0, &[&made], vec![]));
    daemon.signature();
    let calls = Calls::read(&rig.calls());
    let written = calls.after(0, &["pwrite64", "changes"]);
    let synced = calls.after(written, &["fdatasync", "= 0"]);
    let (answered, touched) = (calls.after(0, &["reserved"]), calls.after(0, &["C_Sign"]));
    assert!(synced < answered && synced < touched, "{synced} {answered} {touched}");
}

#[test]
fn an_intent_for_another_log_keeper_key_purpose_or_format_is_refused() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let root_key = rig.world.spki[&Purpose::Root].id();
    type Tamper = Box<dyn Fn(&mut Intent)>;
    let rows: Vec<(&str, Tamper)> = vec![
        ("log", Box::new(|i| i.log = Origin::parse("other.example.com").unwrap())),
        ("keeper", Box::new(|i| i.keeper = KeeperName::parse("other").unwrap())),
        ("unknown key", Box::new(|i| i.key = Sha256::of(b"x").to_string().parse().unwrap())),
        ("key of another purpose", Box::new(move |i| i.key = root_key)),
        ("purpose", Box::new(|i| i.purpose = Purpose::Timestamp)),
        ("format", Box::new(|i| i.format = Format::DctRootCertificate)),
    ];
    for (number, (row, tamper)) in rows.iter().enumerate() {
        let mut intent = rig.world.first_targets(&repository(number), "v1").intent;
        tamper(&mut intent);
        let made = rig.world.put(intent, Extra::Targets { prev: None });
        refused(&rig, &mut daemon, &made, "intent", row);
    }
    for outside in ["r.example/teams/app", "r.example/other/app", "evil.example/team/app"] {
        let made = rig.world.first_targets(outside, "v1");
        refused(&rig, &mut daemon, &made, "scope", outside);
    }
    let certificate = rig.world.certificate("r.example/elsewhere/app");
    refused(&rig, &mut daemon, &certificate, "scope", "a certificate for another name");
}

#[test]
fn an_intent_of_another_time_is_refused_and_its_index_spent_for_when_its_time_comes() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    for (row, minutes) in [("past", -6), ("future", 6)] {
        let mut intent = rig.world.first_targets(REPOSITORY, row).intent;
        intent.time = SystemClock.now().plus_s(minutes * 60);
        let made = rig.world.put(intent, Extra::Targets { prev: None });
        refused(&rig, &mut daemon, &made, "stale", row);
    }
    let mut intent = rig.world.first_targets(REPOSITORY, "soon").intent;
    intent.time = SystemClock.now().plus_s(302);
    let made = rig.world.put(intent, Extra::Targets { prev: None });
    refused(&rig, &mut daemon, &made, "stale", "soon");
    keeper.kill();
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let batch = rig.world.batch(daemon.seen, &[&made], vec![]);
    let later = loop {
        match daemon.refusal(&batch) {
            stale if stale == "stale" => std::thread::yield_now(),
            other => break other,
        }
    };
    assert_eq!(later, "used", "fresh by now, and never looked at again");
    assert!(rig.signed().is_empty());
}

/// INVARIANT(once)
#[test]
fn once() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let made = rig.world.first_targets(REPOSITORY, "v1");
    let answer = daemon.reserve(&rig.world.batch(0, &[&made, &made], vec![]));
    assert_eq!(
        (answer.accepted, answer.refused[0].code.as_str()),
        (vec![made.index], "used"),
        "the same frame"
    );
    let (_, signature) = daemon.signature();
    refused(&rig, &mut daemon, &made, "used", "the next frame");
    refused(&rig, &mut keeper.connect(), &made, "used", "another connection");
    let settle = rig.world.completion(&made, &signature);
    daemon.reserve(&rig.world.batch(daemon.seen, &[], vec![settle]));
    refused(&rig, &mut daemon, &made, "used", "settled");
    keeper.kill();
    let keeper = rig.start();
    refused(&rig, &mut keeper.connect(), &made, "used", "after a restart");
    assert_eq!(rig.signed(), [made.intent.payload]);
}

/// INVARIANT(one-open)
#[test]
fn one_open() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let (made, twin) = (rig.world.first_targets(REPOSITORY, "v1"), rig.world.first_targets(REPOSITORY, "v1"));
    let answer = daemon.reserve(&rig.world.batch(0, &[&made, &twin], vec![]));
    assert_eq!((answer.accepted, answer.refused[0].code.as_str()), (vec![made.index], "duplicate"));
    let (_, signature) = daemon.signature();
    assert_eq!(rig.signed(), [made.intent.payload]);
    let settle = rig.world.completion(&made, &signature);
    let retry = rig.world.first_targets(REPOSITORY, "v1");
    let answer = daemon.reserve(&rig.world.batch(daemon.seen, &[&retry], vec![settle]));
    assert_eq!(answer.accepted, [retry.index], "once the first is settled");
}

/// INVARIANT(own-bytes)
#[test]
fn own_bytes() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let made = collection(&mut daemon, &mut rig.world, REPOSITORY);

    let mut intent = rig.world.first_targets(&repository(1), "v1").intent;
    intent.payload = Sha256::of(b"anything the daemon likes");
    let foreign = rig.world.put(intent, Extra::Targets { prev: None });
    refused(&rig, &mut daemon, &foreign, "bytes", "a payload that nothing builds");

    let mut next = rig.world.next_targets(&made.targets.0, &made.targets.1, 2, "v2");
    let other = rig.world.first_targets(&repository(2), "x");
    let other_file = daemon.through(&mut rig.world, &other);
    next.extra = Extra::Targets { prev: Some(Blob(other_file)) };
    refused(&rig, &mut daemon, &next, "bytes", "another previous file than the intent names");

    let (root, own) = (made.root.0.child(&made.root.1), made.targets.0.child(&made.targets.1));
    let mut intent = rig.world.snapshot(REPOSITORY, 2, root.clone(), own.clone()).intent;
    let Action::Snapshot { targets: named, .. } = &mut intent.action else { panic!() };
    *named = FileRef::of(b"a file that the daemon will serve instead");
    let meta = rig.world.put(intent, Extra::Snapshot { root, targets: own });
    refused(&rig, &mut daemon, &meta, "bytes", "metadata that names another file");

    let certificate = rig.world.certificate(REPOSITORY);
    let wildcard = rig.world.put(certificate.intent, Extra::Targets { prev: None });
    refused(&rig, &mut daemon, &wildcard, "bytes", "the files of another action");
}

#[test]
fn a_root_with_the_certificate_of_another_collection_is_refused_and_a_wildcard_has_no_spelling() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let certificate = rig.world.certificate(&repository(1));
    let der = daemon.through(&mut rig.world, &certificate);
    let mut intent = rig.world.root(&repository(1), &der).intent;
    intent.repository = Repository::parse(&repository(2)).unwrap();
    let made = rig.world.put(intent, Extra::Root { certificate: Blob(der) });
    refused(&rig, &mut daemon, &made, "bytes", "the certificate of another collection");

    let intent = rig.world.certificate(&repository(3)).intent;
    let leaf = String::from_utf8(Leaf::Intent(intent).encode().unwrap()).unwrap();
    let wildcard = leaf.replace(&repository(3), "r.example/team/*").into_bytes();
    let index = rig.world.log.append(&wildcard);
    let mut batch = rig.world.batch(daemon.seen, &[&certificate], vec![]);
    (batch.sign[0].index, batch.sign[0].intent) = (index, Blob(wildcard));
    batch.sign[0].inclusion = rig.world.log.inclusion(index);
    let before = rig.signed();
    assert_eq!(daemon.refusal(&batch), "intent");
    assert_eq!(rig.signed(), before);
}

/// INVARIANT(chain)
#[test]
fn chain() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let a = collection(&mut daemon, &mut rig.world, REPOSITORY);
    let b = collection(&mut daemon, &mut rig.world, &repository(1));

    let jump = rig.world.next_targets(&a.targets.0, &a.targets.1, 3, "v3");
    refused(&rig, &mut daemon, &jump, "chain", "a version left out");
    let repeat = rig.world.first_targets(REPOSITORY, "other");
    refused(&rig, &mut daemon, &repeat, "chain", "a version repeated with other content");
    let mut foreign = rig.world.next_targets(&b.targets.0, &b.targets.1, 2, "v2");
    foreign.intent.repository = Repository::parse(REPOSITORY).unwrap();
    let foreign = rig.world.put(foreign.intent, foreign.extra);
    refused(&rig, &mut daemon, &foreign, "chain", "built on another collection's targets");

    let root = || a.root.0.child(&a.root.1);
    let other = b.targets.0.child(&b.targets.1);
    let mixed = rig.world.snapshot(REPOSITORY, 2, root(), other);
    refused(&rig, &mut daemon, &mixed, "child", "the targets of another collection");
    let mut claim = b.targets.0.intent.clone();
    claim.repository = Repository::parse(REPOSITORY).unwrap();
    let claimed = rig.world.put(claim, Extra::Targets { prev: None }).child(&b.targets.1);
    let mixed = rig.world.snapshot(REPOSITORY, 2, root(), claimed);
    refused(&rig, &mut daemon, &mixed, "child", "the same, with an intent that claims them");
    let mut leafless = a.targets.0.child(&a.targets.1);
    leafless.leaf = Blob(b"{}".to_vec());
    let made = rig.world.snapshot(REPOSITORY, 2, root(), leafless);
    refused(&rig, &mut daemon, &made, "child", "a child without its intent");
    let unsigned = a.targets.0.child(&unsigned_file(&a.targets.1));
    let made = rig.world.snapshot(REPOSITORY, 2, root(), unsigned);
    refused(&rig, &mut daemon, &made, "child", "a child whose signature does not verify");
    let (foreign, own) = (b.root.0.child(&b.root.1), a.targets.0.child(&a.targets.1));
    let made = rig.world.snapshot(REPOSITORY, 2, foreign, own);
    refused(&rig, &mut daemon, &made, "child", "the root of another collection");

    let next = rig.world.next_targets(&a.targets.0, &a.targets.1, 2, "v2");
    daemon.through(&mut rig.world, &next);
    let older = rig.world.snapshot(REPOSITORY, 2, root(), a.targets.0.child(&a.targets.1));
    refused(&rig, &mut daemon, &older, "child", "an older version of the targets");
    let frozen = rig.world.timestamp(REPOSITORY, 2, b.snapshot.0.child(&b.snapshot.1));
    refused(&rig, &mut daemon, &frozen, "child", "the snapshot of another collection");
}

/// INVARIANT(short-life)
#[test]
fn short_life() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    for (number, days) in [-1, 0, 1101, 36_500].into_iter().enumerate() {
        let repository = repository(number);
        let action = targets(&repository, 1, rig.world.in_days(days), None, "v1");
        let intent = rig.world.intent(&repository, action);
        let made = rig.world.make(intent, Extra::Targets { prev: None });
        refused(&rig, &mut daemon, &made, "validity", &format!("{days} days"));
    }
    let made = collection(&mut daemon, &mut rig.world, REPOSITORY);
    let snapshot = made.snapshot.0.child(&made.snapshot.1);
    let expires = rig.world.in_days(32);
    let action = Action::Timestamp { version: 2, expires, snapshot: FileRef::of(&snapshot.file.0) };
    let intent = rig.world.intent(REPOSITORY, action);
    let timestamp = rig.world.make(intent, Extra::Timestamp { snapshot });
    refused(&rig, &mut daemon, &timestamp, "validity", "a timestamp beyond its own key's 31 days");
}

/// INVARIANT(forward-only)
#[test]
fn forward_only() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let made = rig.world.first_targets(REPOSITORY, "v1");
    daemon.reserve(&rig.world.batch(0, &[], vec![]));
    let mut older = rig.world.batch(daemon.seen, &[&made], vec![]);
    older.note = rig.world.log.note(daemon.seen - 1);
    assert_eq!(daemon.ask(&older), FromSigner::Behind { size: daemon.seen });
    keeper.kill();
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    assert_eq!(daemon.welcome.seen_size, rig.world.log.size());
    assert_eq!(daemon.ask(&older), FromSigner::Behind { size: daemon.seen });
    assert!(rig.signed().is_empty());
}

#[test]
fn a_daemon_that_does_not_know_what_another_showed_the_keeper_is_behind_and_no_fork_is_noted() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let (mut first, mut second) = (keeper.connect(), keeper.connect());
    first.reserve(&rig.world.batch(0, &[], vec![]));
    second.seen = first.seen;
    rig.world.log.append(b"one more");
    first.reserve(&rig.world.batch(first.seen, &[], vec![]));
    let made = rig.world.first_targets(REPOSITORY, "v1");
    let honest = rig.world.batch(second.seen, &[&made], vec![]);
    assert_eq!(second.ask(&honest), FromSigner::Behind { size: first.seen });
    assert!(!keeper.connect().welcome.forked);
    second.seen = first.seen;
    second.through(&mut rig.world, &made);
    // The head that was seen needs no proof.
    let known = Batch { from: 0, ..rig.world.batch(second.seen, &[], vec![]) };
    second.reserve(&known);
}

/// INVARIANT(no-reset): a fork of the log stops the keeper, over restarts, until an operator clears it.
#[test]
fn no_reset() {
    let Some(mut rig) = Rig::new() else { return };
    for same_size in [true, false] {
        let keeper = rig.start();
        let mut daemon = keeper.connect();
        daemon.reserve(&rig.world.batch(daemon.seen, &[], vec![]));
        let made = rig.world.first_targets(REPOSITORY, "v1");
        let good = rig.world.batch(daemon.seen, &[&made], vec![]);
        let mut forked = good.clone();
        let size = if same_size { daemon.seen } else { rig.world.log.size() };
        forked.note = rig.world.log.sign(size, tlog::leaf_hash(b"another history"));
        let seen = daemon.seen;
        let is_fork = |answer| matches!(answer, FromSigner::Fork { size, .. } if size == seen);
        assert!(is_fork(daemon.ask(&forked)));
        assert!(is_fork(daemon.ask(&good)), "refuses all work");
        keeper.kill();
        let keeper = rig.start();
        let mut daemon = keeper.connect();
        assert!(daemon.welcome.forked);
        assert!(is_fork(daemon.ask(&good)), "after a restart too");
        assert!(rig.signed().is_empty());
        assert_eq!(
            rig.command("admin clear-fork").output().unwrap().status.code(),
            Some(75),
            "while it runs"
        );
        keeper.kill();
        assert!(rig.command("admin clear-fork").output().unwrap().status.success());
    }
    let keeper = rig.start();
    let made = rig.world.first_targets(REPOSITORY, "v2");
    let mut daemon = keeper.connect();
    daemon.through(&mut rig.world, &made);
}

#[test]
fn a_missing_empty_cut_or_changed_journal_ends_the_start_with_78_and_names_the_file() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    for number in 0..3 {
        let made = rig.world.first_targets(&repository(number), "v1");
        daemon.through(&mut rig.world, &made);
    }
    keeper.kill();
    let whole = std::fs::read(rig.journal()).unwrap();
    type Damage = fn(&mut Vec<u8>);
    let rows: [(&str, Damage); 4] = [
        ("empty", Vec::clear),
        ("cut in its first record", |b| b.truncate(100)),
        ("a bit flipped in the first record", |b| b[60] ^= 1),
        ("a bit flipped in the middle", |b| {
            let middle = b.len() / 2;
            b[middle] ^= 1;
        }),
    ];
    for (row, change) in rows {
        tamper(&rig.journal(), change);
        let (code, said) = rig.start_in_vain();
        assert_eq!(code, 78, "{row}: {said}");
        assert!(said.contains("state/journal"), "{row}: {said}");
        std::fs::write(rig.journal(), &whole).unwrap();
    }
    std::fs::remove_file(rig.journal()).unwrap();
    let (code, said) = rig.start_in_vain();
    assert!(code == 78 && said.contains("state/journal"), "missing: {code} {said}");
    std::fs::write(rig.journal(), &whole).unwrap();
    let again = rig.command("init").output().unwrap();
    assert_eq!(again.status.code(), Some(78), "init never replaces a journal");
    rig.start();
}

/// INVARIANT(no-reset): what nobody can see in the file, the daemon can say.
#[test]
fn a_journal_older_than_what_its_keeper_told_ends_the_keeper_with_78_at_the_first_hello() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let first = rig.world.first_targets(&repository(0), "v1");
    daemon.through(&mut rig.world, &first);
    let older = std::fs::read(rig.journal()).unwrap();
    let second = rig.world.first_targets(&repository(1), "v1");
    let answer = daemon.reserve(&rig.world.batch(daemon.seen, &[&second], vec![]));
    daemon.signature();
    let told = answer.generation;
    assert!(told > daemon.welcome.generation);
    let welcome = keeper.connect_knowing(told).unwrap().welcome;
    assert_eq!(welcome.generation, told);
    keeper.kill();
    let whole = std::fs::read(rig.journal()).unwrap();
    // Both look to the start like a journal with a torn end, or with none.
    for journal in [&whole[..whole.len() - 1], &older] {
        std::fs::write(rig.journal(), journal).unwrap();
        let mut keeper = rig.start();
        assert!(keeper.connect_knowing(told).is_none());
        let (code, said) = keeper.ended();
        assert!(code == 78 && said.contains("state/journal") && said.contains("is older"), "{code} {said}");
    }
    std::fs::write(rig.journal(), &whole).unwrap();
    let keeper = rig.start();
    assert_eq!(keeper.connect_knowing(told).unwrap().welcome.generation, told);
}

/// INVARIANT(keepers-word)
#[test]
fn keepers_word() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let made = rig.world.first_targets(REPOSITORY, "v1");
    daemon.reserve(&rig.world.batch(0, &[&made], vec![]));
    let (_, signature) = daemon.signature();
    drop(daemon);
    let mut daemon = keeper.connect();
    let told = OpenState::Finished(SignResult::Signed { signature: signature.clone() });
    assert_eq!(daemon.told(made.index), Some(&told), "the answer was lost with the connection");
    for kind in [OutcomeKind::Void, OutcomeKind::Unknown, OutcomeKind::Failed] {
        let settle = rig.world.outcome(&made, kind);
        let answer = daemon.reserve(&rig.world.batch(daemon.seen, &[], vec![settle]));
        assert_eq!((answer.settled.len(), answer.unsettled[0].code.as_str()), (0, "unsettled"));
    }
    let mut void = rig.world.batch(daemon.seen, &[], vec![]);
    void.void = vec![made.index];
    assert_eq!(daemon.reserve(&void).refused[0].code.as_str(), "unsettled");
    let settle = rig.world.completion(&made, &signature);
    assert_eq!(daemon.reserve(&rig.world.batch(daemon.seen, &[], vec![settle])).settled, [made.index]);
    assert!(keeper.connect().welcome.open.is_empty());
}

#[test]
fn a_keeper_killed_after_it_reserved_says_lost_and_never_signs_that_index_again() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let made: Vec<Made> = (0..50).map(|n| rig.world.first_targets(&repository(n), "v1")).collect();
    let answer = daemon.reserve(&rig.world.batch(0, &made.iter().collect::<Vec<_>>(), vec![]));
    assert_eq!(answer.accepted.len(), 50);
    keeper.kill();
    let touched = rig.signed();
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    for made in &made {
        assert_eq!(daemon.told(made.index), Some(&OpenState::Finished(SignResult::Lost {})));
        refused(&rig, &mut daemon, made, "used", "reserved before the kill");
    }
    assert_eq!(rig.signed(), touched);
    let settle = made.iter().map(|m| rig.world.outcome(m, OutcomeKind::Unknown)).collect();
    assert_eq!(daemon.reserve(&rig.world.batch(daemon.seen, &[], settle)).settled.len(), 50);
    let retry = rig.world.first_targets(&repository(0), "v1");
    daemon.through(&mut rig.world, &retry);
}

#[test]
fn a_keeper_killed_after_it_said_failed_says_so_again_and_takes_that_outcome() {
    let Some(mut rig) = Rig::new() else { return };
    let faults = hsm_sim::Faults::create(&rig.path("faults")).unwrap();
    faults.add(hsm_sim::Rule::answer("C_SignInit", "CKR_ARGUMENTS_BAD")).unwrap();
    let mut serve = rig.command("serve");
    serve.env("HSM_SIM_CONTROL", faults.folder());
    let keeper = rig.start_as(serve);
    let mut daemon = keeper.connect();
    let made = rig.world.first_targets(REPOSITORY, "v1");
    assert_eq!(daemon.reserve(&rig.world.batch(0, &[&made], vec![])).accepted, [made.index]);
    let (_, result) = daemon.result();
    assert!(matches!(&result, SignResult::Failed { .. }), "{result:?}");
    // The daemon logs that word; before it can settle it, the keeper dies.
    let settle = rig.world.outcome(&made, OutcomeKind::Failed);
    keeper.kill();
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    assert_eq!(daemon.told(made.index), Some(&OpenState::Finished(result)));
    let lie = rig.world.outcome(&made, OutcomeKind::Unknown);
    let answer = daemon.reserve(&rig.world.batch(daemon.seen, &[], vec![lie, settle]));
    assert_eq!((answer.unsettled.len(), answer.settled), (1, vec![made.index]));
    let again = rig.world.first_targets(REPOSITORY, "v1");
    daemon.through(&mut rig.world, &again);
}

/// INVARIANT(settle)
#[test]
fn settle() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let made: Vec<Made> = (0..1024).map(|n| rig.world.first_targets(&repository(n), "v1")).collect();
    for chunk in made.chunks(256) {
        let answer = daemon.reserve(&rig.world.batch(daemon.seen, &chunk.iter().collect::<Vec<_>>(), vec![]));
        assert_eq!(answer.accepted.len(), 256, "{:?}", answer.refused.first());
        for _ in chunk {
            daemon.signature();
        }
    }
    let over = rig.world.first_targets(&repository(1024), "v1");
    let touched = rig.signed().len();
    let refusal = daemon.refused(&rig.world.batch(daemon.seen, &[&over], vec![]));
    assert_eq!((refusal.code.as_str(), refusal.detail.as_str()), ("unsettled", "1024 items are open"));
    assert_eq!(rig.signed().len(), touched);
    let first = keeper.connect();
    let Some(OpenState::Finished(SignResult::Signed { signature })) = first.told(made[0].index) else {
        panic!()
    };
    let settle = rig.world.completion(&made[0], signature);
    let answer = daemon.reserve(&rig.world.batch(daemon.seen, &[&over], vec![settle]));
    assert_eq!((answer.settled.len(), answer.accepted), (1, vec![over.index]), "the refusal spent nothing");
}

#[test]
fn what_is_no_message_ends_that_connection_and_no_other() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut honest = keeper.connect();
    let frame = |body: &[u8]| [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("no JSON", frame(b"hello")),
        (
            "a Batch before Hello",
            frame(br#"{"batch":{"note":"","from":0,"consistency":[],"settle":[],"void":[],"sign":[]}}"#),
        ),
        ("an unknown member", frame(br#"{"hello":{"proto":1,"daemon":"x","generation":0,"more":1}}"#)),
        ("a member twice", frame(br#"{"hello":{"proto":1,"proto":1,"daemon":"x","generation":0}}"#)),
        ("another protocol", frame(br#"{"hello":{"proto":2,"daemon":"x","generation":0}}"#)),
        ("a frame of 4 GiB", u32::MAX.to_be_bytes().to_vec()),
    ];
    for (row, bytes) in rows {
        let mut stream = keeper.raw();
        stream.write_all(&bytes).unwrap();
        let answer = read_message::<FromSigner>(&mut stream).unwrap();
        assert!(
            matches!(&answer, Some(FromSigner::Refused { code, .. }) if code.as_str() == "frame"),
            "{row}: {answer:?}"
        );
        assert_eq!(read_message::<FromSigner>(&mut stream).unwrap_or(None), None, "{row}");
    }
    let mut hello_twice = keeper.connect();
    assert!(matches!(hello_twice.say(&hello(0)), FromSigner::Refused { .. }));
    let mut too_many = rig.world.batch(0, &[], vec![]);
    too_many.void = vec![0; 257];
    assert!(matches!(honest.ask(&too_many), FromSigner::Refused { .. }));
    let made = rig.world.first_targets(REPOSITORY, "v1");
    honest.through(&mut rig.world, &made);
}
