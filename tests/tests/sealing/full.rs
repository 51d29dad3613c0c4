//! A folder that is full: a tmpfs with little room. The operator's remedy is room; then everything goes on.

use super::scene::{Scene, seconds};
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use tests::{Member, wait_for};

/// Requests that are surely too many for the room that is left.
const ENOUGH: usize = 100;

/// A tmpfs in the place of a folder, with the folder's files in it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// With so many KiB beside what is there; none where nothing may be mounted.
    fn in_place_of(folder: &Path, spare_kib: u64) -> Option<Self> {
        let copy = folder.with_extension("copy");
        run(Command::new("cp").arg("-a").args([folder, &copy])).unwrap();
        let used = run(Command::new("du").arg("-sk").arg(folder)).unwrap();
        let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
        let size = format!("size={}k,mode=0700", used + spare_kib);
        if let Err(why) = run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder)) {
            hsm_sim::skip(format_args!("a tmpfs cannot be mounted: {why}"));
            return None;
        }
        let disk = Self(folder.to_owned());
        run(Command::new("cp").arg("-a").arg(copy.join(".")).arg(folder)).unwrap();
        Some(disk)
    }

    fn give_room(&self) {
        run(Command::new("mount").args(["-o", "remount,size=64m"]).arg(&self.0)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: processes may still be on it.
        let _gone = run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

/// What a command printed, or why it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let done = command.output().map_err(|e| e.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

#[test]
fn a_full_disk_under_the_database_seals_the_seal_is_kept_there_and_room_and_a_check_lead_back() {
    let Some(mut scene) = Scene::set() else { return };
    assert_eq!(scene.parts.stop(Member::Daemon), 0);
    let Some(disk) = SmallDisk::in_place_of(&scene.parts.data(), 1024) else { return };
    scene.parts.start(Member::Daemon);
    scene.service().wait_until_ready();
    let (tag, answer) = (0..ENOUGH)
        .find_map(|_| {
            let tag = scene.tag();
            let answer = scene.ask(&tag);
            (answer.status != 201).then_some((tag, answer))
        })
        .expect("the disk is full some time");
    answer.is_audit_unavailable();
    scene.is_sealed("the database failed");
    scene.one_alarm(0);
    assert_eq!(scene.parts.stop(Member::Daemon), 0);
    disk.give_room();
    scene.unseal("the database failed");
    scene.gets(&tag);
    scene.is_whole();
}

fn a_full_disk_ends(keeper: Member, folder: &str) {
    let Some(mut scene) = Scene::set() else { return };
    assert_eq!(scene.parts.stop(keeper), 0);
    let state = scene.service().dir().join(folder).join("state");
    let Some(disk) = SmallDisk::in_place_of(&state, 64) else { return };
    scene.parts.start(keeper);
    scene.service().wait_until_ready();
    let tag = (0..ENOUGH)
        .find_map(|_| {
            let tag = scene.tag();
            let (_, request) = scene.service().post("CHANCERY_TOKEN", &tag, "demo/app", &scene.digest, &tag);
            let id = request["id"].as_str()?.to_owned();
            wait_for("the keeper to end or the request to be published", || {
                (scene.parts.has_ended(keeper) || scene.service().state(&id) == "published").then_some(())
            });
            scene.parts.has_ended(keeper).then_some(tag)
        })
        .expect("the disk is full some time");
    // Its last words are its answer to the write that failed.
    let failed = seconds(&scene.service().dir().join(format!("logs/{}.log", keeper.name())));
    let (_, accepted) = scene.is_without(keeper, failed, "a full disk");
    disk.give_room();
    scene.gets_back(keeper, accepted.iter().chain([&tag]));
    scene.is_whole();
}

#[test]
fn a_full_disk_under_the_spool_ends_the_log_keeper_with_74() {
    a_full_disk_ends(Member::LogKeeper, "log");
}

#[test]
fn a_full_disk_under_a_journal_ends_its_keeper_with_74() {
    a_full_disk_ends(Member::SigningKeeper, "signing");
}
