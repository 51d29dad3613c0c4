//! The forwarder in front of a real token, used by a program that knows nothing of it.

use crate::bench::{self, Bench, SMALL_FILES_ONLY, assert_failure_says, assert_success};
use hsm_sim::{Entry, Error, Journal, SignFunction};
use p256::{
    ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier},
    pkcs8::DecodePublicKey,
};
use sha2::{Digest, Sha256};
use std::{fs, path::Path, process::Command};

#[test]
fn the_module_loads_and_leaves_an_empty_journal() {
    let Some(bench) = Bench::set_up(&[]) else { return };
    let listed = bench.tool(bench.journaled.module()).arg("-M").output().unwrap();
    assert_success(&listed);
    assert!(bench::said(&listed).contains("ECDSA"), "{}", bench::said(&listed));
    assert_eq!(bench.entries(), []);
}

#[test]
fn the_journal_has_exactly_the_signature_that_the_key_made() {
    let Some(bench) = Bench::set_up(&[]) else { return };
    bench.key_pair("a1", "EC:prime256v1");
    let digest = Sha256::digest(b"chancery");
    let input = bench.written("digest", &digest);
    let signed = bench.sign(&mut bench.tool(bench.journaled.module()), "a1", "ECDSA", &input);
    assert_success(&signed);

    let entries = bench.entries();
    let [
        Entry::Login { rv: 0, .. },
        Entry::Signature { key_id, mechanism, input_sha256, input, signature, .. },
    ] = entries.as_slice()
    else {
        panic!("{entries:?}")
    };
    assert_eq!((key_id.as_slice(), *mechanism), ([0xa1].as_slice(), 0x1041));
    assert_eq!(input.as_deref(), Some(digest.as_slice()));
    assert_eq!(input_sha256, Sha256::digest(digest).as_slice());
    assert_eq!(*signature, fs::read(bench.file("signature")).unwrap());
    let key = VerifyingKey::from_public_key_der(&fs::read(bench.public_key("a1")).unwrap()).unwrap();
    key.verify_prehash(&digest, &Signature::from_slice(signature).unwrap()).unwrap();
}

#[test]
fn the_line_is_on_disk_before_the_caller_has_the_signature() {
    let Some(bench) = Bench::set_up(&["strace"]) else { return };
    bench.key_pair("a1", "EC:prime256v1");
    let input = bench.written("digest", &[7; 32]);
    let trace = bench.file("trace");
    let strace =
        ["strace", "-f", "-e", "trace=write,fdatasync,openat", "-o", trace.to_str().unwrap(), "pkcs11-tool"];
    let mut command = bench.tool_under(&strace, bench.journaled.module());
    assert_success(&bench.sign(&mut command, "a1", "ECDSA", &input));

    let text = fs::read_to_string(trace).unwrap();
    let calls: Vec<&str> = text.lines().collect();
    let after = |from: usize, part: &str| {
        let found = calls.iter().skip(from).position(|call| call.contains(part));
        from + found.unwrap_or_else(|| panic!("no {part:?} from line {from} of: {text}"))
    };
    let login = after(0, "\\\"n\\\":1");
    let synced = after(login, "fdatasync(");
    let line = after(synced, "\\\"n\\\":2");
    assert!(calls[line].contains("write("), "{}", calls[line]);
    let synced = after(line, "fdatasync(");
    assert!(calls[synced].ends_with("= 0"), "{}", calls[synced]);
    assert!(after(line, "/signature\"") > synced, "{text}");
}

#[test]
fn an_input_in_parts_is_one_line_with_its_hash() {
    let Some(bench) = Bench::set_up(&["openssl"]) else { return };
    bench.key_pair("b2", "RSA:2048");
    let message = vec![0x5a; 5000];
    let input = bench.written("message", &message);
    let signed = bench.sign(&mut bench.tool(bench.journaled.module()), "b2", "SHA256-RSA-PKCS", &input);
    assert_success(&signed);

    let entries = bench.entries();
    let [_, Entry::Signature { function, input: None, input_sha256, signature, .. }] = entries.as_slice()
    else {
        panic!("{entries:?}")
    };
    assert_eq!(*function, SignFunction::SignFinal);
    assert_eq!(input_sha256, Sha256::digest(&message).as_slice());
    let journaled = bench.written("journaled", signature);
    let verified = Command::new("openssl")
        .args(["dgst", "-sha256", "-keyform", "DER", "-verify"])
        .args([&bench.public_key("b2"), Path::new("-signature"), &journaled, &input])
        .output()
        .unwrap();
    assert_success(&verified);
}

#[test]
fn a_wrong_pin_is_journaled_by_its_answer_and_never_by_itself() {
    let Some(bench) = Bench::set_up(&[]) else { return };
    let tried = bench
        .tool(bench.journaled.module())
        .args(["--login", "--pin", "8642097531", "--list-objects"])
        .output()
        .unwrap();
    assert_failure_says(&tried, &["CKR_PIN_INCORRECT"]);
    assert!(matches!(bench.entries().as_slice(), [Entry::Login { rv: 0xa0, n: 1, .. }]));
    assert!(!fs::read_to_string(&bench.journal).unwrap().contains("8642097531"));
}

#[test]
fn a_signature_whose_line_does_not_fit_on_the_disk_is_withheld() {
    let Some(bench) = Bench::set_up(&["prlimit", "sh"]) else { return };
    bench.key_pair("a1", "EC:prime256v1");
    let input = bench.written("digest", &[7; 32]);
    let program = [&SMALL_FILES_ONLY, ["pkcs11-tool"].as_slice()].concat();
    let mut command = bench.tool_under(&program, bench.journaled.module());
    let signed = bench.sign(&mut command, "a1", "ECDSA", &input);

    assert_failure_says(&signed, &["C_Sign: the journal cannot be kept"]);
    assert!(fs::read(bench.file("signature")).unwrap_or_default().is_empty());
    assert!(matches!(Journal::read(&bench.journal), Err(Error::JournalTorn { line: 2, .. })));
}

#[test]
fn a_login_that_cannot_be_journaled_fails() {
    let Some(bench) = Bench::set_up(&[]) else { return };
    bench.key_pair("a1", "EC:prime256v1");
    let input = bench.written("digest", &[7; 32]);
    let mut command = bench.tool(bench.journaled.module());
    command.env("HSM_SIM_JOURNAL", "/dev/full");
    let signed = bench.sign(&mut command, "a1", "ECDSA", &input);
    assert_failure_says(&signed, &["C_Login", "CKR_GENERAL_ERROR", "/dev/full"]);
}

#[test]
fn without_a_journal_a_real_module_or_a_control_folder_that_is_named_nothing_loads() {
    let Some(bench) = Bench::set_up(&[]) else { return };
    let forwarder = bench.journaled.module().to_str().unwrap();
    for (variable, value, text) in [
        ("HSM_SIM_JOURNAL", "relative", "must be absolute"),
        ("HSM_SIM_JOURNAL", "/no/such/folder/journal", "cannot be opened"),
        ("HSM_SIM_MODULE", "/no/such/module.so", "cannot be loaded"),
        ("HSM_SIM_MODULE", forwarder, "the forwarder itself"),
        ("HSM_SIM_CONTROL", "relative", "must be absolute"),
        ("HSM_SIM_CONTROL", "/no/such/folder", "is the control folder still there?"),
    ] {
        let tried = bench.tool(bench.journaled.module()).arg("-M").env(variable, value).output().unwrap();
        assert_failure_says(&tried, &[text]);
    }
    let tried = bench.tool(bench.journaled.module()).arg("-M").env_remove("HSM_SIM_MODULE").output().unwrap();
    assert_failure_says(&tried, &["HSM_SIM_MODULE is not set"]);
}
