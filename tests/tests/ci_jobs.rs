//! CI jobs at the real daemon: tokens of a local issuer are exchanged once, those whom policy knows sign, attacks by tokens
//! reach no key, and sessions outlive the daemon but not their issuer.

use oidc_sim::{Answer, By, Case, DISCOVERY, KEYS, Row};
use record::{Action, Event, Leaf};
use serde_json::Value;
use std::{collections::BTreeSet, fs};
use tests::{AUDIENCE, DAEMON, Instance, Jobs, Output, Settings, copy, have, wait_for};

fn service() -> Option<(Instance, Jobs)> {
    have("docker-registry").then(|| {
        let mut service = Instance::start();
        let jobs = Jobs::of(&mut service);
        (service, jobs)
    })
}

fn rules(problem: &Value) -> Vec<&str> {
    let reasons = problem["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    reasons.iter().filter_map(|reason| reason["rule"].as_str()).collect()
}

fn exchanged(service: &Instance, token: &str) -> String {
    let (status, session) = service.exchange(token);
    assert_eq!(status, 201, "{session}");
    session["bearer"].as_str().unwrap().to_owned()
}

#[test]
fn every_attack_by_a_token_is_answered_as_its_row_says_and_no_key_is_used() {
    let Some((service, jobs)) = service() else { return };
    let digest = service.registry.push("demo/app", "v1", "x");
    let files = fs::read_dir("attacks").unwrap().map(|entry| entry.unwrap().path());
    let rows: Vec<Row> = files.map(|path| Row::read(&path)).collect();
    let read: BTreeSet<&str> = rows.iter().map(|row| row.row.as_str()).collect();
    assert!(["C2", "C4", "C5", "C7"].iter().all(|row| read.contains(row)), "{read:?}");
    // The background has fetched the keys once, and nothing in a token makes anybody ask again.
    wait_for("the issuer's keys", || (jobs.server.asked(KEYS) == 1).then_some(()));
    let mut unauthenticated = 0;
    for (row, case) in rows.iter().flat_map(|row| row.case.iter().map(move |case| (row, case))) {
        let name = format!("{} {}", row.row, case.name);
        let (status, answer) = service.exchange(&jobs.token(case));
        let expected = (case.status.unwrap(), case.code.as_deref().unwrap());
        if let Some(refused) = &case.refused {
            assert_eq!((status, answer["code"].as_str().unwrap()), expected, "{name}: {answer}");
            assert_eq!(rules(&answer), [format!("token/{refused}")], "{name}");
            unauthenticated += 1;
        } else {
            assert_eq!(status, 201, "{name}: {answer}");
            let principal = answer["principal"].as_str().unwrap();
            assert_eq!(principal, case.principal.as_deref().unwrap(), "{name}");
            let bearer = answer["bearer"].as_str().unwrap();
            let (status, denied) =
                service.ask(bearer, &case.name.len().to_string(), "demo/app", &digest, "v1");
            assert_eq!((status, denied["code"].as_str().unwrap()), expected, "{name}: {denied}");
            let entry = usize::try_from(denied["entry"].as_u64().unwrap()).unwrap();
            match &service.history().leaves()[entry] {
                Leaf::Denial(denial) => assert_eq!(denial.by.as_str(), principal, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    assert_eq!((jobs.server.asked(DISCOVERY), jobs.server.asked(KEYS)), (1, 1));
    assert!(unauthenticated > 30, "{unauthenticated}");
    assert!(service.signed().is_empty());
    assert_counted(service, unauthenticated);
}

/// The log tells how many tokens were refused, when the daemon has ended.
fn assert_counted(mut service: Instance, expected: u64) {
    assert_eq!(service.stop(), 0);
    service.resume(&Settings::default());
    let counted = service.history().leaves().iter().find_map(|leaf| match leaf {
        Leaf::Event(Event::RefusalsCounted { by: None, count, .. }) => Some(*count),
        _ => None,
    });
    assert_eq!(counted, Some(expected));
    service.verify_log();
}

#[test]
fn a_token_is_exchanged_once_also_after_a_crash_and_a_session_outlives_the_daemon_and_not_its_issuer() {
    let Some((mut service, mut jobs)) = service() else { return };
    let token = jobs.token(&Case::default());
    let session = exchanged(&service, &token);
    let replayed = |service: &Instance| {
        let (status, answer) = service.exchange(&token);
        assert_eq!((status, answer["code"].as_str().unwrap()), (401, "token-replayed"), "{answer}");
    };
    replayed(&service);
    let unused = jobs.token(&Case::default());
    jobs.server.stop();
    service.kill_all(&[DAEMON]);
    service.wait_until_ready();
    replayed(&service);
    assert_eq!(service.call(&session, "/v1/keys", &[]).0, 200, "the session is still good");
    exchanged(&service, &unused); // by the keys that were kept: the issuer is away
    for (bearer, path, expected) in [
        (session.as_str(), "/v1/tokens", 403),
        (&session, "/v1/keepers", 403),
        (&format!("{session}0"), "/v1/keys", 401),
        ("chy_session_", "/v1/keys", 401),
        (&token, "/v1/keys", 401),
    ] {
        assert_eq!(service.call(bearer, path, &[]).0, expected, "{bearer} {path}");
    }
    let database = fs::read(service.dir().join("data/chancery.db")).unwrap();
    let journal = fs::read(service.dir().join("data/chancery.db-wal")).unwrap();
    let secret = session.rsplit('_').next().unwrap().as_bytes();
    assert!(!holds(&database, secret) && !holds(&journal, secret), "only its hash is stored");

    assert_eq!(service.stop(), 0);
    let path = service.dir().join("chanceryd.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace(&jobs.configuration(), "")).unwrap();
    service.resume(&Settings::default());
    assert_eq!(service.call(&session, "/v1/keys", &[]).0, 401, "its issuer was taken out");
    let (status, answer) = service.exchange(&jobs.token(&Case::default()));
    assert_eq!((status, answer["code"].as_str().unwrap()), (401, "unknown-issuer"), "{answer}");
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[test]
fn a_storm_of_tokens_with_unknown_keys_asks_the_issuer_once() {
    let Some((service, jobs)) = service() else { return };
    wait_for("the issuer's keys", || (jobs.server.asked(KEYS) == 1).then_some(()));
    let stranger = Case { by: By::Stranger, ..Case::default() };
    for _ in 0..50 {
        let (status, answer) = service.exchange(&jobs.token(&stranger));
        assert_eq!((status, rules(&answer)), (401, vec!["token/unknown-kid"]), "{answer}");
    }
    assert_eq!((jobs.server.asked(DISCOVERY), jobs.server.asked(KEYS)), (1, 1));
    exchanged(&service, &jobs.token(&Case::default()));
}

#[test]
fn after_a_database_was_rolled_back_only_tokens_that_were_issued_later_are_exchanged() {
    let Some((mut service, jobs)) = service() else { return };
    assert_eq!(service.stop(), 0);
    let data = service.dir().join("data");
    let aside = tempfile::tempdir().unwrap();
    copy(&data, aside.path());
    service.resume(&Settings::default());
    let used = jobs.token(&Case::default());
    exchanged(&service, &used);
    assert_eq!(service.stop(), 0);
    fs::remove_dir_all(&data).unwrap();
    copy(aside.path(), &data);
    service.resume(&Settings::default());
    let told = |leaf: &&Leaf| matches!(leaf, Leaf::Event(Event::StoreRolledBack { .. }));
    assert_eq!(service.history().leaves().iter().filter(told).count(), 1);
    let (status, answer) = service.exchange(&used);
    assert_eq!((status, rules(&answer)), (401, vec!["token/before-restore"]), "{answer}");
    // The issuer tells seconds, the log milliseconds.
    wait_for("a token that was issued later", || {
        (service.exchange(&jobs.token(&Case::default())).0 == 201).then_some(())
    });
}

#[test]
fn who_asks_gets_a_bearer_that_reads_this_one_request_and_does_nothing_else() {
    if !have("docker-registry") {
        return;
    }
    let service = Instance::start();
    let digest = service.registry.push("demo/app", "v1", "x");
    let (_, first) = service.post("CHANCERY_TOKEN", "first", "demo/app", &digest, "v1");
    let (_, second) = service.post("CHANCERY_TOKEN", "second", "demo/app", &digest, "v2");
    let path = |request: &Value| format!("/v1/requests/{}", request["id"].as_str().unwrap());
    let poll = first["poll"].as_str().unwrap_or_else(|| panic!("{first}"));
    let (status, read) = service.call(poll, &format!("{}?wait=30", path(&first)), &[]);
    assert_eq!((status, &read["state"], &read["poll"]), (200, &"published".into(), &Value::Null), "{read}");
    assert_eq!(service.call(poll, &path(&second), &[]).0, 404);
    assert_eq!(service.call(poll, "/v1/keys", &[]).0, 401);
    assert_eq!(service.ask(poll, "third", "demo/app", &digest, "v3").0, 401);
    let (_, again) = service.post("CHANCERY_TOKEN", "first", "demo/app", &digest, "v1");
    assert_eq!((&again["id"], &again["poll"]), (&first["id"], &Value::Null), "only the first answer has it");
    service.kill_all(&[DAEMON]);
    service.wait_until_ready();
    assert_eq!(service.call(poll, &path(&first), &[]).0, 200);
}

#[test]
fn a_job_signs_with_its_own_token_by_the_command_line_also_after_its_repository_was_renamed() {
    let Some((service, jobs)) = service() else { return };
    let digest = service.registry.push("demo/app", "v1", "x");
    let image = format!("{}@{digest}", service.repository("demo/app"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let sign = |tag: &str, more: &[&str], env: &[(&str, &str)]| {
        let args = [&["sign", &image, "--tag", tag, "--wait=60s", "-o", "json"], more].concat();
        let mut command = service.command_as("NO_API_TOKEN", &args);
        command.env_remove("CHANCERY_TOKEN").envs(env.iter().copied());
        Output::of(&mut command)
    };

    let nothing = sign("v0", &[], &[]);
    assert_eq!(nothing.code, 4, "{nothing:?}");
    let text = jobs.token(&Case::default());
    fs::write(&file, format!("{text}\n")).unwrap();
    let option = ["--oidc-token-file", file.to_str().unwrap()];
    let by_file = sign("v1", &option, &[]);
    let again = sign("v1", &option, &[]);
    assert_eq!(again.code, 4, "{again:?}");
    assert!(again.stderr.contains("used before"), "{again:?}");
    let renamed =
        Case { claims: Some(r#"{"repository": "acme/api-2", "sub": "x"}"#.into()), ..Case::default() };
    let variable = jobs.token(&renamed);
    let by_variable = sign("v2", &[], &[("CHANCERY_OIDC_TOKEN", &variable)]);
    // The runner makes a token for the audience that it is asked for.
    let made = serde_json::json!({"count": 1, "value": jobs.token(&Case::default())});
    let asked = format!("/token?v=1&audience={}", AUDIENCE.replace(':', "%3A").replace('/', "%2F"));
    jobs.server.answer(&asked, Answer::Json(made));
    let url = format!("{}/token?v=1", jobs.server.url());
    let runner =
        [("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runner")];
    let by_runner = sign("v3", &["--oidc-audience", AUDIENCE], &runner);
    assert_eq!(jobs.server.asked(&asked), 1);
    let none = sign("v4", &["--oidc-audience", "https://other.example"], &runner);
    assert_eq!(none.code, 4, "{none:?}");
    assert!(none.stderr.contains("id-token: write"), "{none:?}");
    let fork = Case { claims: Some(r#"{"event_name": "pull_request"}"#.into()), ..Case::default() };
    let denied = sign("v5", &[], &[("CHANCERY_OIDC_TOKEN", &jobs.token(&fork))]);
    assert_eq!(denied.code, 3, "{denied:?}");

    for signed in [&by_file, &by_variable, &by_runner] {
        assert_eq!(signed.code, 0, "{signed:?}");
        assert!(signed.stdout.contains(r#""by":"ci:forge/74""#), "{signed:?}");
    }
    for said in [&nothing, &by_file, &again, &by_variable, &by_runner, &none, &denied] {
        let said = format!("{}{}", said.stdout, said.stderr);
        for secret in [&text, &variable, "chy_session_", "chy_poll_"] {
            assert!(!said.contains(secret), "{said}");
        }
    }
    let tags: BTreeSet<String> = (service.history().intents().iter())
        .filter_map(|told| match &told.intent.action {
            Action::Targets { changes, .. } => Some(changes.clone()),
            _ => None,
        })
        .flatten()
        .inspect(|change| assert_eq!(change.requested.by.as_str(), "ci:forge/74"))
        .map(|change| change.tag.to_string())
        .collect();
    assert_eq!(tags, ["v1", "v2", "v3"].map(str::to_owned).into());
    service.verify_log();
}
