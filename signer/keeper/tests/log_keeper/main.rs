//! The log keeper as a black box: the real binary, a real SoftHSM token, and a daemon that says what it likes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

#[path = "../support/place.rs"]
mod place;
mod rig;
mod timestamps;
mod token;
#[path = "../support/traced.rs"]
mod traced;

use record::Sha256;
use record::wire::{FromLog, MAX_READ, ToLog};
use rig::{ORIGIN, Rig, append, first_segment, hello, hello_knowing, leaves, refusal};
use rustix::process::Signal;
use tlog::{Checkpoint, Frontier, leaf_hash};
use traced::Calls;

fn root_of(leaves: &[Vec<u8>]) -> Sha256 {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.append(leaf_hash(leaf)));
    Sha256::from_bytes(frontier.root().0)
}

#[test]
fn one_roll() {
    let Some(rig) = Rig::new() else { return };
    let keeper = rig.start();
    let (mut first, welcome) = keeper.welcome();
    let mut second = keeper.connect();
    assert_eq!(second.ask(&hello()), FromLog::Busy {});
    // Another process cannot take the same state either.
    let (code, said) = rig.start_in_vain();
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("another keeper is using it"), "{said}");
    assert!(matches!(first.append(welcome.epoch, 0, &leaves(1)), FromLog::Appended { size: 1, .. }));
    // A later lease has a higher epoch, and the earlier epoch is worth nothing in it.
    drop(first);
    let (mut next, later) = keeper.welcome();
    assert!(later.epoch > welcome.epoch && later.size == 1);
    assert_eq!(refusal(&next.append(welcome.epoch, 1, &leaves(1))), "epoch");
}

#[test]
fn forward_only() {
    let Some(rig) = Rig::new() else { return };
    let (mut size, mut epoch) = (0, 0);
    for round in 0..4 {
        let mut keeper = rig.start();
        let (mut daemon, welcome) = keeper.welcome();
        assert!(welcome.epoch > epoch && welcome.size == size, "{welcome:?}");
        epoch = welcome.epoch;
        for _ in 0..3 {
            let FromLog::Appended { size: grown, .. } = daemon.append(epoch, size, &leaves(5)) else {
                panic!()
            };
            assert_eq!(grown, size + 5);
            size = grown;
        }
        keeper.signal(if round % 2 == 0 { Signal::KILL } else { Signal::TERM });
    }
    // Nothing that a daemon can say lowers the size: leaves are only taken behind the last one.
    let keeper = rig.start();
    let (mut daemon, welcome) = keeper.welcome();
    for base in [0, size - 1, size + 1, u64::MAX] {
        assert_eq!(refusal(&daemon.append(welcome.epoch, base, &leaves(1))), "base");
    }
}

#[test]
fn two_copies() {
    let Some(rig) = Rig::new() else { return };
    let mut all = Vec::new();
    for batch in [1, 256, 63, 2] {
        let mut keeper = rig.start();
        let (mut daemon, welcome) = keeper.welcome();
        assert_eq!(welcome.root, root_of(&all));
        let new = leaves(batch);
        let answer = daemon.append(welcome.epoch, welcome.size, &new);
        all.extend(new);
        // The answer means that the bytes are on the keeper's own disk: it may die right after it.
        keeper.signal(Signal::KILL);
        assert_eq!(answer, FromLog::Appended { size: all.len() as u64, root: root_of(&all) });
    }
    let keeper = rig.start();
    let (mut daemon, _) = keeper.welcome();
    let mut read = Vec::new();
    while read.len() < all.len() {
        let from = read.len() as u64;
        let FromLog::Leaves { from: begin, leaves } = daemon.ask(&ToLog::Read { from, n: MAX_READ }) else {
            panic!()
        };
        assert_eq!(begin, from);
        read.extend(leaves.into_iter().map(|leaf| leaf.0));
    }
    assert_eq!(read, all);
    assert_eq!(refusal(&daemon.ask(&ToLog::Read { from: 0, n: MAX_READ + 1 })), "items");
    assert!(
        matches!(daemon.ask(&ToLog::Read { from: u64::MAX, n: 1 }), FromLog::Leaves { leaves, .. } if leaves.is_empty())
    );
}

#[test]
fn what_is_no_leaf_or_too_much_is_refused_and_changes_nothing() {
    let Some(rig) = Rig::new() else { return };
    let keeper = rig.start();
    let (mut daemon, welcome) = keeper.welcome();
    let mut spaced = leaves(1).remove(0);
    spaced.push(b' ');
    let with_bad_end = [leaves(2), vec![b"{}".to_vec()]].concat();
    for (leaves, code) in [
        (vec![], "items"),
        (leaves(257), "items"),
        (vec![b"not json".to_vec()], "leaf"),
        (vec![spaced], "leaf"),
        (vec![vec![b'x'; 70_000]], "leaf"),
        (with_bad_end, "leaf"),
    ] {
        assert_eq!(refusal(&daemon.append(welcome.epoch, 0, &leaves)), code);
    }
    assert_eq!(refusal(&daemon.ask(&hello())), "hello");
    let FromLog::Appended { size, .. } = daemon.append(welcome.epoch, 0, &leaves(256)) else { panic!() };
    assert_eq!(size, 256);
    let mut silent = keeper.connect();
    assert_eq!(refusal(&silent.ask(&ToLog::Note {})), "hello", "Hello comes first");
}

#[test]
fn a_note_is_signed_by_the_token_over_the_durable_head_and_nothing_else() {
    let Some(rig) = Rig::new() else { return };
    let keeper = rig.start();
    let (mut daemon, welcome) = keeper.welcome();
    let mut all = Vec::new();
    for batch in [0, 1, 7] {
        let new = leaves(batch);
        all.extend(new.clone());
        if !new.is_empty() {
            daemon.append(welcome.epoch, (all.len() - new.len()) as u64, &new);
        }
        let checkpoint = Checkpoint::open(&daemon.note(), &rig.key()).unwrap();
        assert_eq!((checkpoint.origin.as_str(), checkpoint.size), (ORIGIN, all.len() as u64));
        assert_eq!(Sha256::from_bytes(checkpoint.root.0), root_of(&all));
    }
    assert_eq!(rig.signatures(), 3);
    assert_eq!(rig.logins(), [0], "one login for all of them");
}

#[test]
fn a_token_that_went_away_and_came_back_signs_again_without_a_restart() {
    let Some(rig) = Rig::new() else { return };
    let keeper = rig.start();
    let (mut daemon, _) = keeper.welcome();
    daemon.note();
    rig.plug(false);
    for _ in 0..3 {
        let FromLog::Refused { code, detail } = daemon.ask(&ToLog::Note {}) else {
            panic!("signed without a token")
        };
        assert!(code.as_str().starts_with("token-"), "{code}: {detail}");
    }
    rig.plug(true);
    loop {
        match daemon.ask(&ToLog::Note {}) {
            FromLog::Noted { note } => break drop(Checkpoint::open(&note, &rig.key()).unwrap()),
            other => assert!(refusal(&other).starts_with("token-")),
        }
    }
}

#[test]
fn sigterm_ends_with_success_and_the_process_is_closed_to_others() {
    let Some(rig) = Rig::new() else { return };
    let mut keeper = rig.start();
    let (mut daemon, welcome) = keeper.welcome();
    daemon.append(welcome.epoch, 0, &leaves(3));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", keeper.process.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    assert_eq!(keeper.signal(Signal::TERM), Some(0));
    assert!(rig.start().welcome().1.size == 3);
}

#[test]
fn a_second_init_and_a_missing_empty_or_damaged_spool_end_with_78_and_name_the_file() {
    let Some(rig) = Rig::new() else { return };
    assert_eq!(rig.command("init").output().unwrap().status.code(), Some(78));
    let mut keeper = rig.start();
    let (mut daemon, welcome) = keeper.welcome();
    daemon.append(welcome.epoch, 0, &leaves(3));
    keeper.signal(Signal::TERM);
    let segment = first_segment(&rig.path("state"));
    let whole = std::fs::read(&segment).unwrap();
    let mut flipped = whole.clone();
    flipped[100] ^= 4;
    for content in [None, Some(vec![]), Some(whole[..9].to_vec()), Some(flipped)] {
        match &content {
            Some(content) => std::fs::write(&segment, content).unwrap(),
            None => std::fs::remove_file(&segment).unwrap(),
        }
        let (code, said) = rig.start_in_vain();
        assert_eq!(code, 78, "{said}");
        assert!(said.contains("00000000000000000000.seg"), "{said}");
    }
    std::fs::write(&segment, whole).unwrap();
    assert_eq!(rig.start().welcome().1.size, 3);
}

#[test]
fn a_lost_spool_is_rebuilt_by_init_and_append_with_the_same_root_and_a_higher_epoch() {
    let Some(rig) = Rig::new() else { return };
    let all = leaves(300);
    let mut keeper = rig.start();
    let (mut daemon, mut before) = keeper.welcome();
    for _ in 0..3 {
        drop(daemon);
        (daemon, before) = keeper.welcome();
    }
    daemon.append(before.epoch, 0, &all[..200]);
    daemon.append(before.epoch, 200, &all[200..]);
    keeper.signal(Signal::TERM);
    std::fs::rename(rig.path("state/spool"), rig.path("lost")).unwrap();
    let (code, said) = rig.start_in_vain();
    assert!(code == 78 && said.contains("state/spool") && said.contains("chancery-keeper init"), "{said}");
    assert!(rig.command("init").output().unwrap().status.success());
    let keeper = rig.start();
    let (mut daemon, after) = keeper.welcome_knowing(before.epoch);
    assert!(after.epoch > before.epoch && after.size == 0, "{after:?}");
    daemon.append(after.epoch, 0, &all[..256]);
    let answer = daemon.append(after.epoch, 256, &all[256..]);
    assert_eq!(answer, FromLog::Appended { size: 300, root: root_of(&all) });
    assert_eq!(Checkpoint::open(&daemon.note(), &rig.key()).unwrap().size, 300);
    // No daemon can use the numbers up.
    drop(daemon);
    let far = loop {
        match keeper.connect().ask(&hello_knowing(u64::MAX)) {
            FromLog::Busy {} => std::thread::yield_now(),
            other => break other,
        }
    };
    assert_eq!(refusal(&far), "epoch");
    assert_eq!(keeper.welcome().1.epoch, after.epoch + 1);
}

#[test]
fn a_failed_sync_ends_the_process_with_74_before_any_answer() {
    let Some(rig) = Rig::new() else { return };
    if let Some(missing) = hsm_sim::missing(&["strace"]) {
        return hsm_sim::skip(missing);
    }
    // The second sync of the connection's thread: the first makes the epoch durable.
    let mut keeper = rig.start_traced(&["-e", "inject=fdatasync:error=EIO:when=2"]);
    let (mut daemon, welcome) = keeper.welcome();
    assert_eq!(daemon.try_ask(&append(welcome.epoch, 0, &leaves(2))), None);
    let (code, said) = keeper.ended();
    assert!(code == 74 && said.contains("00000000000000000000.seg"), "{code} {said}");
    // The failed sync has left the leaves in memory, marked as written. The next start finds them there like any others
    // and must write them once more: if that fails it does not serve.
    let (code, said) = rig.start_traced_in_vain(&["-e", "inject=fsync:error=EIO:when=1"]);
    assert!(code == 74 && said.contains("00000000000000000000.seg"), "{code} {said}");
    let keeper = rig.start_traced(&[]);
    let calls = Calls::read(&rig.calls());
    let found = calls.after(0, &["openat", "O_RDWR", "00000000000000000000.seg"]);
    let written = calls.after(found, &["pwrite64", "stopped"]);
    let synced = calls.after(written, &["fsync", "= 0"]);
    calls.after(synced, &["listen"]);
    let (_, after) = keeper.welcome();
    assert!(after.size == 2 && after.epoch > welcome.epoch, "{after:?}");
}

#[test]
fn init_syncs_the_name_of_every_folder_that_it_makes() {
    let Some(rig) = Rig::new() else { return };
    if let Some(missing) = hsm_sim::missing(&["strace"]) {
        return hsm_sim::skip(missing);
    }
    let config = std::fs::read_to_string(rig.path("keeper.toml")).unwrap();
    std::fs::write(rig.path("keeper.toml"), config.replace("'state'", "'new/folders/state'")).unwrap();
    assert!(rig.traced("init", &["-y"]).output().unwrap().status.success());
    let calls = Calls::read(&rig.calls());
    for holds_a_new_name in ["", "/new", "/new/folders", "/new/folders/state", "/new/folders/state/spool"] {
        let folder = rig.path("").join(holds_a_new_name.trim_start_matches('/'));
        let folder = folder.to_str().unwrap().trim_end_matches('/');
        calls.after(0, &["fsync", &format!("<{folder}>"), "= 0"]);
    }
}

#[test]
fn leaves_are_synced_before_they_are_answered() {
    let Some(rig) = Rig::new() else { return };
    if let Some(missing) = hsm_sim::missing(&["strace"]) {
        return hsm_sim::skip(missing);
    }
    let keeper = rig.start_traced(&[]);
    let (mut daemon, welcome) = keeper.welcome();
    daemon.append(welcome.epoch, 0, &leaves(2));
    daemon.note();
    let calls = Calls::read(&rig.calls());
    let written = calls.after(0, &["pwrite64", "stopped"]);
    let synced = calls.after(written, &["fdatasync", "= 0"]);
    let answered = calls.after(0, &["appended"]);
    assert!(synced < answered, "line {synced} against line {answered}");
}
