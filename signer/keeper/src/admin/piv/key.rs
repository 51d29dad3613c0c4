//! Keys on a card: shown, proven to others, and granted when they were made before.

use super::card::keys as all_on;
use super::evidence::Evidence;
use super::{PivArgs, open, slot_facts, test, watchdog, wrong};
use crate::admin::charter::{CharterText, Place};
use crate::admin::key::{Entry, KeyDocument, Keys, Made, read_charter};
use crate::admin::report::print;
use crate::admin::{Format, Grant};
use crate::exit::Fatal;
use crate::token::KeyRef;
use crate::token::piv::{Judge, SlotFacts, Verdict};
use record::{Clock, PivSlot, SystemClock};
use std::path::Path;

/// Prints every key of a card, with its evidence, or why no keeper would use it, and what a charter says of it.
pub fn list(args: &PivArgs, charter: Option<&Path>, format: Option<Format>) -> Result<(), Fatal> {
    let charter = charter.map(read_charter).transpose()?;
    let judge = Judge::read(args.serial, &args.demands)?;
    let watchdog = watchdog()?;
    let keys = {
        let _watched = watchdog.watch("PC/SC");
        all_on(&mut open(args.serial)?, &judge)?
    };
    print(format, &Keys { keys: keys.into_iter().map(|key| key.granted(charter.as_ref())).collect() })
}

/// Prints the key in one slot.
pub fn show(
    args: &PivArgs,
    slot: PivSlot,
    charter: Option<&Path>,
    format: Option<Format>,
) -> Result<(), Fatal> {
    let charter = charter.map(read_charter).transpose()?;
    let (facts, verdict) = judged(args, slot)?;
    let verdict = verdict.map(|verdict| verdict.evidence);
    print(format, &KeyDocument::on_card(slot, &facts, verdict).granted(charter.as_ref()))
}

/// Prints the proof of a key, and writes it with its certificates into the new folder `out`, if that is given.
pub fn attest(
    args: &PivArgs,
    slot: PivSlot,
    out: Option<&Path>,
    format: Option<Format>,
) -> Result<(), Fatal> {
    let (facts, verdict) = judged(args, slot)?;
    let verdict = verdict.map_err(|why| wrong(args.serial, slot, why))?;
    if verdict.chain.is_empty() {
        return Err(wrong(
            args.serial,
            slot,
            "without an attestation there is nothing to prove: leave --attestation away",
        ));
    }
    let evidence = Evidence::of(args.serial, slot, &facts, verdict);
    let written = out.map(|folder| evidence.write(folder)).transpose()?;
    print(format, &evidence.in_files(written))
}

/// Adds the key in a slot to a charter, if it proves what it must and signs.
pub fn import_public(
    args: &PivArgs,
    slot: PivSlot,
    pin_file: &Path,
    grant: &Grant,
    format: Option<Format>,
) -> Result<(), Fatal> {
    let text = CharterText::open(&grant.charter)?;
    let (facts, verdict) = judged(args, slot)?;
    let verdict = verdict.map_err(|why| wrong(args.serial, slot, why))?;
    let place = Place { at: KeyRef::Slot(slot), touch: verdict.touch };
    text.try_entry(grant, &place)?;
    let tested = test(args.serial, &args.demands, pin_file, (slot, &facts.public), grant.purpose)?;
    text.add(grant, &place, &tested.spki, &remark(args.serial))?;
    let key = KeyDocument::on_card(slot, &facts, Ok(tested.key.evidence().to_vec()));
    print(format, &Made { key, charter: Some(Entry::of(grant)) })
}

/// What stands above an entry.
pub(super) fn remark(serial: u32) -> String {
    format!("Added {} from YubiKey {serial}.", SystemClock.now())
}

/// What the card says of the key in a slot, and whether a keeper would take it.
pub(super) fn judged(args: &PivArgs, slot: PivSlot) -> Result<(SlotFacts, Result<Verdict, String>), Fatal> {
    let judge = Judge::read(args.serial, &args.demands)?;
    let watchdog = watchdog()?;
    let _watched = watchdog.watch("PC/SC");
    let mut card = open(args.serial)?;
    let facts = slot_facts(&mut card, args.serial, slot)?;
    let verdict = judge.key(&mut card, slot, &facts);
    Ok((facts, verdict))
}
