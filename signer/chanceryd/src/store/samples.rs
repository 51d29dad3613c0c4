//! Leaves that tests commit.

use super::NewLeaf;
use p256::ecdsa::{Signature as P256Signature, SigningKey, signature::hazmat::PrehashSigner};
use record::{
    Action, Algorithm, Clock, Completion, Intent, Leaf, Nonce, Purpose, Sha256, Signature, SignedData, Spki,
    SystemClock,
};

/// A leaf without bytes beside it.
pub(super) fn new(leaf: Leaf) -> NewLeaf {
    NewLeaf { bytes: leaf.encode().unwrap(), leaf, payload: None }
}

/// An intent for a targets version of `r.example/app`, by the key of seed 1.
pub(super) fn intent(keeper: &str, version: u64) -> NewLeaf {
    let expires = SystemClock.now().plus_s(60);
    let action = Action::Targets { version, expires, prev: None, changes: vec![] };
    let mut intent = Intent {
        log: "log.example".parse().unwrap(),
        keeper: keeper.parse().unwrap(),
        key: spki().id(),
        purpose: Purpose::Targets,
        format: action.format(),
        time: SystemClock.now(),
        nonce: Nonce::random().unwrap(),
        repository: "r.example/app".parse().unwrap(),
        policy: None,
        requested: None,
        retries: None,
        action,
        payload: Sha256::of(b""),
        payload_sha384: None,
    };
    let payload = payload(version);
    intent.name_payload(Algorithm::EcdsaP256, &payload).unwrap();
    NewLeaf { payload: Some(payload), ..new(Leaf::Intent(intent)) }
}

/// A completion of [`intent`], with the signature of its key or of another.
pub(super) fn completion(version: u64, is_its_keys: bool) -> NewLeaf {
    let payload = Sha256::of(&payload(version));
    let made: P256Signature = key(if is_its_keys { 1 } else { 2 }).sign_prehash(payload.as_bytes()).unwrap();
    let signature = Signature::from_raw(&made.to_bytes()).unwrap();
    new(Leaf::Completion(Completion::new(spki(), SignedData::Sha256(payload), signature).unwrap()))
}

fn payload(version: u64) -> Vec<u8> {
    version.to_string().into_bytes()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn spki() -> Spki {
    Spki::from_sec1(key(1).verifying_key().to_sec1_point(false).as_bytes()).unwrap()
}
