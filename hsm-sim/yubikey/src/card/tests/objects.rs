use super::{Bench, OK, PIN};
use crate::{card::objects::MAX_OBJECT_BYTES, tlv};

const PUT: [u8; 4] = [0, 0xdb, 0x3f, 0xff];
const GET: [u8; 4] = [0, 0xcb, 0x3f, 0xff];
const CERTIFICATE: [u8; 5] = [0x5c, 3, 0x5f, 0xc1, 5];
const PRINTED: [u8; 5] = [0x5c, 3, 0x5f, 0xc1, 9];

fn put(bench: &mut Bench, id: &[u8], data: &[u8]) -> u16 {
    bench.sw(PUT, &[id, &tlv::encode(0x53, data)].concat())
}

#[test]
fn an_object_is_written_with_the_management_key_and_read_by_anybody() {
    let mut bench = Bench::v5_7();
    assert_eq!(put(&mut bench, &CERTIFICATE, &[7; 300]), 0x6982);
    assert_eq!(bench.sw(PUT, &[1, 2]), 0x6982);
    assert_eq!(bench.authenticate(), OK);
    assert_eq!(bench.sw(GET, &CERTIFICATE), 0x6a82);
    assert_eq!(put(&mut bench, &CERTIFICATE, &[7; 300]), OK);
    bench.card.reset();
    bench.select(&super::PIV);
    assert_eq!(bench.send(GET, &CERTIFICATE), (tlv::encode(0x53, &[7; 300]), OK));
    bench.authenticate();
    assert_eq!(put(&mut bench, &CERTIFICATE, &[]), OK);
    assert_eq!(bench.sw(GET, &CERTIFICATE), 0x6a82);
}

#[test]
fn protected_objects_want_the_pin_whether_they_exist_or_not() {
    let mut bench = Bench::v5_7();
    bench.authenticate();
    assert_eq!(put(&mut bench, &PRINTED, &[1]), OK);
    for low in [3, 8, 9, 0x21] {
        assert_eq!(bench.sw(GET, &[0x5c, 3, 0x5f, 0xc1, low]), 0x6982);
    }
    assert_eq!(bench.verify(PIN), OK);
    assert_eq!(bench.sw(GET, &PRINTED), OK);
    assert_eq!(bench.sw(GET, &[0x5c, 3, 0x5f, 0xc1, 3]), 0x6a82);
}

#[test]
fn the_discovery_object_is_fixed_and_not_wrapped() {
    let mut bench = Bench::v5_7();
    let expected = "7e124f0ba0000003080000100001005f2f024000";
    let (object, sw) = bench.send(GET, &[0x5c, 1, 0x7e]);
    assert_eq!((crate::hex::encode(&object).as_str(), sw), (expected, OK));
    bench.authenticate();
    assert_eq!(put(&mut bench, &[0x5c, 1, 0x7e], &[1]), 0x6a80);
}

#[test]
fn strange_reads_find_nothing_and_strange_writes_are_wrong() {
    let mut bench = Bench::v5_7();
    bench.authenticate();
    assert_eq!(bench.sw([0, 0xcb, 0, 0], &CERTIFICATE), 0x6a82);
    for bad in
        [&[0x5c, 2, 0x5f, 0xc1][..], &[0x5d, 3, 0x5f, 0xc1, 5], &[0x5c, 3, 0x5f, 0xc1], &[0x5c, 3, 1, 2, 3]]
    {
        assert_eq!(bench.sw(GET, bad), 0x6a82);
        assert_eq!(put(&mut bench, bad, &[1]), 0x6a80);
    }
    assert_eq!(bench.sw([0, 0xdb, 0, 0], &[&CERTIFICATE[..], &[0x53, 1, 1]].concat()), 0x6a80);
    assert_eq!(bench.sw(PUT, &CERTIFICATE), 0x6a80);
}

#[test]
fn objects_and_their_store_have_limits() {
    let mut bench = Bench::v5_7();
    bench.authenticate();
    assert_eq!(put(&mut bench, &CERTIFICATE, &[1; MAX_OBJECT_BYTES + 1]), 0x6700);
    let id = |low| [0x5c, 3, 0x5f, 0xc1, low];
    let fits = (0..30).take_while(|low| put(&mut bench, &id(*low), &[1; MAX_OBJECT_BYTES]) == OK).count();
    assert_eq!(fits, 16);
    assert_eq!(put(&mut bench, &id(99), &[1; MAX_OBJECT_BYTES]), 0x6a84);
    assert_eq!(put(&mut bench, &id(0), &[2; MAX_OBJECT_BYTES]), OK);
}
