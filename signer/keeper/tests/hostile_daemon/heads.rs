//! The heads of the log that a keeper is shown.

use super::rig::Rig;
use super::world::REPOSITORY;
use record::wire::{Batch, FromSigner};

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
