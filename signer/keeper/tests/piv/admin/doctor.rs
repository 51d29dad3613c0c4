//! `doctor` of a keeper with a YubiKey: a remedy for everything that is wrong, and no PIN unless it is told to try it.

use super::{Answer, Desk, GRANT, SETUP};
use hsm_sim_yubikey::Profile;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const DOCTOR: &str = "doctor --config CONFIG";

/// A host on which everything is in order.
fn healthy() -> Option<Desk> {
    let desk = Desk::new()?;
    desk.run(&format!("{SETUP} {GRANT}")).json();
    desk.run("admin token enrol --piv-serial SERIAL TRUST --pin-file PIN --config CONFIG --write").json();
    let init = desk.run("init --config CONFIG");
    assert_eq!(init.code, 0, "{init:?}");
    Some(desk)
}

fn check<'a>(document: &'a Value, what: &str) -> &'a Value {
    let checks = document["checks"].as_array().unwrap();
    checks.iter().find(|c| c["what"] == what).unwrap_or_else(|| panic!("no check {what}: {document}"))
}

/// Exactly these checks are in this state, each with a remedy and this word, and the exit code is this.
fn says(answer: &Answer, code: i32, state: &str, what: &[(&str, &str)]) {
    let document: Value = serde_json::from_str(&answer.out).unwrap();
    let is = document["checks"].as_array().unwrap().iter().filter(|c| c["state"] == state);
    let is: Vec<&str> = is
        .map(|c| {
            assert!(!c["remedy"].as_str().unwrap().is_empty(), "{c}");
            c["what"].as_str().unwrap()
        })
        .collect();
    assert_eq!((answer.code, is), (code, what.iter().map(|w| w.0).collect()), "{answer:?}");
    for (what, word) in what {
        let says = check(&document, what)["says"].as_str().unwrap();
        assert!(says.contains(word), "{word:?}: {says}");
    }
}

#[test]
fn a_host_in_order_passes_without_a_login_and_with_one_try_of_the_pin_on_request() {
    let Some(desk) = healthy() else { return };
    let (given, changes, signatures) = (desk.pins_given(), desk.changes(), desk.signatures());
    let answer = desk.run(DOCTOR);
    says(&answer, 0, "failed", &[]);
    says(&answer, 0, "warning", &[]);
    let document: Value = serde_json::from_str(&answer.out).unwrap();
    for what in ["pin source", "pcscd", "card", "attestation", "pin", "puk", "management key", "root key"] {
        assert_eq!(check(&document, what)["state"], "ok", "{document}");
    }
    assert!(
        check(&document, "root key")["says"].as_str().unwrap().contains("PIV_TOUCH=always"),
        "{document}"
    );
    assert_eq!(desk.pins_given(), given, "no PIN was tried");
    let answer = desk.run(&format!("{DOCTOR} --login"));
    says(&answer, 0, "failed", &[]);
    assert_eq!((desk.pins_given(), desk.changes(), desk.signatures()), (given + 1, changes, signatures));
}

#[test]
fn each_fault_is_named_with_its_remedy_and_costs_no_try_of_the_pin() {
    let Some(desk) = healthy() else { return };
    let given = desk.pins_given();
    let socket = desk.pcscd.socket().to_owned();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let open = desk.run(DOCTOR);
    says(&open, 0, "warning", &[("pcscd", "everybody")]);
    assert!(open.out.contains("SocketMode=0660"), "{open:?}");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
    desk.card.remove().unwrap();
    says(&desk.run(DOCTOR), 70, "failed", &[("card", "in no reader")]);
    desk.card.insert().unwrap();
    let (charter, config) = (desk.read("charter.toml"), desk.read("keeper.toml"));
    desk.write("charter.toml", &charter.replace("touch = \"always\"\n", ""));
    says(&desk.run(DOCTOR), 78, "failed", &[("root key", "touch policy is always")]);
    desk.write("charter.toml", &charter.replace("slot = \"9c\"", "slot = \"9a\""));
    says(&desk.run(DOCTOR), 78, "failed", &[("root key", "no key in it")]);
    desk.write("charter.toml", &charter);
    desk.write("keeper.toml", &config.replace("5740001", "12345678"));
    says(&desk.run(DOCTOR), 70, "failed", &[("card", "other cards are: 5740001")]);
    desk.write("keeper.toml", &config);
    fs::rename(desk.path("root.pem"), desk.path("away.pem")).unwrap();
    says(&desk.run(DOCTOR), 78, "failed", &[("attestation", "root.pem")]);
    fs::rename(desk.path("away.pem"), desk.path("root.pem")).unwrap();
    assert_eq!(desk.pins_given(), given);
    // A wrong PIN: once, and only when told to.
    desk.write("pin", "000000\n");
    says(&desk.run(DOCTOR), 0, "failed", &[]);
    assert_eq!(desk.pins_given(), given);
    says(&desk.run(&format!("{DOCTOR} --login")), 78, "failed", &[("login", "2 tries are left")]);
    let counted = desk.run(DOCTOR);
    says(&counted, 0, "warning", &[("pin", "2 of 3 tries")]);
    says(&desk.run(&format!("{DOCTOR} --login")), 78, "failed", &[("login", "1 tries are left")]);
    says(&desk.run(&format!("{DOCTOR} --login")), 78, "failed", &[("pin", "only one try")]);
    assert_eq!(desk.pins_given(), given + 2);
}

#[test]
fn what_is_left_of_the_factory_and_an_old_firmware_are_named() {
    for profile in Profile::ALL {
        let Some(desk) = Desk::with(profile, |card| card) else { return };
        desk.write("pin", "123456\n");
        let config = desk.read("keeper.toml");
        let chain = if profile == Profile::V5_7_4 { "attestation_chain = ['chain.pem'], " } else { "" };
        desk.write(
            "keeper.toml",
            &format!("{config}[token]\npin_file = 'pin'\npiv = {{ serial = 5740001, {chain}attestation_roots = ['root.pem'] }}\n"),
        );
        let answer = desk.run(DOCTOR);
        says(&answer, 78, "warning", &[("puk", "factory"), ("management key", "factory")]);
        let document: Value = serde_json::from_str(&answer.out).unwrap();
        let pin = check(&document, "pin");
        assert_eq!((&pin["state"], &pin["code"]), (&"failed".into(), &78.into()), "{pin}");
        assert!(pin["remedy"].as_str().unwrap().contains("piv setup"), "{pin}");
        let attestation = check(&document, "attestation");
        match profile {
            Profile::V5_7_4 => assert_eq!(attestation["state"], "ok"),
            Profile::V5_4_3 => {
                assert!(attestation["says"].as_str().unwrap().contains("YSA-2024-03"), "{attestation}")
            }
        }
        assert_eq!(desk.pins_given(), 0);
    }
}
