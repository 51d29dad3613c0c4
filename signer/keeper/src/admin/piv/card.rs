//! Cards: what is in the readers, and how one of them is. No PIN is tried, and nothing is changed.

use super::{PivArgs, broken, open, watchdog};
use crate::admin::Format;
use crate::admin::key::KeyDocument;
use crate::admin::report::{Document, print};
use crate::exit::Fatal;
use crate::token::piv::{Access, Card, Judge, Reference, SlotError};
use record::PivSlot;
use serde::Serialize;

/// A card as it describes itself.
#[derive(Serialize)]
pub(super) struct About {
    serial: u32,
    firmware: String,
    /// The reader that it is in.
    reader: String,
    /// How it is guarded; absent where the card does not tell, as before firmware 5.3.
    #[serde(flatten)]
    access: Option<Access>,
}

impl About {
    pub(super) fn of(card: &mut Card) -> Self {
        let (serial, firmware, reader) = (card.serial(), card.firmware().to_string(), card.reader());
        Self { serial, firmware, reader, access: card.access().ok() }
    }

    pub(super) fn serial(&self) -> u32 {
        self.serial
    }

    fn text(&self) -> String {
        let mut text = format!(
            "YubiKey       {}, firmware {}\nreader        {}",
            self.serial, self.firmware, self.reader
        );
        let Some(Access { pin, puk, management_key }) = &self.access else {
            return text + "\nguarded       the card does not tell how";
        };
        text += &format!("\nPIN           {}\nPUK           {}", guarded(pin), guarded(puk));
        let factory = if management_key.factory { "FACTORY VALUE" } else { "changed" };
        let touch = if management_key.touch { ", wants a touch" } else { "" };
        text + &format!("\nmanagement    {factory}, {}{touch}", management_key.algorithm)
    }
}

fn guarded(reference: &Reference) -> String {
    let Reference { factory, tries_left, tries } = reference;
    let value = if *factory { "FACTORY VALUE" } else { "changed" };
    let locked = if *tries_left == 0 { ", LOCKED" } else { "" };
    format!("{value}, {tries_left} of {tries} tries left{locked}")
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    about: About,
    /// Slots with a key; absent where the card does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<Vec<PivSlot>>,
}

impl Listed {
    fn of(mut card: Card) -> Self {
        Self { slots: taken(&mut card), about: About::of(&mut card) }
    }

    fn text(&self) -> String {
        let names = |slots: &Vec<PivSlot>| slots.iter().map(PivSlot::to_string).collect::<Vec<_>>().join(" ");
        let slots = match self.slots.as_ref().map(names) {
            None => "the card does not tell".to_owned(),
            Some(none) if none.is_empty() => "no slot".to_owned(),
            Some(slots) => slots,
        };
        format!("{}\nkeys in       {slots}\n", self.about.text())
    }
}

fn taken(card: &mut Card) -> Option<Vec<PivSlot>> {
    let mut taken = Vec::new();
    for slot in PivSlot::all() {
        match card.slot(slot) {
            Ok(_) | Err(SlotError::Key(_)) => taken.push(slot),
            Err(SlotError::Empty) => {}
            Err(SlotError::Card(_)) => return None,
        }
    }
    Some(taken)
}

#[derive(Serialize)]
struct Cards {
    cards: Vec<Listed>,
    /// Another program holds a card for itself alone, which is not shown here.
    held: bool,
}

impl Document for Cards {
    const SCHEMA: &'static str = "chancery.keeper.yubikeys/v1";

    fn text(&self) -> String {
        let mut parts: Vec<String> = self.cards.iter().map(Listed::text).collect();
        if parts.is_empty() {
            parts.push("no YubiKey is in a reader\n".into());
        }
        if self.held {
            parts.push("another program (scdaemon?) holds a card for itself alone\n".into());
        }
        parts.join("\n")
    }
}

/// Prints every YubiKey in a reader.
pub fn list(format: Option<Format>) -> Result<(), Fatal> {
    let watchdog = watchdog()?;
    let listed = {
        let _watched = watchdog.watch("PC/SC");
        let all = Card::all();
        let (cards, others) =
            all.map_err(|e| Fatal::Token { token: "YubiKey".into(), why: e.to_string() })?;
        Cards { cards: cards.into_iter().map(Listed::of).collect(), held: others.held }
    };
    print(format, &listed)
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    about: About,
    keys: Vec<KeyDocument>,
}

impl Document for Shown {
    const SCHEMA: &'static str = "chancery.keeper.yubikey/v1";

    fn text(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(KeyDocument::line).collect();
        let keys = if keys.is_empty() { "keys          none".into() } else { keys.join("\n") };
        format!("{}\n{keys}", self.about.text())
    }
}

/// Prints one card with its keys: what they want before they sign, and whether a keeper would use them.
pub fn show(args: &PivArgs, format: Option<Format>) -> Result<(), Fatal> {
    let judge = Judge::read(args.serial, &args.demands)?;
    let watchdog = watchdog()?;
    let shown = {
        let _watched = watchdog.watch("PC/SC");
        let mut card = open(args.serial)?;
        Shown { keys: keys(&mut card, &judge)?, about: About::of(&mut card) }
    };
    print(format, &shown)
}

/// Every key of a card, with what a keeper would say of it.
pub(super) fn keys(card: &mut Card, judge: &Judge) -> Result<Vec<KeyDocument>, Fatal> {
    let mut keys = Vec::new();
    for slot in PivSlot::all() {
        match card.slot(slot) {
            Ok(facts) => {
                let verdict = judge.key(card, slot, &facts).map(|verdict| verdict.evidence);
                keys.push(KeyDocument::on_card(slot, &facts, verdict));
            }
            Err(SlotError::Empty) => {}
            Err(SlotError::Key(why)) => keys.push(KeyDocument::refused_on_card(slot, why.into())),
            Err(SlotError::Card(error)) => return Err(broken(card.serial(), error)),
        }
    }
    Ok(keys)
}
