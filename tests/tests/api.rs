//! The HTTP API as callers meet it: one request a key, scopes, limits, and what happens to requests that wait.

use hsm_sim::Rule;
use record::{Action, Event, Leaf};
use std::{
    collections::BTreeSet, fs, io::Read, net::TcpStream, process::Command, sync::Arc, thread, time::Duration,
};
use tests::{
    DAEMON, End, Instance, LOG_KEEPER, Output, SIGNING_KEEPER, SNAPSHOT_KEY, Settings, TARGETS_KEY, have,
    wait_for,
};

/// None where no registry is installed.
fn service() -> Option<Instance> {
    have("docker-registry").then(Instance::start)
}

#[test]
fn one_idempotency_key_is_one_request_however_often_and_at_once_it_is_sent() {
    let Some(service) = service() else { return };
    let service = Arc::new(service);
    let digest = service.registry.push("demo/app", "v1", "x");
    let askers: Vec<_> = (0..12)
        .map(|_| {
            let service = service.clone();
            thread::spawn(move || service.post("CHANCERY_TOKEN", "build-17", "demo/app", &digest, "v1"))
        })
        .collect();
    let answers: Vec<_> = askers.into_iter().map(|a| a.join().unwrap()).collect();
    assert!(answers.iter().all(|(status, _)| [201, 202].contains(status)), "{answers:?}");
    let ids: BTreeSet<&str> = answers.iter().map(|(_, request)| request["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let id = ids.into_iter().next().unwrap();
    wait_for("the request to be published", || (service.state(id) == "published").then_some(()));
    let (status, other) = service.post("CHANCERY_TOKEN", "build-17", "demo/app", &digest, "v2");
    assert_eq!((status, other["code"].as_str().unwrap()), (422, "idempotency-mismatch"));
    let history = wait_for("the log to tell of the end", || {
        let history = service.history();
        history.intents().iter().all(|t| t.end == End::Signed).then_some(history)
    });
    let targets = history.intents().into_iter().filter(|t| matches!(t.intent.action, Action::Targets { .. }));
    assert_eq!(targets.count(), 1);
}

#[test]
fn a_token_does_what_its_scope_says_and_nothing_else() {
    let Some(service) = service() else { return };
    let digest = service.registry.push("demo/app", "v1", "x");
    let (status, denied) = service.post("CHANCERY_AUDITOR_TOKEN", "a", "demo/app", &digest, "v1");
    assert_eq!((status, denied["code"].as_str().unwrap()), (403, "denied"), "{denied}");
    let status = |token: &str, path: &str, args: &[&str]| service.http(token, path, args).0;
    for token in ["CHANCERY_TOKEN", "CHANCERY_AUDITOR_TOKEN"] {
        assert_eq!(status(token, "/v1/tokens", &[]), 403, "{token}");
    }
    assert_eq!(status("CHANCERY_ADMIN_TOKEN", "/v1/tokens", &[]), 200);
    wait_for("a published log", || (status("", "/v1/log/checkpoint", &[]) == 200).then_some(()));
    let size: u64 = service.http("", "/v1/log/checkpoint", &[]).1.lines().nth(1).unwrap().parse().unwrap();
    let entries = format!("/v1/log/tile/entries/000.p/{size}");
    assert_eq!(status("", &format!("/v1/log/tile/0/000.p/{size}"), &[]), 200, "hash tiles are public");
    assert_eq!(status("", &entries, &[]), 401);
    assert_eq!(status("CHANCERY_TOKEN", &entries, &[]), 403);
    assert_eq!(status("CHANCERY_AUDITOR_TOKEN", &entries, &[]), 200);
    for (token, expected) in
        [("", 401), ("CHANCERY_TOKEN", 403), ("CHANCERY_AUDITOR_TOKEN", 200), ("CHANCERY_ADMIN_TOKEN", 200)]
    {
        assert_eq!(status(token, "/v1/keepers", &[]), expected, "{token}");
    }
    assert_eq!(status("", "/v1/keys", &[]), 401);
    assert_eq!(status("", "/v1/keys", &["-H", "Authorization: Bearer chy_nobody_nothing"]), 401);
    assert!(service.signed().is_empty());
}

#[test]
fn a_request_of_one_caller_is_not_shown_to_another() {
    let Some(service) = service() else { return };
    let digest = service.registry.push("demo/app", "v1", "x");
    let (_, made) = service.post("CHANCERY_TOKEN", "k", "demo/app", &digest, "v1");
    let path = format!("/v1/requests/{}", made["id"].as_str().unwrap());
    assert_eq!(service.http("CHANCERY_TOKEN", &path, &[]).0, 200);
    assert_eq!(service.http("CHANCERY_AUDITOR_TOKEN", &path, &[]).0, 200);
    assert_eq!(service.http("CHANCERY_ADMIN_TOKEN", &path, &[]).0, 404);
}

#[test]
fn what_is_no_request_is_refused_with_words_that_help() {
    let Some(service) = service() else { return };
    let kind = ["-H", "Content-Type: application/json", "-H", "Idempotency-Key: k"];
    let post = |headers: &[&str], body: &str| {
        service.http("CHANCERY_TOKEN", "/v1/requests", &[headers, &["-d", body]].concat())
    };
    let long = format!("{{\"image\":\"{}\"}}", "x".repeat(70_000));
    let rows: [(&[&str], &str, u16); 7] = [
        (&kind, "{\"image\":\"x", 400),
        (&kind, "{\"image\":\"a\",\"tag\":\"b\",\"x\":1}", 400),
        (&kind, "{\"image\":\"r.example/a@sha256:x\",\"tag\":\"b\"}", 400),
        (&kind, &long, 413),
        (&kind[..2], "{}", 400),
        (&["-H", "Content-Type: text/plain"], "{}", 415),
        (&[&kind[..], &["-H", "Content-Encoding: gzip"]].concat(), "{}", 415),
    ];
    for (headers, body, expected) in rows {
        let (status, answer) = post(headers, body);
        assert_eq!(status, expected, "{answer}");
        let problem: serde_json::Value =
            serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}"));
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{answer}");
    }
    let header = format!("x: {}", "y".repeat(20_000));
    assert_eq!(service.http("", "/healthz", &["-H", &header]).0, 431);
    assert_eq!(service.http("", "/nowhere", &[]).0, 404);
    assert_eq!(service.http("", "/healthz", &["-X", "DELETE"]).0, 405);
}

#[test]
fn tls_below_1_3_is_refused() {
    let Some(service) = service() else { return };
    assert_eq!(service.http("", "/healthz", &["--tlsv1.3"]).0, 200);
    assert_eq!(service.http("", "/healthz", &["--tls-max", "1.2"]).0, 0);
}

#[test]
fn a_client_that_says_nothing_is_cut_off() {
    let Some(service) = service() else { return };
    let mut silent = TcpStream::connect(("127.0.0.1", service.port())).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0, "the handshake has a deadline");
}

#[test]
fn no_secret_reaches_a_log_an_argument_list_or_the_database() {
    let Some(service) = service() else { return };
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    assert_eq!(service.sign("nowhere/app", &digest, "v1").code, 3);
    assert_eq!(service.http("", "/v1/keys", &["-H", "Authorization: Bearer chy_0123456789ab_wrong"]).0, 401);
    let mut secrets = vec!["chy_0123456789ab_wrong".to_owned()];
    let env = service.env();
    secrets.extend(
        ["CHANCERY_TOKEN", "CHANCERY_AUDITOR_TOKEN", "CHANCERY_ADMIN_TOKEN"]
            .map(|t| env[t].rsplit('_').next().unwrap().to_owned()),
    );
    for pin in ["log/pin", "log/so-pin", "signing/pin", "signing/so-pin"] {
        secrets.push(fs::read_to_string(service.dir().join(pin)).unwrap());
    }
    let mut places: Vec<_> =
        ["logs", "data", "log/state", "signing/state"].map(|f| service.dir().join(f)).into();
    let processes = [DAEMON, LOG_KEEPER, SIGNING_KEEPER].map(|p| service.pid(p));
    places.extend(processes.iter().map(|pid| format!("/proc/{pid}/cmdline").into()));
    let mut searched = 0;
    while let Some(place) = places.pop() {
        if place.is_dir() {
            places.extend(fs::read_dir(&place).unwrap().map(|e| e.unwrap().path()));
            continue;
        }
        let bytes = fs::read(&place).unwrap();
        searched += usize::from(!bytes.is_empty());
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
            assert!(!found, "a secret stands in {}", place.display());
        }
    }
    assert!(searched >= 9, "only {searched} files were searched");
}

#[test]
fn requests_that_wait_over_a_restart_are_decided_anew_by_what_holds_then() {
    let Some(service) = service() else { return };
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.sign("demo/app", &digest, "first").code, 0);
    service.freeze(SIGNING_KEEPER);
    let before = service.signed().len();
    // The first stands in an intent that the keeper does not take; the second waits behind it.
    let (_, asked) = service.post("CHANCERY_TOKEN", "k1", "demo/app", &digest, "taken");
    wait_for("its intent", || (service.state(asked["id"].as_str().unwrap()) == "signing").then_some(()));
    let (_, waits) = service.post("CHANCERY_TOKEN", "k2", "demo/app", &digest, "waits");
    let id = waits["id"].as_str().unwrap();
    assert_eq!(service.state(id), "ready");
    let token = service.env()["CHANCERY_TOKEN"].split('_').nth(1).unwrap().to_owned();
    assert_eq!(service.chancery_as("CHANCERY_ADMIN_TOKEN", &["token", "revoke", &token]).code, 0);
    service.kill_all(&[DAEMON, SIGNING_KEEPER]);
    service.wait_until_ready();
    wait_for("the waiting request to be refused", || (service.state(id) == "denied").then_some(()));
    wait_for("the first one to be refused, too", || {
        (service.state(asked["id"].as_str().unwrap()) == "denied").then_some(())
    });
    assert_eq!(service.signed().len(), before, "a revoked token got a signature");
    service.verify_log();
}

#[test]
fn more_requests_than_one_version_takes_become_the_next_ones_and_none_is_lost() {
    let Some(service) = service() else { return };
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.sign("demo/app", &digest, "first").code, 0);
    // The first one's signature takes its time; all others come to wait behind it.
    let hang = service.faults.add(Rule::hang("C_Sign").key(TARGETS_KEY)).unwrap();
    service.post("CHANCERY_TOKEN", "k", "demo/app", &digest, "t999");
    service.faults.wait_fired(&hang, 1).unwrap();
    let tags: Vec<String> = (0..249).map(|n| format!("t{n:03}")).collect();
    let ids = service.ask_at_once("demo/app", &digest, &tags);
    service.faults.clear().unwrap();
    for id in &ids {
        wait_for("a request to be published", || (service.state(id) == "published").then_some(()));
    }
    let served = service.trust_file("demo/app", "targets.json");
    assert_eq!(served.matches("\"t").count() - served.matches("\"targets").count(), 250, "{served}");
    let history = wait_for("the log to tell of it", || {
        let history = service.history();
        history.intents().iter().all(|t| t.end != End::Open).then_some(history)
    });
    let sizes: Vec<usize> = history
        .intents()
        .into_iter()
        .filter(|t| t.end == End::Signed)
        .filter_map(|t| match t.intent.action {
            Action::Targets { changes, .. } => Some(changes.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 251, "{sizes:?}");
    assert!(sizes.iter().all(|n| *n <= 200) && sizes.len() <= 5, "{sizes:?}");
}

#[test]
fn changes_are_signed_although_the_file_above_them_fails_and_published_when_that_is_over() {
    let Some(service) = service() else { return };
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.sign("demo/app", &digest, "first").code, 0);
    service.faults.add(Rule::answer("C_SignInit", "CKR_ARGUMENTS_BAD").key(SNAPSHOT_KEY)).unwrap();
    for tag in ["one", "two", "three"] {
        let (status, asked) = service.post("CHANCERY_TOKEN", tag, "demo/app", &digest, tag);
        assert_eq!(status, 202, "{asked}");
        let id = asked["id"].as_str().unwrap();
        wait_for("the change to be signed", || (service.state(id) == "recorded").then_some(()));
    }
    assert!(!service.trust_file("demo/app", "targets.json").contains("\"one\""), "clients see it later");
    service.faults.clear().unwrap();
    for tag in ["one", "two", "three"] {
        assert_eq!(service.sign("demo/app", &digest, tag).code, 0);
    }
    service.verify_log();
}

#[test]
fn files_are_renewed_at_half_of_their_life_and_never_served_expired() {
    let Some(mut service) = service() else { return };
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.stop(), 0);
    let policy = service.dir().join("policy/repositories.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let short = format!(
        "{text}\n[[repository]]\nname = \"{}\"\ncreate_on_first_sign = true\nvalidity = {{ timestamp = \"10s\" }}\n",
        service.repository("demo/app")
    );
    fs::write(&policy, short).unwrap();
    service.resume(&Settings::default());
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    let version = || {
        let file: serde_json::Value =
            serde_json::from_str(&service.trust_file("demo/app", "timestamp.json")).unwrap();
        let expires = file["signed"]["expires"].as_str().unwrap().to_owned();
        let now = Output::of(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])).stdout;
        assert!(expires.as_str() >= now.trim(), "served at {now} although it expired at {expires}");
        file["signed"]["version"].as_u64().unwrap()
    };
    wait_for("two renewals", || (version() >= 3).then_some(()));
    let history = service.history();
    let mut last: Option<(record::Time, record::Time)> = None;
    for told in history.intents() {
        if let Action::Timestamp { expires, .. } = told.intent.action {
            if let Some((made, ends)) = last {
                let half = made.plus_ms((ends.unix_ms() - made.unix_ms()) / 2);
                assert!(told.intent.time >= half && told.intent.time < ends, "{:?}", told.intent);
            }
            last = Some((told.intent.time, expires));
        }
    }
    assert!(history.leaves().iter().all(|leaf| !matches!(leaf, Leaf::Outcome(_))));
}

#[test]
fn a_request_that_its_keeper_refuses_ends_and_says_the_keepers_reason() {
    let Some(mut service) = service() else { return };
    let digest = service.registry.push("demo/app", "v1", "x");
    assert_eq!(service.sign("demo/app", &digest, "v1").code, 0);
    assert_eq!(service.stop(), 0);
    // The operator of the keeper grants less than policy asks for.
    let charter = service.dir().join("signing/charter.toml");
    let text = fs::read_to_string(&charter).unwrap();
    assert!(text.contains("max_validity_days = 1100"), "{text}");
    fs::write(&charter, text.replace("max_validity_days = 1100", "max_validity_days = 1")).unwrap();
    service.resume(&Settings::default());
    let before = service.signed().len();
    let refused = service.sign("demo/app", &digest, "v2");
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("validity"), "{refused:?}");
    assert_eq!(service.signed().len(), before);
    service.verify_log();
}

#[test]
fn who_is_refused_again_and_again_does_not_fill_the_log_and_nothing_of_it_is_forgotten() {
    let Some(mut service) = service() else { return };
    let digest = service.registry.push("demo/app", "v1", "x");
    for number in 0..30 {
        let (status, said) =
            service.post("CHANCERY_TOKEN", &format!("k{number}"), "elsewhere/app", &digest, "v1");
        assert_eq!((status, &said["code"]), (403, &"denied".into()), "{said}");
        assert!(!said["reasons"].as_array().unwrap().is_empty(), "counted or not: {said}");
        assert_eq!(said.get("entry").is_some(), number < 20, "{number}: {said}");
    }
    for _ in 0..5 {
        assert_eq!(service.http("", "/v1/keys", &[]).0, 401);
    }
    let signed = service.sign("demo/app", &digest, "v1");
    assert_eq!(signed.code, 0, "what is allowed is not counted: {signed:?}");
    assert_eq!(service.stop(), 0);
    service.resume(&Settings::default());
    let history = service.history();
    let events = |leaf: &Leaf| match leaf {
        Leaf::Denial(_) => Some("denied".to_owned()),
        Leaf::Event(Event::RefusalsLimited { by, .. }) => Some(format!("limited {}", by.as_str())),
        Leaf::Event(Event::RefusalsCounted { by, count, .. }) => {
            Some(format!("counted {count} of {}", by.as_ref().map_or("nobody", |by| by.as_str())))
        }
        _ => None,
    };
    let told: Vec<String> = history.leaves().iter().filter_map(events).collect();
    let caller = format!("token:{}", service.env()["CHANCERY_TOKEN"].split('_').nth(1).unwrap());
    let mut expected = vec!["denied".to_owned(); 20];
    expected.push(format!("limited {caller}"));
    expected.extend(["counted 5 of nobody".to_owned(), format!("counted 10 of {caller}")]);
    assert_eq!(told, expected);
    service.verify_log();
}
