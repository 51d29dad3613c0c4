//! One connection to one card, through the `yubikey` crate, with that crate's traps closed.
//!
//! Promises: dropping it leaves the card as it is, where the crate would reset it for all programs; nothing here tries a
//! PIN by itself. It does not know: what a failed call means for an intent.
//!
//! The crate keeps a PIN that was right in plain memory until the connection ends; the process is closed to debuggers and
//! core dumps for that reason among others. A card that answers with a success and no bytes makes the crate panic, and so
//! ends the process.

use super::firmware::Firmware;
use crate::token::PublicKey;
use der::Encode;
use record::{PivSlot, Spki};
use std::ffi::CString;
use std::time::Duration;
use yubikey::piv::{self, AlgorithmId, ManagementSlotId, Origin, SlotId};
use yubikey::reader::Context;
use yubikey::{Error, PinPolicy, TouchPolicy, YubiKey};

/// The object with the certificate of the attestation key.
const F9_CERTIFICATE: u32 = 0x5f_ff01;
/// The tag of a certificate in its object (SP 800-73-4, part 1, appendix A).
const CERTIFICATE: u8 = 0x70;
/// `SubjectPublicKeyInfo` of an Ed25519 key without its 32 bytes (RFC 8410).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An open card.
pub(crate) struct Card {
    /// There until it is dropped.
    key: Option<YubiKey>,
}

/// What a card says of a key without proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotFacts {
    pub(crate) public: PublicKey,
    pub(crate) pin: PinPolicy,
    pub(crate) touch: TouchPolicy,
    pub(crate) generated: bool,
}

impl SlotFacts {
    /// The PIN policy's word.
    pub(crate) fn pin_policy(&self) -> &'static str {
        match self.pin {
            PinPolicy::Never => "never",
            PinPolicy::Once => "once",
            PinPolicy::Always => "always",
            PinPolicy::Default => "unknown",
        }
    }

    /// The touch policy's word.
    pub(crate) fn touch_policy(&self) -> &'static str {
        match self.touch {
            TouchPolicy::Never => "never",
            TouchPolicy::Always => "always",
            TouchPolicy::Cached => "cached",
            TouchPolicy::Default => "unknown",
        }
    }
}

/// Why the card is not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("PC/SC cannot be used ({0}): is pcscd running, and may this user reach its socket?")]
    Service(Error),
    #[error("it is in no reader{}", .0.text())]
    Absent(Others),
}

/// What was found in place of the card.
#[derive(Debug, Default)]
pub(crate) struct Others {
    serials: Vec<u32>,
    /// A card that another program holds alone: it may be the one.
    pub(crate) held: bool,
}

impl Others {
    fn text(&self) -> String {
        let list: Vec<String> = self.serials.iter().map(u32::to_string).collect();
        let serials =
            if list.is_empty() { String::new() } else { format!("; other cards are: {}", list.join(", ")) };
        let held = if self.held { "; another program (scdaemon?) holds a card for itself alone" } else { "" };
        format!("{serials}{held}")
    }
}

/// Why a slot's key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    #[error("the card did not answer ({0})")]
    Card(Error),
    #[error("there is no key in it")]
    Empty,
    #[error("{0}")]
    Key(&'static str),
}

/// What is in a reader, by its service's word: the name, how often something came or went, who uses it, and the card's ATR.
pub(super) type InReader = (CString, u32, pcsc::State, Vec<u8>);

/// What is in the readers. No card is asked.
pub(super) fn in_readers() -> Result<Vec<InReader>, pcsc::Error> {
    let context = pcsc::Context::establish(pcsc::Scope::System)?;
    let names = match context.list_readers_owned() {
        Err(pcsc::Error::NoReadersAvailable) => return Ok(vec![]),
        names => names?,
    };
    let unaware = |name| pcsc::ReaderState::new(name, pcsc::State::UNAWARE);
    let mut states: Vec<_> = names.into_iter().map(unaware).collect();
    if !states.is_empty() {
        context.get_status_change(Duration::ZERO, &mut states)?;
    }
    let seen =
        |s: &pcsc::ReaderState| (s.name().to_owned(), s.event_count(), s.event_state(), s.atr().to_vec());
    Ok(states.iter().map(seen).collect())
}

impl Card {
    /// Opens the card with this serial number, whatever reader it is in. The reader that had it last is asked first: in
    /// another one a card may be waiting for a touch, and would keep us waiting with it.
    pub(crate) fn open(serial: u32, last_reader: Option<&str>) -> Result<Self, OpenError> {
        let mut context = Context::open().map_err(OpenError::Service)?;
        let mut readers: Vec<_> = context.iter().map_err(OpenError::Service)?.collect();
        readers.sort_by_key(|reader| Some(&*reader.name()) != last_reader);
        let mut others = Others::default();
        for reader in readers {
            match reader.open() {
                Ok(key) if key.serial().0 == serial => return Ok(Self { key: Some(key) }),
                Ok(key) => {
                    others.serials.push(key.serial().0);
                    drop(Self { key: Some(key) });
                }
                Err(Error::PcscError { inner: Some(pcsc::Error::SharingViolation) }) => others.held = true,
                Err(_) => {}
            }
        }
        Err(OpenError::Absent(others))
    }

    /// Every card in a reader, and what hides others. A card that waits for a touch keeps us waiting.
    pub(crate) fn all() -> Result<(Vec<Self>, Others), OpenError> {
        let mut context = Context::open().map_err(OpenError::Service)?;
        let (mut cards, mut others) = (Vec::new(), Others::default());
        for reader in context.iter().map_err(OpenError::Service)? {
            match reader.open() {
                Ok(key) => cards.push(Self { key: Some(key) }),
                Err(Error::PcscError { inner: Some(pcsc::Error::SharingViolation) }) => others.held = true,
                Err(_) => {}
            }
        }
        Ok((cards, others))
    }

    /// Its serial number.
    pub(crate) fn serial(&self) -> u32 {
        self.key.as_ref().map_or(0, |key| key.serial().0)
    }

    /// The name of the reader it is in: a hint, and no identity.
    pub(crate) fn reader(&self) -> String {
        self.key.as_ref().map(|key| key.name().to_owned()).unwrap_or_default()
    }

    pub(crate) fn firmware(&self) -> Firmware {
        let version = self.key.as_ref().map(YubiKey::version);
        version.map_or(Firmware::new([0; 3]), |v| Firmware::new([v.major, v.minor, v.patch]))
    }

    /// What it says of the key in a slot.
    pub(crate) fn slot(&mut self, slot: PivSlot) -> Result<SlotFacts, SlotError> {
        let metadata =
            piv::metadata(self.key().map_err(SlotError::Card)?, id(slot).map_err(SlotError::Card)?);
        let metadata = metadata.map_err(|error| match error {
            Error::NotFound => SlotError::Empty,
            Error::ParseError | Error::AlgorithmError => {
                SlotError::Key("its key is of a kind, or has a policy, that is not known here")
            }
            error => SlotError::Card(error),
        })?;
        let spki = metadata.public.and_then(|spki| spki.to_der().ok());
        let public = spki.as_deref().and_then(public_key);
        let public = public.ok_or(SlotError::Key("its key is neither a P-256 nor an Ed25519 key"))?;
        let (pin, touch) = metadata.policy.ok_or(SlotError::Key("the card does not tell its policies"))?;
        Ok(SlotFacts { public, pin, touch, generated: metadata.origin == Some(Origin::Generated) })
    }

    /// How many tries the PIN has, without using one and whatever was verified. The crate's own question answers zero when
    /// the PIN is verified.
    pub(crate) fn pin_tries(&mut self) -> Result<u8, Error> {
        let metadata = piv::metadata(self.key()?, SlotId::Management(ManagementSlotId::Pin))?;
        metadata.retries.map(|retries| retries.remaining_count).ok_or(Error::NotSupported)
    }

    /// Whether the PIN was given since the card was powered, by whomever.
    pub(super) fn pin_is_verified(&mut self) -> Result<bool, Error> {
        match self.key()?.verify_pin(&[]) {
            Ok(()) => Ok(true),
            Err(Error::WrongPin { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the PIN. This is a try.
    pub(super) fn verify_pin(&mut self, pin: &[u8]) -> Result<(), Error> {
        self.key()?.verify_pin(pin)
    }

    /// Has the key sign: a digest with P-256, a message with Ed25519.
    pub(super) fn sign(
        &mut self,
        slot: PivSlot,
        algorithm: AlgorithmId,
        data: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let slot = id(slot)?;
        piv::sign_data(self.key()?, data, algorithm, slot).map(|made| made.to_vec())
    }

    /// The card's own certificate for a key that was made on it, and the certificate of the key that signs such.
    pub(super) fn attest(&mut self, slot: PivSlot) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let slot = id(slot)?;
        let leaf = piv::attest(self.key()?, slot)?.to_vec();
        Ok((leaf, self.f9_certificate()?))
    }

    /// The certificate of the key that signs attestations.
    pub(super) fn f9_certificate(&mut self) -> Result<Vec<u8>, Error> {
        let object = self.key()?.fetch_object(F9_CERTIFICATE)?;
        certificate_in(&object).map(<[u8]>::to_vec).ok_or(Error::InvalidObject)
    }

    pub(super) fn key(&mut self) -> Result<&mut YubiKey, Error> {
        self.key.as_mut().ok_or(Error::NotFound)
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // The crate's own drop would reset the card, and with it what other programs have verified. It does so still if
        // this fails, and then the connection is gone anyway.
        if let Some(key) = self.key.take() {
            let _closed = key.disconnect(pcsc::Disposition::LeaveCard);
        }
    }
}

pub(super) fn id(slot: PivSlot) -> Result<SlotId, Error> {
    SlotId::try_from(slot.reference())
}

/// A public key that the service has a use for.
pub(super) fn public_key(spki: &[u8]) -> Option<PublicKey> {
    let ed25519 = spki.strip_prefix(&ED25519_SPKI).and_then(|key| key.try_into().ok());
    ed25519.map(PublicKey::Ed25519).or_else(|| Spki::from_der(spki).ok().map(PublicKey::P256))
}

/// The certificate in a data object, which is BER-TLV with lengths of one to three bytes.
fn certificate_in(object: &[u8]) -> Option<&[u8]> {
    let (tag, rest) = object.split_first()?;
    let (length, value) = match rest {
        [0x82, high, low, value @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), value),
        [0x81, length, value @ ..] => (usize::from(*length), value),
        [length @ 0..=0x7f, value @ ..] => (usize::from(*length), value),
        _ => return None,
    };
    if *tag == CERTIFICATE { value.get(..length) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_found_in_its_object_and_half_of_one_is_not() {
        let long = [&[0x70, 0x82, 0x01, 0x00][..], &[7; 256], &[0x71, 1, 0, 0xfe, 0]].concat();
        assert_eq!(certificate_in(&long), Some([7; 256].as_slice()));
        assert_eq!(certificate_in(&[0x70, 0x81, 0x01, 9]), Some([9].as_slice()));
        assert_eq!(certificate_in(&[0x70, 2, 9, 9, 0x71]), Some([9, 9].as_slice()));
        for bad in
            [&[][..], &[0x70], &[0x70, 2, 9], &[0x71, 1, 9], &[0x70, 0x84, 0, 0, 0, 1, 9], &long[..200]]
        {
            assert_eq!(certificate_in(bad), None);
        }
    }
}
