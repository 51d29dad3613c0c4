//! `[[key]]`: signing keys by name, and until when they are to be used.

use super::{DataError, check};
use record::{KeyId, Time};
use serde::Deserialize;

/// A signing key that entries can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRules {
    /// Its name in the file.
    pub name: String,
    /// SHA-256 of its `SubjectPublicKeyInfo`.
    pub id: KeyId,
    /// The first moment at which it signs no more.
    pub not_after: Option<Time>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKey {
    name: String,
    id: String,
    not_after: Option<toml::value::Datetime>,
}

impl RawKey {
    pub(super) fn check(self) -> Result<KeyRules, DataError> {
        check::name("key", &self.name)?;
        let place = format!("key {:?}", self.name);
        let why = "is no key id: copy it from chancery key list, 64 hex digits";
        let id = self.id.parse().map_err(|_| check::bad(&place, &self.id, why))?;
        let not_after = self.not_after.map(|at| check::time(&place, &at)).transpose()?;
        Ok(KeyRules { name: self.name, id, not_after })
    }
}
