//! Keys: generated, taken over from other tools, shown, and retired. A key is usable when its attributes are those that
//! its purpose demands and its signature verifies; a charter gets no entry of any other.

mod look;
pub(super) mod proof;

pub(super) use look::{KeyDocument, Keys, all_in, read_charter};
pub use look::{attest, list, show};

use super::charter::{CharterText, Place};
use super::report::{Document, print};
use super::{Format, Grant, LoginArgs, Open, shown};
use crate::exit::Fatal;
use crate::token::{CkaId, ExamineError, Found, P256_PARAMS, P384_PARAMS, PublicKey, examine, unusable};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;
use record::{Clock, KeyId, Origin, Purpose, Spki, SystemClock};
use serde::Serialize;
use std::path::Path;

/// `id-Ed25519` as DER `OBJECT IDENTIFIER` (RFC 8410).
const ED25519_PARAMS: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];

/// 65537, big-endian.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// Why a log's key gets no charter.
pub(super) const LOG_KEY_ALONE: &str = "a log key signs notes and nothing else: leave --charter away for it, or --origin for a key that signs images";

/// The kinds of keys that the service uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Algorithm {
    /// ECDSA on P-256, for image keys; for a log key where the token has no Ed25519.
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA of 2048 bits, for PSS.
    Rsa2048,
    /// RSA of 3072 bits, for PSS.
    Rsa3072,
    /// Ed25519, for the log key.
    Ed25519,
}

/// What to generate.
#[derive(Debug)]
pub struct NewKey {
    /// Its `CKA_ID`, free in this token.
    pub id: CkaId,
    /// Its `CKA_LABEL`.
    pub label: String,
    /// Its kind.
    pub algorithm: Algorithm,
    /// The log whose key it becomes.
    pub origin: Option<Origin>,
}

/// Generates a key that cannot leave its token, reads it back and prints it; with a grant it signs a test text and stands
/// in the charter then. A key that the token made otherwise than asked is destroyed again.
pub fn generate(
    login: &LoginArgs,
    new: &NewKey,
    grant: Option<&Grant>,
    format: Option<Format>,
) -> Result<(), Fatal> {
    let fault = |why: String| Fatal::Key { token: login.label().to_owned(), cka_id: new.id.to_string(), why };
    if new.origin.is_some() && !matches!(new.algorithm, Algorithm::Ed25519 | Algorithm::P256) {
        let why = "a log key is an Ed25519 key, or a P-256 key where the token has none: leave --origin away, or use \
                   --type ed25519";
        return Err(fault(why.into()));
    }
    if new.origin.is_some() && grant.is_some() {
        return Err(fault(LOG_KEY_ALONE.into()));
    }
    if grant.is_some() && new.algorithm != Algorithm::P256 {
        return Err(fault(
            "a charter's keys are P-256 keys: leave --charter away, or use --type p256".into(),
        ));
    }
    // Tried before there is a key: an entry that cannot be written must not leave one behind.
    let charter = grant.map(|grant| charter(grant, &new.id)).transpose()?;
    let open = login.open()?;
    let taken = open
        .session
        .find_objects(&[Attribute::Id(new.id.as_bytes().to_vec())])
        .map_err(|e| unusable(login.label(), &e))?;
    if !taken.is_empty() {
        return Err(fault("the token has an object with this id already: choose another".into()));
    }
    let pair = make(&open.session, new).map_err(|e| unusable(login.label(), &e))?;
    let proven = proven(&open, login, &new.id, grant.map(|grant| grant.purpose));
    if proven.is_err() {
        destroy(&open.session, pair, &new.id);
    }
    let found = proven?;
    let entry = charter.map(|charter| charter.enter(&open, login, &new.id, &found));
    let entry = entry.transpose().inspect_err(|_| {
        tracing::error!(id = %new.id, "the key stays in the token: add it with `chancery-keeper admin key import-public`");
    })?;
    let document = KeyDocument::of(&new.id, Some(new.label.clone()), &found)
        .of_log(new.origin.as_ref(), &found.public)?;
    print(format, &Made { key: document, charter: entry })
}

/// Adds a key to a charter that is in the token already, made by other tools.
pub fn import_public(
    login: &LoginArgs,
    id: &CkaId,
    grant: &Grant,
    format: Option<Format>,
) -> Result<(), Fatal> {
    let charter = charter(grant, id)?;
    let open = login.open()?;
    let found = proven(&open, login, id, Some(grant.purpose))?;
    let entry = charter.enter(&open, login, id, &found)?;
    print(format, &Made { key: KeyDocument::of(id, None, &found), charter: Some(entry) })
}

/// Marks a key of a charter as retired. The token is not asked, and keeps the key.
pub fn retire(charter: &Path, id: &KeyId, format: Option<Format>) -> Result<(), Fatal> {
    let done = CharterText::open(charter)?.retire(id)?;
    let document = Retired {
        id: id.to_string(),
        cka_id: done.key.at.cka_id().map(ToString::to_string),
        slot: done.key.at.slot().map(|slot| slot.to_string()),
        purpose: done.key.purpose,
        charter: shown(charter),
        retired: done.since.to_string(),
        changed: done.new,
    };
    print(format, &document)
}

#[derive(Serialize)]
pub(super) struct Made {
    #[serde(flatten)]
    pub(super) key: KeyDocument,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) charter: Option<Entry>,
}

impl Document for Made {
    const SCHEMA: &'static str = "chancery.keeper.key/v1";

    fn text(&self) -> String {
        let entry = self.charter.as_ref().map_or(String::new(), Entry::text);
        format!("{}{entry}", self.key.text())
    }
}

/// An entry that a charter has now.
#[derive(Serialize)]
pub(super) struct Entry {
    file: String,
    purpose: Purpose,
    repositories: Vec<String>,
}

impl Entry {
    pub(super) fn of(grant: &Grant) -> Self {
        Self { file: shown(&grant.charter), purpose: grant.purpose, repositories: grant.repositories.clone() }
    }

    /// A line behind the key's.
    pub(super) fn text(&self) -> String {
        format!(
            "\ncharter       {} has it now, for {}; the keeper reads that at its next start",
            self.file, self.purpose
        )
    }
}

#[derive(Serialize)]
struct Retired {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cka_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<String>,
    purpose: Purpose,
    charter: String,
    retired: String,
    /// Whether this command did it.
    changed: bool,
}

impl Document for Retired {
    const SCHEMA: &'static str = "chancery.keeper.key-retired/v1";

    fn text(&self) -> String {
        let Self { id, purpose, charter, retired, .. } = self;
        let place = match (&self.cka_id, &self.slot) {
            (Some(cka_id), _) => format!("CKA_ID {cka_id}"),
            (None, slot) => format!("slot {}", slot.as_deref().unwrap_or_default()),
        };
        let next = if self.changed {
            "the keeper stops presenting it at its next start, and the log says so; the token still has it"
        } else {
            "it was so before: nothing was changed"
        };
        format!("the {purpose} key {id} ({place}) is retired in {charter} since {retired}\n{next}")
    }
}

/// A charter in which an entry for a key was found to fit.
struct Ready<'a> {
    text: CharterText,
    grant: &'a Grant,
}

fn charter<'a>(grant: &'a Grant, id: &CkaId) -> Result<Ready<'a>, Fatal> {
    let text = CharterText::open(&grant.charter)?;
    text.try_entry(grant, &Place::cka_id(id))?;
    Ok(Ready { text, grant })
}

impl Ready<'_> {
    /// Writes the entry of a key that was proven.
    fn enter(self, open: &Open, login: &LoginArgs, id: &CkaId, found: &Found) -> Result<Entry, Fatal> {
        let spki = fit(self.grant.purpose, &found.public).map_err(|why| Fatal::Key {
            token: login.label().to_owned(),
            cka_id: id.to_string(),
            why,
        })?;
        let serial: String =
            open.present.info.serial_number().chars().filter(char::is_ascii_graphic).collect();
        let remark = format!("Added {} from the token with the serial number {serial}.", SystemClock.now());
        self.text.add(self.grant, &Place::cka_id(id), spki, &remark)?;
        Ok(Entry::of(self.grant))
    }
}

/// The public half of a key that may be used for `purpose`. What every key must be was required when it was found.
pub(super) fn fit(purpose: Purpose, public: &PublicKey) -> Result<&Spki, String> {
    match public {
        PublicKey::P256(spki) => Ok(spki),
        other => Err(format!(
            "a {purpose} key is a P-256 key, as charters and clients want, and this one is of the type {}: generate one with \
             --type p256",
            other.kind()
        )),
    }
}

/// The key with this id, found to be as keys must be: its attributes are read back, and for a purpose its kind fits and a
/// test signature is verified.
fn proven(open: &Open, login: &LoginArgs, id: &CkaId, purpose: Option<Purpose>) -> Result<Found, Fatal> {
    let fault = |why: String| Fatal::Key { token: login.label().to_owned(), cka_id: id.to_string(), why };
    let found = examine(&open.session, id).map_err(|e| match e {
        ExamineError::Key(why) => fault(why),
        ExamineError::Token(error) => unusable(login.label(), &error),
    })?;
    // A key that no charter gets is not used: every signature outside the log needs a reason.
    if let Some(purpose) = purpose {
        let spki = fit(purpose, &found.public).map_err(fault)?;
        proof::signs(open, &login.token.module, &found, spki, fault)?;
    }
    Ok(found)
}

fn destroy(session: &Session, pair: [ObjectHandle; 2], id: &CkaId) {
    for object in pair {
        if let Err(error) = session.destroy_object(object) {
            tracing::error!(%error, %id, "the refused key could not be destroyed: do it by hand");
        }
    }
}

fn make(session: &Session, new: &NewKey) -> Result<[ObjectHandle; 2], Error> {
    let rsa = |bits: u64| {
        let exponent = Attribute::PublicExponent(RSA_EXPONENT.to_vec());
        (Mechanism::RsaPkcsKeyPairGen, vec![Attribute::ModulusBits(bits.into()), exponent])
    };
    let ec = |params: &[u8]| vec![Attribute::EcParams(params.to_vec())];
    let (mechanism, kind) = match new.algorithm {
        Algorithm::P256 => (Mechanism::EccKeyPairGen, ec(&P256_PARAMS)),
        Algorithm::P384 => (Mechanism::EccKeyPairGen, ec(&P384_PARAMS)),
        Algorithm::Rsa2048 => rsa(2048),
        Algorithm::Rsa3072 => rsa(3072),
        Algorithm::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, ec(&ED25519_PARAMS)),
    };
    let names = [Attribute::Id(new.id.as_bytes().to_vec()), Attribute::Label(new.label.clone().into_bytes())];
    let public = [&[Attribute::Token(true), Attribute::Verify(true)][..], &kind, &names].concat();
    let private = [
        &[
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sign(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Modifiable(false),
        ][..],
        &names,
    ]
    .concat();
    let with_copyable = [&private[..], &[Attribute::Copyable(false)]].concat();
    let made = match session.generate_key_pair(&mechanism, &public, &with_copyable) {
        Err(Error::Pkcs11(rv, _)) if is_template_error(&rv) => {
            tracing::warn!("the module does not know CKA_COPYABLE: generating without it");
            session.generate_key_pair(&mechanism, &public, &private)
        }
        other => other,
    };
    made.map(|(public, private)| [public, private])
}

fn is_template_error(rv: &RvError) -> bool {
    use RvError::{AttributeReadOnly, AttributeTypeInvalid, AttributeValueInvalid, TemplateInconsistent};
    matches!(rv, AttributeReadOnly | AttributeTypeInvalid | AttributeValueInvalid | TemplateInconsistent)
}
