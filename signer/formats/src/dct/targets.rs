//! Targets metadata: which tag names which image.

use super::{
    Role,
    canonical_json::{Value, object},
    fields::{Fields, Unknown},
    file::{FileError, file_ref_value, head, read_file_ref},
    key::read_keys,
};
use record::{Change, Digest, FileRef, Tag, Time};
use std::collections::BTreeMap;

/// The image that a tag names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's size in bytes.
    pub size: u64,
}

/// The `signed` member with `changes` applied to that of the version before. Everything else that the version before
/// says, delegations and other tags included, stays as it is.
pub(crate) fn apply(prev: Option<&Value>, changes: &[Change], version: u64, expires: Time) -> Value {
    let mut next = match prev {
        Some(Value::Object(members)) => members.clone(),
        _ => BTreeMap::new(),
    };
    let mut targets = match next.remove("targets") {
        Some(Value::Object(targets)) => targets,
        _ => BTreeMap::new(),
    };
    for change in changes {
        let image = FileRef { sha256: change.digest.sha256(), length: change.size };
        targets.insert(change.tag.as_str().to_owned(), file_ref_value(&image));
    }
    next.entry("delegations".to_owned()).or_insert_with(no_delegations);
    next.extend(head(Role::Targets, version, expires));
    next.insert("targets".to_owned(), Value::Object(targets));
    Value::Object(next)
}

fn no_delegations() -> Value {
    object([("keys", Value::Object(BTreeMap::new())), ("roles", Value::Array(Vec::new()))])
}

/// Members of a targets file's `signed`.
pub(crate) const MEMBERS: [&str; 5] = ["_type", "delegations", "expires", "targets", "version"];

/// The targets by name. Names are whatever the client wrote; see [`tagged`].
pub(crate) fn read(fields: &Fields<'_>) -> Result<BTreeMap<String, FileRef>, FileError> {
    if let Some(delegations) = fields.optional("delegations") {
        check_delegations(delegations)?;
    }
    fields.map("targets")?.iter().map(|(name, file)| Ok((name.clone(), read_file_ref(file)?))).collect()
}

/// The targets as tags and images; a name that is no tag, or a digest that is no image's, is an error.
pub(crate) fn tagged(targets: &BTreeMap<String, FileRef>) -> Result<BTreeMap<Tag, Target>, FileError> {
    let target = |(name, file): (&String, &FileRef)| {
        let tag = Tag::parse(name).map_err(FileError::Tag)?;
        let digest = format!("sha256:{}", file.sha256)
            .parse::<Digest>()
            .map_err(|source| FileError::Digest { tag: tag.clone(), source })?;
        Ok((tag, Target { digest, size: file.length }))
    };
    targets.iter().map(target).collect()
}

/// Delegations are carried, not used; they still must have one meaning.
fn check_delegations(value: &Value) -> Result<(), FileError> {
    let fields = Fields::open(value, "delegations", &["keys", "roles"], Unknown::Carried)?;
    read_keys(fields.map("keys")?)?;
    for role in fields.list("roles")? {
        let known = ["keyids", "name", "paths", "threshold"];
        let role = Fields::open(role, "delegation", &known, Unknown::Carried)?;
        role.text("name")?;
        role.texts("keyids")?;
        role.number("threshold", 1)?;
    }
    Ok(())
}
