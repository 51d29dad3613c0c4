//! A kill at the entry of every file-system call that a process makes for one signature.
//!
//! strace counts calls per thread, so each thread is taken by itself: the one that writes the database, those of a keeper
//! that serve the daemon's connection and answer it, and the one that uses the token (the token has one session here, so
//! there is one). For each of them the n-th call of a request is fatal, for n = 1, 2, 3 and so on, until a request needs
//! fewer calls than that and is not disturbed. A call at whose entry the process dies is not made; death after a call is
//! death at the entry of the next.

use super::{
    draws::Draws,
    figures::Figures,
    oracle::Violation,
    service::Part,
    strace::{self, FILE_CALLS, Strace},
    trial::{LOOK, ROUNDS_A_LOG, Trial},
};
use crate::Signal;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    thread,
    time::Instant,
};

/// What a keeper's thread that sends answers calls; that they were sent is a step, too.
const ANSWERS: (&str, &str) = ("answers", "sendto");
/// No request needs so many calls of one thread: something counts wrongly.
const MOST_CALLS: u64 = 2_000;

/// After so many requests all pools have their threads.
const WARM: usize = 5;

/// A thread of a process, as it is found again after a restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Thread {
    part: Part,
    /// As the kernel has it: at most 15 bytes.
    name: String,
    /// Among those of this name, by age.
    rank: usize,
}

/// The calls of one thread for one request.
#[derive(Debug, Clone)]
struct Calls {
    thread: Thread,
    /// Names, as strace wants them.
    names: String,
    /// How many there were when they were recorded.
    recorded: u64,
}

/// Kills at every call, or at so many that are spread evenly over them.
pub fn syscalls(most: Option<u64>, seed: u64) -> Figures {
    let mut run = Run { figures: Figures::new("syscalls", seed), trial: None, missed: 0 };
    if let Err(why) = run.all(most, seed) {
        run.figures.found(&[Violation::Found(why)]);
    }
    run.end();
    let Run { mut figures, missed, .. } = run;
    if missed * 2 > figures.rounds {
        let why = format!("{missed} of {} requests were not disturbed: nothing is shown", figures.rounds);
        figures.found(&[Violation::Found(why)]);
    }
    figures.notes.push(format!("requests that were not disturbed, since they needed fewer calls: {missed}"));
    figures
}

struct Run {
    figures: Figures,
    trial: Option<Trial>,
    /// Requests that needed fewer calls than the fatal one's number.
    missed: u64,
}

impl Run {
    fn all(&mut self, most: Option<u64>, seed: u64) -> Result<(), String> {
        let plan = record(self.trial()?)?;
        let total: u64 = plan.iter().map(|calls| calls.recorded).sum();
        for Calls { thread, names, recorded } in &plan {
            let Thread { part, name, .. } = thread;
            self.figures
                .notes
                .push(format!("one request: {part}, thread {name}: {recorded} calls of {names}"));
        }
        match most {
            None => plan.iter().try_for_each(|calls| self.every(calls)),
            Some(most) => self.some(&plan, total, most, seed),
        }
    }

    /// Every call of a thread, until a request is not disturbed any more.
    fn every(&mut self, calls: &Calls) -> Result<(), String> {
        for nth in 1..MOST_CALLS {
            let killed = self.round(calls, nth)?;
            if !self.figures.is_good() || !killed && nth > calls.recorded {
                return Ok(());
            }
        }
        Err(format!("{MOST_CALLS} calls for one request: {calls:?}"))
    }

    /// So many calls, evenly spread over all; the seed says which of them is the first.
    fn some(&mut self, plan: &[Calls], total: u64, most: u64, seed: u64) -> Result<(), String> {
        let most = most.min(total);
        let first = Draws::new(seed).below((total / most).max(1));
        for number in 0..most {
            let mut place = first + number * total / most;
            for calls in plan {
                if place < calls.recorded {
                    self.round(calls, place + 1)?;
                    break;
                }
                place -= calls.recorded;
            }
            if !self.figures.is_good() {
                break;
            }
        }
        Ok(())
    }

    /// One request in which the n-th call is fatal. Whether there was such a call.
    fn round(&mut self, calls: &Calls, nth: u64) -> Result<bool, String> {
        let Thread { part, .. } = calls.thread;
        let trial = self.trial()?;
        let thread = find(trial, &calls.thread)?;
        let tracing = Strace::kill_at(thread, &calls.names, nth, Path::new("/dev/null"));
        trial.ask(1);
        while trial.service.end_of(part).is_none() && !trial.clients.are_idle() {
            thread::sleep(LOOK / 10);
        }
        let end = trial.service.end_of(part);
        drop(tracing);
        let killed = match end {
            None => false,
            Some(status) if status.signal() == Some(Signal::KILL.as_raw()) => true,
            Some(status) => return Err(format!("the {part} was not killed and ended: {status}")),
        };
        if killed {
            trial.service.kill(&[part]);
            trial.died(&[part]);
            let raised = Instant::now();
            trial.service.raise(part);
            trial.service.wait_until_ready()?;
            self.figures.recoveries.push(raised.elapsed());
            self.figures.killed(&[part]);
        } else {
            self.missed += 1;
        }
        let trial = self.trial.as_mut().expect("it was begun");
        trial.settle()?;
        trial.check(&mut self.figures);
        Ok(killed)
    }

    /// The service, a fresh one after so many rounds.
    fn trial(&mut self) -> Result<&mut Trial, String> {
        if self.trial.as_ref().is_some_and(|trial| trial.rounds() >= ROUNDS_A_LOG) {
            self.end();
        }
        if self.trial.is_none() {
            self.trial = Some(Trial::begin(1, |dir| {
                one_session(dir);
                None
            })?);
        }
        Ok(self.trial.as_mut().expect("it was just begun"))
    }

    fn end(&mut self) {
        if let Some(trial) = self.trial.take() {
            trial.end(&mut self.figures);
            self.figures.progress();
        }
    }
}

/// With one session, one thread uses the token: its calls can be counted.
fn one_session(dir: &Path) {
    for keeper in ["log", "signing"] {
        let file = dir.join(keeper).join("keeper.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("[token]\n", "[token]\nsessions = 1\n")).unwrap();
    }
}

/// Records requests until one is recorded whole: a pool may begin a thread in the middle of an early one.
fn record(trial: &mut Trial) -> Result<Vec<Calls>, String> {
    let mut recorded = record_one(trial);
    for _ in 0..WARM {
        if recorded.is_ok() {
            break;
        }
        recorded = record_one(trial);
    }
    recorded
}

/// Records one request: for each thread that touched a file, which calls it made, and how many.
fn record_one(trial: &mut Trial) -> Result<Vec<Calls>, String> {
    let folder = tempfile::tempdir().unwrap();
    let all = format!("{FILE_CALLS},{}", ANSWERS.1);
    let recorded: Vec<_> =
        Part::ALL.map(|part| folder.path().join(format!("{part}"))).into_iter().zip(Part::ALL).collect();
    let threads: BTreeMap<u32, Thread> =
        Part::ALL.into_iter().flat_map(|part| threads(trial, part)).collect();
    let tracing: Vec<_> =
        recorded.iter().map(|(file, part)| Strace::record(trial.service.pid(*part), &all, file)).collect();
    trial.ask(1);
    trial.settle()?;
    drop(tracing);
    // What processes say of themselves is no state.
    let logs = trial.service.instance.dir().join("logs").display().to_string();
    let mut made: BTreeMap<Thread, (BTreeSet<String>, Vec<String>)> = BTreeMap::new();
    for call in recorded.iter().flat_map(|(file, _)| strace::read(file)) {
        let Some(thread) = threads.get(&call.thread) else {
            return Err(format!("a thread was begun in the middle of a request: {call:?}"));
        };
        let (names, calls) = made.entry(thread.clone()).or_default();
        let is_file = call.file.as_ref().is_some_and(|file| !file.starts_with(&logs));
        if is_file || (thread.name == ANSWERS.0 && call.name == ANSWERS.1) {
            names.insert(call.name.clone());
        }
        calls.push(call.name);
    }
    let calls = |(thread, (names, made)): (Thread, (BTreeSet<String>, Vec<String>))| Calls {
        thread,
        recorded: made.iter().filter(|name| names.contains(*name)).count() as u64,
        names: names.into_iter().collect::<Vec<_>>().join(","),
    };
    Ok(made.into_iter().map(calls).filter(|calls| calls.recorded > 0).collect())
}

/// The threads of a process.
fn threads(trial: &Trial, part: Part) -> Vec<(u32, Thread)> {
    let pid = trial.service.pid(part);
    let mut ids: Vec<u32> = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    let mut ranks: BTreeMap<String, usize> = BTreeMap::new();
    let mut thread = |id: u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/task/{id}/comm")).ok()?.trim_end().to_owned();
        let rank = ranks.entry(name.clone()).or_insert(0);
        *rank += 1;
        Some((id, Thread { part, name, rank: *rank - 1 }))
    };
    ids.into_iter().filter_map(&mut thread).collect()
}

/// The id of a thread in the process that runs now.
fn find(trial: &Trial, wanted: &Thread) -> Result<u32, String> {
    let found = threads(trial, wanted.part).into_iter().find(|(_, thread)| thread == wanted);
    found.map(|(id, _)| id).ok_or_else(|| format!("no such thread: {wanted:?}"))
}
