//! Whether a key on a card is as keys must be: its card's firmware, what it wants before it signs, and the proof that it
//! was made there.
//!
//! Promises: the same judgement at enrolment and at every start of a keeper. It does not know: which key was expected,
//! and what it is for.

use super::attestation::{Proven, Statement, Trust};
use super::card::{Card, SlotFacts, public_key};
use super::firmware::Firmware;
use crate::config::{Attestation, Demands};
use crate::exit::Fatal;
use crate::token::{PublicKey, TouchPolicy};
use record::{Clock, PivSlot, SystemClock};
use yubikey::{PinPolicy, TouchPolicy as CardTouch};

/// Judges the keys of one card.
pub(crate) struct Judge {
    serial: u32,
    demands: Demands,
    trust: Trust,
}

/// A key that was found to be as it must be.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) touch: TouchPolicy,
    /// For the log: words such as `PIV_ATTESTED=true`, sorted.
    pub(crate) evidence: Vec<String>,
    /// The certificates that prove it, in DER, from the attestation up to the root; none where none are asked for.
    pub(crate) chain: Vec<Vec<u8>>,
}

impl Judge {
    /// Reads the files with certificates.
    pub(crate) fn read(serial: u32, demands: &Demands) -> Result<Self, Fatal> {
        Ok(Self { serial, demands: demands.clone(), trust: Trust::read(demands)? })
    }

    /// Whether a card with this firmware may have a key of this kind; else why not.
    pub(crate) fn firmware(&self, firmware: Firmware, ecdsa: bool) -> Result<(), String> {
        let floor = self.demands.firmware_floor;
        if !ecdsa || firmware >= floor {
            return Ok(());
        }
        Err(format!(
            "the card has firmware {firmware}, older than the firmware_floor {floor}: such a card leaks ECDSA keys to who can \
             open and measure it (YSA-2024-03); make the key on a newer one"
        ))
    }

    /// Whether the card could prove anything of a key, before it has one; else why not.
    pub(crate) fn can_attest(&self, card: &mut Card) -> Result<(), String> {
        if self.demands.attestation == Attestation::None {
            return Ok(());
        }
        let f9 =
            card.f9_certificate().map_err(|e| format!("the card does not give its f9 certificate ({e})"))?;
        self.trust
            .verify_f9(&f9, SystemClock.now())
            .map_err(|e| format!("its attestations prove nothing: {e}"))
    }

    /// Judges the key in a slot by what the card says of it and can prove.
    pub(crate) fn key(&self, card: &mut Card, slot: PivSlot, facts: &SlotFacts) -> Result<Verdict, String> {
        let firmware = card.firmware();
        self.firmware(firmware, matches!(facts.public, PublicKey::P256(_)))?;
        let touch = touch_policy(facts.touch)?;
        if facts.pin == PinPolicy::Default {
            return Err("the card does not tell its PIN policy".into());
        }
        let attested = self.demands.attestation == Attestation::Required;
        let chain = if attested { self.prove(card, slot, facts)?.chain } else { vec![] };
        let proof = Proof { attested, generated: facts.generated };
        Ok(Verdict {
            touch,
            evidence: evidence(self.serial, firmware, facts.pin_policy(), touch, proof),
            chain,
        })
    }

    /// The proof that the key in this slot was made on this card, with these policies.
    fn prove(&self, card: &mut Card, slot: PivSlot, facts: &SlotFacts) -> Result<Proven, String> {
        if !facts.generated {
            return Err("its key was imported, so copies may be anywhere: generate one on the card, or set attestation = \
                        \"none\" if that is known and wanted"
                .into());
        }
        let (leaf, f9) = card.attest(slot).map_err(|e| format!("the card gives no attestation ({e})"))?;
        let proven = self.trust.verify(&leaf, &f9, SystemClock.now());
        let proven = proven.map_err(|e| format!("its attestation proves nothing: {e}"))?;
        matches(&proven.statement, self.serial, card.firmware(), slot, facts)?;
        Ok(proven)
    }
}

/// Whether what was proven is what is needed: the card, the slot, the key and what it wants.
pub(super) fn matches(
    proven: &Statement,
    serial: u32,
    firmware: Firmware,
    slot: PivSlot,
    facts: &SlotFacts,
) -> Result<(), String> {
    let differs = |what: &str, attested: String, is: String| {
        Err(format!("its attestation is of another key: {what} {attested}, and here it is {is}"))
    };
    if proven.serial != serial {
        return differs("serial number", proven.serial.to_string(), serial.to_string());
    }
    if proven.slot != slot {
        return differs("slot", proven.slot.to_string(), slot.to_string());
    }
    if proven.firmware != firmware {
        return differs("firmware", proven.firmware.to_string(), firmware.to_string());
    }
    if public_key(&proven.spki).as_ref() != Some(&facts.public) {
        return Err("its attestation is of another public key than the pinned one".into());
    }
    let policies = (u8::from(facts.pin), u8::from(facts.touch));
    if (proven.pin_policy, proven.touch_policy) != policies {
        let attested = format!("{:?}", (proven.pin_policy, proven.touch_policy));
        return differs("PIN and touch policy", attested, format!("{policies:?}"));
    }
    Ok(())
}

fn touch_policy(touch: CardTouch) -> Result<TouchPolicy, &'static str> {
    match touch {
        CardTouch::Never => Ok(TouchPolicy::Never),
        CardTouch::Always => Ok(TouchPolicy::Always),
        CardTouch::Cached => Err(
            "its touch policy is cached: one touch would let everything be signed that is asked for within 15 s; generate \
             the key with the policy always or never",
        ),
        CardTouch::Default => Err("the card does not tell its touch policy"),
    }
}

/// What is known of where a key comes from.
#[derive(Clone, Copy)]
struct Proof {
    attested: bool,
    generated: bool,
}

/// The longest evidence of a key on a card.
pub(in crate::token) fn longest_evidence() -> Vec<String> {
    let proof = Proof { attested: false, generated: false };
    evidence(u32::MAX, Firmware::new([255; 3]), "always", TouchPolicy::Always, proof)
}

/// The attestation itself is not in it: the card makes another one, with another serial number, each time it is asked.
fn evidence(serial: u32, firmware: Firmware, pin: &str, touch: TouchPolicy, proof: Proof) -> Vec<String> {
    vec![
        format!("PIV_ATTESTED={}", proof.attested),
        format!("PIV_FIRMWARE={firmware}"),
        format!("PIV_GENERATED={}", proof.generated),
        format!("PIV_PIN={pin}"),
        format!("PIV_SERIAL={serial}"),
        format!("PIV_TOUCH={}", touch.as_str()),
    ]
}
