//! One write and sync after the other fails under a keeper: its process ends with 74, having answered nothing.

use super::scene::{Scene, TOLD, faults, play_all};
use std::path::{Path, PathBuf};
use tests::{Fault, Member, Strace, wait_for};

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
    let files = files(&scene.service().dir().join(folder).join("state"));
    let calls = scene.calls_of_a_request(keeper, &files);
    let faults = faults(&calls, 6);
    println!("{} calls of one request, {} faults", calls.len(), faults.len());
    assert!(faults.iter().any(|f| f.call == "fdatasync" || f.call == "fsync"), "{calls:?}");
    let told = play_all(&mut scene, &faults, |scene, fault| one(scene, keeper, &files, fault));
    let slowest = told.iter().copied().fold(0.0, f64::max);
    println!("{} ends with 74, slowest refusal {slowest:.3} s after its fault", told.len());
}

/// Plays one fault; how long after it the first caller was refused. None if the call did not come.
fn one(scene: &mut Scene, keeper: Member, files: &[PathBuf], fault: Fault) -> Option<f64> {
    let (tag, before) = (scene.tag(), scene.service().signed().len());
    let trace = Strace::attach(scene.parts.pid(keeper), files, &scene.trace_file(), Some(fault));
    let (status, request) = scene.service().post("CHANCERY_TOKEN", &tag, "demo/app", &scene.digest, &tag);
    assert_eq!(status, 202, "{fault:?}: {request}");
    let id = request["id"].as_str().unwrap();
    wait_for("the keeper to end or the request to be published", || {
        (scene.parts.has_ended(keeper) || scene.service().state(id) == "published").then_some(())
    });
    trace.hit_within(TOLD)?;
    wait_for(&format!("the keeper to end, not to go on after {fault:?}"), || {
        scene.parts.has_ended(keeper).then_some(())
    });
    let calls = trace.ended();
    let (before_it, after) = calls.split_at(calls.iter().position(|call| call.injected).unwrap());
    assert!(after.len() == 1, "{fault:?}: written after it: {after:?}");
    let (told, accepted) = scene.is_without(keeper, after[0].at, &format!("{fault:?}"));
    if keeper == Member::SigningKeeper {
        // One reservation is synced for each signature.
        let reserved = before_it.iter().filter(|call| call.name == "fdatasync").count();
        let made = scene.service().signed().len() - before;
        assert_eq!(made, reserved, "{fault:?}: signatures, and reservations before it");
    }
    scene.gets_back(keeper, accepted.iter().chain([&tag]));
    Some(told)
}

#[test]
fn every_failed_write_and_sync_of_the_spool_ends_the_log_keeper_with_74_and_nothing_is_signed() {
    every_failed_write(Member::LogKeeper, "log");
}

#[test]
fn every_failed_write_and_sync_of_a_journal_ends_its_keeper_with_74_and_touches_no_key() {
    every_failed_write(Member::SigningKeeper, "signing");
}
