//! Tokens: what a module has, how each of them is, and a new one out of an empty slot. None is initialised again.

use super::report::{Document, print};
use super::{Format, LoginArgs, TokenArgs, key, shown};
use crate::exit::Fatal;
use crate::token::{Pin, initialize, load, slot_of, unusable};
use cryptoki::context::Pkcs11;
use cryptoki::mechanism::MechanismType;
use cryptoki::session::UserType;
use cryptoki::slot::{Limit, Slot, TokenInfo};
use serde::Serialize;
use std::path::Path;

/// Mechanisms that the service could use, with their names in the standard.
const MECHANISMS: [(&str, MechanismType); 5] = [
    ("CKM_ECDSA", MechanismType::ECDSA),
    ("CKM_EC_KEY_PAIR_GEN", MechanismType::ECC_KEY_PAIR_GEN),
    ("CKM_EDDSA", MechanismType::EDDSA),
    ("CKM_EC_EDWARDS_KEY_PAIR_GEN", MechanismType::ECC_EDWARDS_KEY_PAIR_GEN),
    ("CKM_RSA_PKCS_PSS", MechanismType::RSA_PKCS_PSS),
];

/// A token as it describes itself.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct About {
    pub(crate) label: String,
    pub(crate) serial: String,
    manufacturer: String,
    model: String,
    firmware: String,
    /// Its flags in words; those about PINs first.
    flags: Vec<&'static str>,
    /// Most sessions of one application; absent where the token does not say, or has no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_sessions: Option<u64>,
}

impl About {
    pub(crate) fn of(info: &TokenInfo) -> Self {
        let flags = [
            (!info.token_initialized(), "not initialised"),
            (info.token_initialized() && !info.user_pin_initialized(), "no user PIN is set"),
            (info.user_pin_locked(), "PIN locked"),
            (info.user_pin_final_try(), "PIN final try: the next wrong one locks it"),
            (info.user_pin_count_low(), "PIN count low: a wrong one was tried since the last login"),
            (info.user_pin_to_be_changed(), "PIN must be changed"),
            (info.so_pin_locked(), "security officer's PIN locked"),
            (info.so_pin_final_try(), "security officer's PIN final try"),
            (info.so_pin_count_low(), "security officer's PIN count low"),
            (info.protected_authentication_path(), "PIN pad"),
            (!info.login_required(), "no login needed"),
            (info.write_protected(), "write protected"),
            (info.error_state(), "in an error state"),
        ];
        let version = info.firmware_version();
        Self {
            label: info.label().to_owned(),
            serial: info.serial_number().to_owned(),
            manufacturer: info.manufacturer_id().to_owned(),
            model: info.model().to_owned(),
            firmware: format!("{}.{}", version.major(), version.minor()),
            flags: flags.into_iter().filter_map(|(set, word)| set.then_some(word)).collect(),
            max_sessions: match info.max_session_count() {
                Limit::Max(max) => Some(max),
                _ => None,
            },
        }
    }

    fn text(&self) -> String {
        format!(
            "label         {}\nserial        {}\nmade by       {} {}, firmware {}\nsessions      {}\nflags         {}",
            self.label,
            self.serial,
            self.manufacturer,
            self.model,
            self.firmware,
            self.max_sessions.map_or("no limit known".into(), |max| format!("at most {max}")),
            if self.flags.is_empty() { "none".into() } else { self.flags.join("; ") },
        )
    }
}

/// Refuses a token whose PIN must not be tried by a program. Gives a warning about one that may be.
pub(crate) fn refuse_pin(info: &TokenInfo, label: &str) -> Result<Option<String>, Fatal> {
    let refuse = |why: &str| Err(Fatal::Pin { token: label.to_owned(), why: why.into() });
    if !info.user_pin_initialized() {
        return refuse("no user PIN is set: set one with the token's own tool");
    }
    if info.user_pin_locked() {
        return refuse(
            "the PIN is locked: unblock it with the security officer's PIN and the token's own tool",
        );
    }
    if info.user_pin_final_try() {
        return refuse(
            "only one try is left before the PIN locks: a person must log in once with the token's own tool",
        );
    }
    Ok(info.user_pin_count_low().then(|| {
        "a wrong PIN was tried since the last login: find out who did that before the keeper starts".into()
    }))
}

#[derive(Serialize)]
struct SlotDocument {
    slot: u64,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<About>,
}

#[derive(Serialize)]
struct Tokens {
    module: String,
    slots: Vec<SlotDocument>,
}

impl Document for Tokens {
    const SCHEMA: &'static str = "chancery.keeper.tokens/v1";

    fn text(&self) -> String {
        let slot = |slot: &SlotDocument| {
            let about = slot.token.as_ref().map_or("no token is in it".into(), About::text);
            format!("slot          {}: {}\n{about}\n", slot.slot, slot.description)
        };
        self.slots.iter().map(slot).collect::<Vec<_>>().join("\n")
    }
}

/// Prints every slot of a module, with the token in it.
pub fn list(module: &Path, format: Option<Format>) -> Result<(), Fatal> {
    let name = shown(module);
    let context = load(module, &name)?;
    initialize(&context, &name)?;
    let slots = context.get_all_slots().map_err(|e| unusable(&name, &e))?;
    let describe = |slot: Slot| {
        let description = context.get_slot_info(slot).map_err(|e| unusable(&name, &e))?;
        Ok(SlotDocument {
            slot: slot.id(),
            description: description.slot_description().to_owned(),
            // A token that goes away meanwhile is not there.
            token: context
                .get_token_info(slot)
                .ok()
                .filter(|_| description.token_present())
                .map(|i| About::of(&i)),
        })
    };
    let slots = slots.into_iter().map(describe).collect::<Result<_, Fatal>>()?;
    print(format, &Tokens { module: name, slots })
}

#[derive(Serialize)]
struct MechanismDocument {
    name: &'static str,
    present: bool,
}

#[derive(Serialize)]
struct TokenDocument {
    module: String,
    #[serde(flatten)]
    about: About,
    mechanisms: Vec<MechanismDocument>,
    /// Its keys; absent without a login, since private keys are seen by no one else.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<key::KeyDocument>>,
}

impl Document for TokenDocument {
    const SCHEMA: &'static str = "chancery.keeper.token/v1";

    fn text(&self) -> String {
        let has = |m: &MechanismDocument| format!("{} {}", m.name, if m.present { "yes" } else { "no" });
        let mechanisms: Vec<String> = self.mechanisms.iter().map(has).collect();
        let keys = match &self.keys {
            None => "keys          are seen after a login only: give --pin-file".into(),
            Some(keys) => keys.iter().map(key::KeyDocument::line).collect::<Vec<_>>().join("\n"),
        };
        format!(
            "module        {}\n{}\nmechanisms    {}\n{keys}",
            self.module,
            self.about.text(),
            mechanisms.join(", ")
        )
    }
}

/// Prints one token: how it is, what it can do, and, with a PIN, its keys with their evidence.
pub fn show(token: &TokenArgs, pin_file: Option<&Path>, format: Option<Format>) -> Result<(), Fatal> {
    let (present, keys) = match pin_file {
        None => (token.find()?, None),
        Some(pin_file) => {
            let login = LoginArgs { token: token.clone(), pin_file: pin_file.to_owned() };
            let open = login.open()?;
            let keys = key::all_in(&open.session, login.label())?;
            (open.present, Some(keys))
        }
    };
    let list = present.context.get_mechanism_list(present.slot).map_err(|e| token.broken(&e))?;
    let has = |(name, kind): (&'static str, MechanismType)| MechanismDocument {
        name,
        present: list.contains(&kind),
    };
    print(
        format,
        &TokenDocument {
            module: shown(&token.module),
            about: About::of(&present.info),
            mechanisms: MECHANISMS.into_iter().map(has).collect(),
            keys,
        },
    )
}

#[derive(Serialize)]
struct NewToken<'a> {
    label: &'a str,
    serial: String,
}

impl Document for NewToken<'_> {
    const SCHEMA: &'static str = "chancery.keeper.new-token/v1";

    fn text(&self) -> String {
        format!("token {} with the serial number {} is initialised, its PIN is set", self.label, self.serial)
    }
}

/// Initialises the first empty token of a module and sets its user PIN; prints its label and serial number.
/// Refuses a label that a token of the module has already.
pub fn init(
    module: &Path,
    label: &str,
    so_pin_file: &Path,
    pin_file: &Path,
    format: Option<Format>,
) -> Result<(), Fatal> {
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
    print(format, &NewToken { label, serial: info.serial_number().to_owned() })
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
