use super::{Bench, OK, P256, sign_template};
use crate::{Profile, card::MAX_BODY_BYTES};

#[test]
fn selected_piv_shows_its_property_template() {
    let (template, sw) = Bench::v5_7().send([0, 0xa4, 4, 0], &super::PIV);
    let expected = "61114f0600001000010079074f05a000000308";
    assert_eq!((crate::hex::encode(&template).as_str(), sw), (expected, OK));
}

#[test]
fn without_an_application_only_select_is_known() {
    let mut bench = Bench::v5_7();
    bench.card.reset();
    for ins in [0xcb, 0x20, 0xfd, 0xc0] {
        assert_eq!(bench.raw(&[0, ins, 0x3f, 0xff, 3, 0x5c, 1, 0x7e]).1, 0x6d00);
    }
    assert_eq!(bench.raw(&[0, 0xa4, 0, 0x0c, 2, 0x3f, 0]).1, 0x6d00);
}

#[test]
fn version_and_serial_ignore_parameters_and_body() {
    for profile in Profile::ALL {
        let mut bench = Bench::new(profile);
        assert_eq!(bench.raw(&[0, 0xfd, 9, 9, 2, 0, 0]), (profile.firmware().bytes().to_vec(), OK));
        assert_eq!(bench.raw(&[0, 0xf8, 9, 9]), (7_654_321_u32.to_be_bytes().to_vec(), OK));
    }
}

#[test]
fn secure_messaging_classes_are_refused_but_for_select() {
    let mut bench = Bench::v5_7();
    for (cla, expected) in [(0, OK), (0x80, OK), (4, 0x6e00), (0x84, 0x6e00), (1, 0x6e00), (0x40, 0x6e00)] {
        assert_eq!(bench.raw(&[cla, 0xfd, 0, 0]).1, expected, "{cla:02x}");
    }
    assert_eq!(bench.sw([4, 0xa4, 4, 0], &super::PIV), OK);
}

#[test]
fn a_chain_is_one_command() {
    let mut bench = Bench::v5_7();
    bench.generate(0x9e, P256, 1, 1);
    let body = sign_template(&[7; 200]);
    let (first, last) = body.split_at(100);
    assert_eq!(bench.raw(&[&[0x10, 0x87, P256, 0x9e, 100], first].concat()).1, OK);
    let length = u8::try_from(last.len()).unwrap();
    let (reply, sw) = bench.raw(&[&[0, 0x87, P256, 0x9e, length], last].concat());
    assert_eq!((reply[0], sw), (0x7c, OK));
}

#[test]
fn another_instruction_inside_a_chain_ends_it() {
    let mut bench = Bench::v5_7();
    for cla in [0x10, 0] {
        assert_eq!(bench.raw(&[0x10, 0xdb, 0x3f, 0xff, 2, 1, 2]).1, OK);
        assert_eq!(bench.raw(&[cla, 0xcb, 0x3f, 0xff, 3, 0x5c, 1, 0x7e]).1, 0x6883);
        assert_eq!(bench.raw(&[0, 0xcb, 0x3f, 0xff, 3, 0x5c, 1, 0x7e]).1, OK);
    }
}

#[test]
fn a_chain_longer_than_the_limit_is_dropped() {
    let mut bench = Bench::v5_7();
    let segment = [&[0x10, 0xdb, 0x3f, 0xff, 255], &[0; 255][..]].concat();
    for _ in 0..MAX_BODY_BYTES / 255 {
        assert_eq!(bench.raw(&segment).1, OK);
    }
    assert_eq!(bench.raw(&segment).1, 0x6700);
    assert_eq!(bench.raw(&[0, 0xfd, 0, 0]).1, OK);
    assert_eq!(bench.sw([0, 0xdb, 0x3f, 0xff], &[0; MAX_BODY_BYTES + 1]), 0x6700);
}

#[test]
fn a_long_response_comes_in_parts_over_short_apdus() {
    let mut bench = Bench::v5_7();
    let get = [0, 0xcb, 0x3f, 0xff, 5, 0x5c, 3, 0x5f, 0xff, 1];
    let whole = bench.send([0, 0xcb, 0x3f, 0xff], &get[5..]).0;
    let (mut parts, mut sw) = bench.raw(&get);
    assert_eq!((parts.len(), sw), (256, 0x6100));
    while sw >> 8 == 0x61 {
        let (part, next) = bench.raw(&[0, 0xc0, 0, 0, u8::try_from(sw & 0xff).unwrap()]);
        parts.extend(part);
        sw = next;
    }
    assert_eq!((parts, sw), (whole.clone(), OK));
    let with_le = [&get[..], &[8]].concat();
    assert_eq!(bench.raw(&with_le), (whole[..8].to_vec(), 0x6100));
}

#[test]
fn the_rest_of_a_response_is_owed_until_the_next_command() {
    let mut bench = Bench::v5_7();
    assert_eq!(bench.raw(&[0, 0xc0, 0, 0, 0]).1, 0x6a80);
    bench.raw(&[0, 0xcb, 0x3f, 0xff, 5, 0x5c, 3, 0x5f, 0xff, 1]);
    bench.raw(&[0, 0xfd, 0, 0]);
    assert_eq!(bench.raw(&[0, 0xc0, 0, 0, 0]).1, 0x6a80);
}

#[test]
fn torn_apdus_are_refused() {
    let mut bench = Bench::v5_7();
    for bad in [&[][..], &[0, 0xfd, 0], &[0, 0xfd, 0, 0, 2, 1], &[0, 0xfd, 0, 0, 0, 0, 2, 1]] {
        assert_eq!(bench.raw(bad).1, 0x6700, "{bad:?}");
    }
}

#[test]
fn no_apdu_makes_the_card_panic_or_answer_without_a_status_word() {
    let mut bench = Bench::v5_7();
    let mut rng = crate::rng::Expander::new([1; 32]);
    for _ in 0..20_000 {
        let [length, cla, ins, p1, p2, data @ ..] = rng.bytes::<40>();
        let ins = [0x20, 0x24, 0x2c, 0x87, 0xcb, 0xdb, 0xf6, 0xf7, 0xf9, 0xfa, 0xfb, 0xfe, 0xff, 0xa4, ins]
            [usize::from(ins) % 15];
        let cla = [0, 0, 0, 0x10, cla][usize::from(cla) % 5];
        let apdu = [&[cla, ins, p1, p2][..], &data[..usize::from(length) % data.len()]].concat();
        assert!(bench.card.transmit(&apdu, &mut bench.world).len() >= 2);
    }
}
