//! From an intent to the bytes to sign, and from a signature to the file that clients read.

use crate::dct::{
    FileError, MAX_FILE_BYTES, Role, SignedFile,
    canonical_json::{self, MAX_INTEGER, Value},
    certificate::{self, CertificateError},
    certificate_key_id, envelope, key_id,
    root::{self, RootKeys},
    snapshot, targets,
};
use record::{
    Action, Algorithm, Change, FileRef, Intent, KeyId, MAX_CHANGES, Purpose, RoleKeys, Sha256, Signature,
    Spki, Time,
    wire::{Blob, Child, Extra},
};
use std::collections::BTreeMap;

/// Public keys by id: a keeper's come from its charter, the daemon's from the keepers' evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<KeyId, Spki>);

impl Keys {
    /// The key of this id.
    pub fn get(&self, id: &KeyId) -> Option<&Spki> {
        self.0.get(id)
    }
}

impl FromIterator<Spki> for Keys {
    fn from_iter<T: IntoIterator<Item = Spki>>(keys: T) -> Self {
        Self(keys.into_iter().map(|key| (key.id(), key)).collect())
    }
}

/// Why no bytes can be built from an intent, or no file from a signature. Nothing was signed; the same input fails
/// again.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The intent's purpose or format is not that of its action.
    #[error("the intent's purpose or format is not that of its action")]
    Labels,
    /// The extra part is for another action.
    #[error("the files that came with the intent are those of another action")]
    Extra,
    /// A version outside 1 to [`MAX_VERSION`].
    #[error("version {0} is outside 1 to 2147483647")]
    Version(u64),
    /// An expiry with milliseconds: they would not stand in the file.
    #[error("expiry {0} has no whole seconds")]
    Expires(Time),
    /// A key that the builder was not given.
    #[error("key {id} for {purpose} is not known here")]
    UnknownKey {
        /// The key.
        id: KeyId,
        /// What it is needed for.
        purpose: Purpose,
    },
    /// A key that makes no signatures which the clients of these files know.
    #[error("key {id} is of the type {algorithm}, and clients of these files know p256 keys only")]
    Algorithm {
        /// The key.
        id: KeyId,
        /// What it is.
        algorithm: Algorithm,
    },
    /// One key in two roles.
    #[error("key {0} stands for two roles; each role needs a key of its own")]
    SharedKey(KeyId),
    /// The signing key is not the root key that the metadata names.
    #[error("root metadata must be signed by the root key that it names")]
    OtherRootKey,
    /// A file is not the one that the intent names.
    #[error("the {role} {part} is not the one that the intent names by hash and length")]
    File {
        /// Whose file.
        role: Role,
        /// `file`, `payload` or `certificate`.
        part: &'static str,
    },
    /// A file that the intent does not speak of, or one that is missing.
    #[error("the intent names a previous targets file exactly when one comes with it")]
    Previous,
    /// A file cannot be read.
    #[error("the {role} file cannot be used")]
    Read {
        /// Whose file was expected.
        role: Role,
        /// Why.
        #[source]
        source: FileError,
    },
    /// A file of another role than where it stands.
    #[error("{found} metadata stands where {wanted} metadata must be")]
    Role {
        /// What must be there.
        wanted: Role,
        /// What is there.
        found: Role,
    },
    /// More than [`MAX_CHANGES`].
    #[error("{0} changes in one targets version; it takes at most 200")]
    ChangeCount(usize),
    /// Changes are not in the order of their tags, or one tag stands twice.
    #[error("the changes must be sorted by tag, each tag once: see tag {0}")]
    ChangeOrder(record::Tag),
    /// A manifest's size is zero or beyond 2^53.
    #[error("{size} bytes is no size of a manifest: see tag {tag}")]
    ManifestSize {
        /// The tag.
        tag: record::Tag,
        /// The size.
        size: u64,
    },
    /// The metadata would be larger than any reader takes.
    #[error(
        "the metadata would have {0} bytes; the limit of a file is 4 MiB: remove tags, or use another repository"
    )]
    TooLong(usize),
    /// The certificate cannot be made or used.
    #[error("the root key's certificate cannot be used")]
    Certificate(#[source] CertificateError),
    /// The payload is not the one that the intent names.
    #[error("the signed bytes are not the payload that the intent names")]
    Payload,
    /// The public key is not the intent's.
    #[error("the public key is not the one that the intent names")]
    Key,
    /// The signature does not verify.
    #[error("the signature does not verify over the payload")]
    Signature,
}

/// Highest version: beyond it, clients on 32-bit machines fail, and the collection could never be updated again.
pub const MAX_VERSION: u64 = 2_147_483_647;

/// What the envelope adds to a payload at most: 64 hex of key id, 88 of signature, and the words around them.
const ENVELOPE_BYTES: usize = 512;

/// Builds the bytes to sign: canonical JSON of `signed`, or the DER of a `TBSCertificate`.
///
/// A pure function, the same in daemon and keeper. It takes every file from `extra` and checks it against the hash in
/// the intent. It does not look at `intent.payload`: the daemon fills that field with the hash of the result, and the
/// keeper compares. Whether version, expiry, and the children's signatures are allowed is the keeper's question.
// The keeper's `own-bytes` rests on this: every byte comes from a template here, the intent, or a file it names by hash.
pub fn build(intent: &Intent, extra: &Extra, keys: &Keys) -> Result<Vec<u8>, BuildError> {
    let action = &intent.action;
    if intent.purpose != action.purpose() || intent.format != action.format() {
        return Err(BuildError::Labels);
    }
    let signed = match (action, extra) {
        (Action::RootCertificate { .. }, Extra::RootCertificate {}) => {
            return build_certificate(intent, keys);
        }
        (Action::Root { .. }, Extra::Root { certificate }) => build_root(intent, certificate, keys)?,
        (Action::Targets { prev, changes, .. }, Extra::Targets { prev: file }) => {
            let prev = previous_targets(prev.as_ref(), file.as_ref())?;
            check_changes(changes)?;
            let (version, expires) = head(action)?;
            targets::apply(prev.as_ref().map(SignedFile::signed), changes, version, expires)
        }
        (Action::Snapshot { root, targets, .. }, Extra::Snapshot { root: r, targets: t }) => {
            check_child(Role::Root, root, r)?;
            check_child(Role::Targets, targets, t)?;
            let (version, expires) = head(action)?;
            snapshot::snapshot(version, expires, root, targets)
        }
        (Action::Timestamp { snapshot, .. }, Extra::Timestamp { snapshot: s }) => {
            check_child(Role::Snapshot, snapshot, s)?;
            let (version, expires) = head(action)?;
            snapshot::timestamp(version, expires, snapshot)
        }
        _ => return Err(BuildError::Extra),
    };
    encode(&signed)
}

/// Turns a signature into the file that clients read: the DER certificate, or the signed metadata. `payload` are the
/// bytes that [`build`] gave; payload, key and signature are checked against the intent and each other.
pub fn seal(
    intent: &Intent,
    extra: &Extra,
    payload: &[u8],
    spki: &Spki,
    sig: &Signature,
) -> Result<Vec<u8>, BuildError> {
    let file = assemble(intent, extra, payload, spki, sig)?;
    if spki.verifies(&intent.payload, sig) { Ok(file) } else { Err(BuildError::Signature) }
}

/// As [`seal`], for a signature that the caller verifies over `intent.payload`: many at once, on several threads.
pub fn assemble(
    intent: &Intent,
    extra: &Extra,
    payload: &[u8],
    spki: &Spki,
    sig: &Signature,
) -> Result<Vec<u8>, BuildError> {
    if Sha256::of(payload) != intent.payload {
        return Err(BuildError::Payload);
    }
    if spki.id() != intent.key {
        return Err(BuildError::Key);
    }
    check_p256(spki)?;
    match (&intent.action, extra) {
        (Action::RootCertificate { .. }, _) => {
            certificate::assemble(payload, sig).map_err(BuildError::Certificate)
        }
        (Action::Root { certificate: named, .. }, Extra::Root { certificate }) => {
            check_certificate_hash(named, certificate)?;
            Ok(envelope(payload, &certificate_key_id(&certificate.0), sig))
        }
        (Action::Root { .. }, _) => Err(BuildError::Extra),
        _ => Ok(envelope(payload, &key_id(spki), sig)),
    }
}

fn build_certificate(intent: &Intent, keys: &Keys) -> Result<Vec<u8>, BuildError> {
    let Action::RootCertificate { serial, not_before, not_after } = &intent.action else {
        return Err(BuildError::Extra);
    };
    let spki = known(keys, intent.key, Purpose::Root)?;
    certificate::tbs(&intent.repository, spki, serial, *not_before, *not_after)
        .map_err(BuildError::Certificate)
}

fn build_root(intent: &Intent, certificate: &Blob, keys: &Keys) -> Result<Value, BuildError> {
    let Action::Root { version, expires, certificate: named, roles } = &intent.action else {
        return Err(BuildError::Extra);
    };
    if roles.root != intent.key {
        return Err(BuildError::OtherRootKey);
    }
    check_distinct(roles)?;
    check_certificate_hash(named, certificate)?;
    let root_key = known(keys, roles.root, Purpose::Root)?;
    certificate::check(&certificate.0, &intent.repository, root_key).map_err(BuildError::Certificate)?;
    let named = RootKeys {
        certificate: &certificate.0,
        targets: known(keys, roles.targets, Purpose::Targets)?,
        snapshot: known(keys, roles.snapshot, Purpose::Snapshot)?,
        timestamp: known(keys, roles.timestamp, Purpose::Timestamp)?,
    };
    check_head(*version, *expires)?;
    Ok(root::compose(*version, *expires, &named))
}

fn encode(signed: &Value) -> Result<Vec<u8>, BuildError> {
    let bytes = canonical_json::encode(signed);
    if bytes.len() > MAX_FILE_BYTES - ENVELOPE_BYTES {
        Err(BuildError::TooLong(bytes.len()))
    } else {
        Ok(bytes)
    }
}

fn known(keys: &Keys, id: KeyId, purpose: Purpose) -> Result<&Spki, BuildError> {
    let key = keys.get(&id).ok_or(BuildError::UnknownKey { id, purpose })?;
    check_p256(key).map(|()| key)
}

fn check_p256(key: &Spki) -> Result<(), BuildError> {
    match key.algorithm() {
        Algorithm::EcdsaP256 => Ok(()),
        algorithm => Err(BuildError::Algorithm { id: key.id(), algorithm }),
    }
}

/// A key has one purpose, so it stands for one role.
fn check_distinct(roles: &RoleKeys) -> Result<(), BuildError> {
    let mut seen = std::collections::BTreeSet::new();
    match Purpose::ALL.into_iter().map(|p| roles.of(p)).find(|id| !seen.insert(*id)) {
        Some(id) => Err(BuildError::SharedKey(id)),
        None => Ok(()),
    }
}

fn head(action: &Action) -> Result<(u64, Time), BuildError> {
    let version = action.version().unwrap_or(0);
    check_head(version, action.expires())?;
    Ok((version, action.expires()))
}

fn check_head(version: u64, expires: Time) -> Result<(), BuildError> {
    if !(1..=MAX_VERSION).contains(&version) {
        return Err(BuildError::Version(version));
    }
    if expires == expires.whole_seconds() { Ok(()) } else { Err(BuildError::Expires(expires)) }
}

fn check_certificate_hash(named: &Sha256, certificate: &Blob) -> Result<(), BuildError> {
    if Sha256::of(&certificate.0) == *named {
        Ok(())
    } else {
        Err(BuildError::File { role: Role::Root, part: "certificate" })
    }
}

fn check_child(role: Role, named: &FileRef, child: &Child) -> Result<(), BuildError> {
    if FileRef::of(&child.file.0) != *named {
        return Err(BuildError::File { role, part: "file" });
    }
    read(role, &child.file).map(drop)
}

fn previous_targets(named: Option<&Sha256>, file: Option<&Blob>) -> Result<Option<SignedFile>, BuildError> {
    let (named, file) = match (named, file) {
        (None, None) => return Ok(None),
        (Some(named), Some(file)) => (named, file),
        _ => return Err(BuildError::Previous),
    };
    let previous = read(Role::Targets, file)?;
    if previous.payload_hash() == *named {
        Ok(Some(previous))
    } else {
        Err(BuildError::File { role: Role::Targets, part: "payload" })
    }
}

fn read(role: Role, file: &Blob) -> Result<SignedFile, BuildError> {
    let read = SignedFile::parse(&file.0).map_err(|source| BuildError::Read { role, source })?;
    if read.role() == role { Ok(read) } else { Err(BuildError::Role { wanted: role, found: read.role() }) }
}

fn check_changes(changes: &[Change]) -> Result<(), BuildError> {
    if changes.len() > MAX_CHANGES {
        return Err(BuildError::ChangeCount(changes.len()));
    }
    let pairs = changes.iter().zip(changes.iter().skip(1));
    if let Some((_, late)) = pairs.into_iter().find(|(a, b)| a.tag >= b.tag) {
        return Err(BuildError::ChangeOrder(late.tag.clone()));
    }
    match changes.iter().find(|c| c.size == 0 || c.size > MAX_INTEGER) {
        Some(c) => Err(BuildError::ManifestSize { tag: c.tag.clone(), size: c.size }),
        None => Ok(()),
    }
}
