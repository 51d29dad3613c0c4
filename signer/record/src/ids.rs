//! Small identifiers: each with its grammar and its limit.

use crate::{GrammarError, string_newtype};

/// The log's origin (C2SP tlog-checkpoint): a bare, lower-case host name without port or path, as cosign demands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);
string_newtype!(Origin);

impl Origin {
    /// Parses a host name of at most 253 characters that holds a dot, or `localhost`.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        let ok =
            text.len() <= 253 && text.split('.').all(label) && (text.contains('.') || text == "localhost");
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(GrammarError::new("log origin", text, "a bare lower-case host name such as log.example.com"))
        }
    }
}

/// The name of one signing keeper, unique in its log: 1 to 32 of `a-z 0-9 -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeeperName(String);
string_newtype!(KeeperName);

impl KeeperName {
    /// Parses a keeper's name.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        if is_slug(text, 32) {
            Ok(Self(text.to_owned()))
        } else {
            Err(GrammarError::new("keeper", text, "1 to 32 of a-z 0-9 and '-'"))
        }
    }
}

/// Who asked, in one line that means the same for ever; 1 to 255 characters: `token:<id>`, `system:<part>`,
/// `ci:<issuer>/<immutable id>`, `machine:<SPIFFE id or SHA-256 of the SPKI>`, `person:<name in the roster>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(String);
string_newtype!(Principal);

impl Principal {
    /// Parses `kind:name`.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        let name_ok = |n: &str| {
            !n.is_empty() && n.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@/:+".contains(&b))
        };
        let ok = text.len() <= 255
            && text.split_once(':').is_some_and(|(kind, name)| is_slug(kind, 16) && name_ok(name));
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(GrammarError::new(
                "principal",
                text,
                "kind:name of at most 255 ASCII letters, digits and -_.@/:+",
            ))
        }
    }
}

/// The public half of an API token: 1 to 32 of `a-z 0-9`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(String);
string_newtype!(TokenId);

impl TokenId {
    /// Parses a token's public id.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        if is_slug(text, 32) && !text.contains('-') {
            Ok(Self(text.to_owned()))
        } else {
            Err(GrammarError::new("token id", text, "1 to 32 of a-z 0-9"))
        }
    }
}

/// A request's id: a UUID version 7 in its hyphened lower-case spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(String);
string_newtype!(RequestId);

impl RequestId {
    /// A new id; ids made later sort later.
    pub fn new(now: crate::Time) -> Self {
        let ms = u64::try_from(now.unix_ms()).unwrap_or(0);
        let stamp = uuid::Timestamp::from_unix(
            uuid::NoContext,
            ms / 1000,
            u32::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
        );
        Self(uuid::Uuid::new_v7(stamp).hyphenated().to_string())
    }

    /// Parses an id.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        match uuid::Uuid::try_parse(text) {
            Ok(id) if id.get_version_num() == 7 && id.hyphenated().to_string() == text => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(GrammarError::new("request id", text, "a UUID version 7, lower case with hyphens")),
        }
    }
}

/// 128 random bits as 32 hex digits: makes equal contents different, and guessing a private leaf's hash hopeless.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(String);
string_newtype!(Nonce);

impl Nonce {
    /// A fresh nonce from the operating system's generator.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes.iter().map(|b| format!("{b:02x}")).collect()))
    }

    /// Parses 32 lower-case hex digits.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        if text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(GrammarError::new("nonce", text, "32 lower-case hex digits"))
        }
    }
}

fn is_slug(text: &str, max: usize) -> bool {
    !text.is_empty()
        && text.len() <= max
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_refuse_what_their_grammar_does_not_have() {
        assert!(Origin::parse("log.example.com").is_ok() && Origin::parse("localhost").is_ok());
        for bad in ["log", "log.example.com:443", "log.example.com/x", "Log.example.com", "log..com", ""] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
        assert!(Principal::parse("token:ab12").is_ok());
        for bad in ["token", "token:", "token:a b", "token:a\nb", "Token:a"] {
            assert!(Principal::parse(bad).is_err(), "{bad}");
        }
        assert!(Nonce::parse(Nonce::random().unwrap().as_str()).is_ok());
        assert!(KeeperName::parse("signing-1").is_ok() && KeeperName::parse("Signing").is_err());
    }

    #[test]
    fn request_ids_sort_by_the_time_of_their_making() {
        let at = |ms| RequestId::new(crate::Time::from_unix_ms(ms).unwrap());
        assert!(at(1_000) < at(2_000));
        assert!(RequestId::parse(at(5).as_str()).is_ok());
        assert!(RequestId::parse("0190a7d2-0000-4000-8000-000000000000").is_err(), "version 4");
    }
}
