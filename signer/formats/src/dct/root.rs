//! Root metadata: which key signs for which role.

use super::{
    Role,
    canonical_json::{Value, object},
    certificate,
    fields::{Fields, Unknown},
    file::{FileError, signed},
    key::{KeyEntry, certificate_object, key_object, read_keys},
};
use crate::dct::{certificate_key_id, key_id};
use record::{Spki, Time};
use std::collections::BTreeMap;

/// One role's key, as root metadata names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKey {
    /// Its id in this collection's files.
    pub keyid: String,
    /// The public key.
    pub spki: Spki,
}

/// What root metadata says, where every role has exactly one P-256 key: the shape that the service signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootView {
    /// DER of the certificate that wraps the root key. Read, not checked: see [`certificate::check`].
    pub certificate: Vec<u8>,
    /// The root key; its id is the certificate's.
    pub root: RoleKey,
    /// The targets key.
    pub targets: RoleKey,
    /// The snapshot key.
    pub snapshot: RoleKey,
    /// The timestamp key.
    pub timestamp: RoleKey,
}

impl RootView {
    /// The key of `role`.
    pub fn of(&self, role: Role) -> &RoleKey {
        match role {
            Role::Root => &self.root,
            Role::Targets => &self.targets,
            Role::Snapshot => &self.snapshot,
            Role::Timestamp => &self.timestamp,
        }
    }
}

/// The keys that go into root metadata.
pub(crate) struct RootKeys<'a> {
    pub(crate) certificate: &'a [u8],
    pub(crate) targets: &'a Spki,
    pub(crate) snapshot: &'a Spki,
    pub(crate) timestamp: &'a Spki,
}

/// The `signed` member of root metadata.
pub(crate) fn compose(version: u64, expires: Time, keys: &RootKeys<'_>) -> Value {
    let entries = [
        (Role::Root, certificate_key_id(keys.certificate), certificate_object(keys.certificate)),
        (Role::Targets, key_id(keys.targets), key_object(keys.targets)),
        (Role::Snapshot, key_id(keys.snapshot), key_object(keys.snapshot)),
        (Role::Timestamp, key_id(keys.timestamp), key_object(keys.timestamp)),
    ];
    let role = |id: &String| {
        let ids = Value::Array(vec![Value::String(id.clone())]);
        object([("keyids", ids), ("threshold", Value::Integer(1))])
    };
    let roles = entries.iter().map(|(name, id, _)| (name.as_str().to_owned(), role(id))).collect();
    let keys = entries.iter().map(|(_, id, key)| (id.clone(), key.clone())).collect();
    signed(
        Role::Root,
        version,
        expires,
        [
            // Clients fetch by hash whatever this says, and write false themselves.
            ("consistent_snapshot", Value::Bool(false)),
            ("keys", Value::Object(keys)),
            ("roles", Value::Object(roles)),
        ],
    )
}

/// Root metadata as it stands, any key types and thresholds.
#[derive(Debug, Clone)]
pub(crate) struct RootBody {
    keys: BTreeMap<String, KeyEntry>,
    roles: BTreeMap<Role, RoleEntry>,
}

#[derive(Debug, Clone)]
struct RoleEntry {
    keyids: Vec<String>,
    threshold: u64,
}

/// Members of a root's `signed`.
pub(crate) const MEMBERS: [&str; 6] = ["_type", "consistent_snapshot", "expires", "keys", "roles", "version"];

pub(crate) fn read(fields: &Fields<'_>) -> Result<RootBody, FileError> {
    let keys = read_keys(fields.map("keys")?)?;
    let stated = fields.map("roles")?;
    let mut roles = BTreeMap::new();
    for role in Role::ALL {
        let value =
            stated.get(role.as_str()).ok_or_else(|| fields.wrong("roles", "must name all four roles"))?;
        roles.insert(role, read_role(value, &keys)?);
    }
    if stated.len() > roles.len() {
        return Err(fields.wrong("roles", "must name only root, targets, snapshot and timestamp"));
    }
    Ok(RootBody { keys, roles })
}

fn read_role(value: &Value, keys: &BTreeMap<String, KeyEntry>) -> Result<RoleEntry, FileError> {
    let fields = Fields::open(value, "role", &["keyids", "threshold"], Unknown::Carried)?;
    let keyids = fields.texts("keyids")?;
    if keyids.is_empty() || !keyids.iter().all(|id| keys.contains_key(id)) {
        return Err(fields.wrong("keyids", "must name keys of this file"));
    }
    Ok(RoleEntry { keyids, threshold: fields.number("threshold", 1)? })
}

impl RootBody {
    pub(crate) fn view(&self) -> Result<RootView, FileError> {
        let (root_id, root_key) = self.only_key(Role::Root)?;
        let certificate = root_key.certificate()?;
        let spki = certificate::spki(&certificate).map_err(FileError::Certificate)?;
        let plain = |role| {
            let (keyid, key) = self.only_key(role)?;
            Ok::<_, FileError>(RoleKey { keyid: keyid.to_owned(), spki: key.spki()? })
        };
        Ok(RootView {
            root: RoleKey { keyid: root_id.to_owned(), spki },
            targets: plain(Role::Targets)?,
            snapshot: plain(Role::Snapshot)?,
            timestamp: plain(Role::Timestamp)?,
            certificate,
        })
    }

    fn only_key(&self, role: Role) -> Result<(&str, &KeyEntry), FileError> {
        let several = FileError::SeveralKeys(role);
        let entry = self.roles.get(&role).filter(|r| r.threshold == 1).ok_or(FileError::SeveralKeys(role))?;
        match entry.keyids.as_slice() {
            [id] => self.keys.get(id).map(|key| (id.as_str(), key)).ok_or(several),
            _ => Err(several),
        }
    }
}
