//! Data objects: GET DATA and PUT DATA (NIST SP 800-73-4 part 1, section 4 and table 2).

use super::{Answer, Card};
use crate::{
    apdu::{Command, Sw},
    hex::Hex,
    state::ObjectId,
    tlv,
};

/// The longest object, measured on 5.8.0.
pub(super) const MAX_OBJECT_BYTES: usize = 3063;
/// What all objects may have together; Yubico's documents give about 51 KB.
const MAX_OBJECTS_BYTES: usize = 51_200;

const TAG_LIST: u32 = 0x5c;
const DATA: u32 = 0x53;
/// The discovery object: readable, not writable, not wrapped in 53.
const DISCOVERY_ID: &[u8] = &[0x7e];
const DISCOVERY: [u8; 20] =
    [0x7e, 0x12, 0x4f, 0x0b, 0xa0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0, 0x5f, 0x2f, 2, 0x40, 0];
/// Fingerprints, face, the printed information, iris: only with the PIN.
const PIN_PROTECTED: [u32; 4] = [0x5f_c103, 0x5f_c108, 0x5f_c109, 0x5f_c121];

impl Card {
    pub(super) fn get_data(&self, command: &Command<'_>) -> Answer {
        let wanted = tlv::only(command.data, TAG_LIST).filter(|_| (command.p1, command.p2) == (0x3f, 0xff));
        let wanted = wanted.ok_or(Sw::NOT_FOUND)?;
        if wanted == DISCOVERY_ID {
            return Ok(DISCOVERY.to_vec());
        }
        let id = object_id(wanted).ok_or(Sw::NOT_FOUND)?;
        if PIN_PROTECTED.contains(&id.0) && !self.session.pin_verified {
            return Err(Sw::SECURITY_STATUS);
        }
        self.state.objects.get(&id).map(|object| tlv::encode(DATA, &object.0)).ok_or(Sw::NOT_FOUND)
    }

    pub(super) fn put_data(&mut self, command: &Command<'_>) -> Answer {
        self.require_management()?;
        let body = tlv::parse(command.data).filter(|_| (command.p1, command.p2) == (0x3f, 0xff));
        let (id, data) = match body.as_deref() {
            Some([list, data]) if list.tag == TAG_LIST && data.tag == DATA => {
                (object_id(list.value), data.value)
            }
            _ => (None, &[][..]),
        };
        let id = id.ok_or(Sw::WRONG_DATA)?;
        if data.len() > MAX_OBJECT_BYTES {
            return Err(Sw::WRONG_LENGTH);
        }
        if self.bytes_without(id) + data.len() > MAX_OBJECTS_BYTES {
            return Err(Sw::FULL);
        }
        if data.is_empty() {
            self.change().objects.remove(&id);
        } else {
            self.change().objects.insert(id, Hex(data.to_vec()));
        }
        Ok(Vec::new())
    }

    fn bytes_without(&self, id: ObjectId) -> usize {
        self.state.objects.iter().filter(|(other, _)| **other != id).map(|(_, object)| object.0.len()).sum()
    }
}

/// Three bytes that begin with 5F.
fn object_id(bytes: &[u8]) -> Option<ObjectId> {
    match bytes {
        [0x5f, high, low] => Some(ObjectId(u32::from_be_bytes([0, 0x5f, *high, *low]))),
        _ => None,
    }
}
