//! One collection from fixed keys: every run makes the same bytes (ECDSA by RFC 6979).

use formats::{BuildError, Keys, build, seal};
use p256::ecdsa::{Signature as P256Signature, SigningKey, signature::hazmat::PrehashSigner};
use record::{
    Action, Change, Digest, FileRef, Intent, KeeperName, Nonce, Origin, Principal, Purpose, Repository,
    RequestId, Requested, RoleKeys, Sha256, Signature, Spki, Tag, Time,
    wire::{Blob, Child, Extra},
};

/// A software key whose secret is one byte, repeated.
pub(crate) struct Key {
    signing: SigningKey,
    pub(crate) spki: Spki,
}

impl Key {
    pub(crate) fn new(seed: u8) -> Self {
        let signing = SigningKey::from_slice(&[seed; 32]).unwrap();
        let spki = Spki::from_sec1(signing.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
        Self { signing, spki }
    }

    pub(crate) fn sign(&self, payload: &[u8]) -> Signature {
        let made: P256Signature = self.signing.sign_prehash(Sha256::of(payload).as_bytes()).unwrap();
        Signature::from_raw(&made.to_bytes()).unwrap()
    }
}

/// A repository with the keys of its roles.
pub(crate) struct Collection {
    pub(crate) gun: Repository,
    pub(crate) root: Key,
    pub(crate) targets: Key,
    pub(crate) snapshot: Key,
    pub(crate) timestamp: Key,
}

pub(crate) const GUN: &str = "registry.example:5000/team/app";

impl Collection {
    pub(crate) fn new(gun: &str) -> Self {
        Self {
            gun: Repository::parse(gun).unwrap(),
            root: Key::new(1),
            targets: Key::new(2),
            snapshot: Key::new(3),
            timestamp: Key::new(4),
        }
    }

    pub(crate) fn key(&self, purpose: Purpose) -> &Key {
        match purpose {
            Purpose::Root => &self.root,
            Purpose::Targets => &self.targets,
            Purpose::Snapshot => &self.snapshot,
            Purpose::Timestamp => &self.timestamp,
        }
    }

    pub(crate) fn keys(&self) -> Keys {
        Purpose::ALL.into_iter().map(|p| self.key(p).spki.clone()).collect()
    }

    pub(crate) fn roles(&self) -> RoleKeys {
        RoleKeys {
            root: self.root.spki.id(),
            targets: self.targets.spki.id(),
            snapshot: self.snapshot.spki.id(),
            timestamp: self.timestamp.spki.id(),
        }
    }

    /// An intent without its payload hash, which the builder does not look at.
    pub(crate) fn intent(&self, action: Action) -> Intent {
        Intent {
            log: Origin::parse("log.example").unwrap(),
            keeper: KeeperName::parse("signing").unwrap(),
            key: self.key(action.purpose()).spki.id(),
            purpose: action.purpose(),
            format: action.format(),
            time: at("2026-11-24T00:00:00.000Z"),
            nonce: nonce(),
            repository: self.gun.clone(),
            policy: None,
            requested: None,
            retries: None,
            payload: Sha256::of(b""),
            payload_sha384: None,
            action,
        }
    }

    pub(crate) fn build(&self, action: Action, extra: &Extra) -> Result<Vec<u8>, BuildError> {
        build(&self.intent(action), extra, &self.keys())
    }

    /// The whole way of one signature: build, sign, seal.
    pub(crate) fn make(&self, action: Action, extra: &Extra) -> Vec<u8> {
        let mut intent = self.intent(action);
        let payload = build(&intent, extra, &self.keys()).unwrap();
        intent.payload = Sha256::of(&payload);
        let key = self.key(intent.purpose);
        seal(&intent, extra, &payload, &key.spki, &key.sign(&payload)).unwrap()
    }

    pub(crate) fn certificate(&self) -> Vec<u8> {
        let action = Action::RootCertificate {
            serial: nonce(),
            not_before: at("2020-01-01T00:00:00.000Z"),
            not_after: at("2095-01-01T00:00:00.000Z"),
        };
        self.make(action, &Extra::RootCertificate {})
    }

    pub(crate) fn root_file(&self, certificate: &[u8]) -> Vec<u8> {
        self.make(self.root_action(certificate), &Extra::Root { certificate: Blob(certificate.to_vec()) })
    }

    pub(crate) fn root_action(&self, certificate: &[u8]) -> Action {
        Action::Root { version: 1, expires: far(), certificate: Sha256::of(certificate), roles: self.roles() }
    }

    pub(crate) fn targets_file(&self, version: u64, prev: Option<&[u8]>, changes: Vec<Change>) -> Vec<u8> {
        let (action, extra) = targets(version, prev, changes);
        self.make(action, &extra)
    }

    pub(crate) fn snapshot_file(&self, version: u64, root: &[u8], targets: &[u8]) -> Vec<u8> {
        let action = Action::Snapshot {
            version,
            expires: far(),
            root: FileRef::of(root),
            targets: FileRef::of(targets),
        };
        self.make(action, &Extra::Snapshot { root: child(root), targets: child(targets) })
    }

    pub(crate) fn timestamp_file(&self, version: u64, expires: Time, snapshot: &[u8]) -> Vec<u8> {
        let action = Action::Timestamp { version, expires, snapshot: FileRef::of(snapshot) };
        self.make(action, &Extra::Timestamp { snapshot: child(snapshot) })
    }

    /// Everything a client reads, after two publications.
    pub(crate) fn files(&self) -> Files {
        let certificate = self.certificate();
        let root = self.root_file(&certificate);
        let first = self.targets_file(1, None, vec![change("latest", b"one"), change("v1.0", b"one")]);
        let targets = self.targets_file(2, Some(&first), vec![change("V1.0", b"2"), change("latest", b"2")]);
        let snapshot = self.snapshot_file(2, &root, &targets);
        let timestamp = self.timestamp_file(2, far(), &snapshot);
        let expired = self.timestamp_file(2, at("2021-01-01T00:00:00.000Z"), &snapshot);
        Files { certificate, root, first, targets, snapshot, timestamp, expired }
    }
}

/// The files of a collection; `first` is the targets file before `targets`, `expired` another timestamp.
pub(crate) struct Files {
    pub(crate) certificate: Vec<u8>,
    pub(crate) root: Vec<u8>,
    pub(crate) first: Vec<u8>,
    pub(crate) targets: Vec<u8>,
    pub(crate) snapshot: Vec<u8>,
    pub(crate) timestamp: Vec<u8>,
    pub(crate) expired: Vec<u8>,
}

pub(crate) fn targets(version: u64, prev: Option<&[u8]>, changes: Vec<Change>) -> (Action, Extra) {
    let named = prev.map(|p| formats::dct::SignedFile::parse(p).unwrap().payload_hash());
    let action = Action::Targets { version, expires: far(), prev: named, changes };
    (action, Extra::Targets { prev: prev.map(|p| Blob(p.to_vec())) })
}

pub(crate) fn change(tag: &str, manifest: &[u8]) -> Change {
    Change {
        tag: Tag::parse(tag).unwrap(),
        digest: Digest::of(manifest),
        size: u64::try_from(manifest.len()).unwrap(),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        requested: Requested {
            request: RequestId::new(at("2026-11-24T00:00:00.000Z")),
            by: Principal::parse("token:test").unwrap(),
            rules: vec![],
            decision: None,
            statement: None,
        },
    }
}

pub(crate) fn child(file: &[u8]) -> Child {
    Child { file: Blob(file.to_vec()), index: 0, leaf: Blob(vec![]), inclusion: vec![] }
}

pub(crate) fn nonce() -> Nonce {
    Nonce::parse("f0e1d2c3b4a5968778695a4b3c2d1e0f").unwrap()
}

pub(crate) fn at(text: &str) -> Time {
    text.parse().unwrap()
}

/// An expiry that no test lives to see.
pub(crate) fn far() -> Time {
    at("2090-01-01T00:00:00.000Z")
}
