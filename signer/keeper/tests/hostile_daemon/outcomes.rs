//! How items end, and by whose word.

use super::rig::Rig;
use super::world::{Made, REPOSITORY};
use super::{refused, repository};
use record::OutcomeKind;
use record::wire::{OpenState, SignResult};

/// INVARIANT(keepers-word)
#[test]
fn keepers_word() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let made = rig.world.first_targets(REPOSITORY, "v1");
    daemon.reserve(&rig.world.batch(0, &[&made], vec![]));
    let (_, signature) = daemon.signature();
    drop(daemon);
    let mut daemon = keeper.connect();
    let told = OpenState::Finished(SignResult::Signed { signature: signature.clone() });
    assert_eq!(daemon.told(made.index), Some(&told), "the answer was lost with the connection");
    for kind in [OutcomeKind::Void, OutcomeKind::Unknown, OutcomeKind::Failed] {
        let settle = rig.world.outcome(&made, kind);
        let answer = daemon.reserve(&rig.world.batch(daemon.seen, &[], vec![settle]));
        assert_eq!((answer.settled.len(), answer.unsettled[0].code.as_str()), (0, "unsettled"));
    }
    let mut void = rig.world.batch(daemon.seen, &[], vec![]);
    void.void = vec![made.index];
    assert_eq!(daemon.reserve(&void).refused[0].code.as_str(), "unsettled");
    let settle = rig.world.completion(&made, &signature);
    assert_eq!(daemon.reserve(&rig.world.batch(daemon.seen, &[], vec![settle])).settled, [made.index]);
    assert!(keeper.connect().welcome.open.is_empty());
}

#[test]
fn a_keeper_killed_after_it_reserved_says_lost_and_never_signs_that_index_again() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let made: Vec<Made> = (0..50).map(|n| rig.world.first_targets(&repository(n), "v1")).collect();
    let answer = daemon.reserve(&rig.world.batch(0, &made.iter().collect::<Vec<_>>(), vec![]));
    assert_eq!(answer.accepted.len(), 50);
    keeper.kill();
    let touched = rig.signed();
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    for made in &made {
        assert_eq!(daemon.told(made.index), Some(&OpenState::Finished(SignResult::Lost {})));
        refused(&rig, &mut daemon, made, "used", "reserved before the kill");
    }
    assert_eq!(rig.signed(), touched);
    let settle = made.iter().map(|m| rig.world.outcome(m, OutcomeKind::Unknown)).collect();
    assert_eq!(daemon.reserve(&rig.world.batch(daemon.seen, &[], settle)).settled.len(), 50);
    let retry = rig.world.first_targets(&repository(0), "v1");
    daemon.through(&mut rig.world, &retry);
}

#[test]
fn a_keeper_killed_after_it_said_failed_says_so_again_and_takes_that_outcome() {
    let Some(mut rig) = Rig::new() else { return };
    let faults = hsm_sim::Faults::create(&rig.path("faults")).unwrap();
    faults.add(hsm_sim::Rule::answer("C_SignInit", "CKR_ARGUMENTS_BAD")).unwrap();
    let mut serve = rig.command("serve");
    serve.env("HSM_SIM_CONTROL", faults.folder());
    let keeper = rig.start_as(serve);
    let mut daemon = keeper.connect();
    let made = rig.world.first_targets(REPOSITORY, "v1");
    assert_eq!(daemon.reserve(&rig.world.batch(0, &[&made], vec![])).accepted, [made.index]);
    let (_, result) = daemon.result();
    assert!(matches!(&result, SignResult::Failed { .. }), "{result:?}");
    // The daemon logs that word; before it can settle it, the keeper dies.
    let settle = rig.world.outcome(&made, OutcomeKind::Failed);
    keeper.kill();
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    assert_eq!(daemon.told(made.index), Some(&OpenState::Finished(result)));
    let lie = rig.world.outcome(&made, OutcomeKind::Unknown);
    let answer = daemon.reserve(&rig.world.batch(daemon.seen, &[], vec![lie, settle]));
    assert_eq!((answer.unsettled.len(), answer.settled), (1, vec![made.index]));
    let again = rig.world.first_targets(REPOSITORY, "v1");
    daemon.through(&mut rig.world, &again);
}

/// INVARIANT(settle)
#[test]
fn settle() {
    let Some(mut rig) = Rig::new() else { return };
    let keeper = rig.start();
    let mut daemon = keeper.connect();
    let made: Vec<Made> = (0..1024).map(|n| rig.world.first_targets(&repository(n), "v1")).collect();
    for chunk in made.chunks(256) {
        let answer = daemon.reserve(&rig.world.batch(daemon.seen, &chunk.iter().collect::<Vec<_>>(), vec![]));
        assert_eq!(answer.accepted.len(), 256, "{:?}", answer.refused.first());
        for _ in chunk {
            daemon.signature();
        }
    }
    let over = rig.world.first_targets(&repository(1024), "v1");
    let touched = rig.signed().len();
    let refusal = daemon.refused(&rig.world.batch(daemon.seen, &[&over], vec![]));
    assert_eq!((refusal.code.as_str(), refusal.detail.as_str()), ("unsettled", "1024 items are open"));
    assert_eq!(rig.signed().len(), touched);
    let first = keeper.connect();
    let Some(OpenState::Finished(SignResult::Signed { signature })) = first.told(made[0].index) else {
        panic!()
    };
    let settle = rig.world.completion(&made[0], signature);
    let answer = daemon.reserve(&rig.world.batch(daemon.seen, &[&over], vec![settle]));
    assert_eq!((answer.settled.len(), answer.accepted), (1, vec![over.index]), "the refusal spent nothing");
}
