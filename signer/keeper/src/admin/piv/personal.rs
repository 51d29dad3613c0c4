//! A person's own key on a YubiKey: what a roster keeps of it, and one signature by it. No keeper uses such a key.
//!
//! It promises that a key is taken only if its card proves that it was made there and wants a touch for each signature, and
//! that a signature was verified with that key's public half.

use super::{PivArgs, broken, judged, wrong};
use crate::config::{PinSource, PivConfig, TokenConfig};
use crate::exit::Fatal;
use crate::token::{self, KeyRef, PublicKey, TokenError, TouchPolicy, TouchWait};
use record::{PivSlot, Sha256, Signature, SignedData, Spki};

/// A proven key on a card.
#[derive(Debug, Clone)]
pub struct PersonalKey {
    args: PivArgs,
    /// The public half, on P-256.
    pub spki: Spki,
    /// The slot.
    pub slot: PivSlot,
    /// SHA-256 of the attestation certificate and that of f9, in DER, one behind the other.
    pub attestation: Sha256,
}

impl PersonalKey {
    /// Looks at the key in a slot, without the PIN.
    pub fn on(args: &PivArgs, slot: PivSlot) -> Result<Self, Fatal> {
        let fault = |why: &str| wrong(args.serial, slot, why);
        let (facts, verdict) = judged(args, slot)?;
        let verdict = verdict.map_err(|why| fault(&why))?;
        if verdict.touch != TouchPolicy::Always {
            return Err(fault(
                "it signs without a touch, and an approval is a touch: make one with touch policy always",
            ));
        }
        let PublicKey::P256(spki) = facts.public else {
            return Err(fault("it is not on P-256, which is what approves from here"));
        };
        match verdict.chain.as_slice() {
            [attestation, f9, ..] => {
                let attestation = Sha256::of(&[attestation.as_slice(), f9].concat());
                Ok(Self { args: args.clone(), spki, slot, attestation })
            }
            _ => Err(fault("it has no attestation, and only proven keys stand in a roster")),
        }
    }

    /// The card's serial number.
    pub fn serial(&self) -> u32 {
        self.args.serial
    }

    /// Signs `message`, with one try of the PIN and one touch; `waits` is called when the card begins to wait for that.
    pub fn sign(
        &self,
        message: &[u8],
        pin: PinSource,
        waits: &dyn Fn(TouchWait),
    ) -> Result<Signature, Fatal> {
        let fault = |why: String| wrong(self.args.serial, self.slot, why);
        let config = PivConfig::of_command(self.args.serial, pin, self.args.demands.clone());
        let token = token::open(&TokenConfig::Piv(config))?;
        let key = token.key(&KeyRef::Slot(self.slot), &PublicKey::P256(self.spki.clone()))?;
        let data = SignedData::of(self.spki.algorithm(), message).map_err(|e| fault(e.to_string()))?;
        token.sign(&key, &data, waits).map_err(|error| match error {
            // What was signed is worth nothing without the signature, which nobody has.
            TokenError::Unknown { .. } | TokenError::NotSigned { .. } => {
                fault(format!("it made no signature ({error}): run the same command again"))
            }
            TokenError::Busy { .. } => {
                broken(self.args.serial, format!("{error}: run the same command again"))
            }
        })
    }
}
