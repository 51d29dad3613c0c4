//! The rules of the card, one test each. `Bench` is a card with a world that can be set.

mod attestation;
mod keys;
mod management;
mod objects;
mod pin;
mod transport;
mod use_of_keys;

use super::{Card, Options};
use crate::{
    journal::Signed,
    management_key::MgmtAlgorithm,
    ports::{Ports, Touch},
    profile::Profile,
    state::State,
    tlv,
};
use std::{io, time::Duration};

const OK: u16 = 0x9000;
const PIN: &[u8] = b"123456\xff\xff";
const PUK: &[u8] = b"12345678";
const WRONG: &[u8] = b"000000\xff\xff";
const P256: u8 = 0x11;
const PIV: [u8; 5] = [0xa0, 0, 0, 3, 8];

struct World {
    seeds: u8,
    now: Duration,
    touch: Touch,
    touches: u32,
    journal: Vec<Signed>,
    saves: u32,
    disk_full: bool,
}

impl Ports for World {
    fn seed(&mut self) -> io::Result<[u8; 32]> {
        self.seeds += 1;
        Ok([self.seeds; 32])
    }

    fn now(&mut self) -> Duration {
        self.now
    }

    fn touch(&mut self) -> Touch {
        self.touches += 1;
        self.touch
    }

    fn journal(&mut self, signed: &Signed) -> io::Result<()> {
        if self.disk_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.journal.push(signed.clone());
        Ok(())
    }

    fn save(&mut self, _: &State) -> io::Result<()> {
        self.saves += 1;
        if self.disk_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

struct Bench {
    card: Card,
    world: World,
}

impl Bench {
    /// A card from the factory with PIV selected.
    fn new(profile: Profile) -> Self {
        let world = World {
            seeds: 0,
            now: Duration::from_secs(1000),
            touch: Touch::Given,
            touches: 0,
            journal: Vec::new(),
            saves: 0,
            disk_full: false,
        };
        let card = Card::new(State::factory(profile, 7_654_321).unwrap(), Options::default());
        let mut bench = Self { card, world };
        assert_eq!(bench.select(&PIV), OK);
        bench
    }

    fn v5_7() -> Self {
        Self::new(Profile::V5_7_4)
    }

    /// An extended APDU: one response holds everything.
    fn send(&mut self, head: [u8; 4], data: &[u8]) -> (Vec<u8>, u16) {
        let length = u16::try_from(data.len()).unwrap().to_be_bytes();
        self.raw(&[&head[..], &[0], &length, data].concat())
    }

    fn raw(&mut self, apdu: &[u8]) -> (Vec<u8>, u16) {
        let mut reply = self.card.transmit(apdu, &mut self.world);
        let sw = reply.split_off(reply.len() - 2);
        (reply, u16::from_be_bytes([sw[0], sw[1]]))
    }

    fn sw(&mut self, head: [u8; 4], data: &[u8]) -> u16 {
        self.send(head, data).1
    }

    fn select(&mut self, aid: &[u8]) -> u16 {
        self.sw([0, 0xa4, 4, 0], aid)
    }

    fn verify(&mut self, pin: &[u8]) -> u16 {
        self.sw([0, 0x20, 0, 0x80], pin)
    }

    /// VERIFY without a body: 9000 if the PIN is verified.
    fn pin_status(&mut self) -> u16 {
        self.raw(&[0, 0x20, 0, 0x80]).1
    }

    fn authenticate(&mut self) -> u16 {
        let key = self.card.state.management.clone();
        let (shown, sw) = self.send([0, 0x87, key.algorithm.id(), 0x9b], &[0x7c, 2, 0x81, 0]);
        assert_eq!(sw, OK);
        let challenge = tlv::only(tlv::only(&shown, 0x7c).unwrap(), 0x81).unwrap();
        let response = key.encrypt(challenge).unwrap();
        self.sw([0, 0x87, key.algorithm.id(), 0x9b], &template(0x82, &response))
    }

    fn is_authenticated(&mut self) -> bool {
        // GENERATE asks for the management key before it looks at anything else.
        self.sw([0, 0x47, 0, 0x9a], &[0xac, 0]) != 0x6982
    }

    /// GENERATE; policies of 0 are the slot's defaults. Returns the content of 7F49.
    fn generate(&mut self, slot: u8, algorithm: u8, pin: u8, touch: u8) -> Vec<u8> {
        assert_eq!(self.authenticate(), OK);
        let body = [0x80, 1, algorithm, 0xaa, 1, pin, 0xab, 1, touch];
        let (public, sw) = self.send([0, 0x47, 0, slot], &tlv::encode(0xac, &body));
        assert_eq!(sw, OK);
        tlv::only(&public, 0x7f49).unwrap().to_vec()
    }

    fn sign(&mut self, slot: u8, algorithm: u8, input: &[u8]) -> (Vec<u8>, u16) {
        let (reply, sw) = self.send([0, 0x87, algorithm, slot], &sign_template(input));
        let made = tlv::only(&reply, 0x7c).and_then(|reply| tlv::only(reply, 0x82));
        (made.unwrap_or_default().to_vec(), sw)
    }

    /// The status word of a P-256 signature.
    fn try_sign(&mut self, slot: u8) -> u16 {
        self.sign(slot, P256, &[7; 32]).1
    }
}

fn template(tag: u32, value: &[u8]) -> Vec<u8> {
    tlv::encode(0x7c, &tlv::encode(tag, value))
}

/// As every tool sends it: an empty response first.
fn sign_template(input: &[u8]) -> Vec<u8> {
    tlv::encode(0x7c, &[vec![0x82, 0], tlv::encode(0x81, input)].concat())
}
