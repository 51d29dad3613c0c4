//! PIN and PUK: VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER, SET PIN RETRIES, RESET.
//!
//! Two flags make the PIN state. `pin_verified` lasts for the session; `pin_fresh` is spent by the next use of any
//! PIN-gated key. Only a wrong or malformed VERIFY takes them away, a failed change does not (measured on 5.7.4).

use super::{Answer, Card};
use crate::{
    apdu::{Command, Sw},
    state::Reference,
};

const PIN: u8 = 0x80;
const PUK: u8 = 0x81;
/// `P1` of VERIFY for a logout.
const LOGOUT: u8 = 0xff;
/// A PIN on the wire, padded with FF.
const PADDED: usize = 8;
/// The shortest PIN or PUK.
const MIN_LENGTH: usize = 6;
const PADDING: u8 = 0xff;

impl Card {
    pub(super) fn verify(&mut self, command: &Command<'_>) -> Answer {
        match (command.p1, command.p2, command.data) {
            (LOGOUT, PIN, []) => {
                self.forget_pin();
                Ok(Vec::new())
            }
            (0, PIN, []) => self.pin_status(),
            (0, PIN, pin) => self.check_pin(pin),
            _ => Err(Sw::WRONG_DATA),
        }
    }

    pub(super) fn change_reference(&mut self, command: &Command<'_>) -> Answer {
        let reference: fn(&mut Self) -> &mut Reference = match (command.p1, command.p2) {
            (0, PIN) => |card| &mut card.change().pin,
            (0, PUK) => |card| &mut card.change().puk,
            _ => return Err(Sw::REFERENCE_NOT_FOUND),
        };
        let (old, new) = old_and_new(command.data)?;
        judge(reference(self), old)?;
        reference(self).replace(well_formed(new)?);
        Ok(Vec::new())
    }

    pub(super) fn reset_retry(&mut self, command: &Command<'_>) -> Answer {
        if (command.p1, command.p2) != (0, PIN) {
            return Err(Sw::REFERENCE_NOT_FOUND);
        }
        let (puk, new) = old_and_new(command.data)?;
        judge(&mut self.change().puk, puk)?;
        self.change().pin.replace(well_formed(new)?);
        Ok(Vec::new())
    }

    /// Both values go back to the factory's.
    pub(super) fn set_pin_retries(&mut self, command: &Command<'_>) -> Answer {
        self.require_management()?;
        if !self.session.pin_verified {
            return Err(Sw::SECURITY_STATUS);
        }
        let (pin_tries, puk_tries) = (command.p1, command.p2);
        if (pin_tries == 0 || puk_tries == 0) && !self.options.zero_retries {
            return Err(Sw::WRONG_DATA);
        }
        self.change().reset_references(pin_tries, puk_tries);
        self.forget_pin();
        Ok(Vec::new())
    }

    /// Only with PIN and PUK blocked.
    pub(super) fn factory_reset(&mut self) -> Answer {
        if !self.state.pin.is_blocked() || !self.state.puk.is_blocked() {
            return Err(Sw::CONDITIONS);
        }
        self.change().reset();
        self.forget_pin();
        self.session.management = false;
        self.touched.clear();
        Ok(Vec::new())
    }

    pub(super) fn forget_pin(&mut self) {
        self.session.pin_verified = false;
        self.session.pin_fresh = false;
    }

    fn pin_status(&self) -> Answer {
        let pin = &self.state.pin;
        match (pin.is_blocked(), self.session.pin_verified) {
            (true, _) => Err(Sw::BLOCKED),
            (false, true) => Ok(Vec::new()),
            (false, false) => Err(Sw::tries_left(pin.left)),
        }
    }

    fn check_pin(&mut self, pin: &[u8]) -> Answer {
        self.forget_pin();
        if pin.len() != PADDED {
            return Err(Sw::WRONG_DATA);
        }
        judge(&mut self.change().pin, pin)?;
        self.session.pin_verified = true;
        self.session.pin_fresh = true;
        Ok(Vec::new())
    }
}

fn judge(reference: &mut Reference, value: &[u8]) -> Result<(), Sw> {
    if reference.judge(value) {
        return Ok(());
    }
    Err(if reference.is_blocked() { Sw::BLOCKED } else { Sw::tries_left(reference.left) })
}

fn old_and_new(body: &[u8]) -> Result<(&[u8], &[u8]), Sw> {
    if body.len() != 2 * PADDED {
        return Err(Sw::WRONG_DATA);
    }
    body.split_at_checked(PADDED).ok_or(Sw::WRONG_DATA)
}

/// Six to eight bytes before the padding; they need not be digits.
fn well_formed(padded: &[u8]) -> Result<&[u8], Sw> {
    let length = padded.iter().position(|byte| *byte == PADDING).unwrap_or(padded.len());
    let padding = padded.iter().skip(length).all(|byte| *byte == PADDING);
    if length >= MIN_LENGTH && padding { Ok(padded) } else { Err(Sw::WRONG_DATA) }
}
