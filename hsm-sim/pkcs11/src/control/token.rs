//! `token.json`: how the token looks, and whether it is there. A file that is absent means the real token as it is.

use super::error::ControlError;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// `CK_TOKEN_INFO.serialNumber` and `.label`.
const SERIAL_BYTES: usize = 16;
const LABEL_BYTES: usize = 32;
const EVERY: &str = "*";

/// The simulated token, over the real one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Token {
    /// The token is out of its slot.
    pub(crate) removed: bool,
    /// How often it was taken out; a change ends all sessions even if no call was made while it was out.
    pub(crate) removals: u64,
    /// What callers see as a slot's id is the real one and this.
    pub(crate) slot_offset: u64,
    pub(crate) serial: Option<String>,
    pub(crate) label: Option<String>,
    /// So many wrong PINs lock it.
    pub(crate) pin_tries: Option<u32>,
    /// In place of the flags that follow from the counter.
    pub(crate) pin_flags: Option<Vec<PinFlag>>,
    /// The token has a PIN pad, on which somebody types what is in this file.
    pub(crate) protected_authentication_path: Option<PathBuf>,
    /// Sessions that one process may have.
    pub(crate) max_sessions: Option<u64>,
    /// `CKA_ID`s in hex, or `*`: their keys want a login for each signature.
    pub(crate) always_authenticate: Vec<String>,
    /// `CKA_EC_POINT` without the OCTET STRING around it.
    pub(crate) raw_ec_point: bool,
}

/// A flag of `CK_TOKEN_INFO` about the user PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum PinFlag {
    #[serde(rename = "CKF_USER_PIN_COUNT_LOW")]
    CountLow,
    #[serde(rename = "CKF_USER_PIN_FINAL_TRY")]
    FinalTry,
    #[serde(rename = "CKF_USER_PIN_LOCKED")]
    Locked,
    #[serde(rename = "CKF_USER_PIN_TO_BE_CHANGED")]
    ToBeChanged,
}

impl Token {
    /// Whether a signature of this key, named by its `CKA_ID` in hex, wants a login of its own.
    pub(crate) fn wants_login_for(&self, key: &str) -> bool {
        self.always_authenticate.iter().any(|listed| listed == EVERY || listed == key)
    }
}

/// The file at `path`, whose text this is.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Token, ControlError> {
    if text.trim().is_empty() {
        return Ok(Token::default());
    }
    let token: Token =
        serde_json::from_str(text).map_err(|source| ControlError::Json { path: path.to_owned(), source })?;
    match fault(&token) {
        Some(why) => Err(ControlError::Token { path: path.to_owned(), why }),
        None => Ok(token),
    }
}

fn fault(token: &Token) -> Option<&'static str> {
    let longer = |text: &Option<String>, limit| text.as_ref().is_some_and(|text| text.len() > limit);
    let pad = token.protected_authentication_path.as_ref();
    [
        (longer(&token.serial, SERIAL_BYTES), "\"serial\" has more than 16 bytes"),
        (longer(&token.label, LABEL_BYTES), "\"label\" has more than 32 bytes"),
        (token.pin_tries == Some(0), "\"pin_tries\" must be at least 1"),
        (pad.is_some_and(|file| file.is_relative()), "\"protected_authentication_path\" must be absolute"),
    ]
    .into_iter()
    .find_map(|(found, why)| found.then_some(why))
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::path::Path;

    #[test]
    fn an_empty_or_absent_file_changes_nothing() {
        for text in ["", "{}"] {
            let token = parse(Path::new("/t"), text).unwrap();
            assert!(!token.removed && token.slot_offset == 0 && token.pin_tries.is_none(), "{text}");
        }
    }

    #[test]
    fn what_no_token_can_be_is_refused() {
        for bad in [
            r#"{"present":true}"#,
            r#"{"serial":"12345678901234567"}"#,
            r#"{"label":"123456789012345678901234567890123"}"#,
            r#"{"pin_tries":0}"#,
            r#"{"pin_flags":["CKF_RNG"]}"#,
            r#"{"protected_authentication_path":"pin"}"#,
        ] {
            assert!(parse(Path::new("/t"), bad).unwrap_err().to_string().contains("/t"), "{bad}");
        }
    }

    #[test]
    fn every_token_of_the_readme_is_one() {
        let readme = include_str!("../../README.md").lines().map(str::trim);
        let tokens = readme.filter(|line| line.starts_with("{\"") && !line.starts_with("{\"id\""));
        let parsed: Vec<_> = tokens.map(|line| parse(Path::new("/README.md"), line).unwrap()).collect();
        assert!(parsed.len() > 7, "{parsed:?}");
    }

    #[test]
    fn keys_are_listed_or_all_meant() {
        let token = |text| parse(Path::new("/t"), text).unwrap();
        assert!(token(r#"{"always_authenticate":["a1"]}"#).wants_login_for("a1"));
        assert!(!token(r#"{"always_authenticate":["a1"]}"#).wants_login_for("b2"));
        assert!(token(r#"{"always_authenticate":["*"]}"#).wants_login_for("b2"));
    }
}
