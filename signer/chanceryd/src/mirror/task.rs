//! The task of one mirror: waits for what is published, has it copied, and tries again where that fails.

use super::{
    MirrorError,
    folder::Calls,
    follow::{Follower, Source},
    place::Place,
};
use crate::{
    audit::{Log, Noted},
    config::MirrorConfig,
    health::Health,
    store::StoreError,
};
use std::{sync::Arc, time::Duration};
use tlog::{Hash, TilePath, VerifierKey};
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
    time::sleep,
};

/// Pause before a round that failed is tried again: first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Starts a task for each mirror of what is published; they end when the set is dropped.
pub(crate) fn start(
    mirrors: &[MirrorConfig],
    key: &VerifierKey,
    log: &Log,
    published: &watch::Receiver<Option<Noted>>,
    health: &Arc<Health>,
) -> JoinSet<()> {
    let turn = Arc::new(Mutex::new(()));
    let mirror = |config: &MirrorConfig| Mirror {
        config: config.clone(),
        ours: Ours { log: log.clone(), turn: turn.clone() },
        published: published.clone(),
        health: health.clone(),
        follower: Follower::new(key.clone(), config.entries),
        calls: Calls::default(),
    };
    mirrors.iter().map(|config| mirror(config).run()).collect()
}

/// One mirror.
struct Mirror {
    config: MirrorConfig,
    ours: Ours,
    published: watch::Receiver<Option<Noted>>,
    health: Arc<Health>,
    follower: Follower,
    calls: Calls,
}

/// Our log, of which the mirrors read one file after the other: the database's few readers are for those who wait for an
/// answer.
struct Ours {
    log: Log,
    turn: Arc<Mutex<()>>,
}

impl Mirror {
    /// Runs until the log ends, or the daemon is sealed: what cannot be trusted any more is copied nowhere.
    async fn run(self) {
        let health = self.health.clone();
        tokio::select! { biased; () = health.until_sealed() => {} () = self.follow() => {} }
    }

    /// Follows until the log ends, or turns out to be forked, which seals.
    async fn follow(mut self) {
        let name = self.config.to.to_string();
        let mut pause = BACKOFF.0;
        while let Some(target) = self.newest().await {
            let open = || Place::open(&self.config, &self.calls);
            match self.follower.round(open, target, &self.ours).await {
                Ok(()) => {
                    self.health.set_mirror(&name, None);
                    let kept = self.config.to.is_elsewhere().then(|| self.follower.reached());
                    self.health.heads.set_mirror(&name, kept);
                    pause = BACKOFF.0;
                    sleep(self.config.every).await;
                    if self.published.changed().await.is_err() {
                        return;
                    }
                }
                Err(MirrorError::Fork(why)) => return self.health.seal(&format!("mirror {name}: {why}")),
                Err(error) => {
                    if let MirrorError::Store(e) = &error {
                        self.ours.log.judge(e);
                    }
                    let behind = self.ours.size().saturating_sub(self.follower.reached());
                    self.health.set_mirror(&name, Some((behind, error.to_string())));
                    self.health.heads.set_mirror(&name, None);
                    sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// The newest published checkpoint; waits for the first.
    async fn newest(&mut self) -> Option<Noted> {
        let published = self.published.wait_for(Option::is_some).await.ok()?;
        published.clone()
    }
}

impl Source for Ours {
    fn size(&self) -> u64 {
        self.log.noted_size()
    }

    async fn root_at(&self, size: u64) -> Result<Hash, StoreError> {
        let _turn = self.turn.lock().await;
        self.log.root_at(size).await
    }

    async fn file(&self, path: TilePath, size: u64) -> Result<Vec<u8>, StoreError> {
        let _turn = self.turn.lock().await;
        let bytes = self.log.published(path, size).await?;
        bytes.ok_or_else(|| StoreError::Contradiction(format!("{path} of {size} leaves is not there")))
    }
}
