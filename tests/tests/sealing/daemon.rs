//! One call of the daemon after the other fails, on its database and on the mark of its seal.

use super::scene::{Scene, TOLD, faults, play_all};
use std::path::PathBuf;
use tests::{Fault, Member, Strace, wait_for};

/// More leaves than a start and a request make.
const LEAVES_SINCE_START: u64 = 40;

/// More requests than fit into the write-ahead log before it is moved into the file.
const REQUESTS_A_CHECKPOINT: usize = 60;

/// The files that a commit writes.
fn database(scene: &Scene) -> Vec<PathBuf> {
    ["chancery.db", "chancery.db-wal", "chancery.db-shm"].map(|name| scene.parts.data().join(name)).to_vec()
}

fn with_mark(scene: &Scene) -> Vec<PathBuf> {
    let mut files = database(scene);
    files.push(scene.parts.data().join("seal"));
    files
}

/// P4: a sink that cannot write stops signing.
#[test]
fn every_failed_write_and_sync_of_the_database_seals_and_nothing_is_written_or_signed_after_it() {
    let Some(mut scene) = Scene::set() else { return };
    let files = database(&scene);
    let calls = scene.calls_of_a_request(Member::Daemon, &files);
    let faults = faults(&calls, 6);
    println!("{} calls of one request, {} faults", calls.len(), faults.len());
    assert!(faults.iter().any(|f| f.call == "fdatasync" || f.call == "fsync"), "{calls:?}");
    let told = play_all(&mut scene, &faults, one);
    let slowest = told.into_iter().fold(0.0, f64::max);
    println!("slowest answer {slowest:.3} s after its fault");
}

/// Plays one fault; how long after it the caller was told. None if the call did not come.
fn one(scene: &mut Scene, fault: Fault) -> Option<f64> {
    let (tag, alarms) = (scene.tag(), scene.alarms());
    let trace =
        Strace::attach(scene.parts.pid(Member::Daemon), &database(scene), &scene.trace_file(), Some(fault));
    let answer = scene.ask(&tag);
    // Some calls come when the caller has its answer.
    let Some(hit) = trace.hit_within(TOLD) else {
        assert_eq!(answer.status, 201, "{fault:?} {answer:?}");
        return None;
    };
    // A fault that comes behind the last commit of the request is told to the next one.
    if answer.status != 201 {
        answer.is_audit_unavailable();
    }
    let told = answer.at - hit.at;
    assert!(told < TOLD.as_secs_f64(), "{fault:?}: told after {told} s: {answer:?}");
    assert!(scene.last_signature() < hit.at + 0.02, "{fault:?}: a key was used after it");
    scene.is_sealed("the database failed");
    scene.tiles_go_on();
    scene.one_alarm(alarms);
    assert_eq!(scene.parts.stop(Member::Daemon), 0);
    let after: Vec<_> = trace.ended().into_iter().skip_while(|call| !call.injected).skip(1).collect();
    assert!(after.is_empty(), "{fault:?}: written after it: {after:?}");
    scene.unseal("the database failed");
    scene.gets(&tag);
    let from = scene.service().noted().unwrap().saturating_sub(LEAVES_SINCE_START);
    let history = scene.service().history_from(from);
    assert!(matches!(history.leaves().iter().rev().find_map(told_of_seal), Some(true)), "{fault:?}");
    Some(told)
}

/// Whether a leaf says that a seal was lifted; none if it says nothing of how a daemon ended.
fn told_of_seal(leaf: &record::Leaf) -> Option<bool> {
    match leaf {
        record::Leaf::Event(record::Event::Unsealed { reason, .. }) => {
            Some(reason.contains("the database failed"))
        }
        record::Leaf::Event(record::Event::Recovered { .. }) => Some(false),
        _ => None,
    }
}

/// SQLite's own checkpoints swallow their errors, and the next one's sync seems to succeed.
#[test]
fn a_failed_write_or_sync_of_the_file_that_the_log_is_moved_into_is_noticed_and_seals() {
    let Some(mut scene) = Scene::set() else { return };
    let file = [scene.parts.data().join("chancery.db")];
    for (call, errno) in [("fsync", "EIO"), ("pwrite64", "EIO")] {
        let fault = Fault { call, errno, n: 1 };
        let trace = Strace::attach(scene.parts.pid(Member::Daemon), &file, &scene.trace_file(), Some(fault));
        let alarms = scene.alarms();
        let (tag, answer) = (0..REQUESTS_A_CHECKPOINT)
            .find_map(|_| {
                let tag = scene.tag();
                let answer = scene.ask(&tag);
                (answer.status != 201).then_some((tag, answer))
            })
            .expect("a checkpoint comes some time");
        answer.is_audit_unavailable();
        scene.is_sealed("the database failed");
        scene.one_alarm(alarms);
        assert_eq!(scene.parts.stop(Member::Daemon), 0);
        let after: Vec<_> = trace.ended().into_iter().skip_while(|call| !call.injected).skip(1).collect();
        assert!(after.is_empty(), "{fault:?}: written after it: {after:?}");
        scene.unseal("the database failed");
        scene.gets(&tag);
    }
    scene.is_whole();
}

#[test]
fn a_seal_is_kept_by_one_write_and_one_sync_and_where_these_fail_too_the_next_start_says_so_and_reads_everything_at_once()
 {
    let Some(mut scene) = Scene::set() else { return };
    let tag = scene.tag();
    // The seal is written by a thread of its own, whose calls are counted from 1, as are those of the database's thread.
    let fault = Fault { call: "fsync,fdatasync", errno: "EIO", n: 1 };
    let files = with_mark(&scene);
    let trace = Strace::attach(scene.parts.pid(Member::Daemon), &files, &scene.trace_file(), Some(fault));
    scene.ask(&tag).is_audit_unavailable();
    wait_for("the seal to have failed, too", || {
        scene.service().log_of("chanceryd").contains("the seal could not be kept").then_some(())
    });
    scene.is_sealed("the database failed");
    assert_eq!(scene.parts.stop(Member::Daemon), 0);
    let after: Vec<_> = trace.ended().into_iter().skip_while(|call| !call.injected).skip(1).collect();
    let names: Vec<_> = after.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["pwrite64", "fdatasync"], "{after:?}");
    assert!(after.iter().all(|call| call.path.ends_with("/seal")), "{after:?}");
    // What that write has left in the file is what the disk would have lost.
    let mark = scene.parts.data().join("seal");
    let mut running = b"{\"state\":\"running\"}".to_vec();
    running.resize(4095, b' ');
    running.push(b'\n');
    std::fs::write(mark, running).unwrap();
    scene.parts.start(Member::Daemon);
    scene.service().wait_until_ready();
    wait_for("the scrub", || {
        scene.service().log_of("chanceryd").contains("everything was read from the disk again").then_some(())
    });
    let (status, health) = scene.service().http("CHANCERY_AUDITOR_TOKEN", "/v1/keepers", &[]);
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert!(status == 200 && health["scrub"]["last"]["leaves"].as_u64() > Some(0), "{health}");
    scene.gets(&tag);
    let history = scene.service().history();
    let recovered =
        |leaf: &record::Leaf| matches!(leaf, record::Leaf::Event(record::Event::Recovered { .. }));
    assert_eq!(history.leaves().iter().filter(|leaf| recovered(leaf)).count(), 1);
    scene.is_whole();
}

#[test]
fn the_folder_of_a_sealed_daemon_may_be_copied_to_another_disk_and_is_unsealed_there() {
    let Some(mut scene) = Scene::set() else { return };
    let tag = scene.tag();
    let fault = Fault { call: "fsync,fdatasync", errno: "EIO", n: 1 };
    let trace =
        Strace::attach(scene.parts.pid(Member::Daemon), &database(&scene), &scene.trace_file(), Some(fault));
    scene.ask(&tag).is_audit_unavailable();
    scene.is_sealed("the database failed");
    assert_eq!(scene.parts.stop(Member::Daemon), 0);
    trace.ended();
    let data = scene.parts.data();
    let old = data.with_extension("old-disk");
    std::fs::rename(&data, &old).unwrap();
    let copied = std::process::Command::new("cp").arg("-a").args([&old, &data]).status().unwrap();
    assert!(copied.success());
    assert!(std::fs::metadata(data.join("chancery.db-wal")).unwrap().len() > 0, "nothing to be mistaken");
    scene.unseal("the database failed");
    scene.gets(&tag);
    scene.is_whole();
}

#[test]
fn a_stop_in_good_order_is_followed_by_no_word_and_a_kill_by_recovered() {
    let Some(mut scene) = Scene::set() else { return };
    let recovered = |scene: &Scene| {
        let history = scene.service().history();
        let is = |leaf: &&record::Leaf| matches!(leaf, record::Leaf::Event(record::Event::Recovered { .. }));
        history.leaves().iter().filter(is).count()
    };
    let before = recovered(&scene);
    for (end, more) in [(true, 0), (false, 1), (true, 1)] {
        match end {
            true => assert_eq!(scene.parts.stop(Member::Daemon), 0),
            false => scene.parts.kill(Member::Daemon),
        }
        scene.parts.start(Member::Daemon);
        scene.service().wait_until_ready();
        assert_eq!(recovered(&scene), before + more);
    }
}
