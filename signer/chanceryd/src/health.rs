//! What works and what does not, in one place: the seal, the log keeper, the signing keepers.

use record::KeeperName;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Shared by all parts; reads and writes never wait for anything slow.
#[derive(Debug, Default)]
pub(crate) struct Health {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sealed: Option<String>,
    log: Option<String>,
    keepers: BTreeMap<KeeperName, Option<String>>,
}

impl Health {
    /// Stops all new intents until a restart with a full check. The first reason stays.
    pub(crate) fn seal(&self, reason: &str) {
        let mut inner = self.lock();
        if inner.sealed.is_none() {
            tracing::error!(
                reason,
                "SEALED: no new intents until this daemon is restarted and finds its state whole"
            );
            inner.sealed = Some(reason.to_owned());
        }
    }

    /// Why the daemon is sealed, if it is.
    pub(crate) fn sealed(&self) -> Option<String> {
        self.lock().sealed.clone()
    }

    /// Notes that the log keeper can be used, or why not.
    pub(crate) fn set_log(&self, problem: Option<String>) {
        self.lock().log = problem;
    }

    /// Why nothing can be written to the log now, if that is so.
    pub(crate) fn log_problem(&self) -> Option<String> {
        let inner = self.lock();
        let sealed = inner.sealed.as_ref().map(|why| format!("sealed: {why}"));
        sealed.or_else(|| inner.log.as_ref().map(|why| format!("log keeper: {why}")))
    }

    /// Notes that a signing keeper can be used, or why not.
    pub(crate) fn set_keeper(&self, name: &KeeperName, problem: Option<String>) {
        self.lock().keepers.insert(name.clone(), problem);
    }

    /// Why a signing keeper cannot be used now, if that is so.
    pub(crate) fn keeper_problem(&self, name: &KeeperName) -> Option<String> {
        let unknown = || Some("not connected yet".to_owned());
        self.lock().keepers.get(name).map_or_else(unknown, Clone::clone)
    }

    /// One sentence for each thing that keeps signatures from being made.
    pub(crate) fn problems(&self) -> Vec<String> {
        let log = self.log_problem();
        let inner = self.lock();
        let keepers = inner
            .keepers
            .iter()
            .filter_map(|(name, p)| p.as_ref().map(|why| format!("signing keeper {name}: {why}")));
        log.into_iter().chain(keepers).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
