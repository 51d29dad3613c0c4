//! One keeper of two does not work: what it blocks, and who is told.

use super::row::TARGETS;
use super::scene::DEADLINE_MS;
use hsm_sim::{Insertion, Rule};
use std::time::Duration;
use tests::{Instance, OwnKeeper, Wanted, have, wait_for};

/// A service with a second keeper, whose repositories begin with `demo/hsm/`.
fn two_keepers() -> (Instance, OwnKeeper) {
    let mut service = Instance::start();
    let wanted = Wanted { name: "hsm", prefix: "demo/hsm/", call_deadline_ms: DEADLINE_MS };
    let keeper = OwnKeeper::join(&mut service, wanted);
    (service, keeper)
}

/// What `/readyz` says once it is not ready.
fn not_ready(service: &Instance) -> String {
    wait_for("/readyz to name the keeper", || {
        let (status, body) = service.http("", "/readyz", &[]);
        (status == 503).then_some(body)
    })
}

#[test]
fn a_dead_keeper_blocks_its_own_repositories_alone_and_readyz_names_it() {
    if !have("docker-registry") {
        return;
    }
    let (service, mut keeper) = two_keepers();
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.registry.push("demo/hsm/app", "v1", "x"), digest);
    for repository in ["demo/app", "demo/hsm/app"] {
        let signed = service.sign(repository, &digest, "both");
        assert_eq!(signed.code, 0, "{signed:?}");
    }
    let before = keeper.signed().len();
    assert_eq!(before, 5, "root certificate, root, targets, snapshot, timestamp of its one repository");
    keeper.stop();
    let said = not_ready(&service);
    assert!(said.contains("signing keeper hsm") && !said.contains("keeper signing"), "{said}");
    for tag in ["one", "two", "three"] {
        let signed = service.sign("demo/app", &digest, tag);
        assert_eq!(signed.code, 0, "the other keeper's repositories go on: {signed:?}");
    }
    let (blocked, _) = service.sign_within("demo/hsm/app", &digest, "blocked", "2s");
    assert_eq!(blocked.code, 9, "{blocked:?}");
    assert!(blocked.stderr.contains("signing keeper hsm"), "{blocked:?}");
    assert_eq!(keeper.signed().len(), before);
    keeper.start();
    service.wait_until_ready();
    let signed = service.sign("demo/hsm/app", &digest, "blocked");
    assert_eq!(signed.code, 0, "{signed:?}");
    assert_eq!(keeper.signed().len(), before + 3);
    service.verify_log();
}

#[test]
fn a_token_that_is_out_is_told_before_anybody_asks_it_and_no_more_when_it_is_back() {
    if !have("docker-registry") {
        return;
    }
    let (service, keeper) = two_keepers();
    let digest = service.registry.push("demo/hsm/app", "v1", "x");
    let signed = service.sign("demo/hsm/app", &digest, "before");
    assert_eq!(signed.code, 0, "{signed:?}");
    let (logins, before) = (keeper.logins().len(), keeper.signed().len());
    keeper.faults.remove_token().unwrap();
    let said = not_ready(&service);
    assert!(said.contains("signing keeper hsm: its token: ") && said.contains("token-gone"), "{said}");
    let health = service.chancery_as("CHANCERY_AUDITOR_TOKEN", &["token", "health"]);
    assert_eq!(health.code, 9, "{health:?}");
    assert!(health.stdout.contains("hsm  reachable, IN TROUBLE since"), "{health:?}");
    assert!(health.stdout.contains("remedy  look at the hardware"), "{health:?}");
    let keys = service.chancery(&["key", "list", "-o", "json"]);
    assert!(keys.stdout.contains("its token: "), "{keys:?}");
    let (waiting, _) = service.sign_within("demo/hsm/app", &digest, "meanwhile", "2s");
    assert_eq!(waiting.code, 7, "{waiting:?}");
    let told = "\"blocked\":\"signing keeper hsm, which has the targets key: its token: ";
    assert!(waiting.stdout.contains("\"state\":\"signing\"") && waiting.stdout.contains(told), "{waiting:?}");
    assert!(waiting.stderr.contains("which has the targets key: its token: "), "{waiting:?}");
    assert_eq!(keeper.logins().len(), logins, "looking tries no PIN");
    assert_eq!(keeper.signed().len(), before, "and signs nothing");
    keeper.faults.insert_token(Insertion::default()).unwrap();
    service.wait_until_ready();
    let signed = service.sign("demo/hsm/app", &digest, "after");
    assert_eq!(signed.code, 0, "{signed:?}");
    assert!(keeper.exits().is_empty(), "{:?}", keeper.exits());
    service.verify_log();
}

#[test]
fn a_key_that_is_not_asked_any_more_is_told_by_its_name() {
    if !have("docker-registry") {
        return;
    }
    let (service, keeper) = two_keepers();
    let digest = service.registry.push("demo/hsm/app", "v1", "x");
    let signed = service.sign("demo/hsm/app", &digest, "before");
    assert_eq!(signed.code, 0, "{signed:?}");
    keeper.faults.add(Rule::flip_bit("C_Sign", 77).key(TARGETS).times(1)).unwrap();
    let (failed, _) = service.sign_within("demo/hsm/app", &digest, "flipped", "60s");
    assert_eq!(failed.code, 8, "{failed:?}");
    let said = not_ready(&service);
    assert!(said.contains("signing keeper hsm: its key ") && said.contains("token-quarantined"), "{said}");
}

#[test]
fn a_keeper_that_is_asked_to_end_while_it_logs_in_does_that_first() {
    if !have("docker-registry") {
        return;
    }
    let (_service, mut keeper) = two_keepers();
    keeper.stop();
    let before = keeper.logins().len();
    let slow = keeper.faults.add(Rule::delay("C_Login", Duration::from_millis(1_000)).times(1)).unwrap();
    keeper.start();
    keeper.faults.wait_fired(&slow, 1).unwrap();
    keeper.stop();
    assert_eq!(keeper.logins()[before..], [0], "a login that is cut off may leave the token broken");
    assert_eq!(keeper.exits().last(), Some(&0), "{}", keeper.said());
}
