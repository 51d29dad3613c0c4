//! The published checkpoint: what clients, mirrors and auditors take for the log's head (protocol section 10).
//!
//! A note is made for every batch; those in between are evidence for who was given them, and are not published. Here the
//! newest note is taken, at most once a second, shown to the witnesses of the log, and given to readers with their
//! cosignatures. Promises: what is published never gets smaller; with `without_quorum = "wait"` it has the quorum of
//! the policy; a witness's word alone never seals the daemon, and a checkpoint of our own key that contradicts this log
//! always does. It does not know who reads: HTTP and mirrors hold a [`Published`].

mod chronicle;
mod limit;
mod member;
mod witness;
mod witnesses;

#[cfg(test)]
mod tests;

pub(crate) use limit::Patience;
pub(crate) use witnesses::Witnesses;

use crate::{
    audit::{Log, Noted},
    config::WithoutQuorum,
    health::Health,
};
use chronicle::Chronicle;
use record::Clock;
use std::{sync::Arc, time::Duration};
use tlog::VerifierKey;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use witnesses::Witnessed;

/// The published checkpoint changes at most this often.
const EVERY: Duration = Duration::from_secs(1);
/// The longest that a reader waits for a checkpoint over what it was just told of.
const SOON: Duration = Duration::from_secs(2);

/// A reader's handle on the published checkpoint; clones are cheap.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    checkpoint: watch::Receiver<Option<Noted>>,
    asked: Arc<Notify>,
}

impl Published {
    /// Each checkpoint as it is published, `None` before the first: for whoever copies the log elsewhere.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Noted>> {
        self.checkpoint.clone()
    }

    /// The newest published checkpoint.
    pub(crate) fn newest(&self) -> Option<Noted> {
        self.checkpoint.borrow().clone()
    }

    /// The newest published checkpoint; waits a moment for one that covers `size` leaves, so that who was just told of an
    /// entry finds it.
    pub(crate) async fn covering(&self, size: u64) -> Option<Noted> {
        let covers = |noted: &Option<Noted>| noted.as_ref().is_some_and(|noted| noted.size >= size);
        let mut checkpoint = self.checkpoint.clone();
        if !covers(&checkpoint.borrow()) {
            self.asked.notify_one();
            // Too late is no fault: the older one is as true.
            let _covered = timeout(SOON, checkpoint.wait_for(covers)).await;
        }
        self.newest()
    }
}

/// The loop that publishes.
pub(crate) struct Publication {
    noted: watch::Receiver<Option<Noted>>,
    publish: watch::Sender<Option<Noted>>,
    asked: Arc<Notify>,
    health: Arc<Health>,
    panel: Option<Panel>,
}

/// The witnesses, the log that they see, and what is done without them.
struct Panel {
    witnesses: Witnesses,
    of: Witnessed,
    /// Set if the checkpoint waits for the quorum.
    patience: Option<Arc<Patience>>,
}

impl Publication {
    /// The loop, which the caller runs, and the readers' handle. From here on `health` knows where signing stops for want
    /// of witnesses.
    pub(crate) fn new(
        log: &Log,
        key: VerifierKey,
        witnesses: Option<Witnesses>,
        health: Arc<Health>,
        clock: Arc<dyn Clock>,
    ) -> (Self, Published) {
        let (publish, checkpoint) = watch::channel(None);
        let asked = Arc::new(Notify::new());
        let published = Published { checkpoint, asked: asked.clone() };
        let panel = witnesses.map(|witnesses| {
            let limit =
                witnesses.max_unwitnessed().filter(|_| witnesses.without_quorum() == WithoutQuorum::Wait);
            let patience = limit.map(|limit| Arc::new(Patience::new(limit, log.watch_noted())));
            if let Some(patience) = &patience {
                health.wait_for_witnesses(patience.clone());
            }
            let chronicle = Chronicle::start(log.clone(), health.clone());
            Panel { witnesses, of: Witnessed { log: log.clone(), key, chronicle, clock }, patience }
        });
        (Self { noted: log.watch_noted(), publish, asked, health, panel }, published)
    }

    /// Publishes until the log's writer ends, or the daemon is sealed: witnesses then see nothing new, and readers keep what
    /// was published.
    pub(crate) async fn run(self) {
        let health = self.health.clone();
        tokio::select! { biased; () = health.until_sealed() => {} () = self.publish_notes() => {} }
    }

    /// Publishes until the log's writer ends, or the log turns out to be forked, which seals.
    async fn publish_notes(mut self) {
        let mut last: Option<Instant> = None;
        while self.wait(last).await.is_some() {
            let newest = self.noted.borrow_and_update().clone();
            let Some(newest) = newest else { continue };
            let publishable = match &mut self.panel {
                None => Some(newest),
                Some(panel) => match panel.witness(newest, &self.health).await {
                    Ok(publishable) => publishable,
                    Err(fork) => return self.health.seal(&fork),
                },
            };
            if let Some(noted) = publishable
                && self.publish.borrow().as_ref().is_none_or(|before| noted.follows(before))
            {
                self.publish.send_replace(Some(noted));
                last = Some(Instant::now());
            }
        }
    }

    /// Waits until there may be something to publish: a new note that somebody asks for, or that is a second old, or a
    /// witness that is to be asked again. None when the log's writer has ended.
    async fn wait(&mut self, last: Option<Instant>) -> Option<()> {
        let again = self.panel.as_ref().and_then(|panel| panel.witnesses.next_due());
        let due = async {
            match again {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.noted.changed() => {
                changed.ok()?;
                if last.is_some() {
                    tokio::select! { () = self.asked.notified() => {}, () = sleep(EVERY) => {} }
                }
            }
            () = due => {}
        }
        if let Some(last) = last {
            sleep_until(last + EVERY).await;
        }
        Some(())
    }
}

impl Noted {
    /// Whether it says more than the published one: more entries, or other cosignatures of the same.
    fn follows(&self, published: &Self) -> bool {
        self.size >= published.size && self.note != published.note
    }
}

impl Panel {
    /// Shows a note to the witnesses: what may be published of it now. An error is a fork of this log.
    async fn witness(&mut self, newest: Noted, health: &Health) -> Result<Option<Noted>, String> {
        let begun = Instant::now();
        let size = newest.size;
        let shown = self.witnesses.show(newest, &self.of).await?;
        if let Some(patience) = &self.patience {
            if shown.is_witnessed { patience.reached(size) } else { patience.missed(begun) }
        }
        let waits = self.patience.is_some() && !shown.is_witnessed;
        let mut alarms = shown.alarms;
        if !shown.is_witnessed {
            let what = if waits { "waits for" } else { "is published without" };
            alarms.insert(0, format!("the checkpoint of {size} entries {what} the quorum of its witnesses"));
        }
        health.set_alarms("witnesses", alarms);
        health.heads.set_witnesses(shown.heads);
        Ok((!waits).then_some(shown.noted))
    }
}
