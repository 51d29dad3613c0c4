//! A collection of a former log, with software keys, as a new log takes it over.

use super::{nonce, time};
use formats::{Keys, build, seal};
use p256::ecdsa::{SigningKey, signature::hazmat::PrehashSigner};
use record::wire::{Blob, Extra};
use record::{Action, Adopted, FileRef, Intent, Purpose, Repository, RoleKeys, Sha256, Signature, Spki};

/// A repository whose roles have a key each.
pub(crate) struct Collection {
    repository: Repository,
}

fn key(role: Purpose) -> SigningKey {
    let (seed, _) = (20..).zip(Purpose::ALL).find(|(_, of)| *of == role).unwrap();
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn spki(role: Purpose) -> Spki {
    Spki::from_sec1(key(role).verifying_key().to_sec1_point(false).as_bytes()).unwrap()
}

impl Collection {
    pub(crate) fn new(repository: &str) -> Self {
        Self { repository: repository.parse().unwrap() }
    }

    /// Its root, taken over.
    pub(crate) fn root(&self) -> Adopted {
        let (not_before, not_after) = (time(0).whole_seconds(), time(1_000_000).whole_seconds());
        let action = Action::RootCertificate { serial: nonce(1), not_before, not_after };
        let (_, certificate) = self.make(action, &Extra::RootCertificate {});
        let roles = RoleKeys {
            root: spki(Purpose::Root).id(),
            targets: spki(Purpose::Targets).id(),
            snapshot: spki(Purpose::Snapshot).id(),
            timestamp: spki(Purpose::Timestamp).id(),
        };
        let hash = Sha256::of(&certificate);
        let action = Action::Root { version: 1, expires: not_after, certificate: hash, roles };
        self.adopted(action, &Extra::Root { certificate: Blob(certificate) })
    }

    /// Its targets, taken over.
    pub(crate) fn targets(&self) -> Adopted {
        self.adopted(targets_action(), &Extra::Targets { prev: None })
    }

    /// Targets that the root key has signed.
    pub(crate) fn signed_by_root(&self) -> Adopted {
        let (mut adopted, action, extra) = (self.targets(), targets_action(), Extra::Targets { prev: None });
        let payload = self.payload(&action, &extra);
        let mut intent = self.intent(&action);
        (intent.payload, intent.key) = (Sha256::of(&payload), spki(Purpose::Root).id());
        let signature = sign(Purpose::Root, &payload);
        Self::put(&mut adopted, seal(&intent, &extra, &payload, &spki(Purpose::Root), &signature).unwrap());
        adopted.key = intent.key;
        adopted
    }

    /// Gives an entry other bytes, of which it says the truth.
    pub(crate) fn put(adopted: &mut Adopted, bytes: Vec<u8>) {
        adopted.file = FileRef::of(&bytes);
        adopted.content = Blob(bytes);
    }

    fn adopted(&self, action: Action, extra: &Extra) -> Adopted {
        let (role, version, expires) = (action.purpose(), action.version().unwrap(), action.expires());
        let (payload, file) = self.make(action, extra);
        Adopted {
            time: time(1),
            nonce: nonce(2),
            repository: self.repository.clone(),
            role,
            version,
            reserved: Some(version + 1),
            key: spki(role).id(),
            payload,
            file: FileRef::of(&file),
            expires,
            parts: 0,
            content: Blob(file),
        }
    }

    /// Hash of the payload, and the signed file.
    fn make(&self, action: Action, extra: &Extra) -> (Sha256, Vec<u8>) {
        let payload = self.payload(&action, extra);
        let mut intent = self.intent(&action);
        intent.payload = Sha256::of(&payload);
        let role = intent.purpose;
        (intent.payload, seal(&intent, extra, &payload, &spki(role), &sign(role, &payload)).unwrap())
    }

    fn payload(&self, action: &Action, extra: &Extra) -> Vec<u8> {
        let keys: Keys = Purpose::ALL.into_iter().map(spki).collect();
        build(&self.intent(action), extra, &keys).unwrap()
    }

    fn intent(&self, action: &Action) -> Intent {
        Intent {
            log: "old.example".parse().unwrap(),
            keeper: "signing".parse().unwrap(),
            key: spki(action.purpose()).id(),
            purpose: action.purpose(),
            format: action.format(),
            time: time(1),
            nonce: nonce(3),
            repository: self.repository.clone(),
            policy: None,
            requested: None,
            retries: None,
            payload: Sha256::of(b""),
            payload_sha384: None,
            action: action.clone(),
        }
    }
}

fn targets_action() -> Action {
    Action::Targets { version: 4, expires: time(1_000_000).whole_seconds(), prev: None, changes: vec![] }
}

fn sign(role: Purpose, payload: &[u8]) -> Signature {
    let made: p256::ecdsa::Signature = key(role).sign_prehash(Sha256::of(payload).as_bytes()).unwrap();
    Signature::from_raw(&made.to_bytes()).unwrap()
}
