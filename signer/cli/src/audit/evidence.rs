//! Evidence for one signature in one file: the intent, its end, the key's attestation, and the proofs that all of them are
//! under a checkpoint of the log. It is made from a whole verified log and verified without a network or the log.
//!
//! Promises: [`verify`] believes nothing in a file but what the log's key signed, or what hashes lead there from, and says
//! what one file cannot prove.

use super::{
    AuditError, LogSource, Prover, Trust,
    facts::{Ended, Facts},
    matching::End,
    verify::Witness,
    walk::{Walked, walk},
};
use record::{Completion, Event, Genesis, Intent, KeeperRecord, KeyRecord, Leaf, RequestId, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tlog::{Checkpoint, Hash, TILE_WIDTH, leaf_hash};

/// The `schema` member of a file.
const SCHEMA: &str = "chancery.evidence/v1";
/// The longest file: four entries of 64 KiB each, written as JSON strings, with a note and four proofs.
pub(crate) const MAX_EVIDENCE_LEN: u64 = 4 * 1024 * 1024;
/// What a file with a signature does not show.
const FIRST_OF_ITS_KIND: &str = "that no earlier intent for the same bytes and key was open, which the signature would belong to: \
     chancery log verify shows it from the whole log";
/// What a file with an intent alone does not show.
const NO_END: &str = "whether this intent has ended: chancery log search shows it from the whole log";

/// Which entry the evidence is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Index(u64),
    Request(RequestId),
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map(Self::Index).map_err(|_| "no log has an entry of this index".to_owned());
        }
        RequestId::parse(text)
            .map(Self::Request)
            .map_err(|_| "give an entry's index, or a request's id".to_owned())
    }
}

/// A file, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evidence {
    schema: String,
    /// The log's verifier key, for people: whoever verifies brings a key of his own.
    log: String,
    /// The checkpoint with all its signature lines.
    checkpoint: String,
    /// In the order of the log.
    pub(crate) entries: Vec<Proven>,
}

/// An entry and its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proven {
    pub(crate) role: Role,
    pub(crate) index: u64,
    /// The entry's bytes.
    leaf: String,
    /// Base64, the leaf's sibling first.
    proof: Vec<String>,
}

/// What an entry is to the others. Each role is at most once in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Entry 0: the log's name and key, and the keepers with which it began.
    Genesis,
    /// Where the keeper presented the key, if that is not the genesis entry.
    Keeper,
    /// What was to be signed, why, and by whose wish.
    Intent,
    /// The signature, or that there is none.
    End,
    /// Any other entry, such as a denial.
    Entry,
}

/// What a file proves.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    pub(crate) origin: String,
    pub(crate) size: u64,
    pub(crate) root: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) witnesses: Option<Vec<Witness>>,
    #[serde(flatten)]
    pub(crate) about: About,
    #[serde(skip)]
    pub(crate) checkpoint: Checkpoint,
}

/// What a file is about.
#[derive(Debug, Serialize)]
pub(crate) struct About {
    /// The intent, if there is one.
    pub(crate) index: u64,
    pub(crate) kind: &'static str,
    #[serde(flatten)]
    pub(crate) facts: Facts,
    #[serde(flatten)]
    pub(crate) ended: Option<Ended>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<SignatureShown>,
    pub(crate) not_proven: Vec<&'static str>,
}

/// A signature that was verified, and what is known of its key.
#[derive(Debug, Serialize)]
pub(crate) struct SignatureShown {
    /// SHA-256 of the signed bytes.
    pub(crate) payload: Sha256,
    /// Base64 of `r || s`.
    pub(crate) signature: record::Signature,
    pub(crate) public_key: record::Spki,
    /// The entry in which the keeper presented the key, and with what evidence.
    pub(crate) presented_at: u64,
    pub(crate) evidence: Vec<String>,
}

/// Verifies the whole log and takes out of it what belongs to one entry or request. Says which other intents name the
/// request.
pub(crate) fn collect(
    source: &LogSource,
    trust: &Trust,
    wanted: &Wanted,
) -> Result<(Evidence, Vec<u64>), AuditError> {
    let mut picker = Picker { wanted, open: BTreeMap::new(), picks: BTreeMap::new(), other: None };
    let Walked { accepted, .. } = walk(source, trust, |index, _, step| picker.step(index, &step))?;
    let size = accepted.checkpoint.size;
    let (roles, others) = picker.roles().ok_or_else(|| match wanted {
        Wanted::Index(index) => AuditError::NoEntry { index: *index, size },
        Wanted::Request(request) => AuditError::NoRequest { request: request.to_string(), size },
    })?;
    let mut prover = Prover::new(source, &accepted.checkpoint);
    let entries =
        roles.into_iter().map(|(index, role)| proven(&mut prover, index, role)).collect::<Result<_, _>>()?;
    let (schema, log) = (SCHEMA.to_owned(), trust.key.to_string());
    Ok((Evidence { schema, log, checkpoint: accepted.note, entries }, others))
}

fn proven(prover: &mut Prover<'_>, index: u64, role: Role) -> Result<Proven, AuditError> {
    let position = usize::try_from(index % TILE_WIDTH).unwrap_or(usize::MAX);
    let bytes = prover.entries(index / TILE_WIDTH)?.into_iter().nth(position);
    let bytes = bytes.ok_or_else(|| AuditError::Log(format!("the bundle of entry {index} is too short")))?;
    let proof = prover.inclusion_of(index, leaf_hash(&bytes))?.hashes;
    let leaf = String::from_utf8(bytes).map_err(|_| {
        AuditError::Log(format!("entry {index} is no text, and so no entry of a Chancery log"))
    })?;
    Ok(Proven { role, index, leaf, proof })
}

/// What a walk picks out.
struct Picker<'a> {
    wanted: &'a Wanted,
    /// Where the key of each open intent was presented.
    open: BTreeMap<u64, Option<u64>>,
    /// The intents that are wanted.
    picks: BTreeMap<u64, Pick>,
    /// Another entry that is wanted.
    other: Option<u64>,
}

#[derive(Clone, Copy)]
struct Pick {
    presented_at: Option<u64>,
    ended: Option<(u64, End)>,
}

impl Picker<'_> {
    fn step(&mut self, index: u64, step: &super::ends::Step) {
        let is_wanted = match (self.wanted, &step.leaf) {
            (Wanted::Index(wanted), _) => *wanted == index,
            (Wanted::Request(request), Some(leaf)) => {
                Facts::of(leaf).asked.iter().any(|asked| asked.request.as_ref() == Some(request))
            }
            (Wanted::Request(_), None) => false,
        };
        if let Some(Leaf::Intent(_)) = &step.leaf {
            self.open.insert(index, step.presented_at);
            if is_wanted {
                self.picks.insert(index, Pick { presented_at: step.presented_at, ended: None });
            }
        } else if let Some(closed) = step.closed {
            let presented_at = self.open.remove(&closed.intent).flatten();
            if is_wanted || self.picks.contains_key(&closed.intent) {
                self.picks.insert(closed.intent, Pick { presented_at, ended: Some((index, closed.end)) });
            }
        } else if is_wanted {
            self.other = Some(index);
        }
    }

    /// The entries of the newest wanted intent that was signed, or else of the newest one; and the other intents.
    fn roles(self) -> Option<(BTreeMap<u64, Role>, Vec<u64>)> {
        let signed = |pick: &Pick| pick.ended.is_some_and(|(_, end)| end == End::Signed);
        let chosen = self.picks.iter().rev().find(|(_, pick)| signed(pick)).or(self.picks.iter().next_back());
        let mut roles = BTreeMap::new();
        let others = match chosen {
            Some((intent, pick)) => {
                roles.extend(pick.presented_at.map(|at| (at, Role::Keeper)));
                roles.insert(*intent, Role::Intent);
                roles.extend(pick.ended.map(|(at, _)| (at, Role::End)));
                self.picks.keys().filter(|index| *index != intent).copied().collect()
            }
            None => {
                roles.insert(self.other?, Role::Entry);
                Vec::new()
            }
        };
        roles.insert(0, Role::Genesis);
        Some((roles, others))
    }
}

impl Evidence {
    /// The note of the checkpoint.
    pub(crate) fn checkpoint(&self) -> &str {
        &self.checkpoint
    }

    /// The file's bytes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, AuditError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| AuditError::Log(e.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

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
                    payload: completion.payload,
                    signature: completion.signature,
                    public_key: completion.spki,
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
    completion.key() == intent.key && completion.payload == intent.payload && completion.verifies()
}

impl About {
    fn leaf(index: u64, leaf: &Leaf) -> Self {
        let (kind, facts) = (leaf.kind(), Facts::of(leaf));
        Self { index, kind, facts, ended: None, signature: None, not_proven: Vec::new() }
    }
}

fn wrong(why: impl Into<String>) -> AuditError {
    AuditError::Evidence(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::synthetic::{Log, completion, denial, intent, outcome};
    use record::OutcomeKind;

    /// A denial, then intents: signed, failed, open.
    fn log() -> Log {
        let mut log = Log::new();
        log.push(denial(1, "v9"));
        log.push(intent(2, 1));
        log.push(intent(3, 2));
        log.push(intent(4, 3));
        log.push(outcome(3, OutcomeKind::Failed));
        log.push(completion(1));
        log
    }

    fn evidence(log: &Log, wanted: Wanted) -> Result<Vec<u8>, AuditError> {
        let published = log.published(log.size());
        collect(&published.source(), &log.trust(), &wanted)?.0.encode()
    }

    fn shown(log: &Log, index: u64) -> About {
        verify(&evidence(log, Wanted::Index(index)).unwrap(), &log.trust()).unwrap().about
    }

    #[test]
    fn evidence_of_a_signature_is_the_same_from_its_intent_and_from_its_completion() {
        let log = log();
        let file = evidence(&log, Wanted::Index(2)).unwrap();
        assert_eq!(file, evidence(&log, Wanted::Index(6)).unwrap());
        let about = shown(&log, 2);
        assert_eq!((about.index, about.kind), (2, "intent"));
        assert_eq!(about.ended, Some(Ended { end: End::Signed, index: Some(6) }));
        let signature = about.signature.unwrap();
        assert_eq!((signature.presented_at, signature.evidence), (0, vec!["CKA_LOCAL=true".to_owned()]));
        assert_eq!(about.not_proven, [FIRST_OF_ITS_KIND]);
    }

    #[test]
    fn every_other_entry_has_evidence_too() {
        let log = log();
        let end = |index| shown(&log, index).ended.map(|ended| (ended.end, ended.index));
        assert_eq!(end(3), Some((End::Failed, Some(5))));
        assert_eq!(end(5), Some((End::Failed, Some(5))));
        assert_eq!(
            (end(4), shown(&log, 4).not_proven),
            (None, vec![NO_END]),
            "a file cannot show what is absent"
        );
        assert_eq!((shown(&log, 1).kind, shown(&log, 0).kind), ("denied", "genesis"));
        let none = evidence(&log, Wanted::Index(7)).unwrap_err();
        assert!(matches!(none, AuditError::NoEntry { index: 7, size: 7 }));
    }

    #[test]
    fn a_request_leads_to_its_signature_or_its_denial() {
        let log = log();
        let requests = |index: u64| {
            let leaf = log.entries().nth(usize::try_from(index).unwrap()).unwrap();
            Facts::of(&Leaf::decode(leaf).unwrap()).asked[0].request.clone().unwrap()
        };
        for (index, end) in [(2, Some(End::Signed)), (1, None)] {
            let file = evidence(&log, Wanted::Request(requests(index))).unwrap();
            let about = verify(&file, &log.trust()).unwrap().about;
            assert_eq!((about.index, about.ended.map(|e| e.end)), (index, end));
        }
        let stranger = Wanted::Request(RequestId::new(crate::audit::synthetic::time(77)));
        assert!(matches!(evidence(&log, stranger), Err(AuditError::NoRequest { size: 7, .. })));
    }

    #[test]
    fn a_file_with_any_altered_entry_proof_or_checkpoint_is_refused() {
        let log = log();
        let whole: serde_json::Value =
            serde_json::from_slice(&evidence(&log, Wanted::Index(2)).unwrap()).unwrap();
        let refused = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut altered = whole.clone();
            change(&mut altered);
            assert_ne!(altered, whole);
            verify(&serde_json::to_vec(&altered).unwrap(), &log.trust()).unwrap_err().to_string()
        };
        assert!(verify(&serde_json::to_vec(&whole).unwrap(), &log.trust()).is_ok());
        let count = whole["entries"].as_array().unwrap().len();
        assert_eq!(count, 3);
        for at in 0..count {
            refused(&|f| {
                f["entries"][at]["index"] = (f["entries"][at]["index"].as_u64().unwrap() + 1).into()
            });
            refused(&|f| {
                f["entries"][at]["leaf"] = format!("{} ", f["entries"][at]["leaf"].as_str().unwrap()).into()
            });
            refused(&|f| f["entries"][at]["proof"][0] = tlog::empty_root().to_base64().into());
            refused(&|f| f["entries"][at]["role"] = "entry".into());
            let twice = refused(&|f| {
                let entry = f["entries"][at].clone();
                f["entries"].as_array_mut().unwrap().push(entry);
            });
            assert!(twice.contains("two entries"), "{twice}");
        }
        for at in 0..2 {
            refused(&|f| drop(f["entries"].as_array_mut().unwrap().remove(at)));
        }
        refused(&|f| f["schema"] = "chancery.evidence/v2".into());
        refused(&|f| f["more"] = true.into());
        refused(&|f| f["log"] = "log+00000000+AQ==".into());
        refused(&|f| {
            f["checkpoint"] = f["checkpoint"].as_str().unwrap().replacen("\n7\n", "\n8\n", 1).into()
        });
    }

    #[test]
    fn ends_of_other_intents_and_keys_that_were_not_presented_are_refused() {
        let log = log();
        let part = |index: u64| -> serde_json::Value {
            serde_json::from_slice(&evidence(&log, Wanted::Index(index)).unwrap()).unwrap()
        };
        let (signed, failed) = (part(2), part(3));
        let mut swapped = signed;
        swapped["entries"][2] = failed["entries"][2].clone();
        let refused = verify(&serde_json::to_vec(&swapped).unwrap(), &log.trust()).unwrap_err();
        assert!(refused.to_string().contains("is not the end of the intent 2"), "{refused}");
        let mut keyless = Log::without_keepers();
        keyless.push(intent(1, 1));
        let file = evidence(&keyless, Wanted::Index(1)).unwrap();
        let refused = verify(&file, &keyless.trust()).unwrap_err();
        assert!(refused.to_string().contains("does not present the key"), "{refused}");
    }

    #[test]
    fn an_entry_is_named_by_its_index_or_its_request() {
        assert_eq!("17".parse(), Ok(Wanted::Index(17)));
        assert!(matches!("0190a7d2-0000-7000-8000-000000000000".parse(), Ok(Wanted::Request(_))));
        for bad in ["", "x", "-1", "99999999999999999999"] {
            assert!(bad.parse::<Wanted>().is_err(), "{bad}");
        }
    }
}
