//! Yubico's own PKCS#11 module 2.2.

use crate::bench::{Bench, module};
use hsm_sim_yubikey::{PinState, Profile, TouchMode, TouchState};
use std::{fs, time::Duration};

const TOOLS: &[&str] = &["pkcs11-tool", "yubico-piv-tool", "openssl", "libykcs11.so"];
const PATIENCE: Duration = Duration::from_secs(20);

fn sign(bench: &Bench) -> std::process::Command {
    let mut command = bench.tool("pkcs11-tool");
    command.args(["--module", &module("libykcs11.so"), "--login", "--pin", "123456", "--id", "02"]);
    command.args(["-s", "-mECDSA", "-idigest", "-osig", "--signature-format", "openssl"]);
    command
}

#[test]
fn ykcs11_shows_the_card_and_signs_with_a_key_that_always_wants_the_pin() {
    let Some(bench) = Bench::set_up(TOOLS, Profile::V5_4_3) else { return };
    bench.generate("9c", "ECCP256");
    let listed = bench.run("pkcs11-tool", &["--module", &module("libykcs11.so"), "-L"]);
    assert!(listed.contains("YubiKey PIV #5740001"), "{listed}");
    bench.write("digest", &[7; 32]);
    assert!(sign(&bench).status().unwrap().success());
    bench.run(
        "openssl",
        &["pkeyutl", "-verify", "-pubin", "-inkey", "9c.pub", "-in", "digest", "-sigfile", "sig"],
    );
    let last = bench.entries().pop().unwrap().signed;
    assert_eq!(last.signature, fs::read(bench.file("sig")).unwrap());
    assert_eq!(last.pin, PinState::Fresh);
}

#[test]
fn ykcs11_waits_for_the_finger() {
    let Some(bench) = Bench::with(TOOLS, |card| card.profile(Profile::V5_4_3).touch(TouchMode::Manual))
    else {
        return;
    };
    bench.run(
        "yubico-piv-tool",
        &["-rYubico", "-agenerate", "-s9c", "-AECCP256", "--touch-policy=always", "-o9c.pub"],
    );
    bench.write("digest", &[7; 32]);
    let mut signing = sign(&bench).spawn().unwrap();
    bench.card.touch(PATIENCE).unwrap();
    assert!(signing.wait().unwrap().success());
    assert_eq!(bench.entries().pop().unwrap().signed.touch, TouchState::Given);
}
