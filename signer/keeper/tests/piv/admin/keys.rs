//! Keys on a card that were made before: shown, proven, granted, retired.

use super::{Desk, GRANT, SETUP};
use hsm_sim_yubikey::{Builder, PinPolicy, Profile, Slot, TouchPolicy};

const IMPORT: &str = "admin key import-public --piv-serial SERIAL --slot 9c --pin-file PIN";

fn card(touch: TouchPolicy) -> impl FnOnce(Builder) -> Builder {
    move |card| card.key(Slot::SIGNATURE, PinPolicy::Always, touch)
}

#[test]
fn a_key_that_was_made_before_is_granted_after_its_proof_and_a_test_signature() {
    let Some(desk) = Desk::with(Profile::V5_7_4, card(TouchPolicy::Always)) else { return };
    desk.write("pin", "123456\n");
    let made = desk.run(&format!("{IMPORT} TRUST {GRANT}")).json();
    assert_eq!((&made["schema"], &made["slot"]), (&"chancery.keeper.key/v1".into(), &"9c".into()));
    assert!(made["evidence"].to_string().contains("PIV_ATTESTED=true"), "{made}");
    assert!(desk.read("charter.toml").contains("slot = \"9c\"\ntouch = \"always\"\n"));
    assert_eq!((desk.signatures(), desk.changes(), desk.tries_left()), (1, 0, (3, 3)));
    desk.run(&format!("{IMPORT} TRUST {GRANT}"))
        .refused(78, &["charter.toml", "key 2, slot: 9c stands in another key too"]);
    let listed = desk.run("admin key list --piv-serial SERIAL TRUST --charter CHARTER").json();
    assert_eq!(listed["keys"][0]["granted"]["repositories"][0], "r.example/team/");
    let shown = desk.run("admin key show --piv-serial SERIAL --slot 9c TRUST -o text").out;
    assert!(
        shown.contains("slot          9c\n") && shown.contains("policies      PIN always, touch always\n"),
        "{shown}"
    );
    // It is retired by its id, as any other.
    let id = made["id"].as_str().unwrap();
    let retired = desk.run(&format!("admin key retire {id} --charter CHARTER")).json();
    assert_eq!((&retired["slot"], retired.get("cka_id")), (&"9c".into(), None));
    let text = desk.run(&format!("admin key retire {id} --charter CHARTER -o text")).out;
    assert!(text.contains("(slot 9c)"), "{text}");
    let shown = desk.run("admin key show --piv-serial SERIAL --slot 9c TRUST --charter CHARTER").json();
    assert_eq!(shown["granted"]["retired"], retired["retired"]);
}

#[test]
fn a_key_that_proves_too_little_is_not_granted_and_its_card_not_given_a_pin() {
    let import = format!("{IMPORT} TRUST {GRANT}");
    let refused = |desk: Option<Desk>, words: &str, said: &[&str]| {
        let Some(desk) = desk else { return };
        desk.write("pin", "123456\n");
        desk.run(words).refused(78, said);
        assert_eq!((desk.pins_given(), desk.signatures()), (0, 0));
        assert!(!desk.read("charter.toml").contains("[[key]]"));
    };
    let imported = |card: Builder| card.imported_key(Slot::SIGNATURE, PinPolicy::Always, TouchPolicy::Always);
    refused(Desk::with(Profile::V5_7_4, imported), &import, &["slot 9c", "was imported"]);
    refused(Desk::with(Profile::V5_7_4, card(TouchPolicy::Cached)), &import, &["slot 9c", "cached"]);
    refused(Desk::new(), &import, &["slot 9c", "there is no key in it"]);
    let untrusted = import.replace("TRUST", "--attestation-chain CHAIN");
    refused(Desk::with(Profile::V5_7_4, card(TouchPolicy::Always)), &untrusted, &["proves nothing"]);
    let old = import.replace("TRUST", "--attestation-root ROOT");
    refused(Desk::with(Profile::V5_4_3, card(TouchPolicy::Always)), &old, &["5.4.3", "YSA-2024-03"]);
    let ed25519 = |card: Builder| card.ed25519_key(Slot::SIGNATURE, PinPolicy::Always, TouchPolicy::Never);
    refused(
        Desk::with(Profile::V5_7_4, ed25519),
        &import,
        &["a root key is a P-256 key", "ed25519", "--type p256"],
    );
    let both = import.replace("--slot 9c", "--id 02");
    let Some(desk) = Desk::new() else { return };
    desk.run(&both).refused(2, &["--module"]);
}

#[test]
fn an_imported_key_is_granted_where_no_proof_is_asked_for_and_says_so() {
    let imported = |card: Builder| card.imported_key(Slot::SIGNATURE, PinPolicy::Once, TouchPolicy::Never);
    let Some(desk) = Desk::with(Profile::V5_7_4, imported) else { return };
    desk.write("pin", "123456\n");
    let made = desk.run(&format!("{IMPORT} --attestation none {GRANT}")).json();
    assert!(made["evidence"].to_string().contains("PIV_ATTESTED=false"), "{made}");
    let charter = desk.read("charter.toml");
    assert!(charter.contains("slot = \"9c\"\npurpose"), "touch is never, the default: {charter}");
    desk.run("admin key attest --piv-serial SERIAL --slot 9c --attestation none")
        .refused(78, &["nothing to prove"]);
    desk.run("admin key attest --piv-serial SERIAL --slot 9c TRUST").refused(78, &["was imported"]);
}

#[test]
fn a_wrong_pin_is_tried_once_and_the_key_not_granted() {
    let Some(desk) = Desk::with(Profile::V5_7_4, card(TouchPolicy::Never)) else { return };
    desk.write("pin", "654321\n");
    desk.run(&format!("{IMPORT} TRUST {GRANT}")).refused(78, &["YubiKey 5740001", "2 tries are left"]);
    assert_eq!((desk.pins_given(), desk.tries_left()), (1, (2, 3)));
    assert!(!desk.read("charter.toml").contains("[[key]]"));
}

#[test]
fn the_proof_of_a_key_says_what_it_does_not_prove() {
    let Some(desk) = Desk::new() else { return };
    desk.run(SETUP).json();
    let proof = desk.run("admin key attest --piv-serial SERIAL --slot 9c TRUST").json();
    assert_eq!((&proof["kind"], proof["chain"].as_array().unwrap().len()), (&"piv-attestation".into(), 5));
    assert!(proof["does_not_prove"].to_string().contains("who has the card"), "{proof}");
    assert!(proof.get("files").is_none() && proof.get("check").is_none());
}
