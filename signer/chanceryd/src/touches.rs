//! Touches that the keepers' devices wait for now, for those whose requests wait with them.
//!
//! Promises: at most one a keeper, since a device waits for one at a time; none of a keeper that is not connected. In
//! memory only: the keeper tells it again at the next connection. It does not know what is to be signed.

use record::{KeeperName, wire::Touch};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Shared by the connections, which tell, and the requests, which show.
#[derive(Debug, Default)]
pub(crate) struct Touches {
    awaited: Mutex<BTreeMap<KeeperName, Touch>>,
    changed: watch::Sender<()>,
}

impl Touches {
    /// A keeper's device waits for this touch.
    pub(crate) fn begin(&self, keeper: &KeeperName, touch: Touch) {
        self.lock().insert(keeper.clone(), touch);
        self.changed.send_replace(());
    }

    /// The item has ended, whether it was touched for or not.
    pub(crate) fn end(&self, keeper: &KeeperName, index: u64) {
        let mut awaited = self.lock();
        if awaited.get(keeper).is_some_and(|touch| touch.index == index) {
            awaited.remove(keeper);
            self.changed.send_replace(());
        }
    }

    /// The keeper is away: what it told does not count any more.
    pub(crate) fn forget(&self, keeper: &KeeperName) {
        if self.lock().remove(keeper).is_some() {
            self.changed.send_replace(());
        }
    }

    /// All that are awaited now.
    pub(crate) fn awaited(&self) -> Vec<(KeeperName, Touch)> {
        self.lock().iter().map(|(keeper, touch)| (keeper.clone(), touch.clone())).collect()
    }

    /// Changes with every touch that begins or ends to be awaited.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<KeeperName, Touch>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::{PivSlot, Time};

    #[test]
    fn a_touch_is_awaited_until_its_item_ends_or_its_keeper_goes() {
        let touches = Touches::default();
        let keeper = |name: &str| KeeperName::parse(name).unwrap();
        let touch = |index| Touch {
            index,
            deadline: Time::from_unix_ms(1).unwrap(),
            serial: 7,
            slot: PivSlot::parse("9c").unwrap(),
        };
        let mut watch = touches.watch();
        touches.begin(&keeper("a"), touch(1));
        assert!(watch.has_changed().unwrap());
        touches.begin(&keeper("b"), touch(2));
        watch.borrow_and_update();
        touches.end(&keeper("a"), 9);
        assert!(!watch.has_changed().unwrap());
        touches.begin(&keeper("a"), touch(3));
        touches.end(&keeper("a"), 1);
        assert_eq!(touches.awaited(), [(keeper("a"), touch(3)), (keeper("b"), touch(2))]);
        touches.end(&keeper("a"), 3);
        touches.forget(&keeper("b"));
        assert_eq!(touches.awaited(), []);
    }
}
