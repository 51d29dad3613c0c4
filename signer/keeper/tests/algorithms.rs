//! The token by itself, with every kind of key: a child of this test opens a real SoftHSM behind the fault-injecting
//! module, which finds its configuration in the environment.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

#[path = "support/place.rs"]
#[expect(dead_code, reason = "shared with other tests")]
mod place;
#[path = "support/traced.rs"]
#[expect(dead_code, reason = "shared with other tests")]
mod traced;

use base64::{Engine, engine::general_purpose::STANDARD};
use hsm_sim::{Faults, Insertion, Rule, Token as Shown};
use keeper::config::{PinSource, Pkcs11Config, TokenConfig};
use keeper::token::{self, CkaId, Key, KeyRef, PublicKey, Token, TokenError};
use place::Place;
use record::{Algorithm, Completion, Leaf, SignedData};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// The kinds of keys, with the ids that they have here.
const KINDS: [(&str, &str); 5] =
    [("01", "p256"), ("02", "p384"), ("03", "rsa2048"), ("04", "rsa3072"), ("05", "ed25519")];

/// What the child is told.
const MODULE: &str = "CHILD_MODULE";
const PIN: &str = "CHILD_PIN";
const KEYS: &str = "CHILD_KEYS";
const FOLDER: &str = "CHILD_FOLDER";

/// Runs the child test of this name on a fresh token with a key of each kind.
fn child(name: &str) {
    let Some(place) = Place::new("kinds") else { return };
    let keys: Vec<serde_json::Value> = KINDS
        .iter()
        .map(|(id, kind)| {
            let made = place.generate(id, kind, &[]);
            assert!(made.status.success(), "{kind}: {}", String::from_utf8_lossy(&made.stderr));
            let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
            assert_eq!(made["type"], *kind);
            made
        })
        .collect();
    // The child makes the control folder.
    let faults = Faults::create(&place.path("faults")).unwrap();
    let journaled = place.token.journaled_with(&place.path("journal.jsonl"), &faults).unwrap();
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .envs(journaled.env())
        .env(MODULE, journaled.module())
        .env(PIN, place.token.pin_file())
        .env(KEYS, serde_json::to_string(&keys).unwrap())
        .env(FOLDER, place.path("faults"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(
        ended.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&ended.stderr)
    );
}

/// The token as a keeper opens it, and its keys in the order of [`KINDS`].
fn open() -> (Arc<dyn Token>, Vec<Key>) {
    let env = |name| std::env::var(name).unwrap();
    let config = TokenConfig::Pkcs11(Pkcs11Config {
        module: PathBuf::from(env(MODULE)),
        label: "kinds".into(),
        serial: None,
        pin: PinSource::File(PathBuf::from(env(PIN))),
        sessions: 2,
        call_deadline_ms: 20_000,
    });
    let token = token::open(&config).unwrap_or_else(|e| panic!("{e}"));
    let printed: Vec<serde_json::Value> = serde_json::from_str(&env(KEYS)).unwrap();
    let key = |printed: &serde_json::Value| {
        let text = |name: &str| printed[name].as_str().map(|text| STANDARD.decode(text).unwrap());
        let public = match text("spki") {
            Some(der) => PublicKey::from_spki_der(&der).unwrap(),
            None => PublicKey::Ed25519(text("public_key").unwrap().try_into().unwrap()),
        };
        let id = KeyRef::CkaId(CkaId::parse(printed["cka_id"].as_str().unwrap()).unwrap());
        token.key(&id, &public).unwrap_or_else(|e| panic!("{e}"))
    };
    let keys = printed.iter().map(key).collect();
    (token, keys)
}

/// Signs with each key; what is returned was verified, and makes a completion that an auditor verifies again.
fn sign_all(token: &dyn Token, keys: &[Key]) {
    for (key, (_, kind)) in keys.iter().zip(KINDS) {
        let spki = key.public().spki().unwrap();
        assert_eq!(spki.algorithm().as_str(), kind);
        let data = SignedData::of(spki.algorithm(), b"content").unwrap();
        let signature = token.sign(key, &data, &|_| {}).unwrap_or_else(|e| panic!("{kind}: {e}"));
        let leaf = Leaf::Completion(Completion::new(spki, data, signature).unwrap()).encode().unwrap();
        let Leaf::Completion(read) = Leaf::decode(&leaf).unwrap() else { panic!("{kind}") };
        assert!(read.verifies(), "{kind}");
    }
}

/// A digest as P-256 keys sign it.
fn digest() -> SignedData {
    SignedData::of(Algorithm::EcdsaP256, b"content").unwrap()
}

#[test]
fn every_kind_of_key_signs_what_its_completion_names_and_nothing_in_another_kinds_form() {
    child("child_signs_with_every_kind");
}

#[test]
#[ignore = "the child of another test"]
fn child_signs_with_every_kind() {
    let (token, keys) = open();
    sign_all(token.as_ref(), &keys);
    for key in &keys {
        let kind = key.public().spki().unwrap().algorithm();
        for other in Algorithm::ALL {
            let data = SignedData::of(other, b"content").unwrap();
            let same_form = data == SignedData::of(kind, b"content").unwrap();
            let signed = token.sign(key, &data, &|_| {});
            assert!(same_form == signed.is_ok(), "{kind}, asked as {other}: {signed:?}");
            assert!(same_form || matches!(signed, Err(TokenError::NotSigned { .. })));
        }
    }
}

#[test]
fn keys_that_want_their_pin_at_each_use_sign_and_say_so_in_their_evidence() {
    child("child_signs_with_the_pin_at_each_use");
}

#[test]
#[ignore = "the child of another test"]
fn child_signs_with_the_pin_at_each_use() {
    let faults = emptied();
    faults.set_token(Shown::default().always_authenticate().raw_ec_point()).unwrap();
    let (token, keys) = open();
    sign_all(token.as_ref(), &keys);
    sign_all(token.as_ref(), &keys);
    for key in &keys {
        assert_eq!(key.evidence()[0], "CKA_ALWAYS_AUTHENTICATE=true");
        assert!(key.evidence().is_sorted());
    }
}

#[test]
fn a_token_that_comes_back_with_another_key_under_the_same_id_signs_nothing() {
    if let Some(missing) = hsm_sim::missing(&["pkcs11-tool"]) {
        return hsm_sim::skip(missing);
    }
    child("child_meets_another_key");
}

#[test]
#[ignore = "the child of another test"]
fn child_meets_another_key() {
    let faults = emptied();
    let (token, keys) = open();
    let digest = digest();
    token.sign(&keys[0], &digest, &|_| {}).unwrap();
    faults.remove_token().unwrap();
    replace_key_01();
    faults.insert_token(Insertion::default()).unwrap();
    for _ in 0..3 {
        let error = token.sign(&keys[0], &digest, &|_| {}).unwrap_err();
        assert!(matches!(&error, TokenError::Busy { code, .. } if code.as_str() == "token-gone"), "{error}");
    }
    assert!(token.ended().is_none());
}

/// INVARIANT(one-try)
#[test]
fn threads_that_need_the_pin_at_once_spend_one_try_of_a_wrong_one() {
    child("child_spends_one_try");
}

#[test]
#[ignore = "the child of another test"]
fn child_spends_one_try() {
    let faults = emptied();
    faults.set_token(Shown::default().always_authenticate()).unwrap();
    let (token, keys) = open();
    let wrong = faults.add(Rule::answer("C_Login", "CKR_PIN_INCORRECT")).unwrap();
    let digest = digest();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let error = token.sign(&keys[0], &digest, &|_| {}).unwrap_err();
                assert!(
                    matches!(&error, TokenError::NotSigned { code, .. } if code.as_str() == "token-pin"),
                    "{error}"
                );
            });
        }
    });
    assert_eq!(faults.fired(&wrong).unwrap(), 1);
    assert_eq!(token.ended().unwrap().code(), 78);
}

/// INVARIANT(one-signature)
#[test]
fn a_signature_that_may_exist_is_never_followed_by_another() {
    child("child_may_have_signed");
}

#[test]
#[ignore = "the child of another test"]
fn child_may_have_signed() {
    let faults = emptied();
    let (token, keys) = open();
    let digest = digest();
    for rv in ["CKR_DEVICE_ERROR", "CKR_SESSION_CLOSED", "CKR_FUNCTION_FAILED", "CKR_BUFFER_TOO_SMALL"] {
        let rule = faults.add(Rule::answer("C_Sign", rv).after()).unwrap();
        let error = token.sign(&keys[0], &digest, &|_| {}).unwrap_err();
        assert!(matches!(error, TokenError::Unknown { .. }), "{rv}: {error}");
        assert_eq!(faults.fired(&rule).unwrap(), 1, "{rv}");
        faults.release(&rule).unwrap();
        sign_all(token.as_ref(), &keys);
    }
}

/// The control folder that the parent made, as new.
fn emptied() -> Faults {
    let folder = PathBuf::from(std::env::var(FOLDER).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
    Faults::create(&folder).unwrap()
}

/// What somebody with the token in his hands may do: the id is the old one, the key is not.
fn replace_key_01() {
    let module = std::env::var("HSM_SIM_MODULE").unwrap();
    let pin = std::fs::read_to_string(std::env::var(PIN).unwrap()).unwrap();
    let tool = |words: &[&str]| {
        let mut command = Command::new("pkcs11-tool");
        command.args([
            "--module",
            &module,
            "--token-label",
            "kinds",
            "--login",
            "--pin",
            pin.trim(),
            "--id",
            "01",
        ]);
        let done = command.args(words).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    tool(&["--delete-object", "--type", "privkey"]);
    tool(&["--delete-object", "--type", "pubkey"]);
    tool(&["--keypairgen", "--key-type", "EC:prime256v1", "--label", "k", "--sensitive"]);
}
