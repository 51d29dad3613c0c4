//! Completions of every kind of key: one spelling, the right kind, and a signature that is wrong with any bit changed.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::Signer as _;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use proptest::prelude::*;
use record::{
    Algorithm, Completion, KeyId, Leaf, MAX_LEAF_BYTES, MAX_MESSAGE_BYTES, PayloadDigest, Sha256, Sha384,
    Signature, SignedData, Spki,
};

/// By `golden/make.py`: a completion by a key of each kind, over [`PAYLOAD`].
const GOLDEN: &str = include_str!("golden/completions.jsonl");
const PAYLOAD: &[u8] = br#"{"what":"is signed"}"#;

fn decode(leaf: &str) -> Result<Completion, String> {
    match Leaf::decode(leaf.as_bytes()) {
        Ok(Leaf::Completion(completion)) => Ok(completion),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

fn golden() -> Vec<(Algorithm, &'static str, Completion)> {
    assert_eq!(GOLDEN.lines().count(), Algorithm::ALL.len());
    Algorithm::ALL.into_iter().zip(GOLDEN.lines()).map(|(a, leaf)| (a, leaf, decode(leaf).unwrap())).collect()
}

/// A key of one of the kinds whose private operations a test can have.
fn signed(kind: Algorithm, seed: u8, payload: &[u8]) -> Completion {
    let data = SignedData::of(kind, payload).unwrap();
    let (spki, raw) = match &data {
        SignedData::Sha256(digest) => {
            let key = p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap();
            let made: p256::ecdsa::Signature = key.sign_prehash(digest.as_bytes()).unwrap();
            (Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()), made.to_bytes().to_vec())
        }
        SignedData::Sha384(digest) => {
            let key = p384::ecdsa::SigningKey::from_slice(&[seed; 48]).unwrap();
            let made: p384::ecdsa::Signature = key.sign_prehash(digest.as_bytes()).unwrap();
            (Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()), made.to_bytes().to_vec())
        }
        SignedData::Message(message) => {
            let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
            let made = key.sign(message.bytes()).to_bytes().to_vec();
            (Spki::from_ed25519(key.verifying_key().as_bytes()), made)
        }
    };
    Completion::new(spki.unwrap(), data, Signature::from_token(kind, &raw).unwrap()).unwrap()
}

/// The same leaf with other bytes in place of these, both as base64.
fn with_bytes(leaf: &str, old: &[u8], new: &[u8]) -> String {
    let (old, new) = (STANDARD.encode(old), STANDARD.encode(new));
    assert!(leaf.contains(&old), "{old} in {leaf}");
    leaf.replace(&old, &new)
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// Neither an altered signature nor an altered digest or message is a completion that verifies.
fn proves_nothing(leaf: &str) -> bool {
    !decode(leaf).is_ok_and(|completion| completion.verifies())
}

#[test]
fn completions_of_every_kind_are_those_of_another_program_and_verify() {
    for (algorithm, leaf, completion) in golden() {
        assert_eq!(Leaf::Completion(completion.clone()).encode().unwrap(), leaf.as_bytes(), "{algorithm}");
        assert!(completion.verifies(), "{algorithm}");
        assert_eq!(completion.spki().algorithm(), algorithm);
        assert_eq!(completion.data(), &SignedData::of(algorithm, PAYLOAD).unwrap());
        let by_name = (completion.spki().der(), completion.key());
        assert_eq!(by_name.1, Sha256::of(by_name.0).to_string().parse::<KeyId>().unwrap());
        assert!(leaf.contains(algorithm.key_details()), "{leaf}");
        let kind = if algorithm == Algorithm::Ed25519 { "signature" } else { "hashedrekord" };
        assert_eq!(Leaf::Completion(completion).kind(), kind);
    }
}

#[test]
fn of_few_completions_and_of_many_those_whose_signature_is_another_keys_are_named_in_order() {
    let good = signed(Algorithm::EcdsaP256, 1, PAYLOAD);
    let other = signed(Algorithm::EcdsaP256, 2, PAYLOAD);
    let wrong = Completion::new(good.spki().clone(), good.data().clone(), other.signature().clone()).unwrap();
    for count in [0_u64, 1, 7, 8, 60] {
        for places in [vec![], vec![0], vec![count / 2], vec![0, count.saturating_sub(1)]] {
            let mut expected: Vec<u64> = places.into_iter().filter(|place| *place < count).collect();
            expected.dedup();
            let is_wrong = |index: &u64| expected.contains(index);
            let all: Vec<_> =
                (0..count).map(|index| (index, if is_wrong(&index) { &wrong } else { &good })).collect();
            assert_eq!(record::wrong_signatures(&all), expected, "of {count}");
        }
    }
}

#[test]
fn the_bytes_of_a_p256_completion_are_what_logs_have_had_since_the_first_one() {
    let (_, leaf, completion) = golden().remove(0);
    let (digest, signature) = (Sha256::of(PAYLOAD), completion.signature().to_der());
    assert_eq!(
        leaf,
        format!(
            r#"{{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{{"hashedRekordV002":{{"data":{{"algorithm":"SHA2_256","digest":"{}"}},"signature":{{"content":"{}","verifier":{{"keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{{"rawBytes":"{}"}}}}}}}}}}}}"#,
            STANDARD.encode(digest.as_bytes()),
            STANDARD.encode(signature),
            STANDARD.encode(completion.spki().der())
        )
    );
}

#[test]
fn a_key_under_another_kinds_name_or_hash_is_refused() {
    for (algorithm, leaf, completion) in golden() {
        for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
            let renamed = leaf.replace(algorithm.key_details(), other.key_details());
            assert!(decode(&renamed).unwrap_err().contains("keyDetails"), "{algorithm} as {other}");
        }
        // Of the same kind by other names: the ones that Sigstore has given up, and the other padding.
        for other in [
            "PKIX_ECDSA_P384_SHA_256",
            "PKIX_RSA_PKCS1V15_2048_SHA256",
            "PKIX_RSA_PSS",
            "PKIX_ED25519_PH",
            "",
        ] {
            assert!(decode(&leaf.replace(algorithm.key_details(), other)).is_err(), "{algorithm} as {other}");
        }
        for (from, to) in [("SHA2_256", "SHA2_384"), ("SHA2_384", "SHA2_256"), ("SHA2_", "SHA3_")] {
            assert!(!leaf.contains(from) || decode(&leaf.replace(from, to)).is_err(), "{algorithm}: {to}");
        }
        for (other, _, theirs) in golden().into_iter().filter(|(other, ..)| *other != algorithm) {
            let foreign = with_bytes(leaf, completion.spki().der(), theirs.spki().der());
            assert!(decode(&foreign).is_err(), "{algorithm} with a {other} key");
            let foreign = foreign.replace(algorithm.key_details(), other.key_details());
            assert!(proves_nothing(&foreign), "{algorithm} with a {other} key and its name");
        }
    }
}

#[test]
fn each_kind_has_one_form_of_leaf() {
    let all = golden();
    let (_, ed25519, completion) = &all[5];
    let signature = ed25519.split_once(r#""signature":{"content""#).unwrap().1.strip_suffix("}}").unwrap();
    let as_rekord = format!(
        r#"{{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{{"hashedRekordV002":{{"data":{{"algorithm":"SHA2_256","digest":"{}"}},"signature":{{"content"{signature}}}}}}}"#,
        STANDARD.encode(Sha256::of(PAYLOAD).as_bytes())
    );
    assert!(decode(&as_rekord).unwrap_err().contains("ed25519"), "{as_rekord}");
    for (algorithm, leaf, theirs) in &all[..5] {
        let with_message = with_bytes(ed25519, completion.spki().der(), theirs.spki().der())
            .replace("PKIX_ED25519", algorithm.key_details());
        let with_message =
            with_bytes(&with_message, &completion.signature().to_der(), &theirs.signature().to_der());
        assert!(decode(&with_message).is_err(), "{algorithm}: {leaf}");
    }
}

#[test]
fn parts_of_different_kinds_make_no_completion() {
    let all = golden();
    for (a, _, key) in &all {
        for (b, _, made) in &all {
            for (c, _, data) in &all {
                let parts =
                    Completion::new(key.spki().clone(), data.data().clone(), made.signature().clone());
                let same_form = key.data() == data.data();
                assert_eq!(parts.is_ok(), a == b && same_form, "{a} {b} {c}");
                assert_eq!(
                    key.spki().covers(data.data(), made.signature()),
                    a == b && same_form,
                    "{a} {b} {c}"
                );
            }
        }
    }
}

#[test]
fn an_ed25519_completion_holds_its_message_and_no_longer_one_than_a_leaf_can() {
    let longest = vec![b'a'; MAX_MESSAGE_BYTES];
    let leaf = Leaf::Completion(signed(Algorithm::Ed25519, 7, &longest)).encode().unwrap();
    assert!(leaf.len() <= MAX_LEAF_BYTES && Leaf::decode(&leaf).is_ok());
    let error = SignedData::of(Algorithm::Ed25519, &[longest, vec![b'a']].concat()).unwrap_err();
    assert!(error.to_string().contains("at most 32768"), "{error}");
    let leaf = golden()[5].1;
    let other_digest = with_bytes(leaf, Sha256::of(PAYLOAD).as_bytes(), Sha256::of(b"x").as_bytes());
    assert!(decode(&other_digest).unwrap_err().contains("not the SHA-256 of the message"));
    assert!(decode(&with_bytes(leaf, PAYLOAD, b"x")).is_err());
}

#[test]
fn a_signature_has_one_text_and_that_of_a_p256_key_is_as_it_was() {
    for (algorithm, _, completion) in golden() {
        let signature = completion.signature();
        let text = serde_json::to_string(signature).unwrap();
        let bytes = STANDARD.encode(signature.to_raw());
        let expected = if algorithm == Algorithm::EcdsaP256 { bytes } else { format!("{algorithm}:{bytes}") };
        assert_eq!(text, format!("\"{expected}\""));
        assert_eq!(&serde_json::from_str::<Signature>(&text).unwrap(), signature);
        for other in ["p256:", "rsa:", ":", "P384:"] {
            let bare = expected.rsplit(':').next().unwrap();
            assert!(serde_json::from_str::<Signature>(&format!("\"{other}{bare}\"")).is_err(), "{other}");
        }
    }
}

#[test]
fn golden_signatures_of_every_kind_fail_with_one_bit_flipped() {
    for (algorithm, leaf, completion) in golden() {
        let bytes = completion.signature().to_der();
        // A prime step, so that every bit of a byte has its turn.
        for bit in (0..bytes.len() * 8).step_by(37) {
            assert!(
                proves_nothing(&with_bytes(leaf, &bytes, &flipped(&bytes, bit))),
                "{algorithm}, bit {bit}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_signed_is_decoded_as_it_was_encoded_and_fails_with_one_bit_flipped(
        seed in 1u8..=200, payload in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(),
    ) {
        for kind in [Algorithm::EcdsaP256, Algorithm::EcdsaP384, Algorithm::Ed25519] {
            let completion = signed(kind, seed, &payload);
            let bytes = Leaf::Completion(completion.clone()).encode().unwrap();
            let leaf = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(decode(&leaf), Ok(completion.clone()));
            prop_assert!(completion.verifies());
            prop_assert!(decode(&leaf.replacen(',', ", ", 1)).is_err());
            let made = completion.signature().to_der();
            prop_assert!(proves_nothing(&with_bytes(&leaf, &made, &flipped(&made, at.index(made.len() * 8)))));
            let digest = completion.digest();
            let digest = digest.as_bytes();
            prop_assert!(proves_nothing(&with_bytes(&leaf, digest, &flipped(digest, at.index(digest.len() * 8)))));
        }
    }

    #[test]
    fn a_completion_is_of_the_intents_that_name_its_key_and_payload_and_of_no_others(
        payload in prop::collection::vec(any::<u8>(), 0..50), other in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        for kind in [Algorithm::EcdsaP256, Algorithm::EcdsaP384, Algorithm::Ed25519] {
            let completion = signed(kind, 7, &payload);
            let mut intent = intent(completion.key());
            let data = intent.name_payload(kind, &payload).unwrap();
            prop_assert_eq!(&data, completion.data());
            prop_assert_eq!(intent.payload, Sha256::of(&payload));
            prop_assert_eq!(intent.payload_sha384, (kind == Algorithm::EcdsaP384).then(|| Sha384::of(&payload)));
            prop_assert!(completion.is_of(&intent));
            prop_assert!(!signed(kind, 8, &payload).is_of(&intent), "another key");
            intent.name_payload(kind, &other).unwrap();
            prop_assert_eq!(completion.is_of(&intent), payload == other);
            // In a hash that the key does not sign.
            let wrong = if kind == Algorithm::EcdsaP384 { Algorithm::EcdsaP256 } else { Algorithm::EcdsaP384 };
            intent.name_payload(wrong, &payload).unwrap();
            prop_assert!(!completion.is_of(&intent));
            prop_assert!(matches!(completion.digest(), PayloadDigest::Sha384(_)) == (kind == Algorithm::EcdsaP384));
        }
    }
}

fn intent(key: KeyId) -> record::Intent {
    use record::{Action, Format, KeeperName, Nonce, Origin, Purpose, Repository, Time};
    record::Intent {
        log: Origin::parse("log.example.com").unwrap(),
        keeper: KeeperName::parse("signing").unwrap(),
        key,
        purpose: Purpose::Root,
        format: Format::DctRootCertificate,
        time: Time::from_unix_ms(1_790_000_000_000).unwrap(),
        nonce: Nonce::parse("00000000000000000000000000000000").unwrap(),
        repository: Repository::parse("r.example/app").unwrap(),
        policy: None,
        requested: None,
        retries: None,
        action: Action::RootCertificate {
            serial: Nonce::parse("00000000000000000000000000000001").unwrap(),
            not_before: Time::from_unix_ms(1_790_000_000_000).unwrap(),
            not_after: Time::from_unix_ms(1_800_000_000_000).unwrap(),
        },
        payload: Sha256::of(b""),
        payload_sha384: None,
    }
}
