//! Tokens: listed, shown, enrolled.

use crate::desk::Desk;
use hsm_sim::{PinFlag, Token};
use std::os::unix::fs::PermissionsExt;

const ENROL: &str = "admin token enrol --module MODULE --token-label signing --pin-file PIN";

#[test]
fn every_slot_is_listed_with_its_token_and_its_flags_in_words_and_no_pin_is_tried() {
    let Some(desk) = Desk::new() else { return };
    desk.faults
        .set_token(Token::default().pin_flags(&[PinFlag::CountLow, PinFlag::FinalTry]).max_sessions(5))
        .unwrap();
    let listed = desk.run("admin token list --module MODULE").json();
    assert_eq!(listed["schema"], "chancery.keeper.tokens/v1");
    let slots = listed["slots"].as_array().unwrap();
    let about = |label: &str| slots.iter().map(|s| &s["token"]).find(|t| t["label"] == label).unwrap();
    let token = about("signing");
    assert!(!token["serial"].as_str().unwrap().is_empty());
    assert_eq!(token["max_sessions"], 5);
    let flags = token["flags"].to_string();
    assert!(flags.contains("PIN count low") && flags.contains("PIN final try"), "{flags}");
    assert!(about("")["flags"].to_string().contains("not initialised"), "SoftHSM has an empty slot");
    let text = desk.run("admin token list -o text --module MODULE");
    assert!(text.out.contains("label         signing") && text.out.contains("final try"), "{text:?}");
    assert!(desk.logins().is_empty());
}

#[test]
fn a_token_is_shown_with_its_mechanisms_and_with_its_keys_only_after_a_login() {
    let Some(desk) = Desk::new() else { return };
    desk.granted("02");
    let logins = desk.logins().len();
    let shown = desk.run("admin token show --module MODULE --token-label signing").json();
    let ecdsa = &shown["mechanisms"][0];
    assert_eq!((&ecdsa["name"], &ecdsa["present"]), (&"CKM_ECDSA".into(), &true.into()));
    assert!(shown.get("keys").is_none());
    assert_eq!(desk.logins().len(), logins);
    let shown = desk.with_pin("admin token show").json();
    assert!(shown["keys"][0]["evidence"].to_string().contains("CKA_SENSITIVE=true"), "{shown}");
    desk.run("admin token show --module MODULE --token-label other")
        .refused(70, &["other", "admin token list"]);
}

#[test]
fn an_enrolled_token_is_pinned_by_its_serial_number_and_the_rest_of_the_configuration_stays() {
    let Some(desk) = Desk::new() else { return };
    let before = std::fs::read_to_string(desk.path("keeper.toml")).unwrap();
    let printed = desk.run(ENROL).json();
    assert_eq!(std::fs::read_to_string(desk.path("keeper.toml")).unwrap(), before, "printed only");
    let serial = printed["token"]["serial"].as_str().unwrap().to_owned();
    desk.write("keeper.toml", &format!("{before}[token] # ours\nlabel = 'old'\nsessions = 2\npin_fd = 7\n"));
    let written = desk.run(&format!("{ENROL} --config CONFIG --write")).json();
    assert_eq!(written["table"], printed["table"]);
    let after = std::fs::read_to_string(desk.path("keeper.toml")).unwrap();
    assert!(
        after.starts_with(&before) && after.contains("[token] # ours\n") && after.contains("sessions = 2")
    );
    assert!(after.contains(&format!("serial = \"{serial}\"")) && !after.contains("'old'"), "{after}");
    assert!(!after.contains("pin_fd"), "{after}");
    assert!(desk.logins().is_empty());
}

#[test]
fn a_token_that_a_keeper_should_not_start_with_is_not_enrolled_and_its_pin_not_tried() {
    let Some(desk) = Desk::new() else { return };
    let before = std::fs::read_to_string(desk.path("keeper.toml")).unwrap();
    let enrol = || desk.run(&format!("{ENROL} --config CONFIG --write"));
    for (flag, word) in [(PinFlag::FinalTry, "only one try is left"), (PinFlag::Locked, "the PIN is locked")]
    {
        desk.faults.set_token(Token::default().pin_flags(&[flag])).unwrap();
        enrol().refused(78, &["signing", word, "tool"]);
    }
    desk.faults.set_token(Token::default().pin_flags(&[PinFlag::CountLow])).unwrap();
    assert!(desk.run(ENROL).json()["warning"].as_str().unwrap().contains("wrong PIN was tried"));
    desk.faults.set_token(Token::default()).unwrap();
    desk.run(&format!("{ENROL} --serial ffff")).refused(70, &["has the serial number", "not ffff"]);
    std::fs::set_permissions(desk.token.pin_file(), std::fs::Permissions::from_mode(0o644)).unwrap();
    enrol().refused(78, &["/pin", "0644", "0600"]);
    std::fs::set_permissions(desk.token.pin_file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    desk.run("admin token enrol --module MODULE --token-label signing --pin-fd 3 --config CONFIG")
        .refused(2, &["--write"]);
    assert_eq!(std::fs::read_to_string(desk.path("keeper.toml")).unwrap(), before);
    assert!(desk.logins().is_empty());
}

#[test]
fn of_two_tokens_with_one_label_neither_is_taken_until_a_serial_number_says_which() {
    let Some(desk) = Desk::new() else { return };
    let pin = std::fs::read_to_string(desk.token.pin_file()).unwrap();
    let twin = std::process::Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "signing", "--pin", &pin, "--so-pin", &pin, "--module"])
        .arg(desk.token.module())
        .envs(desk.token.env())
        .output()
        .unwrap();
    assert!(twin.status.success());
    let refused = desk.run(ENROL);
    refused.refused(70, &["2 tokens have this label", "serial number"]);
    let listed = desk.run("admin token list --module MODULE").json();
    let slots = listed["slots"].as_array().unwrap();
    let serials = slots.iter().filter(|s| s["token"]["label"] == "signing");
    for serial in serials.map(|s| s["token"]["serial"].as_str().unwrap()) {
        assert!(refused.err.contains(serial), "{refused:?}");
        let table = desk.run(&format!("{ENROL} --serial {serial}")).json()["table"].to_string();
        assert!(table.contains(serial), "{table}");
    }
    desk.with_pin("admin key list").refused(70, &["2 tokens"]);
    assert!(desk.logins().is_empty());
}
