//! Log keys on P-256 (signature type 0x02) are those that other people's logs and verifiers have.

use crate::notes::Signer;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::EncodePublicKey as _;
use proptest::prelude::*;
use tlog::{
    Checkpoint, CheckpointError, CosignerKey, LogKey, Note, NoteError, VerifierKey, VerifierKeyError,
    WitnessPolicy, leaf_hash, signed_note,
};

/// Published logs with keys of this type: verifier key, and a note that the log has signed. Both are known to
/// transparency-dev's `formats`, too.
const PUBLISHED: [(&str, &str); 2] = [
    (
        "rekor.sigstore.dev+c0d23d6a+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXwBcK5AW5i0hrZLOC96l+smGNM7nwZ4QvFK/4sueRoVj//QP22Ni4Qt9DPfkWLc=",
        "Rekor\n798034\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0=\n\n\u{2014} rekor.sigstore.dev wNI9ajBEAiARInWIWyCdyG27CO6LPnPekyw20qO0YJfoaPaowGp/XgIgc+qEHS3+GKVClgqq20uDLet7MCoTURUCRdxwWBHHufk=\n",
    ),
    (
        "pixel6_transparency_log+91c16e30+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABN+4x0Jk1yTwvLFI9A4NDdGZcX0aiWVdWM5XJVy0M4VWD3AvyW5Q6Hs9A0mcDkpUoYgn+KKPNzFC0H3nN3q6JQ8=",
        "DEFAULT\n10\nbsWRucJU5xJPHb5eBdOm6+DM+VelCZBuvtI3sHERJ9Y=\n\n\u{2014} pixel6_transparency_log kcFuMDBFAiEAhqMAP8P6qf6QxtUJhzMhbN+MbZ9dwfUHzGQJmffJHtoCIGD0cNe47dHWBoPwYdgBCepB06/+g5O1FmYjXl06owL4\n",
    ),
];
/// Under which Sigstore knows the first of them.
const REKOR_LOG_ID: &str = "c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d";

/// A P-256 key as a token would hold it.
struct P256Signer {
    key: SigningKey,
    vkey: VerifierKey,
}

impl P256Signer {
    fn new(name: &str, seed: u8) -> Self {
        let key = SigningKey::from_slice(&[seed; 32]).unwrap();
        let vkey = VerifierKey::new_p256(name, &spki(&key)).unwrap();
        Self { key, vkey }
    }

    fn sign(&self, text: &str) -> Signature {
        self.key.sign(text.as_bytes())
    }

    fn note(&self, text: &str) -> String {
        signed_note(text, &self.vkey, self.sign(text).to_der().as_bytes()).unwrap()
    }
}

fn spki(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_public_key_der().unwrap().into_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn keys_and_notes_of_published_logs_verify_and_print_back() {
    for (vkey, note) in PUBLISHED {
        let key = VerifierKey::parse(vkey).unwrap();
        assert_eq!(key.to_string(), vkey);
        assert!(!key.is_for_public_witnesses());
        assert_eq!(key.key(), LogKey::P256(&key.spki_der()));
        let parsed = Note::parse(note).unwrap();
        assert_eq!(parsed.verify(&key), Ok(()));
        assert_eq!(parsed.to_string(), note);
        let altered = Note::parse(&note.replacen('1', "2", 1).replacen("79", "78", 1)).unwrap();
        assert_eq!(altered.verify(&key), Err(NoteError::BadSignature { vkey: vkey.to_owned() }));
    }
    assert_eq!(hex(VerifierKey::parse(PUBLISHED[0].0).unwrap().log_id()), REKOR_LOG_ID);
}

#[test]
fn a_log_id_and_an_spki_are_those_of_sigstore_for_both_types() {
    let (ed25519, p256) =
        (Signer::new("log.example.com", 1).vkey, P256Signer::new("log.example.com", 1).vkey);
    for key in [&ed25519, &p256] {
        assert_eq!(key.log_id()[..4], key.key_id().to_be_bytes());
    }
    use ed25519_dalek::pkcs8::DecodePublicKey as _;
    let read = ed25519_dalek::VerifyingKey::from_public_key_der(&ed25519.spki_der()).unwrap();
    assert_eq!(ed25519.key(), LogKey::Ed25519(read.as_bytes()));
    assert!(ed25519.is_for_public_witnesses());
    // An ECDSA key's id does not depend on the name.
    assert_eq!(P256Signer::new("other.example.com", 1).vkey.log_id(), p256.log_id());
}

#[test]
fn a_note_with_a_line_of_each_type_verifies_under_each_key() {
    let (ed25519, p256) = (Signer::new("log.example.com", 1), P256Signer::new("log.example.com", 2));
    let ours = Checkpoint { origin: "log.example.com".into(), size: 5, root: leaf_hash(b"x") };
    let (first, second) = (ed25519.note(&ours.text()), p256.note(&ours.text()));
    let line = |note: &str| note.rsplit_once("\n\n").unwrap().1.to_owned();
    for both in [format!("{first}{}", line(&second)), format!("{second}{}", line(&first))] {
        assert_eq!(Checkpoint::open(&both, &ed25519.vkey), Ok(ours.clone()));
        assert_eq!(Checkpoint::open(&both, &p256.vkey), Ok(ours.clone()));
        let altered = both.replacen("\n5\n", "\n6\n", 1);
        for key in [&ed25519.vkey, &p256.vkey] {
            let refused = Checkpoint::open(&altered, key);
            assert!(matches!(refused, Err(CheckpointError::Note(NoteError::BadSignature { .. }))));
        }
    }
    let of_another_text = format!("{first}{}", line(&p256.note("other\n")));
    assert_eq!(Checkpoint::open(&of_another_text, &ed25519.vkey), Ok(ours), "that line is a stranger's here");
    assert!(Checkpoint::open(&of_another_text, &p256.vkey).is_err());
}

#[test]
fn a_signature_that_is_not_der_or_not_over_this_text_never_becomes_a_note() {
    let log = P256Signer::new("log.example.com", 1);
    let made = log.sign("text\n");
    let longer = [made.to_der().as_bytes(), &[0]].concat();
    let other = log.sign("other\n").to_der().as_bytes().to_vec();
    for wrong in [made.to_bytes().to_vec(), longer, other, vec![], vec![0; 64]] {
        let refused = signed_note("text\n", &log.vkey, &wrong);
        assert!(matches!(refused, Err(NoteError::BadSignature { .. })), "{wrong:?}");
    }
    let ed25519 = Signer::new("log.example.com", 1);
    assert!(signed_note("text\n", &ed25519.vkey, made.to_der().as_bytes()).is_err());
}

#[test]
fn only_the_one_spelling_of_a_p256_key_is_a_verifier_key() {
    let key = SigningKey::from_slice(&[1; 32]).unwrap();
    let der = spki(&key);
    let point = key.verifying_key().to_sec1_point(true);
    let longer = [der.as_slice(), &[0]].concat();
    let mut off_the_curve = der.clone();
    off_the_curve[90] ^= 1;
    let mut another_curve = der.clone();
    another_curve[22] ^= 1;
    for bad in [point.as_bytes(), &longer, &off_the_curve, &another_curve, &der[..90], &[]] {
        assert_eq!(VerifierKey::new_p256("log", bad), Err(VerifierKeyError::Key), "{bad:?}");
    }
    let named =
        |id: &str, kind: u8| format!("log+{id}+{}", STANDARD.encode([&[kind], der.as_slice()].concat()));
    let good = VerifierKey::new_p256("log", &der).unwrap();
    let id = format!("{:08x}", good.key_id());
    assert_eq!(VerifierKey::parse(&named(&id, 2)), Ok(good));
    assert!(matches!(VerifierKey::parse(&named("00000000", 2)), Err(VerifierKeyError::KeyId { .. })));
    assert_eq!(VerifierKey::parse(&named(&id, 1)), Err(VerifierKeyError::Key));
    assert!(matches!(CosignerKey::parse(&named(&id, 2)), Err(VerifierKeyError::Type { found: 2, .. })));
}

#[test]
fn a_policy_knows_logs_of_both_types_and_witnesses_of_one() {
    let (ed25519, p256) = (Signer::new("a.example.com", 1).vkey, P256Signer::new("b.example.com", 1).vkey);
    let policy = WitnessPolicy::parse(&format!("log {ed25519}\nlog {p256}\nquorum none\n")).unwrap();
    assert_eq!(policy.logs().iter().map(|log| &log.key).collect::<Vec<_>>(), [&ed25519, &p256]);
    for wrong in [
        format!("witness w {p256}\nquorum w\n"),
        format!("witness w {ed25519}\nquorum w\n"),
        format!("log {p256}\nlog {p256}\nquorum none\n"),
    ] {
        assert!(WitnessPolicy::parse(&wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_note_under_either_key_verifies_and_fails_with_one_bit_of_its_signature_flipped(
        seed in 1u8..=200, lines in prop::collection::vec("[ -~]{0,20}", 1..5), at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let text = format!("{}\n", lines.join("\n"));
        let (ed25519, p256) = (Signer::new("log", seed), P256Signer::new("log", seed));
        let ours = [
            (&ed25519.vkey, ed25519.key.sign(text.as_bytes()).to_bytes().to_vec()),
            (&p256.vkey, p256.sign(&text).to_der().as_bytes().to_vec()),
        ];
        for (vkey, mut signature) in ours {
            let note = signed_note(&text, vkey, &signature).unwrap();
            prop_assert_eq!(Note::parse(&note).unwrap().verify(vkey), Ok(()));
            prop_assert_eq!(VerifierKey::parse(&vkey.to_string()), Ok(vkey.clone()));
            let at = at.index(signature.len());
            signature[at] ^= 1 << bit;
            prop_assert!(signed_note(&text, vkey, &signature).is_err());
        }
    }
}
