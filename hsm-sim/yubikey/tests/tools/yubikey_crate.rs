//! The `yubikey` crate, as the service will use it. The crate takes pcscd's socket from the environment of its process, so
//! each test runs its client part in a process of its own: this executable, asked for the same test.

use crate::bench::{Bench, SERIAL};
use der::{Decode, Encode};
use hsm_sim_yubikey::{Builder, Operation, PinState, Profile, Sw, TouchMode, TouchState};
use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use std::{
    env,
    io::Write,
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};
use yubikey::{
    Error, MgmKey, PinPolicy, Serial, TouchPolicy, YubiKey,
    piv::{self, AlgorithmId, SlotId},
};

const CLIENT: &str = "HSM_SIM_TEST_CLIENT";
const DIGEST: [u8; 32] = [7; 32];
const PATIENCE: Duration = Duration::from_secs(20);

/// The client is at [`wait_for_go`], which stands after its VERIFY.
fn signed_in(bench: &Bench) {
    bench.card.wait_for("the client's VERIFY", PATIENCE, |dump| dump["card"]["pin_fresh"] == true).unwrap();
}

/// Runs `client` in another process and `outside` in this one, beside it; then the client must have succeeded.
fn both(
    test: &str,
    build: impl FnOnce(Builder) -> Builder,
    client: impl FnOnce(),
    outside: impl FnOnce(&Bench, &mut Client),
) {
    if env::var_os(CLIENT).is_some() {
        return client();
    }
    let Some(bench) = Bench::with(&[], build) else { return };
    let executable: PathBuf = env::current_exe().unwrap();
    let mut command = bench.tool(executable.to_str().unwrap());
    command.args([&format!("yubikey_crate::{test}"), "--exact", "--nocapture"]).env(CLIENT, "1");
    let mut process = Client(command.stdin(Stdio::piped()).spawn().unwrap());
    outside(&bench, &mut process);
    assert!(process.0.wait().unwrap().success(), "the client failed; see above");
}

struct Client(Child);

impl Client {
    /// Lets [`wait_for_go`] return.
    fn go(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

fn wait_for_go() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn open() -> YubiKey {
    YubiKey::open_by_serial(Serial(SERIAL)).unwrap()
}

/// A P-256 key in 9c; the PIN is verified.
fn with_key(touch: TouchPolicy) -> (YubiKey, VerifyingKey) {
    let mut key = open();
    let management = MgmKey::get_default(&key).unwrap();
    key.authenticate(&management).unwrap();
    let public =
        piv::generate(&mut key, SlotId::Signature, AlgorithmId::EccP256, PinPolicy::Always, touch).unwrap();
    key.verify_pin(b"123456").unwrap();
    let point = public.subject_public_key.raw_bytes().to_vec();
    (key, VerifyingKey::from_sec1_bytes(&point).unwrap())
}

fn sign(key: &mut YubiKey) -> Result<Vec<u8>, Error> {
    piv::sign_data(key, &DIGEST, AlgorithmId::EccP256, SlotId::Signature).map(|made| made.to_vec())
}

#[test]
fn the_crate_provisions_signs_and_attests_on_5_4_3() {
    provisions_signs_and_attests("the_crate_provisions_signs_and_attests_on_5_4_3", Profile::V5_4_3);
}

#[test]
fn the_crate_provisions_signs_and_attests_on_5_7_4() {
    provisions_signs_and_attests("the_crate_provisions_signs_and_attests_on_5_7_4", Profile::V5_7_4);
}

fn provisions_signs_and_attests(test: &str, profile: Profile) {
    both(
        test,
        |card| card.profile(profile),
        || {
            let (mut key, public) = with_key(TouchPolicy::Never);
            let made = sign(&mut key).unwrap();
            public.verify_prehash(&DIGEST, &Signature::from_der(&made).unwrap()).unwrap();
            assert_eq!(sign(&mut key).unwrap_err(), Error::AuthenticationError);
            let leaf = piv::attest(&mut key, SlotId::Signature).unwrap();
            let leaf = x509_cert::Certificate::from_der(&leaf).unwrap();
            let spki = leaf.tbs_certificate().subject_public_key_info();
            assert_eq!(spki.subject_public_key.raw_bytes(), public.to_sec1_point(false).as_bytes());
            let metadata = piv::metadata(&mut key, SlotId::Signature).unwrap();
            assert_eq!(metadata.public.unwrap().to_der().unwrap(), spki.to_der().unwrap());
            assert_eq!(metadata.policy, Some((PinPolicy::Always, TouchPolicy::Never)));
        },
        |bench, client| {
            assert!(client.0.wait().unwrap().success());
            let made: Vec<_> =
                bench.entries().into_iter().map(|entry| (entry.signed.operation, entry.signed.pin)).collect();
            assert_eq!(made, [(Operation::Sign, PinState::Fresh), (Operation::Attest, PinState::Verified)]);
        },
    );
}

#[test]
fn a_signature_waits_for_the_finger_and_the_test_sees_it_wait() {
    both(
        "a_signature_waits_for_the_finger_and_the_test_sees_it_wait",
        |card| card.touch(TouchMode::Manual),
        || {
            let (mut key, _) = with_key(TouchPolicy::Always);
            sign(&mut key).unwrap();
        },
        |bench, client| {
            bench.card.await_touch(PATIENCE).unwrap();
            assert_eq!(bench.entries(), []);
            bench.card.touch(PATIENCE).unwrap();
            assert!(client.0.wait().unwrap().success());
            assert_eq!(bench.entries()[0].signed.touch, TouchState::Given);
        },
    );
}

#[test]
fn a_touch_that_does_not_come_leaves_no_signature_and_the_pin_fresh() {
    both(
        "a_touch_that_does_not_come_leaves_no_signature_and_the_pin_fresh",
        |card| card.touch(TouchMode::Timeout).touch_timeout(Duration::from_millis(300)),
        || {
            let (mut key, _) = with_key(TouchPolicy::Always);
            assert_eq!(sign(&mut key).unwrap_err(), Error::AuthenticationError);
            wait_for_go();
            sign(&mut key).unwrap();
        },
        |bench, client| {
            bench.card.await_touch(PATIENCE).unwrap();
            bench.card.touch_policy(TouchMode::Auto);
            client.go();
            assert!(client.0.wait().unwrap().success());
            assert_eq!(bench.entries().len(), 1);
        },
    );
}

#[test]
fn a_card_pulled_before_its_reply_leaves_a_signature_that_only_the_journal_has() {
    both(
        "a_card_pulled_before_its_reply_leaves_a_signature_that_only_the_journal_has",
        |card| card,
        || {
            let (mut key, _) = with_key(TouchPolicy::Never);
            wait_for_go();
            // pcscd says SCARD_E_NOT_TRANSACTED; the crate drops that.
            assert_eq!(sign(&mut key).unwrap_err(), Error::GenericError);
            wait_for_go();
            let mut key = open();
            assert_eq!(sign(&mut key).unwrap_err(), Error::AuthenticationError);
            key.verify_pin(b"123456").unwrap();
            sign(&mut key).unwrap();
        },
        |bench, client| {
            signed_in(bench);
            bench.card.remove_during_next_op(None, false);
            client.go();
            bench.card.wait_until_removed(PATIENCE).unwrap();
            assert_eq!(bench.entries().len(), 1);
            bench.card.insert().unwrap();
            client.go();
            assert!(client.0.wait().unwrap().success());
            assert_eq!(bench.entries().len(), 2);
        },
    );
}

#[test]
fn a_card_pulled_before_it_did_anything_leaves_nothing() {
    both(
        "a_card_pulled_before_it_did_anything_leaves_nothing",
        |card| card,
        || {
            let (mut key, _) = with_key(TouchPolicy::Never);
            wait_for_go();
            assert_eq!(sign(&mut key).unwrap_err(), Error::GenericError);
        },
        |bench, client| {
            signed_in(bench);
            bench.card.remove_during_next_op(None, true);
            client.go();
            assert!(client.0.wait().unwrap().success());
            assert_eq!(bench.entries(), []);
        },
    );
}

#[test]
fn the_sessions_end_with_the_power_and_the_counters_do_not() {
    both(
        "the_sessions_end_with_the_power_and_the_counters_do_not",
        |card| card,
        || {
            let (mut key, _) = with_key(TouchPolicy::Never);
            assert!(matches!(key.verify_pin(b"000000").unwrap_err(), Error::WrongPin { tries: 2 }));
            key.verify_pin(b"123456").unwrap();
            assert!(matches!(key.verify_pin(b"000000").unwrap_err(), Error::WrongPin { tries: 2 }));
            assert_eq!(key.verify_pin(b"000000").unwrap_err(), Error::WrongPin { tries: 1 });
            wait_for_go();
            let mut key = open();
            assert_eq!(key.get_pin_retries().unwrap(), 1);
            assert_eq!(sign(&mut key).unwrap_err(), Error::AuthenticationError);
        },
        |bench, client| {
            let one_left = |dump: &serde_json::Value| dump["card"]["pin"]["left"] == 1;
            bench.card.wait_for("the client's wrong PINs", PATIENCE, one_left).unwrap();
            bench.card.power_cycle().unwrap();
            client.go();
        },
    );
}

#[test]
fn a_forced_status_word_comes_once() {
    both(
        "a_forced_status_word_comes_once",
        |card| card,
        || {
            let (mut key, _) = with_key(TouchPolicy::Never);
            wait_for_go();
            assert_eq!(sign(&mut key).unwrap_err(), Error::GenericError);
            sign(&mut key).unwrap();
        },
        |bench, client| {
            signed_in(bench);
            bench.card.next_sw(Sw(0x6f00), Some(0x87));
            client.go();
            assert!(client.0.wait().unwrap().success());
            assert_eq!(bench.entries().len(), 1);
        },
    );
}

#[test]
fn ed25519_signs_the_message_itself() {
    both(
        "ed25519_signs_the_message_itself",
        |card| card,
        || {
            use ed25519_dalek::{Signature, Verifier, VerifyingKey};
            let mut key = open();
            let management = MgmKey::get_default(&key).unwrap();
            key.authenticate(&management).unwrap();
            let slot = SlotId::Authentication;
            let (pin, touch) = (PinPolicy::Once, TouchPolicy::Never);
            let public = piv::generate(&mut key, slot, AlgorithmId::Ed25519, pin, touch).unwrap();
            key.verify_pin(b"123456").unwrap();
            let point: [u8; 32] = public.subject_public_key.raw_bytes().try_into().unwrap();
            for message in [vec![1; 1], vec![2; 254], vec![3; 1014]] {
                let made = piv::sign_data(&mut key, &message, AlgorithmId::Ed25519, slot).unwrap();
                let public = VerifyingKey::from_bytes(&point).unwrap();
                public.verify(&message, &Signature::from_slice(&made).unwrap()).unwrap();
            }
        },
        |_, _| {},
    );
}
