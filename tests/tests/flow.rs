//! The whole way over the real binaries, and what happens when it is cut.

use std::{collections::BTreeMap, sync::Arc, thread};
use tests::{Instance, Settings, have, wait_for};

#[test]
fn a_signed_tag_is_what_the_real_client_sees() {
    if !have("docker-registry") || !have("notary") {
        return;
    }
    let service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "hello");
    let signed = service.sign("demo/app", &digest, "v1");
    assert_eq!(signed.code, 0, "{signed:?}");
    let state = tempfile::tempdir().unwrap();
    let seen = service.notary(state.path(), &["lookup", &service.repository("demo/app"), "v1"]);
    assert!(seen.stdout.contains(&digest.sha256().to_string()), "{seen:?}");
    service.verify_log();
}

#[test]
fn a_refused_request_names_every_reason_stands_in_the_log_and_leads_to_no_signature() {
    if !have("docker-registry") {
        return;
    }
    let service = Instance::start();
    let good = service.registry.push("demo/app", "v1", "good");
    let other = service.registry.push("demo/app", "v9", "other");
    service.registry.push("other/app", "v1", "good");
    assert_eq!(service.sign("demo/app", &good, "v1").code, 0);
    let absent = record::Digest::of(b"nowhere");
    let before = 5; // certificate, root, targets, snapshot, timestamp
    for (repository, digest, tag, rule) in [
        ("nowhere/app", &good, "v1", "builtin/unknown-repository"),
        ("demo/app", &absent, "v2", "builtin/not-in-registry"),
        ("demo/app", &other, "v1", "builtin/tag-immutable"),
    ] {
        let refused = service.sign(repository, digest, tag);
        assert_eq!(refused.code, 3, "{refused:?}");
        assert!(refused.stderr.contains(rule), "{rule}: {refused:?}");
    }
    // The published checkpoint changes once a second: all three refusals must come to stand under it.
    let log = wait_for("three refusals in the published log", || {
        let log = service.chancery_as("CHANCERY_AUDITOR_TOKEN", &["log", "show", "-o", "json"]).stdout;
        (log.matches("\"kind\":\"denied\",\"verified\"").count() == 3).then_some(log)
    });
    let after = log.matches("\"kind\":\"hashedrekord\",\"verified\"").count();
    assert_eq!(after, before, "a refused request led to a signature");
}

#[test]
fn two_hundred_requests_at_once_lose_no_tag_and_raise_versions_by_one() {
    if !have("docker-registry") {
        return;
    }
    let service = Arc::new(Instance::start());
    let digests: BTreeMap<String, _> = (0..20)
        .map(|r| (format!("demo/app{r}"), service.registry.push(&format!("demo/app{r}"), "x", "same")))
        .collect();
    let asks: Vec<(String, record::Digest, String)> = digests
        .iter()
        .flat_map(|(repository, digest)| (0..10).map(move |t| (repository.clone(), *digest, format!("t{t}"))))
        .collect();
    let workers: Vec<_> = asks
        .into_iter()
        .map(|(repository, digest, tag)| {
            let service = service.clone();
            thread::spawn(move || service.sign(&repository, &digest, &tag))
        })
        .collect();
    for worker in workers {
        let signed = worker.join().unwrap();
        assert_eq!(signed.code, 0, "{signed:?}");
    }
    let report = service.verify_log();
    assert!(report.stdout.contains("entries"), "{report:?}");
    if have("notary") {
        let state = tempfile::tempdir().unwrap();
        for repository in digests.keys() {
            let seen = service.notary(state.path(), &["list", &service.repository(repository)]);
            assert_eq!(seen.stdout.matches("targets").count(), 10, "{repository}: {seen:?}");
        }
    }
}

#[test]
fn a_daemon_killed_in_the_middle_leaves_no_intent_without_an_outcome() {
    if !have("docker-registry") {
        return;
    }
    let service = Arc::new(Instance::start());
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.sign("demo/app", &digest, "t0").code, 0);
    for round in 1..4 {
        let askers: Vec<_> = (0..4)
            .map(|n| {
                let service = service.clone();
                thread::spawn(move || service.sign("demo/app", &digest, &format!("t{round}-{n}")))
            })
            .collect();
        service.kill(if round == 2 { &["chancery-keeper", "signing"] } else { &["chanceryd", "serve"] });
        askers.into_iter().for_each(|a| drop(a.join()));
        wait_for("the service to be ready again", || (service.chancery(&["doctor"]).code == 0).then_some(()));
        assert_eq!(service.sign("demo/app", &digest, &format!("t{round}-after")).code, 0);
    }
    service.verify_log();
}

#[test]
fn the_same_directory_goes_on_where_it_was_and_a_second_owner_is_refused() {
    if !have("docker-registry") {
        return;
    }
    let mut service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    let dir = service.dir().display().to_string();
    let second = service.chancery(&["dev", "--dir", &dir, "--listen", "localhost:1"]);
    assert_eq!(second.code, 6, "{second:?}");
    let config = service.dir().join("chanceryd.toml").display().to_string();
    let daemon = service.chancery(&["serve", "--config", &config]);
    assert_eq!(daemon.code, 75, "{daemon:?}");
    assert_eq!(service.stop(), 0);
    service.resume(&Settings::default());
    let again = service.sign("demo/app", &digest, "v2");
    assert_eq!(again.code, 0, "{again:?}");
    service.verify_log();
}
