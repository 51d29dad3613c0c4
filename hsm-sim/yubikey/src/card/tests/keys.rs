use super::{Bench, MgmtAlgorithm, OK, P256, PIN};
use crate::{profile::Profile, state::State, tlv};

fn metadata(bench: &mut Bench, reference: u8) -> (Vec<u8>, u16) {
    bench.raw(&[0, 0xf7, 0, reference, 0, 0, 0])
}

fn moved(bench: &mut Bench, to: u8, from: u8) -> u16 {
    bench.raw(&[0, 0xf6, to, from]).1
}

#[test]
fn a_key_is_made_only_with_the_management_key_and_a_known_algorithm() {
    let mut bench = Bench::new(Profile::V5_4_3);
    assert_eq!(bench.sw([0, 0x47, 0, 0x9a], &[1, 2, 3]), 0x6982);
    assert_eq!(bench.authenticate(), OK);
    let mut generate = |slot, body: &[u8]| bench.sw([0, 0x47, 0, slot], &tlv::encode(0xac, body));
    assert_eq!(generate(0x9a, &[0x80, 1, P256]), OK);
    for id in [0xe0, 0xe1, 0x05, 0x16, 0x00] {
        assert_eq!(generate(0x9a, &[0x80, 1, id]), 0x6a80, "{id:02x}");
    }
    assert_eq!(generate(0x96, &[0x80, 1, P256]), 0x6a80);
    for policy in [[0xaa, 1, 4], [0xaa, 1, 5], [0xab, 1, 4]] {
        assert_eq!(generate(0x9a, &[&[0x80, 1, P256], &policy[..]].concat()), 0x6a80);
    }
}

#[test]
fn slots_have_their_own_default_policies() {
    let mut bench = Bench::v5_7();
    for (slot, pin) in [(0x9a, 2), (0x9c, 3), (0x9d, 2), (0x9e, 1), (0x82, 2), (0x95, 2)] {
        let public = bench.generate(slot, P256, 0, 0);
        let expected = [&[1, 1, P256, 2, 2, pin, 1, 3, 1, 1], tlv::encode(4, &public).as_slice()].concat();
        assert_eq!(metadata(&mut bench, slot), (expected, OK), "{slot:02x}");
    }
}

#[test]
fn an_imported_key_says_so_and_does_its_work() {
    let mut bench = Bench::v5_7();
    let body = [&[6, 32], &[0x11; 32][..], &[0xaa, 1, 1, 0xab, 1, 3]].concat();
    assert_eq!(bench.sw([0, 0xfe, P256, 0x9a], &body), 0x6982);
    assert_eq!(bench.authenticate(), OK);
    assert_eq!(bench.sw([0, 0xfe, P256, 0x9a], &body), OK);
    assert_eq!(metadata(&mut bench, 0x9a).0[..10], [1, 1, P256, 2, 2, 1, 3, 3, 1, 2]);
    assert_eq!(bench.try_sign(0x9a), OK);
    for (algorithm, bad) in
        [(P256, &[6, 2, 1, 1][..]), (P256, &[7, 0]), (0xe0, &[7, 2, 1, 1]), (7, &[1, 1, 3])]
    {
        assert_eq!(bench.sw([0, 0xfe, algorithm, 0x9a], bad), 0x6a80);
    }
}

#[test]
fn metadata_of_references_shows_default_and_counters() {
    let mut bench = Bench::v5_7();
    assert_eq!(metadata(&mut bench, 0x80).0, [1, 1, 0xff, 5, 1, 1, 6, 2, 3, 3]);
    bench.verify(super::WRONG);
    bench.sw([0, 0x24, 0, 0x81], &[super::PUK, b"87654321"].concat());
    assert_eq!(metadata(&mut bench, 0x80).0, [1, 1, 0xff, 5, 1, 1, 6, 2, 3, 2]);
    assert_eq!(metadata(&mut bench, 0x81).0, [1, 1, 0xff, 5, 1, 0, 6, 2, 3, 3]);
    assert_eq!(metadata(&mut bench, 0x9b).0, [1, 1, 0x0a, 2, 2, 0, 1, 5, 1, 1]);
    assert_eq!(metadata(&mut Bench::new(Profile::V5_4_3), 0x9b).0, [1, 1, 3, 2, 2, 0, 1, 5, 1, 1]);
    for absent in [0x9a, 0x96, 0x00] {
        assert_eq!(metadata(&mut bench, absent).1, 0x6a88);
    }
}

#[test]
fn a_key_moves_and_its_checks_come_in_order() {
    let mut bench = Bench::v5_7();
    assert_eq!(moved(&mut bench, 0x82, 0x9a), 0x6982);
    let public = bench.generate(0x9a, P256, 0, 0);
    bench.generate(0x9c, P256, 0, 0);
    for (to, from, expected) in [
        (0x96, 0x96, 0x6a80),
        (0xf9, 0x9a, 0x6a80),
        (0x82, 0x96, 0x6a88),
        (0x82, 0xf9, 0x6a88),
        (0x9d, 0x9d, 0x6a80),
        (0x9a, 0x9d, 0x6a88),
        (0x9c, 0x9a, 0x6a80),
        (0x82, 0x9a, OK),
        (0xff, 0x9c, OK),
        (0xff, 0x9c, 0x6a88),
    ] {
        assert_eq!(moved(&mut bench, to, from), expected, "{to:02x} {from:02x}");
    }
    let (data, sw) = metadata(&mut bench, 0x82);
    assert_eq!((&data[10..], sw), (tlv::encode(4, &public).as_slice(), OK));
    assert_eq!(metadata(&mut bench, 0x9a).1, 0x6a88);
    assert_eq!(moved(&mut Bench::new(Profile::V5_4_3), 0x82, 0x9a), 0x6d00);
}

#[test]
fn a_card_comes_back_from_its_file_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state");
    let mut bench = Bench::v5_7();
    for (slot, algorithm) in [(0x9a, P256), (0x9c, 0x14), (0x9d, 0xe0), (0x9e, 0xe1)] {
        bench.generate(slot, algorithm, 0, 2);
    }
    bench.sw([0, 0xdb, 0x3f, 0xff], &[0x5c, 3, 0x5f, 0xc1, 5, 0x53, 1, 7]);
    bench.sw([0, 0xff, 0xff, 0xfe], &[&[8], tlv::encode(0x9b, &[1; 16]).as_slice()].concat());
    bench.verify(super::WRONG);
    bench.card.state.save(&file).unwrap();
    let back = State::load(&file).unwrap().unwrap();
    let text = |state: &State| serde_json::to_string(state).unwrap();
    assert_eq!(text(&back), text(&bench.card.state));
    assert_eq!(back.management.algorithm, MgmtAlgorithm::Aes128);
    let mut again = Bench { card: crate::Card::new(back, Default::default()), world: bench.world };
    again.select(&super::PIV);
    assert_eq!(again.pin_status(), 0x63c2);
    assert_eq!(again.verify(PIN), OK);
    assert_eq!(again.try_sign(0x9a), OK);
}

#[test]
fn a_state_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state");
    assert!(State::load(&file).unwrap().is_none());
    let good = serde_json::to_string(&State::factory(Profile::V5_7_4, 1).unwrap()).unwrap();
    for (bad, expected) in [
        (String::new(), "no state"),
        (good.replace("\"format\":1", "\"format\":2"), "another form"),
        (good.replace("5.7.4", "5.6.0"), "another form"),
        (good.replace("\"serial\"", "\"cereal\""), "no state"),
    ] {
        std::fs::write(&file, bad).unwrap();
        let error = State::load(&file).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
