//! Objects that clients decode into a struct, read with the one meaning that every client gives them.

use super::{canonical_json::Value, file::FileError};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of members that the dialect does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// They are not signed, or would change a key's id.
    Refused,
    /// They are under the signature and stay in the canonical bytes.
    Carried,
}

/// The members of one struct-like object. `what` names it in errors.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    what: &'static str,
    members: &'a BTreeMap<String, Value>,
}

impl<'a> Fields<'a> {
    /// Opens `value`. Go matches struct members without regard to case, so a member that folds to a known name without
    /// being it, and two members that fold alike, would be read differently by different clients.
    pub(crate) fn open(
        value: &'a Value,
        what: &'static str,
        known: &[&str],
        unknown: Unknown,
    ) -> Result<Self, FileError> {
        let members = map(value, what)?;
        let mut folded = BTreeSet::new();
        for name in members.keys() {
            let fold = fold(name);
            let is_known = known.contains(&name.as_str());
            let twin = !is_known && known.contains(&fold.as_str());
            if twin || !folded.insert(fold) {
                return Err(FileError::CaseTwin { at: what, name: name.clone() });
            }
            if !is_known && unknown == Unknown::Refused {
                return Err(FileError::Unknown { at: what, name: name.clone() });
            }
        }
        Ok(Self { what, members })
    }

    /// An error about the member `name`.
    pub(crate) fn wrong(&self, name: &'static str, why: &'static str) -> FileError {
        FileError::Member { at: self.what, name, why }
    }

    pub(crate) fn optional(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name)
    }

    pub(crate) fn value(&self, name: &'static str) -> Result<&'a Value, FileError> {
        self.optional(name).ok_or_else(|| self.wrong(name, "is missing"))
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<&'a str, FileError> {
        match self.value(name)? {
            Value::String(text) => Ok(text),
            _ => Err(self.wrong(name, "must be a string")),
        }
    }

    /// A whole number from `least` on.
    pub(crate) fn number(&self, name: &'static str, least: u64) -> Result<u64, FileError> {
        match self.value(name)? {
            Value::Integer(n) => u64::try_from(*n).ok().filter(|n| *n >= least),
            _ => None,
        }
        .ok_or_else(|| self.wrong(name, "must be a whole number (from 1 on for versions and thresholds)"))
    }

    /// Bytes in the standard alphabet of base64, with padding.
    pub(crate) fn base64(&self, name: &'static str) -> Result<Vec<u8>, FileError> {
        STANDARD.decode(self.text(name)?).map_err(|_| self.wrong(name, "must be base64"))
    }

    pub(crate) fn list(&self, name: &'static str) -> Result<&'a [Value], FileError> {
        match self.value(name)? {
            Value::Array(items) => Ok(items),
            _ => Err(self.wrong(name, "must be a list")),
        }
    }

    pub(crate) fn texts(&self, name: &'static str) -> Result<Vec<String>, FileError> {
        let text = |item: &Value| match item {
            Value::String(text) => Ok(text.clone()),
            _ => Err(self.wrong(name, "must be a list of strings")),
        };
        self.list(name)?.iter().map(text).collect()
    }

    /// An object whose member names are data (tags, key ids, roles) and may differ only in case.
    pub(crate) fn map(&self, name: &'static str) -> Result<&'a BTreeMap<String, Value>, FileError> {
        map(self.value(name)?, name)
    }
}

fn map<'a>(value: &'a Value, what: &'static str) -> Result<&'a BTreeMap<String, Value>, FileError> {
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(FileError::NotAnObject(what)),
    }
}

/// Folds case as Go does: the Kelvin sign is a `k`, the long s is an `s`.
fn fold(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dct::canonical_json::parse;

    fn opens(json: &str, unknown: Unknown) -> Result<(), FileError> {
        Fields::open(&parse(json.as_bytes()).unwrap(), "it", &["keys", "version"], unknown).map(drop)
    }

    #[test]
    fn members_that_go_would_mix_up_are_refused() {
        for json in [
            r#"{"version":1,"Version":2}"#,
            r#"{"VERSION":2}"#,
            "{\"\u{212a}eys\":1}",
            "{\"key\u{17f}\":1}",
            r#"{"other":1,"Other":2}"#,
        ] {
            assert!(matches!(opens(json, Unknown::Carried), Err(FileError::CaseTwin { .. })), "{json}");
        }
        assert!(opens(r#"{"version":1,"keys":{},"other":1}"#, Unknown::Carried).is_ok());
    }

    #[test]
    fn unknown_members_are_refused_where_no_signature_covers_them() {
        let unknown = opens(r#"{"version":1,"other":1}"#, Unknown::Refused);
        assert!(matches!(unknown, Err(FileError::Unknown { name, .. }) if name == "other"));
    }
}
