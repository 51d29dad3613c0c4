//! Intents that must not reach a key.

use super::rig::Rig;
use super::world::REPOSITORY;
use super::{collection, refused, repository};
use record::wire::{Blob, Extra};
use record::{Action, Clock, FileRef, Format, Intent, KeeperName, Origin, Purpose, Sha256, SystemClock};

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
