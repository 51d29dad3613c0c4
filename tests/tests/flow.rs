//! The whole way over the real binaries, and what happens when it is cut.

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use record::{Action, Leaf, Purpose, Repository, Tag};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
};
use tests::{DAEMON, End, Instance, LOG_KEEPER, SIGNING_KEEPER, Settings, Told, have, wait_for};

const CKR_PIN_INCORRECT: u64 = 0xa0;

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
    let foreign = token_for(&service, "another/");
    let before = service.signed();
    assert_eq!(before.len(), 5, "certificate, root, targets, snapshot, timestamp");
    let rows = [
        ("nowhere/app", &good, "v1", "builtin/unknown-repository", None),
        ("demo/app", &absent, "v2", "builtin/not-in-registry", None),
        ("demo/app", &other, "v1", "builtin/tag-immutable", None),
        ("demo/app", &good, "v3", "builtin/token-scope", Some(&foreign)),
    ];
    for (repository, digest, tag, rule, token) in rows {
        let refused = match token {
            None => service.sign(repository, digest, tag),
            Some(file) => {
                let image = format!("{}@{digest}", service.repository(repository));
                service.chancery(&["--token-file", file, "sign", &image, "--tag", tag])
            }
        };
        assert_eq!(refused.code, 3, "{refused:?}");
        assert!(refused.stderr.contains(rule), "{rule}: {refused:?}");
    }
    // The published checkpoint changes once a second: all refusals must come to stand under it.
    let rules = wait_for("the refusals in the published log", || {
        let rules: Vec<String> = service
            .history()
            .leaves()
            .iter()
            .filter_map(|leaf| match leaf {
                Leaf::Denial(denial) => Some(denial.reasons.iter().map(|r| r.rule.clone())),
                _ => None,
            })
            .flatten()
            .collect();
        (rules.len() == rows.len()).then_some(rules)
    });
    assert_eq!(rules, rows.map(|(.., rule, _)| rule.to_owned()));
    assert_eq!(service.signed(), before, "a refused request led to a signature");
}

/// A file with a token that may sign in another part of the registry only.
fn token_for(service: &Instance, part: &str) -> String {
    let scope = service.repository(part);
    let args = [
        "token",
        "create",
        "--scope",
        "sign",
        "--repository",
        &scope,
        "--expires",
        "1d",
        "--note",
        "x",
        "-o",
        "json",
    ];
    let made = service.chancery_as("CHANCERY_ADMIN_TOKEN", &args);
    assert_eq!(made.code, 0, "{made:?}");
    let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    let file = service.dir().join("foreign.token");
    std::fs::write(&file, made["bearer"].as_str().unwrap()).unwrap();
    file.display().to_string()
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
    service.verify_log();
    let signed = wait_for("every intent to have its end", || {
        let intents = service.history().intents();
        intents.iter().all(|t| t.end == End::Signed).then_some(intents)
    });
    let mut versions: BTreeMap<(Repository, Purpose), Vec<u64>> = BTreeMap::new();
    let mut tags: BTreeMap<Repository, BTreeSet<Tag>> = BTreeMap::new();
    for Told { intent, .. } in signed {
        if let Some(version) = intent.action.version() {
            versions.entry((intent.repository.clone(), intent.purpose)).or_default().push(version);
        }
        if let Action::Targets { changes, .. } = intent.action {
            tags.entry(intent.repository).or_default().extend(changes.into_iter().map(|c| c.tag));
        }
    }
    assert_eq!(versions.len(), 20 * 4);
    for ((repository, purpose), versions) in versions {
        let expected: Vec<u64> = (1..=versions.len() as u64).collect();
        assert_eq!(versions, expected, "{repository} {purpose}");
    }
    for (repository, digest) in &digests {
        let name: Repository = service.repository(repository).parse().unwrap();
        assert_eq!(tags[&name].len(), 10, "{repository}");
        let served = service.trust_file(repository, "targets.json");
        let hash = BASE64.encode(digest.sha256().as_bytes());
        assert_eq!(served.matches(&hash).count(), 10, "{repository}: {served}");
    }
}

#[test]
fn a_process_killed_in_the_middle_leaves_no_intent_without_an_end() {
    if !have("docker-registry") {
        return;
    }
    let service = Arc::new(Instance::start());
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.sign("demo/app", &digest, "t0").code, 0);
    for (round, process) in [DAEMON, SIGNING_KEEPER, LOG_KEEPER, DAEMON].into_iter().enumerate() {
        let before = service.committed();
        let askers: Vec<_> = (0..4)
            .map(|n| {
                let service = service.clone();
                thread::spawn(move || service.sign("demo/app", &digest, &format!("t{round}-{n}")))
            })
            .collect();
        wait_for("work to be under way", || (service.committed() > before).then_some(()));
        service.kill(process);
        for asker in askers {
            let answer = asker.join().unwrap();
            assert_eq!(answer.code, 0, "round {round}: {answer:?}");
        }
        service.wait_until_ready();
        assert_eq!(service.sign("demo/app", &digest, &format!("t{round}-after")).code, 0);
    }
    service.verify_log();
    let open: Vec<_> = service.history().intents().into_iter().filter(|t| t.end == End::Open).collect();
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_wrong_pin_is_tried_exactly_once_and_the_service_says_which_file_holds_it() {
    if !have("docker-registry") {
        return;
    }
    let mut service = Instance::start();
    assert_eq!(service.stop(), 0);
    let pin = service.dir().join("signing/pin");
    std::fs::write(&pin, "not the pin").unwrap();
    let before = service.logins();
    let said = service.resume_in_vain();
    assert!(said.contains("signing-keeper ended (exit status: 78)") && said.contains("PIN"), "{said}");
    assert!(!said.contains("not the pin"), "{said}");
    let new: Vec<u64> = service.logins().split_off(before.len());
    assert_eq!(new.iter().filter(|rv| **rv == CKR_PIN_INCORRECT).count(), 1, "{new:?}");
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
