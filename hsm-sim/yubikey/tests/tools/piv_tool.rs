//! `yubico-piv-tool` 2.2, which knows 3DES as management key only and so wants the profile 5.4.3.

use crate::bench::Bench;
use hsm_sim_yubikey::{Operation, PinState, Profile};
use std::fs;

const TOOLS: &[&str] = &["yubico-piv-tool", "openssl"];

fn piv(bench: &Bench, arguments: &[&str]) -> String {
    bench.run("yubico-piv-tool", &[&["-rYubico"], arguments].concat())
}

#[test]
fn a_fresh_card_shows_its_version_serial_and_tries() {
    let Some(bench) = Bench::set_up(TOOLS, Profile::V5_4_3) else { return };
    let text = piv(&bench, &["-astatus"]);
    for expected in ["5.4.3", "5740001", "PIN tries left:\t3"] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_generated_key_is_attested_up_to_the_test_root() {
    let Some(bench) = Bench::set_up(TOOLS, Profile::V5_4_3) else { return };
    bench.generate("9c", "ECCP256");
    bench.write("leaf.pem", piv(&bench, &["-aattest", "-s9c"]).as_bytes());
    bench.write("f9.pem", piv(&bench, &["-aread-certificate", "-sf9"]).as_bytes());
    bench.write("root.der", Profile::V5_4_3.attestation_root());
    bench.run("openssl", &["x509", "-inform", "DER", "-in", "root.der", "-out", "root.pem"]);
    bench.run("openssl", &["verify", "-CAfile", "root.pem", "-untrusted", "f9.pem", "leaf.pem"]);
    let public = bench.run("openssl", &["x509", "-in", "leaf.pem", "-noout", "-pubkey"]);
    assert_eq!(public, fs::read_to_string(bench.file("9c.pub")).unwrap());
    assert_eq!(bench.entries()[0].signed.operation, Operation::Attest);
}

#[test]
fn every_algorithm_of_the_profile_signs_and_verifies() {
    let Some(bench) = Bench::set_up(TOOLS, Profile::V5_4_3) else { return };
    for algorithm in ["ECCP256", "ECCP384", "RSA1024", "RSA2048"] {
        bench.generate("9c", algorithm);
        bench.certify("9c");
        let text = piv(&bench, &["-averify-pin", "-P123456", "-atest-signature", "-s9c", "-i9c.pem"]);
        assert!(text.contains("Successful") && text.contains("verification"), "{text}");
        let last = bench.entries().pop().unwrap().signed;
        assert_eq!((last.operation, last.pin), (Operation::Sign, PinState::Fresh));
    }
}

#[test]
fn without_the_pin_nothing_is_signed() {
    let Some(bench) = Bench::set_up(TOOLS, Profile::V5_4_3) else { return };
    bench.generate("9c", "ECCP256");
    bench.certify("9c");
    bench.fail("yubico-piv-tool", &["-rYubico", "-atest-signature", "-s9c", "-i9c.pem"]);
    assert_eq!(bench.entries(), []);
}

#[test]
fn pin_and_puk_are_changed_and_a_blocked_pin_is_unblocked() {
    let Some(bench) = Bench::set_up(TOOLS, Profile::V5_4_3) else { return };
    piv(&bench, &["-achange-pin", "-P123456", "-N654321"]);
    piv(&bench, &["-achange-puk", "-P12345678", "-N87654321"]);
    for left in ["2 tries", "1 tries", "0"] {
        let text = bench.fail("yubico-piv-tool", &["-rYubico", "-averify-pin", "-P123456"]);
        assert!(text.contains(left) || text.contains("locked"), "{text}");
    }
    piv(&bench, &["-aunblock-pin", "-P87654321", "-N111111"]);
    piv(&bench, &["-averify-pin", "-P111111"]);
}

#[test]
fn a_card_is_reset_when_pin_and_puk_are_blocked_and_not_before() {
    let Some(bench) = Bench::set_up(TOOLS, Profile::V5_4_3) else { return };
    bench.generate("9c", "ECCP256");
    bench.fail("yubico-piv-tool", &["-rYubico", "-areset"]);
    for _ in 0..3 {
        bench.fail("yubico-piv-tool", &["-rYubico", "-averify-pin", "-P000000"]);
        bench.fail("yubico-piv-tool", &["-rYubico", "-achange-puk", "-P00000000", "-N11111111"]);
    }
    piv(&bench, &["-areset"]);
    piv(&bench, &["-averify-pin", "-P123456"]);
    bench.fail("yubico-piv-tool", &["-rYubico", "-aattest", "-s9c"]);
}

#[test]
fn the_management_key_is_replaced() {
    let Some(bench) = Bench::set_up(TOOLS, Profile::V5_4_3) else { return };
    let key = "a1b2c3d4e5f60718293a4b5c6d7e8f900102030405060708";
    piv(&bench, &["-aset-mgm-key", "-n", key]);
    bench.fail("yubico-piv-tool", &["-rYubico", "-aset-chuid"]);
    let with_key = format!("-k{key}");
    piv(&bench, &[&with_key, "-aset-chuid"]);
    assert!(!piv(&bench, &["-astatus"]).contains("CHUID:\tNo data"));
}

#[test]
fn no_secret_stands_in_the_apdu_log() {
    let Some(bench) = Bench::set_up(TOOLS, Profile::V5_4_3) else { return };
    piv(
        &bench,
        &["-averify-pin", "-P123456", "-aset-mgm-key", "-na1b2c3d4e5f60718293a4b5c6d7e8f900102030405060708"],
    );
    piv(&bench, &["-achange-pin", "-P123456", "-N654321"]);
    let log = fs::read_to_string(bench.file("apdus")).unwrap();
    for secret in ["313233343536", "363534333231", "a1b2c3d4"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    assert!(log.contains("hidden"), "{log}");
}
