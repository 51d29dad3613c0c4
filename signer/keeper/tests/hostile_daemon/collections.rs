//! What a collection's files may say.

use super::rig::Rig;
use super::world::{REPOSITORY, targets};
use super::{collection, refused, repository, unsigned_file};
use record::wire::{Blob, Extra};
use record::{Action, FileRef, Leaf, Repository};

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
