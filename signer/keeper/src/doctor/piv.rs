//! The card of a keeper, its PIN, and the keeper's keys on it. Without a login no PIN is given; what keys want and prove is
//! seen without one.

use super::{Check, Report, token};
use crate::config::{Config, PivConfig};
use crate::exit::Fatal;
use crate::sign::charter::Charter;
use crate::token::piv::{Access, Card, Judge, OpenError, PinError, SlotError, give_pin, untriable};
use crate::token::{Firmware, Pin, PublicKey, TouchPolicy, Watchdog};
use record::PivSlot;
use std::fmt::Display;

/// How a card from the factory becomes a keeper's.
const SET_UP: &str = "set the card up: chancery-keeper admin piv setup";

/// A keeper whose card is looked at.
pub(super) struct Patient<'a> {
    pub(super) config: &'a Config,
    pub(super) token: &'a PivConfig,
    pub(super) charter: Option<&'a Charter>,
    pub(super) watchdog: &'a Watchdog,
}

/// A key as the configuration or the charter pins it.
struct Pinned {
    what: String,
    slot: PivSlot,
    public: PublicKey,
    /// What the charter says. A log key signs without touches.
    touch: TouchPolicy,
}

impl Patient<'_> {
    /// Everything from the smart card service to the keys; what needs something that failed is left out.
    pub(super) fn examine(&self, login: bool, report: &Report) {
        report.add(token::pin_source(&self.token.pin));
        report.add(token::pcscd());
        let judge = match Judge::read(self.token.serial, &self.token.demands) {
            Ok(judge) => Some(judge),
            Err(fatal) => {
                let remedy =
                    "correct token.piv.attestation_chain and attestation_roots, or the files' owner and mode";
                report.add(Check::failed("attestation", &fatal, remedy));
                None
            }
        };
        let _watched = self.watchdog.watch("PC/SC");
        let Some(mut card) = self.card(report) else { return };
        if let Some(judge) = &judge {
            report.add(self.attestation(judge, &mut card));
        }
        let may_try = self.guarded(&mut card, report);
        if login && may_try {
            report.add(self.login(&mut card));
        }
        if let Some(judge) = &judge {
            for key in self.pinned() {
                report.add(self.key(judge, &mut card, key));
            }
        }
    }

    fn fatal(&self, why: impl Display) -> Fatal {
        Fatal::Token { token: format!("YubiKey {}", self.token.serial), why: why.to_string() }
    }

    fn card(&self, report: &Report) -> Option<Card> {
        let card = match Card::open(self.token.serial, None) {
            Ok(card) => card,
            Err(error) => {
                let remedy = match error {
                    OpenError::Service(_) => "start pcscd, and let this user reach its socket",
                    OpenError::Absent(_) => {
                        "put the card into a reader of this host; if it was replaced, enrol the new one: chancery-keeper \
                         admin token enrol --piv-serial"
                    }
                };
                report.add(Check::failed("card", &self.fatal(error), remedy));
                return None;
            }
        };
        let firmware = card.firmware();
        if firmware < Firmware::OLDEST {
            let why = format!(
                "it has firmware {firmware}, and {} is the oldest that is known here",
                Firmware::OLDEST
            );
            report.add(Check::failed("card", &self.fatal(why), "take a newer card"));
            return None;
        }
        let says = format!("YubiKey {} has firmware {firmware}, reader {}", self.token.serial, card.reader());
        report.add(Check::good("card", says));
        Some(card)
    }

    fn attestation(&self, judge: &Judge, card: &mut Card) -> Check {
        let what = "attestation";
        let wanted = judge.firmware(card.firmware(), matches!(self.config, Config::Sign(_)));
        if let Err(why) = wanted {
            let remedy = "take a newer card; for a key that exists, lower token.piv.firmware_floor, and keep the card where \
                          nobody can take it away";
            return Check::bad(what, 78, why, remedy);
        }
        match judge.can_attest(card) {
            Ok(()) => Check::good(
                what,
                "the card's f9 certificate leads to a trusted root, or no proof is asked for",
            ),
            Err(why) => {
                let remedy =
                    "name Yubico's files in token.piv.attestation_chain, and compare this host's clock";
                Check::bad(what, 78, why, remedy)
            }
        }
    }

    /// How the card is guarded, by its own word; whether the PIN may be tried.
    fn guarded(&self, card: &mut Card, report: &Report) -> bool {
        let Access { pin, puk, management_key } = match card.access() {
            Ok(access) => access,
            Err(error) => {
                report.add(Check::failed(
                    "pin",
                    &self.fatal(error),
                    "take the card out, and put it in again",
                ));
                return false;
            }
        };
        let refused = untriable(pin.tries_left);
        let counted = format!("{} of {} tries are left", pin.tries_left, pin.tries);
        report.add(match refused {
            Some(why) => Check::bad(
                "pin",
                78,
                why,
                "a keeper does not start with it: give the right PIN once by hand (ykman piv access change-pin), or unblock it \
                 with the PUK (ykman piv access unblock-pin)",
            ),
            None if pin.factory => Check::bad("pin", 78, "it is the factory's, which everybody knows", SET_UP),
            None if pin.tries_left < pin.tries => Check::warning(
                "pin",
                format!("{counted}: a wrong one was tried since the last right one"),
                "find out who did that; the next right PIN sets the count back",
            ),
            None => Check::good("pin", counted),
        });
        for (what, factory) in [("puk", puk.factory), ("management key", management_key.factory)] {
            report.add(match factory {
                true => Check::warning(what, "it is the factory's, which everybody knows", SET_UP),
                false => Check::good(what, "it is not the factory's"),
            });
        }
        refused.is_none()
    }

    fn login(&self, card: &mut Card) -> Check {
        let (what, remedy) = ("login", "put the right PIN where the keeper reads it; do not try others");
        let pin = match Pin::read(&self.token.pin) {
            Ok(pin) => pin,
            Err(fatal) => return Check::failed(what, &fatal, remedy),
        };
        let Some(pin) = pin.piv() else {
            return Check::bad(
                what,
                78,
                "a PIV PIN has 6 to 8 bytes, and this one has not: it was not tried",
                remedy,
            );
        };
        match give_pin(card, pin) {
            Ok(()) => Check::good(what, "the PIN was tried once, and is right"),
            Err(PinError::NotTried(why) | PinError::Refused(why)) => Check::bad(what, 78, why, remedy),
            Err(PinError::Card(error)) => {
                Check::failed(what, &self.fatal(error), "take the card out, and put it in again")
            }
        }
    }

    fn pinned(&self) -> Vec<Pinned> {
        match self.config {
            Config::Log(config) => {
                let touch = TouchPolicy::Never;
                let keys = config.keys();
                keys.filter_map(|(what, id, public)| {
                    Some(Pinned { what: what.into(), slot: id.slot()?, public: public.clone(), touch })
                })
                .collect()
            }
            Config::Sign(_) => self
                .charter
                .into_iter()
                .flat_map(Charter::keys)
                .filter_map(|(_, key)| {
                    let (what, slot) = (format!("{} key", key.purpose), key.at.slot()?);
                    Some(Pinned { what, slot, public: PublicKey::P256(key.spki.clone()), touch: key.touch })
                })
                .collect(),
        }
    }

    fn key(&self, judge: &Judge, card: &mut Card, key: Pinned) -> Check {
        let Pinned { what, slot, public, touch } = key;
        let found = match card.slot(slot) {
            Ok(facts) if facts.public == public => judge.key(card, slot, &facts),
            Ok(_) => Err("its public key is not the pinned one".into()),
            Err(SlotError::Card(error)) => {
                return Check::failed(what, &self.fatal(error), "take the card out, and put it in again");
            }
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(verdict) if verdict.touch == touch => {
                Check::good(what, format!("slot {slot} has the pinned key: {}", verdict.evidence.join(" ")))
            }
            Ok(verdict) => {
                let (is, wanted) = (verdict.touch.as_str(), touch.as_str());
                let remedy = match self.config {
                    Config::Sign(_) => {
                        format!("write touch = \"{is}\" into the charter, if that is what is wanted")
                    }
                    Config::Log(_) => "make a key that signs without touches, in another slot".to_owned(),
                };
                let says = format!("slot {slot}: its touch policy is {is}, and {wanted} is expected");
                Check::bad(what, 78, says, remedy)
            }
            Err(why) => Check::failed(
                what,
                &Fatal::PivKey { serial: self.token.serial, slot, why },
                "is this the right card? if its key is lost, retire it (chancery-keeper admin key retire) and make another: \
                 chancery-keeper admin piv setup, with another slot",
            ),
        }
    }
}
