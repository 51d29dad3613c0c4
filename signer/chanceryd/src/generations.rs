//! How far each signing keeper's journal has grown, as it told: a keeper that comes back with less has lost a part of
//! it, and learns so from the number that the daemon names.
//!
//! The numbers are no projection of the log. They reach the disk with the next commit, at the latest with the
//! completion of what the keeper had reserved; a late one only widens the window that is not guarded.

use record::KeeperName;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// The highest number that each keeper has told.
#[derive(Debug, Default)]
pub(crate) struct Generations(Mutex<BTreeMap<KeeperName, u64>>);

impl Generations {
    /// What the database has.
    pub(crate) fn new(stored: BTreeMap<KeeperName, u64>) -> Self {
        Self(Mutex::new(stored))
    }

    /// The highest number of a keeper; 0 for one that has told nothing.
    pub(crate) fn of(&self, keeper: &KeeperName) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(keeper).copied().unwrap_or(0)
    }

    /// Takes what a keeper tells.
    pub(crate) fn raise(&self, keeper: &KeeperName, told: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = all.entry(keeper.clone()).or_default();
        *highest = told.max(*highest);
    }

    /// All of them, for a commit.
    pub(crate) fn all(&self) -> BTreeMap<KeeperName, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
