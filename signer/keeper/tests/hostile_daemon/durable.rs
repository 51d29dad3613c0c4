//! What is on the disk before a key is asked, and what a keeper does whose disk or PIN fails.

use super::rig::{Rig, tamper};
use super::traced::Calls;
use super::world::{Made, REPOSITORY};
use super::{refused, repository};
use record::wire::{OpenState, SignResult};

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
