//! A keeper that goes from one log to the next: what it carries over, and what nobody can make it believe.

use super::place::said;
use super::rig::Rig;
use super::world::{Collection, Made, ORIGIN, REPOSITORY, World};
use super::{collection, refused, repository};
use record::wire::{Blob, Child, FromSigner};
use record::{Adopted, Event, FileRef, Leaf, Nonce};

const NEW: &str = "log-2.example.com";

/// Writes the charter of a new log; gives the world of the former one.
fn announce_new_log(rig: &mut Rig) -> World {
    let new = World::of_log(NEW, rig.world.spki.clone(), rig.world.now);
    let former = std::mem::replace(&mut rig.world, new);
    rig.write("charter.toml", &rig.world.charter());
    former
}

/// Runs `admin follow-log`: what it prints, or its exit code and why it refuses.
fn follow(rig: &Rig, more: &[&str]) -> Result<serde_json::Value, (i32, String)> {
    let mut command = rig.command("admin follow-log");
    let ended = command.args(["--former-origin", ORIGIN]).args(more).output().unwrap();
    match ended.status.code().unwrap() {
        0 => Ok(serde_json::from_slice(&ended.stdout).unwrap()),
        code => Err((code, said(&ended))),
    }
}

/// The file as the new log takes it over.
fn adopted(world: &mut World, made: &Made, file: &[u8]) -> Child {
    let leaf = Leaf::Event(Event::Adopted(Adopted {
        time: world.now,
        nonce: Nonce::parse(&"a".repeat(32)).unwrap(),
        repository: made.intent.repository.clone(),
        role: made.intent.purpose,
        version: made.intent.action.version().unwrap(),
        reserved: None,
        key: made.intent.key,
        payload: made.intent.payload,
        file: FileRef::of(file),
        expires: made.intent.action.expires(),
        parts: 0,
        content: Blob(file.to_vec()),
    }));
    let bytes = leaf.encode().unwrap();
    let index = world.log.append(&bytes);
    Child { file: Blob(file.to_vec()), index, leaf: Blob(bytes), inclusion: vec![] }
}

/// The collection's root, targets and snapshot in the new log.
fn adopt(world: &mut World, made: &Collection) -> [Child; 3] {
    [&made.root, &made.targets, &made.snapshot].map(|(made, file)| adopted(world, made, file))
}

#[test]
fn a_keeper_that_follows_a_new_log_goes_on_with_its_collections_and_nothing_falls() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let made = collection(&mut daemon, &mut rig.world, REPOSITORY);
    let generation = keeper.connect().welcome.generation;
    assert_eq!(follow(&rig, &[]).unwrap_err().0, 78, "the charter still names the former log");
    let mut former = announce_new_log(&mut rig);
    assert_eq!(follow(&rig, &[]).unwrap_err().0, 75, "while it runs");
    keeper.kill();
    let (code, why) = rig.start_in_vain();
    assert_eq!(code, 78);
    assert!(why.contains(&format!("for log {ORIGIN}")), "it was not told: {why}");
    let told = follow(&rig, &[]).unwrap();
    assert_eq!((&told["changed"], &told["carried"]), (&true.into(), &4.into()), "{told}");
    let again = follow(&rig, &["--abandon-open"]).unwrap();
    assert_eq!((&again["changed"], &again["carried"]), (&false.into(), &4.into()), "{again}");

    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let welcome = &daemon.welcome;
    assert_eq!((welcome.origin.as_str(), welcome.seen_size, welcome.generation), (NEW, 0, generation + 1));
    let behind = former.next_targets(&made.targets.0, &made.targets.1, 2, "v2");
    let answer = daemon.ask(&former.batch(0, &[&behind], vec![]));
    assert!(matches!(answer, FromSigner::Refused { .. }), "the former log is nothing to it: {answer:?}");

    let [root, targets, snapshot] = adopt(&mut rig.world, &made);
    let first = rig.world.first_targets(REPOSITORY, "other");
    refused(&rig, &mut daemon, &first, "chain", "a version that the former log had, with other content");
    let renewed = rig.world.timestamp(REPOSITORY, 2, snapshot);
    daemon.through(&mut rig.world, &renewed);
    let over_old = rig.world.snapshot(REPOSITORY, 2, root.clone(), targets);
    daemon.through(&mut rig.world, &over_old);
    let next = rig.world.next_targets(&made.targets.0, &made.targets.1, 2, "v2");
    let file = daemon.through(&mut rig.world, &next);
    let snapshot = rig.world.snapshot(REPOSITORY, 3, root, next.child(&file));
    let sealed = daemon.through(&mut rig.world, &snapshot);
    let timestamp = rig.world.timestamp(REPOSITORY, 3, snapshot.child(&sealed));
    daemon.through(&mut rig.world, &timestamp);
}

#[test]
fn a_daemon_that_invents_files_of_a_former_log_gains_nothing() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let a = collection(&mut daemon, &mut rig.world, REPOSITORY);
    let b = collection(&mut daemon, &mut rig.world, &repository(1));
    let old = rig.world.next_targets(&a.targets.0, &a.targets.1, 2, "v2");
    let newer = daemon.through(&mut rig.world, &old);
    // A keeper that has followed one log only takes nothing from a former one.
    let [root, targets, snapshot] = adopt(&mut rig.world, &b);
    let made = rig.world.snapshot(&repository(1), 2, root, targets);
    refused(&rig, &mut daemon, &made, "child", "no former log");
    let made = rig.world.timestamp(&repository(1), 2, snapshot);
    refused(&rig, &mut daemon, &made, "child", "no former log");
    keeper.kill();
    announce_new_log(&mut rig);
    follow(&rig, &[]).unwrap();

    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let [root, older, _] = adopt(&mut rig.world, &a);
    let [other_root, other_targets, other_snapshot] = adopt(&mut rig.world, &b);
    let current = adopted(&mut rig.world, &old, &newer);
    let made = rig.world.snapshot(REPOSITORY, 2, root.clone(), older);
    refused(&rig, &mut daemon, &made, "child", "an older version than the former log's newest");
    let made = rig.world.snapshot(REPOSITORY, 2, root.clone(), other_targets);
    refused(&rig, &mut daemon, &made, "child", "the targets of another collection");
    let mut claim = b.targets.0.clone();
    claim.intent.repository = old.intent.repository.clone();
    let claimed = adopted(&mut rig.world, &claim, &b.targets.1);
    let made = rig.world.snapshot(REPOSITORY, 2, root.clone(), claimed);
    refused(&rig, &mut daemon, &made, "child", "the same, taken over as this collection's");
    let made = rig.world.snapshot(REPOSITORY, 2, other_root, current.clone());
    refused(&rig, &mut daemon, &made, "child", "the root of another collection");
    let made = rig.world.timestamp(REPOSITORY, 2, other_snapshot);
    refused(&rig, &mut daemon, &made, "child", "the snapshot of another collection");
    let mut unlogged = current.clone();
    unlogged.leaf.0.truncate(unlogged.leaf.0.len() - 1);
    let made = rig.world.snapshot(REPOSITORY, 2, root.clone(), unlogged);
    refused(&rig, &mut daemon, &made, "child", "a leaf that the log does not have");

    // What is signed under this log is shown by its intent, or not at all.
    let next = rig.world.next_targets(&old, &newer, 3, "v3");
    let file = daemon.through(&mut rig.world, &next);
    let invented = adopted(&mut rig.world, &next, &file);
    let made = rig.world.snapshot(REPOSITORY, 2, root.clone(), invented);
    refused(&rig, &mut daemon, &made, "child", "a version of this log");
    let made = rig.world.snapshot(REPOSITORY, 2, root, next.child(&file));
    daemon.through(&mut rig.world, &made);
}

#[test]
fn what_the_former_log_never_closed_is_named_and_its_version_is_never_given_away() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let made = collection(&mut daemon, &mut rig.world, REPOSITORY);
    let open = rig.world.next_targets(&made.targets.0, &made.targets.1, 2, "v2");
    daemon.reserve(&rig.world.batch(daemon.seen, &[&open], vec![]));
    daemon.signature();
    keeper.kill();
    announce_new_log(&mut rig);
    let (code, why) = follow(&rig, &[]).unwrap_err();
    assert_eq!(code, 78);
    let payload = open.intent.payload.to_string();
    let named = format!("intent {}: targets version 2 of {REPOSITORY}, payload {payload}", open.index);
    assert!(why.contains(&named), "{why}");
    assert_eq!(rig.start_in_vain().0, 78, "nothing was changed");
    let told = follow(&rig, &["--abandon-open"]).unwrap();
    assert_eq!(told["abandoned"].as_array().unwrap().len(), 1);
    let item = &told["abandoned"][0];
    assert_eq!(
        (&item["index"], &item["payload"], &item["version"], &item["role"]),
        (&open.index.into(), &payload.into(), &2.into(), &"targets".into()),
        "{told}"
    );

    let keeper = rig.start();
    let mut daemon = keeper.connect();
    assert!(daemon.welcome.open.is_empty());
    let [root, targets, _] = adopt(&mut rig.world, &made);
    let other = rig.world.next_targets(&made.targets.0, &made.targets.1, 2, "other");
    refused(&rig, &mut daemon, &other, "chain", "the version that may have been signed, with other content");
    // Nobody has seen version 2: until it is passed, what lies below it may be named.
    let renewed = rig.world.snapshot(REPOSITORY, 2, root, targets);
    daemon.through(&mut rig.world, &renewed);
    let next = rig.world.next_targets(&made.targets.0, &made.targets.1, 3, "v3");
    daemon.through(&mut rig.world, &next);
}
