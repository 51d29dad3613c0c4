//! A world for a signing keeper: a log with a key of its own, and a daemon's hand in writing intents.
//!
//! The proofs are made by the plain recursive definitions of RFC 6962, section 2.1, so that they do not rest on the code
//! that checks them. Nothing here is honest by itself: tests change what they were given before they send it.

use ed25519_dalek::Signer;
use record::wire::{Batch, Blob, Child, Extra, Item, Settle};
use record::{
    Action, Change, Completion, Digest, FailureCode, FileRef, Intent, KeeperName, Leaf, Nonce, Origin,
    Outcome, OutcomeKind, Principal, Purpose, Repository, RequestId, Requested, RoleKeys, Sha256, Signature,
    SignedData, Spki, Tag, Time,
};
use std::collections::BTreeMap;
use tlog::{Checkpoint, Hash, VerifierKey};

pub(crate) const ORIGIN: &str = "log.example.com";
pub(crate) const KEEPER: &str = "signing";
pub(crate) const REPOSITORY: &str = "r.example/team/app";
const DAY_S: i64 = 86_400;

/// The log: its leaves' hashes and its key.
pub(crate) struct Log {
    key: ed25519_dalek::SigningKey,
    pub(crate) vkey: VerifierKey,
    leaves: Vec<Hash>,
}

impl Log {
    fn new(origin: &str) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(Sha256::of(origin.as_bytes()).as_bytes());
        let vkey = VerifierKey::new_ed25519(origin, key.verifying_key().to_bytes()).unwrap();
        Self { key, vkey, leaves: vec![] }
    }

    pub(crate) fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    pub(crate) fn append(&mut self, leaf: &[u8]) -> u64 {
        self.leaves.push(tlog::leaf_hash(leaf));
        self.size() - 1
    }

    /// The note over the first `size` leaves.
    pub(crate) fn note(&self, size: u64) -> String {
        self.sign(size, tree(&self.leaves[..size as usize]))
    }

    /// A note over whatever its key's holder likes.
    pub(crate) fn sign(&self, size: u64, root: Hash) -> String {
        let text = Checkpoint { origin: self.vkey.name().into(), size, root }.text();
        let signature = self.key.sign(text.as_bytes()).to_bytes();
        tlog::signed_note(&text, &self.vkey, &signature).unwrap()
    }

    pub(crate) fn inclusion(&self, index: u64) -> Vec<Sha256> {
        wire(path(index as usize, &self.leaves))
    }

    pub(crate) fn consistency(&self, old: u64) -> Vec<Sha256> {
        if old == 0 { vec![] } else { wire(subproof(old as usize, &self.leaves, true)) }
    }
}

fn wire(proof: Vec<Hash>) -> Vec<Sha256> {
    proof.into_iter().map(|h| Sha256::from_bytes(h.0)).collect()
}

fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

fn tree(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => tlog::empty_root(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            tlog::node_hash(&tree(left), &tree(right))
        }
    }
}

fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return vec![];
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut below, beside) =
        if index < k { (path(index, left), tree(right)) } else { (path(index - k, right), tree(left)) };
    below.push(beside);
    below
}

fn subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { vec![] } else { vec![tree(leaves)] };
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut below, beside) = if old <= k {
        (subproof(old, left, whole), tree(right))
    } else {
        (subproof(old - k, right, false), tree(left))
    };
    below.push(beside);
    below
}

/// An intent that stands in the log, with what a keeper needs to act on it.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) intent: Intent,
    pub(crate) extra: Extra,
    pub(crate) index: u64,
    /// What the daemon shows of people's approvals.
    pub(crate) approvals: Vec<Blob>,
}

impl Made {
    /// The file that clients read, with this signature.
    pub(crate) fn seal(&self, world: &World, signature: &Signature) -> Vec<u8> {
        let payload = formats::build(&self.intent, &self.extra, &world.public()).unwrap();
        formats::seal(&self.intent, &self.extra, &payload, &world.spki[&self.intent.purpose], signature)
            .unwrap()
    }

    /// This intent's sealed file as a child of another.
    pub(crate) fn child(&self, file: &[u8]) -> Child {
        let leaf = Blob(Leaf::Intent(self.intent.clone()).encode().unwrap());
        Child { file: Blob(file.to_vec()), index: self.index, leaf, inclusion: vec![] }
    }

    fn item(&self) -> Item {
        let intent = Blob(Leaf::Intent(self.intent.clone()).encode().unwrap());
        Item {
            index: self.index,
            intent,
            inclusion: vec![],
            extra: self.extra.clone(),
            approvals: self.approvals.clone(),
        }
    }
}

/// The files of a new collection, each with the intent that it came from.
pub(crate) struct Collection {
    pub(crate) root: (Made, Vec<u8>),
    pub(crate) targets: (Made, Vec<u8>),
    pub(crate) snapshot: (Made, Vec<u8>),
}

/// The log, the keys, and the time at which intents are made.
pub(crate) struct World {
    pub(crate) log: Log,
    pub(crate) spki: BTreeMap<Purpose, Spki>,
    pub(crate) now: Time,
    /// The pin of the first roster, if the charter has one.
    pub(crate) first_roster: Option<Sha256>,
    /// The approval rules of keys that have one, as tables `[[key.approval]]`.
    pub(crate) rules: BTreeMap<Purpose, String>,
    nonce: u64,
}

impl World {
    /// A world with these public keys, one of each purpose, and a log of one leaf.
    pub(crate) fn new(spki: BTreeMap<Purpose, Spki>, now: Time) -> Self {
        Self::of_log(ORIGIN, spki, now)
    }

    /// The same with a log of this name.
    pub(crate) fn of_log(origin: &str, spki: BTreeMap<Purpose, Spki>, now: Time) -> Self {
        let mut log = Log::new(origin);
        log.append(b"genesis");
        Self { log, spki, now, first_roster: None, rules: BTreeMap::new(), nonce: 0 }
    }

    /// The charter for these keys; `CKA_ID` 01 to 04 in the order of the purposes.
    pub(crate) fn charter(&self) -> String {
        let mut text = format!(
            "schema = 1\nkeeper = \"{KEEPER}\"\norigin = \"{}\"\nlog_vkey = \"{}\"\n",
            self.log.vkey.name(),
            self.log.vkey
        );
        if let Some(pin) = self.first_roster {
            text.push_str(&format!("roster_sha256 = \"{pin}\"\n"));
        }
        for (number, purpose) in (1..).zip(Purpose::ALL) {
            let rule = self.rules.get(&purpose);
            let (none, tables) = rule.map_or(("approval = \"none\"\n", ""), |tables| ("", tables));
            let days = if purpose == Purpose::Timestamp { 31 } else { 1100 };
            text.push_str(&format!(
                "\n[[key]]\nspki = {}\ncka_id = \"{number:02}\"\npurpose = \"{purpose}\"\n\
                 repositories = [\"r.example/team/\"]\n{none}signatures_per_hour = 10000\n\
                 max_validity_days = {days}\n{tables}",
                serde_json::to_string(&self.spki[&purpose]).unwrap(),
            ));
        }
        text
    }

    pub(crate) fn public(&self) -> formats::Keys {
        self.spki.values().cloned().collect()
    }

    pub(crate) fn in_days(&self, days: i64) -> Time {
        self.now.plus_s(days * DAY_S).whole_seconds()
    }

    /// An intent for `action`, its payload not yet filled in.
    pub(crate) fn intent(&mut self, repository: &str, action: Action) -> Intent {
        self.nonce += 1;
        let purpose = action.purpose();
        Intent {
            log: Origin::parse(self.log.vkey.name()).unwrap(),
            keeper: KeeperName::parse(KEEPER).unwrap(),
            key: self.spki[&purpose].id(),
            purpose,
            format: action.format(),
            time: self.now,
            nonce: Nonce::parse(&format!("{:032x}", self.nonce)).unwrap(),
            repository: Repository::parse(repository).unwrap(),
            policy: None,
            requested: None,
            retries: None,
            action,
            payload: Sha256::of(b"not built"),
            payload_sha384: None,
        }
    }

    /// Fills in the payload as an honest daemon does, and logs the intent.
    pub(crate) fn make(&mut self, mut intent: Intent, extra: Extra) -> Made {
        let payload = formats::build(&intent, &extra, &self.public()).unwrap();
        intent.payload = Sha256::of(&payload);
        self.put(intent, extra)
    }

    /// Logs the intent as it is.
    pub(crate) fn put(&mut self, intent: Intent, extra: Extra) -> Made {
        let index = self.log.append(&Leaf::Intent(intent.clone()).encode().unwrap());
        Made { intent, extra, index, approvals: vec![] }
    }

    /// The first targets of a collection, with one tag.
    pub(crate) fn first_targets(&mut self, repository: &str, tag: &str) -> Made {
        let intent = self.intent(repository, targets(repository, 1, self.in_days(365), None, tag));
        self.make(intent, Extra::Targets { prev: None })
    }

    /// The targets after `prev`, whose sealed file is `file`.
    pub(crate) fn next_targets(&mut self, prev: &Made, file: &[u8], version: u64, tag: &str) -> Made {
        let repository = prev.intent.repository.clone();
        let action = targets(repository.as_str(), version, self.in_days(365), Some(prev.intent.payload), tag);
        let intent = self.intent(repository.as_str(), action);
        self.make(intent, Extra::Targets { prev: Some(Blob(file.to_vec())) })
    }

    /// The certificate of the root key for a collection.
    pub(crate) fn certificate(&mut self, repository: &str) -> Made {
        let action = Action::RootCertificate {
            serial: Nonce::parse(&format!("{:032x}", 77)).unwrap(),
            not_before: self.now.whole_seconds(),
            not_after: self.in_days(1000),
        };
        let intent = self.intent(repository, action);
        self.make(intent, Extra::RootCertificate {})
    }

    /// A collection's first root.
    pub(crate) fn root(&mut self, repository: &str, certificate: &[u8]) -> Made {
        let of = |purpose| self.spki[&purpose].id();
        let roles = RoleKeys {
            root: of(Purpose::Root),
            targets: of(Purpose::Targets),
            snapshot: of(Purpose::Snapshot),
            timestamp: of(Purpose::Timestamp),
        };
        let expires = self.in_days(1000);
        let action = Action::Root { version: 1, expires, certificate: Sha256::of(certificate), roles };
        let intent = self.intent(repository, action);
        self.make(intent, Extra::Root { certificate: Blob(certificate.to_vec()) })
    }

    /// A snapshot over these files.
    pub(crate) fn snapshot(&mut self, repository: &str, version: u64, root: Child, targets: Child) -> Made {
        let (of_root, of_targets) = (FileRef::of(&root.file.0), FileRef::of(&targets.file.0));
        let expires = self.in_days(1000);
        let action = Action::Snapshot { version, expires, root: of_root, targets: of_targets };
        let intent = self.intent(repository, action);
        self.make(intent, Extra::Snapshot { root, targets })
    }

    /// A timestamp over this snapshot.
    pub(crate) fn timestamp(&mut self, repository: &str, version: u64, snapshot: Child) -> Made {
        let action =
            Action::Timestamp { version, expires: self.in_days(14), snapshot: FileRef::of(&snapshot.file.0) };
        let intent = self.intent(repository, action);
        self.make(intent, Extra::Timestamp { snapshot })
    }

    /// Certificate, root, targets, snapshot and timestamp of a new collection; `through` has each signed and settled, and
    /// gives back its sealed file.
    pub(crate) fn collection(
        &mut self,
        repository: &str,
        mut through: impl FnMut(&mut Self, &Made) -> Vec<u8>,
    ) -> Collection {
        let certificate = self.certificate(repository);
        let der = through(self, &certificate);
        let root = self.root(repository, &der);
        let root = (root.clone(), through(self, &root));
        let targets = self.first_targets(repository, "v1");
        let targets = (targets.clone(), through(self, &targets));
        let snapshot = self.snapshot(repository, 1, root.0.child(&root.1), targets.0.child(&targets.1));
        let snapshot = (snapshot.clone(), through(self, &snapshot));
        let timestamp = self.timestamp(repository, 1, snapshot.0.child(&snapshot.1));
        through(self, &timestamp);
        Collection { root, targets, snapshot }
    }

    /// Logs the completion of `made` and asks to settle it by that.
    pub(crate) fn completion(&mut self, made: &Made, signature: &Signature) -> Settle {
        let spki = self.spki[&made.intent.purpose].clone();
        let data = SignedData::Sha256(made.intent.payload);
        let completion = Completion::new(spki, data, signature.clone()).unwrap();
        self.settle(made.index, &Leaf::Completion(completion))
    }

    /// Logs an outcome of `made` and asks to settle it by that.
    pub(crate) fn outcome(&mut self, made: &Made, outcome: OutcomeKind) -> Settle {
        let leaf = Leaf::Outcome(Outcome {
            intent: made.index,
            outcome,
            time: self.now,
            keeper: made.intent.keeper.clone(),
            code: Some(FailureCode::parse("test").unwrap()),
        });
        self.settle(made.index, &leaf)
    }

    /// Logs `leaf` and asks to settle the item at `index` by it.
    pub(crate) fn settle(&mut self, index: u64, leaf: &Leaf) -> Settle {
        let bytes = leaf.encode().unwrap();
        let at = self.log.append(&bytes);
        Settle { index, leaf: Blob(bytes), at, inclusion: vec![] }
    }

    /// A frame for a keeper that has seen `seen` leaves, with all proofs in the log as it is now.
    pub(crate) fn batch(&self, seen: u64, sign: &[&Made], settle: Vec<Settle>) -> Batch {
        let mut batch = Batch {
            note: self.log.note(self.log.size()),
            from: seen,
            consistency: self.log.consistency(seen),
            settle,
            void: vec![],
            sign: sign.iter().map(|made| made.item()).collect(),
        };
        batch.settle.iter_mut().for_each(|s| s.inclusion = self.log.inclusion(s.at));
        for item in &mut batch.sign {
            item.inclusion = self.log.inclusion(item.index);
            children(&mut item.extra).into_iter().for_each(|c| c.inclusion = self.log.inclusion(c.index));
        }
        batch
    }
}

/// Targets metadata with one change: an image of this repository. The bytes themselves name no repository.
pub(crate) fn targets(
    repository: &str,
    version: u64,
    expires: Time,
    prev: Option<Sha256>,
    tag: &str,
) -> Action {
    let change = Change {
        tag: Tag::parse(tag).unwrap(),
        digest: Digest::of(format!("{repository}:{tag}").as_bytes()),
        size: 525,
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        requested: Requested {
            request: RequestId::new(expires),
            by: Principal::parse("token:test").unwrap(),
            rules: vec!["allow".into()],
            decision: None,
            statement: None,
        },
    };
    Action::Targets { version, expires, prev, changes: vec![change] }
}

fn children(extra: &mut Extra) -> Vec<&mut Child> {
    match extra {
        Extra::Snapshot { root, targets } => vec![root, targets],
        Extra::Timestamp { snapshot } => vec![snapshot],
        _ => vec![],
    }
}
