//! The keys of an issuer: a JSON Web Key Set (RFC 7517, 5), of which only what can verify a signature here is kept.

use crate::{
    Algorithm,
    json::{self, Object, Value},
};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use std::collections::BTreeMap;

/// Largest document: GitHub's, with a certificate for each key, has 12 KiB.
pub const MAX_JWKS_BYTES: usize = 256 * 1024;
/// Most keys in one document.
const MAX_KEYS: usize = 64;

/// The keys of an issuer, by their `kid`.
#[derive(Debug, Clone, Default)]
pub struct Jwks(BTreeMap<String, Key>);

/// Why a document is not taken. What was taken before stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Longer than [`MAX_JWKS_BYTES`], or more than 64 keys.
    #[error("the key set is larger than {MAX_JWKS_BYTES} bytes or {MAX_KEYS} keys")]
    TooLarge,
    /// Not a key set, or with a member that stands there twice.
    #[error("this is no JSON Web Key Set")]
    Malformed,
    /// Two usable keys have the same name.
    #[error("two keys have the kid {0:?}")]
    Ambiguous(String),
    /// It would make the private key of an issuer known to whoever reads it.
    #[error("the key {0:?} has private parts: publish public keys only, and give up this one")]
    Private(String),
    /// There is no key with a `kid` that can verify a signature here.
    #[error("the key set has no usable key")]
    Empty,
}

/// A public key, and what it may verify.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    public: Public,
    /// The one algorithm that it is for, if the document says so.
    algorithm: Option<String>,
}

#[derive(Debug, Clone)]
enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed points, `04 x y`.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Jwks {
    /// Reads a document. Keys of other kinds or uses are left out, members of other names are not read.
    pub fn parse(bytes: &[u8]) -> Result<Self, JwksError> {
        if bytes.len() > MAX_JWKS_BYTES {
            return Err(JwksError::TooLarge);
        }
        let document = json::object(bytes).map_err(|_| JwksError::Malformed)?;
        let Some(Value::Array(keys)) = document.get("keys") else { return Err(JwksError::Malformed) };
        if keys.len() > MAX_KEYS {
            return Err(JwksError::TooLarge);
        }
        let mut found = BTreeMap::new();
        for key in keys {
            let Value::Object(key) = key else { return Err(JwksError::Malformed) };
            let Some(id) = text(key, "kid") else { continue };
            if key.contains_key("d") {
                return Err(JwksError::Private(id.to_owned()));
            }
            let Some(key) = Key::parse(key) else { continue };
            if found.insert(id.to_owned(), key).is_some() {
                return Err(JwksError::Ambiguous(id.to_owned()));
            }
        }
        if found.is_empty() { Err(JwksError::Empty) } else { Ok(Self(found)) }
    }

    /// The names of the keys.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A key by its name.
    pub(crate) fn find(&self, id: &str) -> Option<&Key> {
        self.0.get(id)
    }
}

impl Key {
    /// A key for signatures, of a kind that is known here.
    fn parse(key: &Object) -> Option<Self> {
        let for_signatures = key.get("use").is_none_or(|it| *it == Value::String("sig".into()))
            && key.get("key_ops").is_none_or(verifies);
        if !for_signatures {
            return None;
        }
        let algorithm = match key.get("alg") {
            None => None,
            Some(Value::String(name)) => Some(name.clone()),
            Some(_) => return None,
        };
        Some(Self { public: Public::parse(key)?, algorithm })
    }

    /// Whether this key is of the algorithm's kind, and not meant for another one.
    pub(crate) fn is_for(&self, algorithm: Algorithm) -> bool {
        let kind = matches!(
            (&self.public, algorithm),
            (Public::Rsa { .. }, Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 | Algorithm::PS256)
                | (Public::P256(_), Algorithm::ES256)
                | (Public::P384(_), Algorithm::ES384)
                | (Public::Ed25519(_), Algorithm::EdDSA)
        );
        // RFC 9864 gives Ed25519 a name of its own.
        let named =
            |name: &str| name == algorithm.as_str() || (algorithm == Algorithm::EdDSA && name == "Ed25519");
        kind && self.algorithm.as_deref().is_none_or(named)
    }

    /// Whether the signature is this key's over the message. Signatures are those of RFC 7518, 3: ECDSA's are `r s`, not DER.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let by = |with: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(with, key).verify(message, signature).is_ok()
        };
        match &self.public {
            Public::Rsa { n, e } => rsa(algorithm)
                .is_some_and(|with| RsaPublicKeyComponents { n, e }.verify(with, message, signature).is_ok()),
            Public::P256(point) => by(&ECDSA_P256_SHA256_FIXED, point),
            Public::P384(point) => by(&ECDSA_P384_SHA384_FIXED, point),
            Public::Ed25519(key) => by(&ED25519, key),
        }
    }
}

/// Moduli of 2048 to 8192 bits; smaller ones verify nothing.
fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&RSA_PSS_2048_8192_SHA256),
        Algorithm::ES256 | Algorithm::ES384 | Algorithm::EdDSA => None,
    }
}

impl Public {
    fn parse(key: &Object) -> Option<Self> {
        let number = |name: &str| URL_SAFE_NO_PAD.decode(text(key, name)?).ok();
        let point = |length: usize| {
            let (x, y) = (number("x")?, number("y")?);
            (x.len() == length && y.len() == length).then(|| [vec![4], x, y].concat())
        };
        match (text(key, "kty")?, text(key, "crv")) {
            ("RSA", _) => Some(Self::Rsa { n: number("n")?, e: number("e")? }),
            ("EC", Some("P-256")) => point(32).map(Self::P256),
            ("EC", Some("P-384")) => point(48).map(Self::P384),
            ("OKP", Some("Ed25519")) => number("x").filter(|x| x.len() == 32).map(Self::Ed25519),
            _ => None,
        }
    }
}

fn verifies(operations: &Value) -> bool {
    matches!(operations, Value::Array(names) if names.contains(&Value::String("verify".into())))
}

fn text<'a>(key: &'a Object, name: &str) -> Option<&'a str> {
    match key.get(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7515, A.3, with a name.
    const P256: &str = r#"{"kty":"EC","crv":"P-256","kid":"a3","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    /// The example of RFC 8037, A.2, with a name.
    const ED25519_KEY: &str =
        r#"{"kty":"OKP","crv":"Ed25519","kid":"a2","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn set(keys: &[&str]) -> Result<Jwks, JwksError> {
        Jwks::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes())
    }

    #[test]
    fn signatures_of_the_rfcs_verify_and_altered_ones_do_not() {
        let keys = set(&[P256, ED25519_KEY]).unwrap();
        let a3 = (
            "a3",
            Algorithm::ES256,
            "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        );
        let a4 = (
            "a2",
            Algorithm::EdDSA,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        );
        for (id, algorithm, message, signature) in [a3, a4] {
            let key = keys.find(id).unwrap();
            let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            assert!(key.is_for(algorithm) && !key.is_for(Algorithm::RS256));
            assert!(key.verifies(algorithm, message.as_bytes(), &signature), "{id}");
            assert!(!key.verifies(algorithm, &message.as_bytes()[1..], &signature), "{id}");
            signature[0] ^= 1;
            assert!(!key.verifies(algorithm, message.as_bytes(), &signature), "{id}");
        }
    }

    #[test]
    fn only_public_keys_for_signatures_with_a_name_of_their_own_are_kept() {
        let with = |member: &str| P256.replacen('{', &format!("{{{member},"), 1);
        assert_eq!(set(&[&with(r#""use":"sig""#), ED25519_KEY]).unwrap().key_ids().count(), 2);
        let other = [
            with(r#""use":"enc""#),
            with(r#""key_ops":["sign"]"#),
            with(r#""alg":256"#),
            P256.replace("P-256", "P-521"),
            P256.replace("f83O", ""),
            P256.replace(r#""kid":"a3","#, ""),
            r#"{"kty":"oct","kid":"a1","k":"AyM1"}"#.into(),
        ];
        for left_out in other {
            assert_eq!(
                set(&[&left_out, ED25519_KEY]).unwrap().key_ids().collect::<Vec<_>>(),
                ["a2"],
                "{left_out}"
            );
        }
        let refused = [
            (set(&[]), JwksError::Empty),
            (set(&[P256, P256]), JwksError::Ambiguous("a3".into())),
            (set(&[&with(r#""d":"AA""#)]), JwksError::Private("a3".into())),
            (set(&[&with(r#""kty":"EC""#)]), JwksError::Malformed),
            (set(&["1"]), JwksError::Malformed),
            (Jwks::parse(b"{}"), JwksError::Malformed),
            (set(&vec![r#"{"kty":"x"}"#; MAX_KEYS + 1]), JwksError::TooLarge),
            (Jwks::parse(&vec![b' '; MAX_JWKS_BYTES + 1]), JwksError::TooLarge),
        ];
        for (found, expected) in refused {
            assert_eq!(found.unwrap_err(), expected);
        }
    }

    #[test]
    fn a_key_that_is_meant_for_one_algorithm_is_not_used_for_another() {
        let key = |alg: &str| {
            let text = ED25519_KEY.replacen('{', &format!(r#"{{"alg":"{alg}","#), 1);
            set(&[&text]).unwrap().find("a2").unwrap().clone()
        };
        assert!(key("EdDSA").is_for(Algorithm::EdDSA) && key("Ed25519").is_for(Algorithm::EdDSA));
        assert!(!key("ES256").is_for(Algorithm::EdDSA) && !key("ES256").is_for(Algorithm::ES256));
    }
}
