//! A token of each module in one call: with keys that sign, and gone and back when it is told so.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use hsm_sim::{Module, Provisioned, PublicKey};
use p256::{
    ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier},
    pkcs8::DecodePublicKey,
};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const DIGEST: [u8; 32] = [7; 32];

/// `None`, with the reason printed, if this machine lacks a module that is not required.
fn provision(module: Module, dir: &Path) -> Option<Provisioned> {
    match module.missing() {
        Some(why) if !module.required() => {
            hsm_sim::skip(why);
            None
        }
        _ => Some(module.provision(dir, "fresh", 2).unwrap()),
    }
}

fn sign(token: &Provisioned, key: &PublicKey, dir: &Path) -> Output {
    let (input, output) = (dir.join("digest"), dir.join("signature"));
    fs::write(&input, DIGEST).unwrap();
    let mut tool = token.pkcs11_tool().unwrap();
    tool.args(["--sign", "--mechanism", "ECDSA", "--id", &key.place]);
    tool.arg("--input-file").arg(input).arg("--output-file").arg(output).output().unwrap()
}

fn signs(token: &Provisioned, dir: &Path) {
    for key in token.keys() {
        let before = token.signed().unwrap().len();
        let made = sign(token, key, dir);
        assert!(made.status.success(), "{}: {made:?}", token.module().name());
        let signature = Signature::from_slice(&fs::read(dir.join("signature")).unwrap()).unwrap();
        VerifyingKey::from_public_key_der(&key.spki).unwrap().verify_prehash(&DIGEST, &signature).unwrap();
        assert_eq!(token.signed().unwrap()[before..], [DIGEST.to_vec()], "the token's own word");
    }
}

fn a_fresh_token_signs_goes_and_comes_back(module: Module) {
    let dir = tempfile::tempdir().unwrap();
    let Some(token) = provision(module, &dir.path().join("token")) else { return };
    assert_eq!((token.keys().len(), token.signed().unwrap().len()), (2, 0));
    signs(&token, dir.path());
    let gone = |what: &str| {
        let made = sign(&token, &token.keys()[0], dir.path());
        assert!(!made.status.success(), "{what}: {made:?}");
    };
    if token.faults().is_some() {
        token.remove().unwrap();
        gone("out of its slot");
        token.insert().unwrap();
        signs(&token, dir.path());
    }
    assert_eq!(token.can_be_unplugged(), token.unplug().is_ok());
    if token.can_be_unplugged() {
        gone("unplugged");
        token.plug().unwrap();
        signs(&token, dir.path());
    }
}

#[test]
fn softhsm_in_one_call() {
    a_fresh_token_signs_goes_and_comes_back(Module::SoftHsm);
}

#[test]
fn kryoptic_in_one_call() {
    a_fresh_token_signs_goes_and_comes_back(Module::Kryoptic);
}

#[test]
fn nss_softokn_in_one_call() {
    a_fresh_token_signs_goes_and_comes_back(Module::NssSoftokn);
}

#[test]
fn tpm2_in_one_call() {
    a_fresh_token_signs_goes_and_comes_back(Module::Tpm2);
}

#[test]
fn ykcs11_in_one_call() {
    a_fresh_token_signs_goes_and_comes_back(Module::Ykcs11);
}

#[test]
fn opensc_in_one_call() {
    a_fresh_token_signs_goes_and_comes_back(Module::OpenSc);
}

#[test]
fn a_card_alone_in_one_call() {
    let dir = tempfile::tempdir().unwrap();
    let Some(token) = provision(Module::Piv, dir.path()) else { return };
    let places: Vec<&str> = token.keys().iter().map(|key| key.place.as_str()).collect();
    assert_eq!((places, token.library().unwrap()), (vec!["9a", "9c"], None));
    let serial = token.card_serial().unwrap().to_string();
    let shown = || {
        let status =
            Command::new("yubico-piv-tool").args(["-rYubico", "-astatus"]).envs(token.env()).output();
        String::from_utf8(status.unwrap().stdout).unwrap().contains(&serial)
    };
    assert!(shown());
    token.unplug().unwrap();
    assert!(!shown());
    token.plug().unwrap();
    assert!(shown());
}

#[test]
fn a_folder_with_a_token_and_more_keys_than_there_is_room_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Module::SoftHsm.provision(dir.path(), "first", 0).unwrap();
    let again = Module::SoftHsm.provision(dir.path(), "again", 0);
    assert!(matches!(again, Err(hsm_sim::Error::Occupied { .. })), "{again:?}");
    for module in Module::ALL {
        let keys = module.max_keys() + 1;
        let refused = module.provision(&dir.path().join(module.name()), "many", keys);
        assert!(matches!(refused, Err(hsm_sim::Error::TooManyKeys { .. })), "{refused:?}");
    }
}
