//! What a card remembers without power, and the file it lies in.
//!
//! Promises: the file is replaced whole (write beside, fsync, rename, fsync the folder), so a kill leaves the old state
//! or the new one. It does not know: what a session is; PIN and management state die with the power.

use crate::{
    Error,
    algorithm::{PinPolicy, Slot, TouchPolicy, Version},
    hex::Hex,
    key::PrivateKey,
    management_key::ManagementKey,
    profile::{FACTORY_MANAGEMENT_KEY, Profile},
    tlv,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The form of the file; another one is refused.
const FORMAT: u32 = 1;
/// Far above any state: 51 200 bytes of objects as hex, and 25 keys.
const MAX_STATE_BYTES: u64 = 1024 * 1024;
/// The factory's PIN, padded.
const FACTORY_PIN: [u8; 8] = *b"123456\xff\xff";
/// The factory's PUK.
const FACTORY_PUK: [u8; 8] = *b"12345678";
/// Tries of PIN and PUK at the factory.
const FACTORY_TRIES: u8 = 3;
/// USB-A keychain, as DeviceInfo tag 04 and attestations have it.
const FORM_FACTOR: u8 = 1;
/// The object of the f9 certificate.
pub(crate) const ATTESTATION_CERTIFICATE: ObjectId = ObjectId(0x5f_ff01);

/// Everything a card remembers without power.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    format: u32,
    pub(crate) firmware: Version,
    pub(crate) serial: u32,
    pub(crate) form_factor: u8,
    pub(crate) pin: Reference,
    pub(crate) puk: Reference,
    pub(crate) management: ManagementKey,
    pub(crate) slots: BTreeMap<Slot, Key>,
    pub(crate) objects: BTreeMap<ObjectId, Hex>,
}

/// A PIN or PUK with its counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reference {
    value: Hex,
    pub(crate) left: u8,
    pub(crate) tries: u8,
}

/// A key in its slot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    pub(crate) key: PrivateKey,
    pub(crate) pin_policy: PinPolicy,
    pub(crate) touch_policy: TouchPolicy,
    /// Made on the card, so it can be attested.
    pub(crate) generated: bool,
}

/// The identifier of a data object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ObjectId(pub(crate) u32);

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        format!("{:06x}", id.0)
    }
}

impl TryFrom<String> for ObjectId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        u32::from_str_radix(&text, 16)
            .map(Self)
            .map_err(|_| format!("{text:?} is no object identifier in hex"))
    }
}

impl State {
    /// A card as it leaves the factory.
    pub fn factory(profile: Profile, serial: u32) -> Result<Self, Error> {
        let management = ManagementKey::new(profile.management_algorithm(), &FACTORY_MANAGEMENT_KEY, false);
        let broken = |_| Error::Fixture { profile };
        let key = profile.f9_key().map_err(broken)?;
        let f9 = Key { key, pin_policy: PinPolicy::Never, touch_policy: TouchPolicy::Never, generated: true };
        let certificate = [tlv::encode(0x70, profile.attestation_f9()), vec![0x71, 1, 0, 0xfe, 0]].concat();
        Ok(Self {
            format: FORMAT,
            firmware: profile.firmware(),
            serial,
            form_factor: FORM_FACTOR,
            pin: Reference::new(FACTORY_PIN, FACTORY_TRIES),
            puk: Reference::new(FACTORY_PUK, FACTORY_TRIES),
            management: management.ok_or(()).map_err(|()| Error::Fixture { profile })?,
            slots: BTreeMap::from([(Slot::ATTESTATION, f9)]),
            objects: BTreeMap::from([(ATTESTATION_CERTIFICATE, Hex(certificate))]),
        })
    }

    /// What RESET does: everything as from the factory, but f9 with its certificate stays as it is.
    pub(crate) fn reset(&mut self) {
        let algorithm = self.profile().management_algorithm();
        if let Some(key) = ManagementKey::new(algorithm, &FACTORY_MANAGEMENT_KEY, false) {
            self.management = key;
        }
        self.reset_references(FACTORY_TRIES, FACTORY_TRIES);
        self.slots.retain(|slot, _| *slot == Slot::ATTESTATION);
        self.objects.retain(|id, _| *id == ATTESTATION_CERTIFICATE);
    }

    /// PIN and PUK as from the factory, with so many tries.
    pub(crate) fn reset_references(&mut self, pin_tries: u8, puk_tries: u8) {
        self.pin = Reference::new(FACTORY_PIN, pin_tries);
        self.puk = Reference::new(FACTORY_PUK, puk_tries);
    }

    pub(crate) fn profile(&self) -> Profile {
        Profile::ALL
            .into_iter()
            .find(|profile| profile.firmware() == self.firmware)
            .unwrap_or(Profile::V5_7_4)
    }

    pub(crate) fn pin_is_default(&self) -> bool {
        self.pin.value.0 == FACTORY_PIN
    }

    pub(crate) fn puk_is_default(&self) -> bool {
        self.puk.value.0 == FACTORY_PUK
    }

    pub(crate) fn management_is_default(&self) -> bool {
        self.management.algorithm == self.profile().management_algorithm()
            && self.management.is(&FACTORY_MANAGEMENT_KEY)
    }

    /// The state in `file`; `None` if there is no such file.
    pub(crate) fn load(file: &Path) -> Result<Option<Self>, Error> {
        let unreadable = Error::file("read the state", file);
        let length = match fs::metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map(|found| found.len()),
        };
        let bytes = length.and_then(|length| bounded(file, length)).map_err(unreadable)?;
        let state: Self = serde_json::from_slice(&bytes)
            .map_err(|source| Error::StateForm { path: file.to_owned(), source })?;
        let known = state.format == FORMAT && state.firmware == state.profile().firmware();
        if known { Ok(Some(state)) } else { Err(Error::StateVersion { path: file.to_owned() }) }
    }

    /// Replaces `file` whole, and waits until that is on disk.
    pub(crate) fn save(&self, file: &Path) -> io::Result<()> {
        let beside = beside(file);
        let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        to.write_all(&serde_json::to_vec_pretty(self)?)?;
        to.sync_all()?;
        fs::rename(&beside, file)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Reference {
    fn new(value: [u8; 8], tries: u8) -> Self {
        Self { value: Hex(value.to_vec()), left: tries, tries }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.left == 0
    }

    /// Compares, and counts: a wrong value costs a try, the right one gives all of them back.
    pub(crate) fn judge(&mut self, value: &[u8]) -> bool {
        let right = !self.is_blocked() && self.value.0 == value;
        self.left = if right { self.tries } else { self.left.saturating_sub(1) };
        right
    }

    /// Sets a new value, with all tries.
    pub(crate) fn replace(&mut self, value: &[u8]) {
        self.value = Hex(value.to_vec());
        self.left = self.tries;
    }
}

fn bounded(file: &Path, length: u64) -> io::Result<Vec<u8>> {
    if length > MAX_STATE_BYTES {
        return Err(io::Error::other(format!("it has {length} bytes, more than any state")));
    }
    fs::read(file)
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    name.into()
}
