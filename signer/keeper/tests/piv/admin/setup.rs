//! `admin piv setup`: from the factory to a keeper that signs, and what it refuses before anything is changed.

use super::{Answer, Desk, GRANT, SETUP};
use crate::bench::ended;
use hsm_sim_yubikey::{Builder, PinPolicy, Profile, Slot, TouchMode, TouchPolicy};
use record::wire::SignResult;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// The card, its charter and the secrets are as they were, and no try was used.
fn nothing_changed(desk: &Desk, tries: (u64, u64)) {
    assert_eq!((desk.changes(), desk.pins_given(), desk.tries_left()), (0, 0, tries), "{:?}", desk.apdus());
    assert!(!desk.read("charter.toml").contains("[[key]]"));
    assert_eq!(desk.signatures(), 0);
}

#[test]
fn a_card_from_the_factory_is_set_up_by_one_command_and_a_keeper_signs_with_it() {
    for (profile, algorithm) in [(Profile::V5_7_4, "aes192"), (Profile::V5_4_3, "3des")] {
        let Some(desk) = Desk::with(profile, |card| card) else { return };
        let answer = desk.run(&format!("{SETUP} {GRANT} --out OUT"));
        let done = answer.json();
        assert_eq!(done["schema"], "chancery.keeper.piv-setup/v1");
        let steps = serde_json::json!({
            "pin": "changed", "puk": "changed", "management_key": "changed", "key": "generated"
        });
        assert_eq!(done["steps"], steps);
        assert_eq!(
            (&done["slot"], &done["usable"], &done["generated"]),
            (&"9c".into(), &true.into(), &true.into())
        );
        let evidence = done["evidence"].to_string();
        for word in ["PIV_ATTESTED=true", "PIV_PIN=always", "PIV_TOUCH=always", "PIV_SERIAL=5740001"] {
            assert!(evidence.contains(word), "{evidence}");
        }
        assert_eq!(desk.slots().as_object().unwrap().keys().collect::<Vec<_>>(), ["9c", "f9"]);
        for name in ["pin", "puk", "management-key"] {
            assert_eq!(fs::metadata(desk.path(name)).unwrap().permissions().mode() & 0o777, 0o600);
            let secret = desk.read(name);
            assert!(!answer.out.contains(secret.trim()) && !answer.err.contains(secret.trim()), "{answer:?}");
        }
        // The card's own word of how it is guarded.
        let shown = desk.run("admin token show --piv-serial SERIAL TRUST").json();
        for guard in ["pin", "puk", "management_key"] {
            assert_eq!(shown[guard]["factory"], false, "{shown}");
        }
        assert_eq!(shown["management_key"]["algorithm"], algorithm);
        let given = answer.err.lines().filter(|line| line.starts_with("Touch YubiKey")).collect::<Vec<_>>();
        assert_eq!(
            given,
            ["Touch YubiKey 5740001 (slot 9c) within 15 s: a test of its key, outside the log"]
        );
        assert_eq!((desk.signatures(), desk.tries_left()), (1, (3, 3)));
        desk.f9_is_untouched();
        // The charter has the entry, and the rest of it is as it was.
        let charter = desk.read("charter.toml");
        assert!(charter.contains("slot = \"9c\"\ntouch = \"always\"\npurpose = \"root\"\n"), "{charter}");
        assert!(charter.contains("from YubiKey 5740001."), "{charter}");
        desk.run("admin token enrol --piv-serial SERIAL TRUST --pin-file PIN --config CONFIG --write").json();
        let mut bench = desk.keeper(&done["spki"]);
        let keeper = bench.start();
        let mut daemon = keeper.connect();
        assert_eq!(serde_json::to_value(&daemon.welcome.keys[0].evidence).unwrap(), done["evidence"]);
        let made = bench.ask(&mut daemon, "app");
        assert!(matches!(ended(&mut daemon, made.index), SignResult::Signed { .. }));
        assert_eq!(bench.signed()[1..], [made.intent.payload]);
    }
}

#[test]
fn a_tool_of_others_finds_the_card_with_its_new_secrets_and_without_the_factorys() {
    if let Some(missing) = hsm_sim::missing(&["yubico-piv-tool"]) {
        return hsm_sim::skip(missing);
    }
    // The tool of Debian 12 knows management keys of old cards only.
    let Some(desk) = Desk::with(Profile::V5_4_3, |card| card) else { return };
    desk.run(SETUP).json();
    let secret = |name| desk.read(name).trim().to_owned();
    let (pin, puk, key) = (secret("pin"), secret("puk"), secret("management-key"));
    let tool = |words: &str| {
        let mut tool = Command::new("yubico-piv-tool");
        tool.arg("-rYubico")
            .args(words.split(' '))
            .env(hsm_sim_yubikey::SOCKET_VARIABLE, desk.pcscd.socket());
        tool.stdin(Stdio::null()).output().unwrap().status.success()
    };
    assert!(tool(&format!("-averify-pin -P{pin}")) && !tool("-averify-pin -P123456"));
    assert!(tool(&format!("-achange-puk -P{puk} -N87654321")) && !tool("-achange-puk -P12345678 -N87654321"));
    assert!(tool(&format!("-k{key} -aset-chuid")) && !tool("-aset-chuid"));
}

#[test]
fn an_auditor_checks_the_proof_with_openssl_and_sees_the_key_that_the_keeper_announces() {
    if let Some(missing) = hsm_sim::missing(&["openssl"]) {
        return hsm_sim::skip(missing);
    }
    for profile in Profile::ALL {
        let Some(desk) = Desk::with(profile, |card| card) else { return };
        let done = desk.run(&format!("{SETUP} --out OUT")).json();
        let openssl = |words: &str| {
            let ran = Command::new("openssl")
                .args(words.split(' '))
                .current_dir(desk.path("proof"))
                .output()
                .unwrap();
            assert!(ran.status.success(), "{words}: {}", String::from_utf8_lossy(&ran.stderr));
            String::from_utf8(ran.stdout).unwrap()
        };
        let check = desk.run("admin key attest --piv-serial SERIAL --slot 9c TRUST --out AGAIN").json();
        let check = check["check"].as_str().unwrap().strip_prefix("openssl ").unwrap().to_owned();
        assert!(openssl(&check).contains("attestation.pem: OK"));
        let key = openssl("x509 -in attestation.pem -noout -pubkey");
        let key: String = key.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(key, done["spki"].as_str().unwrap());
        let text = openssl("x509 -in attestation.pem -noout -text");
        assert!(text.contains("YubiKey PIV Attestation 9c"), "{text}");
        let statement: serde_json::Value = serde_json::from_str(&desk.read("proof/statement.json")).unwrap();
        assert_eq!(statement["schema"], "chancery.keeper.key-evidence/v1");
        assert_eq!((&statement["kind"], &statement["key"]["id"]), (&"piv-attestation".into(), &done["id"]));
        // Evidence is never overwritten.
        desk.run("admin key attest --piv-serial SERIAL --slot 9c TRUST --out OUT")
            .refused(78, &["proof", "never overwritten"]);
    }
}

#[test]
fn what_a_card_cannot_have_is_refused_before_anything_is_changed() {
    let key = |slot| move |card: Builder| card.key(slot, PinPolicy::Always, TouchPolicy::Always);
    let refused = |desk: Option<Desk>, words: &str, code: i32, said: &[&str]| {
        let Some(desk) = desk else { return false };
        let tries = desk.tries_left();
        desk.run(words).refused(code, said);
        nothing_changed(&desk, tries);
        for name in ["pin", "puk", "management-key"] {
            assert!(!desk.path(name).exists(), "{name} was made for nothing");
        }
        true
    };
    let granted = format!("{SETUP} {GRANT}");
    if !refused(
        Desk::with(Profile::V5_7_4, key(Slot::SIGNATURE)),
        &granted,
        78,
        &["5740001", "slot 9c", "has a p256 key already", "ever overwritten", "import-public"],
    ) {
        return;
    }
    let imported = |card: Builder| card.imported_key(Slot::SIGNATURE, PinPolicy::Always, TouchPolicy::Always);
    refused(Desk::with(Profile::V5_7_4, imported), &granted, 78, &["slot 9c", "already"]);
    let old = granted.replace("TRUST", "--attestation-root ROOT");
    refused(Desk::with(Profile::V5_4_3, |card| card), &old, 78, &["5.4.3", "5.7.0", "YSA-2024-03"]);
    let ed25519 = SETUP.to_owned() + " --type ed25519";
    refused(Desk::with(Profile::V5_4_3, |card| card), &ed25519, 78, &["Ed25519", "5.7.0"]);
    let unknown = granted.replace("TRUST", "--attestation-chain CHAIN --attestation-chain ROOT");
    refused(Desk::new(), &unknown, 78, &["attestations prove nothing"]);
    let other = granted.replace("SERIAL", "12345678");
    refused(Desk::new(), &other, 70, &["YubiKey 12345678", "other cards are: 5740001"]);
    for (left, word) in [(0, "the PIN is locked"), (1, "only one try is left")] {
        refused(Desk::with(Profile::V5_7_4, |card| card.pin_tries_left(left)), &granted, 78, &[word]);
    }
    let wild = granted.replace("r.example/team/", "r.example/*");
    refused(Desk::new(), &wild, 78, &["charter.toml", "repositories"]);
    refused(Desk::new(), &format!("{ed25519} {GRANT}"), 78, &["P-256", "--type p256"]);
    refused(
        Desk::new(),
        &format!("{granted} --origin log.example.com"),
        78,
        &["a log key signs notes", "--charter"],
    );
    refused(Desk::new(), &granted.replace("PUK", "PIN"), 78, &["/pin", "two secrets"]);
    refused(Desk::new(), &format!("{SETUP} --out ."), 78, &["never overwritten"]);
    for (from, to, word) in [
        ("--touch-policy always", "--touch-policy cached", "within 15 s"),
        ("--touch-policy always", "", "--touch-policy"),
        ("--slot 9c", "--slot f9", "9a, 9c, 9d, or 82 to 95"),
        ("--new-pin-file PIN", "", "--new-pin-file"),
    ] {
        refused(Desk::new(), &granted.replace(from, to), 2, &[word]);
    }
}

#[test]
fn secrets_that_everybody_knows_or_can_read_are_refused() {
    let Some(desk) = Desk::new() else { return };
    let setup = || desk.run(SETUP);
    for (name, text, word) in [
        ("pin", "123456\n", "factory"),
        ("pin", "12345\n", "6 to 8"),
        ("puk", "12345678\n", "factory"),
        ("management-key", "010203040506070801020304050607080102030405060708\n", "factory"),
        ("management-key", "0102\n", "hex digits"),
    ] {
        desk.write(name, text);
        setup().refused(78, &[name, word]);
        fs::remove_file(desk.path(name)).unwrap();
    }
    desk.write("pin", "654321\n");
    fs::set_permissions(desk.path("pin"), fs::Permissions::from_mode(0o644)).unwrap();
    setup().refused(78, &["/pin", "0644", "0600"]);
    assert_eq!(desk.apdus(), [] as [String; 0], "no card was asked");
}

#[test]
fn a_card_from_another_hand_needs_its_present_secrets_and_a_wrong_one_is_tried_exactly_once() {
    let Some(desk) = Desk::new() else { return };
    desk.run(SETUP).json();
    for name in ["pin", "puk", "management-key"] {
        fs::rename(desk.path(name), desk.path(&format!("old-{name}"))).unwrap();
    }
    let (changes, pins) = (desk.changes(), desk.pins_given());
    let another = SETUP.replace("--slot 9c", "--slot 9a");
    // Nothing is known of the card: nothing is tried, and nothing made.
    desk.run(&another).refused(
        78,
        &["management key of YubiKey 5740001", "--management-key-file", "--new-management-key-file"],
    );
    let present = |pin: &str| {
        format!(
            "{another} --pin-file {} --puk-file {} --management-key-file {}",
            desk.path(pin).display(),
            desk.path("old-puk").display(),
            desk.path("old-management-key").display()
        )
    };
    assert_eq!((desk.changes(), desk.pins_given()), (changes, pins));
    assert!(!desk.path("pin").exists());
    let known = format!("{another} --management-key-file {}", desk.path("old-management-key").display());
    desk.run(&known).refused(78, &["PIN of YubiKey 5740001", "--pin-file", "--new-pin-file"]);
    assert_eq!((desk.changes(), desk.pins_given()), (changes, pins));
    desk.write("wrong", "000000\n");
    desk.run(&present("wrong")).refused(78, &["wrong", "2 tries are left", "not tried again", "--pin-file"]);
    assert_eq!((desk.count("00240080"), desk.tries_left()), (2, (2, 3)), "one for the setup, one in vain");
    let done = desk.run(&present("old-pin")).json();
    assert_eq!(done["steps"]["pin"], "changed");
    assert_eq!(
        (&done["steps"]["puk"], &done["steps"]["management_key"]),
        (&"changed".into(), &"changed".into())
    );
    assert_eq!((&done["slot"], desk.tries_left()), (&"9a".into(), (3, 3)));
    assert_ne!(desk.read("pin"), desk.read("old-pin"));
}

#[test]
fn a_wrong_new_pin_is_tried_exactly_once_and_never_at_its_last_try() {
    let Some(desk) = Desk::new() else { return };
    desk.run(SETUP).json();
    let pin = desk.read("pin");
    let another = SETUP.replace("--slot 9c", "--slot 9a");
    desk.write("pin", "000000\n");
    let changes = desk.changes();
    let given = desk.pins_given();
    desk.run(&another).refused(78, &["/pin", "2 tries are left", "not tried again"]);
    desk.run(&another).refused(78, &["1 tries are left"]);
    desk.run(&another).refused(78, &["only one try is left"]);
    assert_eq!((desk.pins_given(), desk.tries_left()), (given + 2, (1, 3)));
    assert_eq!(desk.changes(), changes, "nothing else was done");
    desk.write("pin", &pin);
    desk.run(&another).refused(78, &["only one try is left"]);
}

#[test]
fn another_slot_of_a_card_that_is_set_up_gets_another_key_and_the_first_stays() {
    let Some(desk) = Desk::new() else { return };
    let first = desk.run(SETUP).json();
    let again = desk.run(SETUP).json();
    assert_eq!(
        (&again["steps"]["key"], &again["id"]),
        (&"kept".into(), &first["id"]),
        "the same command does nothing"
    );
    let other =
        SETUP.replace("--slot 9c", "--slot 82").replace("--touch-policy always", "--touch-policy never");
    let second =
        desk.run(&format!("{other} --pin-policy once --type ed25519 --origin log.example.com")).json();
    assert_eq!(second["steps"]["key"], "generated");
    assert_eq!((&second["type"], &second["pin_policy"]), (&"ed25519".into(), &"once".into()));
    assert!(second["vkey"].as_str().unwrap().starts_with("log.example.com+"), "{second}");
    assert_eq!(desk.count("0047009c"), 1);
    // A log's key on a card without Ed25519 is on P-256.
    let third = other.replace("--slot 82", "--slot 83");
    let third = desk.run(&format!("{third} --pin-policy once --origin log.example.com")).json();
    assert_eq!(third["type"], "p256");
    let vkey: tlog::VerifierKey = third["vkey"].as_str().unwrap().parse().unwrap();
    assert!(matches!(vkey.key(), tlog::LogKey::P256(_)));
    // What the slot has must be what is asked for.
    desk.run(&other.replace("--slot 82", "--slot 9c")).refused(78, &["slot 9c", "already", "touch always"]);
    desk.run(&SETUP.replace("--slot 9c", "--slot 82")).refused(78, &["slot 82", "ed25519 key already"]);
    assert_eq!(desk.count("0047"), 3);
    desk.f9_is_untouched();
}

#[test]
fn a_test_signature_waits_for_its_touch_and_without_one_the_charter_gets_nothing() {
    let Some(desk) = Desk::with(Profile::V5_7_4, |card| card.touch(TouchMode::Deny)) else { return };
    let words = format!("{SETUP} {GRANT}");
    desk.run(&words).refused(78, &["slot 9c", "no test signature", "touch-denied", "same command again"]);
    assert!(!desk.read("charter.toml").contains("[[key]]"));
    assert_eq!(desk.signatures(), 0);
    desk.card.touch_policy(TouchMode::Manual);
    let waiting = desk.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    desk.card.touch(PATIENCE).unwrap();
    let answer = Answer::of(&waiting.wait_with_output().unwrap());
    let done = answer.json();
    assert_eq!((&done["steps"]["key"], desk.signatures()), (&"kept".into(), 1));
    assert!(answer.err.contains("Touch YubiKey 5740001 (slot 9c) within 15 s"), "{answer:?}");
    // Once more: everything is there, and nobody is asked for a touch.
    let again = desk.run(&words);
    assert!(again.json()["charter"]["file"].is_string() && !again.err.contains("Touch"), "{again:?}");
    assert_eq!(desk.read("charter.toml").matches("[[key]]").count(), 1);
}
