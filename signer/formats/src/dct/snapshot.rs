//! Snapshot and timestamp metadata: which files are the newest, by the SHA-256 and length of all their bytes.

use super::{
    Role,
    canonical_json::Value,
    fields::Fields,
    file::{FileError, file_ref_value, read_file_ref, signed},
};
use record::{FileRef, Time};
use std::collections::BTreeMap;

/// The `signed` member of snapshot metadata.
pub(crate) fn snapshot(version: u64, expires: Time, root: &FileRef, targets: &FileRef) -> Value {
    compose(Role::Snapshot, version, expires, &[(Role::Root, root), (Role::Targets, targets)])
}

/// The `signed` member of timestamp metadata.
pub(crate) fn timestamp(version: u64, expires: Time, snapshot: &FileRef) -> Value {
    compose(Role::Timestamp, version, expires, &[(Role::Snapshot, snapshot)])
}

fn compose(role: Role, version: u64, expires: Time, files: &[(Role, &FileRef)]) -> Value {
    let meta = files.iter().map(|(name, file)| (name.as_str().to_owned(), file_ref_value(file))).collect();
    signed(role, version, expires, [("meta", Value::Object(meta))])
}

/// Members of a snapshot's and a timestamp's `signed`.
pub(crate) const MEMBERS: [&str; 4] = ["_type", "expires", "meta", "version"];

/// The files by role name, delegations included. Those that clients cannot do without must be there.
pub(crate) fn read(role: Role, fields: &Fields<'_>) -> Result<BTreeMap<String, FileRef>, FileError> {
    let meta = fields.map("meta")?;
    let needed: &[Role] =
        if role == Role::Timestamp { &[Role::Snapshot] } else { &[Role::Root, Role::Targets] };
    if !needed.iter().all(|r| meta.contains_key(r.as_str())) {
        return Err(fields.wrong("meta", "must name snapshot in a timestamp, root and targets in a snapshot"));
    }
    meta.iter().map(|(name, file)| Ok((name.clone(), read_file_ref(file)?))).collect()
}
