//! Signed entry timestamps: what the keeper says with its SET key, and what it never says.

use crate::rig::{Daemon, Rig, leaves, refusal};
use ed25519_dalek::Signer;
use formats::sigstore::EntryTimestamp;
use p256::ecdsa::{Signature as P256Signature, SigningKey, signature::hazmat::PrehashSigner};
use record::wire::{FromLog, ToLog};
use record::{Algorithm, Clock, Completion, Leaf, Sha256, Signature, SignedData, Spki, SystemClock};
use serde_json::json;
use tlog::LogKey;

/// A signature over a text, as the log has it.
fn completion(text: &str) -> Completion {
    completion_of(Sha256::of(text.as_bytes()), Sha256::of(text.as_bytes()))
}

/// One over a digest that says it were over another.
fn completion_of(signed: Sha256, said: Sha256) -> Completion {
    let key = SigningKey::from_slice(&[7; 32]).unwrap();
    let made: P256Signature = key.sign_prehash(signed.as_bytes()).unwrap();
    let spki = Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
    Completion::new(spki, SignedData::Sha256(said), Signature::from_raw(&made.to_bytes()).unwrap()).unwrap()
}

fn leaf(completion: &Completion) -> Vec<u8> {
    Leaf::Completion(completion.clone()).encode().unwrap()
}

fn ask(daemon: &mut Daemon, index: u64) -> FromLog {
    daemon.ask(&ToLog::Set { index })
}

#[test]
fn a_timestamp_is_over_the_keepers_own_copy_and_clock_and_verifies_over_exactly_its_bytes() {
    let Some(rig) = Rig::with_set_key() else { return };
    let keeper = rig.start();
    let (mut daemon, welcome) = keeper.welcome();
    let set_key = rig.set_key.clone().unwrap();
    assert_eq!(welcome.set_key.as_ref(), Some(&set_key));
    let (first, second) = (completion("first"), completion("second"));
    let all = [leaves(1), vec![leaf(&first), leaf(&second)]].concat();
    daemon.append(welcome.epoch, 0, &all);
    for (index, wanted, text) in [(1, &first, "first"), (2, &second, "second")] {
        let payload = Sha256::of(text.as_bytes());
        let before = SystemClock.now().unix_s();
        let FromLog::SetSigned { body, integrated_time, signature } = ask(&mut daemon, index) else {
            panic!()
        };
        assert!((before..=SystemClock.now().unix_s()).contains(&integrated_time));
        // The body and what is signed, spelled out here as Rekor v1 has them.
        let read: serde_json::Value = serde_json::from_slice(&body.0).unwrap();
        let data = json!({ "hash": { "algorithm": "sha256", "value": payload.to_string() } });
        assert_eq!((&read["apiVersion"], &read["kind"]), (&json!("0.0.1"), &json!("hashedrekord")));
        assert_eq!(read["spec"]["data"], data);
        let signed = format!(
            "{{\"body\":{},\"integratedTime\":{integrated_time},\"logID\":\"{}\",\"logIndex\":{index}}}",
            serde_json::to_string(&body).unwrap(),
            set_key.id()
        );
        assert!(set_key.verifies(&Sha256::of(signed.as_bytes()), &signature));
        assert!(
            !set_key
                .verifies(&Sha256::of(signed.replace("logIndex\":", "logIndex\":1").as_bytes()), &signature)
        );
        let timestamp = EntryTimestamp::of(wanted, index, integrated_time, &set_key).unwrap();
        assert_eq!((timestamp.body(), timestamp.signed_bytes().unwrap()), (&*body.0, signed.into_bytes()));
        let set = timestamp.signed(&signature, &set_key).unwrap();
        assert!(set.says(wanted, index, &set_key));
        assert!(!set.says(wanted, index + 1, &set_key) && !set.says(&completion("other"), index, &set_key));
        assert!(!set.says(wanted, index, wanted.spki()), "another key");
    }
}

#[test]
fn what_is_not_a_true_signature_in_the_keepers_own_log_gets_no_timestamp_and_no_key_is_touched() {
    let Some(rig) = Rig::with_set_key_beside("p256") else { return };
    let keeper = rig.start();
    let (mut daemon, welcome) = keeper.welcome();
    let forged = completion_of(Sha256::of(b"text"), Sha256::of(b"another text"));
    let text = completion("text");
    let set_key = rig.set_key.clone().unwrap();
    let by_the_set_key = Completion::new(set_key, text.data().clone(), text.signature().clone()).unwrap();
    let vkey = rig.key();
    let LogKey::P256(log_key) = vkey.key() else { panic!("{vkey}") };
    let log_key = Spki::from_der(log_key).unwrap();
    let by_the_log_key = Completion::new(log_key, text.data().clone(), text.signature().clone()).unwrap();
    let by_ed25519 = {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let data = SignedData::of(Algorithm::Ed25519, b"text").unwrap();
        let made = Signature::from_token(Algorithm::Ed25519, &key.sign(b"text").to_bytes()).unwrap();
        Completion::new(Spki::from_ed25519(&key.verifying_key().to_bytes()).unwrap(), data, made).unwrap()
    };
    let others = [&forged, &by_the_set_key, &by_the_log_key, &by_ed25519].map(leaf);
    daemon.append(welcome.epoch, 0, &[leaves(1), others.to_vec()].concat());
    for (index, code) in [
        (0, "kind"),
        (1, "signature"),
        (2, "key"),
        (3, "key"),
        (4, "algorithm"),
        (5, "index"),
        (u64::MAX, "index"),
    ] {
        assert_eq!(refusal(&ask(&mut daemon, index)), code, "{index}");
    }
    assert_eq!(rig.signatures(), 0);
    // The index that was refused is that of a leaf as soon as it is durable here.
    daemon.append(welcome.epoch, 5, &[leaf(&completion("text"))]);
    assert!(matches!(ask(&mut daemon, 5), FromLog::SetSigned { .. }));
    assert_eq!(rig.signatures(), 1);
}

#[test]
fn a_log_of_another_content_says_something_else_at_the_same_index() {
    let (Some(rig), Some(other)) = (Rig::with_set_key(), Rig::with_set_key()) else { return };
    let mut bodies = Vec::new();
    for (rig, text) in [(&rig, "ours"), (&other, "theirs")] {
        let keeper = rig.start();
        let (mut daemon, welcome) = keeper.welcome();
        daemon.append(welcome.epoch, 0, &[leaf(&completion(text))]);
        let FromLog::SetSigned { body, integrated_time, signature } = ask(&mut daemon, 0) else { panic!() };
        let ours = EntryTimestamp::of(&completion("ours"), 0, integrated_time, rig.set_key.as_ref().unwrap());
        let says_ours = ours.unwrap().signed(&signature, rig.set_key.as_ref().unwrap()).is_some();
        assert_eq!(says_ours, text == "ours");
        bodies.push(body);
    }
    assert_ne!(bodies[0], bodies[1]);
}

#[test]
fn a_keeper_without_a_set_key_says_so_and_signs_notes_as_ever() {
    let Some(rig) = Rig::new() else { return };
    let keeper = rig.start();
    let (mut daemon, welcome) = keeper.welcome();
    assert_eq!(welcome.set_key, None);
    daemon.append(welcome.epoch, 0, &[leaf(&completion("text"))]);
    assert_eq!(refusal(&ask(&mut daemon, 0)), "set-key");
    daemon.note();
}

#[test]
fn a_set_key_that_is_not_the_tokens_ends_the_start_and_doctor_tells_it() {
    let Some(mut rig) = Rig::with_set_key() else { return };
    let doctor = |rig: &Rig| {
        let ended = rig.command("doctor --login").output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stdout).unwrap())
    };
    let (_, told) = doctor(&rig);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let check = |told: &serde_json::Value| {
        told["checks"].as_array().unwrap().iter().find(|c| c["what"] == "SET key").unwrap()["state"].clone()
    };
    assert_eq!(check(&told), "ok");
    rig.set_key = Some(completion("").spki().clone());
    rig.configure("");
    let (code, said) = rig.start_in_vain();
    assert!(code == 78 && said.contains("02"), "{code} {said}");
    let (code, told) = doctor(&rig);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, check(&told)), (Some(78), "failed".into()));
}
