//! The management application, as far as it tells what device this is (Yubico's "Device information" TLVs).

use super::{Answer, Card};
use crate::{
    apdu::{Command, Sw},
    tlv,
};

const READ_CONFIG: u8 = 0x1d;
/// The one application of this device, as a bit of "USB supported" and "USB enabled".
const PIV: [u8; 2] = [0, 0x10];

impl Card {
    /// The text that `ykman` takes the version from.
    pub(super) fn management_selected(&self) -> Vec<u8> {
        format!("Virtual mgr - FW version {}", self.state.firmware).into_bytes()
    }

    pub(super) fn management(&self, command: &Command<'_>) -> Answer {
        match (command.ins, command.p1) {
            (READ_CONFIG, 0) => Ok(self.device_info()),
            (READ_CONFIG, _) => Ok(vec![0]),
            _ => Err(Sw::NO_INSTRUCTION),
        }
    }

    /// A length byte and TLVs. No page 1: nothing would stand on it.
    fn device_info(&self) -> Vec<u8> {
        let fields: [(u32, &[u8]); 9] = [
            (0x01, &PIV),
            (0x02, &self.state.serial.to_be_bytes()),
            (0x03, &PIV),
            (0x04, &[self.state.form_factor]),
            (0x05, &self.state.firmware.bytes()),
            (0x06, &[0, 0]),
            (0x07, &[15]),
            (0x08, &[0]),
            (0x0a, &[0]),
        ];
        let tlvs: Vec<u8> = fields.iter().flat_map(|(tag, value)| tlv::encode(*tag, value)).collect();
        let length = u8::try_from(tlvs.len()).unwrap_or(u8::MAX);
        [&[length], tlvs.as_slice()].concat()
    }
}
