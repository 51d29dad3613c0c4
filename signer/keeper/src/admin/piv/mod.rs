//! The same for YubiKeys: what is in the readers, how a card and its keys are, a card pinned in a configuration, keys
//! with their proof; and [`setup()`], which makes a card from the factory a keeper's.
//!
//! It promises: no key is granted that a keeper with the same demands would not start with, since the keeper's own code
//! judges it and asks it for the test signature; f9 and its certificate are never written.

mod args;
mod card;
mod enrol;
mod evidence;
mod key;
mod personal;
mod secrets;
mod setup;

pub use args::{CardKind, DemandArgs, Device, DeviceArgs, Key, Keys, PivArgs, PlaceArgs, Policy};
pub use card::{list, show};
pub use enrol::run as enrol;
pub use key::{attest, import_public, list as keys, show as key};
pub use personal::PersonalKey;
pub use setup::{SetupArgs, run as setup};

use super::key::{fit, proof};
use crate::config::{Demands, PinSource, PivConfig, TokenConfig, command_deadline_ms};
use crate::exit::Fatal;
use crate::token::piv::{Card, SlotError, SlotFacts};
use crate::token::{self, Firmware, KeyRef, PublicKey, TokenError, TouchWait, Watchdog};
use key::judged;
use record::{PivSlot, Purpose, SignedData, Spki};
use std::io::Write;
use std::path::Path;

fn name(serial: u32) -> String {
    format!("YubiKey {serial}")
}

fn broken(serial: u32, why: impl ToString) -> Fatal {
    Fatal::Token { token: name(serial), why: why.to_string() }
}

/// A PIN that no program may try.
fn untried(serial: u32, why: &str) -> Fatal {
    let remedy = "ykman piv access change-pin makes that try, and unblock-pin sets a new one by the PUK";
    Fatal::Pin { token: name(serial), why: format!("{why} ({remedy})") }
}

fn wrong(serial: u32, slot: PivSlot, why: impl Into<String>) -> Fatal {
    Fatal::PivKey { serial, slot, why: why.into() }
}

/// Ends the command when PC/SC, or a card that waits for somebody's touch, does not answer.
fn watchdog() -> Result<Watchdog, Fatal> {
    Watchdog::start(command_deadline_ms(), |fatal| fatal.end())
        .map_err(|source| Fatal::Process { what: "the card's watchdog cannot be started", source })
}

/// Opens the card with this serial number, which must be one that tells of its keys.
fn open(serial: u32) -> Result<Card, Fatal> {
    let card = Card::open(serial, None).map_err(|e| broken(serial, e))?;
    let firmware = card.firmware();
    if firmware < Firmware::OLDEST {
        let why =
            format!("it has firmware {firmware}, and {} is the oldest that is known here", Firmware::OLDEST);
        return Err(broken(serial, why));
    }
    Ok(card)
}

/// What the card says of the key in a slot.
fn slot_facts(card: &mut Card, serial: u32, slot: PivSlot) -> Result<SlotFacts, Fatal> {
    card.slot(slot).map_err(|error| match error {
        SlotError::Card(error) => broken(serial, error),
        other => wrong(serial, slot, other.to_string()),
    })
}

/// A key that the keeper's own code has taken, and that has signed a test text.
struct Tested {
    key: token::Key,
    spki: Spki,
}

/// Opens the card as a keeper does, with one try of the PIN; has it prove the key and sign a test text.
fn test(
    serial: u32,
    demands: &Demands,
    pin_file: &Path,
    (slot, public): (PivSlot, &PublicKey),
    purpose: Purpose,
) -> Result<Tested, Fatal> {
    let fault = |why: String| wrong(serial, slot, why);
    let spki = fit(purpose, public).map_err(fault)?.clone();
    let config = PivConfig::of_command(serial, PinSource::File(pin_file.to_owned()), demands.clone());
    let again = |fatal| match fatal {
        Fatal::Token { token, why } => {
            Fatal::Token { token, why: format!("{why}: put it in again, and run the same command again") }
        }
        other => other,
    };
    let token = token::open(&TokenConfig::Piv(config)).map_err(again)?;
    let key = token.key(&KeyRef::Slot(slot), public).map_err(again)?;
    let digest = SignedData::Sha256(proof::digest().map_err(fault)?);
    token.sign(&key, &digest, &ask_for_touch).map_err(|error| match error {
        TokenError::Unknown { .. } => {
            fault(format!("its test signature was lost ({error}): run the same command again"))
        }
        TokenError::NotSigned { .. } | TokenError::Busy { .. } => {
            fault(format!("it makes no test signature ({error}): run the same command again"))
        }
    })?;
    Ok(Tested { key, spki })
}

/// The line for the person at the card.
fn ask_for_touch(wait: TouchWait) {
    let TouchWait { serial, slot, within } = wait;
    // If nobody can read it, the card still blinks.
    let _unread = writeln!(
        std::io::stderr(),
        "Touch YubiKey {serial} (slot {slot}) within {} s: a test of its key, outside the log",
        within.as_secs()
    );
}
