//! What an operator does to a token, on its host: initialise it, generate keys, list them. Nothing of this can be asked
//! for over a socket.
//!
//! It promises: one JSON document on standard output, and a key is only announced after its attributes were read back.
//! It does not know: charters, logs, other tokens.

mod key;

pub use key::{Algorithm, NewKey, key_generate, key_list};

use crate::exit::Fatal;
use crate::token::{Pin, initialize, load, login_once, slot_of, unusable};
use cryptoki::context::Pkcs11;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// A token and its PIN.
#[derive(Debug)]
pub struct Login<'a> {
    /// The PKCS#11 library.
    pub module: &'a Path,
    /// The token's label.
    pub label: &'a str,
    /// File with the PIN.
    pub pin_file: &'a Path,
}

#[derive(Serialize)]
struct NewToken<'a> {
    label: &'a str,
    serial: String,
}

/// Initialises the first empty token of a module and sets its user PIN; prints its label and serial number.
/// Refuses a label that a token of the module has already.
pub fn token_init(module: &Path, label: &str, so_pin_file: &Path, pin_file: &Path) -> Result<(), Fatal> {
    let fault = |why: String| Fatal::Token { token: label.to_owned(), why };
    if label.is_empty() || label.len() > 32 {
        return Err(fault("a token's label has 1 to 32 bytes".into()));
    }
    let (so_pin, pin) = (Pin::from_file(so_pin_file)?, Pin::from_file(pin_file)?);
    let context = load(module, label)?;
    initialize(&context, label)?;
    let slot = empty_slot(&context, label)?;
    context.init_token(slot, so_pin.auth(), label).map_err(|e| unusable(label, &e))?;
    // A module may move an initialised token to another slot.
    let slot = slot_of(&context, label, None)?;
    set_pin(&context, slot, &so_pin, &pin).map_err(|e| unusable(label, &e))?;
    let info = context.get_token_info(slot).map_err(|e| unusable(label, &e))?;
    print(&NewToken { label, serial: info.serial_number().to_owned() })
}

fn empty_slot(context: &Pkcs11, label: &str) -> Result<Slot, Fatal> {
    let fault = |why: &str| Fatal::Token { token: label.to_owned(), why: why.into() };
    let mut empty = None;
    for slot in context.get_slots_with_token().map_err(|e| unusable(label, &e))? {
        let info = context.get_token_info(slot).map_err(|e| unusable(label, &e))?;
        if !info.token_initialized() {
            empty = empty.or(Some(slot));
        } else if info.label() == label {
            return Err(fault("a token with this label exists: it is never initialised again"));
        }
    }
    empty.ok_or_else(|| fault("the module has no empty token"))
}

fn set_pin(context: &Pkcs11, slot: Slot, so_pin: &Pin, pin: &Pin) -> cryptoki::error::Result<()> {
    let session = context.open_rw_session(slot)?;
    session.login(UserType::So, Some(so_pin.auth()))?;
    session.init_pin(pin.auth())?;
    session.logout()
}

impl Login<'_> {
    /// A session that may write, logged in with one try of the PIN.
    fn open(&self) -> Result<Session, Fatal> {
        let pin = Pin::from_file(self.pin_file)?;
        let context = load(self.module, self.label)?;
        initialize(&context, self.label)?;
        let slot = slot_of(&context, self.label, None)?;
        let info = context.get_token_info(slot).map_err(|e| unusable(self.label, &e))?;
        let session = context.open_rw_session(slot).map_err(|e| unusable(self.label, &e))?;
        login_once(&session, &info, &pin, self.label)?;
        Ok(session)
    }
}

fn print(document: &impl Serialize) -> Result<(), Fatal> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, document)
        .map_err(std::io::Error::from)
        .and_then(|()| writeln!(out))
        .map_err(|source| Fatal::Write { path: "standard output".into(), source })
}
