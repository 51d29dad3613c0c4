//! OpenSC 0.23: its own reading of PIV, short APDUs and chaining.

use crate::bench::{Bench, module};
use hsm_sim_yubikey::Profile;

const TOOLS: &[&str] =
    &["opensc-tool", "pkcs11-tool", "piv-tool", "yubico-piv-tool", "openssl", "opensc-pkcs11.so"];

fn pkcs11(bench: &Bench, arguments: &[&str]) -> String {
    let module = module("opensc-pkcs11.so");
    bench.run("pkcs11-tool", &[&["--module", &module, "--login", "--pin", "123456"], arguments].concat())
}

#[test]
fn opensc_takes_the_card_for_a_piv_card() {
    let Some(bench) = Bench::set_up(TOOLS, Profile::V5_7_4) else { return };
    let text = bench.run("opensc-tool", &["-r0", "-n"]);
    assert!(text.contains("Personal Identity Verification Card"), "{text}");
    assert!(bench.run("opensc-tool", &["-r0", "-a"]).contains("59:75:62:69:4b:65:79:40"));
}

#[test]
fn opensc_signs_with_a_key_that_always_wants_the_pin() {
    let Some(bench) = Bench::set_up(TOOLS, Profile::V5_4_3) else { return };
    bench.generate("9c", "ECCP256");
    bench.certify("9c");
    bench.write("digest", &[7; 32]);
    pkcs11(&bench, &["--id", "02", "-s", "-mECDSA", "-idigest", "-osig", "--signature-format", "openssl"]);
    bench.run(
        "openssl",
        &["pkeyutl", "-verify", "-pubin", "-inkey", "9c.pub", "-in", "digest", "-sigfile", "sig"],
    );
    let entries = bench.entries();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].signed.signature, std::fs::read(bench.file("sig")).unwrap());
}

#[test]
fn opensc_passes_its_own_test_with_an_rsa_key() {
    let Some(bench) = Bench::set_up(TOOLS, Profile::V5_4_3) else { return };
    bench.generate("9a", "RSA2048");
    bench.certify("9a");
    // The card has no GET CHALLENGE, as a real one: C_GenerateRandom is the one thing that fails.
    let text = pkcs11(&bench, &["--test"]);
    assert!(text.contains("all 4 signature functions seem to work"), "{text}");
    assert!(text.contains("C_GenerateRandom failed") && text.contains("1 errors"), "{text}");
}
