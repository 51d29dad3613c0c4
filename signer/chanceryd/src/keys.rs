//! The keys that the signing keepers hold, as they last presented them.

use record::{KeeperName, KeeperRecord, KeyId, KeyRecord, Purpose, Repository, RoleKeys, Spki};
use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

/// Every keeper's keys; filled from the log at start and from each keeper's own word after that.
#[derive(Debug, Default)]
pub(crate) struct KeyDirectory(RwLock<BTreeMap<KeeperName, Presented>>);

/// What a keeper presented, and the leaf that says so.
#[derive(Debug)]
struct Presented {
    record: KeeperRecord,
    entry: u64,
}

impl KeyDirectory {
    /// The directory that the log gives.
    pub(crate) fn new(keepers: Vec<(KeeperRecord, u64)>) -> Self {
        let presented =
            |(record, entry): (KeeperRecord, u64)| (record.name.clone(), Presented { record, entry });
        Self(RwLock::new(keepers.into_iter().map(presented).collect()))
    }

    /// Whether a keeper presents something else than before.
    pub(crate) fn differs(&self, keeper: &KeeperRecord) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&keeper.name).map(|p| &p.record)
            != Some(keeper)
    }

    /// Takes what a keeper presents, once it stands in the log, as this leaf.
    pub(crate) fn update(&self, record: KeeperRecord, entry: u64) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(record.name.clone(), Presented { record, entry });
    }

    /// Every key with its keeper, by keeper and then as the keeper lists them.
    pub(crate) fn all(&self) -> Vec<(KeeperName, KeyRecord)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.values()
            .flat_map(|p| p.record.keys.iter().map(|key| (p.record.name.clone(), key.clone())))
            .collect()
    }

    /// The leaf by which each keeper last presented its keys, with how many there are.
    pub(crate) fn entries(&self) -> BTreeMap<KeeperName, (u64, usize)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(name, p)| (name.clone(), (p.entry, p.record.keys.len()))).collect()
    }

    /// A key and its keeper.
    pub(crate) fn find(&self, id: &KeyId) -> Option<(KeeperName, Spki)> {
        self.all().into_iter().find(|(_, key)| key.spki.id() == *id).map(|(keeper, key)| (keeper, key.spki))
    }

    /// All public keys, for builders.
    pub(crate) fn for_building(&self) -> formats::Keys {
        self.all().into_iter().map(|(_, key)| key.spki).collect()
    }

    /// The keys for a new collection: for each role the key whose scope names the repository most closely.
    pub(crate) fn roles_for(&self, repository: &Repository) -> Result<RoleKeys, Purpose> {
        let all = self.all();
        let pick = |purpose: Purpose| {
            let fits = |key: &KeyRecord| {
                key.repositories.iter().filter(|p| repository.is_under(p)).map(String::len).max()
            };
            let candidates = all.iter().filter(|(_, key)| key.purpose == purpose);
            let best = candidates.filter_map(|(_, key)| fits(key).map(|n| (n, key.spki.id()))).max();
            best.map(|(_, id)| id).ok_or(purpose)
        };
        Ok(RoleKeys {
            root: pick(Purpose::Root)?,
            targets: pick(Purpose::Targets)?,
            snapshot: pick(Purpose::Snapshot)?,
            timestamp: pick(Purpose::Timestamp)?,
        })
    }
}
