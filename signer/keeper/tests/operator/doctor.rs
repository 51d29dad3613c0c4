//! `doctor`: a remedy for everything that fails, the worst exit code, and no PIN unless it is told to try it.

use crate::desk::{Answer, Desk};
use hsm_sim::{Insertion, PinFlag, Rule, Token};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

/// A host on which everything is in order.
fn healthy() -> Option<(Desk, String)> {
    let desk = Desk::new()?;
    let key = desk.granted("02");
    desk.enrol();
    desk.init();
    Some((desk, key))
}

fn check<'a>(document: &'a Value, what: &str) -> &'a Value {
    let checks = document["checks"].as_array().unwrap();
    checks.iter().find(|c| c["what"] == what).unwrap_or_else(|| panic!("no check {what}: {document}"))
}

/// Exactly these checks failed, each with a remedy, and the exit code is this.
fn fails(answer: &Answer, code: i32, what: &[(&str, &str)]) {
    let document = answer.document();
    let failed: Vec<&str> = document["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["state"] == "failed")
        .map(|c| {
            assert!(!c["remedy"].as_str().unwrap().is_empty(), "{c}");
            c["what"].as_str().unwrap()
        })
        .collect();
    assert_eq!((answer.code, failed), (code, what.iter().map(|w| w.0).collect()), "{answer:?}");
    for (what, word) in what {
        let says = check(&document, what)["says"].as_str().unwrap().to_owned();
        assert!(says.contains(word), "{word:?}: {says}");
    }
}

#[test]
fn a_host_in_order_passes_without_a_login_and_with_one_try_of_the_pin_on_request() {
    let Some((desk, _)) = healthy() else { return };
    let (logins, signatures) = (desk.logins().len(), desk.signatures());
    let answer = desk.run("doctor --config CONFIG");
    fails(&answer, 0, &[]);
    let document = answer.document();
    assert_eq!(document["schema"], "chancery.keeper.doctor/v1");
    for what in ["config", "charter", "module", "token", "pin", "pin source", "state", "disk", "socket"] {
        assert_eq!(check(&document, what)["state"], "ok", "{document}");
    }
    assert!(check(&document, "targets key")["says"].as_str().unwrap().contains("--login"));
    assert_eq!(desk.logins().len(), logins, "no PIN was tried");
    let answer = desk.run("doctor --login --config CONFIG");
    fails(&answer, 0, &[]);
    let document = answer.document();
    assert!(check(&document, "targets key")["says"].as_str().unwrap().contains("CKA_SENSITIVE=true"));
    assert_eq!((desk.logins().len(), desk.signatures()), (logins + 1, signatures));
    let text = desk.run("doctor -o text --config CONFIG");
    assert!(text.out.lines().all(|l| ["ok  ", "skip"].iter().any(|mark| l.starts_with(mark))), "{text:?}");
}

#[test]
fn each_fault_of_a_token_is_named_with_its_remedy_and_costs_no_try_of_the_pin() {
    let Some((desk, _)) = healthy() else { return };
    let logins = desk.logins().len();
    let doctor = || desk.run("doctor --login --config CONFIG");
    for (flag, word) in [(PinFlag::FinalTry, "only one try is left"), (PinFlag::Locked, "is locked")] {
        desk.faults.set_token(Token::default().pin_flags(&[flag])).unwrap();
        fails(&doctor(), 78, &[("pin", word)]);
    }
    desk.faults.set_token(Token::default()).unwrap();
    desk.faults.remove_token().unwrap();
    fails(&doctor(), 70, &[("token", "no such token is present")]);
    desk.faults.insert_token(Insertion::default().serial("other")).unwrap();
    fails(&doctor(), 70, &[("token", "has the serial number other")]);
    desk.faults.insert_token(Insertion::default()).unwrap();
    let rule = desk.faults.add(Rule::answer("C_Initialize", "CKR_GENERAL_ERROR")).unwrap();
    fails(&doctor(), 70, &[("module", "signing")]);
    desk.faults.release(&rule).unwrap();
    assert_eq!(desk.logins().len(), logins);
}

#[test]
fn a_wrong_pin_is_tried_once_and_an_open_pin_file_not_at_all() {
    let Some((desk, _)) = healthy() else { return };
    let logins = desk.logins().len();
    std::fs::set_permissions(desk.token.pin_file(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let answer = desk.run("doctor --login --config CONFIG");
    fails(&answer, 78, &[("pin source", "0640"), ("login", "0640")]);
    assert_eq!(desk.logins().len(), logins);
    std::fs::set_permissions(desk.token.pin_file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    desk.spoil_pin();
    fails(&desk.run("doctor --config CONFIG"), 0, &[]);
    assert_eq!(desk.logins().len(), logins);
    fails(&desk.run("doctor --login --config CONFIG"), 78, &[("login", "the PIN was refused")]);
    assert_eq!(desk.logins()[logins..], [0xa0]);
}

#[test]
fn a_missing_key_state_charter_or_configuration_and_a_hanging_module_are_told_apart() {
    let Some((desk, key)) = healthy() else { return };
    let charter = desk.charter();
    let lost = charter.replace("cka_id = \"02\"", "cka_id = \"07\"");
    desk.write("charter.toml", &lost);
    let document = desk.run("doctor --config CONFIG").document();
    assert_eq!(check(&document, "targets key")["state"], "skipped", "not seen without a login");
    fails(&desk.run("doctor --login --config CONFIG"), 78, &[("targets key", "CKA_ID 07")]);
    desk.write("charter.toml", &charter);
    desk.run(&format!("admin key retire {key} --charter CHARTER")).json();
    fails(&desk.run("doctor --login --config CONFIG"), 0, &[]);
    desk.write("charter.toml", "schema = 1\n");
    fails(&desk.run("doctor --config CONFIG"), 78, &[("charter", "keeper")]);
    desk.write("charter.toml", &charter);
    std::fs::rename(desk.path("state"), desk.path("away")).unwrap();
    fails(&desk.run("doctor --config CONFIG"), 78, &[("state", "is not there")]);
    std::fs::rename(desk.path("away"), desk.path("state")).unwrap();
    let config = std::fs::read_to_string(desk.path("keeper.toml")).unwrap();
    desk.write("keeper.toml", &format!("{config}call_deadline_ms = 300\n"));
    let hang = desk.faults.add(Rule::hang("C_GetTokenInfo")).unwrap();
    fails(
        &desk.run("doctor --config CONFIG"),
        75,
        &[("token", "C_GetTokenInfo did not return within 300 ms")],
    );
    desk.faults.release(&hang).unwrap();
    desk.write("keeper.toml", "role = 'sign'\n");
    fails(&desk.run("doctor --config CONFIG"), 78, &[("config", "keeper.toml")]);
}

#[test]
fn a_log_keepers_key_is_looked_for_too() {
    let Some(desk) = Desk::new() else { return };
    let made =
        desk.with_pin("admin key generate --id 01 --label l --type ed25519 --origin log.example.com").json();
    let vkey = made["vkey"].as_str().unwrap();
    desk.write(
        "keeper.toml",
        &format!(
            "role = 'log'\norigin = 'log.example.com'\nstate = 'state'\nsocket = 'socket'\n[key]\ncka_id = '01'\nvkey = '{vkey}'\n"
        ),
    );
    desk.enrol();
    desk.init();
    fails(&desk.run("doctor --login --config CONFIG"), 0, &[]);
    let config = std::fs::read_to_string(desk.path("keeper.toml")).unwrap();
    desk.write("keeper.toml", &config.replace("cka_id = '01'", "cka_id = '05'"));
    fails(&desk.run("doctor --login --config CONFIG"), 78, &[("log key", "CKA_ID 05")]);
}
