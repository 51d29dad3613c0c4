//! `admin piv setup`: a card from the factory becomes a keeper's. Its PIN, PUK and management key are changed, a key is made
//! on it and proves where it was made, and a charter may get the key.
//!
//! It promises:
//! * what can be refused is refused before anything is changed;
//! * no PIN or PUK is tried twice by one command, nor at its last try; the factory's values are used only where the card
//!   says that it has them;
//! * a key that is in a slot is never overwritten;
//! * after an interruption at any step the same command goes on where it ended: the card says what has been changed, and
//!   the management key, of which no tries are counted, who has changed it.

mod change;

use super::args::{CardKind, DemandArgs, Policy, touch_policy};
use super::evidence::Evidence;
use super::key::remark;
use super::secrets::{Bytes, Kind, New};
use super::{open, slot_facts, test, watchdog, wrong};
use crate::admin::charter::{CharterText, Place};
use crate::admin::key::{Entry, KeyDocument, LOG_KEY_ALONE};
use crate::admin::report::{Document, print};
use crate::admin::{Format, Grant};
use crate::config::{Attestation, Demands};
use crate::exit::Fatal;
use crate::token::piv::{Card, Judge, SlotError, SlotFacts, Verdict};
use crate::token::{Firmware, KeyRef, TouchPolicy};
use change::Plan;
use record::{Origin, PivSlot};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What the card shall have.
#[derive(Debug, Clone, clap::Args)]
pub struct SetupArgs {
    /// The card's serial number.
    #[arg(id = "piv_serial", long = "serial", value_name = "SERIAL")]
    serial: u32,
    /// The slot that gets the key: 9a, 9c, 9d, or 82 to 95. It must be empty.
    #[arg(long)]
    slot: PivSlot,
    /// The kind of key.
    #[arg(long = "type", value_enum, default_value_t = CardKind::P256)]
    kind: CardKind,
    /// When the key wants the PIN.
    #[arg(long, value_enum, default_value_t = Policy::Always)]
    pin_policy: Policy,
    /// Whether the key wants a touch for each signature: always or never.
    #[arg(long, value_parser = touch_policy, value_name = "POLICY")]
    touch_policy: TouchPolicy,
    /// File with the PIN that the card gets (mode 0600); made with a random one if it is not there.
    #[arg(long, value_name = "FILE")]
    new_pin_file: PathBuf,
    /// The same for the PUK.
    #[arg(long, value_name = "FILE")]
    new_puk_file: PathBuf,
    /// The same for the management key, in hex.
    #[arg(long, value_name = "FILE")]
    new_management_key_file: PathBuf,
    /// File with the card's present PIN, where that is neither the factory's nor the new one.
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
    /// The same for the PUK.
    #[arg(long, value_name = "FILE")]
    puk_file: Option<PathBuf>,
    /// The same for the management key.
    #[arg(long, value_name = "FILE")]
    management_key_file: Option<PathBuf>,
    #[command(flatten)]
    demands: DemandArgs,
    /// A new folder for the proof: certificates and a statement, as `admin key attest` writes them.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// For a log key: the log's name, to print its verifier key.
    #[arg(long)]
    origin: Option<Origin>,
    #[command(flatten)]
    grant: Option<Grant>,
}

/// Sets a card up, or goes on where that was interrupted.
pub fn run(args: &SetupArgs, format: Option<Format>) -> Result<(), Fatal> {
    let setup = Setup::read(args)?;
    let watchdog = watchdog()?;
    let watched = watchdog.watch("PC/SC");
    let mut card = open(args.serial)?;
    let ready = setup.examine(&mut card)?;
    let charter = setup.charter(&ready)?;
    let steps = Steps {
        pin: setup.pin.apply(&mut card, &ready.pin)?,
        puk: setup.puk.apply(&mut card, &ready.puk)?,
        management_key: setup.management_key.apply(&mut card, &ready.management_key)?,
        key: setup.key(&mut card, ready.found.as_ref())?,
    };
    let (facts, verdict) = setup.prove(&mut card)?;
    let firmware = card.firmware().to_string();
    drop((card, watched));
    let key = KeyDocument::on_card(args.slot, &facts, Ok(verdict.evidence.clone()));
    let key = key.of_log(args.origin.as_ref(), &facts.public)?;
    let charter = charter.map(|charter| setup.enter(charter, &facts)).transpose()?;
    let evidence = Evidence::of(args.serial, args.slot, &facts, verdict);
    let files = args.out.as_deref().map(|folder| evidence.write(folder)).transpose()?;
    print(format, &Done { serial: args.serial, firmware, steps, key, charter, files })
}

#[derive(Serialize)]
struct Done {
    serial: u32,
    firmware: String,
    steps: Steps,
    #[serde(flatten)]
    key: KeyDocument,
    #[serde(skip_serializing_if = "Option::is_none")]
    charter: Option<Entry>,
    /// The folder with the proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<String>,
}

/// What this command did: `changed` or `generated`, and `kept` where the card had it already.
#[derive(Serialize)]
struct Steps {
    pin: &'static str,
    puk: &'static str,
    management_key: &'static str,
    key: &'static str,
}

impl Document for Done {
    const SCHEMA: &'static str = "chancery.keeper.piv-setup/v1";

    fn text(&self) -> String {
        let Steps { pin, puk, management_key, key } = self.steps;
        let entry = self.charter.as_ref().map_or(String::new(), Entry::text);
        let files = self.files.as_ref().map_or(String::new(), |files| format!("\nfiles         {files}"));
        format!(
            "YubiKey       {}, firmware {}\ndone          PIN {pin}, PUK {puk}, management key {management_key}, key {key}\n\
             {}{entry}{files}",
            self.serial,
            self.firmware,
            self.key.text()
        )
    }
}

/// What is wanted, with everything that is known without the card.
struct Setup<'a> {
    args: &'a SetupArgs,
    demands: Demands,
    judge: Judge,
    pin: Secret,
    puk: Secret,
    management_key: Secret,
}

/// One of the card's secrets: what it gets, and what an operator says that it has.
struct Secret {
    serial: u32,
    new: New,
    present: Option<(PathBuf, Bytes)>,
}

/// What the card needs, while nothing has been changed.
struct Ready {
    pin: Plan,
    puk: Plan,
    management_key: Plan,
    /// The key that the slot has already.
    found: Option<SlotFacts>,
}

/// A charter that has the key, or in which its entry will fit.
enum Charter<'a> {
    Has(&'a Grant),
    Fits(&'a Grant, CharterText),
}

impl<'a> Setup<'a> {
    fn read(args: &'a SetupArgs) -> Result<Self, Fatal> {
        let fault = |why: &str| Err(wrong(args.serial, args.slot, why));
        match (args.kind, &args.origin, &args.grant) {
            (_, Some(_), Some(_)) => return fault(LOG_KEY_ALONE),
            (CardKind::Ed25519, _, Some(_)) => {
                return fault("a charter's keys are P-256 keys: leave --charter away, or use --type p256");
            }
            _ => {}
        }
        let files = [&args.new_pin_file, &args.new_puk_file, &args.new_management_key_file];
        if let Some(twice) = (1..)
            .zip(files)
            .find_map(|(next, file)| files.into_iter().skip(next).find(|other| *other == file))
        {
            let why = "is named for two secrets: each has a file of its own";
            return Err(Fatal::Config { file: twice.clone(), why: why.into() });
        }
        if let Some(folder) = args.out.as_deref().filter(|folder| folder.exists()) {
            let why = "is there already, and evidence is never overwritten: name another folder";
            return Err(Fatal::Config { file: folder.to_owned(), why: why.into() });
        }
        let demands = args.demands.demands(Attestation::Required);
        let secret = |kind, new: &Path, present: Option<&PathBuf>| {
            Secret::read(args.serial, kind, new, present.map(PathBuf::as_path))
        };
        Ok(Self {
            judge: Judge::read(args.serial, &demands)?,
            pin: secret(Kind::Pin, &args.new_pin_file, args.pin_file.as_ref())?,
            puk: secret(Kind::Puk, &args.new_puk_file, args.puk_file.as_ref())?,
            management_key: secret(
                Kind::ManagementKey,
                &args.new_management_key_file,
                args.management_key_file.as_ref(),
            )?,
            demands,
            args,
        })
    }

    fn wrong(&self, why: impl Into<String>) -> Fatal {
        wrong(self.args.serial, self.args.slot, why)
    }

    /// Whether the card can have what is wanted, and what it has of that already. No tries are used.
    fn examine(&self, card: &mut Card) -> Result<Ready, Fatal> {
        let firmware = card.firmware();
        self.judge.firmware(firmware, self.args.kind == CardKind::P256).map_err(|why| self.wrong(why))?;
        if self.args.kind == CardKind::Ed25519 && firmware < Firmware::ED25519 {
            return Err(self.wrong(format!(
                "Ed25519 is there from firmware {} on, and this is {firmware}",
                Firmware::ED25519
            )));
        }
        self.judge.can_attest(card).map_err(|why| self.wrong(why))?;
        let access = card.access().map_err(|e| super::broken(self.args.serial, e))?;
        let management_key = self.management_key.plan_key(card, &access.management_key)?;
        let ours = matches!(management_key, Plan::Keep);
        let pin = self.pin.plan(&access.pin, ours)?;
        let puk = self.puk.plan(&access.puk, ours)?;
        Ok(Ready { found: self.slot(card, ours)?, pin, puk, management_key })
    }

    /// The slot must be empty, or have what this command leaves when it is interrupted: on a card that has the new management
    /// key already, a key that was made there and is as it is wanted. An older one of that kind proves the same.
    fn slot(&self, card: &mut Card, ours: bool) -> Result<Option<SlotFacts>, Fatal> {
        let taken = |why: &str| {
            self.wrong(format!(
                "{why}, and no key is ever overwritten: name another slot; admin key import-public grants a key that is there"
            ))
        };
        match card.slot(self.args.slot) {
            Ok(facts) if ours && self.is_as_wanted(&facts) => Ok(Some(facts)),
            Ok(facts) => Err(taken(&format!(
                "it has a {} key already (PIN {}, touch {})",
                facts.public.kind(),
                facts.pin_policy(),
                facts.touch_policy()
            ))),
            Err(SlotError::Empty) => Ok(None),
            Err(SlotError::Key(why)) => Err(taken(why)),
            Err(SlotError::Card(error)) => Err(super::broken(self.args.serial, error)),
        }
    }

    /// The entry is tried before there is a key.
    fn charter(&self, ready: &Ready) -> Result<Option<Charter<'a>>, Fatal> {
        let Some(grant) = &self.args.grant else { return Ok(None) };
        let text = CharterText::open(&grant.charter)?;
        let place = self.place();
        let spki = ready.found.as_ref().and_then(|facts| facts.public.p256());
        if spki.is_some_and(|spki| text.has(grant, &place, spki)) {
            return Ok(Some(Charter::Has(grant)));
        }
        text.try_entry(grant, &place)?;
        Ok(Some(Charter::Fits(grant, text)))
    }

    fn enter(&self, charter: Charter<'_>, facts: &SlotFacts) -> Result<Entry, Fatal> {
        let (serial, slot) = (self.args.serial, self.args.slot);
        let grant = match charter {
            Charter::Has(grant) => grant,
            Charter::Fits(grant, text) => {
                let key = (slot, &facts.public);
                let tested = test(serial, &self.demands, &self.args.new_pin_file, key, grant.purpose)?;
                text.add(grant, &self.place(), &tested.spki, &remark(serial))?;
                grant
            }
        };
        Ok(Entry::of(grant))
    }

    fn place(&self) -> Place {
        Place { at: KeyRef::Slot(self.args.slot), touch: self.args.touch_policy }
    }

    /// The proof of the key that the slot has now.
    fn prove(&self, card: &mut Card) -> Result<(SlotFacts, Verdict), Fatal> {
        let stays = |why: String| {
            self.wrong(format!(
                "{why}; the key stays in its slot and stands in no charter: mend that, and run the same command again"
            ))
        };
        let facts = slot_facts(card, self.args.serial, self.args.slot)?;
        if !self.is_as_wanted(&facts) {
            return Err(stays("the card made another key than was asked for".into()));
        }
        let verdict = self.judge.key(card, self.args.slot, &facts).map_err(stays)?;
        Ok((facts, verdict))
    }
}
