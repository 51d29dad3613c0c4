//! What became of the open items, as far as this process knows.
//!
//! A signature is kept in memory until the log holds its completion, so that a daemon that lost the answer can ask
//! again. A failure is in the journal before it is said: the log may hold that word when this process is gone, and only
//! the same word closes the item. Of all other open items nothing is known after a restart, and the keeper says so:
//! `Lost`.

use super::state::Open;
use record::Time;
use record::wire::{OpenState, SignResult};
use std::collections::BTreeMap;

/// Where one open item stands.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    /// On its way through the token.
    Working,
    /// Done, since `at`.
    Finished {
        /// The keeper's word.
        result: SignResult,
        /// When it was spoken.
        at: Time,
    },
}

/// The standing of every open item.
#[derive(Debug, Default)]
pub(super) struct Results(BTreeMap<u64, Standing>);

impl Results {
    /// The results of a process that has just started, from what its journal says of the `open` items.
    // INVARIANT(keepers-word): what was said to have failed is said to have failed again; what no process saw end is
    // `Lost`, never taken as signed or as failed.
    pub(super) fn after_restart(open: &BTreeMap<u64, Open>, now: Time) -> Self {
        let result = |item: &Open| match &item.failed {
            Some(code) => SignResult::Failed { code: code.clone() },
            None => SignResult::Lost {},
        };
        let standing = |item| Standing::Finished { result: result(item), at: now };
        Self(open.iter().map(|(index, item)| (*index, standing(item))).collect())
    }

    /// Notes that an item is on its way.
    pub(super) fn begin(&mut self, index: u64) {
        self.0.insert(index, Standing::Working);
    }

    /// Notes how an item ended.
    pub(super) fn finish(&mut self, index: u64, result: SignResult, at: Time) {
        self.0.insert(index, Standing::Finished { result, at });
    }

    /// Forgets a settled item.
    pub(super) fn forget(&mut self, index: u64) {
        self.0.remove(&index);
    }

    /// The result of an item that has ended.
    pub(super) fn finished(&self, index: u64) -> Option<&SignResult> {
        match self.0.get(&index)? {
            Standing::Working => None,
            Standing::Finished { result, .. } => Some(result),
        }
    }

    /// When the item ended that has waited longest for its leaf.
    pub(super) fn oldest_finished(&self) -> Option<Time> {
        let at = |s: &Standing| if let Standing::Finished { at, .. } = s { Some(*at) } else { None };
        self.0.values().filter_map(at).min()
    }

    /// The items that are on their way.
    pub(super) fn working(&self) -> impl Iterator<Item = u64> {
        self.0.iter().filter(|(_, s)| matches!(s, Standing::Working)).map(|(index, _)| *index)
    }

    /// An item's standing, as `Welcome` tells it.
    pub(super) fn told(&self, index: u64) -> OpenState {
        match self.0.get(&index) {
            Some(Standing::Working) => OpenState::Working {},
            Some(Standing::Finished { result, .. }) => OpenState::Finished(result.clone()),
            None => OpenState::Finished(SignResult::Lost {}),
        }
    }
}
