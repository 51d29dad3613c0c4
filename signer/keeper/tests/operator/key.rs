//! Keys: made usable only when they are as their purpose demands, and retired for good.

use crate::desk::Desk;
use hsm_sim::{PinFlag, Rule, Token};
use std::process::Command;

const GENERATE: &str =
    "admin key generate --id 02 --label t --charter CHARTER --purpose targets --repository r.example/team/";

#[test]
fn a_generated_key_stands_in_the_charter_after_one_test_signature_and_a_keeper_starts_with_it() {
    let Some(desk) = Desk::new() else { return };
    let before = desk.charter();
    let made = desk.with_pin(GENERATE).json();
    assert_eq!((&made["schema"], &made["usable"]), (&"chancery.keeper.key/v1".into(), &true.into()));
    assert_eq!(made["charter"]["purpose"], "targets");
    assert_eq!(desk.signatures(), 1, "the test signature");
    let after = desk.charter();
    assert!(after.starts_with(&before) && after.contains(made["spki"].as_str().unwrap()), "{after}");
    let listed = desk.with_pin("admin key list --charter CHARTER").json();
    assert_eq!(listed["keys"][0]["granted"]["repositories"][0], "r.example/team/");
    desk.enrol();
    desk.init();
    let mut serve = desk.command("serve");
    serve.env("HSM_SIM_CONTROL", desk.faults.folder()).env("HSM_SIM_JOURNAL", desk.path("journal.jsonl"));
    drop(desk.start_as(serve));
}

#[test]
fn what_the_charter_cannot_take_makes_no_key_and_tries_no_pin() {
    let Some(desk) = Desk::new() else { return };
    let id = desk.granted("02");
    let (before, logins) = (desk.charter(), desk.logins().len());
    let rest = "--label t --charter CHARTER --purpose targets";
    for (words, code, said) in [
        (format!("--id 02 {rest} --repository r.example/"), 78, vec!["charter.toml", "key 2, cka_id", "02"]),
        (format!("--id 03 {rest} --repository r.example/*"), 78, vec!["key 2, repositories", "r.example/*"]),
        (
            format!("--id 03 {rest} --repository r.example/ --max-validity-days 9999"),
            78,
            vec!["key 2, max_validity_days"],
        ),
        (
            format!("--id 03 {rest} --repository r.example/ --type ed25519"),
            78,
            vec!["CKA_ID 03", "--type p256"],
        ),
        (format!("--id 03 {rest}"), 2, vec!["--repository"]),
        ("--id 03 --label t --repository r.example/".into(), 2, vec!["--charter"]),
    ] {
        desk.with_pin(&format!("admin key generate {words}")).refused(code, &said);
    }
    std::fs::write(desk.path("charter.toml"), format!("{before}# \n[[key]]\n")).unwrap();
    desk.with_pin(&GENERATE.replace("02", "03")).refused(78, &["charter.toml", "nothing was changed"]);
    std::fs::write(desk.path("charter.toml"), &before).unwrap();
    assert_eq!((desk.logins().len(), desk.signatures()), (logins, 1));
    let keys = desk.keys();
    assert_eq!((keys.len(), &keys[0]["id"]), (1, &id.into()));
}

#[test]
fn a_key_whose_test_signature_is_wrong_or_missing_is_destroyed_and_stands_nowhere() {
    let Some(desk) = Desk::new() else { return };
    let before = desk.charter();
    for (rule, words) in [
        (Rule::flip_bit("C_Sign", 7), "does not verify"),
        (Rule::answer("C_Sign", "CKR_DEVICE_ERROR"), "no test signature"),
        (Rule::answer("C_Sign", "CKR_KEY_FUNCTION_NOT_PERMITTED"), "no test signature"),
    ] {
        let rule = desk.faults.add(rule).unwrap();
        desk.with_pin(GENERATE).refused(78, &["signing", "CKA_ID 02", words]);
        desk.faults.release(&rule).unwrap();
        assert!(desk.keys().is_empty());
    }
    assert_eq!(desk.charter(), before);
}

#[test]
fn a_key_that_wants_the_pin_at_each_use_shows_itself_as_a_keeper_asks_it() {
    let Some(desk) = Desk::new() else { return };
    desk.faults.set_token(Token::default().always_authenticate().pin_tries(3)).unwrap();
    let made = desk.with_pin(GENERATE).json();
    assert!(made["evidence"].to_string().contains("CKA_ALWAYS_AUTHENTICATE=true"), "{made}");
    assert_eq!(
        (desk.logins(), desk.signatures()),
        (vec![0, 0], 1),
        "one for the token, one for the signature"
    );
    desk.with_pin("admin key generate --id 03 --label u").json();
    let grant = "--charter CHARTER --purpose root --repository r.example/team/";
    desk.with_pin(&format!("admin key import-public --id 03 {grant}")).json();
    assert_eq!(desk.signatures(), 2);
    desk.enrol();
    desk.init();
    let mut serve = desk.command("serve");
    serve.env("HSM_SIM_CONTROL", desk.faults.folder()).env("HSM_SIM_JOURNAL", desk.path("journal.jsonl"));
    drop(desk.start_as(serve));
}

#[test]
fn a_pin_that_could_lock_is_not_tried_and_a_wrong_one_once() {
    let Some(desk) = Desk::new() else { return };
    for (flag, word) in [(PinFlag::FinalTry, "one try is left"), (PinFlag::Locked, "is locked")] {
        desk.faults.set_token(Token::default().pin_flags(&[flag])).unwrap();
        for command in [GENERATE, "admin key list", "admin key attest --id 02", "admin token show"] {
            desk.with_pin(command).refused(78, &["signing", word]);
        }
    }
    assert!(desk.logins().is_empty());
    desk.faults.set_token(Token::default().pin_tries(3)).unwrap();
    desk.spoil_pin();
    desk.with_pin(GENERATE).refused(78, &["the PIN was refused", "correct the PIN's source"]);
    assert_eq!((desk.logins(), desk.faults.pin_tries_left().unwrap()), (vec![0xa0], Some(2)));
}

#[test]
fn a_key_of_another_tool_is_imported_if_it_is_as_keys_must_be_and_refused_by_attribute_if_not() {
    let Some(desk) = Desk::new() else { return };
    if let Some(missing) = hsm_sim::missing(&["pkcs11-tool"]) {
        return hsm_sim::skip(missing);
    }
    let pin = std::fs::read_to_string(desk.token.pin_file()).unwrap();
    let make = |id: &str, more: &[&str]| {
        let mut tool = Command::new("pkcs11-tool");
        tool.args([
            "--token-label",
            "signing",
            "--login",
            "--pin",
            &pin,
            "--keypairgen",
            "--id",
            id,
            "--module",
        ]);
        tool.arg(desk.token.module()).args(["--label", "theirs"]).args(more).envs(desk.token.env());
        let made = tool.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    make("0a", &["--key-type", "EC:prime256v1", "--sensitive"]);
    make("0b", &["--key-type", "EC:prime256v1", "--extractable"]);
    make("0c", &["--key-type", "EC:edwards25519", "--sensitive"]);
    let before = desk.charter();
    let import = |id: &str| {
        desk.with_pin(&format!(
            "admin key import-public --id {id} --charter CHARTER --purpose root --repository r.example/"
        ))
    };
    import("0b").refused(78, &["CKA_ID 0b", "CKA_EXTRACTABLE is true and must be false", "generate"]);
    import("0c").refused(78, &["CKA_ID 0c", "a root key is a P-256 key"]);
    import("0d").refused(78, &["CKA_ID 0d", "no private key with this id"]);
    assert_eq!((desk.charter(), desk.signatures()), (before, 0), "a refused key is not used");
    let made = import("0a").json();
    assert_eq!((made["cka_id"].as_str(), desk.signatures()), (Some("0a"), 1));
    assert!(
        desk.charter().contains("purpose = \"root\"") && desk.charter().contains("max_validity_days = 3660")
    );
    import("0a").refused(78, &["key 2", "cka_id"]);
    let listed = desk.with_pin("admin key list").json();
    let state = |id: &str| {
        let keys = listed["keys"].as_array().unwrap();
        keys.iter().find(|k| k["cka_id"] == id).unwrap()["usable"].clone()
    };
    assert_eq!((state("0a"), state("0b")), (true.into(), false.into()));
}

#[test]
fn a_retired_key_stays_on_record_and_in_the_token_and_is_presented_no_more() {
    let Some(desk) = Desk::new() else { return };
    let (first, second) = (desk.granted("02"), desk.granted("03"));
    let (before, logins) = (desk.charter(), desk.logins().len());
    let retire = |key: &str| desk.run(&format!("admin key retire {key} --charter CHARTER"));
    retire(&"0".repeat(64)).refused(78, &["charter.toml", "has no key 0000", "key list"]);
    assert_eq!(desk.charter(), before);
    let done = retire(&first).json();
    assert_eq!((&done["changed"], &done["cka_id"]), (&true.into(), &"02".into()));
    let line = format!("retired = \"{}\"\n", done["retired"].as_str().unwrap());
    assert_eq!(desk.charter().replace(&line, ""), before);
    assert_eq!(retire(&first).json()["changed"], false);
    assert_eq!(desk.logins().len(), logins, "the token is not asked");
    assert_eq!(desk.keys().len(), 2, "and keeps the key");
    let shown = desk.with_pin("admin key show --id 02 --charter CHARTER").json();
    assert_eq!(shown["granted"]["retired"], done["retired"]);
    // It cannot come back, and what follows it may have its place.
    desk.with_pin(
        "admin key import-public --id 02 --charter CHARTER --purpose targets --repository r.example/",
    )
    .refused(78, &["spki: stands in another key too"]);
    desk.enrol();
    desk.init();
    let serve = desk.command("serve");
    let keeper = desk.start_as(serve);
    let mut daemon = keeper.raw();
    let hello =
        record::wire::ToSigner::Hello { proto: record::wire::PROTO, daemon: "t".into(), generation: 0 };
    record::wire::write_message(&mut daemon, &hello).unwrap();
    let Some(record::wire::FromSigner::Welcome(welcome)) = record::wire::read_message(&mut daemon).unwrap()
    else {
        panic!("no welcome")
    };
    let keys: Vec<String> = welcome.keys.iter().map(|k| k.spki.id().to_string()).collect();
    assert_eq!(keys, [second]);
}

#[test]
fn evidence_says_what_it_does_not_prove() {
    let Some(desk) = Desk::new() else { return };
    desk.granted("02");
    let evidence = desk.with_pin("admin key attest --id 02").json();
    assert_eq!(evidence["kind"], "pkcs11-attributes");
    assert_eq!(evidence["module"]["sha256"].as_str().unwrap().len(), 64);
    assert!(evidence["key"]["evidence"].to_string().contains("CKA_NEVER_EXTRACTABLE=true"));
    assert!(evidence["does_not_prove"].to_string().contains("no attestation"));
    assert!(!evidence["token"]["serial"].as_str().unwrap().is_empty());
}

#[test]
fn a_charter_that_others_can_write_is_not_changed() {
    use std::os::unix::fs::PermissionsExt;
    let Some(desk) = Desk::new() else { return };
    std::fs::set_permissions(desk.path("charter.toml"), std::fs::Permissions::from_mode(0o666)).unwrap();
    desk.with_pin(GENERATE).refused(78, &["charter.toml", "0666", "0644"]);
    assert!(desk.logins().is_empty() && desk.keys().is_empty());
}

#[test]
fn a_key_that_no_charter_gets_is_not_used() {
    let Some(desk) = Desk::new() else { return };
    desk.with_pin("admin key generate --id 02 --label t").json();
    desk.with_pin("admin key generate --id 01 --label l --type ed25519 --origin log.example.com").json();
    assert_eq!(desk.signatures(), 0);
}
