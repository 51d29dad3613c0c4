//! A JSON Web Token in its compact form (RFC 7519; RFC 7515, 7.1), taken apart and not believed.

use crate::{
    Refused,
    json::{self, NotAnObject, Object, Value},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// Longest token: GitLab's, with their lists of groups, stay below a quarter of it.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Longest `kid`.
const MAX_KEY_ID: usize = 256;

/// Members of a header that say where the key comes from, or what the signature is over (RFC 7515, 4.1; RFC 7797). Who heeds
/// them lets the token choose how it is verified.
const NOT_ACCEPTED: [&str; 8] = ["crit", "jku", "jwk", "x5u", "x5c", "b64", "zip", "enc"];

/// A token that was taken apart. Nothing of it is believed: it serves to find the issuer and the key.
#[derive(Debug, Clone)]
pub struct Token {
    /// What the signature is over: header and claims as they came, with the dot between.
    signed: String,
    signature: Vec<u8>,
    algorithm: String,
    key: Option<String>,
    claims: Object,
}

impl Token {
    /// Takes a compact token apart.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(Refused::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Refused::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Refused::Malformed)?;
        let header = object(header)?;
        if NOT_ACCEPTED.iter().any(|name| header.contains_key(*name)) {
            return Err(Refused::Header);
        }
        Ok(Self {
            signed: signed.to_owned(),
            signature: bytes(signature)?,
            algorithm: text_of(&header, "alg")?.ok_or(Refused::Malformed)?.to_owned(),
            key: text_of(&header, "kid")?.map(str::to_owned),
            claims: object(claims)?,
        })
    }

    /// Whose token it says to be: `iss`. Only to choose among the issuers that are configured.
    pub fn issuer(&self) -> Option<&str> {
        match self.claims.get("iss") {
            Some(Value::String(issuer)) => Some(issuer),
            _ => None,
        }
    }

    /// The name of the key that it says to be signed with.
    pub fn key_id(&self) -> Result<&str, Refused> {
        self.key.as_deref().filter(|id| (1..=MAX_KEY_ID).contains(&id.len())).ok_or(Refused::NoKeyId)
    }

    /// The algorithm that it says to be signed with.
    pub(crate) fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// Its claims, as they stand there.
    pub(crate) fn claims(&self) -> &Object {
        &self.claims
    }

    /// What the signature is over.
    pub(crate) fn signed(&self) -> &[u8] {
        self.signed.as_bytes()
    }

    /// The signature.
    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }
}

fn text_of<'a>(header: &'a Object, name: &str) -> Result<Option<&'a str>, Refused> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refused::Malformed),
    }
}

/// Without padding, and with no bits left over: one spelling.
fn bytes(part: &str) -> Result<Vec<u8>, Refused> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Malformed)
}

fn object(part: &str) -> Result<Object, Refused> {
    json::object(&bytes(part)?).map_err(|e| match e {
        NotAnObject::Duplicate => Refused::Duplicate,
        NotAnObject::Malformed => Refused::Malformed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(header), part(claims), part("signature"))
    }

    #[test]
    fn a_token_is_three_parts_with_one_spelling() {
        let good = token(r#"{"alg":"RS256","kid":"1","typ":"JWT"}"#, r#"{"iss":"https://a.example"}"#);
        let parsed = Token::parse(&good).unwrap();
        assert_eq!((parsed.issuer(), parsed.key_id()), (Some("https://a.example"), Ok("1")));
        let (head, rest) = good.split_once('.').unwrap();
        let bad = [
            String::new(),
            "..".into(),
            head.into(),
            format!("{good}."),
            format!("{good}.x"),
            format!("{head}=.{rest}"),
            format!("{good}="),
            format!(" {good}"),
            format!("{good}\n"),
        ];
        for bad in bad {
            assert_eq!(Token::parse(&bad).unwrap_err(), Refused::Malformed, "{bad:?}");
        }
        assert_eq!(Token::parse(&"a".repeat(MAX_TOKEN_BYTES + 1)).unwrap_err(), Refused::TooLong);
    }

    #[test]
    fn a_header_that_says_how_it_is_to_be_verified_is_refused() {
        for name in NOT_ACCEPTED {
            let header = format!(r#"{{"alg":"RS256","kid":"1","{name}":["exp"]}}"#);
            assert_eq!(Token::parse(&token(&header, "{}")).unwrap_err(), Refused::Header, "{name}");
        }
        for header in [r#"{"kid":"1"}"#, r#"{"alg":1}"#, r#"{"alg":"RS256","kid":1}"#] {
            assert_eq!(Token::parse(&token(header, "{}")).unwrap_err(), Refused::Malformed, "{header}");
        }
        for header in [r#"{"alg":"RS256"}"#, r#"{"alg":"RS256","kid":""}"#] {
            assert_eq!(
                Token::parse(&token(header, "{}")).unwrap().key_id(),
                Err(Refused::NoKeyId),
                "{header}"
            );
        }
    }
}
