//! How the token looks, in the forwarder's spelling: `hsm-sim/pkcs11/README.md` is the reference.

use serde::Serialize;
use std::path::{Path, PathBuf};

/// A token that is not quite as the real one. The default is the real token as it is.
///
/// ```
/// use hsm_sim::Token;
/// let token = Token::default().pin_tries(3).max_sessions(4).raw_ec_point();
/// ```
#[derive(Debug, Clone, Default, Serialize)]
#[must_use = "a token looks so only when it is set"]
pub struct Token {
    #[serde(skip_serializing_if = "Option::is_none")]
    pin_tries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin_flags: Option<Vec<PinFlag>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protected_authentication_path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_sessions: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    always_authenticate: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    raw_ec_point: bool,
}

/// A flag of `CK_TOKEN_INFO` about the user PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum PinFlag {
    /// At least one wrong PIN since the last right one.
    #[serde(rename = "CKF_USER_PIN_COUNT_LOW")]
    CountLow,
    /// The next wrong PIN locks it.
    #[serde(rename = "CKF_USER_PIN_FINAL_TRY")]
    FinalTry,
    /// No PIN is taken any more.
    #[serde(rename = "CKF_USER_PIN_LOCKED")]
    Locked,
    /// The PIN is the one that the token came with, or has expired.
    #[serde(rename = "CKF_USER_PIN_TO_BE_CHANGED")]
    ToBeChanged,
}

impl Token {
    /// So many wrong PINs, at least 1, lock the user PIN. The count survives the process.
    pub fn pin_tries(self, tries: u32) -> Self {
        Self { pin_tries: Some(tries), ..self }
    }

    /// The flags of the PIN, whatever its counter says.
    pub fn pin_flags(self, flags: &[PinFlag]) -> Self {
        Self { pin_flags: Some(flags.to_vec()), ..self }
    }

    /// The token has a PIN pad: a login without a PIN takes what the file (its path absolute) says at that moment.
    pub fn protected_authentication_path(self, typed: &Path) -> Self {
        Self { protected_authentication_path: Some(typed.to_owned()), ..self }
    }

    /// Each process may have so many sessions.
    pub fn max_sessions(self, sessions: u64) -> Self {
        Self { max_sessions: Some(sessions), ..self }
    }

    /// All keys want a login for each signature.
    pub fn always_authenticate(self) -> Self {
        Self { always_authenticate: vec!["*".to_owned()], ..self }
    }

    /// The key with this `CKA_ID` wants a login for each signature.
    pub fn always_authenticate_for(mut self, id: &[u8]) -> Self {
        self.always_authenticate.push(id.iter().map(|byte| format!("{byte:02x}")).collect());
        self
    }

    /// `CKA_EC_POINT` is the bare point.
    pub fn raw_ec_point(self) -> Self {
        Self { raw_ec_point: true, ..self }
    }

    pub(super) fn tries(&self) -> Option<u32> {
        self.pin_tries
    }
}

/// How a token comes back. The default: the same token, in the same slot.
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is inserted by itself"]
pub struct Insertion {
    new_slot: bool,
    serial: Option<String>,
    label: Option<String>,
}

impl Insertion {
    /// Its slot has another id than all slots before.
    pub fn new_slot(self) -> Self {
        Self { new_slot: true, ..self }
    }

    /// It says that this is its serial number, of at most 16 bytes: another token. Its keys are the real token's.
    pub fn serial(self, serial: &str) -> Self {
        Self { serial: Some(serial.to_owned()), ..self }
    }

    /// It says that this is its label, of at most 32 bytes.
    pub fn label(self, label: &str) -> Self {
        Self { label: Some(label.to_owned()), ..self }
    }
}

/// What `token.json` says.
#[derive(Debug, Default, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    pub(super) token: Token,
    removed: bool,
    removals: u64,
    slot_offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
}

impl Shown {
    pub(super) fn remove(&mut self) {
        self.removed = true;
        self.removals += 1;
    }

    pub(super) fn insert(&mut self, insertion: Insertion) {
        self.removed = false;
        self.slot_offset += u64::from(insertion.new_slot);
        (self.serial, self.label) = (insertion.serial, insertion.label);
    }
}

#[cfg(test)]
mod tests {
    use super::{Insertion, PinFlag, Shown, Token};
    use std::path::Path;

    #[test]
    fn a_token_is_spelled_as_the_forwarder_reads_it() {
        let mut shown = Shown {
            token: Token::default()
                .pin_tries(3)
                .pin_flags(&[PinFlag::Locked])
                .protected_authentication_path(Path::new("/pin"))
                .max_sessions(2)
                .always_authenticate_for(&[0xa1])
                .raw_ec_point(),
            ..Shown::default()
        };
        shown.remove();
        shown.insert(Insertion::default().new_slot().serial("2").label("other"));
        assert_eq!(
            serde_json::to_string(&shown).unwrap(),
            "{\"pin_tries\":3,\"pin_flags\":[\"CKF_USER_PIN_LOCKED\"],\"protected_authentication_path\":\"/pin\",\
             \"max_sessions\":2,\"always_authenticate\":[\"a1\"],\"raw_ec_point\":true,\"removed\":false,\
             \"removals\":1,\"slot_offset\":1,\"serial\":\"2\",\"label\":\"other\"}"
        );
    }
}
