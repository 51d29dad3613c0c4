//! What people have said to a request.

use record::Principal;
use serde::{Deserialize, Serialize};

/// Most approvals of one request: a quorum has far fewer people.
pub const MAX_APPROVALS: usize = 64;
/// Longest justification in bytes.
pub const MAX_JUSTIFICATION: usize = 512;

/// One approval whose signature was verified, over the change that shall be signed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// `person:<name in the roster>`: the person, whichever of their keys it was.
    pub person: Principal,
    /// With what it was signed.
    pub method: Method,
}

/// With what an approval is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A PIV key that asks for a touch, at the approver's own machine, which shows the change.
    Piv,
    /// WebAuthn in the browser, which shows what the server sent.
    Webauthn,
}

/// An emergency: some rules give way, more people must approve, and everybody is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// Why, in the caller's words.
    pub reason: Justification,
}

/// A text of 1 to [`MAX_JUSTIFICATION`] bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Justification(String);

/// A text that is no justification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a justification has 1 to {MAX_JUSTIFICATION} bytes, is not blank, and has no control characters")]
pub struct JustificationError;

impl Justification {
    /// Takes a text as it stands.
    pub fn parse(text: &str) -> Result<Self, JustificationError> {
        let fits = text.len() <= MAX_JUSTIFICATION && !text.trim().is_empty();
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(JustificationError)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Justification {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}
