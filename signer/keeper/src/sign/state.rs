//! What a signing keeper holds durably, and the changes that move it: a pure state machine.
//!
//! Promises: the live keeper and the replay of its journal apply the same [`Reserve`] values through the same code, so
//! both arrive at the same state. A change that an invariant forbids is an error here even if the checks before it let
//! it pass, and even if it comes out of the journal. It does not know: files, sockets, tokens, proofs, or the time.

use super::chain::{Chain, ChainError, Step};
use people::{Roster, SignedRoster, SuccessionError};
use record::wire::Blob;
use record::{FailureCode, KeyId, PayloadDigest, Purpose, Repository, Sha256, Sha384, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most items that may be open: what a taken-over daemon can at most leave without a completion (`settle`).
pub(super) const MAX_OPEN: usize = 1024;
/// Most spent indices above the floor: ten minutes at over 400 items a second, 4 MiB of memory.
pub(super) const MAX_USED: usize = 1 << 18;
/// How long a spent index is kept by itself: twice the age at which an intent is stale, so that an honest daemon's
/// older intents are not cut off by the floor.
const KEEP_USED_MS: i64 = 10 * 60 * 1000;
/// The fixed window of a key's rate.
const WINDOW_MS: i64 = 60 * 60 * 1000;

/// The last accepted checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    /// Leaves in the log.
    pub(super) size: u64,
    /// Their Merkle root.
    pub(super) root: Sha256,
}

/// An item that was reserved and whose end does not yet stand in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Open {
    /// The key.
    pub(super) key: KeyId,
    /// SHA-256 of the bytes to sign.
    pub(super) payload: Sha256,
    /// Their SHA-384, for a key on P-384.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) payload_sha384: Option<Sha384>,
    /// The collection.
    pub(super) repository: Repository,
    /// The role.
    pub(super) role: Purpose,
    /// TUF version, for metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<u64>,
    /// The keeper's word that no signature was made, once it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<FailureCode>,
}

impl Open {
    /// What its completion names of the bytes.
    pub(super) fn digest(&self) -> PayloadDigest {
        self.payload_sha384.map_or(PayloadDigest::Sha256(self.payload), PayloadDigest::Sha384)
    }

    /// The step of the chain that this item is, for metadata.
    pub(super) fn step(&self) -> Option<Step> {
        let (repository, role) = (self.repository.clone(), self.role);
        self.version.map(|version| Step { repository, role, version, payload: self.payload })
    }
}

/// One durable change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Change {
    /// A newer checkpoint was accepted.
    Followed(Seen),
    /// An open item's end stands in the log.
    Settled {
        /// Index of the intent.
        index: u64,
        /// Whether it ended with a signature.
        signed: bool,
    },
    /// An index will never be signed: refused, or void.
    Spent {
        /// Index of the intent.
        index: u64,
    },
    /// A signature over this step exists in a file that a new item names.
    Confirmed(Step),
    /// A file of another keeper's key, which a new item names, is the newest of its collection and role.
    Taken(Step),
    /// An item goes to the token.
    Opened {
        /// Index of the intent.
        index: u64,
        /// What it is.
        item: Open,
    },
    /// An open item ended without a signature: written before that is said to anybody.
    Failed {
        /// Index of the intent.
        index: u64,
        /// Why.
        code: FailureCode,
    },
    /// A roster came into force.
    Roster {
        /// Its envelope, with the signatures by which it follows the one before.
        signed: Blob,
    },
}

/// Changes in order: what is written, in one record, before any of them has an effect outside. One for each frame that
/// changes something, for each item that failed, and for each roster that came into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reserve {
    /// The keeper's clock at the time, or the state's where that is later.
    pub(super) clock: Time,
    /// The changes.
    pub(super) changes: Vec<Change>,
}

/// A change that the state forbids: a damaged journal, or a fault in the checks. Nothing may be signed after it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Contradiction {
    /// An index that was used before.
    #[error("index {0} was used before")]
    Reused(u64),
    /// An item that is not open.
    #[error("index {0} is not open")]
    NotOpen(u64),
    /// A second word on an item.
    #[error("index {0} has failed before")]
    FailedTwice(u64),
    /// A second open item for the same key and bytes.
    #[error("index {0} asks for a signature that another open item asks for")]
    Duplicate(u64),
    /// More open items than the limit.
    #[error("more than {MAX_OPEN} open items")]
    TooManyOpen,
    /// A checkpoint smaller than the last one.
    #[error("a checkpoint of {to} leaves after one of {from}")]
    Backwards { from: u64, to: u64 },
    /// A change while the keeper is forked.
    #[error("a change after a fork was seen")]
    Forked,
    /// A chain step out of order.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A roster that does not follow.
    #[error("a roster: {0}")]
    Roster(#[from] SuccessionError),
}

/// The roster in force, and the one with which it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// SHA-256 of version 1.
    pub(super) first: Sha256,
    /// The newest version.
    pub(super) roster: Roster,
}

impl Held {
    /// What is held once `signed` is taken behind `held`. Whether a first one is the pinned one, its taker has asked.
    // INVARIANT(forward-only): a version only follows the one before it.
    pub(super) fn taking(held: Option<&Self>, signed: SignedRoster) -> Result<Self, SuccessionError> {
        let sha256 = signed.offered().sha256();
        match held {
            None => Ok(Self { first: sha256, roster: signed.first(sha256)? }),
            Some(held) => Ok(Self { first: held.first, roster: signed.after(&held.roster)? }),
        }
    }
}

/// Signatures of one key in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Window {
    /// Number of the window since 1970.
    pub(super) number: i64,
    /// Items reserved in it.
    pub(super) count: u32,
}

/// Everything that a signing keeper must never forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// The last accepted checkpoint.
    pub(super) seen: Seen,
    /// Whether a fork of the log was shown; only an operator clears it.
    pub(super) forked: bool,
    /// All indices below are used.
    pub(super) floor: u64,
    /// Spent indices at or above the floor that are not open, with the clock when they were spent.
    pub(super) used: BTreeMap<u64, Time>,
    /// Reserved, not yet settled.
    pub(super) open: BTreeMap<u64, Open>,
    /// The newest version of each collection's roles.
    pub(super) chain: Chain,
    /// Reserved items in the last window, by key.
    pub(super) rate: BTreeMap<KeyId, Window>,
    /// The roster by which approvals count, once one was taken.
    pub(super) roster: Option<Held>,
    /// The latest time at which an item was opened. Each was made about then, by its intent's own time: a clock that
    /// jumps ahead passes no item, and so does not move this.
    pub(super) clock: Time,
}

impl State {
    /// The state of a keeper that has seen nothing.
    pub(super) fn new(now: Time) -> Self {
        let seen = Seen { size: 0, root: Sha256::from_bytes(tlog::empty_root().0) };
        Self {
            seen,
            forked: false,
            floor: 0,
            used: BTreeMap::new(),
            open: BTreeMap::new(),
            chain: Chain::default(),
            rate: BTreeMap::new(),
            roster: None,
            clock: now,
        }
    }

    /// The state with which the same keeper begins to follow another log: nothing of that is seen or used, and what was open
    /// in the former one is given up. Every version, the roster, the clock and the rates stay as they are.
    pub(super) fn for_another_log(mut self) -> Self {
        self.chain.carry_over();
        Self { chain: self.chain, rate: self.rate, roster: self.roster, ..Self::new(self.clock) }
    }

    /// Whether `index` was ever spent or reserved here.
    pub(super) fn is_used(&self, index: u64) -> bool {
        index < self.floor || self.used.contains_key(&index) || self.open.contains_key(&index)
    }

    /// The open item that asks for a signature of `key` over `payload`.
    pub(super) fn open_twin(&self, key: KeyId, payload: Sha256) -> Option<u64> {
        self.open.iter().find(|(_, o)| o.key == key && o.payload == payload).map(|(index, _)| *index)
    }

    /// How many items of `key` were reserved in the window of `now`.
    pub(super) fn reserved_this_hour(&self, key: KeyId, now: Time) -> u32 {
        let number = window(now.max(self.clock));
        self.rate.get(&key).filter(|w| w.number == number).map_or(0, |w| w.count)
    }

    /// Applies a record of the journal.
    pub(super) fn replay(&mut self, reserve: &Reserve) -> Result<(), Contradiction> {
        let mut draft = Draft::new(self, reserve.clock);
        reserve.changes.iter().try_for_each(|change| draft.change(change.clone()))?;
        draft.close();
        Ok(())
    }

    fn apply(&mut self, change: &Change, at: Time) -> Result<(), Contradiction> {
        match change {
            Change::Followed(seen) => self.follow(*seen),
            Change::Settled { index, signed } => self.settle(*index, *signed, at),
            Change::Spent { index } => self.spend(*index, at),
            Change::Confirmed(step) => {
                self.chain.confirm(step);
                Ok(())
            }
            Change::Taken(step) => {
                self.chain.reserve(step)?;
                self.chain.confirm(step);
                Ok(())
            }
            Change::Opened { index, item } => self.open(*index, item, at),
            Change::Failed { index, code } => self.fail(*index, code),
            Change::Roster { signed } => {
                self.roster = Some(Held::taking(self.roster.as_ref(), SignedRoster::parse(&signed.0)?)?);
                Ok(())
            }
        }
    }

    // INVARIANT(forward-only): `seen` never gets smaller.
    fn follow(&mut self, seen: Seen) -> Result<(), Contradiction> {
        if seen.size < self.seen.size {
            return Err(Contradiction::Backwards { from: self.seen.size, to: seen.size });
        }
        self.seen = seen;
        Ok(())
    }

    fn settle(&mut self, index: u64, signed: bool, at: Time) -> Result<(), Contradiction> {
        let item = self.open.remove(&index).ok_or(Contradiction::NotOpen(index))?;
        if let Some(step) = item.step().filter(|_| signed) {
            self.chain.confirm(&step);
        }
        self.used.insert(index, at);
        Ok(())
    }

    fn spend(&mut self, index: u64, at: Time) -> Result<(), Contradiction> {
        if self.is_used(index) {
            return Err(Contradiction::Reused(index));
        }
        self.used.insert(index, at);
        Ok(())
    }

    // INVARIANT(once): an index is opened at most once. INVARIANT(one-open): no two open items share key and payload,
    // so that the log's completions match its intents in order. INVARIANT(settle): the open items are counted.
    fn open(&mut self, index: u64, item: &Open, at: Time) -> Result<(), Contradiction> {
        if self.is_used(index) {
            return Err(Contradiction::Reused(index));
        }
        if self.open_twin(item.key, item.payload).is_some() {
            return Err(Contradiction::Duplicate(index));
        }
        if self.open.len() >= MAX_OPEN {
            return Err(Contradiction::TooManyOpen);
        }
        if let Some(step) = item.step() {
            self.chain.reserve(&step)?;
        }
        // INVARIANT(forward-only): the clock never falls, and moves only together with what is written.
        self.clock = self.clock.max(at);
        let count = self.reserved_this_hour(item.key, self.clock).saturating_add(1);
        self.rate.insert(item.key, Window { number: window(self.clock), count });
        self.open.insert(index, item.clone());
        Ok(())
    }

    // INVARIANT(keepers-word): what was said of an item outlives the process that said it, and is never said anew.
    fn fail(&mut self, index: u64, code: &FailureCode) -> Result<(), Contradiction> {
        let item = self.open.get_mut(&index).ok_or(Contradiction::NotOpen(index))?;
        match item.failed.replace(code.clone()) {
            None => Ok(()),
            Some(_) => Err(Contradiction::FailedTwice(index)),
        }
    }

    /// Raises the floor over indices spent long ago, never over an open one, and forgets what lies below it. By the time
    /// and not by the state's clock, which stands still while nothing is opened; a time that jumps ahead does it early,
    /// and older intents that were not shown yet are refused and asked for anew.
    fn prune(&mut self, at: Time) {
        let lowest_open = self.open.keys().next().copied().unwrap_or(u64::MAX);
        let cutoff = at.plus_ms(-KEEP_USED_MS);
        let old = |(index, at): (&u64, &Time)| (*at < cutoff).then_some(*index);
        if let Some(last) = self.used.range(..lowest_open).filter_map(old).next_back() {
            self.floor = self.floor.max(last.saturating_add(1));
            self.used = self.used.split_off(&self.floor);
        }
    }
}

fn window(at: Time) -> i64 {
    at.unix_ms() / WINDOW_MS
}

/// One [`Reserve`] in the making: each change is applied at once, so that the next item is checked against it.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    state: &'a mut State,
    at: Time,
    changes: Vec<Change>,
}

impl<'a> Draft<'a> {
    /// Begins a record at `now`.
    pub(super) fn new(state: &'a mut State, now: Time) -> Self {
        let at = now.max(state.clock);
        Self { state, at, changes: Vec::new() }
    }

    /// The state with all changes so far.
    pub(super) fn state(&self) -> &State {
        self.state
    }

    /// Applies one change. After an error the state is no longer what the journal says: the process must end.
    pub(super) fn change(&mut self, change: Change) -> Result<(), Contradiction> {
        // An item may still be at the token when a fork is seen, and the keeper's word on it stands all the same.
        if self.state.forked && !matches!(change, Change::Failed { .. }) {
            return Err(Contradiction::Forked);
        }
        self.state.apply(&change, self.at)?;
        self.changes.push(change);
        Ok(())
    }

    /// The record to write; none when nothing has changed.
    pub(super) fn close(self) -> Option<Reserve> {
        if self.changes.is_empty() {
            return None;
        }
        self.state.prune(self.at);
        Some(Reserve { clock: self.at, changes: self.changes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T0: i64 = 1_790_000_000_000;

    fn at(ms: i64) -> Time {
        Time::from_unix_ms(T0 + ms).unwrap()
    }

    fn item(content: u64) -> Open {
        Open {
            key: Sha256::of(b"key").to_string().parse().unwrap(),
            payload: Sha256::of(&content.to_be_bytes()),
            payload_sha384: None,
            repository: Repository::parse("r.example/team/app").unwrap(),
            role: Purpose::Targets,
            version: None,
            failed: None,
        }
    }

    fn opened(index: u64, content: u64) -> Change {
        Change::Opened { index, item: item(content) }
    }

    fn apply(state: &mut State, ms: i64, changes: Vec<Change>) -> Result<(), Contradiction> {
        state.replay(&Reserve { clock: at(ms), changes })
    }

    /// INVARIANT(once)
    #[test]
    fn once() {
        let mut state = State::new(at(0));
        apply(&mut state, 0, vec![opened(4, 1), Change::Spent { index: 5 }]).unwrap();
        for index in [4, 5] {
            assert!(matches!(apply(&mut state, 0, vec![opened(index, 9)]), Err(Contradiction::Reused(_))));
            assert!(apply(&mut state, 0, vec![Change::Spent { index }]).is_err());
        }
        apply(&mut state, 0, vec![Change::Settled { index: 4, signed: false }]).unwrap();
        assert!(apply(&mut state, 0, vec![opened(4, 1)]).is_err(), "settled is spent");
        assert!(matches!(
            apply(&mut state, 0, vec![Change::Settled { index: 4, signed: true }]),
            Err(Contradiction::NotOpen(4))
        ));
    }

    /// INVARIANT(one-open)
    #[test]
    fn one_open() {
        let mut state = State::new(at(0));
        apply(&mut state, 0, vec![opened(1, 7)]).unwrap();
        assert!(matches!(apply(&mut state, 0, vec![opened(2, 7)]), Err(Contradiction::Duplicate(2))));
        apply(&mut state, 0, vec![Change::Settled { index: 1, signed: true }, opened(3, 7)]).unwrap();
    }

    /// INVARIANT(keepers-word)
    #[test]
    fn keepers_word() {
        let mut state = State::new(at(0));
        let failed = || Change::Failed { index: 1, code: crate::code("token-busy") };
        assert!(matches!(apply(&mut state, 0, vec![failed()]), Err(Contradiction::NotOpen(1))));
        apply(&mut state, 0, vec![opened(1, 7)]).unwrap();
        state.forked = true;
        apply(&mut state, 0, vec![failed()]).unwrap();
        assert_eq!(state.open[&1].failed, Some(crate::code("token-busy")));
        assert!(matches!(apply(&mut state, 0, vec![failed()]), Err(Contradiction::FailedTwice(1))));
    }

    /// INVARIANT(settle)
    #[test]
    fn settle() {
        let mut state = State::new(at(0));
        apply(&mut state, 0, (0..1024).map(|i| opened(i, i)).collect()).unwrap();
        assert!(matches!(apply(&mut state, 0, vec![opened(2000, 2000)]), Err(Contradiction::TooManyOpen)));
    }

    /// INVARIANT(forward-only)
    #[test]
    fn forward_only() {
        let mut state = State::new(at(0));
        let seen = |size| Change::Followed(Seen { size, root: Sha256::of(b"root") });
        apply(&mut state, 5000, vec![seen(9), opened(1, 1)]).unwrap();
        assert!(matches!(
            apply(&mut state, 5000, vec![seen(8)]),
            Err(Contradiction::Backwards { from: 9, to: 8 })
        ));
        apply(&mut state, 1000, vec![seen(9), opened(2, 2)]).unwrap();
        assert_eq!(state.clock, at(5000));
    }

    #[test]
    fn only_an_item_that_is_opened_moves_the_clock() {
        let mut state = State::new(at(0));
        apply(&mut state, 0, vec![opened(1, 1), opened(2, 2)]).unwrap();
        let seen = Change::Followed(Seen { size: 9, root: Sha256::of(b"root") });
        let failed = Change::Failed { index: 2, code: crate::code("token-busy") };
        let settled = Change::Settled { index: 1, signed: true };
        apply(&mut state, 9000, vec![seen, failed, settled, Change::Spent { index: 7 }]).unwrap();
        assert_eq!((state.clock, state.used[&7]), (at(0), at(9000)));
        apply(&mut state, 9000, vec![opened(8, 8)]).unwrap();
        assert_eq!(state.clock, at(9000));
    }

    /// INVARIANT(no-reset)
    #[test]
    fn no_reset() {
        let mut state = State::new(at(0));
        state.forked = true;
        assert!(matches!(apply(&mut state, 0, vec![opened(1, 1)]), Err(Contradiction::Forked)));
    }

    #[test]
    fn the_floor_rises_over_what_was_spent_long_ago_but_never_over_an_open_item() {
        let mut state = State::new(at(0));
        apply(&mut state, 0, vec![opened(3, 3), opened(5, 5), Change::Spent { index: 7 }]).unwrap();
        apply(&mut state, 0, vec![Change::Settled { index: 3, signed: false }]).unwrap();
        apply(&mut state, KEEP_USED_MS + 1, vec![Change::Spent { index: 9 }]).unwrap();
        assert_eq!((state.floor, state.used.len()), (4, 2), "5 is open, 7 and 9 stay");
        apply(&mut state, KEEP_USED_MS + 2, vec![Change::Settled { index: 5, signed: false }]).unwrap();
        assert_eq!((state.floor, state.used.len()), (8, 1));
        assert!((0..8).all(|index| state.is_used(index)) && !state.is_used(8) && state.is_used(9));
    }

    #[test]
    fn the_rate_counts_in_fixed_hours() {
        let mut state = State::new(at(0));
        let key = item(0).key;
        apply(&mut state, 0, vec![opened(1, 1), opened(2, 2)]).unwrap();
        assert_eq!(state.reserved_this_hour(key, at(0)), 2);
        assert_eq!(state.reserved_this_hour(key, at(WINDOW_MS)), 0);
        apply(&mut state, WINDOW_MS, vec![opened(3, 3)]).unwrap();
        assert_eq!(state.reserved_this_hour(key, at(0)), 1, "a clock set back opens no old window");
    }

    #[test]
    fn a_frame_that_changes_nothing_moves_no_clock() {
        let mut state = State::new(at(0));
        assert!(Draft::new(&mut state, at(9000)).close().is_none());
        assert_eq!(state.clock, at(0));
    }

    fn any_change() -> impl Strategy<Value = Change> {
        let index = 0u64..40;
        prop_oneof![
            (index.clone(), 0u64..50).prop_map(|(i, c)| opened(i, c)),
            (index.clone(), any::<bool>()).prop_map(|(index, signed)| Change::Settled { index, signed }),
            index.prop_map(|index| Change::Spent { index }),
        ]
    }

    proptest! {
        #[test]
        fn a_replay_gives_the_live_state_and_no_index_is_opened_twice(
            frames in proptest::collection::vec((0i64..400_000, proptest::collection::vec(any_change(), 0..6)), 0..40)
        ) {
            let (mut live, mut replayed) = (State::new(at(0)), State::new(at(0)));
            let (mut now, mut ever_opened) = (0, std::collections::BTreeSet::new());
            for (step, changes) in frames {
                now += step;
                let mut draft = Draft::new(&mut live, at(now));
                for change in changes {
                    let allowed = match &change {
                        Change::Opened { index, item } => {
                            !draft.state().is_used(*index)
                                && draft.state().open_twin(item.key, item.payload).is_none()
                        }
                        Change::Settled { index, .. } => draft.state().open.contains_key(index),
                        Change::Spent { index } => !draft.state().is_used(*index),
                        _ => true,
                    };
                    if allowed {
                        if let Change::Opened { index, .. } = &change {
                            prop_assert!(ever_opened.insert(*index));
                        }
                        draft.change(change).unwrap();
                    }
                }
                let floor_before = replayed.floor;
                if let Some(reserve) = draft.close() {
                    let bytes = serde_json::to_vec(&reserve).unwrap();
                    replayed.replay(&serde_json::from_slice(&bytes).unwrap()).unwrap();
                }
                prop_assert_eq!(&live, &replayed);
                prop_assert!(live.floor >= floor_before);
                prop_assert!(ever_opened.iter().all(|index| live.is_used(*index)));
            }
        }
    }
}
