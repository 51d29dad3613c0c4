//! Keys of a token: generated with a strict template, then read back and required to be what was asked for.

use super::{Login, print};
use crate::exit::Fatal;
use crate::token::{CkaId, ExamineError, Found, P256_PARAMS, P384_PARAMS, PublicKey, examine, unusable};
use base64::{Engine, engine::general_purpose::STANDARD};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use record::{Origin, Sha256};
use serde::Serialize;

/// `id-Ed25519` as DER `OBJECT IDENTIFIER` (RFC 8410).
const ED25519_PARAMS: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];

/// 65537, big-endian.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// The kinds of keys that the service uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Algorithm {
    /// ECDSA on P-256, for image keys.
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

#[derive(Serialize, Default)]
struct KeyDocument {
    /// SHA-256 of the SPKI, as the service names a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    cka_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    algorithm: Option<String>,
    /// Base64 of the DER `SubjectPublicKeyInfo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    spki: Option<String>,
    /// Base64 of the 32 bytes of an Ed25519 key.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vkey: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evidence: Vec<String>,
    /// Why no keeper would use the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// Generates a key that cannot leave its token, reads it back, and prints it. A key that the token made otherwise than
/// asked is destroyed again.
pub fn key_generate(login: &Login<'_>, new: &NewKey) -> Result<(), Fatal> {
    let fault = |why: String| Fatal::Key { token: login.label.to_owned(), cka_id: new.id.to_string(), why };
    if new.origin.is_some() && new.algorithm != Algorithm::Ed25519 {
        return Err(fault("a log key is an Ed25519 key: leave --origin away, or use --type ed25519".into()));
    }
    let session = login.open()?;
    let taken = session
        .find_objects(&[Attribute::Id(new.id.as_bytes().to_vec())])
        .map_err(|e| unusable(login.label, &e))?;
    if !taken.is_empty() {
        return Err(fault("the token has an object with this id already: choose another".into()));
    }
    let pair = generate(&session, new).map_err(|e| unusable(login.label, &e))?;
    match examine(&session, &new.id) {
        Ok(found) => print(&document(&new.id, Some(new.label.clone()), &found, new.origin.as_ref())?),
        Err(error) => {
            for object in pair {
                if let Err(error) = session.destroy_object(object) {
                    tracing::error!(%error, id = %new.id, "the refused key could not be destroyed: do it by hand");
                }
            }
            Err(fault(error.to_string()))
        }
    }
}

/// Prints every private key of the token, with what was read back, or why no keeper would use it.
pub fn key_list(login: &Login<'_>) -> Result<(), Fatal> {
    let session = login.open()?;
    let broken = |e: Error| unusable(login.label, &e);
    let objects = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).map_err(broken)?;
    let mut documents = Vec::with_capacity(objects.len());
    for object in objects {
        let read =
            session.get_attributes(object, &[AttributeType::Id, AttributeType::Label]).map_err(broken)?;
        let (id, label) = id_and_label(&read);
        documents.push(match CkaId::from_bytes(&id) {
            Err(error) => refused(hex(&id), label, error.to_string()),
            Ok(id) => match examine(&session, &id) {
                Ok(found) => document(&id, label, &found, None)?,
                Err(ExamineError::Key(why)) => refused(id.to_string(), label, why),
                Err(ExamineError::Token(error)) => return Err(broken(error)),
            },
        });
    }
    print(&documents)
}

fn generate(session: &Session, new: &NewKey) -> Result<[ObjectHandle; 2], Error> {
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

fn document(
    id: &CkaId,
    label: Option<String>,
    found: &Found,
    origin: Option<&Origin>,
) -> Result<KeyDocument, Fatal> {
    let mut document = KeyDocument { cka_id: id.to_string(), label, ..KeyDocument::default() };
    document.evidence.clone_from(&found.evidence);
    document.algorithm = Some(found.public.kind());
    if let Some(der) = found.public.spki_der() {
        document.id = Some(Sha256::of(&der).to_string());
        document.spki = Some(STANDARD.encode(der));
    }
    if let PublicKey::Ed25519(key) = &found.public {
        document.public_key = Some(STANDARD.encode(key));
        document.vkey = origin.map(|origin| vkey(id, origin, *key)).transpose()?;
    }
    Ok(document)
}

fn vkey(id: &CkaId, origin: &Origin, key: [u8; 32]) -> Result<String, Fatal> {
    tlog::VerifierKey::new_ed25519(origin.as_str(), key)
        .map(|vkey| vkey.to_string())
        .map_err(|e| Fatal::Key { token: origin.to_string(), cka_id: id.to_string(), why: e.to_string() })
}

fn refused(cka_id: String, label: Option<String>, why: String) -> KeyDocument {
    KeyDocument { cka_id, label, refused: Some(why), ..KeyDocument::default() }
}

fn id_and_label(read: &[Attribute]) -> (Vec<u8>, Option<String>) {
    let id = read.iter().find_map(|a| if let Attribute::Id(id) = a { Some(id.clone()) } else { None });
    let label = read.iter().find_map(|a| match a {
        Attribute::Label(label) => Some(String::from_utf8_lossy(label).into_owned()),
        _ => None,
    });
    (id.unwrap_or_default(), label)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
