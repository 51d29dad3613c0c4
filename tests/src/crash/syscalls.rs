//! A kill at the entry of every file-system call that a process makes for one signature.
//!
//! strace counts calls per thread and name, so each name that a thread calls is taken by itself. The threads: the one that
//! writes the database, those of a keeper that serve the daemon's connection and answer it, and the one that uses the token
//! (the token has one session here, so there is one). The n-th call of a name is fatal, for n = 1, 2, 3 and so on, through
//! all that were recorded and until a request needs fewer than that. A call at whose entry the process dies is not made; death
//! after a call is death at the entry of the next.
//!
//! Each recorded call is a point that must be hit. One that is missed is tried again; one that is never hit is named with
//! the number of calls that were counted instead, and is a violation unless each try made fewer calls than its number.

use super::{
    draws::Draws,
    figures::Figures,
    oracle::Violation,
    service::Part,
    strace::{self, FILE_CALLS, Strace},
    trial::{ROUNDS_A_LOG, Trial},
};
use crate::Signal;
use std::{collections::BTreeMap, fmt, fs, os::unix::process::ExitStatusExt, path::Path, time::Instant};

/// What a keeper's thread that sends answers calls; that they were sent is a step, too.
const ANSWERS: (&str, &str) = ("answers", "sendto");
/// No request needs so many calls of one thread: something counts wrongly.
const MOST_CALLS: u64 = 2_000;

/// Requests that are recorded: calls that not each of them makes are no points.
const RECORDED: usize = 3;
/// After so many requests all pools have their threads.
const WARM: usize = 5;
/// How often a point is tried that a request did not reach.
const TRIES: usize = 5;
/// One point in so many may be beyond what requests make now; with more, the recording was of something else.
const BEYOND: u64 = 20;
/// The thread that looks at the token every two seconds: what it reads belongs to no request.
const LOOKS: &str = "look";

/// A thread of a process, as it is found again after a restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Thread {
    part: Part,
    /// As the kernel has it: at most 15 bytes.
    name: String,
    /// Among those of this name, by age.
    rank: usize,
}

/// The calls of one name by one thread for one request.
#[derive(Debug, Clone)]
struct Calls {
    thread: Thread,
    /// `fdatasync` and so on.
    name: String,
    /// How many there were at least when they were recorded.
    recorded: u64,
}

/// A recorded call that no try has hit.
#[derive(Debug)]
struct Missed {
    /// Among these.
    calls: Calls,
    /// Its number, from 1.
    nth: u64,
    /// How many calls each try made.
    made: Vec<u64>,
}

/// What became of a request whose n-th call is fatal.
enum Try {
    /// The process was killed there.
    Hit,
    /// The request came to its end; the thread made so many calls of that name for it.
    Undisturbed(u64),
}

/// Kills at every call, or at so many that are spread evenly over them.
pub fn syscalls(most: Option<u64>, seed: u64) -> Figures {
    let mut run = Run { figures: Figures::new("syscalls", seed), trial: None, points: 0, missed: Vec::new() };
    if let Err(why) = run.all(most, seed) {
        run.figures.found(&[Violation::Found(why)]);
    }
    run.end();
    let Run { mut figures, points, missed, .. } = run;
    figures.notes.push(format!("recorded calls that were to be hit: {points}; never hit: {}", missed.len()));
    figures.notes.extend(missed.iter().map(|missed| format!("never hit: {missed}")));
    figures.found(&violations(points, &missed));
    figures
}

/// What is wrong with having missed these of so many points.
fn violations(points: u64, missed: &[Missed]) -> Vec<Violation> {
    let not_killed = missed.iter().filter(|missed| !missed.is_beyond());
    let mut found: Vec<_> =
        not_killed.map(|missed| Violation::Found(format!("not killed: {missed}"))).collect();
    if points == 0 || missed.len() as u64 * BEYOND > points {
        let why = format!("{} of {points} recorded calls were never hit: nothing is shown", missed.len());
        found.push(Violation::Found(why));
    }
    found
}

struct Run {
    figures: Figures,
    trial: Option<Trial>,
    /// Recorded calls at which a process was to be killed.
    points: u64,
    missed: Vec<Missed>,
}

impl Run {
    fn all(&mut self, most: Option<u64>, seed: u64) -> Result<(), String> {
        let plan = record(self.trial()?)?;
        let total: u64 = plan.iter().map(|calls| calls.recorded).sum();
        for calls in &plan {
            self.figures.notes.push(format!("one request: {calls}: {}", calls.recorded));
        }
        match most {
            None => plan.iter().try_for_each(|calls| self.every(calls)),
            Some(most) => self.some(&plan, total, most, seed),
        }
    }

    /// Every recorded call, and those that come behind them until a request is not disturbed any more.
    fn every(&mut self, calls: &Calls) -> Result<(), String> {
        for nth in 1..=calls.recorded {
            self.point(calls, nth)?;
            if !self.figures.is_good() {
                return Ok(());
            }
        }
        for nth in calls.recorded + 1..MOST_CALLS {
            if let Try::Undisturbed(_) = self.round(calls, nth)? {
                return Ok(());
            }
            if !self.figures.is_good() {
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
                    self.point(calls, place + 1)?;
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

    /// A recorded call: tried until it is hit, but not for ever.
    fn point(&mut self, calls: &Calls, nth: u64) -> Result<(), String> {
        self.points += 1;
        let mut made = Vec::new();
        while made.len() < TRIES && self.figures.is_good() {
            match self.round(calls, nth)? {
                Try::Hit => return Ok(()),
                Try::Undisturbed(count) => made.push(count),
            }
        }
        let missed = Missed { calls: calls.clone(), nth, made };
        eprintln!("syscalls: never hit: {missed}");
        self.missed.push(missed);
        Ok(())
    }

    /// One request in which the n-th call is fatal. The thread is watched until all is at rest: it works on when the client
    /// has its answer.
    fn round(&mut self, calls: &Calls, nth: u64) -> Result<Try, String> {
        let Thread { part, .. } = calls.thread;
        let folder = tempfile::tempdir().unwrap();
        let written = folder.path().join("calls");
        let trial = self.trial()?;
        let thread = find(trial, &calls.thread)?;
        let tracing = Strace::kill_at(thread, &calls.name, nth, &written);
        trial.ask(1);
        let end = trial.rest_or_end_of(part)?;
        drop(tracing);
        let came = match end {
            None => Try::Undisturbed(strace::count(&written)),
            Some(status) if status.signal() == Some(Signal::KILL.as_raw()) => Try::Hit,
            Some(status) => return Err(format!("the {part} was not killed and ended: {status}")),
        };
        if let Try::Hit = came {
            trial.service.kill(&[part]);
            trial.died(&[part]);
            let raised = Instant::now();
            trial.service.raise(part);
            trial.service.wait_until_ready()?;
            self.figures.recoveries.push(raised.elapsed());
            self.figures.killed(&[part]);
        }
        let trial = self.trial.as_mut().expect("it was begun");
        trial.settle()?;
        trial.check(&mut self.figures);
        Ok(came)
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

impl Missed {
    /// Whether no try made so many calls: there was nothing to hit.
    fn is_beyond(&self) -> bool {
        !self.made.is_empty() && self.made.iter().all(|made| *made < self.nth)
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, nth, made } = self;
        write!(f, "{calls}: number {nth}; so many were made in each try: {made:?}")
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thread: Thread { part, name: thread, .. }, name, .. } = self;
        write!(f, "{part}, thread {thread}, {name}")
    }
}

/// Records some requests: what each of them needs.
fn record(trial: &mut Trial) -> Result<Vec<Calls>, String> {
    let mut plan = record_whole(trial)?;
    for _ in 1..RECORDED {
        let other = record_whole(trial)?;
        plan = plan.into_iter().filter_map(|calls| calls.in_both(&other)).collect();
    }
    Ok(plan)
}

impl Calls {
    /// What this request and another one made; none if that one had no such call.
    fn in_both(mut self, other: &[Self]) -> Option<Self> {
        let same = other.iter().find(|other| other.thread == self.thread && other.name == self.name)?;
        self.recorded = self.recorded.min(same.recorded);
        Some(self)
    }
}

/// Records requests until one is recorded whole: a pool may begin a thread in the middle of an early one.
fn record_whole(trial: &mut Trial) -> Result<Vec<Calls>, String> {
    let mut recorded = record_one(trial);
    for _ in 0..WARM {
        if recorded.is_ok() {
            break;
        }
        recorded = record_one(trial);
    }
    recorded
}

/// Records one request: for each thread that touched a file, which calls it made, and how many of each name.
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
    // How many of a name, and whether any of them is to be hit. strace counts all of them.
    let mut made: BTreeMap<(Thread, String), (u64, bool)> = BTreeMap::new();
    for call in recorded.iter().flat_map(|(file, _)| strace::read(file)) {
        let Some(thread) = threads.get(&call.thread) else {
            return Err(format!("a thread was begun in the middle of a request: {call:?}"));
        };
        let is_file = call.file.as_ref().is_some_and(|file| !file.starts_with(&logs));
        let is_answer = thread.name == ANSWERS.0 && call.name == ANSWERS.1;
        let (count, counts) = made.entry((thread.clone(), call.name)).or_default();
        *count += 1;
        *counts |= (is_file || is_answer) && thread.name != LOOKS;
    }
    let wanted = made.into_iter().filter(|(_, (_, counts))| *counts);
    Ok(wanted.map(|((thread, name), (recorded, _))| Calls { thread, name, recorded }).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(nth: u64, made: &[u64]) -> Missed {
        let thread = Thread { part: Part::Daemon, name: "writes".to_owned(), rank: 0 };
        let calls = Calls { thread, name: "fsync".to_owned(), recorded: 9 };
        Missed { calls, nth, made: made.to_vec() }
    }

    #[test]
    fn a_point_that_is_never_hit_is_a_violation_unless_no_try_reached_it_and_such_are_few() {
        let found = |points, missed: &[Missed]| violations(points, missed).len();
        assert_eq!(found(100, &[]), 0);
        assert_eq!(found(100, &[missed(9, &[8; TRIES])]), 0, "no request makes nine calls");
        assert_eq!(found(100, &[missed(9, &[8, 8, 9, 8, 8])]), 1, "it was made once, and nobody was killed");
        assert_eq!(found(100, &[missed(9, &[])]), 1, "it was not tried");
        let beyond = |count| (0..count).map(|_| missed(9, &[8])).collect::<Vec<_>>();
        assert_eq!((found(100, &beyond(5)), found(100, &beyond(6))), (0, 1));
        assert_eq!(found(0, &[]), 1, "nothing was to be hit");
    }
}
