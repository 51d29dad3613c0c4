//! What Sigstore's clients read: its shape here, to the member. Whether the clients accept it is shown with the clients
//! themselves (`tests/tests/interop`).

#![expect(clippy::unwrap_used, reason = "test code")]

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::Signer as _;
use formats::sigstore::{Bundle, BundleError, EntryTimestamp, Included, LegacyBundle, TrustedRoot};
use p256::ecdsa::{Signature as P256Signature, SigningKey, signature::hazmat::PrehashSigner};
use record::{Algorithm, Completion, Event, Leaf, Nonce, Sha256, Signature, SignedData, Spki, Time};
use serde_json::{Value, json};
use tlog::{Checkpoint, Hash, LogKey, VerifierKey, leaf_hash, node_hash};

fn key(seed: u8) -> (SigningKey, Spki) {
    let key = SigningKey::from_slice(&[seed; 32]).unwrap();
    let spki = Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
    (key, spki)
}

fn sign(key: &SigningKey, digest: &Sha256) -> Signature {
    let made: P256Signature = key.sign_prehash(digest.as_bytes()).unwrap();
    Signature::from_raw(&made.to_bytes()).unwrap()
}

fn completion() -> Completion {
    completion_over(b"the signed bytes", b"the signed bytes")
}

/// A signature over bytes, and what it says that it is over.
fn completion_over(signed: &[u8], said: &[u8]) -> Completion {
    let (key, spki) = key(7);
    let signature = sign(&key, &Sha256::of(signed));
    Completion::new(spki, SignedData::Sha256(Sha256::of(said)), signature).unwrap()
}

/// A completion by a key of each kind, by another program.
const OF_EVERY_KIND: &str = include_str!("../../../record/tests/golden/completions.jsonl");

/// A log of two entries: the leaf, and one before it.
struct Log {
    vkey: VerifierKey,
    leaf: Vec<u8>,
    sibling: Hash,
    note: String,
}

impl Log {
    fn of(leaf: Vec<u8>) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let vkey = VerifierKey::new_ed25519("log.example.com", key.verifying_key().to_bytes()).unwrap();
        let sibling = leaf_hash(b"first");
        let root = node_hash(&sibling, &leaf_hash(&leaf));
        let text = Checkpoint { origin: "log.example.com".into(), size: 2, root }.text();
        let note = tlog::signed_note(&text, &vkey, &key.sign(text.as_bytes()).to_bytes()).unwrap();
        Self { vkey, leaf, sibling, note }
    }

    fn bundle(&self) -> Result<Bundle, BundleError> {
        let entry = Included {
            index: 1,
            leaf: &self.leaf,
            hashes: std::slice::from_ref(&self.sibling),
            note: &self.note,
        };
        Bundle::of_blob(entry, &self.vkey)
    }
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

#[test]
fn a_bundle_has_the_members_that_protobuf_specs_gives_them() {
    let completion = completion();
    let log = Log::of(Leaf::Completion(completion.clone()).encode().unwrap());
    let bundle: Value = serde_json::from_str(&log.bundle().unwrap().to_json().unwrap()).unwrap();
    let checkpoint = Checkpoint::open(&log.note, &log.vkey).unwrap();
    let LogKey::Ed25519(key) = log.vkey.key() else { panic!() };
    let log_id = Sha256::of(&[b"log.example.com\n\x01", &key[..]].concat());
    let expected = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "publicKey": { "hint": b64(Sha256::of(completion.spki().der()).as_bytes()) },
            "tlogEntries": [{
                "logIndex": "1",
                "logId": { "keyId": b64(log_id.as_bytes()) },
                "kindVersion": { "kind": "hashedrekord", "version": "0.0.2" },
                "integratedTime": "0",
                "inclusionProof": {
                    "logIndex": "1",
                    "rootHash": b64(checkpoint.root.0),
                    "treeSize": "2",
                    "hashes": [b64(log.sibling.0)],
                    "checkpoint": { "envelope": log.note },
                },
                "canonicalizedBody": b64(&log.leaf),
            }],
        },
        "messageSignature": {
            "messageDigest": { "algorithm": "SHA2_256", "digest": b64(Sha256::of(b"the signed bytes").as_bytes()) },
            "signature": b64(completion.signature().to_der()),
        },
    });
    assert_eq!(bundle, expected);
}

#[test]
fn there_is_no_bundle_of_what_a_client_would_refuse() {
    let good = Leaf::Completion(completion()).encode().unwrap();
    let event = Event::Stopped { time: Time::from_unix_ms(0).unwrap(), nonce: Nonce::random().unwrap() };
    let of = |leaf: &Leaf| Log::of(leaf.encode().unwrap()).bundle().unwrap_err();
    assert!(matches!(of(&Leaf::Event(event)), BundleError::NoSignature { index: 1, kind: "event" }));
    let forged = completion_over(b"the signed bytes", b"other bytes");
    assert!(matches!(of(&Leaf::Completion(forged)), BundleError::Signature { index: 1 }));
    let wrong_proof = Log { sibling: leaf_hash(b"other"), ..Log::of(good.clone()) };
    assert!(matches!(wrong_proof.bundle(), Err(BundleError::Proof(_))));
    let wrong_note =
        Log { note: Log::of(good.clone()).note.replace("\n2\n", "\n3\n"), ..Log::of(good.clone()) };
    assert!(matches!(wrong_note.bundle(), Err(BundleError::Checkpoint(_))));
    assert!(matches!(Log::of(b"{}".to_vec()).bundle(), Err(BundleError::Leaf(_))));
    assert!(Log::of(good).bundle().is_ok());
}

#[test]
fn there_is_a_bundle_of_the_kind_of_key_that_clients_were_seen_to_take_and_of_no_other() {
    assert_eq!(OF_EVERY_KIND.lines().count(), Algorithm::ALL.len());
    for (algorithm, leaf) in Algorithm::ALL.into_iter().zip(OF_EVERY_KIND.lines()) {
        match Log::of(leaf.as_bytes().to_vec()).bundle() {
            Ok(_) => assert_eq!(algorithm, Algorithm::EcdsaP256),
            Err(BundleError::NoClient { index: 1, algorithm: named }) => {
                assert!(named == algorithm && named != Algorithm::EcdsaP256, "{named}");
            }
            Err(other) => panic!("{algorithm}: {other}"),
        }
    }
}

#[test]
fn a_trusted_root_names_the_log_by_its_host_and_each_key_by_its_id() {
    let log = Log::of(Vec::new());
    let (_, set_key) = key(9);
    let parse = |root: TrustedRoot| serde_json::from_str::<Value>(&root.to_json().unwrap()).unwrap();
    let root = parse(TrustedRoot::of_log(&log.vkey, Some(&set_key)));
    assert_eq!(root["mediaType"], "application/vnd.dev.sigstore.trustedroot+json;version=0.1");
    let tlogs = root["tlogs"].as_array().unwrap();
    assert_eq!(tlogs.len(), 2);
    for (tlog, details, spki) in
        [(&tlogs[0], "PKIX_ED25519", None), (&tlogs[1], "PKIX_ECDSA_P256_SHA_256", Some(b64(set_key.der())))]
    {
        assert_eq!(tlog["baseUrl"], "https://log.example.com");
        assert_eq!(
            (&tlog["hashAlgorithm"], &tlog["publicKey"]["keyDetails"]),
            (&json!("SHA2_256"), &json!(details))
        );
        assert_eq!(tlog["publicKey"]["validFor"], json!({ "start": "1970-01-01T00:00:00Z" }));
        if let Some(spki) = spki {
            assert_eq!(tlog["publicKey"]["rawBytes"], spki);
        }
    }
    let p256 = VerifierKey::new_p256("log.example.com", set_key.der()).unwrap();
    assert_eq!(parse(TrustedRoot::of_log(&p256, None))["tlogs"], json!([tlogs[1]]), "a log key on P-256");
    assert_eq!(tlogs[1]["logId"]["keyId"], b64(Sha256::of(set_key.der()).as_bytes()));
    assert_eq!(parse(TrustedRoot::of_log(&log.vkey, None))["tlogs"], json!([tlogs[0]]));
}

#[test]
fn an_older_bundle_carries_the_timestamp_as_it_was_signed() {
    let (signer, set_key) = key(9);
    let completion = completion();
    let timestamp = EntryTimestamp::of(&completion, 12, 1_790_000_000, &set_key).unwrap();
    let signature = sign(&signer, &Sha256::of(&timestamp.signed_bytes().unwrap()));
    assert!(timestamp.clone().signed(&sign(&signer, &Sha256::of(b"else")), &set_key).is_none());
    assert!(timestamp.clone().signed(&signature, completion.spki()).is_none());
    let body = b64(timestamp.body());
    let bundle = LegacyBundle::of(&completion, timestamp.signed(&signature, &set_key).unwrap());
    let expected = json!({
        "base64Signature": b64(completion.signature().to_der()),
        "rekorBundle": {
            "SignedEntryTimestamp": b64(signature.to_der()),
            "Payload": {
                "body": body, "integratedTime": 1_790_000_000, "logIndex": 12, "logID": set_key.id(),
            },
        },
    });
    assert_eq!(serde_json::from_str::<Value>(&bundle.to_json().unwrap()).unwrap(), expected);
}
