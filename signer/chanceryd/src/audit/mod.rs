//! The log from the daemon's side: one writer that groups what waits, a link to the log keeper, proofs for everybody.
//!
//! Promises: [`Log::append`] answers only when the leaf is committed here, on disk at the log keeper, and covered by a
//! note that verifies; whoever drops the call does not cancel the leaf. It does not know what the leaves are for.

mod link;
mod proofs;
mod recover;
mod sequencer;
#[cfg(test)]
pub(crate) mod stand_in;
mod timestamps;

pub(crate) use link::{LinkError, LogLink};
pub(crate) use recover::{RecoverError, Refill, reconcile, recover};
pub(crate) use sequencer::{Parts, Sequencer};
pub(crate) use timestamps::TimestampError;

use crate::{
    health::Health,
    store::{NewLeaf, NewRow, Rejected, Store, StoreError},
};
use formats::sigstore::SignedEntryTimestamp;
use record::{Completion, Leaf, LeafError, Time};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, oneshot, watch};

/// Submissions that may wait for the writer; more wait at their sender.
const QUEUE: usize = 1024;

/// Pause before the end of an intent is written again: first, and at most.
const END_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How far the clock may be behind the newest leaf: NTP may slew it, and a keeper refuses as much.
const MAX_BEHIND_MS: i64 = 5_000;

/// The newest signed head.
#[derive(Debug, Clone)]
pub(crate) struct Noted {
    /// Number of leaves it covers.
    pub size: u64,
    /// Their root.
    pub root: tlog::Hash,
    /// The signed note.
    pub note: Arc<str>,
}

/// A leaf in its place, under a note.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    /// Its index.
    pub index: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Why a leaf or row is not in the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// The daemon is sealed, or the log keeper is away: nothing was written, or it is not known.
    #[error("the audit log cannot be written: {0}")]
    Unavailable(String),
    /// The leaf does not fit the log's state; nothing was written.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The leaf has no encoding.
    #[error(transparent)]
    Leaf(#[from] LeafError),
}

/// What goes to the writer.
#[derive(Debug)]
enum Work {
    Leaf {
        /// Leaves that stand before it in the same commit, for which nobody waits.
        before: Vec<NewLeaf>,
        leaf: Box<NewLeaf>,
        reply: oneshot::Sender<Result<Placed, AppendError>>,
    },
    Row {
        row: Box<NewRow>,
        reply: oneshot::Sender<Result<(), AppendError>>,
    },
    Timestamp {
        index: u64,
        completion: Box<Completion>,
        reply: oneshot::Sender<Result<SignedEntryTimestamp, TimestampError>>,
    },
    Stop(oneshot::Sender<()>),
}

/// A handle to the log; clones are cheap.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    work: mpsc::Sender<Work>,
    noted: watch::Receiver<Option<Noted>>,
    store: Store,
    cache: Arc<proofs::TileCache>,
    timestamps: Arc<timestamps::Timestamps>,
    health: Arc<Health>,
    origin: record::Origin,
    /// The latest time that a leaf has, in milliseconds since 1970.
    newest_ms: Arc<AtomicI64>,
}

impl Log {
    /// A handle and the sequencer that does its work, which the caller runs.
    pub(crate) fn new(
        sequencer: Parts,
        origin: record::Origin,
        store: Store,
        health: Arc<Health>,
    ) -> (Self, Sequencer) {
        let (work, queue) = mpsc::channel(QUEUE);
        let (publish, noted) = watch::channel(None);
        let (cache, newest_ms, timestamps) = Default::default();
        let log = Self { work, noted, store, cache, timestamps, health: health.clone(), origin, newest_ms };
        let timestamps = log.timestamps.clone();
        (log, Sequencer::new(sequencer, queue, publish, health, timestamps))
    }

    /// Writes a leaf. The answer comes when it stands under a verified note.
    pub(crate) async fn append(&self, leaf: Leaf) -> Result<Placed, AppendError> {
        self.submit(Vec::new(), leaf, None).await
    }

    /// Writes an intent together with the bytes that are to be signed, and before it, in the same commit, the decisions that
    /// it names. Refused while the log has run too far ahead of
    /// its witnesses: what ends and what happens is written all the same.
    pub(crate) async fn append_intent(
        &self,
        allowances: Vec<Leaf>,
        intent: record::Intent,
        payload: Vec<u8>,
    ) -> Result<Placed, AppendError> {
        if let Some(why) = self.health.unwitnessed() {
            return Err(AppendError::Unavailable(why));
        }
        let new = |leaf: Leaf| Ok(NewLeaf { bytes: leaf.encode()?, leaf, payload: None });
        let before = allowances.into_iter().map(new).collect::<Result<Vec<_>, LeafError>>()?;
        self.submit(before, Leaf::Intent(intent), Some(payload)).await
    }

    /// Writes the end of an intent, and tries again until it stands: nobody else writes it, and its repository and its
    /// keeper wait for it. Gives up when the daemon stops or is sealed; the next start finds the intent open.
    pub(crate) async fn append_end(&self, leaf: Leaf) -> Result<Placed, AppendError> {
        let mut pause = END_PAUSE.0;
        loop {
            match self.append(leaf.clone()).await {
                Err(AppendError::Unavailable(why))
                    if self.health.sealed().is_none() && !self.work.is_closed() =>
                {
                    tracing::warn!(why, "the end of an intent could not be written and is tried again");
                }
                end => return end,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(END_PAUSE.1);
        }
    }

    async fn submit(
        &self,
        before: Vec<NewLeaf>,
        leaf: Leaf,
        payload: Option<Vec<u8>>,
    ) -> Result<Placed, AppendError> {
        let bytes = leaf.encode()?;
        self.saw_time(&leaf);
        let (reply, answer) = oneshot::channel();
        let work = Work::Leaf { before, leaf: Box::new(NewLeaf { leaf, bytes, payload }), reply };
        self.work.send(work).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// Inserts a row through the same writer, in the same commits.
    pub(crate) async fn insert(&self, row: impl Into<NewRow>) -> Result<(), AppendError> {
        let (reply, answer) = oneshot::channel();
        self.work.send(Work::Row { row: Box::new(row.into()), reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// Ends the writer and closes its database in good order; what was submitted before is written first.
    pub(crate) async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        if self.work.send(Work::Stop(reply)).await.is_ok() {
            // A writer that has ended already has nothing to close.
            let _ended = done.await;
        }
    }

    /// Takes the time of a leaf that is in the log, or on its way there.
    pub(crate) fn saw_time(&self, leaf: &Leaf) {
        if let Some(time) = leaf.time() {
            self.newest_ms.fetch_max(time.unix_ms(), Ordering::Relaxed);
        }
    }

    /// Why no intent can be written at this time, if that is so: it would stand in the log as older than what is before it.
    pub(crate) fn clock_problem(&self, now: Time) -> Option<String> {
        let newest = self.newest_ms.load(Ordering::Relaxed);
        let behind = newest - now.unix_ms();
        let text = || {
            let newest = Time::from_unix_ms(newest).map_or_else(|e| e.to_string(), |time| time.to_string());
            format!(
                "the clock says {now}, which is {behind} ms before the newest entry of the log ({newest})"
            )
        };
        (behind > MAX_BEHIND_MS).then(text)
    }

    /// The log's name.
    pub(crate) fn origin(&self) -> &record::Origin {
        &self.origin
    }

    /// The newest signed head; `None` before the first.
    pub(crate) fn noted(&self) -> Option<Noted> {
        self.noted.borrow().clone()
    }

    /// Each signed head as it comes.
    pub(crate) fn watch_noted(&self) -> watch::Receiver<Option<Noted>> {
        self.noted.clone()
    }

    /// Whether the writer has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.work.is_closed()
    }

    /// How many leaves the newest note covers.
    pub(crate) fn noted_size(&self) -> u64 {
        self.noted.borrow().as_ref().map_or(0, |n| n.size)
    }

    /// Seals the daemon where an error says that its data cannot be trusted.
    pub(crate) fn judge(&self, error: &StoreError) {
        if error.is_integrity() {
            self.health.seal(&error.full());
        }
    }
}

fn stopping() -> AppendError {
    AppendError::Unavailable("the daemon is stopping".into())
}
