//! One write and sync after the other fails under a keeper: its process ends with 74, having answered nothing.

use super::scene::{Scene, TOLD, faults};
use std::path::{Path, PathBuf};
use tests::{Member, Strace, wait_for};

/// The files of a state folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

fn every_failed_write(keeper: Member, folder: &str) {
    let Some(mut scene) = Scene::set() else { return };
    let state = scene.service().dir().join(folder).join("state");
    let tag = scene.tag();
    let trace = Strace::attach(scene.parts.pid(keeper), &files(&state), &scene.trace_file(), None);
    assert_eq!(scene.ask(&tag).status, 201);
    let calls = trace.calls();
    drop(trace);
    let faults = faults(&calls, 6);
    println!("{} calls of one request, {} faults", calls.len(), faults.len());
    assert!(faults.iter().any(|f| f.call == "fdatasync" || f.call == "fsync"), "{calls:?}");
    let mut ended = 0;
    for fault in &faults {
        let (tag, signed) = (scene.tag(), scene.service().signed().len());
        let trace =
            Strace::attach(scene.parts.pid(keeper), &files(&state), &scene.trace_file(), Some(*fault));
        let (status, request) = scene.service().post("CHANCERY_TOKEN", &tag, "demo/app", &scene.digest, &tag);
        assert_eq!(status, 202, "{fault:?}: {request}");
        let id = request["id"].as_str().unwrap();
        wait_for("the keeper to end or the request to be published", || {
            (scene.parts.has_ended(keeper) || scene.service().state(id) == "published").then_some(())
        });
        if !scene.parts.has_ended(keeper) {
            assert!(!trace.calls().iter().any(|call| call.injected), "{fault:?}: it goes on after it");
            continue;
        }
        ended += 1;
        assert_eq!(scene.parts.ended(keeper), 74, "{fault:?}");
        let after: Vec<_> = trace.ended().into_iter().skip_while(|call| !call.injected).skip(1).collect();
        assert!(after.is_empty(), "{fault:?}: written after it: {after:?}");
        let said = scene.service().log_of(keeper.name());
        assert!(said.contains("cannot be written; check the disk"), "{fault:?}: {said}");
        // Neither the token's own journal grows, nor is a new request taken.
        let now = scene.service().signed().len();
        assert!(now <= signed + 3, "{fault:?}");
        let new = scene.tag();
        let refused = wait_for("the daemon to know that the keeper is away", || {
            let answer = scene.ask(&new);
            (answer.status == 503).then_some(answer)
        });
        assert!(refused.took < TOLD, "{fault:?}: {refused:?}");
        assert_eq!(scene.service().signed().len(), now, "{fault:?}: a key was used");
        scene.reads_go_on();
        assert_eq!(scene.alarms(), 0, "the daemon's own state is whole");
        scene.parts.start(keeper);
        scene.service().wait_until_ready();
        scene.gets(&tag);
    }
    println!("{ended} ends with 74");
    assert!(ended * 2 > faults.len(), "{ended} of {}", faults.len());
    scene.is_whole();
}

#[test]
fn every_failed_write_and_sync_of_the_spool_ends_the_log_keeper_with_74_and_nothing_is_signed() {
    every_failed_write(Member::LogKeeper, "log");
}

#[test]
fn every_failed_write_and_sync_of_a_journal_ends_its_keeper_with_74_and_touches_no_key() {
    every_failed_write(Member::SigningKeeper, "signing");
}
