//! Whether a file proves what it says, from its own bytes and the log's key.

use super::{
    About, Evidence, FIRST_END, FIRST_OF_ITS_KIND, NO_END, NO_INTENT, Proven, Role, SCHEMA, Shown,
    SignatureShown,
};
use crate::audit::{
    AuditError, Trust,
    ends::intent_faults,
    facts::{Ended, Facts},
    matching::End,
    verify::Witness,
};
use record::{Completion, Event, Genesis, Intent, KeeperRecord, KeyRecord, Leaf};
use std::collections::BTreeMap;
use tlog::{Checkpoint, Hash, leaf_hash};

/// Verifies a file. Nothing but the file is read.
pub(crate) fn verify(bytes: &[u8], trust: &Trust) -> Result<Shown, AuditError> {
    let evidence: Evidence =
        serde_json::from_slice(bytes).map_err(|e| wrong(format!("no evidence file: {e}")))?;
    if evidence.schema != SCHEMA {
        return Err(wrong(format!("its schema is {}, not {SCHEMA}", evidence.schema)));
    }
    let accepted = trust.accept(&evidence.checkpoint)?;
    let mut leaves = BTreeMap::new();
    for entry in &evidence.entries {
        let leaf = opened(entry, &accepted.checkpoint)?;
        if leaves.insert(entry.role, (entry.index, leaf)).is_some() {
            return Err(wrong(format!("two entries have the role {:?}", entry.role)));
        }
    }
    let Some((0, Leaf::Genesis(genesis))) = leaves.remove(&Role::Genesis) else {
        return Err(wrong("the genesis entry is missing"));
    };
    if genesis.vkey != trust.key.to_string()
        || genesis.log.as_str() != trust.key.name()
        || evidence.log != genesis.vkey
    {
        return Err(wrong("it is about another log, or another key of it"));
    }
    let about = Subject { genesis, leaves }.about()?;
    let witnesses = trust.policy.is_some().then(|| accepted.witnesses.iter().map(Witness::from).collect());
    Ok(Shown {
        origin: accepted.checkpoint.origin.clone(),
        size: accepted.checkpoint.size,
        root: accepted.checkpoint.root.to_base64(),
        witnesses,
        about,
        checkpoint: accepted.checkpoint,
    })
}

/// The leaf of an entry that is under the checkpoint.
fn opened(entry: &Proven, checkpoint: &Checkpoint) -> Result<Leaf, AuditError> {
    let at = |why: String| wrong(format!("entry {}: {why}", entry.index));
    let hashes: Vec<Hash> = entry
        .proof
        .iter()
        .map(|h| Hash::from_base64(h))
        .collect::<Result<_, _>>()
        .map_err(|e| at(e.to_string()))?;
    let leaf = leaf_hash(entry.leaf.as_bytes());
    tlog::verify_inclusion(&leaf, entry.index, checkpoint.size, &hashes, &checkpoint.root)
        .map_err(|e| at(e.to_string()))?;
    Leaf::decode(entry.leaf.as_bytes()).map_err(|e| at(e.to_string()))
}

/// The entries of a file but the genesis entry, each of which is in the log.
struct Subject {
    genesis: Genesis,
    leaves: BTreeMap<Role, (u64, Leaf)>,
}

impl Subject {
    /// What the entries say together.
    fn about(mut self) -> Result<About, AuditError> {
        let end = self.leaves.remove(&Role::End);
        let about = match (self.leaves.remove(&Role::Intent), self.leaves.remove(&Role::Entry)) {
            (Some((index, Leaf::Intent(intent))), None) => self.intent(index, intent, end)?,
            (None, Some((index, Leaf::Intent(_)))) => {
                return Err(wrong(format!("entry {index} is an intent, and stands there without its key")));
            }
            (None, Some((index, leaf))) if end.is_none() => About::leaf(index, &leaf),
            (None, None) if end.is_none() => About::leaf(0, &Leaf::Genesis(self.genesis.clone())),
            _ => return Err(wrong("its entries do not belong together")),
        };
        if self.leaves.is_empty() {
            Ok(about)
        } else {
            Err(wrong("it has an entry that belongs to no other"))
        }
    }

    fn intent(&mut self, index: u64, intent: Intent, end: Option<(u64, Leaf)>) -> Result<About, AuditError> {
        if let Some(fault) = intent_faults(&intent, self.genesis.log.as_str()).into_iter().next() {
            return Err(wrong(format!("entry {index}: {fault}")));
        }
        let (presented_at, key) = self.key(index, &intent)?;
        let mut about = About::leaf(index, &Leaf::Intent(intent.clone()));
        let Some((at, end)) = end else {
            about.not_proven.push(NO_END);
            return Ok(about);
        };
        let how = match end {
            Leaf::Completion(completion) if fits(&completion, &intent) && at > index => {
                about.not_proven.push(FIRST_OF_ITS_KIND);
                about.signature = Some(SignatureShown {
                    payload: intent.payload,
                    signature: completion.signature().clone(),
                    public_key: completion.spki().clone(),
                    presented_at,
                    evidence: key.evidence,
                });
                End::Signed
            }
            Leaf::Outcome(outcome)
                if outcome.intent == index && outcome.keeper == intent.keeper && at > index =>
            {
                End::from(outcome.outcome)
            }
            _ => return Err(wrong(format!("entry {at} is not the end of the intent {index}"))),
        };
        about.not_proven.push(FIRST_END);
        about.ended = Some(Ended { end: how, index: Some(at) });
        Ok(about)
    }

    /// Where the intent's keeper presented its key, and as what.
    fn key(&mut self, intent_at: u64, intent: &Intent) -> Result<(u64, KeyRecord), AuditError> {
        let (at, keepers) = match self.leaves.remove(&Role::Keeper) {
            Some((at, Leaf::Event(Event::Keeper { keeper, .. }))) => (at, vec![keeper]),
            Some((at, _)) => return Err(wrong(format!("entry {at} presents no key"))),
            None => (0, self.genesis.keepers.clone()),
        };
        let of_keeper = |keeper: &KeeperRecord| keeper.name == intent.keeper;
        let of_key = |key: &KeyRecord| key.spki.id() == intent.key && key.purpose == intent.purpose;
        let key = keepers.into_iter().filter(of_keeper).flat_map(|keeper| keeper.keys).find(of_key);
        match key {
            Some(key) if at < intent_at => Ok((at, key)),
            _ => Err(wrong(format!("entry {at} does not present the key of the intent {intent_at}"))),
        }
    }
}

fn fits(completion: &Completion, intent: &Intent) -> bool {
    completion.is_of(intent) && completion.verifies()
}

impl About {
    fn leaf(index: u64, leaf: &Leaf) -> Self {
        let (kind, facts) = (leaf.kind(), Facts::of(leaf));
        let not_proven = match leaf {
            Leaf::Completion(_) | Leaf::Outcome(_) => vec![NO_INTENT],
            _ => Vec::new(),
        };
        Self { index, kind, facts, ended: None, signature: None, not_proven }
    }
}

fn wrong(why: impl Into<String>) -> AuditError {
    AuditError::Evidence(why.into())
}
