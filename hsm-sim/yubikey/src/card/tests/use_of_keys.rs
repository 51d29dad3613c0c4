use super::{Bench, OK, P256, PIN, sign_template, template};
use crate::{
    card::TOUCH_CACHE,
    journal::{Operation, PinState, TouchState},
    ports::Touch,
    profile::Profile,
    tlv,
};
use std::time::Duration;

const NEVER: u8 = 1;
const ONCE: u8 = 2;
const ALWAYS: u8 = 3;
const TOUCH_NEVER: u8 = 1;
const TOUCH_ALWAYS: u8 = 2;
const TOUCH_CACHED: u8 = 3;
const P384: u8 = 0x14;
const ED25519: u8 = 0xe0;
const X25519: u8 = 0xe1;

/// 9a once, 9c always, 9d always, 9e never; the PIN is not verified.
fn four_keys() -> Bench {
    let mut bench = Bench::v5_7();
    for (slot, pin) in [(0x9a, ONCE), (0x9c, ALWAYS), (0x9d, ALWAYS), (0x9e, NEVER)] {
        bench.generate(slot, P256, pin, TOUCH_NEVER);
    }
    bench
}

fn touch_key(touch: u8) -> Bench {
    let mut bench = Bench::v5_7();
    bench.generate(0x9c, P256, ALWAYS, touch);
    bench.generate(0x9a, P256, ONCE, touch);
    assert_eq!(bench.verify(PIN), OK);
    bench
}

#[test]
fn each_pin_policy_wants_the_pin_when_its_name_says() {
    let mut bench = four_keys();
    assert_eq!([0x9a, 0x9c, 0x9e].map(|slot| bench.try_sign(slot)), [0x6982, 0x6982, OK]);
    bench.verify(PIN);
    assert_eq!([0x9c, 0x9c].map(|slot| bench.try_sign(slot)), [OK, 0x6982]);
    assert_eq!([0x9a, 0x9a, 0x9e].map(|slot| bench.try_sign(slot)), [OK, OK, OK]);
}

#[test]
fn any_use_of_a_pin_gated_key_spends_the_freshness_and_others_do_not() {
    let mut bench = four_keys();
    bench.verify(PIN);
    assert_eq!([0x9e, 0x9e, 0x9a, 0x9c].map(|slot| bench.try_sign(slot)), [OK, OK, OK, 0x6982]);
    bench.verify(PIN);
    assert_eq!([0x9d, 0x9c].map(|slot| bench.try_sign(slot)), [OK, 0x6982]);
}

#[test]
fn a_computation_that_fails_spends_the_freshness() {
    let mut bench = four_keys();
    bench.verify(PIN);
    assert_eq!(bench.sw([0, 0x87, P256, 0x9d], &template(0x85, &[4; 65])), 0x6a80);
    assert_eq!(bench.try_sign(0x9c), 0x6982);
}

#[test]
fn what_does_not_reach_the_key_does_not_spend_the_freshness() {
    let mut bench = touch_key(TOUCH_ALWAYS);
    assert_eq!(bench.sign(0x9c, P384, &[7; 48]).1, 0x6a80);
    assert_eq!(bench.try_sign(0x82), 0x6a80);
    assert_eq!(bench.sw([0, 0x87, P256, 0x9c], &[0x7c, 2, 0x82, 0]), 0x6a80);
    bench.world.touch = Touch::Missing;
    assert_eq!(bench.try_sign(0x9c), 0x6982);
    bench.world.touch = Touch::Given;
    assert_eq!(bench.try_sign(0x9c), OK);
}

#[test]
fn the_key_is_looked_for_before_the_pin_and_the_pin_before_algorithm_and_touch() {
    let mut bench = touch_key(TOUCH_ALWAYS);
    bench.raw(&[0, 0x20, 0xff, 0x80]);
    assert_eq!(bench.try_sign(0x9d), 0x6a80);
    assert_eq!(bench.sign(0x9c, P384, &[7; 48]).1, 0x6982);
    assert_eq!(bench.world.touches, 0);
    bench.verify(PIN);
    assert_eq!(bench.sign(0x9c, P384, &[7; 48]).1, 0x6a80);
    assert_eq!(bench.world.touches, 0);
}

#[test]
fn each_touch_policy_asks_when_its_name_says() {
    for (policy, expected) in [(TOUCH_NEVER, 0), (TOUCH_ALWAYS, 3), (TOUCH_CACHED, 1)] {
        let mut bench = touch_key(policy);
        assert_eq!([0x9a; 3].map(|slot| bench.try_sign(slot)), [OK; 3]);
        assert_eq!(bench.world.touches, expected, "{policy}");
    }
}

#[test]
fn a_cached_touch_counts_for_fifteen_seconds_and_for_its_key() {
    let mut bench = touch_key(TOUCH_CACHED);
    assert_eq!(bench.try_sign(0x9a), OK);
    bench.world.touch = Touch::Missing;
    bench.world.now += TOUCH_CACHE - Duration::from_millis(1);
    assert_eq!(bench.try_sign(0x9a), OK);
    bench.verify(PIN);
    assert_eq!(bench.try_sign(0x9c), 0x6982);
    bench.world.now += Duration::from_millis(1);
    assert_eq!(bench.try_sign(0x9a), 0x6982);
}

#[test]
fn a_cached_touch_outlives_a_reset_and_not_the_plug() {
    let mut bench = touch_key(TOUCH_CACHED);
    assert_eq!(bench.try_sign(0x9a), OK);
    bench.world.touch = Touch::Missing;
    for (away, expected) in [(crate::Card::reset as fn(&mut _), OK), (crate::Card::unplug, 0x6982)] {
        away(&mut bench.card);
        bench.select(&super::PIV);
        bench.verify(PIN);
        assert_eq!(bench.try_sign(0x9a), expected);
    }
}

#[test]
fn a_new_key_does_not_inherit_the_touch_of_the_old() {
    let mut bench = touch_key(TOUCH_CACHED);
    assert_eq!(bench.try_sign(0x9a), OK);
    bench.generate(0x9a, P256, ONCE, TOUCH_CACHED);
    bench.world.touch = Touch::Missing;
    assert_eq!(bench.try_sign(0x9a), 0x6982);
}

#[test]
fn journal_first() {
    let mut bench = four_keys();
    bench.world.disk_full = true;
    let (made, sw) = bench.sign(0x9e, P256, &[7; 32]);
    assert_eq!((made.as_slice(), sw), (&[][..], 0x6581));
}

#[test]
fn the_journal_has_every_signature_with_what_led_to_it() {
    let mut bench = touch_key(TOUCH_CACHED);
    let made: Vec<Vec<u8>> = [0x9c, 0x9a, 0x9a].map(|slot| bench.sign(slot, P256, &[7; 32]).0).to_vec();
    let journal = &bench.world.journal;
    assert_eq!(journal.iter().map(|signed| signed.signature.clone()).collect::<Vec<_>>(), made);
    let states: Vec<_> = journal.iter().map(|signed| (signed.pin, signed.touch)).collect();
    assert_eq!(
        states,
        [
            (PinState::Fresh, TouchState::Given),
            (PinState::Verified, TouchState::Given),
            (PinState::Verified, TouchState::Cached)
        ]
    );
    assert!(journal.iter().all(|signed| signed.operation == Operation::Sign));
    assert_eq!(journal[0].input.as_deref(), Some(&[7; 32][..]));
}

#[test]
fn signatures_of_every_curve_verify() {
    use ed25519_dalek::Verifier;
    use p256::ecdsa::signature::hazmat::PrehashVerifier;
    let mut bench = Bench::v5_7();
    let point = |public: Vec<u8>| tlv::only(&public, 0x86).unwrap().to_vec();
    for (digest, seen) in [(vec![9; 32], vec![9; 32]), ([[9; 32], [1; 32]].concat(), vec![9; 32])] {
        let key = point(bench.generate(0x9e, P256, NEVER, TOUCH_NEVER));
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&key).unwrap();
        let made = p256::ecdsa::Signature::from_der(&bench.sign(0x9e, P256, &digest).0).unwrap();
        key.verify_prehash(&seen, &made).unwrap();
    }
    let short = [&[0; 28], &[9; 20][..]].concat();
    let key = point(bench.generate(0x9e, P384, NEVER, TOUCH_NEVER));
    let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(&key).unwrap();
    let made = p384::ecdsa::Signature::from_der(&bench.sign(0x9e, P384, &[9; 20]).0).unwrap();
    key.verify_prehash(&short, &made).unwrap();
    let key = point(bench.generate(0x9e, ED25519, NEVER, TOUCH_NEVER));
    let key = ed25519_dalek::VerifyingKey::from_bytes(&key.try_into().unwrap()).unwrap();
    for message in [&b""[..], &[3; 255], &[3; 3000]] {
        let made = bench.sign(0x9e, ED25519, message).0;
        key.verify(message, &ed25519_dalek::Signature::from_slice(&made).unwrap()).unwrap();
    }
}

#[test]
fn two_keys_agree_on_the_same_secret() {
    let mut bench = Bench::v5_7();
    for algorithm in [P256, P384, X25519] {
        let mut point =
            |slot| tlv::only(&bench.generate(slot, algorithm, NEVER, TOUCH_NEVER), 0x86).unwrap().to_vec();
        let (one, other) = (point(0x82), point(0x83));
        let mut agree = |slot, peer: &[u8]| bench.send([0, 0x87, algorithm, slot], &template(0x85, peer));
        let (here, there) = (agree(0x82, &other), agree(0x83, &one));
        assert_eq!(here, there);
        assert_eq!(here.1, OK);
    }
    assert!(bench.world.journal.is_empty());
}

#[test]
fn a_key_refuses_what_is_not_its_trade() {
    let mut bench = Bench::v5_7();
    bench.generate(0x82, X25519, NEVER, TOUCH_NEVER);
    bench.generate(0x83, ED25519, NEVER, TOUCH_NEVER);
    assert_eq!(bench.sign(0x82, X25519, &[1; 32]).1, 0x6a80);
    assert_eq!(bench.sw([0, 0x87, ED25519, 0x83], &template(0x85, &[9; 32])), 0x6a80);
    bench.generate(0x9e, P256, NEVER, TOUCH_NEVER);
    assert_eq!(bench.sign(0x9e, P256, &[]).1, 0x6a80);
    for slot in [0xf9, 0x9b, 0x80, 0x96] {
        assert_eq!(bench.try_sign(slot), 0x6a80, "{slot:02x}");
    }
}

#[test]
fn a_template_is_one_whole_element_that_asks_something() {
    let mut bench = four_keys();
    let whole = sign_template(&[7; 32]);
    for bad in [
        &whole[..whole.len() - 1],
        &[whole.as_slice(), &[0]].concat(),
        &tlv::encode(0x7d, &whole[2..]),
        &[0x7c, 0],
        &[0x7c, 2, 0x82, 0],
        &[0x7c, 2, 0x80, 0],
        &template(0x82, &[1; 32]),
    ] {
        assert_eq!(bench.sw([0, 0x87, P256, 0x9e], bad), 0x6a80, "{bad:02x?}");
    }
    // The first tag that asks decides; the later challenge is not looked at.
    let both = tlv::encode(0x7c, &[tlv::encode(0x85, &[1; 65]), tlv::encode(0x81, &[7; 32])].concat());
    assert_eq!(bench.sw([0, 0x87, P256, 0x9e], &both), 0x6a80);
}

#[test]
fn rsa_takes_a_block_of_the_length_of_its_modulus() {
    let mut bench = Bench::new(Profile::V5_4_3);
    let key = bench.card.state.slots[&crate::Slot::ATTESTATION].clone();
    let modulus = tlv::find(&tlv::parse(&key.key.public_tlv()).unwrap(), 0x81).unwrap().to_vec();
    bench.card.state.slots.insert(crate::Slot::CARD_AUTHENTICATION, key);
    let block = [&[0, 1], &[0xff; 254][..]].concat();
    let (made, sw) = bench.sign(0x9e, 7, &block);
    assert_eq!((made.len(), sw), (256, OK));
    let public = rsa::RsaPublicKey::new(
        rsa::BoxedUint::from_be_slice(&modulus, 2048).unwrap(),
        rsa::BoxedUint::from(65537u32),
    );
    let number = rsa::BoxedUint::from_be_slice(&made, 2048).unwrap();
    let back = rsa::hazmat::rsa_encrypt(&public.unwrap(), &number).unwrap();
    assert_eq!(back.to_be_bytes().as_ref(), block);
    for bad in [&block[1..], &[0xff; 256]] {
        assert_eq!(bench.sign(0x9e, 7, bad).1, 0x6a80);
    }
}
