//! What a daemon would write: the intents and completions of many collections, and now and then a refusal.

use super::keys::Session;
use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use formats::{Keys, build, seal};
use record::{
    Action, Change, Clock, Completion, Denial, Digest, Event, FileRef, Intent, KeeperRecord, Leaf, Nonce,
    PolicyStamp, Principal, Purpose, Reason, Repository, RequestId, Requested, Sha256, Signature,
    SystemClock, Tag, Time,
    wire::{Blob, Child, Extra},
};
use std::collections::VecDeque;

/// The most entries that one call of [`Author::publish`] writes: a collection's first version and a refusal.
pub(super) const LONGEST: usize = 11;
/// Tags that move in each collection: what a targets file holds does not grow with the log.
const TAGS: u64 = 10;
/// Every so many versions of all collections, a request is refused.
const REFUSED: u64 = 16;
/// How long files are valid, as the service's policy has it by default.
const DAY_S: i64 = 86_400;
const YEAR_S: i64 = 365 * DAY_S;

/// Writes for its share of the collections, one version of each in turn.
pub(super) struct Author {
    session: Session,
    keys: Keys,
    policy: PolicyStamp,
    collections: VecDeque<Collection>,
    written: u64,
}

/// A collection between two versions.
struct Collection {
    repository: Repository,
    version: u64,
    root: Option<Vec<u8>>,
    /// The payload's hash and the file.
    targets: Option<(Sha256, Vec<u8>)>,
}

/// A signed file, and the leaves that tell of it.
struct Signed {
    payload: Sha256,
    file: Vec<u8>,
    leaves: [Vec<u8>; 2],
}

impl Author {
    /// Writes for repositories with these names below the keys' prefix.
    pub(super) fn new(session: Session, names: impl Iterator<Item = String>) -> Result<Self> {
        let keys = session.names.spkis.iter().cloned().collect();
        let of = |name: String| {
            let repository = format!("{}{name}", session.names.prefix).parse()?;
            Ok(Collection { repository, version: 0, root: None, targets: None })
        };
        let collections = names.map(of).collect::<Result<_>>()?;
        let policy = PolicyStamp { set: Sha256::of(b"grown"), schema: Sha256::of(b"grown") };
        Ok(Self { session, keys, policy, collections, written: 0 })
    }

    /// The entries of the next version of the next collection, as its publishing loop writes them.
    pub(super) fn publish(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut collection = self.collections.pop_front().context("an author has no repository")?;
        let mut leaves = Vec::with_capacity(LONGEST);
        let root = match collection.root.take() {
            Some(root) => root,
            None => self.root(&collection.repository, &mut leaves)?,
        };
        collection.version += 1;
        let targets = self.targets(&collection)?;
        let snapshot = self.snapshot(&collection, &root, &targets.file)?;
        let timestamp = self.timestamp(&collection, &snapshot.file)?;
        self.written += 1;
        if self.written.is_multiple_of(REFUSED) {
            leaves.push(self.denial(&collection.repository)?);
        }
        collection.root = Some(root);
        collection.targets = Some((targets.payload, targets.file));
        leaves.extend([targets.leaves, snapshot.leaves, timestamp.leaves].into_iter().flatten());
        self.collections.push_back(collection);
        Ok(leaves)
    }

    fn root(&self, repository: &Repository, leaves: &mut Vec<Vec<u8>>) -> Result<Vec<u8>> {
        let now = SystemClock.now().whole_seconds();
        let (not_before, not_after) = (now.plus_s(-DAY_S), now.plus_s(10 * YEAR_S));
        let action = Action::RootCertificate { serial: Nonce::random()?, not_before, not_after };
        let certificate = self.sign(repository, action, &Extra::RootCertificate {})?;
        let action = Action::Root {
            version: 1,
            expires: now.plus_s(10 * YEAR_S - DAY_S),
            certificate: Sha256::of(&certificate.file),
            roles: self.session.names.roles(),
        };
        let root = self.sign(repository, action, &Extra::Root { certificate: Blob(certificate.file) })?;
        leaves.extend(certificate.leaves.into_iter().chain(root.leaves));
        Ok(root.file)
    }

    fn targets(&self, collection: &Collection) -> Result<Signed> {
        let now = SystemClock.now();
        let change = Change {
            tag: tag(collection.version)?,
            digest: digest(&collection.repository, collection.version),
            size: 1_024,
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            requested: Requested {
                request: RequestId::new(now),
                by: Principal::parse("token:grown")?,
                rules: vec!["signers".into()],
                decision: None,
                statement: None,
            },
        };
        let action = Action::Targets {
            version: collection.version,
            expires: now.whole_seconds().plus_s(3 * YEAR_S),
            prev: collection.targets.as_ref().map(|(payload, _)| *payload),
            changes: vec![change],
        };
        let prev = collection.targets.as_ref().map(|(_, file)| Blob(file.clone()));
        self.sign(&collection.repository, action, &Extra::Targets { prev })
    }

    fn snapshot(&self, collection: &Collection, root: &[u8], targets: &[u8]) -> Result<Signed> {
        let action = Action::Snapshot {
            version: collection.version,
            expires: SystemClock.now().whole_seconds().plus_s(3 * YEAR_S),
            root: FileRef::of(root),
            targets: FileRef::of(targets),
        };
        let extra = Extra::Snapshot { root: child(root), targets: child(targets) };
        self.sign(&collection.repository, action, &extra)
    }

    fn timestamp(&self, collection: &Collection, snapshot: &[u8]) -> Result<Signed> {
        let action = Action::Timestamp {
            version: collection.version,
            expires: SystemClock.now().whole_seconds().plus_s(14 * DAY_S),
            snapshot: FileRef::of(snapshot),
        };
        self.sign(&collection.repository, action, &Extra::Timestamp { snapshot: child(snapshot) })
    }

    /// The whole way of one signature: intent, the token, completion, file.
    fn sign(&self, repository: &Repository, action: Action, extra: &Extra) -> Result<Signed> {
        let names = &self.session.names;
        let purpose = action.purpose();
        let by_itself = matches!(purpose, Purpose::Snapshot | Purpose::Timestamp);
        let requested = |now| {
            anyhow::Ok(Requested {
                request: RequestId::new(now),
                by: Principal::parse("token:grown")?,
                rules: vec!["signers".into()],
                decision: None,
                statement: None,
            })
        };
        let now = SystemClock.now();
        let mut intent = Intent {
            log: names.log.clone(),
            keeper: names.keeper.clone(),
            key: names.spki(purpose).id(),
            purpose,
            format: action.format(),
            time: now,
            nonce: Nonce::random()?,
            repository: repository.clone(),
            policy: (!by_itself).then_some(self.policy),
            requested: (purpose == Purpose::Root).then(|| requested(now)).transpose()?,
            retries: None,
            payload: Sha256::of(b""),
            payload_sha384: None,
            action,
        };
        let bytes = build(&intent, extra, &self.keys)?;
        let spki = names.spki(purpose).clone();
        let data = intent.name_payload(spki.algorithm(), &bytes)?;
        let completion = Completion::new(spki, data, self.session.sign(purpose, &intent.payload)?)?;
        let file = match purpose {
            Purpose::Root => seal(&intent, extra, &bytes, completion.spki(), completion.signature())?,
            _ => envelope(&bytes, names.metadata_id(purpose), completion.signature()),
        };
        let payload = intent.payload;
        let leaves = [Leaf::Intent(intent).encode()?, Leaf::Completion(completion).encode()?];
        Ok(Signed { payload, file, leaves })
    }

    fn denial(&self, repository: &Repository) -> Result<Vec<u8>> {
        let now = SystemClock.now();
        let denial = Denial {
            request: RequestId::new(now),
            by: Principal::parse("token:stranger")?,
            time: now,
            nonce: Nonce::random()?,
            action: "sign".into(),
            repository: repository.clone(),
            tag: Some(tag(self.written)?),
            digest: Some(digest(repository, self.written)),
            policy: self.policy,
            evidence: None,
            reasons: vec![Reason {
                rule: "signers".into(),
                remedy: "final".into(),
                message: "this token may not sign for the repository".into(),
            }],
        };
        Ok(Leaf::Denial(denial).encode()?)
    }
}

/// The file that `formats::seal` makes of these, without the check of the signature, which would take most of the time:
/// the refill makes the check, and refuses a log whose next file names another one.
fn envelope(payload: &[u8], keyid: &str, signature: &Signature) -> Vec<u8> {
    let signature = STANDARD.encode(signature.to_raw());
    let signatures =
        format!(",\"signatures\":[{{\"keyid\":\"{keyid}\",\"method\":\"ecdsa\",\"sig\":\"{signature}\"}}]}}");
    [b"{\"signed\":", payload, signatures.as_bytes()].concat()
}

/// The entry by which a keeper presents itself.
pub(super) fn presented(keeper: KeeperRecord) -> Result<Vec<u8>> {
    let event = Event::Keeper { time: SystemClock.now(), nonce: Nonce::random()?, keeper };
    Ok(Leaf::Event(event).encode()?)
}

/// An entry about nothing but itself.
pub(super) fn event() -> Result<Vec<u8>> {
    let until: Time = SystemClock.now();
    let (from, nonce) = (until.plus_s(-60), Nonce::random()?);
    Ok(Leaf::Event(Event::RefusalsCounted { time: until, nonce, by: None, from, until, count: 1 })
        .encode()?)
}

fn tag(version: u64) -> Result<Tag> {
    Ok(Tag::parse(&format!("v{}", version % TAGS))?)
}

fn digest(repository: &Repository, version: u64) -> Digest {
    Digest::of(format!("{repository}:{version}").as_bytes())
}

/// A child for building: its proof is the keeper's concern, who is not asked.
fn child(file: &[u8]) -> Child {
    Child { file: Blob(file.to_vec()), index: 0, leaf: Blob(vec![]), inclusion: vec![] }
}
