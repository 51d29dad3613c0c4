//! Cards: listed, shown, enrolled. No PIN is tried, and nothing is changed.

use super::{Desk, SETUP};
use crate::bench::SERIAL;
use hsm_sim_yubikey::{Builder, PinPolicy, Profile, Slot, TouchPolicy};

const ENROL: &str = "admin token enrol --piv-serial SERIAL TRUST --pin-file PIN";

fn two_keys(card: Builder) -> Builder {
    let card = card.key(Slot::SIGNATURE, PinPolicy::Always, TouchPolicy::Always).pin_tries_left(2);
    card.imported_key(Slot::AUTHENTICATION, PinPolicy::Once, TouchPolicy::Cached)
}

#[test]
fn every_card_in_a_reader_is_listed_with_how_it_is_guarded_and_which_slots_have_keys() {
    let Some(desk) = Desk::with(Profile::V5_7_4, two_keys) else { return };
    let listed = desk.run("admin token list --piv").json();
    assert_eq!((&listed["schema"], &listed["held"]), (&"chancery.keeper.yubikeys/v1".into(), &false.into()));
    let card = &listed["cards"][0];
    assert_eq!((&card["serial"], &card["firmware"]), (&SERIAL.into(), &"5.7.4".into()));
    assert_eq!(card["pin"], serde_json::json!({ "factory": true, "tries_left": 2, "tries": 3 }));
    assert_eq!((&card["puk"]["factory"], &card["management_key"]["factory"]), (&true.into(), &true.into()));
    assert_eq!(card["slots"], serde_json::json!(["9a", "9c"]));
    let text = desk.run("admin token list --piv -o text").out;
    assert!(
        text.contains("PIN           FACTORY VALUE, 2 of 3 tries left")
            && text.contains("keys in       9a 9c"),
        "{text}"
    );
    desk.card.remove().unwrap();
    assert_eq!(desk.run("admin token list --piv").json()["cards"], serde_json::json!([]));
    assert_eq!((desk.changes(), desk.pins_given()), (0, 0));
}

#[test]
fn a_card_is_shown_with_its_keys_what_they_want_and_whether_a_keeper_would_use_them() {
    let Some(desk) = Desk::with(Profile::V5_7_4, two_keys) else { return };
    let shown = desk.run("admin token show --piv-serial SERIAL TRUST").json();
    assert_eq!(shown["schema"], "chancery.keeper.yubikey/v1");
    let [cached, always] = shown["keys"].as_array().unwrap().as_slice() else { panic!("{shown}") };
    assert_eq!(
        (&cached["slot"], &cached["usable"], &cached["generated"]),
        (&"9a".into(), &false.into(), &false.into())
    );
    assert!(cached["refused"].as_str().unwrap().contains("cached"), "{cached}");
    assert_eq!((&always["usable"], &always["touch_policy"]), (&true.into(), &"always".into()));
    assert!(always["evidence"].to_string().contains("PIV_ATTESTED=true"), "{always}");
    // Without Yubico's files nothing is proven, and without a wish for proof nothing is claimed.
    let unproven = desk.run("admin token show --piv-serial SERIAL").json();
    assert!(unproven["keys"][1]["refused"].as_str().unwrap().contains("attestation_chain"), "{unproven}");
    let unasked = desk.run("admin token show --piv-serial SERIAL --attestation none").json();
    assert!(unasked["keys"][1]["evidence"].to_string().contains("PIV_ATTESTED=false"), "{unasked}");
    desk.run("admin token show --piv-serial 12345678").refused(70, &["12345678", "other cards are: 5740001"]);
    desk.run("admin token show --piv-serial SERIAL --module m").refused(2, &["--module"]);
    desk.run("admin token show --module m --token-label l TRUST").refused(2, &["--attestation-chain"]);
    assert_eq!((desk.changes(), desk.pins_given()), (0, 0));
}

#[test]
fn an_enrolled_card_is_pinned_with_what_its_keys_must_prove_and_the_rest_of_the_configuration_stays() {
    for profile in Profile::ALL {
        let Some(desk) = Desk::with(profile, |card| card) else { return };
        desk.run(SETUP).json();
        let before = desk.read("keeper.toml");
        let given = desk.pins_given();
        let printed = desk.run(ENROL).json();
        assert_eq!(desk.read("keeper.toml"), before, "printed only");
        assert!(printed.get("warning").is_none(), "{printed}");
        desk.write(
            "keeper.toml",
            &format!(
                "{before}[token] # ours\npiv = {{ serial = 1 }}\ncall_deadline_ms = 30000\npin_fd = 7\n"
            ),
        );
        let written = desk.run(&format!("{ENROL} --config CONFIG --write")).json();
        assert_eq!(written["table"], printed["table"]);
        let after = desk.read("keeper.toml");
        assert!(after.starts_with(&before) && after.contains("call_deadline_ms = 30000"), "{after}");
        assert!(after.contains(&format!("serial = {SERIAL}")) && !after.contains("pin_fd"), "{after}");
        assert_eq!(after.contains("firmware_floor"), profile == Profile::V5_4_3, "{after}");
        assert_eq!(desk.pins_given(), given);
    }
}

#[test]
fn a_card_that_a_keeper_should_not_start_with_is_not_enrolled_and_its_pin_not_tried() {
    let enrol = format!("{ENROL} --config CONFIG --write");
    let refused = |desk: Option<Desk>, words: &str, code: i32, said: &[&str]| {
        let Some(desk) = desk else { return };
        desk.write("pin", "654321\n");
        let before = desk.read("keeper.toml");
        desk.run(words).refused(code, said);
        assert_eq!((desk.read("keeper.toml"), desk.pins_given()), (before, 0));
    };
    refused(Desk::new(), &enrol, 78, &["YubiKey 5740001", "PIN is the factory's", "piv setup"]);
    for (left, word) in [(0, "the PIN is locked"), (1, "only one try is left")] {
        refused(Desk::with(Profile::V5_7_4, |card| card.pin_tries_left(left)), &enrol, 78, &[word]);
    }
    refused(
        Desk::new(),
        &enrol.replace("TRUST", ""),
        70,
        &["attestations prove nothing", "attestation_chain"],
    );
    let old = enrol.replace("TRUST", "--attestation-root ROOT");
    refused(Desk::with(Profile::V5_4_3, |card| card), &old, 70, &["5.4.3", "YSA-2024-03"]);
    refused(Desk::new(), &enrol.replace("TRUST", "--attestation-chain missing.pem"), 78, &["missing.pem"]);
    refused(Desk::new(), &enrol.replace("SERIAL", "12345678"), 70, &["12345678"]);
}
