//! Enrolment of a card: its serial number, and what its keys must prove, as the `[token]` table of a configuration.
//!
//! It promises: no PIN is tried; with this table a keeper believes this card's attestations, and no other card's.

use super::card::About;
use super::{PivArgs, broken, name, open, untried, watchdog};
use crate::admin::Format;
use crate::admin::charter::string;
use crate::admin::enrol::{Enrolled, PinArgs, absolute, pin_line, write};
use crate::admin::report::print;
use crate::config::{Attestation, Demands, TokenConfig};
use crate::exit::Fatal;
use crate::token::Firmware;
use crate::token::piv::{Access, Card, Judge, untriable};
use std::path::{Path, PathBuf};

/// Prints the `[token]` table for a card, and writes it into the configuration `write_to`, if that is given.
pub fn run(
    args: &PivArgs,
    pin: &PinArgs,
    write_to: Option<&Path>,
    format: Option<Format>,
) -> Result<(), Fatal> {
    let pin = pin.source(&name(args.serial))?;
    let all = |files: &[PathBuf]| files.iter().map(|file| absolute(file)).collect::<Result<Vec<_>, _>>();
    let demands = Demands {
        attestation_chain: all(&args.demands.attestation_chain)?,
        attestation_roots: all(&args.demands.attestation_roots)?,
        ..args.demands.clone()
    };
    let (about, warning) = examine(args.serial, &demands)?;
    let lines = format!("{}\n{}", piv_line(args.serial, &demands), pin_line(&pin));
    if let Some(file) = write_to {
        let is = |token: &TokenConfig| {
            let TokenConfig::Piv(token) = token else { return false };
            token.serial == about.serial() && token.demands == demands && token.pin == pin
        };
        write(file, &lines, is)?;
    }
    let table = format!("[token]\n{lines}");
    let written = write_to.map(|file| file.display().to_string());
    print(format, &Enrolled { token: about, table, written, warning })
}

/// Whether a keeper could start with the card, as far as that shows without a login and without its keys.
fn examine(serial: u32, demands: &Demands) -> Result<(About, Option<String>), Fatal> {
    let judge = Judge::read(serial, demands)?;
    let watchdog = watchdog()?;
    let _watched = watchdog.watch("PC/SC");
    let mut card = open(serial)?;
    judge.firmware(card.firmware(), true).map_err(|why| broken(serial, why))?;
    judge.can_attest(&mut card).map_err(|why| broken(serial, why))?;
    let warning = guarded(&mut card, serial)?;
    Ok((About::of(&mut card), warning))
}

fn guarded(card: &mut Card, serial: u32) -> Result<Option<String>, Fatal> {
    let Access { pin, puk, management_key } = card.access().map_err(|e| broken(serial, e))?;
    let refuse = |why: &str| Err(Fatal::Pin { token: name(serial), why: why.to_owned() });
    if let Some(why) = untriable(pin.tries_left) {
        return Err(untried(serial, why));
    }
    if pin.factory {
        return refuse(
            "its PIN is the factory's, which everybody knows: `chancery-keeper admin piv setup` changes it",
        );
    }
    let open = [(puk.factory, "PUK"), (management_key.factory, "management key")];
    let open: Vec<&str> = open.into_iter().filter_map(|(factory, what)| factory.then_some(what)).collect();
    Ok((!open.is_empty()).then(|| {
        format!("the factory's {} is in place: change it before the card is used", open.join(" and "))
    }))
}

fn piv_line(serial: u32, demands: &Demands) -> String {
    let files = |member: &str, files: &[PathBuf]| {
        let names: Vec<String> = files.iter().map(|file| string(&file.to_string_lossy())).collect();
        (!names.is_empty()).then(|| format!("{member} = [{}]", names.join(", ")))
    };
    let floor = demands.firmware_floor;
    let members = [
        Some(format!("serial = {serial}")),
        (demands.attestation == Attestation::None).then(|| "attestation = \"none\"".to_owned()),
        files("attestation_chain", &demands.attestation_chain),
        files("attestation_roots", &demands.attestation_roots),
        (floor != Firmware::ECDSA_FLOOR).then(|| format!("firmware_floor = \"{floor}\"")),
    ];
    format!("piv = {{ {} }}", members.into_iter().flatten().collect::<Vec<_>>().join(", "))
}
