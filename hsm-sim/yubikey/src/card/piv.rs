//! The PIV application: which instruction goes where (NIST SP 800-73-4 part 2, and Yubico's extensions).

use super::{Answer, Card};
use crate::{
    algorithm::Version,
    apdu::{Command, Sw},
    ports::Ports,
};

/// The application property template. Tag 79 wraps a 4F: OpenSC gives up without.
pub(super) const SELECTED: [u8; 19] =
    [0x61, 0x11, 0x4f, 6, 0, 0, 0x10, 0, 1, 0, 0x79, 7, 0x4f, 5, 0xa0, 0, 0, 3, 8];

/// The reference of the management key.
pub(super) const MANAGEMENT_KEY: u8 = 0x9b;

const VERIFY: u8 = 0x20;
const CHANGE_REFERENCE: u8 = 0x24;
const RESET_RETRY: u8 = 0x2c;
const GENERATE: u8 = 0x47;
const GENERAL_AUTHENTICATE: u8 = 0x87;
const GET_DATA: u8 = 0xcb;
const PUT_DATA: u8 = 0xdb;
const MOVE_KEY: u8 = 0xf6;
const GET_METADATA: u8 = 0xf7;
const GET_SERIAL: u8 = 0xf8;
const ATTEST: u8 = 0xf9;
const SET_PIN_RETRIES: u8 = 0xfa;
const RESET: u8 = 0xfb;
const GET_VERSION: u8 = 0xfd;
const IMPORT: u8 = 0xfe;
const SET_MANAGEMENT_KEY: u8 = 0xff;

impl Card {
    pub(super) fn piv(&mut self, command: &Command<'_>, ports: &mut dyn Ports) -> Answer {
        if !keeps_challenge(command) {
            self.session.pending = None;
        }
        if command.data.len() == 1 {
            return self.one_byte_body(command.ins);
        }
        match command.ins {
            VERIFY => self.verify(command),
            CHANGE_REFERENCE => self.change_reference(command),
            RESET_RETRY => self.reset_retry(command),
            GENERAL_AUTHENTICATE => self.general_authenticate(command, ports),
            GENERATE => self.generate(command, ports),
            IMPORT => self.import(command),
            ATTEST => self.attest(command, ports),
            MOVE_KEY if self.has(Version(5, 7, 0)) => self.move_key(command),
            GET_METADATA if self.has(Version(5, 3, 0)) => self.metadata(command.p2),
            GET_DATA => self.get_data(command),
            PUT_DATA => self.put_data(command),
            SET_MANAGEMENT_KEY => self.set_management_key(command),
            SET_PIN_RETRIES => self.set_pin_retries(command),
            RESET => self.factory_reset(),
            GET_SERIAL => Ok(self.state.serial.to_be_bytes().to_vec()),
            GET_VERSION => Ok(self.state.firmware.bytes().to_vec()),
            _ => Err(Sw::NO_INSTRUCTION),
        }
    }

    /// 6A80, whatever the instruction; VERIFY drops the standing PIN state as for any body that is not eight bytes.
    fn one_byte_body(&mut self, ins: u8) -> Answer {
        if ins == VERIFY {
            self.forget_pin();
        }
        Err(Sw::WRONG_DATA)
    }

    fn has(&self, since: Version) -> bool {
        self.state.firmware >= since
    }

    /// 6982 unless the management key was proved in this session.
    pub(super) fn require_management(&self) -> Result<(), Sw> {
        if self.session.management { Ok(()) } else { Err(Sw::SECURITY_STATUS) }
    }
}

/// A challenge of the management key lives until the next command that has nothing to do with it.
fn keeps_challenge(command: &Command<'_>) -> bool {
    command.ins == GENERAL_AUTHENTICATE || (command.ins == GET_METADATA && command.p2 == MANAGEMENT_KEY)
}
