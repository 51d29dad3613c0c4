//! What a key object of a token says about itself: its public half, and the attributes that make it a hardware key.

use super::{CkaId, PublicKey};
use cryptoki::error::Error;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use record::Spki;

/// An attribute that a private key must have, with its value.
pub(crate) struct Required {
    name: &'static str,
    kind: AttributeType,
    value: bool,
}

const fn required(name: &'static str, kind: AttributeType, value: bool) -> Required {
    Required { name, kind, value }
}

/// Every key is read back against this list, at generation and at each start: a template is only a wish.
pub(crate) const REQUIRED: [Required; 8] = [
    required("CKA_ALWAYS_SENSITIVE", AttributeType::AlwaysSensitive, true),
    required("CKA_EXTRACTABLE", AttributeType::Extractable, false),
    required("CKA_LOCAL", AttributeType::Local, true),
    required("CKA_NEVER_EXTRACTABLE", AttributeType::NeverExtractable, true),
    required("CKA_PRIVATE", AttributeType::Private, true),
    required("CKA_SENSITIVE", AttributeType::Sensitive, true),
    required("CKA_SIGN", AttributeType::Sign, true),
    required("CKA_TOKEN", AttributeType::Token, true),
];

/// The longest evidence that a key can have: for checks of what must hold it before there is a token.
pub(crate) fn longest_evidence() -> Vec<String> {
    let pin_per_use = PIN_PER_USE.to_owned();
    std::iter::once(pin_per_use).chain(REQUIRED.iter().map(|r| format!("{}=false", r.name))).collect()
}

/// The evidence of a key that wants the PIN for each signature.
const PIN_PER_USE: &str = "CKA_ALWAYS_AUTHENTICATE=true";

/// `id-prime256v1` as DER `OBJECT IDENTIFIER` (RFC 5480).
pub(crate) const P256_PARAMS: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// `secp384r1` as DER `OBJECT IDENTIFIER` (RFC 5480).
pub(crate) const P384_PARAMS: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// A private key object with everything that was read of it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) handle: ObjectHandle,
    pub(crate) public: PublicKey,
    pub(crate) evidence: Vec<String>,
    /// Whether it wants the PIN for each signature.
    pub(crate) always_authenticate: bool,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExamineError {
    /// The token did not answer.
    #[error("{0}")]
    Token(#[from] Error),
    /// The key is not there, there twice, or not as it must be.
    #[error("{0}")]
    Key(String),
}

/// Finds the private key with this id, reads its public half and requires its attributes.
pub(crate) fn examine(session: &Session, id: &CkaId) -> Result<Found, ExamineError> {
    let handle = the_one(session, ObjectClass::PRIVATE_KEY, id)?;
    let always_authenticate = always_authenticate(session, handle);
    let evidence = evidence(session, handle, always_authenticate)?;
    let public = public_key(session, id)?;
    Ok(Found { handle, public, evidence, always_authenticate })
}

/// The public half of the key with this id.
pub(crate) fn public_key(session: &Session, id: &CkaId) -> Result<PublicKey, ExamineError> {
    let object = the_one(session, ObjectClass::PUBLIC_KEY, id)?;
    let read = session.get_attributes(object, &[AttributeType::KeyType])?;
    let parsed = match read.as_slice() {
        [Attribute::KeyType(KeyType::EC)] => ec_key(session, object)?,
        [Attribute::KeyType(KeyType::EC_EDWARDS)] => {
            let read = session.get_attributes(object, &[AttributeType::EcPoint])?;
            let point = read.iter().find_map(|a| if let Attribute::EcPoint(p) = a { Some(p) } else { None });
            point.and_then(|point| ed25519_point(point)).map(PublicKey::Ed25519)
        }
        [Attribute::KeyType(KeyType::RSA)] => rsa_key(session, object)?,
        _ => None,
    };
    parsed.ok_or_else(|| {
        let why = "its public half is none of: P-256, P-384, RSA of 2048, 3072 or 4096 bits, Ed25519";
        ExamineError::Key(why.into())
    })
}

fn ec_key(session: &Session, object: ObjectHandle) -> Result<Option<PublicKey>, Error> {
    let read = session.get_attributes(object, &[AttributeType::EcParams, AttributeType::EcPoint])?;
    let (mut curve, mut point) = (None, None);
    for attribute in &read {
        match attribute {
            Attribute::EcParams(params) => curve = Some(params.as_slice()),
            Attribute::EcPoint(value) => point = point_bytes(value),
            _ => {}
        }
    }
    Ok(match (curve, point) {
        (Some(c), Some(point)) if c == P256_PARAMS && point.len() == 65 => {
            Spki::from_sec1(point).ok().map(PublicKey::P256)
        }
        (Some(c), Some(point)) if c == P384_PARAMS && point.len() == 97 => {
            Spki::from_sec1(point).ok().map(PublicKey::P384)
        }
        _ => None,
    })
}

fn rsa_key(session: &Session, object: ObjectHandle) -> Result<Option<PublicKey>, Error> {
    let read = session.get_attributes(object, &[AttributeType::Modulus, AttributeType::PublicExponent])?;
    let (mut modulus, mut exponent) = (None, None);
    for attribute in &read {
        match attribute {
            Attribute::Modulus(n) => modulus = Some(n),
            Attribute::PublicExponent(e) => exponent = Some(e),
            _ => {}
        }
    }
    Ok(modulus.zip(exponent).and_then(|(n, e)| Spki::from_rsa(n, e).ok()).map(PublicKey::Rsa))
}

/// Attributes as `CKA_...=true` words, sorted; an error names every one that is not as required.
fn evidence(
    session: &Session,
    handle: ObjectHandle,
    always_authenticate: bool,
) -> Result<Vec<String>, ExamineError> {
    let kinds: Vec<AttributeType> = REQUIRED.iter().map(|r| r.kind).collect();
    let read = session.get_attributes(handle, &kinds)?;
    let wrong: Vec<String> = REQUIRED
        .iter()
        .filter(|r| value_of(&read, r.kind) != Some(r.value))
        .map(|r| r.complaint(&read))
        .collect();
    if !wrong.is_empty() {
        return Err(ExamineError::Key(format!(
            "{}; such a key is not bound to its token, or not made to sign: generate a new one with `chancery-keeper admin key generate`, or with the device's own tool",
            wrong.join(", ")
        )));
    }
    let pin_per_use = always_authenticate.then(|| PIN_PER_USE.to_owned());
    Ok(pin_per_use.into_iter().chain(REQUIRED.iter().map(|r| format!("{}={}", r.name, r.value))).collect())
}

impl Required {
    fn complaint(&self, read: &[Attribute]) -> String {
        match value_of(read, self.kind) {
            Some(value) => format!("{} is {value} and must be {}", self.name, self.value),
            None => format!("{} is not given by the token and must be {}", self.name, self.value),
        }
    }
}

/// Whether the key wants the PIN for each signature. A module may lack this attribute altogether (NSS): it does not.
fn always_authenticate(session: &Session, handle: ObjectHandle) -> bool {
    let read = session.get_attributes(handle, &[AttributeType::AlwaysAuthenticate]).unwrap_or_default();
    read.iter().any(|a| matches!(a, Attribute::AlwaysAuthenticate(true)))
}

fn value_of(read: &[Attribute], kind: AttributeType) -> Option<bool> {
    read.iter().find(|a| a.attribute_type() == kind).and_then(|a| match a {
        Attribute::AlwaysSensitive(v)
        | Attribute::Extractable(v)
        | Attribute::Local(v)
        | Attribute::NeverExtractable(v)
        | Attribute::Private(v)
        | Attribute::Sensitive(v)
        | Attribute::Sign(v)
        | Attribute::Token(v) => Some(*v),
        _ => None,
    })
}

fn the_one(session: &Session, class: ObjectClass, id: &CkaId) -> Result<ObjectHandle, ExamineError> {
    let what = if class == ObjectClass::PRIVATE_KEY { "private" } else { "public" };
    let found = session.find_objects(&[Attribute::Class(class), Attribute::Id(id.as_bytes().to_vec())])?;
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(ExamineError::Key(format!("the token has no {what} key with this id"))),
        many => Err(ExamineError::Key(format!("the token has {} {what} keys with this id", many.len()))),
    }
}

/// The uncompressed SEC1 point of a `CKA_EC_POINT` for P-256 or P-384: DER `OCTET STRING` as the standard says, or raw
/// as several modules give it.
pub(crate) fn point_bytes(value: &[u8]) -> Option<&[u8]> {
    let point = match value {
        [0x04, 0x41, point @ ..] if point.len() == 65 => point,
        [0x04, 0x61, point @ ..] if point.len() == 97 => point,
        raw if matches!(raw.len(), 65 | 97) => raw,
        _ => return None,
    };
    point.starts_with(&[0x04]).then_some(point)
}

/// The key of a `CKA_EC_POINT` for Ed25519: DER `OCTET STRING`, DER `BIT STRING`, or raw.
pub(crate) fn ed25519_point(value: &[u8]) -> Option<[u8; 32]> {
    match value {
        [0x04, 0x20, key @ ..] | [0x03, 0x21, 0x00, key @ ..] if key.len() == 32 => key.try_into().ok(),
        raw => raw.try_into().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_in_every_form_that_modules_give() {
        for (coordinates, length) in [(64, 0x41), (96, 0x61)] {
            let mut raw = vec![0x04];
            raw.extend(vec![7; coordinates]);
            let der = [&[0x04, length][..], &raw].concat();
            assert_eq!(point_bytes(&raw), Some(raw.as_slice()));
            assert_eq!(point_bytes(&der), Some(raw.as_slice()));
            let compressed = [&[0x02][..], &raw[1..]].concat();
            for bad in [&der[..der.len() - 1], &raw[..coordinates], &compressed, &[]] {
                assert_eq!(point_bytes(bad), None);
            }
        }
        for (prefix, good) in
            [(&[][..], true), (&[4, 0x20], true), (&[3, 0x21, 0], true), (&[5, 0x20], false)]
        {
            assert_eq!(ed25519_point(&[prefix, &[9; 32]].concat()).is_some(), good, "{prefix:?}");
        }
    }
}
