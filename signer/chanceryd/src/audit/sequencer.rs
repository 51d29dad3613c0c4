//! The one writer. Whatever waits while a commit is in flight is the next batch: no timer, no artificial delay.

use super::{
    AppendError, LinkError, LogLink, Noted, Placed, Refill, TimestampError, Work, reconcile,
    recover::{RecoverError, recover},
    timestamps::Timestamps,
};
use crate::{
    generations::Generations,
    health::Health,
    store::{Committed, NewLeaf, NewRow, StoreError, Writer},
};
use formats::sigstore::SignedEntryTimestamp;
use record::{Clock, Completion, Leaf};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tlog::VerifierKey;
use tokio::sync::{mpsc, oneshot, watch};

/// Leaves and rows in one commit.
const MAX_BATCH: usize = 256;
/// Bytes of leaves in one commit: what one message to the log keeper can carry.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How often a commit that surely changed nothing is tried again.
const COMMIT_TRIES: u32 = 5;
/// Pause before the log keeper is asked again: first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What the sequencer owns.
pub(crate) struct Parts {
    /// The database.
    pub writer: Writer,
    /// The log keeper's socket.
    pub socket: PathBuf,
    /// The log key.
    pub vkey: VerifierKey,
    /// How far a lost connection may refill.
    pub refill: Refill,
    /// The clock for its own leaves.
    pub clock: Arc<dyn Clock>,
    /// What signing keepers told of their journals, for the next commit.
    pub generations: Arc<Generations>,
    /// A lease that was taken and reconciled before.
    pub link: Option<LogLink>,
}

/// Runs until all handles are gone.
pub(crate) struct Sequencer {
    parts: Parts,
    queue: mpsc::Receiver<Work>,
    publish: watch::Sender<Option<Noted>>,
    health: Arc<Health>,
    timestamps: Arc<Timestamps>,
}

/// A completion whose timestamp somebody waits for.
struct TimestampWork {
    index: u64,
    completion: Box<Completion>,
    reply: oneshot::Sender<Result<SignedEntryTimestamp, TimestampError>>,
}

/// What one commit takes; closings of intents stand before everything else, the rest in the order of its coming.
#[derive(Default)]
struct Batch {
    leaves: Vec<(NewLeaf, oneshot::Sender<Result<Placed, AppendError>>)>,
    rows: Vec<(NewRow, oneshot::Sender<Result<(), AppendError>>)>,
    bytes: usize,
    timestamp: Option<TimestampWork>,
    stop: Option<oneshot::Sender<()>>,
}

impl Sequencer {
    pub(super) fn new(
        parts: Parts,
        queue: mpsc::Receiver<Work>,
        publish: watch::Sender<Option<Noted>>,
        health: Arc<Health>,
        timestamps: Arc<Timestamps>,
    ) -> Self {
        Self { parts, queue, publish, health, timestamps }
    }

    /// Lets readers see a note that no keeper has made.
    #[cfg(test)]
    pub(crate) fn show(&self, noted: Noted) {
        self.publish.send_replace(Some(noted));
    }

    /// Publishes the head it starts with, then works until every handle is dropped.
    pub(crate) async fn run(mut self) {
        self.note_until_done().await;
        while let Some(first) = self.next().await {
            let mut batch = Batch::default();
            batch.take(first);
            while batch.has_room() {
                match self.queue.try_recv() {
                    Ok(work) => batch.take(work),
                    Err(_) => break,
                }
            }
            let (stop, timestamp) = (batch.stop.take(), batch.timestamp.take());
            self.turn(batch).await;
            // Behind the leaves: a signature that somebody waits for goes first.
            if let Some(TimestampWork { index, completion, reply }) = timestamp
                && !reply.is_closed()
            {
                answer(reply, self.timestamp(index, &completion).await);
            }
            if let Some(reply) = stop {
                // INVARIANT(no-write-after-fault): closing the database writes and syncs.
                if self.health.sealed().is_none() {
                    match self.parts.writer.close().await {
                        Err(e) if e.is_integrity() => self.health.seal(&e.full()),
                        Err(e) => tracing::warn!("{}", e.full()),
                        Ok(()) => {}
                    }
                }
                return answer(reply, ());
            }
        }
    }

    /// The next work. Meanwhile watches the lease, so that `/readyz` tells of a keeper that has gone before somebody
    /// asks for a signature.
    async fn next(&mut self) -> Option<Work> {
        let mut pause = BACKOFF.0;
        loop {
            let Some(link) = self.parts.link.as_mut() else {
                match tokio::time::timeout(pause, self.queue.recv()).await {
                    Ok(work) => return work,
                    Err(_) if self.health.sealed().is_some() => return self.queue.recv().await,
                    // Told where it fails; the next try comes later.
                    Err(_) => drop(self.reconnect().await),
                }
                pause = (pause * 2).min(BACKOFF.1);
                continue;
            };
            tokio::select! {
                work = self.queue.recv() => return work,
                end = link.end() => self.lose_link(end.into()),
            }
        }
    }

    fn lose_link(&mut self, why: RecoverError) {
        if !self.fatal(&why) {
            tracing::warn!(error = %why, "the log keeper is away");
        }
        self.parts.link = None;
        self.health.set_log(Some(why.to_string()));
    }

    /// One batch: commit here, append there, note; only then the answers.
    async fn turn(&mut self, mut batch: Batch) {
        if batch.leaves.is_empty() && batch.rows.is_empty() {
            return;
        }
        batch.leaves.sort_by_key(|(new, _)| !matches!(new.leaf, Leaf::Completion(_) | Leaf::Outcome(_)));
        if let Err(why) = self.prepare().await {
            return batch.refuse(&why);
        }
        let (leaves, leaf_replies): (Vec<_>, Vec<_>) = batch.leaves.into_iter().unzip();
        let (rows, row_replies): (Vec<_>, Vec<_>) = batch.rows.into_iter().unzip();
        match self.commit(&leaves, &rows).await {
            Err(why) => {
                leaf_replies.into_iter().for_each(|r| answer(r, Err(AppendError::Unavailable(why.clone()))));
                row_replies.into_iter().for_each(|r| answer(r, Err(AppendError::Unavailable(why.clone()))));
            }
            Ok((placed, inserted)) => {
                row_replies
                    .into_iter()
                    .zip(inserted)
                    .for_each(|(r, result)| answer(r, result.map_err(Into::into)));
                let noted = leaves.is_empty() || self.note_until_done().await;
                for ((reply, result), new) in leaf_replies.into_iter().zip(placed).zip(leaves) {
                    let placed =
                        result.map(|index| Placed { index, bytes: new.bytes }).map_err(AppendError::from);
                    let unknown =
                        || Err(AppendError::Unavailable("sealed while the leaf was on its way".into()));
                    answer(reply, if noted { placed } else { unknown() });
                }
            }
        }
    }

    /// Makes sure that a lease is held before anything is committed under it.
    async fn prepare(&mut self) -> Result<(), String> {
        if let Some(why) = self.health.sealed() {
            return Err(format!("sealed: {why}"));
        }
        if self.parts.link.is_none() {
            self.reconnect().await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    async fn commit(&mut self, leaves: &[NewLeaf], rows: &[NewRow]) -> Result<Committed, String> {
        let epoch = self.parts.link.as_ref().map_or(0, |l| l.epoch);
        self.parts.writer.remember_generations(self.parts.generations.all());
        let mut tries = 0;
        loop {
            tries += 1;
            match self.parts.writer.commit(epoch, leaves, rows).await {
                Ok(done) => {
                    self.health.set_alarms("database", self.parts.writer.alarm().into_iter().collect());
                    return Ok(done);
                }
                Err(StoreError::NotApplied(e)) if tries < COMMIT_TRIES => {
                    tracing::warn!(error = %e, tries, "the database was busy; the commit is tried again");
                }
                Err(e) if !e.is_integrity() => return Err(e.full()),
                Err(e) => {
                    self.health.seal(&e.full());
                    return Err(e.full());
                }
            }
        }
    }

    /// Brings the spool up to the database and publishes a note over it; false only when sealed.
    async fn note_until_done(&mut self) -> bool {
        let mut pause = BACKOFF.0;
        loop {
            match self.note().await {
                Ok(()) => return true,
                Err(e) if self.fatal(&e) => return false,
                // The lease holds: only the token is away.
                Err(e @ RecoverError::Link(LinkError::Token { .. })) => {
                    tracing::warn!(error = %e, "committed leaves wait for a note");
                    self.health.set_log(Some(e.to_string()));
                }
                Err(e) => self.lose_link(e),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    async fn note(&mut self) -> Result<(), RecoverError> {
        // INVARIANT(no-write-after-fault): heads may be made one by writing.
        if let Some(why) = self.health.sealed() {
            return Err(RecoverError::Sealed(why));
        }
        if self.parts.link.is_none() {
            self.reconnect().await?;
        }
        let Some(link) = self.parts.link.as_mut() else { return Ok(()) };
        reconcile(&mut self.parts.writer, link, self.parts.refill, Some(&self.health)).await?;
        let note: Arc<str> = link.note().await?.into();
        self.health.set_log(None);
        let noted = Noted { size: link.size, root: link.root, note: note.clone() };
        self.parts.writer.remember_note(note.to_string());
        self.publish.send_replace(Some(noted));
        Ok(())
    }

    async fn timestamp(
        &mut self,
        index: u64,
        completion: &Completion,
    ) -> Result<SignedEntryTimestamp, TimestampError> {
        self.prepare().await.map_err(TimestampError::Unavailable)?;
        let Some(link) = self.parts.link.as_mut() else {
            return Err(TimestampError::Unavailable("the log keeper is away".into()));
        };
        match link.timestamp(index, completion).await {
            Ok(None) => Err(TimestampError::NoKey),
            Ok(Some(set)) => {
                self.timestamps.remember(index, &set);
                Ok(set)
            }
            Err(LinkError::Refused { code, detail }) => Err(TimestampError::Refused { code, detail }),
            Err(LinkError::Token { code, detail }) => Err(TimestampError::Token { code, detail }),
            Err(e) => {
                let why = e.to_string();
                self.lose_link(e.into());
                Err(TimestampError::Unavailable(why))
            }
        }
    }

    /// Takes the lease again and compares heads.
    async fn reconnect(&mut self) -> Result<(), RecoverError> {
        let known = self.parts.writer.head().epoch;
        let mut link = match LogLink::connect(&self.parts.socket, &self.parts.vkey, known).await {
            Ok(link) => link,
            Err(e) => {
                self.health.set_log(Some(e.to_string()));
                return Err(e.into());
            }
        };
        self.timestamps.forget();
        let parts = &mut self.parts;
        let (clock, health) = (parts.clock.as_ref(), Some(self.health.as_ref()));
        match recover(&mut parts.writer, &mut link, parts.refill, clock, health).await {
            Ok(()) => {
                self.parts.link = Some(link);
                self.health.set_log(None);
                Ok(())
            }
            Err(e) => {
                self.fatal(&e);
                Err(e)
            }
        }
    }

    fn fatal(&self, error: &RecoverError) -> bool {
        let seal = !error.is_temporary();
        if seal {
            self.health.seal(&error.to_string());
        }
        seal || self.health.sealed().is_some()
    }
}

impl Batch {
    fn take(&mut self, work: Work) {
        match work {
            Work::Leaf { before, leaf, reply } => {
                for leaf in before {
                    self.bytes += leaf.bytes.len();
                    // Who waits for the leaf behind it waits for all.
                    self.leaves.push((leaf, oneshot::channel().0));
                }
                self.bytes += leaf.bytes.len();
                self.leaves.push((*leaf, reply));
            }
            Work::Row { row, reply } => self.rows.push((*row, reply)),
            Work::Timestamp { index, completion, reply } => {
                self.timestamp = Some(TimestampWork { index, completion, reply });
            }
            Work::Stop(reply) => self.stop = Some(reply),
        }
    }

    fn has_room(&self) -> bool {
        self.stop.is_none()
            && self.timestamp.is_none()
            && self.leaves.len() + self.rows.len() < MAX_BATCH
            && self.bytes < MAX_BATCH_BYTES
    }

    fn refuse(self, why: &str) {
        let error = || AppendError::Unavailable(why.to_owned());
        self.leaves.into_iter().for_each(|(_, reply)| answer(reply, Err(error())));
        self.rows.into_iter().for_each(|(_, reply)| answer(reply, Err(error())));
    }
}

/// Answers a caller, who may have gone.
fn answer<T>(reply: oneshot::Sender<T>, result: T) {
    let _gone = reply.send(result);
}
