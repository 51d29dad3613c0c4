//! Attestations of the virtual card, as it makes them and as nobody should believe them.

use super::attestation::{AttestationError, Statement, Trust};
use super::certificate::CertificateError;
use super::judge::matches;
use super::*;
use crate::config::{Attestation, Demands, PinSource};
use crate::token::TouchPolicy;
use base64::{Engine, prelude::BASE64_STANDARD};
use hsm_sim_yubikey::{
    Card as VirtualCard, Options, PinPolicy as Pin, Ports, Profile, Signed, Slot, State as CardState, Touch,
    TouchPolicy as CardTouchPolicy,
};
use record::{Algorithm, Clock, SignedData, Spki, SystemClock, Time};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const SERIAL: u32 = 5_740_001;

/// The rest of the world, in which nothing goes wrong.
struct Calm;

impl Ports for Calm {
    fn seed(&mut self) -> std::io::Result<[u8; 32]> {
        Ok([7; 32])
    }
    fn now(&mut self) -> Duration {
        Duration::ZERO
    }
    fn touch(&mut self) -> Touch {
        Touch::Given
    }
    fn journal(&mut self, _: &Signed) -> std::io::Result<()> {
        Ok(())
    }
    fn save(&mut self, _: &CardState) -> std::io::Result<()> {
        Ok(())
    }
}

/// A card with a key in 9c, its public half, and its attestation.
fn attested(profile: Profile) -> (Vec<u8>, Vec<u8>) {
    let mut state = CardState::factory(profile, SERIAL).unwrap();
    let spki = state.generate(Slot::SIGNATURE, Pin::Always, CardTouchPolicy::Always).unwrap();
    let mut card = VirtualCard::new(state, Options::default());
    card.transmit(&[0, 0xa4, 4, 0, 5, 0xa0, 0, 0, 3, 8], &mut Calm);
    let mut leaf = card.transmit(&[0, 0xf9, 0x9c, 0, 0, 0, 0], &mut Calm);
    assert!(leaf.ends_with(&[0x90, 0]), "{leaf:02x?}");
    leaf.truncate(leaf.len() - 2);
    (spki, leaf)
}

fn pem(folder: &Path, name: &str, certificates: &[&[u8]]) -> PathBuf {
    let path = folder.join(name);
    let text: String = certificates
        .iter()
        .map(|der| {
            format!(
                "words for people\n-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                BASE64_STANDARD.encode(der)
            )
        })
        .collect();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    path
}

fn trust(chain: &[&[u8]], roots: &[&[u8]]) -> Trust {
    let folder = tempfile::tempdir().unwrap();
    let file =
        |name, all: &[&[u8]]| if all.is_empty() { vec![] } else { vec![pem(folder.path(), name, all)] };
    let demands = Demands {
        attestation: Attestation::Required,
        attestation_chain: file("chain.pem", chain),
        attestation_roots: file("roots.pem", roots),
        firmware_floor: Firmware::ECDSA_FLOOR,
    };
    Trust::read(&demands).unwrap()
}

fn now() -> Time {
    SystemClock.now()
}

/// The statement that `leaf` proves when the profile's test root is trusted.
fn proven(profile: Profile, leaf: &[u8]) -> Result<Statement, AttestationError> {
    let trust = trust(profile.attestation_intermediates(), &[profile.attestation_root()]);
    trust.verify_f9(profile.attestation_f9(), now())?;
    trust.verify(leaf, profile.attestation_f9(), now()).map(|proven| proven.statement)
}

#[test]
fn an_attestation_tells_card_slot_key_and_policies_by_either_generations_chain() {
    for profile in Profile::ALL {
        let (spki, leaf) = attested(profile);
        let statement = proven(profile, &leaf).unwrap();
        assert_eq!((statement.serial, statement.slot.to_string()), (SERIAL, "9c".into()));
        assert_eq!(statement.firmware.to_string(), profile.to_string());
        assert_eq!((statement.pin_policy, statement.touch_policy), (3, 2));
        assert_eq!(statement.spki, spki);
    }
}

#[test]
fn a_chain_to_a_root_that_nobody_trusts_proves_nothing() {
    for profile in Profile::ALL {
        let (_, leaf) = attested(profile);
        let all = [&[profile.attestation_root()], profile.attestation_intermediates()].concat();
        // The test root in the file with the chain is not pinned: only attestation_roots can make it trusted.
        let error = trust(&all, &[]).verify(&leaf, profile.attestation_f9(), now()).unwrap_err();
        let AttestationError::NoRoot(name) = &error else {
            // The self-signed root is taken for one more certificate between, and leads to nothing.
            assert!(matches!(error, AttestationError::Certificate { .. }), "{error}");
            continue;
        };
        assert!(name.contains("TEST"), "{error}");
        assert!(error.to_string().contains("attestation_roots"), "{error}");
    }
}

#[test]
fn a_chain_with_a_missing_certificate_names_what_is_missing() {
    let (_, leaf) = attested(Profile::V5_7_4);
    let root = Profile::V5_7_4.attestation_root();
    let error = trust(&[], &[root]).verify(&leaf, Profile::V5_7_4.attestation_f9(), now()).unwrap_err();
    assert!(matches!(&error, AttestationError::NoRoot(name) if name.contains("PIV Attestation")), "{error}");
}

#[test]
fn an_attestation_that_was_altered_or_made_by_another_batch_proves_nothing() {
    let (_, leaf) = attested(Profile::V5_7_4);
    let firmware = leaf.windows(3).position(|bytes| bytes == [5, 7, 4]).unwrap();
    let mut altered = leaf.clone();
    altered[firmware + 2] = 9;
    let error = proven(Profile::V5_7_4, &altered).unwrap_err();
    assert!(
        matches!(&error, AttestationError::Certificate { why: CertificateError::Signature, .. }),
        "{error}"
    );
    let (_, other) = attested(Profile::V5_4_3);
    assert!(proven(Profile::V5_7_4, &other).is_err());
    for bad in [&leaf[..leaf.len() - 1], &[], &[0x30, 0]] {
        let error = proven(Profile::V5_7_4, bad).unwrap_err();
        assert!(matches!(&error, AttestationError::Certificate { .. }), "{error}");
    }
}

#[test]
fn a_certificate_outside_its_time_proves_nothing() {
    let (_, leaf) = attested(Profile::V5_7_4);
    let trust = trust(Profile::V5_7_4.attestation_intermediates(), &[Profile::V5_7_4.attestation_root()]);
    let early = Time::from_unix_ms(0).unwrap();
    let error = trust.verify(&leaf, Profile::V5_7_4.attestation_f9(), early).unwrap_err();
    assert!(matches!(error, AttestationError::Expired(_)), "{error}");
}

#[test]
fn a_certificate_that_is_no_authoritys_cannot_stand_above_a_cards() {
    let (_, leaf) = attested(Profile::V5_7_4);
    let f9 = Profile::V5_7_4.attestation_f9();
    // The leaf as a root for itself: its issuer is f9, and f9 is offered as a root.
    let error = trust(&[], &[f9]).verify(&leaf, f9, now()).unwrap_err();
    assert!(!error.to_string().is_empty());
}

#[test]
fn a_true_attestation_of_another_card_slot_key_or_policy_does_not_serve() {
    let (spki, leaf) = attested(Profile::V5_7_4);
    let statement = proven(Profile::V5_7_4, &leaf).unwrap();
    let facts = SlotFacts {
        public: PublicKey::P256(Spki::from_der(&spki).unwrap()),
        pin: PinPolicy::Always,
        touch: CardTouch::Always,
        generated: true,
    };
    let (firmware, slot) = (Firmware::new([5, 7, 4]), PivSlot::parse("9c").unwrap());
    let serves =
        |serial, firmware, slot, facts: &SlotFacts| matches(&statement, serial, firmware, slot, facts);
    assert_eq!(serves(SERIAL, firmware, slot, &facts), Ok(()));
    let wrong = [
        (serves(SERIAL + 1, firmware, slot, &facts), "serial number"),
        (serves(SERIAL, Firmware::new([5, 7, 5]), slot, &facts), "firmware"),
        (serves(SERIAL, firmware, PivSlot::parse("9a").unwrap(), &facts), "slot"),
        (serves(SERIAL, firmware, slot, &SlotFacts { touch: CardTouch::Never, ..facts.clone() }), "policy"),
        (serves(SERIAL, firmware, slot, &SlotFacts { pin: PinPolicy::Once, ..facts.clone() }), "policy"),
        (
            serves(SERIAL, firmware, slot, &SlotFacts { public: PublicKey::Ed25519([7; 32]), ..facts }),
            "public key",
        ),
    ];
    for (result, word) in wrong {
        let why = result.unwrap_err();
        assert!(why.contains(word), "{why}");
    }
}

/// A token whose card is away.
fn cardless() -> PivToken {
    let config = PivConfig {
        serial: SERIAL,
        pin: PinSource::Fd(0),
        demands: Demands {
            attestation: Attestation::Required,
            attestation_chain: vec![],
            attestation_roots: vec![],
            firmware_floor: Firmware::ECDSA_FLOOR,
        },
        touch_wait_ms: 1,
        call_deadline_ms: 60_000,
    };
    let judge = Judge::read(SERIAL, &config.demands).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pin");
    std::fs::write(&file, "123456").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut state = State::new();
    state.not_before = Instant::now() + Duration::from_secs(3600);
    PivToken {
        config,
        pin: crate::token::Pin::from_file(&file).unwrap(),
        judge,
        watchdog: Watchdog::start(60_000, |_| {}).unwrap(),
        state: Mutex::new(state),
    }
}

#[test]
fn a_message_at_whose_length_the_crate_panics_or_fails_never_reaches_it() {
    let token = cardless();
    let public = PublicKey::Ed25519([7; 32]);
    let facts = SlotFacts { public, pin: PinPolicy::Once, touch: CardTouch::Never, generated: true };
    token.state().keys.insert(PivSlot::parse("9a").unwrap(), facts);
    let key = Key {
        id: KeyRef::Slot(PivSlot::parse("9a").unwrap()),
        public: PublicKey::Ed25519([7; 32]),
        touch: TouchPolicy::Never,
        evidence: vec![],
    };
    let code = |length: usize| {
        let message = SignedData::of(Algorithm::Ed25519, &vec![0; length]).unwrap();
        let error = token.sign(&key, &message, &|_| {}).unwrap_err();
        assert!(error.surely_not_signed(), "{error}");
        error.code().to_string()
    };
    for length in [255, 1015, record::MAX_MESSAGE_BYTES] {
        assert_eq!(code(length), "token-refused", "{length}");
    }
    for length in [0, 254, 256, 1014] {
        assert_eq!(code(length), "token-gone", "{length}: it got as far as the card");
    }
    let digest = SignedData::of(Algorithm::EcdsaP256, b"x").unwrap();
    assert_eq!(token.sign(&key, &digest, &|_| {}).unwrap_err().code().as_str(), "token-refused");
}

#[test]
fn no_build_of_this_program_writes_the_apdus_of_the_yubikey_crate() {
    assert_eq!(log::STATIC_MAX_LEVEL, log::LevelFilter::Debug);
}
