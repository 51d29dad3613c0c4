//! A service with keys on a YubiKey: a person's touch is asked for by name, and without one nothing is signed.

use hsm_sim_yubikey::{TouchMode, TouchState};
use record::{Event, KeeperName, Leaf, OutcomeKind, Purpose, Sha256, Spki};
use serde_json::Value;
use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use tests::{
    CardHost, End, Instance, Output, PATIENCE, Place, YubiKeyKeeper, binary, commands, have, wait_for,
};

const ROOT: [Place; 1] = [Place { purpose: Purpose::Root, slot: 0x9c, touch: true }];

/// Payloads that the log announces for these purposes.
fn announced(service: &Instance, purposes: &[Purpose]) -> Vec<Sha256> {
    let intents = service.history();
    let of = |leaf: &Leaf| match leaf {
        Leaf::Intent(intent) if purposes.contains(&intent.purpose) => Some(intent.payload),
        _ => None,
    };
    intents.leaves().iter().filter_map(of).collect()
}

#[test]
fn a_root_key_on_a_yubikey_makes_the_first_root_with_a_touch_and_the_real_client_pins_it() {
    if !have("docker-registry") || !have("notary") {
        return;
    }
    let mut service = Instance::start();
    let manual = |card: hsm_sim_yubikey::Builder| card.touch(TouchMode::Manual);
    let Some(keeper) = YubiKeyKeeper::start(&mut service, "demo/gold/", &ROOT, manual) else { return };
    let digest = service.registry.push("demo/gold/app", "v1", "hello");
    let repository = service.repository("demo/gold/app");
    let said = service.dir().join("sign.err");
    let image = format!("{repository}@{digest}");
    let mut asked = Command::new(binary("chancery"))
        .args(["sign", &image, "--tag", "v1", "--wait=60s"])
        .envs(service.env())
        .env("XDG_STATE_HOME", service.dir())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let lines = |what: &str| -> Vec<String> {
        let text = fs::read_to_string(&said).unwrap();
        text.lines().filter(|line| line.ends_with(what)).map(str::to_owned).collect()
    };
    // A finger that comes when it was asked for: for the certificate of the root key, and for the root.
    let whats = [format!("certify the root key of {repository}"), format!("root 1 of {repository}")];
    for (before, what) in whats.iter().enumerate() {
        wait_for("the line that asks for a touch", || (!lines(what).is_empty()).then_some(()));
        assert_eq!(keeper.signed().len(), before);
        keeper.card.touch(PATIENCE).unwrap();
    }
    assert!(asked.wait().unwrap().success(), "{}", fs::read_to_string(&said).unwrap());
    for what in &whats {
        let lines = lines(what);
        assert_eq!(lines.len(), 1, "once a touch: {lines:?}");
        assert!(lines[0].starts_with("Touch YubiKey 5740001 (slot 9c) within 1"), "{}", lines[0]);
    }
    let state = tempfile::tempdir().unwrap();
    let seen = service.notary(state.path(), &["lookup", &repository, "v1"]);
    assert!(seen.stdout.contains(&digest.sha256().to_string()), "{seen:?}");
    let pinned = fs::read(state.path().join("tuf").join(&repository).join("metadata/root.json")).unwrap();
    let shown = service.chancery(&["repo", "show", &repository, "-o", "json"]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["root_sha256"], Sha256::of(&pinned).to_string());
    // The card's word and the log's: two signatures, each with a touch, each announced before.
    let made = keeper.signed();
    assert!(made.iter().all(|(_, entry)| entry.signed.touch == TouchState::Given), "{made:?}");
    let made: Vec<Sha256> = made.into_iter().map(|(digest, _)| digest).collect();
    wait_for("both intents in the published log", || {
        (announced(&service, &[Purpose::Root]) == made).then_some(())
    });
    // The next tag needs the other keys only.
    let next = service.registry.push("demo/gold/app", "v2", "world");
    let signed = service.sign("demo/gold/app", &next, "v2");
    assert_eq!((signed.code, keeper.signed().len()), (0, 2), "{signed:?}");
    assert!(!signed.stderr.contains("Touch"), "{signed:?}");
    service.verify_log();
}

#[test]
fn a_release_that_needs_a_touch_says_what_is_released_and_a_touch_that_does_not_come_fails_for_certain() {
    if !have("docker-registry") {
        return;
    }
    let place = |purpose, slot, touch| Place { purpose, slot, touch };
    let places = [
        place(Purpose::Root, 0x9a, false),
        place(Purpose::Targets, 0x9c, true),
        place(Purpose::Snapshot, 0x82, false),
        place(Purpose::Timestamp, 0x83, false),
    ];
    let mut service = Instance::start();
    let impatient = |card: hsm_sim_yubikey::Builder| {
        card.touch(TouchMode::Timeout).touch_timeout(Duration::from_millis(1_000))
    };
    let Some(keeper) = YubiKeyKeeper::start(&mut service, "demo/gold/", &places, impatient) else { return };
    let digest = service.registry.push("demo/gold/app", "v1", "hello");
    let (status, made) = service.post("CHANCERY_TOKEN", "k1", "demo/gold/app", &digest, "v1");
    assert_eq!(status, 202, "{made}");
    let id = made["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/requests/{id}?wait=30&touch=none");
    let (status, answer) = service.http("CHANCERY_TOKEN", &path, &[]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let touch = &answer["touch"];
    let what = format!("release {}:v1 {digest}", service.repository("demo/gold/app"));
    assert_eq!(
        (status, &answer["state"], &touch["what"]),
        (200, &"signing".into(), &what.into()),
        "{answer}"
    );
    assert_eq!((&touch["device"], &touch["slot"]), (&"YubiKey 5740001".into(), &"9c".into()));
    // Three tries, and then the request has ended: without any signature of that key.
    let ended = wait_for("the request to end", || {
        let (_, answer) = service.http("CHANCERY_TOKEN", &format!("/v1/requests/{id}?wait=5"), &[]);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        (answer["state"] == "failed").then_some(answer)
    });
    assert!(ended["problem"]["detail"].as_str().unwrap().contains("touch-"), "{ended}");
    assert!(ended.get("touch").is_none(), "{ended}");
    let by_targets_key = || -> Vec<Sha256> {
        let made = keeper.signed().into_iter().filter(|(_, entry)| entry.signed.slot.to_string() == "9c");
        made.map(|(digest, _)| digest).collect()
    };
    assert_eq!(by_targets_key(), []);
    let failed = wait_for("three outcomes in the published log", || {
        let history = service.history();
        let codes: Vec<String> = history
            .leaves()
            .iter()
            .filter_map(|leaf| match leaf {
                Leaf::Outcome(outcome) if outcome.outcome == OutcomeKind::Failed => {
                    Some(outcome.code.as_ref()?.to_string())
                }
                _ => None,
            })
            .collect();
        (codes.len() >= 3).then_some(codes)
    });
    assert!(failed.iter().all(|code| code.starts_with("touch-")), "{failed:?}");
    // The client may ask again, and somebody is there now.
    keeper.card.touch_policy(TouchMode::Auto);
    let signed = service.sign("demo/gold/app", &digest, "v1");
    assert_eq!(signed.code, 0, "{signed:?}");
    // The service may have made the empty first version by itself meanwhile: whatever the key signed, the log has.
    wait_for("the log to have what the key signed", || {
        let history = service.history();
        let targets = history
            .intents()
            .into_iter()
            .filter(|t| t.intent.purpose == Purpose::Targets && t.end == End::Signed);
        let logged: Vec<Sha256> = targets.map(|t| t.intent.payload).collect();
        let made = by_targets_key();
        (!made.is_empty() && logged == made).then_some(())
    });
    service.verify_log();
}

#[test]
fn repo_create_says_which_touches_it_waits_for_and_waiting_for_one_is_no_trouble() {
    if !have("docker-registry") {
        return;
    }
    let mut service = Instance::start();
    let manual = |card: hsm_sim_yubikey::Builder| card.touch(TouchMode::Manual);
    let Some(keeper) = YubiKeyKeeper::start(&mut service, "demo/gold/", &ROOT, manual) else { return };
    let repository = service.repository("demo/gold/app");
    let made = thread::scope(|scope| {
        let asked = scope.spawn(|| service.chancery(&["repo", "create", &repository]));
        for before in 0..2 {
            wait_for("the card to wait", || {
                let path = format!("/v1/repositories/touch?name={repository}&wait=5&touch=none");
                service.http("CHANCERY_TOKEN", &path, &[]).1.contains("YubiKey 5740001").then_some(())
            });
            assert_eq!(keeper.signed().len(), before);
            // Longer than from one look at the card to the next.
            thread::sleep(Duration::from_millis(2_500));
            assert_eq!(service.http("", "/readyz", &[]).0, 200, "a card that waits for a finger is well");
            keeper.card.touch(PATIENCE).unwrap();
            wait_for("the signature", || (keeper.signed().len() > before).then_some(()));
        }
        asked.join().unwrap()
    });
    assert_eq!(made.code, 0, "{made:?}");
    for what in ["certify the root key of ", "root 1 of "] {
        let lines = made.stderr.lines().filter(|line| line.contains(what)).count();
        assert_eq!(lines, 1, "once a touch: {made:?}");
    }
    assert!(made.stderr.contains("Touch YubiKey 5740001 (slot 9c) within 1"), "{made:?}");
}

#[test]
fn a_card_that_was_pulled_out_is_told_before_anybody_asks_it_and_no_more_when_it_is_back() {
    if !have("docker-registry") {
        return;
    }
    let mut service = Instance::start();
    let Some(keeper) = YubiKeyKeeper::start(&mut service, "demo/gold/", &ROOT, |card| card) else { return };
    keeper.card.remove().unwrap();
    let said = wait_for("/readyz to tell of the card", || {
        let (status, body) = service.http("", "/readyz", &[]);
        (status == 503).then_some(body)
    });
    assert!(said.contains("signing keeper yubikey: its token: YubiKey 5740001: "), "{said}");
    let told = |what: fn(&Event) -> Option<&KeeperName>| {
        let of = |leaf: &Leaf| match leaf {
            Leaf::Event(event) => what(event).map(|keeper| keeper.as_str() == "yubikey"),
            _ => None,
        };
        wait_for("the log to tell of the card", || {
            let count = service.history().leaves().iter().filter(|leaf| of(leaf) == Some(true)).count();
            (count > 0).then_some(count)
        })
    };
    let trouble = told(|event| match event {
        Event::TokenTrouble { keeper, problems, .. } if !problems.is_empty() => Some(keeper),
        _ => None,
    });
    keeper.card.insert().unwrap();
    service.wait_until_ready();
    let well = told(|event| match event {
        Event::TokenWell { keeper, .. } => Some(keeper),
        _ => None,
    });
    assert_eq!((trouble, well), (1, 1), "changes only");
    assert_eq!(keeper.signed().len(), 0);
    let digest = service.registry.push("demo/gold/app", "v1", "hello");
    let signed = service.sign("demo/gold/app", &digest, "v1");
    assert_eq!((signed.code, keeper.signed().len()), (0, 2), "{signed:?}");
    service.verify_log();
}

#[test]
fn every_command_of_the_page_about_yubikeys_works_and_the_proof_of_the_key_is_in_the_log_before_it_signs() {
    if !have("docker-registry") || !have("openssl") {
        return;
    }
    let mut service = Instance::start();
    let Some(host) = CardHost::new(&mut service, |card| card) else { return };
    let prefix = service.repository("demo/gold/");
    host.configure(&service, &prefix, "", "");
    // The card's maker is this project, and no root that a keeper has built in.
    let script = commands("how-to/yubikeys.md")
        .replace("--attestation-chain yubico-ca-1.pem", "--attestation-root root.pem")
        .replace("yubico-intermediate.pem", "chain.pem")
        .replace("registry.example/gold/", &prefix);
    assert!(script.matches("chancery-keeper").count() >= 8, "{script}");
    let programs = binary("chancery").parent().unwrap().display().to_string();
    let mut bash = host.command("bash".as_ref());
    bash.args(["-euo", "pipefail", "-c", &script]).env("SERIAL", "5740001");
    let ran = Output::of(bash.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap())));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("attestation.pem: OK") && ran.stderr.contains("Touch YubiKey"), "{ran:?}");
    let spki: String = fs::read_to_string(host.folder().join("proof/statement.json")).unwrap();
    let spki: Value = serde_json::from_str(&spki).unwrap();
    let spki: Spki = serde_json::from_value(spki["key"]["spki"].clone()).unwrap();
    let keeper = host.serve(&mut service, &[(Purpose::Root, spki.clone())], &prefix);
    let digest = service.registry.push("demo/gold/app", "v1", "hello");
    let signed = service.sign("demo/gold/app", &digest, "v1");
    assert_eq!(signed.code, 0, "{signed:?}");
    let history = wait_for("the root's two intents in the published log", || {
        (announced(&service, &[Purpose::Root]).len() == 2).then(|| service.history())
    });
    let of_the_key = |leaf: &Leaf| match leaf {
        Leaf::Event(Event::Keeper { keeper, .. }) => {
            let key = keeper.keys.iter().find(|key| key.spki == spki)?;
            Some(key.evidence.clone())
        }
        Leaf::Intent(intent) if intent.purpose == Purpose::Root => Some(vec![]),
        _ => None,
    };
    let told: Vec<Vec<String>> = history.leaves().iter().filter_map(of_the_key).collect();
    let [presented, rest @ ..] = told.as_slice() else { panic!("the log has nothing of the key") };
    let evidence = [
        "PIV_ATTESTED=true",
        "PIV_FIRMWARE=5.7.4",
        "PIV_GENERATED=true",
        "PIV_PIN=always",
        "PIV_SERIAL=5740001",
        "PIV_TOUCH=always",
    ];
    assert_eq!(presented, &evidence, "the first that the log has of the key is its proof");
    assert!(rest.len() == 2 && rest.iter().all(Vec::is_empty), "{rest:?}");
    let made: Vec<Sha256> = keeper.signed().into_iter().map(|(digest, _)| digest).collect();
    assert_eq!(made[1..], announced(&service, &[Purpose::Root]), "besides the test signature of the setup");
    service.verify_log();
}
