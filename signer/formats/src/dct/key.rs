//! Key objects and their ids: the SHA-256 of the canonical key object, `private: null` included.

use super::{
    canonical_json::{Value, encode, object},
    certificate,
    fields::{Fields, Unknown},
    file::FileError,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use record::{Algorithm, Sha256, Spki};
use std::collections::BTreeMap;

/// The only signature method of the keys that the service holds.
pub(crate) const METHOD: &str = "ecdsa";
const PLAIN: &str = "ecdsa";
const WRAPPED: &str = "ecdsa-x509";

/// The id of a bare P-256 key in metadata, lower hex.
pub fn key_id(spki: &Spki) -> String {
    id_of(&key_object(spki))
}

/// The id of a root key in metadata: it is over the certificate, so a new certificate of the same key is a new id.
pub fn certificate_key_id(cert_der: &[u8]) -> String {
    id_of(&certificate_object(cert_der))
}

/// The key object of a bare key.
pub(crate) fn key_object(spki: &Spki) -> Value {
    key_value(PLAIN, spki.der())
}

/// The key object of a root key: the certificate as PEM, in the one form that verifiers re-encode it to.
pub(crate) fn certificate_object(cert_der: &[u8]) -> Value {
    key_value(WRAPPED, certificate::to_pem(cert_der).as_bytes())
}

/// A key as it stands in a file; its id was computed and found equal to the stated one.
#[derive(Debug, Clone)]
pub(crate) struct KeyEntry {
    keytype: String,
    public: Vec<u8>,
}

impl KeyEntry {
    /// The bare P-256 key.
    pub(crate) fn spki(&self) -> Result<Spki, FileError> {
        if self.keytype != PLAIN {
            return Err(FileError::KeyType(self.keytype.clone()));
        }
        p256(&self.public).ok_or_else(|| FileError::KeyType(self.keytype.clone()))
    }

    /// The certificate that wraps the key, DER.
    pub(crate) fn certificate(&self) -> Result<Vec<u8>, FileError> {
        if self.keytype != WRAPPED {
            return Err(FileError::KeyType(self.keytype.clone()));
        }
        certificate::from_pem(&self.public).map_err(FileError::Certificate)
    }
}

/// A key of the one kind that these files have.
pub(crate) fn p256(der: &[u8]) -> Option<Spki> {
    Spki::from_der(der).ok().filter(|spki| spki.algorithm() == Algorithm::EcdsaP256)
}

/// Reads a `keys` member. The id of every key is computed again: a client that trusts the stated id and one that
/// computes it would take different keys.
pub(crate) fn read_keys(keys: &BTreeMap<String, Value>) -> Result<BTreeMap<String, KeyEntry>, FileError> {
    keys.iter().map(|(id, value)| Ok((id.clone(), read_key(id, value)?))).collect()
}

fn read_key(id: &str, value: &Value) -> Result<KeyEntry, FileError> {
    let key = Fields::open(value, "key", &["keytype", "keyval"], Unknown::Refused)?;
    let keyval = Fields::open(key.value("keyval")?, "keyval", &["private", "public"], Unknown::Refused)?;
    if keyval.value("private")? != &Value::Null {
        return Err(keyval.wrong("private", "must be null"));
    }
    if id_of(value) != id {
        return Err(FileError::KeyId { stated: id.to_owned(), computed: id_of(value) });
    }
    Ok(KeyEntry { keytype: key.text("keytype")?.to_owned(), public: keyval.base64("public")? })
}

fn key_value(keytype: &str, public: &[u8]) -> Value {
    let public = Value::String(STANDARD.encode(public));
    object([("keytype", keytype.into()), ("keyval", object([("private", Value::Null), ("public", public)]))])
}

fn id_of(key: &Value) -> String {
    Sha256::of(&encode(key)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dct::canonical_json::parse;

    const ED25519: &str = r#"{"keytype":"ed25519","keyval":{"private":null,"public":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}"#;
    const ED25519_ID: &str = "06256955f08f0df5598a5d102b828847052eddce612c559400d7e9b7c329f594";

    fn keys(id: &str, key: &str) -> Result<BTreeMap<String, KeyEntry>, FileError> {
        read_keys(&BTreeMap::from([(id.to_owned(), parse(key.as_bytes()).unwrap())]))
    }

    #[test]
    fn key_ids_are_those_of_the_notary_client() {
        assert_eq!(id_of(&parse(ED25519.as_bytes()).unwrap()), ED25519_ID);
        assert!(keys(ED25519_ID, ED25519).is_ok());
    }

    #[test]
    fn a_key_under_another_id_or_with_other_members_is_refused() {
        assert!(matches!(keys(&ED25519_ID.replace('0', "1"), ED25519), Err(FileError::KeyId { .. })));
        let more = ED25519.replace("{\"keytype\"", "{\"scheme\":\"x\",\"keytype\"");
        assert!(matches!(keys(ED25519_ID, &more), Err(FileError::Unknown { .. })));
        let private = ED25519.replace("null", "\"AAAA\"");
        assert!(matches!(keys(ED25519_ID, &private), Err(FileError::Member { name: "private", .. })));
    }

    #[test]
    fn a_key_of_another_type_is_no_p256_key() {
        let entry = keys(ED25519_ID, ED25519).unwrap().remove(ED25519_ID).unwrap();
        assert!(matches!(entry.spki(), Err(FileError::KeyType(t)) if t == "ed25519"));
        assert!(matches!(entry.certificate(), Err(FileError::KeyType(_))));
    }
}
