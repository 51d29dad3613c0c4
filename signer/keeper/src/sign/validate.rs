//! K1 to K9: what must hold before an item is reserved, in the order in which it is checked.
//!
//! It promises that a [`Checked`] item was built here, byte for byte, from an intent that the log holds, and that the
//! charter allows it now. It changes nothing and does not know files, sockets or tokens.

use super::chain::Step;
use super::charter::{Charter, CharterKey};
use super::people;
use super::refusal::{Code, Refused, chain_of};
use super::results::Results;
use super::settle::included;
use super::state::{MAX_OPEN, MAX_USED, Open, Seen, State};
use formats::dct::{self, SignedFile};
use record::wire::{Batch, Child, Extra, Item};
use record::{Action, Adopted, Event, Intent, KeyId, Leaf, Purpose, Repository, Sha256, SignedData, Time};

/// How far an intent's time may lie from the keeper's clock.
const FRESH_MS: i64 = 300_000;
/// How far the keeper's clock may step back without stopping its work: what NTP corrects.
const CLOCK_BACK_MS: i64 = 5_000;
/// How long a finished item may wait for its leaf in the log before nothing more is signed.
const SETTLE_WITHIN_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What items are checked against, besides the state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// The charter.
    pub(super) charter: &'a Charter,
    /// The time.
    pub(super) now: Time,
}

/// An item that passed every check.
// INVARIANT(own-bytes): only `check` makes one, and `data` is of bytes that this process built.
#[derive(Debug)]
pub(super) struct Checked {
    index: u64,
    key: KeyId,
    data: SignedData,
    item: Open,
    children: Vec<Step>,
}

impl Checked {
    /// Index of the intent.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// The key to use.
    pub(super) fn key(&self) -> KeyId {
        self.key
    }

    /// The bytes to sign, as the key signs them.
    pub(super) fn data(&self) -> &SignedData {
        &self.data
    }

    /// What the journal keeps of it.
    pub(super) fn item(&self) -> &Open {
        &self.item
    }

    /// The versions whose signatures stand in the files that it names.
    pub(super) fn children(&self) -> &[Step] {
        &self.children
    }
}

/// Checks one item against the state as all items before it have left it.
pub(super) fn check(
    item: &Item,
    rules: &Rules<'_>,
    state: &State,
    results: &Results,
) -> Result<Checked, Refused> {
    // K1: the log that was seen holds these bytes at this index.
    included(&item.intent.0, item.index, &item.inclusion, &state.seen)?;
    // K2: they are an intent for this keeper, in this log, for a key of the charter and that key's purpose.
    let intent = intent_in(&item.intent.0)?;
    let key = addressed(&intent, rules.charter)?;
    // Whatever follows spends the index: there must be room to remember it.
    room(state)?;
    active(&intent, key)?;
    // K3: it was made now, by a clock that has not gone back.
    fresh(&intent, rules.now, state.clock)?;
    // K4: neither the index nor the same signature is in use.
    unused(item.index, &intent, state)?;
    // K5: the charter gives the key this repository, and a signature in this hour.
    in_scope(&intent, key, rules.charter)?;
    within_rate(&intent, key, rules.now, state)?;
    // K6: the log has closed what was signed before.
    settled(state, results, rules.now)?;
    // K7: the bytes built here are the bytes that the intent names.
    let data = built(&intent, &item.extra, key, rules.charter)?;
    let payload = intent.payload;
    // K8: the version follows the one before, ends in time, and stands on this collection's own newest files.
    let step = step_of(&intent, payload);
    in_chain(&intent, step.as_ref(), state)?;
    short_lived(&intent, key, rules.now)?;
    let children = children(&intent, &item.extra, rules.charter, state)?;
    // K9: the people whom the key's rule names have approved it.
    if let Some(rule) = &key.rule {
        people::approved(&intent, &item.approvals, rule, state, rules.now)?;
    }

    let open = Open {
        key: intent.key,
        payload,
        payload_sha384: intent.payload_sha384,
        repository: intent.repository,
        role: intent.purpose,
        version: step.map(|s| s.version),
        failed: None,
    };
    Ok(Checked { index: item.index, key: intent.key, data, item: open, children })
}

fn intent_in(leaf: &[u8]) -> Result<Intent, Refused> {
    match Leaf::decode(leaf) {
        Ok(Leaf::Intent(intent)) => Ok(intent),
        Ok(other) => Err(Refused::new(Code::Intent, format!("the leaf is of kind {}", other.kind()))),
        Err(e) => Err(Refused::new(Code::Intent, chain_of(&e))),
    }
}

fn addressed<'a>(intent: &Intent, charter: &'a Charter) -> Result<&'a CharterKey, Refused> {
    let refused = |why: String| Refused::new(Code::Intent, why);
    if intent.log != charter.origin {
        return Err(refused(format!("it is for log {}, this keeper follows {}", intent.log, charter.origin)));
    }
    if intent.keeper != charter.keeper {
        return Err(refused(format!("it is for keeper {}, this is {}", intent.keeper, charter.keeper)));
    }
    let key = charter.key(&intent.key).ok_or_else(|| refused(format!("key {} is not here", intent.key)))?;
    if intent.purpose != key.purpose || intent.action.purpose() != key.purpose {
        return Err(refused(format!("key {} is for {} only", intent.key, key.purpose)));
    }
    if intent.format != intent.action.format() {
        return Err(refused("the format is not that of the action".into()));
    }
    Ok(key)
}

// INVARIANT(retired): a key that its charter calls retired signs nothing, whatever the log says.
fn active(intent: &Intent, key: &CharterKey) -> Result<(), Refused> {
    match key.retired {
        None => Ok(()),
        Some(since) => {
            Err(Refused::new(Code::Retired, format!("key {} is retired since {since}", intent.key)))
        }
    }
}

/// Whether one more index can be remembered.
pub(super) fn room(state: &State) -> Result<(), Refused> {
    if state.used.len() + state.open.len() < MAX_USED {
        return Ok(());
    }
    let remembered = format!("{MAX_USED} spent indices are remembered: those of the last ten minutes");
    let why = match state.open.keys().next() {
        None => format!("{remembered}; wait"),
        Some(oldest) => {
            format!("{remembered}, and all above the oldest open item, {oldest}: settle that, or wait")
        }
    };
    Err(Refused::new(Code::Full, why))
}

fn fresh(intent: &Intent, now: Time, journal_clock: Time) -> Result<(), Refused> {
    if now < journal_clock.plus_ms(-CLOCK_BACK_MS) {
        let why = format!(
            "the clock shows {now}, and an item was signed at {journal_clock}: set the clock right, or, if it was ahead \
             then, wait for that time or retire this keeper"
        );
        return Err(Refused::new(Code::Stale, why));
    }
    let apart = now.unix_ms().abs_diff(intent.time.unix_ms());
    if apart <= FRESH_MS.unsigned_abs() {
        Ok(())
    } else {
        Err(Refused::new(Code::Stale, format!("it was made at {}, now it is {now}", intent.time)))
    }
}

// INVARIANT(once): an index that was refused, reserved or void is never looked at again.
fn unused(index: u64, intent: &Intent, state: &State) -> Result<(), Refused> {
    if state.is_used(index) {
        return Err(Refused::new(Code::Used, "the index was used before"));
    }
    match state.open_twin(intent.key, intent.payload) {
        None => Ok(()),
        Some(twin) => Err(Refused::new(Code::Duplicate, format!("item {twin} asks for the same signature"))),
    }
}

fn in_scope(intent: &Intent, key: &CharterKey, charter: &Charter) -> Result<(), Refused> {
    if !key.covers(&intent.repository) {
        let why = format!("the charter gives key {} no repository {}", intent.key, intent.repository);
        return Err(Refused::new(Code::Scope, why));
    }
    let Action::Root { roles, .. } = &intent.action else { return Ok(()) };
    let fits = |purpose: &Purpose| {
        let id = roles.of(*purpose);
        !charter.is_retired(&id) && charter.role_key(&id, *purpose, &intent.repository).is_some()
    };
    match Purpose::ALL.into_iter().find(|purpose| !fits(purpose)) {
        None => Ok(()),
        Some(role) => Err(Refused::new(Code::Scope, format!("the root's {role} key is not the charter's"))),
    }
}

fn within_rate(intent: &Intent, key: &CharterKey, now: Time, state: &State) -> Result<(), Refused> {
    if state.reserved_this_hour(intent.key, now) < key.signatures_per_hour {
        Ok(())
    } else {
        let why = format!("{} signatures were reserved in this hour", key.signatures_per_hour);
        Err(Refused::new(Code::Rate, why))
    }
}

// INVARIANT(settle): at most MAX_OPEN signatures lack a completion, and none of them for long while others are made.
fn settled(state: &State, results: &Results, now: Time) -> Result<(), Refused> {
    if state.open.len() >= MAX_OPEN {
        return Err(Refused::new(Code::Unsettled, format!("{MAX_OPEN} items are open")));
    }
    match results.oldest_finished() {
        Some(at) if now > at.plus_ms(SETTLE_WITHIN_MS) => {
            Err(Refused::new(Code::Unsettled, format!("an item that ended at {at} is not settled")))
        }
        _ => Ok(()),
    }
}

// INVARIANT(own-bytes): what goes to the key is of the bytes built here, and the intent names them in the hash that the key
// signs: else no completion of it could be matched.
fn built(intent: &Intent, extra: &Extra, key: &CharterKey, charter: &Charter) -> Result<SignedData, Refused> {
    let bytes = formats::build(intent, extra, &charter.public)
        .map_err(|e| Refused::new(Code::Bytes, chain_of(&e)))?;
    let data =
        SignedData::of(key.spki.algorithm(), &bytes).map_err(|e| Refused::new(Code::Bytes, chain_of(&e)))?;
    let payload = Sha256::of(&bytes);
    if payload == intent.payload && data.digest() == intent.digest() {
        Ok(data)
    } else {
        let why = format!("the bytes built here have SHA-256 {payload}, and the key signs {}", data.digest());
        Err(Refused::new(Code::Bytes, why))
    }
}

fn step_of(intent: &Intent, payload: Sha256) -> Option<Step> {
    let (repository, role) = (intent.repository.clone(), intent.purpose);
    intent.action.version().map(|version| Step { repository, role, version, payload })
}

// INVARIANT(chain): see `Chain::allows`.
fn in_chain(intent: &Intent, step: Option<&Step>, state: &State) -> Result<(), Refused> {
    let Some(step) = step else { return Ok(()) };
    if step.role == Purpose::Root && step.version != 1 {
        return Err(Refused::new(Code::Chain, "only a collection's first root is signed without people"));
    }
    let mut allowed = state.chain.allows(step);
    if let Action::Targets { prev, .. } = &intent.action {
        allowed = allowed.and_then(|()| state.chain.builds_on(step, *prev));
    }
    allowed.map_err(|e| Refused::new(Code::Chain, e.to_string()))
}

// INVARIANT(short-life): nothing is signed that outlives the charter's days, counted from now.
fn short_lived(intent: &Intent, key: &CharterKey, now: Time) -> Result<(), Refused> {
    let expires = intent.action.expires();
    let latest = now.plus_ms(i64::from(key.max_validity_days).saturating_mul(DAY_MS));
    if now < expires && expires <= latest {
        Ok(())
    } else {
        let why = format!("it expires at {expires}: that must be after {now} and not after {latest}");
        Err(Refused::new(Code::Validity, why))
    }
}

fn children(intent: &Intent, extra: &Extra, charter: &Charter, state: &State) -> Result<Vec<Step>, Refused> {
    let of = |role, child| {
        newest_child(role, child, &intent.repository, charter, state)
            .map_err(|why| Refused::new(Code::Child, format!("the {role} file: {why}")))
    };
    match extra {
        Extra::Snapshot { root, targets } => {
            Ok(vec![of(Purpose::Root, root)?, of(Purpose::Targets, targets)?])
        }
        Extra::Timestamp { snapshot } => Ok(vec![of(Purpose::Snapshot, snapshot)?]),
        Extra::RootCertificate {} | Extra::Root { .. } | Extra::Targets { .. } => Ok(vec![]),
    }
}

/// Whether a child file is the newest of its role in `repository`: its intent stands in the log and names it, it is
/// signed by that leaf's key, and it is what this keeper reserved last for that collection and role, or what it confirmed
/// last if that was never seen signed.
///
/// The last is what ties a file to its repository. An intent alone does not: whoever writes the log could write one
/// that names another collection's file. Every key of this keeper signs through this journal only, so a file that is
/// not in its chain is older, or another collection's.
///
/// Of a file that was made under the former log this one has no intent. Its `adopted` leaf stands in its place, and gives
/// nothing by itself: the file must be in this keeper's chain since before it followed this log. So must a root of another
/// keeper.
///
/// A root of another keeper's key is not in this journal. Its certificate names the one repository, and its keeper gives
/// no other content to a version: so it is taken as a link of the chain when it is first seen.
fn newest_child(
    role: Purpose,
    child: &Child,
    repository: &Repository,
    charter: &Charter,
    state: &State,
) -> Result<Step, String> {
    included(&child.leaf.0, child.index, &child.inclusion, &state.seen).map_err(|r| r.detail)?;
    let shown = shown_by(&child.leaf.0, role, charter)?;
    if shown.repository != *repository {
        return Err(format!("its leaf is for {}", shown.repository));
    }
    let file = SignedFile::parse(&child.file.0).map_err(|e| chain_of(&e))?;
    if file.payload_hash() != shown.payload {
        return Err("its leaf names other bytes".into());
    }
    signed_by(&file, role, &shown, charter)?;
    let repository = repository.clone();
    let step = Step { repository, role, version: file.version(), payload: file.payload_hash() };
    let allowed = if shown.adopted {
        state.chain.stands_from_former_log(&step)
    } else if charter.is_others(&shown.key) && role == Purpose::Root {
        state.chain.allows(&step)
    } else {
        state.chain.stands(&step)
    };
    allowed.map(|()| step).map_err(|e| e.to_string())
}

/// What a child's leaf says of it.
struct Shown {
    repository: Repository,
    key: KeyId,
    payload: Sha256,
    /// The leaf takes over a file of the former log, for which this one has no intent.
    adopted: bool,
}

fn shown_by(leaf: &[u8], role: Purpose, charter: &Charter) -> Result<Shown, String> {
    if let Ok(Leaf::Event(Event::Adopted(adopted))) = Leaf::decode(leaf) {
        if adopted.role != role {
            return Err(format!("it was taken over as {}, not as {role}", adopted.role));
        }
        let Adopted { repository, key, payload, .. } = adopted;
        return Ok(Shown { repository, key, payload, adopted: true });
    }
    let intent = intent_in(leaf).map_err(|r| r.detail)?;
    if intent.log != charter.origin {
        return Err(format!("its intent is for log {}", intent.log));
    }
    if intent.purpose != role || intent.action.purpose() != role || intent.action.version().is_none() {
        return Err(format!("its intent is not for {role} metadata"));
    }
    let Intent { repository, key, payload, .. } = intent;
    Ok(Shown { repository, key, payload, adopted: false })
}

fn signed_by(file: &SignedFile, role: Purpose, shown: &Shown, charter: &Charter) -> Result<(), String> {
    let key = charter.role_key(&shown.key, role, &shown.repository);
    let key = key.ok_or_else(|| format!("its key {} is no {role} key of the charter", shown.key))?;
    let keyid = if role == Purpose::Root {
        let root = file.root().map_err(|e| chain_of(&e))?;
        dct::certificate::check(&root.certificate, &shown.repository, key).map_err(|e| chain_of(&e))?;
        dct::certificate_key_id(&root.certificate)
    } else {
        dct::key_id(key)
    };
    file.verify(key, &keyid).map_err(|e| chain_of(&e))
}

/// Follows the log to the checkpoint in `note`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// It is what was seen already.
    Same,
    /// It extends what was seen.
    Newer(Seen),
    /// It is older, or larger with a proof from another size than what was seen, which tells nothing.
    Behind,
    /// It does not extend what was seen.
    Fork,
}

/// Compares a frame's note with what was seen. A note that the log's key has not signed is refused.
// INVARIANT(forward-only): an older note moves nothing. INVARIANT(no-reset): a note that does not extend what was seen
// is a fork of the log, whoever is to blame, and is never taken.
pub(super) fn follow(batch: &Batch, charter: &Charter, seen: &Seen) -> Result<Followed, Refused> {
    let checkpoint = tlog::Checkpoint::open(&batch.note, &charter.log_vkey)
        .map_err(|e| Refused::new(Code::Proof, format!("the note: {}", chain_of(&e))))?;
    let next = Seen { size: checkpoint.size, root: Sha256::from_bytes(checkpoint.root.0) };
    if next.size < seen.size {
        return Ok(Followed::Behind);
    }
    if next.size == seen.size {
        return Ok(if next.root == seen.root { Followed::Same } else { Followed::Fork });
    }
    // Several daemons may move this keeper: one that does not know of the others' frames is not at fault.
    if batch.from != seen.size {
        return Ok(Followed::Behind);
    }
    let proof: Vec<tlog::Hash> = batch.consistency.iter().map(|h| tlog::Hash(*h.as_bytes())).collect();
    let old_root = tlog::Hash(*seen.root.as_bytes());
    let extends = tlog::verify_consistency(seen.size, &old_root, next.size, &checkpoint.root, &proof).is_ok();
    Ok(if extends { Followed::Newer(next) } else { Followed::Fork })
}
