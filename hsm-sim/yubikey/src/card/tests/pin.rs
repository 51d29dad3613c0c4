use super::{Bench, OK, P256, PIN, PIV, PUK, WRONG};
use crate::card::{MANAGEMENT_AID, PIV_AID};

const NEW: &[u8] = b"abcdef\xff\xff";

fn change(bench: &mut Bench, reference: u8, old: &[u8], new: &[u8]) -> u16 {
    bench.sw([0, 0x24, 0, reference], &[old, new].concat())
}

fn unblock(bench: &mut Bench, puk: &[u8], new: &[u8]) -> u16 {
    bench.sw([0, 0x2c, 0, 0x80], &[puk, new].concat())
}

fn signed_in() -> Bench {
    let mut bench = Bench::v5_7();
    assert_eq!(bench.authenticate(), OK);
    assert_eq!(bench.verify(PIN), OK);
    bench
}

#[test]
fn selecting_piv_again_keeps_pin_and_management_state() {
    let mut bench = signed_in();
    for length in PIV.len()..=PIV_AID.len() {
        assert_eq!(bench.select(&PIV_AID[..length]), OK);
        assert_eq!(bench.pin_status(), OK);
        assert!(bench.is_authenticated());
    }
}

#[test]
fn another_application_or_a_reset_ends_pin_and_management_state() {
    for away in [
        |bench: &mut Bench| assert_eq!(bench.select(&MANAGEMENT_AID), OK),
        |bench: &mut Bench| bench.card.reset(),
    ] {
        let mut bench = signed_in();
        away(&mut bench);
        assert_eq!(bench.select(&PIV), OK);
        assert_eq!(bench.pin_status(), 0x63c3);
        assert!(!bench.is_authenticated());
    }
}

#[test]
fn selecting_an_unknown_application_changes_nothing() {
    let mut bench = signed_in();
    for aid in [&[0xa0, 0, 0, 5, 0x27, 0x20, 1, 1][..], &PIV[..4], b"\xa0\0\0\x03\x09"] {
        assert_eq!(bench.select(aid), 0x6a82);
        assert_eq!(bench.pin_status(), OK);
        assert!(bench.is_authenticated());
    }
}

#[test]
fn a_wrong_pin_costs_a_try_and_the_standing_state() {
    let mut bench = signed_in();
    assert_eq!(bench.verify(WRONG), 0x63c2);
    assert_eq!(bench.pin_status(), 0x63c2);
    assert_eq!(bench.verify(PIN), OK);
    assert_eq!([bench.verify(WRONG), bench.verify(WRONG), bench.verify(WRONG)], [0x63c2, 0x63c1, 0x6983]);
    assert_eq!(bench.verify(PIN), 0x6983);
    assert_eq!(bench.pin_status(), 0x6983);
}

#[test]
fn a_failed_change_costs_its_own_counter_and_not_the_standing_state() {
    let mut bench = signed_in();
    assert_eq!(change(&mut bench, 0x80, WRONG, NEW), 0x63c2);
    assert_eq!(change(&mut bench, 0x81, WRONG, NEW), 0x63c2);
    assert_eq!(unblock(&mut bench, WRONG, NEW), 0x63c1);
    assert_eq!(bench.pin_status(), OK);
    assert_eq!((bench.card.state.pin.left, bench.card.state.puk.left), (2, 1));
}

#[test]
fn a_malformed_verify_costs_no_try_but_the_standing_state() {
    for body in [&b"1"[..], b"123456", b"123456\xff\xff\xff"] {
        let mut bench = signed_in();
        assert_eq!(bench.verify(body), 0x6a80);
        assert_eq!(bench.pin_status(), 0x63c3, "{body:?}");
    }
}

#[test]
fn verify_knows_one_reference_and_a_logout() {
    let mut bench = signed_in();
    for (p1, p2) in [(0, 0x81), (1, 0x80), (0, 0), (0, 0x96)] {
        assert_eq!(bench.sw([0, 0x20, p1, p2], PIN), 0x6a80);
    }
    assert_eq!(bench.sw([0, 0x20, 0xff, 0x80], PIN), 0x6a80);
    assert_eq!(bench.pin_status(), OK);
    assert_eq!(bench.raw(&[0, 0x20, 0xff, 0x80]).1, OK);
    assert_eq!(bench.pin_status(), 0x63c3);
}

#[test]
fn a_change_judges_the_old_value_before_it_looks_at_the_new() {
    let mut bench = Bench::v5_7();
    for bad in [&b"12345\xff\xff\xff"[..], b"\xff\xff\xff\xff\xff\xff\xff\xff", b"123456\xff7"] {
        assert_eq!(change(&mut bench, 0x80, PIN, bad), 0x6a80);
        assert_eq!(change(&mut bench, 0x80, WRONG, bad), 0x63c2);
        assert_eq!(unblock(&mut bench, PUK, bad), 0x6a80);
    }
    assert_eq!(change(&mut bench, 0x80, PIN, NEW), OK);
    assert_eq!(bench.verify(NEW), OK);
    assert_eq!(change(&mut bench, 0x81, PUK, b"\x01\x02\x03\x04\x05\x06\x07\x08"), OK);
}

#[test]
fn a_change_wants_sixteen_bytes_and_a_known_reference() {
    let mut bench = Bench::v5_7();
    assert_eq!(bench.sw([0, 0x24, 0, 0x80], PIN), 0x6a80);
    assert_eq!(bench.sw([0, 0x2c, 0, 0x80], &[0; 17]), 0x6a80);
    for head in [[0, 0x24, 1, 0x80], [0, 0x24, 0, 0x82], [0, 0x2c, 0, 0x81], [0, 0x2c, 1, 0x80]] {
        assert_eq!(bench.sw(head, &[PIN, NEW].concat()), 0x6a88);
    }
    assert_eq!((bench.card.state.pin.left, bench.card.state.puk.left), (3, 3));
}

#[test]
fn the_puk_gives_a_new_pin_and_all_its_tries() {
    let mut bench = Bench::v5_7();
    for _ in 0..3 {
        bench.verify(WRONG);
    }
    assert_eq!(change(&mut bench, 0x80, PIN, NEW), 0x6983);
    assert_eq!(unblock(&mut bench, PUK, NEW), OK);
    assert_eq!(bench.pin_status(), 0x63c3);
    assert_eq!(bench.verify(NEW), OK);
    for _ in 0..3 {
        unblock(&mut bench, WRONG, NEW);
    }
    assert_eq!(unblock(&mut bench, PUK, NEW), 0x6983);
}

#[test]
fn a_body_of_one_byte_is_refused_whatever_the_instruction() {
    let mut bench = signed_in();
    for ins in
        [0x24, 0x2c, 0x47, 0x87, 0xcb, 0xdb, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfd, 0xfe, 0xff, 0x20]
    {
        assert_eq!(bench.sw([0, ins, 0, 0x80], &[0]), 0x6a80, "{ins:02x}");
    }
}

#[test]
fn retries_are_set_with_pin_and_management_key_and_bring_the_defaults_back() {
    let mut bench = Bench::v5_7();
    let set = |bench: &mut Bench, pin, puk| bench.raw(&[0, 0xfa, pin, puk]).1;
    assert_eq!(bench.verify(PIN), OK);
    assert_eq!(set(&mut bench, 9, 7), 0x6982);
    bench.card.reset();
    bench.select(&PIV);
    assert_eq!(bench.authenticate(), OK);
    assert_eq!(set(&mut bench, 9, 7), 0x6982);
    assert_eq!(change(&mut bench, 0x80, PIN, NEW), OK);
    assert_eq!(bench.verify(NEW), OK);
    assert_eq!(set(&mut bench, 9, 7), OK);
    assert_eq!(bench.pin_status(), 0x63c9);
    assert_eq!(bench.verify(PIN), OK);
    assert_eq!(set(&mut bench, 0, 7), 0x6a80);
    bench.card.options.zero_retries = true;
    assert_eq!(set(&mut bench, 0, 0), OK);
    assert_eq!(bench.verify(PIN), 0x6983);
    assert_eq!(bench.raw(&[0, 0xfb, 0, 0]).1, OK);
}

#[test]
fn more_than_fifteen_tries_are_shown_as_fifteen() {
    let mut bench = signed_in();
    assert_eq!(bench.raw(&[0, 0xfa, 200, 200]).1, OK);
    assert_eq!(bench.pin_status(), 0x63cf);
    assert_eq!(bench.card.state.pin.left, 200);
}

#[test]
fn a_reset_wants_pin_and_puk_blocked_and_spares_f9() {
    let mut bench = Bench::v5_7();
    bench.generate(0x9a, P256, 0, 0);
    let reset = |bench: &mut Bench| bench.raw(&[0, 0xfb, 0, 0]).1;
    assert_eq!(reset(&mut bench), 0x6985);
    for _ in 0..3 {
        bench.verify(WRONG);
    }
    assert_eq!(reset(&mut bench), 0x6985);
    for _ in 0..3 {
        unblock(&mut bench, WRONG, NEW);
    }
    assert_eq!(reset(&mut bench), OK);
    assert!(!bench.is_authenticated());
    assert_eq!(bench.verify(PIN), OK);
    let left: Vec<String> = bench.card.state.slots.keys().map(ToString::to_string).collect();
    assert_eq!(left, ["f9"]);
    assert_eq!(bench.sw([0, 0xcb, 0x3f, 0xff], &[0x5c, 3, 0x5f, 0xff, 1]), OK);
}

#[test]
fn every_try_is_saved_before_its_answer() {
    let mut bench = Bench::v5_7();
    assert_eq!(bench.verify(WRONG), 0x63c2);
    assert_eq!(bench.world.saves, 1);
    bench.world.disk_full = true;
    assert_eq!(bench.verify(PIN), 0x6581);
}
