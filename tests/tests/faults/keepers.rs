//! One keeper of two does not work: what it blocks, and who is told.

use super::row::TARGETS;
use super::scene::DEADLINE_MS;
use hsm_sim::{Insertion, Rule};
use record::{OutcomeKind, Tag};
use std::time::Duration;
use tests::{End, Instance, Output, OwnKeeper, Part, Parts, Settings, Wanted, have, wait_for};

/// A service with a second keeper, whose repositories begin with `demo/hsm/`.
fn two_keepers() -> (Instance, OwnKeeper) {
    two_keepers_within(DEADLINE_MS)
}

fn two_keepers_within(call_deadline_ms: u64) -> (Instance, OwnKeeper) {
    let mut service = Instance::start();
    let wanted = Wanted { name: "hsm", prefix: "demo/hsm/", call_deadline_ms };
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

#[test]
fn what_a_lost_keeper_has_left_open_is_closed_as_unknown_when_it_is_retired_and_others_go_on() {
    if !have("docker-registry") {
        return;
    }
    // It shall not end by itself and say how.
    let (mut service, mut keeper) = two_keepers_within(60_000);
    let digest = service.registry.push("demo/hsm/app", "v1", "x");
    for path in ["demo/hsm/second", "demo/hsm/later", "demo/app"] {
        assert_eq!(service.registry.push(path, "v1", "x"), digest);
    }
    let first = service.sign("demo/hsm/app", &digest, "first");
    assert_eq!(first.code, 0, "{first:?}");
    let signed = keeper.signed().len();
    keeper.faults.add(Rule::hang("C_Sign").after().key(TARGETS).times(2)).unwrap();
    let (asked, id) = service.sign_within("demo/hsm/app", &digest, "lost", "1s");
    assert!(matches!(asked.code, 7 | 9), "{asked:?}");
    let id = id.unwrap();
    wait_for("its key to sign", || (keeper.signed().len() > signed).then_some(()));
    let (second, _) = service.sign_within("demo/hsm/second", &digest, "second", "1s");
    assert!(matches!(second.code, 7 | 9), "{second:?}");
    let second = Tag::parse("second").unwrap();
    wait_for("its intent", || (!service.history().intents_for(&second).is_empty()).then_some(()));
    // The machine is gone, and with it the only word on how these ended.
    keeper.stop();
    assert_eq!(service.stop(), 0);

    let parts = Parts::of(&service);
    let mut log_keeper = parts.start(Part::LogKeeper);
    let retire = |name: &str| Output::of(&mut parts.command(Part::Daemon, &["keeper-retire", name]));
    let early = retire("hsm");
    assert!(early.code == 78 && early.stderr.contains("the configuration still has it"), "{early:?}");
    let config = parts.config(Part::Daemon);
    let text = std::fs::read_to_string(&config).unwrap();
    let (others, _) = text.split_once("\n[[keeper]]\nname = \"hsm\"").unwrap();
    std::fs::write(&config, others).unwrap();
    let wrong = retire("hms");
    assert!(wrong.code == 78 && wrong.stderr.contains("hsm, signing"), "{wrong:?}");
    for closed in ["closed=2", "closed=0"] {
        let retired = retire("hsm");
        assert!(retired.code == 0 && retired.stderr.contains(closed), "{closed}: {retired:?}");
    }
    assert_eq!(log_keeper.stop(), 0);

    service.resume(&Settings::default());
    service.wait_until_ready();
    for tag in [Tag::parse("lost").unwrap(), second] {
        let ends = service.history().intents_for(&tag);
        let [lost] = &ends[..] else { panic!("{tag}: {ends:?}") };
        assert_eq!(lost.end, End::Without(OutcomeKind::Unknown));
        assert_eq!(lost.code.as_ref().map(|code| code.as_str()), Some("keeper-retired"));
    }
    for path in ["demo/app", "demo/hsm/later"] {
        let signed = service.sign(path, &digest, "others");
        assert_eq!(signed.code, 0, "{path}: {signed:?}");
    }
    let health = service.chancery_as("CHANCERY_AUDITOR_TOKEN", &["token", "health"]);
    assert_eq!(health.code, 0, "{health:?}");
    wait_for("the request to say what it lacks", || {
        let (_, told) = service.http("CHANCERY_AUDITOR_TOKEN", &format!("/v1/requests/{id}"), &[]);
        told.contains("no signing keeper presents the key").then_some(())
    });
    service.verify_log();
}
