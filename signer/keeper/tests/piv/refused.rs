//! What a keeper does not start with: a PIN that is wrong or almost locked, and keys that prove too little.

use crate::bench::{Bench, SERIAL, Setup};
use hsm_sim_yubikey::{PinPolicy, Profile, Slot, TouchPolicy};

/// The keeper ends with 78, which no supervisor starts again, says these words, and no key was used.
fn refuses(bench: &Bench, words: &[&str]) {
    let (code, said) = bench.start_in_vain();
    assert_eq!(code, 78, "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(bench.signed(), []);
}

#[test]
fn a_wrong_pin_is_tried_exactly_once() {
    let Some(bench) = Bench::new(&Setup::usual()) else { return };
    bench.write("pin", "654321");
    refuses(&bench, &["the PIN was refused", "2 tries are left"]);
    assert_eq!((bench.verifies(), bench.pin_tries_left()), (1, 2));
}

#[test]
fn a_pin_is_not_tried_when_it_could_be_the_last_try_or_is_none() {
    let Some(bench) = Bench::with(&Setup::usual(), |card| card.pin_tries_left(1)) else { return };
    refuses(&bench, &["only one try is left"]);
    bench.write("pin", "12345");
    refuses(&bench, &["6 to 8 bytes"]);
    assert_eq!((bench.verifies(), bench.pin_tries_left()), (0, 1));
}

#[test]
fn a_locked_pin_is_named() {
    let Some(bench) = Bench::with(&Setup::usual(), |card| card.pin_tries_left(0)) else { return };
    refuses(&bench, &["the PIN is locked"]);
    assert_eq!(bench.verifies(), 0);
}

#[test]
fn a_test_root_that_the_configuration_does_not_name_proves_nothing() {
    let Some(bench) = Bench::new(&Setup { root: false, ..Setup::usual() }) else { return };
    refuses(&bench, &[&SERIAL.to_string(), "slot 9c", "TEST", "attestation_roots"]);
}

#[test]
fn a_card_with_another_serial_number_is_not_the_one() {
    let Some(bench) = Bench::new(&Setup::usual()) else { return };
    let config = std::fs::read_to_string(bench.path("keeper.toml")).unwrap();
    bench.write("keeper.toml", &config.replace(&SERIAL.to_string(), "12345678"));
    let (code, said) = bench.start_in_vain();
    assert_eq!(code, 70, "it may come: {said}");
    assert!(said.contains("12345678") && said.contains(&format!("other cards are: {SERIAL}")), "{said}");
    assert_eq!((bench.verifies(), bench.attestations()), (0, 0));
}

#[test]
fn another_slots_key_and_an_empty_slot_are_not_the_pinned_key() {
    let setup = Setup { charter: "slot = \"9a\"\ntouch = \"always\"", ..Setup::usual() };
    let other = |card: hsm_sim_yubikey::Builder| {
        card.key(Slot::AUTHENTICATION, PinPolicy::Always, TouchPolicy::Always)
    };
    let Some(bench) = Bench::with(&setup, other) else { return };
    refuses(&bench, &["slot 9a", "not the pinned one"]);
    let Some(bench) = Bench::new(&setup) else { return };
    refuses(&bench, &["slot 9a", "there is no key in it"]);
}

#[test]
fn an_old_firmware_is_refused_for_ecdsa_unless_the_configuration_lowers_the_floor() {
    let old = || Setup { profile: Profile::V5_4_3, ..Setup::usual() };
    let Some(bench) = Bench::new(&old()) else { return };
    refuses(&bench, &["5.4.3", "5.7.0", "YSA-2024-03"]);
    let Some(bench) = Bench::new(&Setup { more: ", firmware_floor = '5.4.0'", ..old() }) else { return };
    let keeper = bench.start();
    assert!(keeper.connect().welcome.keys[0].evidence.contains(&"PIV_FIRMWARE=5.4.3".to_owned()));
}

#[test]
fn a_cached_touch_is_no_touch() {
    for charter in ["slot = \"9c\"\ntouch = \"always\"", "slot = \"9c\""] {
        let setup = Setup { touch: TouchPolicy::Cached, charter, ..Setup::usual() };
        let Some(bench) = Bench::new(&setup) else { return };
        refuses(&bench, &["slot 9c", "cached"]);
    }
}

#[test]
fn the_charter_and_the_slot_must_agree_about_the_touch() {
    let Some(bench) = Bench::new(&Setup { touch: TouchPolicy::Never, ..Setup::usual() }) else { return };
    refuses(&bench, &["charter.toml", "touch is \"always\"", "\"never\""]);
    let Some(bench) = Bench::new(&Setup { charter: "slot = \"9c\"", ..Setup::usual() }) else { return };
    refuses(&bench, &["charter.toml", "touch is \"never\"", "\"always\""]);
}

#[test]
fn an_imported_key_proves_nothing_and_is_taken_only_if_no_proof_is_asked_for() {
    let imported = || Setup { imported: true, ..Setup::usual() };
    let Some(bench) = Bench::new(&imported()) else { return };
    refuses(&bench, &["slot 9c", "was imported"]);
    let Some(bench) = Bench::new(&Setup { more: ", attestation = 'none'", ..imported() }) else { return };
    let keeper = bench.start();
    let evidence = keeper.connect().welcome.keys[0].evidence.clone();
    for word in ["PIV_ATTESTED=false", "PIV_GENERATED=false"] {
        assert!(evidence.contains(&word.to_owned()), "{evidence:?}");
    }
    assert_eq!(bench.attestations(), 0);
}

#[test]
fn a_key_named_by_cka_id_is_none_of_a_cards() {
    let Some(bench) = Bench::new(&Setup { charter: "cka_id = \"9c\"", ..Setup::usual() }) else { return };
    let (code, said) = bench.start_in_vain();
    assert!(code != 0 && said.contains("name its slot"), "{code}: {said}");
}
