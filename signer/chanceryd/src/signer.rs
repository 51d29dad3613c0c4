//! The connection to one signing keeper: batches what waits, tells it what the log has closed, and closes by its word
//! what an earlier connection or daemon left open.
//!
//! Promises: an answer goes to the one who asked; an intent whose asker is gone is closed all the same, and only by
//! what the keeper says. It does not know what the bytes mean.

use crate::{
    audit::{Log, Noted},
    frames::{self, FrameSink, Frames},
    generations::Generations,
    health::{Health, Trouble},
    keys::KeyDirectory,
    sign::{self, Receipt},
    store::{Store, StoreError},
    touches::Touches,
};
use api::KeeperFault;
use record::{
    Clock, Event, FailureCode, KeeperName, KeeperRecord, Leaf, Nonce, Sha256,
    wire::{
        Batch, Blob, Child, Extra, FrameError, FromSigner, Item, MAX_ITEMS, OpenState, PROTO, Refusal,
        Reserved, Settle, SignResult, ToSigner, Welcome,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

/// Jobs that may wait for one keeper; more wait at their sender.
const QUEUE: usize = 512;
/// Bytes of files in one batch: half a frame, since base64 adds a third.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long a closed item may wait for company before the keeper is told; it refuses work after 60 s.
const SETTLE_AFTER: Duration = Duration::from_secs(5);
/// Pause before the keeper is asked again: first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Why a keeper made no signature that we have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// The keeper refused the intent before any key was used, and will never sign it.
    #[error("refused ({code}): {detail}")]
    Refused {
        /// The check.
        code: FailureCode,
        /// The keeper's words.
        detail: String,
    },
    /// The connection ended. Whether it signs, the keeper says at the next connection, which closes the intent.
    #[error("the connection to the keeper ended; the intent is closed when it is back")]
    Gone,
}

/// A handle to a keeper's connection.
#[derive(Debug, Clone)]
pub(crate) struct Signer(mpsc::Sender<Job>);

#[derive(Debug)]
enum Job {
    Sign { receipt: Box<Receipt>, reply: Reply },
    Settle(Closed),
}

type Reply = oneshot::Sender<Result<SignResult, AskError>>;

/// An intent that the log has closed.
#[derive(Debug, Clone)]
pub(crate) struct Closed {
    pub index: u64,
    pub leaf: Vec<u8>,
    pub at: u64,
}

impl Signer {
    /// Asks for the signature of an intent that is in the log. Takes the receipt: it can be used once.
    pub(crate) async fn ask(&self, receipt: Receipt) -> Result<SignResult, AskError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Sign { receipt: Box::new(receipt), reply };
        self.0.send(job).await.map_err(|_| AskError::Gone)?;
        answer.await.map_err(|_| AskError::Gone)?
    }

    /// Tells the keeper, with its next batch, that the log has closed an intent.
    pub(crate) async fn settle(&self, closed: Closed) {
        // A keeper that is gone learns it from the log at the next connection.
        let _gone = self.0.send(Job::Settle(closed)).await;
    }
}

/// What a connection needs of the rest of the daemon.
#[derive(Clone)]
pub(crate) struct Context {
    pub log: Log,
    pub store: Store,
    pub keys: Arc<KeyDirectory>,
    pub health: Arc<Health>,
    pub clock: Arc<dyn Clock>,
    pub generations: Arc<Generations>,
    pub touches: Arc<Touches>,
}

/// Connects to a keeper and asks who it is.
pub(crate) async fn greet(
    socket: &Path,
    generation: u64,
) -> Result<(Frames, FrameSink, Welcome), SessionError> {
    let (mut frames, mut sink) = frames::connect(socket).await?;
    let daemon = format!("chanceryd {}", std::process::id());
    sink.send(&ToSigner::Hello { proto: PROTO, daemon, generation }).await?;
    match frames.answer().await? {
        FromSigner::Welcome(welcome) => Ok((frames, sink, welcome)),
        other => Err(SessionError::Unusable(
            format!("it did not say welcome: {other:?}").chars().take(300).collect(),
        )),
    }
}

/// Why this log, of `size` leaves, is not the one that a keeper has followed, if that is so: the keeper has seen more
/// of it, or something else.
// INVARIANT(no-reset): a mismatch stops this daemon; the keeper's head is never lowered.
pub(crate) async fn strayed(
    store: &Store,
    size: u64,
    welcome: &Welcome,
) -> Result<Option<String>, StoreError> {
    let (name, seen) = (&welcome.keeper, welcome.seen_size);
    if seen > size {
        return Ok(Some(format!("keeper {name} has seen {seen} leaves of this log, which now has {size}")));
    }
    let root = Sha256::from_bytes(store.root_at(seen).await?.0);
    Ok((root != welcome.seen_root)
        .then(|| format!("keeper {name} has seen another root at {seen} leaves than this log has there")))
}

/// Keeps one keeper connected until every handle is dropped.
pub(crate) struct Connection {
    name: KeeperName,
    socket: PathBuf,
    queue: mpsc::Receiver<Job>,
    own: mpsc::WeakSender<Job>,
    context: Context,
    /// Whether the session that has ended was one: the keeper was there, and is asked again soon.
    was_connected: bool,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("no connection: {0}")]
    Frame(#[from] FrameError),
    #[error("{}", .0.full())]
    Store(#[from] StoreError),
    #[error("{0}")]
    Unusable(String),
    /// It is connected, and what it says cannot be ours, or must not be believed.
    #[error("{1}")]
    Fault(KeeperFault, String),
    #[error("the daemon stops")]
    Stopping,
}

impl SessionError {
    fn trouble(&self) -> Trouble {
        let fault = match self {
            Self::Frame(_) => KeeperFault::Unreachable,
            Self::Fault(fault, _) => *fault,
            Self::Store(_) | Self::Unusable(_) | Self::Stopping => KeeperFault::Unusable,
        };
        Trouble::new(fault, self.to_string())
    }
}

/// One connection's state.
struct Session {
    frames: Frames,
    sink: FrameSink,
    /// The head that the keeper follows: size and root.
    seen: (u64, tlog::Hash),
    asked: BTreeMap<u64, Reply>,
    refused: BTreeMap<u64, Refusal>,
    waiting: Vec<(Box<Receipt>, Reply)>,
    settle: Vec<Closed>,
    settle_since: Option<Instant>,
    void: BTreeSet<u64>,
    in_flight: Option<InFlight>,
}

/// What the batch on its way holds, and since when its answer is waited for.
struct InFlight {
    noted: (u64, tlog::Hash),
    void: BTreeSet<u64>,
    sent: Instant,
}

impl Connection {
    /// A connection that will be made by [`Connection::run`], and its handle.
    pub(crate) fn new(name: KeeperName, socket: PathBuf, context: Context) -> (Signer, Self) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let own = sender.downgrade();
        (Signer(sender), Self { name, socket, queue, own, context, was_connected: false })
    }

    /// Connects, works, and connects again, until every handle is dropped.
    pub(crate) async fn run(mut self) {
        let mut pause = BACKOFF.0;
        loop {
            let end = match self.session().await {
                Ok(never) => match never {},
                Err(SessionError::Stopping) => return,
                Err(e) => e,
            };
            if let SessionError::Store(e) = &end {
                self.context.log.judge(e);
            }
            tracing::warn!(keeper = %self.name, error = %end, "the connection to a signing keeper ended");
            self.context.health.set_keeper(&self.name, Some(end.trouble()));
            self.context.touches.forget(&self.name);
            if std::mem::take(&mut self.was_connected) {
                pause = BACKOFF.0;
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    async fn session(&mut self) -> Result<std::convert::Infallible, SessionError> {
        let (frames, sink, welcome) = greet(&self.socket, self.context.generations.of(&self.name)).await?;
        let mut session = Session::new(frames, sink);
        self.check(&welcome).await?;
        self.context.generations.raise(&self.name, welcome.generation);
        session.seen = (welcome.seen_size, tlog::Hash(*welcome.seen_root.as_bytes()));
        self.context.health.saw(&self.name, welcome.seen_size);
        self.take_what_waits(&mut session);
        self.close_by_its_word(&mut session, welcome).await?;
        self.context.health.set_keeper(&self.name, None);
        self.was_connected = true;
        tracing::info!(keeper = %self.name, "connected to a signing keeper");
        loop {
            self.send_if_due(&mut session).await?;
            let settle_due = session.settle_since.map(|since| since + SETTLE_AFTER);
            let answer_due = session.in_flight.as_ref().map(|batch| batch.sent + frames::ANSWER);
            tokio::select! {
                message = session.frames.next() => self.handle(&mut session, message?).await?,
                job = self.queue.recv(), if session.waiting.len() < QUEUE => session.take(job.ok_or(SessionError::Stopping)?),
                () = until(settle_due), if session.in_flight.is_none() => {}
                () = until(answer_due) => return Err(SessionError::Unusable("it gave no answer to a batch".into())),
            }
        }
    }

    /// It is the keeper we mean, it follows our log, and each of us has everything that the other has shown.
    async fn check(&self, welcome: &Welcome) -> Result<(), SessionError> {
        let fault = |fault: KeeperFault, why: String| Err(SessionError::Fault(fault, why));
        if welcome.keeper != self.name {
            return fault(
                KeeperFault::Mismatch,
                format!("it calls itself {}; {} is configured for this socket", welcome.keeper, self.name),
            );
        }
        if welcome.origin != *self.context.log.origin() {
            return fault(
                KeeperFault::Mismatch,
                format!(
                    "it serves the log {}; this daemon writes {}",
                    welcome.origin,
                    self.context.log.origin()
                ),
            );
        }
        let Some(noted) = self.context.log.noted() else {
            return Err(SessionError::Unusable("the log has no head yet".into()));
        };
        if welcome.forked {
            return fault(
                KeeperFault::Fork,
                "it was shown a fork of the log and refuses all work until an operator acts".into(),
            );
        }
        if let Some(why) = strayed(&self.context.store, noted.size, welcome).await? {
            self.context.health.seal(&format!("fork: {why}"));
            return fault(KeeperFault::Fork, why);
        }
        if let Some(signed) = self.context.store.newest_signed(&self.name).await?
            && welcome.seen_size <= signed
        {
            return fault(
                KeeperFault::OlderJournal,
                format!(
                    "its journal has seen {} leaves, but this keeper has signed the intent {signed}: the journal is an older \
                 copy; restore the newest one, nothing is asked of this keeper until then",
                    welcome.seen_size
                ),
            );
        }
        self.tell_of_keys(welcome).await
    }

    /// Writes into the log what the keeper presents, when that is new.
    async fn tell_of_keys(&self, welcome: &Welcome) -> Result<(), SessionError> {
        let keeper = KeeperRecord {
            name: welcome.keeper.clone(),
            charter: welcome.charter,
            keys: welcome.keys.clone(),
        };
        if !self.context.keys.differs(&keeper) {
            return Ok(());
        }
        let nonce = Nonce::random().map_err(|e| SessionError::Unusable(e.to_string()))?;
        let leaf =
            Leaf::Event(Event::Keeper { time: self.context.clock.now(), nonce, keeper: keeper.clone() });
        let placed = self.context.log.append(leaf).await;
        let placed = placed.map_err(|e| SessionError::Unusable(e.to_string()))?;
        // Only now: a refill must find every key of an intent in a leaf before it.
        self.context.keys.update(keeper, placed.index);
        Ok(())
    }

    /// Receipts that were handed over while no session ran: their askers wait, and this session asks for them.
    fn take_what_waits(&mut self, session: &mut Session) {
        while session.waiting.len() < QUEUE
            && let Ok(job) = self.queue.try_recv()
        {
            session.take(job);
        }
    }

    // INVARIANT(keepers-word): an open intent is closed by what this keeper says of it, and by nothing else as long as it can
    // speak.
    async fn close_by_its_word(&self, session: &mut Session, welcome: Welcome) -> Result<(), SessionError> {
        let mut known = BTreeMap::new();
        for item in welcome.open {
            if let Some(at) = self.context.store.end_of(item.index).await? {
                session.settle.push(self.closed(item.index, at).await?);
            }
            known.insert(item.index, item.state);
        }
        for index in self.context.store.open_intents(self.name.as_str()).await? {
            match known.remove(&index) {
                Some(OpenState::Finished(result)) => self.finish_later(index, result),
                // Its result comes on this connection.
                Some(OpenState::Working {}) => {}
                None if session.waits_for(index) => {}
                None => {
                    session.void.insert(index);
                }
            }
        }
        Ok(())
    }

    async fn closed(&self, index: u64, at: u64) -> Result<Closed, SessionError> {
        let leaf = self.context.store.leaf(at).await?;
        let leaf = leaf.ok_or_else(|| StoreError::Contradiction(format!("leaf {at} is missing")))?;
        Ok(Closed { index, leaf, at })
    }

    /// Writes the end of an intent whose asker is gone, and then settles it.
    fn finish_later(&self, index: u64, result: SignResult) {
        let (context, own) = (self.context.clone(), self.own.clone());
        tokio::spawn(async move {
            match sign::finish_abandoned(&context, index, result).await {
                Ok(closed) => {
                    if let Some(sender) = own.upgrade() {
                        Signer(sender).settle(closed).await;
                    }
                }
                // Told once, by the seal.
                Err(_) if context.health.sealed().is_some() => {}
                Err(e) => tracing::error!(intent = index, error = %e, "an open intent was not closed"),
            }
        });
    }

    fn void_later(&self, index: u64, code: Option<FailureCode>) {
        let (context, name) = (self.context.clone(), self.name.clone());
        tokio::spawn(async move {
            if let Err(e) = sign::write_void(&context, index, name, code).await
                && context.health.sealed().is_none()
            {
                tracing::error!(intent = index, error = %e, "an intent that never reached a key was not closed");
            }
        });
    }

    async fn send_if_due(&self, session: &mut Session) -> Result<(), SessionError> {
        // INVARIANT(no-write-after-fault): nothing that waits reaches a key any more; the next daemon asks who has it.
        if self.context.health.sealed().is_some() {
            session.waiting.clear();
            return Ok(());
        }
        let Some(noted) = self.context.log.noted() else { return Ok(()) };
        // What is committed and not noted yet has its asker in this process, or is noted soon.
        let void: BTreeSet<u64> = session.void.range(..noted.size).copied().take(MAX_ITEMS).collect();
        let settle_due = session.settle_since.is_some_and(|since| since.elapsed() >= SETTLE_AFTER);
        let due = !session.waiting.is_empty() || !void.is_empty() || settle_due;
        if session.in_flight.is_some() || !due {
            return Ok(());
        }
        session.void.retain(|index| !void.contains(index));
        let batch = Batch {
            note: noted.note.to_string(),
            from: session.seen.0,
            consistency: self.context.log.consistency(session.seen.0, &session.seen.1, &noted).await?,
            settle: self.settlements(session, &noted).await?,
            void: void.iter().copied().collect(),
            sign: self.items(session, &noted).await?,
        };
        session.in_flight = Some(InFlight { noted: (noted.size, noted.root), void, sent: Instant::now() });
        Ok(session.sink.send(&ToSigner::Batch(batch)).await?)
    }

    async fn settlements(&self, session: &mut Session, noted: &Noted) -> Result<Vec<Settle>, SessionError> {
        // An end that is committed and not noted yet waits for its note.
        let (mut now, later): (Vec<_>, Vec<_>) =
            session.settle.drain(..).partition(|closed| closed.at < noted.size);
        session.settle = now.split_off(now.len().min(MAX_ITEMS));
        session.settle.extend(later);
        let mut settlements = Vec::with_capacity(now.len());
        for closed in now {
            let inclusion = self.context.log.inclusion(closed.at, &closed.leaf, noted).await?;
            settlements.push(Settle {
                index: closed.index,
                leaf: Blob(closed.leaf),
                at: closed.at,
                inclusion,
            });
        }
        session.settle_since = (!session.settle.is_empty()).then(Instant::now);
        Ok(settlements)
    }

    async fn items(&self, session: &mut Session, noted: &Noted) -> Result<Vec<Item>, SessionError> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while items.len() < MAX_ITEMS && bytes < MAX_BATCH_BYTES && !session.waiting.is_empty() {
            let (receipt, reply) = session.waiting.remove(0);
            let (index, intent, mut extra) = receipt.into_parts();
            self.prove_children(&mut extra, noted).await?;
            bytes += intent.len() + extra_bytes(&extra);
            let inclusion = self.context.log.inclusion(index, &intent, noted).await?;
            session.asked.insert(index, reply);
            items.push(Item { index, intent: Blob(intent), inclusion, extra, approvals: vec![] });
        }
        Ok(items)
    }

    async fn prove_children(&self, extra: &mut Extra, noted: &Noted) -> Result<(), SessionError> {
        let children: Vec<&mut Child> = match extra {
            Extra::Snapshot { root, targets } => vec![root, targets],
            Extra::Timestamp { snapshot } => vec![snapshot],
            Extra::Root { .. } | Extra::RootCertificate {} | Extra::Targets { .. } => vec![],
        };
        for child in children {
            child.inclusion = self.context.log.inclusion(child.index, &child.leaf.0, noted).await?;
        }
        Ok(())
    }

    async fn handle(&self, session: &mut Session, message: FromSigner) -> Result<(), SessionError> {
        match message {
            FromSigner::Reserved(reserved) => self.reserved(session, reserved),
            FromSigner::Touch(touch) => {
                self.context.touches.begin(&self.name, touch);
                Ok(())
            }
            FromSigner::Token { problems } => {
                self.context.health.set_token(&self.name, problems);
                Ok(())
            }
            FromSigner::Result { index, result } => {
                self.context.touches.end(&self.name, index);
                match session.asked.remove(&index) {
                    Some(reply) => answer(reply, Ok(result)),
                    None => self.finish_later(index, result),
                }
                Ok(())
            }
            FromSigner::Fork { size, root } => {
                let why = format!(
                    "keeper {} calls our head a fork of what it has seen: {size} leaves, root {root}",
                    self.name
                );
                self.context.health.seal(&why);
                Err(SessionError::Fault(KeeperFault::Fork, why))
            }
            FromSigner::Behind { size } => {
                Err(SessionError::Unusable(format!("our note is older than the {size} leaves it has seen")))
            }
            FromSigner::Refused { code, detail } => {
                Err(SessionError::Unusable(format!("it refused our message ({code}): {detail}")))
            }
            FromSigner::Roster(_) => {
                Err(SessionError::Unusable("it answered a roster that was not sent".into()))
            }
            FromSigner::Welcome(_) => Err(SessionError::Unusable("it said welcome twice".into())),
        }
    }

    fn reserved(&self, session: &mut Session, reserved: Reserved) -> Result<(), SessionError> {
        let Some(sent) = session.in_flight.take() else {
            return Err(SessionError::Unusable("it answered a batch that was not sent".into()));
        };
        session.seen = sent.noted;
        self.context.health.saw(&self.name, session.seen.0);
        self.context.generations.raise(&self.name, reserved.generation);
        for left in &reserved.unsettled {
            tracing::error!(keeper = %self.name, intent = left.index, code = %left.code, detail = left.detail, "a settlement was refused");
        }
        // INVARIANT(keepers-word): a void that the keeper did not take is no void; it is asked anew who has the intent.
        if let Some(kept) = reserved.refused.iter().find(|refusal| sent.void.contains(&refusal.index)) {
            let why = format!("it does not give up intent {} ({}): {}", kept.index, kept.code, kept.detail);
            return Err(SessionError::Unusable(why));
        }
        for index in sent.void {
            let refusal = session.refused.remove(&index);
            self.void_later(index, refusal.as_ref().map(|r| r.code.clone()));
            if let (Some(refusal), Some(reply)) = (refusal, session.asked.remove(&index)) {
                answer(reply, Err(AskError::Refused { code: refusal.code, detail: refusal.detail }));
            }
        }
        // A refused index is voided with the next batch, so that it is spent whatever the reason was.
        for refusal in reserved.refused {
            tracing::warn!(keeper = %self.name, intent = refusal.index, code = %refusal.code, detail = refusal.detail, "an intent was refused");
            session.void.insert(refusal.index);
            session.refused.insert(refusal.index, refusal);
        }
        Ok(())
    }
}

impl Session {
    fn new(frames: Frames, sink: FrameSink) -> Self {
        Self {
            frames,
            sink,
            seen: (0, tlog::empty_root()),
            asked: BTreeMap::new(),
            refused: BTreeMap::new(),
            waiting: Vec::new(),
            settle: Vec::new(),
            settle_since: None,
            void: BTreeSet::new(),
            in_flight: None,
        }
    }

    fn waits_for(&self, index: u64) -> bool {
        self.waiting.iter().any(|(receipt, _)| receipt.index() == index)
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Sign { receipt, reply } => {
                self.void.remove(&receipt.index());
                self.waiting.push((receipt, reply));
            }
            Job::Settle(closed) => {
                self.settle.push(closed);
                self.settle_since.get_or_insert_with(Instant::now);
            }
        }
    }
}

fn extra_bytes(extra: &Extra) -> usize {
    match extra {
        Extra::RootCertificate {} => 0,
        Extra::Root { certificate } => certificate.0.len(),
        Extra::Targets { prev } => prev.as_ref().map_or(0, |p| p.0.len()),
        Extra::Snapshot { root, targets } => root.file.0.len() + targets.file.0.len(),
        Extra::Timestamp { snapshot } => snapshot.file.0.len(),
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Answers one who asked, and who may have gone.
fn answer(reply: Reply, result: Result<SignResult, AskError>) {
    let _gone = reply.send(result);
}
