//! A small log made in a test: software keys, real leaves, real tiles, written as a server publishes them.

mod collection;
mod events;

pub(crate) use collection::Collection;
pub(crate) use events::every_event;

use super::{LogSource, Trust};
use ed25519_dalek::{Signer, SigningKey};
use p256::ecdsa::{SigningKey as P256Key, signature::hazmat::PrehashSigner};
use record::{
    Action, Allowance, Change, Completion, Continues, Denial, Evidence, Genesis, Intent, KeeperRecord,
    KeyRecord, Leaf, Nonce, Outcome, OutcomeKind, PolicyStamp, Purpose, Reason, Requested, Sha256, Signature,
    SignedData, Spki, Time,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tlog::{Checkpoint, Frontier, TileId, TileKind, VerifierKey, encode_bundle, encode_tile, leaf_hash};

const ORIGIN: &str = "log.chancery.test";

/// The entries of a log, and the key that signs its checkpoints.
pub(crate) struct Log {
    entries: Vec<Vec<u8>>,
    key: SigningKey,
}

/// A log's files at one size, in a folder of their own.
pub(crate) struct Published {
    dir: tempfile::TempDir,
    pub(crate) note: String,
}

pub(crate) fn time(n: u64) -> Time {
    Time::from_unix_ms(1_790_000_000_000).unwrap().plus_s(i64::try_from(n).unwrap())
}

fn nonce(n: u64) -> Nonce {
    Nonce::parse(&format!("{n:032x}")).unwrap()
}

fn image_key() -> P256Key {
    P256Key::from_slice(&[7; 32]).unwrap()
}

fn spki() -> Spki {
    Spki::from_sec1(image_key().verifying_key().to_sec1_point(false).as_bytes()).unwrap()
}

/// The id of the key that signs.
pub(crate) fn key() -> record::KeyId {
    spki().id()
}

fn payload(content: u64) -> Sha256 {
    Sha256::of(&content.to_be_bytes())
}

/// An intent whose payload is a function of `content`; `n` makes it one of its own.
pub(crate) fn intent(n: u64, content: u64) -> Leaf {
    let action = Action::Targets {
        version: n.max(1),
        expires: time(1_000_000).whole_seconds(),
        prev: None,
        changes: vec![Change {
            tag: format!("v{content}").parse().unwrap(),
            digest: record::Digest::of(&content.to_be_bytes()),
            size: 7,
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            requested: Requested {
                request: record::RequestId::new(time(n)),
                by: "token:ci".parse().unwrap(),
                rules: vec!["builtin/sign".into()],
                decision: None,
                statement: None,
            },
        }],
    };
    Leaf::Intent(Intent {
        log: ORIGIN.parse().unwrap(),
        keeper: "signing".parse().unwrap(),
        key: spki().id(),
        purpose: Purpose::Targets,
        format: action.format(),
        time: time(n),
        nonce: nonce(n),
        repository: "r.example/a".parse().unwrap(),
        policy: None,
        requested: None,
        retries: None,
        action,
        payload: payload(content),
        payload_sha384: None,
    })
}

/// The signature over the payload of `content`.
pub(crate) fn completion(content: u64) -> Leaf {
    let made: p256::ecdsa::Signature = image_key().sign_prehash(payload(content).as_bytes()).unwrap();
    let signature = Signature::from_raw(&made.to_bytes()).unwrap();
    Leaf::Completion(Completion::new(spki(), SignedData::Sha256(payload(content)), signature).unwrap())
}

/// What the signing keeper presents.
fn keeper() -> KeeperRecord {
    let key = KeyRecord {
        spki: spki(),
        purpose: Purpose::Targets,
        repositories: vec!["r.example/".into()],
        evidence: vec!["CKA_LOCAL=true".into()],
    };
    KeeperRecord { name: "signing".parse().unwrap(), charter: Sha256::of(b"charter"), keys: vec![key] }
}

/// A refused request for a tag.
pub(crate) fn denial(n: u64, tag: &str) -> Leaf {
    let reason = Reason {
        rule: "builtin/frozen".into(),
        remedy: "retry".into(),
        message: "=frozen, \"for now\"".into(),
    };
    Leaf::Denial(Denial {
        request: record::RequestId::new(time(n)),
        by: "token:ci".parse().unwrap(),
        time: time(n),
        nonce: nonce(n),
        action: "sign".into(),
        repository: "r.example/a".parse().unwrap(),
        tag: Some(tag.parse().unwrap()),
        digest: None,
        policy: PolicyStamp { set: Sha256::of(b"set"), schema: Sha256::of(b"schema") },
        evidence: None,
        reasons: vec![reason],
    })
}

/// A decision for the change that [`intent`] makes of `content`, and that intent, which names it.
pub(crate) fn decided(n: u64, content: u64) -> [Leaf; 2] {
    let Leaf::Intent(mut intent) = intent(n, content) else { panic!("no intent") };
    intent.policy = Some(PolicyStamp { set: Sha256::of(b"set"), schema: Sha256::of(b"schema") });
    let Action::Targets { changes, .. } = &mut intent.action else { panic!("no targets") };
    let change = &mut changes[0];
    let allowance = Leaf::Allowance(Allowance {
        request: change.requested.request.clone(),
        by: change.requested.by.clone(),
        time: time(n),
        nonce: nonce(n),
        action: "sign".into(),
        repository: intent.repository.clone(),
        tag: Some(change.tag.clone()),
        digest: Some(change.digest),
        policy: intent.policy.unwrap(),
        rules: change.requested.rules.clone(),
        evidence: Evidence { facts: serde_json::json!({ "now": "then" }), engine: "cedar".into() },
    });
    change.requested.decision = Some(Sha256::of(&allowance.encode().unwrap()));
    [allowance, Leaf::Intent(intent)]
}

/// The end of an intent without a signature.
pub(crate) fn outcome(intent: u64, outcome: OutcomeKind) -> Leaf {
    outcome_by("signing", intent, outcome)
}

fn outcome_by(keeper: &str, intent: u64, outcome: OutcomeKind) -> Leaf {
    let keeper = keeper.parse().unwrap();
    Leaf::Outcome(Outcome { intent, outcome, time: time(intent), keeper, code: None })
}

impl Log {
    /// A log with its genesis entry.
    pub(crate) fn new() -> Self {
        Self::begun(vec![keeper()], None)
    }

    /// A log with its genesis entry, which continues another log.
    pub(crate) fn continuing(former: Continues) -> Self {
        Self::begun(vec![keeper()], Some(former))
    }

    /// A log that began without a keeper.
    pub(crate) fn without_keepers() -> Self {
        Self::begun(Vec::new(), None)
    }

    fn begun(keepers: Vec<KeeperRecord>, continues: Option<Continues>) -> Self {
        let mut log = Self { entries: Vec::new(), key: SigningKey::from_bytes(&[3; 32]) };
        log.push(Leaf::Genesis(Genesis {
            log: ORIGIN.parse().unwrap(),
            vkey: log.vkey().to_string(),
            time: time(0),
            nonce: nonce(0),
            keepers,
            continues,
        }));
        log
    }

    /// A log of intents, each with its completion behind the next one's intent.
    pub(crate) fn with_requests(requests: u64) -> Self {
        Self::with_contents(1..=requests)
    }

    /// Another log of the same key, with the same number of entries.
    pub(crate) fn with_other_requests(requests: u64) -> Self {
        Self::with_contents(1_000_001..=1_000_000 + requests)
    }

    fn with_contents(contents: impl Iterator<Item = u64>) -> Self {
        let mut log = Self::new();
        let mut last = None;
        for content in contents {
            log.push(intent(log.size(), content));
            if let Some(before) = last.replace(content) {
                log.push(completion(before));
            }
        }
        if let Some(content) = last {
            log.push(completion(content));
        }
        log
    }

    pub(crate) fn push(&mut self, leaf: Leaf) {
        self.entries.push(leaf.encode().unwrap());
    }

    pub(crate) fn push_bytes(&mut self, bytes: Vec<u8>) {
        self.entries.push(bytes);
    }

    pub(crate) fn push_outcome_by(&mut self, keeper: &str, intent: u64) {
        self.push(outcome_by(keeper, intent, OutcomeKind::Void));
    }

    pub(crate) fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(Vec::as_slice)
    }

    pub(crate) fn vkey(&self) -> VerifierKey {
        VerifierKey::new_ed25519(ORIGIN, self.key.verifying_key().to_bytes()).unwrap()
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust { key: self.vkey(), policy: None }
    }

    /// Writes what a server publishes at `size`.
    pub(crate) fn published(&self, size: u64) -> Published {
        let dir = tempfile::tempdir().unwrap();
        let entries = &self.entries[..usize::try_from(size).unwrap()];
        let mut frontier = Frontier::default();
        let mut tiles: BTreeMap<TileId, Vec<tlog::Hash>> = BTreeMap::new();
        for entry in entries {
            frontier.append_with(leaf_hash(entry), |tile, _, hash| tiles.entry(tile).or_default().push(hash));
        }
        for path in tlog::tile_paths(size) {
            let bytes = match (path.kind(), path.tile()) {
                (TileKind::Entries, _) | (_, None) => {
                    let from = usize::try_from(path.index()).unwrap() * 256;
                    let until = from + usize::try_from(path.width()).unwrap();
                    encode_bundle(entries[from..until].iter().map(Vec::as_slice)).unwrap()
                }
                (_, Some(tile)) => encode_tile(&tiles[&tile]),
            };
            write(&dir.path().join(path.to_string()), &bytes);
        }
        let text = Checkpoint { origin: ORIGIN.into(), size, root: frontier.root() }.text();
        let note =
            tlog::signed_note(&text, &self.vkey(), &self.key.sign(text.as_bytes()).to_bytes()).unwrap();
        write(&dir.path().join("checkpoint"), note.as_bytes());
        Published { dir, note }
    }
}

/// Backups as the daemon makes them.
impl Log {
    /// A first backup whose checkpoint covers `size` entries.
    pub(crate) fn backed_up(&self, size: u64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        self.back_up_into(dir.path(), size).unwrap();
        dir
    }

    /// A backup into a folder that may have one; how many files were written.
    pub(crate) fn back_up_into(&self, dir: &Path, size: u64) -> Result<u64, backup::BackupError> {
        let mut draft = backup::Draft::open(dir)?;
        let published = self.published(size);
        for path in tlog::tile_paths(size).map(|path| path.to_string()) {
            if !draft.keep(&path) {
                let mut file = draft.begin(&path)?;
                file.add(&fs::read(published.dir.path().join(&path)).unwrap())?;
                draft.end(file)?;
            }
        }
        for (bundle, width, path) in backup::payload_paths(self.size()) {
            if !draft.keep(&path) {
                let mut file = draft.begin(&path)?;
                for payload in
                    self.entries().skip(bundle as usize * 256).take(width as usize).filter_map(payload_of)
                {
                    file.add_payload(&payload)?;
                }
                draft.end(file)?;
            }
        }
        let mut tail = draft.begin_tail()?;
        self.entries().skip(size as usize).try_for_each(|leaf| tail.add_leaf(leaf))?;
        draft.end(tail)?;
        let mut requests = draft.begin_requests()?;
        requests.add_request(&request_row())?;
        draft.end(requests)?;
        let written = draft.written();
        let hash = |hash: tlog::Hash| Sha256::from_bytes(hash.0);
        let mut frontier = Frontier::default();
        self.entries().for_each(|leaf| frontier.append(leaf_hash(leaf)));
        let noted = Checkpoint::open(&published.note, &self.vkey()).unwrap();
        let facts = backup::Facts {
            log: self.vkey().to_string(),
            created: time(self.size()),
            version: "0".into(),
            database_format: 1,
            checkpoint: published.note.clone(),
            noted: (size, hash(noted.root)),
            head: (self.size(), hash(frontier.root())),
            epoch: 1,
            generations: BTreeMap::new(),
        };
        draft.finish(facts, 1).map(|_| written)
    }
}

/// The bytes that an intent of [`intent`] asks to sign.
fn payload_of(leaf: &[u8]) -> Option<Vec<u8>> {
    let Ok(Leaf::Intent(Intent { action: Action::Targets { changes, .. }, .. })) = Leaf::decode(leaf) else {
        return None;
    };
    let content: u64 = changes[0].tag.as_str().strip_prefix('v')?.parse().ok()?;
    Some(content.to_be_bytes().to_vec())
}

fn request_row() -> backup::RequestRow {
    backup::RequestRow {
        id: record::RequestId::new(time(1)),
        by: "token:ci".parse().unwrap(),
        caller: None,
        idempotency_key: "key-1".into(),
        fingerprint: Sha256::of(b"fingerprint"),
        repository: "r.example/a".parse().unwrap(),
        tag: "v1".parse().unwrap(),
        digest: record::Digest::of(b"image"),
        size: 7,
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        created: time(1),
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

impl Published {
    pub(crate) fn source(&self) -> LogSource {
        LogSource::Dir(self.dir.path().to_owned())
    }

    /// Every published file.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        files(self.dir.path())
    }
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}
