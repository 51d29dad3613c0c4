//! Keys in slots: GENERATE, IMPORT, MOVE and DELETE, METADATA.

use super::{Answer, Card, piv::MANAGEMENT_KEY, random};
use crate::{
    algorithm::{Algorithm, PinPolicy, Slot, TouchPolicy},
    apdu::{Command, Sw},
    key::PrivateKey,
    ports::Ports,
    state::Key,
    tlv::{self, Tlv},
};

const GENERATE_TEMPLATE: u32 = 0xac;
const ALGORITHM: u32 = 0x80;
const PIN_POLICY: u32 = 0xaa;
const TOUCH_POLICY: u32 = 0xab;
const PUBLIC_KEY: u32 = 0x7f49;
/// `P1` of MOVE KEY for a deletion.
const NOWHERE: u8 = 0xff;
const PIN: u8 = 0x80;
const PUK: u8 = 0x81;
/// The algorithm of PIN and PUK in their metadata.
const NO_ALGORITHM: u8 = 0xff;

impl Card {
    pub(super) fn generate(&mut self, command: &Command<'_>, ports: &mut dyn Ports) -> Answer {
        self.require_management()?;
        let slot = Slot::new(command.p2).filter(|_| command.p1 == 0).ok_or(Sw::WRONG_DATA)?;
        let body = tlv::only(command.data, GENERATE_TEMPLATE).and_then(tlv::parse).ok_or(Sw::WRONG_DATA)?;
        let algorithm = match tlv::find(&body, ALGORITHM) {
            Some([id]) => Algorithm::from_id(*id, self.state.firmware).ok_or(Sw::WRONG_DATA)?,
            _ => return Err(Sw::WRONG_DATA),
        };
        let (pin_policy, touch_policy) = policies(&body, slot)?;
        let key = PrivateKey::generate(algorithm, &mut random(ports)?).map_err(|_| Sw::WRONG_DATA)?;
        let public = tlv::encode(PUBLIC_KEY, &key.public_tlv());
        self.put_key(slot, Key { key, pin_policy, touch_policy, generated: true });
        Ok(public)
    }

    pub(super) fn import(&mut self, command: &Command<'_>) -> Answer {
        self.require_management()?;
        let slot = Slot::new(command.p2).ok_or(Sw::WRONG_DATA)?;
        let algorithm = Algorithm::from_id(command.p1, self.state.firmware).ok_or(Sw::WRONG_DATA)?;
        let body = tlv::parse(command.data).ok_or(Sw::WRONG_DATA)?;
        let (pin_policy, touch_policy) = policies(&body, slot)?;
        let parts: Option<Vec<&[u8]>> =
            secret_tags(algorithm).iter().map(|tag| tlv::find(&body, *tag)).collect();
        let key = PrivateKey::from_secret(algorithm, &parts.ok_or(Sw::WRONG_DATA)?);
        let key = key.map_err(|_| Sw::WRONG_DATA)?;
        self.put_key(slot, Key { key, pin_policy, touch_policy, generated: false });
        Ok(Vec::new())
    }

    /// Certificates stay where they are. f9 can neither move nor be moved over.
    pub(super) fn move_key(&mut self, command: &Command<'_>) -> Answer {
        self.require_management()?;
        let (to, from) = (command.p1, command.p2);
        let movable = |reference| Slot::new(reference).filter(|slot| *slot != Slot::ATTESTATION);
        let destination = movable(to);
        if destination.is_none() && to != NOWHERE {
            return Err(Sw::WRONG_DATA);
        }
        let source = movable(from).ok_or(Sw::REFERENCE_NOT_FOUND)?;
        if to == from {
            return Err(Sw::WRONG_DATA);
        }
        if !self.state.slots.contains_key(&source) {
            return Err(Sw::REFERENCE_NOT_FOUND);
        }
        if destination.is_some_and(|slot| self.state.slots.contains_key(&slot)) {
            return Err(Sw::WRONG_DATA);
        }
        let moved = self.change().slots.remove(&source);
        self.touched.remove(&source);
        if let (Some(slot), Some(key)) = (destination, moved) {
            self.put_key(slot, key);
        }
        Ok(Vec::new())
    }

    pub(super) fn metadata(&self, reference: u8) -> Answer {
        let state = &self.state;
        match reference {
            PIN => Ok(reference_metadata(state.pin_is_default(), state.pin.tries, state.pin.left)),
            PUK => Ok(reference_metadata(state.puk_is_default(), state.puk.tries, state.puk.left)),
            MANAGEMENT_KEY => Ok(self.management_metadata()),
            _ => {
                let slot = Slot::new(reference).ok_or(Sw::REFERENCE_NOT_FOUND)?;
                state.slots.get(&slot).map(key_metadata).ok_or(Sw::REFERENCE_NOT_FOUND)
            }
        }
    }

    fn management_metadata(&self) -> Vec<u8> {
        let key = &self.state.management;
        let touch = if key.touch { TouchPolicy::Always } else { TouchPolicy::Never };
        let default = self.state.management_is_default() && !key.touch;
        metadata(&[(1, &[key.algorithm.id()]), (2, &[0, touch.id()]), (5, &[u8::from(default)])])
    }

    fn put_key(&mut self, slot: Slot, key: Key) {
        self.touched.remove(&slot);
        self.change().slots.insert(slot, key);
    }
}

fn key_metadata(key: &Key) -> Vec<u8> {
    let origin = if key.generated { 1 } else { 2 };
    metadata(&[
        (1, &[key.key.algorithm().id()]),
        (2, &[key.pin_policy.id(), key.touch_policy.id()]),
        (3, &[origin]),
        (4, &key.key.public_tlv()),
    ])
}

fn reference_metadata(default: bool, tries: u8, left: u8) -> Vec<u8> {
    metadata(&[(1, &[NO_ALGORITHM]), (5, &[u8::from(default)]), (6, &[tries, left])])
}

fn metadata(fields: &[(u32, &[u8])]) -> Vec<u8> {
    fields.iter().flat_map(|(tag, value)| tlv::encode(*tag, value)).collect()
}

/// 00 and absence both mean the slot's default.
fn policies(body: &[Tlv<'_>], slot: Slot) -> Result<(PinPolicy, TouchPolicy), Sw> {
    let pin = match tlv::find(body, PIN_POLICY) {
        None | Some([0]) => Some(PinPolicy::default_of(slot)),
        Some([id]) => PinPolicy::from_id(*id),
        Some(_) => None,
    };
    let touch = match tlv::find(body, TOUCH_POLICY) {
        None | Some([0]) => Some(TouchPolicy::Never),
        Some([id]) => TouchPolicy::from_id(*id),
        Some(_) => None,
    };
    pin.zip(touch).ok_or(Sw::WRONG_DATA)
}

/// Of RSA's five numbers the primes say everything.
fn secret_tags(algorithm: Algorithm) -> &'static [u32] {
    match algorithm {
        Algorithm::EccP256 | Algorithm::EccP384 => &[0x06],
        Algorithm::Ed25519 => &[0x07],
        Algorithm::X25519 => &[0x08],
        _ => &[0x01, 0x02],
    }
}
