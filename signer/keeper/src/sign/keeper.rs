//! The running keeper: connections, the one lock over its memory, and who is told what.
//!
//! It promises the order of effects: checks, then the durable record, then the answer, then the token; and a result on
//! every connection that was told to wait for it. Nothing waits for a peer, and no lock is held while a token works.

use super::batch::{self, Verdict, Work};
use super::charter::Charter;
use super::journal::Journal;
use super::queue::{Job, Queue};
use super::refusal::{Code, Refused};
use super::results::Results;
use super::roster;
use super::state::{Change, Contradiction, Draft, State};
use super::validate::Rules;
use crate::exit::{self, Fatal};
use crate::server::{self, Connection, Stop, WeakWriter, Writer};
use crate::token::TouchWait;
use record::wire::{
    Batch, Blob, FrameError, FromSigner, OpenItem, OpenState, PROTO, Reserved, SignResult, ToSigner,
    TokenProblem, Touch, Welcome,
};
use record::{Clock, KeyRecord, Time};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// A signing keeper at work.
pub(super) struct Keeper {
    charter: Charter,
    records: Vec<KeyRecord>,
    memory: Mutex<Memory>,
    clock: Arc<dyn Clock>,
    queue: Queue,
    stop: Stop,
}

/// What the lock guards: it is changed and written as one.
struct Memory {
    journal: Journal,
    state: State,
    results: Results,
    /// Who waits for the result of an item, if still connected.
    waiting: BTreeMap<u64, Vec<WeakWriter>>,
    /// Touches that devices wait for now.
    touches: BTreeMap<u64, Touch>,
    /// What keeps keys from signing now.
    problems: Vec<TokenProblem>,
    /// Every daemon that was welcomed, if still connected.
    daemons: Vec<WeakWriter>,
}

impl Keeper {
    /// A keeper that has just read its journal: every open item has failed or is lost.
    pub(super) fn new(
        charter: Charter,
        records: Vec<KeyRecord>,
        journal: Journal,
        state: State,
        clock: Arc<dyn Clock>,
        queue: Queue,
        stop: Stop,
    ) -> Self {
        let results = Results::after_restart(&state.open, clock.now());
        let memory = Mutex::new(Memory {
            journal,
            state,
            results,
            waiting: BTreeMap::new(),
            touches: BTreeMap::new(),
            problems: vec![],
            daemons: vec![],
        });
        Self { charter, records, memory, clock, queue, stop }
    }

    /// Talks to one daemon until it goes or breaks the protocol.
    pub(super) fn converse(&self, mut connection: Connection) -> Result<(), Fatal> {
        let writer = connection.writer();
        if !self.hello(&mut connection, &writer)? {
            return Ok(());
        }
        loop {
            match connection.receive::<ToSigner>() {
                Ok(Some(ToSigner::Batch(batch))) => self.batch(&batch, &writer)?,
                Ok(Some(ToSigner::Roster { signed })) => {
                    let _running = self.stop.begin();
                    let answer = self.lock().take_roster(&signed, self);
                    send(&writer, &answer);
                }
                other => {
                    close(&connection, &writer, other);
                    return Ok(());
                }
            }
        }
    }

    /// Whether the conversation begins as it must.
    ///
    /// A daemon that was told of more than this journal knows ends the process for good, and not only its own
    /// connection: the journal was cut or is an older copy, and whoever asks, the key could sign two contents for one
    /// version. A taken-over daemon can name any number and so stop the keeper until its operator has looked. That is
    /// withholding, which it can do anyway, by leaving what was signed unsettled; the log line has both numbers.
    fn hello(&self, connection: &mut Connection, writer: &Writer) -> Result<bool, Fatal> {
        match connection.receive::<ToSigner>() {
            Ok(Some(ToSigner::Hello { proto: PROTO, daemon, generation })) => {
                tracing::info!(peer = connection.peer(), daemon, generation, "connected");
                if let Some(older) = self.lock().journal.older_than(generation) {
                    return Err(older);
                }
                self.greet(writer);
                return Ok(true);
            }
            Ok(Some(ToSigner::Hello { proto, .. })) => {
                let why = format!("protocol {proto} is not spoken here, {PROTO} is");
                refuse(writer, Refused::new(Code::Frame, why));
            }
            other => close(connection, writer, other),
        }
        Ok(false)
    }

    /// Takes a result from the token, and tells it to those who wait for it. A failure is durable before it is told.
    pub(super) fn end(&self, index: u64, result: SignResult) {
        let waiting = {
            let (mut memory, now) = (self.lock(), self.clock.now());
            memory.keep(index, &result, now);
            memory.results.finish(index, result.clone(), now);
            memory.touches.remove(&index);
            memory.waiting.remove(&index).unwrap_or_default()
        };
        let message = FromSigner::Result { index, result };
        waiting.iter().filter_map(WeakWriter::upgrade).for_each(|writer| send(&writer, &message));
    }

    /// Tells those who wait for an item that its device waits for a touch. Nothing depends on it: the result follows.
    pub(super) fn touch(&self, index: u64, wait: TouchWait) {
        let within = i64::try_from(wait.within.as_millis()).unwrap_or(i64::MAX);
        let deadline = self.clock.now().plus_ms(within);
        let touch = Touch { index, deadline, serial: wait.serial, slot: wait.slot };
        tracing::info!(index, serial = wait.serial, slot = %wait.slot, %deadline, "waiting for a touch");
        let waiting: Vec<Writer> = {
            let mut memory = self.lock();
            memory.touches.insert(index, touch.clone());
            memory.waiting.get(&index).into_iter().flatten().filter_map(WeakWriter::upgrade).collect()
        };
        waiting.iter().for_each(|writer| send(writer, &FromSigner::Touch(touch.clone())));
    }

    /// Takes what a glance at the token gave, and tells every daemon of it if it is another than before.
    pub(super) fn looked(&self, problems: Vec<TokenProblem>) {
        {
            let mut memory = self.lock();
            if memory.problems == problems {
                return;
            }
            memory.problems.clone_from(&problems);
            // Under the lock, so that a daemon that is welcomed meanwhile hears the newest last. Nothing waits for it.
            let message = FromSigner::Token { problems: problems.clone() };
            memory.daemons.iter().filter_map(WeakWriter::upgrade).for_each(|writer| send(&writer, &message));
        }
        for problem in &problems {
            tracing::error!(key = ?problem.key, code = %problem.code, problem.detail, "the token cannot sign");
        }
        if problems.is_empty() {
            tracing::info!("the token can sign again");
        }
    }

    /// Says what this keeper is and where its open items stand; those at the token are told when they end.
    // INVARIANT(keepers-word): a daemon that lost an answer learns it here, as often as it asks, until it is settled.
    fn greet(&self, writer: &Writer) {
        let (welcome, working) = {
            let memory = self.lock();
            (memory.welcome(&self.charter, &self.records), memory.results.working().collect::<Vec<_>>())
        };
        send(writer, &FromSigner::Welcome(welcome));
        // Only now, so that no result overtakes the welcome. What ended in between is told at once.
        let (ended, touches) = {
            let mut memory = self.lock();
            memory.daemons.retain(|daemon| daemon.upgrade().is_some());
            memory.daemons.push(writer.downgrade());
            let touches: Vec<Touch> = memory.touches.values().cloned().collect();
            if !memory.problems.is_empty() {
                send(writer, &FromSigner::Token { problems: memory.problems.clone() });
            }
            (memory.wait_for(&working, writer), touches)
        };
        touches.into_iter().for_each(|touch| send(writer, &FromSigner::Touch(touch)));
        for (index, result) in ended {
            send(writer, &FromSigner::Result { index, result });
        }
    }

    /// Carries out one frame: decide, write, answer, sign.
    fn batch(&self, batch: &Batch, writer: &Writer) -> Result<(), Fatal> {
        let running = self.stop.begin();
        let (answer, jobs) = self.lock().carry_out(batch, self, writer, &running);
        send(writer, &answer);
        for job in jobs {
            // The workers live as long as the process.
            if self.queue.send(job).is_err() {
                let why = "the signing workers have ended".to_owned();
                return Err(Fatal::Token { token: self.charter.keeper.to_string(), why });
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(|_| {
            // A thread died between changing the memory and writing it: only the journal is to be trusted.
            tracing::error!(
                "the memory was left half changed; ending, so that the next start reads the journal"
            );
            exit::end(70)
        })
    }
}

impl Memory {
    /// Decides a frame and makes it durable. On a failure the process ends here, under the lock: the memory is then
    /// ahead of the journal, and nobody may act on it.
    fn carry_out(
        &mut self,
        batch: &Batch,
        keeper: &Keeper,
        writer: &Writer,
        running: &server::Work,
    ) -> (FromSigner, Vec<Job>) {
        let now = keeper.clock.now();
        let rules = Rules { charter: &keeper.charter, now };
        let decided = batch::decide(batch, &rules, &mut self.state, &mut self.results);
        let verdict = decided.unwrap_or_else(|contradiction| self.contradicted(&contradiction).end());
        match verdict {
            Verdict::Refused(refused) => (refusal(refused), vec![]),
            Verdict::Behind => (FromSigner::Behind { size: self.state.seen.size }, vec![]),
            Verdict::Fork => {
                tracing::error!(
                    seen = self.state.seen.size,
                    note = batch.note,
                    "the log has forked: refusing all work"
                );
                self.journal.fork(self.state.seen, &batch.note).unwrap_or_else(|fatal| fatal.end());
                self.state.forked = true;
                (self.forked(), vec![])
            }
            Verdict::Forked => (self.forked(), vec![]),
            Verdict::Done(work) => self.reserve(work, now, writer, running),
        }
    }

    // INVARIANT(log-before-key): the record is durable before the answer is sent and before any job exists.
    fn reserve(
        &mut self,
        work: Work,
        now: Time,
        writer: &Writer,
        running: &server::Work,
    ) -> (FromSigner, Vec<Job>) {
        let Work { reserve, answer, accepted } = work;
        let mut jobs = vec![];
        if let Some(reserve) = &reserve {
            let durable = self.journal.reserve(reserve, &self.state).unwrap_or_else(|fatal| fatal.end());
            for checked in &accepted {
                self.waiting.entry(checked.index()).or_default().push(writer.downgrade());
                jobs.push(Job::new(checked, now, &durable, running.clone()));
            }
        }
        (FromSigner::Reserved(Reserved { generation: self.journal.generation(), ..answer }), jobs)
    }

    /// Takes a roster, durable before it is answered. On a failure the process ends here, as in [`Self::carry_out`].
    fn take_roster(&mut self, signed: &Blob, keeper: &Keeper) -> FromSigner {
        if self.state.forked {
            return self.forked();
        }
        match roster::take(signed, &keeper.charter, &self.state) {
            Err(refused) => return refusal(refused),
            Ok(None) => {}
            Ok(Some(change)) => self.write(change, keeper.clock.now()),
        }
        match roster::in_force(&self.state) {
            Some(in_force) => {
                tracing::info!(version = in_force.version, sha256 = %in_force.sha256, "roster in force");
                FromSigner::Roster(in_force)
            }
            None => refusal(Refused::new(Code::People, "no roster was taken")),
        }
    }

    /// Makes one change durable, outside of any frame.
    fn write(&mut self, change: Change, now: Time) {
        let mut draft = Draft::new(&mut self.state, now);
        let changed = draft.change(change);
        let reserve = draft.close();
        changed.unwrap_or_else(|contradiction| self.contradicted(&contradiction).end());
        if let Some(reserve) = reserve {
            self.journal.reserve(&reserve, &self.state).map(drop).unwrap_or_else(|fatal| fatal.end());
        }
    }

    // INVARIANT(keepers-word): the daemon may log a failure and settle it with the keeper's next process, so that must
    // know it. A signature needs no record: its completion closes a lost item too.
    fn keep(&mut self, index: u64, result: &SignResult, now: Time) {
        let SignResult::Failed { code } = result else { return };
        self.write(Change::Failed { index, code: code.clone() }, now);
    }

    fn contradicted(&self, contradiction: &Contradiction) -> Fatal {
        Fatal::State {
            path: self.journal.path().to_owned(),
            why: format!("the checks passed what the state forbids: {contradiction}"),
            next: "nothing was written or signed; report this fault, then start the keeper again".into(),
        }
    }

    fn forked(&self) -> FromSigner {
        FromSigner::Fork { size: self.state.seen.size, root: self.state.seen.root }
    }

    fn welcome(&self, charter: &Charter, records: &[KeyRecord]) -> Welcome {
        let open = self.state.open.keys().map(|i| OpenItem { index: *i, state: self.results.told(*i) });
        Welcome {
            keeper: charter.keeper.clone(),
            origin: charter.origin.clone(),
            charter: charter.sha256,
            keys: records.to_vec(),
            roster: roster::in_force(&self.state),
            seen_size: self.state.seen.size,
            seen_root: self.state.seen.root,
            forked: self.state.forked,
            open: open.collect(),
            generation: self.journal.generation(),
        }
    }

    /// Notes that `writer` waits for these items; gives back those that have ended.
    fn wait_for(&mut self, indices: &[u64], writer: &Writer) -> Vec<(u64, SignResult)> {
        let mut ended = vec![];
        for index in indices.iter().filter(|i| self.state.open.contains_key(i)) {
            match self.results.told(*index) {
                OpenState::Working {} => {
                    let waiting = self.waiting.entry(*index).or_default();
                    waiting.retain(|writer| writer.upgrade().is_some());
                    waiting.push(writer.downgrade());
                }
                OpenState::Finished(result) => ended.push((*index, result)),
            }
        }
        ended
    }
}

fn refusal(refused: Refused) -> FromSigner {
    tracing::warn!(code = refused.code.word(), detail = refused.detail, "message refused");
    FromSigner::Refused { code: refused.code.failure(), detail: refused.detail }
}

fn refuse(writer: &Writer, refused: Refused) {
    send(writer, &refusal(refused));
}

/// The end of a conversation: the peer went, or said something that has no place there.
fn close(connection: &Connection, writer: &Writer, said: Result<Option<ToSigner>, FrameError>) {
    match said {
        Ok(None) => tracing::info!(peer = connection.peer(), "disconnected"),
        Ok(Some(_)) => refuse(
            writer,
            Refused::new(Code::Frame, "a connection begins with one Hello, then Batches and Rosters"),
        ),
        Err(FrameError::Io(error)) => tracing::info!(peer = connection.peer(), %error, "connection lost"),
        Err(error) => refuse(writer, Refused::new(Code::Frame, super::refusal::chain_of(&error))),
    }
}

/// Sends what is also told otherwise: a peer that does not get it asks again, and `Welcome` tells.
fn send(writer: &Writer, message: &FromSigner) {
    if let Err(error) = writer.send(message) {
        tracing::info!(%error, "an answer did not reach its daemon");
    }
}

#[cfg(test)]
mod tests {
    use super::super::software::{Software, signature};
    use super::super::world::REPOSITORY;
    use super::super::{journal::Owner, queue};
    use super::*;
    use record::FixedClock;
    use record::wire::read_message;
    use std::os::unix::net::UnixStream;

    fn said(peer: &mut UnixStream) -> Option<FromSigner> {
        read_message(peer).unwrap()
    }

    #[test]
    fn a_result_reaches_who_is_connected_and_an_ended_connection_is_not_kept_open_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let software = Software::new();
        let mut world = software.world();
        let charter = Charter::parse(world.charter().as_bytes()).unwrap();
        let owner = Owner { keeper: charter.keeper.clone(), origin: charter.origin.clone() };
        let journal = Journal::create(folder.path(), owner, software.now).unwrap();
        let (queue, _never_signed) = queue::queue();
        let clock = Arc::new(FixedClock::at(software.now));
        let keeper = Keeper::new(charter, vec![], journal, software.state, clock, queue, Stop::default());
        let made = world.first_targets(REPOSITORY, "v1");
        let (connection, mut peer) = Connection::pair();
        keeper.batch(&world.batch(0, &[&made], vec![]), &connection.writer()).unwrap();
        drop(connection);
        assert!(matches!(said(&mut peer), Some(FromSigner::Reserved(r)) if r.accepted == [made.index]));
        assert_eq!(said(&mut peer), None, "ended, although its result is not there");
        for _ in 0..3 {
            let (connection, mut peer) = Connection::pair();
            keeper.greet(&connection.writer());
            drop(connection);
            assert!(matches!(said(&mut peer), Some(FromSigner::Welcome(w)) if w.open.len() == 1));
            assert_eq!(said(&mut peer), None);
        }
        let (connection, mut peer) = Connection::pair();
        keeper.greet(&connection.writer());
        assert_eq!(keeper.lock().waiting[&made.index].len(), 1, "those that have gone are forgotten");
        let result = SignResult::Signed { signature: signature(&made) };
        keeper.end(made.index, result.clone());
        said(&mut peer);
        assert_eq!(said(&mut peer), Some(FromSigner::Result { index: made.index, result }));
    }
}
