//! What only who sets a card up asks of it: how it is guarded, new secrets, and a new key.
//!
//! Nothing here reads or writes f9 or its certificate, and no [`PivSlot`] is f9.

use super::card::{Card, SlotError, id, public_key};
use super::firmware::Firmware;
use crate::token::PublicKey;
use der::Encode;
use record::PivSlot;
use serde::Serialize;
use yubikey::piv::{self, AlgorithmId, ManagementSlotId, SlotAlgorithmId, SlotId};
use yubikey::{Error, MgmAlgorithmId, MgmKey, PinPolicy, TouchPolicy};

/// The values of a card from the factory (developers.yubico.com, "PIV: administrative access").
pub(crate) const FACTORY_PIN: &[u8] = b"123456";
/// See [`FACTORY_PIN`].
pub(crate) const FACTORY_PUK: &[u8] = b"12345678";
/// See [`FACTORY_PIN`]; the same bytes for 3DES and AES-192.
pub(crate) const FACTORY_MANAGEMENT_KEY: [u8; NEW_MANAGEMENT_KEY] =
    [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8];
/// Bytes of a new management key, by either algorithm.
pub(crate) const NEW_MANAGEMENT_KEY: usize = 24;

/// How a card is guarded, by its own word and without a try of anything.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Access {
    pub(crate) pin: Reference,
    pub(crate) puk: Reference,
    pub(crate) management_key: Management,
}

/// A PIN or PUK.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Reference {
    /// It is still the factory's.
    pub(crate) factory: bool,
    pub(crate) tries_left: u8,
    pub(crate) tries: u8,
}

/// The management key.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Management {
    /// It is still the factory's.
    pub(crate) factory: bool,
    pub(crate) algorithm: &'static str,
    /// Each use of it wants a touch.
    pub(crate) touch: bool,
    #[serde(skip)]
    id: MgmAlgorithmId,
}

impl Card {
    /// How it is guarded.
    pub(crate) fn access(&mut self) -> Result<Access, Error> {
        Ok(Access {
            pin: self.reference(ManagementSlotId::Pin)?,
            puk: self.reference(ManagementSlotId::Puk)?,
            management_key: self.management()?,
        })
    }

    fn reference(&mut self, which: ManagementSlotId) -> Result<Reference, Error> {
        let metadata = piv::metadata(self.key()?, SlotId::Management(which))?;
        let (factory, retries) = metadata.default.zip(metadata.retries).ok_or(Error::NotSupported)?;
        Ok(Reference { factory, tries_left: retries.remaining_count, tries: retries.retry_count })
    }

    fn management(&mut self) -> Result<Management, Error> {
        let metadata = piv::metadata(self.key()?, SlotId::Management(ManagementSlotId::Management))?;
        let SlotAlgorithmId::Management(id) = metadata.algorithm else { return Err(Error::InvalidObject) };
        let touch = metadata
            .policy
            .is_some_and(|(_, touch)| !matches!(touch, TouchPolicy::Never | TouchPolicy::Default));
        Ok(Management { factory: metadata.default == Some(true), algorithm: name(id), touch, id })
    }

    /// Puts another PIN in the place of the present one, which is a try of that.
    pub(crate) fn change_pin(&mut self, from: &[u8], to: &[u8]) -> Result<(), Error> {
        self.key()?.change_pin(from, to)
    }

    /// Puts another PUK in the place of the present one, which is a try of that.
    pub(crate) fn change_puk(&mut self, from: &[u8], to: &[u8]) -> Result<(), Error> {
        self.key()?.change_puk(from, to)
    }

    /// Whether this is the card's management key, which allows changes from then on. No tries are counted.
    pub(crate) fn authenticate(&mut self, key: &[u8]) -> Result<bool, Error> {
        let algorithm = self.management()?.id;
        let Ok(key) = MgmKey::from_bytes(key, Some(algorithm)) else { return Ok(false) };
        match self.key()?.authenticate(&key) {
            Ok(()) => Ok(true),
            // The crate says the same of a card that was pulled out, which answers nothing any more.
            Err(Error::AuthenticationError) => self.management().map(|_| false),
            Err(error) => Err(error),
        }
    }

    /// Gives the card another management key, of the algorithm that its generation has at the factory.
    pub(crate) fn set_management_key(&mut self, key: &[u8; NEW_MANAGEMENT_KEY]) -> Result<(), Error> {
        let aes = self.firmware() >= Firmware::AES_MANAGEMENT_KEY;
        let algorithm = if aes { MgmAlgorithmId::Aes192 } else { MgmAlgorithmId::ThreeDes };
        MgmKey::from_bytes(key, Some(algorithm))?.set_manual(self.key()?, false)
    }

    /// Makes a key, in the place of what is in the slot.
    pub(crate) fn generate(
        &mut self,
        slot: PivSlot,
        algorithm: AlgorithmId,
        pin: PinPolicy,
        touch: TouchPolicy,
    ) -> Result<PublicKey, SlotError> {
        let slot = id(slot).map_err(SlotError::Card)?;
        let key = self.key().map_err(SlotError::Card)?;
        let made = piv::generate(key, slot, algorithm, pin, touch).map_err(SlotError::Card)?;
        let spki = made.to_der().ok();
        let public = spki.as_deref().and_then(public_key);
        public.ok_or(SlotError::Key("the card made a key of another kind than was asked for"))
    }
}

fn name(algorithm: MgmAlgorithmId) -> &'static str {
    match algorithm {
        MgmAlgorithmId::ThreeDes => "3des",
        MgmAlgorithmId::Aes128 => "aes128",
        MgmAlgorithmId::Aes192 => "aes192",
        MgmAlgorithmId::Aes256 => "aes256",
    }
}
