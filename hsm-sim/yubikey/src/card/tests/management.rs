use super::{Bench, MgmtAlgorithm, OK, PIV, template};
use crate::{management_key::ManagementKey, ports::Touch, profile::Profile, tlv};

const GENERAL_AUTHENTICATE: u8 = 0x87;

fn head(bench: &Bench) -> [u8; 4] {
    [0, GENERAL_AUTHENTICATE, bench.card.state.management.algorithm.id(), 0x9b]
}

fn ask(bench: &mut Bench, tag: u8) -> Vec<u8> {
    let (shown, sw) = bench.send(head(bench), &[0x7c, 2, tag, 0]);
    assert_eq!(sw, OK);
    tlv::only(tlv::only(&shown, 0x7c).unwrap(), u32::from(tag)).unwrap().to_vec()
}

fn answer(bench: &Bench, challenge: &[u8]) -> Vec<u8> {
    template(0x82, &bench.card.state.management.encrypt(challenge).unwrap())
}

/// The card keeps the plain witness; a client would decrypt the shown one.
fn witness(bench: &Bench) -> Vec<u8> {
    match &bench.card.session.pending {
        Some(super::super::management_auth::Pending::Witness(plain)) => plain.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_flows_prove_the_key_in_both_profiles() {
    for profile in Profile::ALL {
        let mut bench = Bench::new(profile);
        assert!(!bench.is_authenticated());
        assert_eq!(bench.authenticate(), OK);
        assert!(bench.is_authenticated());
        bench.card.reset();
        bench.select(&PIV);
        let shown = ask(&mut bench, 0x80);
        let plain = witness(&bench);
        assert_eq!(bench.card.state.management.encrypt(&plain).unwrap(), shown);
        let challenge = vec![5; plain.len()];
        let body = tlv::encode(0x7c, &[tlv::encode(0x80, &plain), tlv::encode(0x81, &challenge)].concat());
        let (reply, sw) = bench.send(head(&bench), &body);
        let expected = bench.card.state.management.encrypt(&challenge).unwrap();
        assert_eq!((reply, sw), (template(0x82, &expected), OK));
        assert!(bench.is_authenticated());
    }
}

#[test]
fn the_wrong_algorithm_is_refused_before_anything_else() {
    for (profile, wrong) in [(Profile::V5_4_3, 0x0a), (Profile::V5_7_4, 0x03), (Profile::V5_7_4, 0x08)] {
        let mut bench = Bench::new(profile);
        assert_eq!(bench.sw([0, GENERAL_AUTHENTICATE, wrong, 0x9b], &[0x7c, 2, 0x80, 0]), 0x6a80);
    }
}

#[test]
fn a_wrong_answer_is_6982_and_the_challenge_is_used_up() {
    let mut bench = Bench::v5_7();
    let challenge = ask(&mut bench, 0x81);
    let right = answer(&bench, &challenge);
    assert_eq!(bench.sw(head(&bench), &template(0x82, &[0; 16])), 0x6982);
    assert_eq!(bench.sw(head(&bench), &right), 0x6a80);
    assert!(!bench.is_authenticated());
}

#[test]
fn the_first_step_ends_what_stood_before() {
    let mut bench = Bench::v5_7();
    assert_eq!(bench.authenticate(), OK);
    ask(&mut bench, 0x81);
    assert!(!bench.is_authenticated());
}

#[test]
fn a_challenge_lives_until_a_command_that_has_nothing_to_do_with_it() {
    for (between, expected) in [
        (&[0, 0xf7, 0, 0x9b][..], OK),
        (&[0, 0xa4, 4, 0, 5, 0xa0, 0, 0, 3, 8], OK),
        (&[0, 0xf7, 0, 0x80], 0x6a80),
        (&[0, 0xfd, 0, 0], 0x6a80),
        (&[0, 0x20, 0, 0x80], 0x6a80),
    ] {
        let mut bench = Bench::v5_7();
        let challenge = ask(&mut bench, 0x81);
        bench.raw(between);
        let right = answer(&bench, &challenge);
        assert_eq!(bench.sw(head(&bench), &right), expected, "{between:02x?}");
    }
}

#[test]
fn a_challenge_of_one_flow_does_not_answer_the_other() {
    let mut bench = Bench::v5_7();
    let challenge = ask(&mut bench, 0x81);
    let body = tlv::encode(0x7c, &[tlv::encode(0x80, &challenge), tlv::encode(0x81, &[0; 16])].concat());
    assert_eq!(bench.sw(head(&bench), &body), 0x6a80);
    let shown = ask(&mut bench, 0x80);
    let plain = witness(&bench);
    assert_eq!(bench.sw(head(&bench), &template(0x82, &shown)), 0x6a80);
    assert_eq!(bench.sw(head(&bench), &answer(&bench, &plain)), 0x6a80);
    assert!(!bench.is_authenticated());
}

#[test]
fn the_card_encrypts_nothing_for_a_stranger() {
    let mut bench = Bench::v5_7();
    assert_eq!(bench.sw(head(&bench), &template(0x81, &[1; 16])), 0x6a80);
    ask(&mut bench, 0x80);
    let body = tlv::encode(0x7c, &[tlv::encode(0x80, &[0; 16]), tlv::encode(0x81, &[1; 16])].concat());
    assert_eq!(bench.send(head(&bench), &body), (vec![], 0x6982));
}

#[test]
fn a_new_key_wants_the_old_one_proved() {
    let mut bench = Bench::v5_7();
    for (algorithm, length) in [(0x08, 16), (0x0c, 32), (0x0a, 24), (0x03, 24)] {
        let key = vec![0x42; length];
        let body = [&[algorithm], tlv::encode(0x9b, &key).as_slice()].concat();
        bench.card.reset();
        bench.select(&PIV);
        assert_eq!(bench.sw([0, 0xff, 0xff, 0xff], &body), 0x6982);
        assert_eq!(bench.authenticate(), OK);
        assert_eq!(bench.sw([0, 0xff, 0xff, 0xff], &body[..body.len() - 1]), 0x6a80);
        assert_eq!(bench.sw([0, 0xff, 0, 0xff], &body), 0x6a80);
        assert_eq!(bench.sw([0, 0xff, 0xff, 0xff], &body), OK);
        assert!(bench.card.state.management.is(&key));
        assert_eq!(bench.authenticate(), OK);
    }
}

#[test]
fn a_key_that_wants_a_touch_is_not_proved_without() {
    let mut bench = Bench::v5_7();
    bench.card.state.management = ManagementKey::new(MgmtAlgorithm::Aes128, &[1; 16], true).unwrap();
    bench.world.touch = Touch::Missing;
    assert_eq!(bench.authenticate(), 0x6982);
    bench.world.touch = Touch::Given;
    assert_eq!(bench.authenticate(), OK);
    assert_eq!(bench.world.touches, 2);
}

#[test]
fn the_management_application_tells_what_device_this_is() {
    let mut bench = Bench::v5_7();
    let (text, sw) = bench.send([0, 0xa4, 4, 0], &crate::card::MANAGEMENT_AID);
    assert_eq!((text.as_slice(), sw), (&b"Virtual mgr - FW version 5.7.4"[..], OK));
    let info = bench.raw(&[0, 0x1d, 0, 0]).0;
    assert_eq!(usize::from(info[0]), info.len() - 1);
    let fields = tlv::parse(&info[1..]).unwrap();
    assert_eq!(tlv::find(&fields, 2), Some(&7_654_321_u32.to_be_bytes()[..]));
    assert_eq!(tlv::find(&fields, 5), Some(&[5, 7, 4][..]));
    assert_eq!(bench.raw(&[0, 0x20, 0, 0x80]).1, 0x6d00);
}
