//! The steps that change a card: each is done once, and an interruption between the card and its answer does no harm.

use super::super::args::{CardKind, Policy};
use super::super::secrets::{Bytes, Kind, New};
use super::super::{broken, name, untried};
use super::{Secret, Setup};
use crate::exit::Fatal;
use crate::token::piv::{
    Card, Management, NEW_MANAGEMENT_KEY, PinError, Reference, SlotError, SlotFacts, give_pin, untriable,
};
use crate::token::{PublicKey, TouchPolicy};
use std::path::Path;
use yubikey::piv::AlgorithmId;
use yubikey::{Error, PinPolicy, TouchPolicy as CardTouch};

/// What is done about a secret.
pub(super) enum Plan {
    /// It is this one now, and is changed.
    Change(Bytes),
    /// The card has the new one.
    Keep,
}

impl Secret {
    pub(super) fn read(serial: u32, kind: Kind, new: &Path, present: Option<&Path>) -> Result<Self, Fatal> {
        let present = present.map(|file| Ok::<_, Fatal>((file.to_owned(), kind.read(file)?))).transpose()?;
        Ok(Self { serial, new: New::at(kind, new)?, present })
    }

    /// What is to be done about a PIN or PUK. A card from another hand has one that only a file can tell. If the card has
    /// the new management key, which is changed last, an earlier run has changed this one.
    pub(super) fn plan(&self, reference: &Reference, ours: bool) -> Result<Plan, Fatal> {
        let there = self.new.existing.is_some();
        let plan = match (reference.factory, &self.present) {
            (true, _) => Plan::Change(self.new.kind.factory()),
            (false, Some(_)) if ours && there => Plan::Keep,
            (false, Some((_, present))) => Plan::Change(present.clone()),
            (false, None) if there => Plan::Keep,
            (false, None) => return Err(self.unknown()),
        };
        // A PUK that is kept is not tried.
        let tried = self.new.kind == Kind::Pin || matches!(plan, Plan::Change(_));
        match untriable(reference.tries_left).filter(|_| tried) {
            None => Ok(plan),
            Some(why) if self.new.kind == Kind::Pin => Err(untried(self.serial, why)),
            Some(_) => {
                let why = "its PUK is locked, or has one try left: without a PUK a locked PIN ends the card's keys; \
                           set up another card";
                Err(Fatal::Pin { token: name(self.serial), why: why.into() })
            }
        }
    }

    /// The same for the management key, by asking the card with what is known: no tries are counted.
    pub(super) fn plan_key(&self, card: &mut Card, key: &Management) -> Result<Plan, Fatal> {
        if key.touch {
            tracing::warn!("the management key wants a touch at each use: touch the card while it blinks");
        }
        let mut is = |value: &Bytes| {
            card.authenticate(value).map_err(|e| interrupted(self.serial, "its management key was tried", &e))
        };
        let factory = self.new.kind.factory();
        if key.factory && is(&factory)? {
            return Ok(Plan::Change(factory));
        }
        if let Some(new) = &self.new.existing
            && is(new)?
        {
            return Ok(Plan::Keep);
        }
        match &self.present {
            Some((_, present)) if is(present)? => Ok(Plan::Change(present.clone())),
            _ => Err(self.unknown()),
        }
    }

    fn unknown(&self) -> Fatal {
        let secret = self.new.kind.name();
        let (present, new) = self.new.kind.options();
        let file = self.present.as_ref().map_or(&self.new.file, |(file, _)| file).clone();
        let why = format!(
            "the {secret} of YubiKey {} is another one, and not the factory's: give its file as {present}, or, if an earlier \
             run has changed it, that run's file as {new}",
            self.serial
        );
        Fatal::Config { file, why }
    }

    /// Does what is planned; the word for it.
    pub(super) fn apply(&self, card: &mut Card, plan: &Plan) -> Result<&'static str, Fatal> {
        match plan {
            Plan::Keep => self.keep(card).map(|()| "kept"),
            Plan::Change(from) => self.change(card, from).map(|()| "changed"),
        }
    }

    /// A PIN that is kept is shown to be the card's, with one try. A PUK cannot be without being changed.
    fn keep(&self, card: &mut Card) -> Result<(), Fatal> {
        let Some(pin) = self.new.existing.as_ref().filter(|_| self.new.kind == Kind::Pin) else {
            return Ok(());
        };
        give_pin(card, pin).map_err(|error| match error {
            PinError::Card(error) => interrupted(self.serial, "its PIN was tried", &error),
            PinError::NotTried(why) => untried(self.serial, &why),
            PinError::Refused(why) => Fatal::Config {
                file: self.new.file.clone(),
                why: format!(
                    "{why}, and it is not tried again: give the PIN that the card has now as --pin-file"
                ),
            },
        })
    }

    fn change(&self, card: &mut Card, from: &Bytes) -> Result<(), Fatal> {
        let new = self.new.value()?;
        let secret = self.new.kind.name();
        let done = match self.new.kind {
            Kind::Pin => card.change_pin(from, &new),
            Kind::Puk => card.change_puk(from, &new),
            Kind::ManagementKey => return self.change_key(card, from, &new),
        };
        let file = self.present.as_ref().map_or(&self.new.file, |(file, _)| file);
        done.map_err(|error| match error {
            Error::WrongPin { tries } => {
                let why = self.refused(&format!("the {secret} was refused; {tries} tries are left"));
                Fatal::Config { file: file.clone(), why }
            }
            Error::PinLocked => {
                Fatal::Pin { token: name(self.serial), why: format!("the {secret} is locked") }
            }
            error => interrupted(self.serial, &format!("its {secret} was changed"), &error),
        })
    }

    fn refused(&self, why: &str) -> String {
        let (present, new) = self.new.kind.options();
        format!(
            "{why}, and it is not tried again: correct {present}; if an earlier run was interrupted after the change, leave \
             {present} away and give that run's file as {new}"
        )
    }

    fn change_key(&self, card: &mut Card, from: &Bytes, new: &Bytes) -> Result<(), Fatal> {
        let lost = |error| interrupted(self.serial, "its management key was changed", &error);
        if !card.authenticate(from).map_err(lost)? {
            return Err(lost(Error::AuthenticationError));
        }
        let new: &[u8; NEW_MANAGEMENT_KEY] = new.as_slice().try_into().map_err(|_| lost(Error::SizeError))?;
        card.set_management_key(new).map_err(lost)
    }
}

impl Setup<'_> {
    /// Makes the key, if it is not there.
    pub(super) fn key(&self, card: &mut Card, found: Option<&SlotFacts>) -> Result<&'static str, Fatal> {
        if found.is_some() {
            return Ok("kept");
        }
        let lost = |error| interrupted(self.args.serial, "its key was made", &error);
        // With the new one: what guards the card from now on is known to be right before the card has a key.
        if !card.authenticate(&self.management_key.new.value()?).map_err(lost)? {
            return Err(lost(Error::AuthenticationError));
        }
        let algorithm = match self.args.kind {
            CardKind::P256 => AlgorithmId::EccP256,
            CardKind::Ed25519 => AlgorithmId::Ed25519,
        };
        let touch = match self.args.touch_policy {
            TouchPolicy::Always => CardTouch::Always,
            TouchPolicy::Never => CardTouch::Never,
        };
        card.generate(self.args.slot, algorithm, self.pin_policy(), touch).map_err(|error| match error {
            SlotError::Card(error) => lost(error),
            other => self.wrong(other.to_string()),
        })?;
        Ok("generated")
    }

    /// Whether a key is of the kind and has the policies that are asked for, and was made on its card.
    pub(super) fn is_as_wanted(&self, facts: &SlotFacts) -> bool {
        let kind = match facts.public {
            PublicKey::P256(_) => self.args.kind == CardKind::P256,
            PublicKey::Ed25519(_) => self.args.kind == CardKind::Ed25519,
            PublicKey::P384(_) | PublicKey::Rsa(_) => false,
        };
        kind && facts.generated
            && facts.pin == self.pin_policy()
            && facts.touch_policy() == self.args.touch_policy.as_str()
    }

    fn pin_policy(&self) -> PinPolicy {
        match self.args.pin_policy {
            Policy::Always => PinPolicy::Always,
            Policy::Once => PinPolicy::Once,
            Policy::Never => PinPolicy::Never,
        }
    }
}

/// The card refused a step or went away in it. Whether it was done shows when it is asked again.
fn interrupted(serial: u32, step: &str, error: &Error) -> Fatal {
    broken(
        serial,
        format!(
            "it refused, or went away, while {step} ({error}): leave the files as they are, put it in again, and run the same \
             command again, which goes on where this one ended"
        ),
    )
}
