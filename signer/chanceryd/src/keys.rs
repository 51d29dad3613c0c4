//! The keys that the signing keepers hold, as they last presented them.

use record::{KeeperName, KeeperRecord, KeyId, KeyRecord, Purpose, Repository, RoleKeys, Spki};
use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

/// Every keeper's keys; filled from the log at start and from each keeper's own word after that.
#[derive(Debug, Default)]
pub(crate) struct KeyDirectory(RwLock<BTreeMap<KeeperName, KeeperRecord>>);

impl KeyDirectory {
    /// The directory that the log gives.
    pub(crate) fn new(keepers: Vec<KeeperRecord>) -> Self {
        Self(RwLock::new(keepers.into_iter().map(|k| (k.name.clone(), k)).collect()))
    }

    /// Whether a keeper presents something else than before.
    pub(crate) fn differs(&self, keeper: &KeeperRecord) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&keeper.name) != Some(keeper)
    }

    /// Takes what a keeper presents, once it stands in the log.
    pub(crate) fn update(&self, keeper: KeeperRecord) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(keeper.name.clone(), keeper);
    }

    /// Every key with its keeper, by keeper and then as the keeper lists them.
    pub(crate) fn all(&self) -> Vec<(KeeperName, KeyRecord)> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.values().flat_map(|k| k.keys.iter().map(|key| (k.name.clone(), key.clone()))).collect()
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
