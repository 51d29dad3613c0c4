//! What a run showed, and how it is printed.

use super::{
    clients::Told,
    oracle::{Account, Violation},
    service::Part,
};
use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Most violations that are listed: one is enough to look at.
const LISTED: usize = 50;

/// Counts of a run.
#[derive(Debug)]
pub struct Figures {
    /// What was done.
    pub what: &'static str,
    /// Repeats the run's choices; not its moments, which the machine has its part in.
    pub seed: u64,
    /// When it was begun.
    begun: Instant,
    /// How often something was killed or cut, and all was compared afterwards.
    pub rounds: u64,
    /// Processes that were killed.
    pub kills: BTreeMap<Part, u64>,
    /// Ends of processes by themselves, by exit code.
    pub exits: BTreeMap<i32, u64>,
    /// All logs and journals together.
    pub account: Account,
    /// Requests that were begun.
    pub requests: u64,
    /// Requests whose client was told that its image is signed.
    pub acknowledged: u64,
    /// Requests whose client was told that its image is not signed.
    pub failed: u64,
    /// Checkpoints that were served, and that every later log extends.
    pub checkpoints: u64,
    /// How long it took from the end of the last victim to a service that is ready.
    pub recoveries: Vec<Duration>,
    /// `chancery log verify` over the whole log.
    pub verified: u64,
    /// And by the verifier in Python.
    pub verified_twice: u64,
    /// What else is worth a line.
    pub notes: Vec<String>,
    /// What must never be, with its round; empty, or something is wrong.
    pub violations: Vec<String>,
    /// The folder of the service in which it happened.
    pub kept: Option<PathBuf>,
}

impl Figures {
    /// Nothing yet.
    pub(crate) fn new(what: &'static str, seed: u64) -> Self {
        Self {
            what,
            seed,
            begun: Instant::now(),
            rounds: 0,
            kills: BTreeMap::new(),
            exits: BTreeMap::new(),
            account: Account::default(),
            requests: 0,
            acknowledged: 0,
            failed: 0,
            checkpoints: 0,
            recoveries: Vec::new(),
            verified: 0,
            verified_twice: 0,
            notes: Vec::new(),
            violations: Vec::new(),
            kept: None,
        }
    }

    /// Whether nothing is wrong so far.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty()
    }

    pub(crate) fn killed(&mut self, parts: &[Part]) {
        parts.iter().for_each(|part| *self.kills.entry(*part).or_insert(0) += 1);
    }

    pub(crate) fn ended(&mut self, exits: &[i32]) {
        exits.iter().for_each(|code| *self.exits.entry(*code).or_insert(0) += 1);
    }

    pub(crate) fn found(&mut self, violations: &[Violation]) {
        let round = self.rounds;
        self.violations.extend(violations.iter().map(|what| format!("round {round}: {what}")));
    }

    /// Tells who waits how far the run is.
    pub(crate) fn progress(&self) {
        let (took, wrong) = (self.begun.elapsed().as_secs(), self.violations.len());
        eprintln!("{}: {} rounds, {took} s, {wrong} violations", self.what, self.rounds);
    }

    /// Adds one service's counts.
    pub(crate) fn add(&mut self, account: &Account, told: &Told, requests: u64, checkpoints: usize) {
        let all = &mut self.account;
        for (sum, count) in [
            (&mut all.signatures, account.signatures),
            (&mut all.intents, account.intents),
            (&mut all.completions, account.completions),
            (&mut all.void, account.void),
            (&mut all.failed, account.failed),
            (&mut all.unknown_signed, account.unknown_signed),
            (&mut all.unknown_unsigned, account.unknown_unsigned),
            (&mut all.open, account.open),
            (&mut self.requests, requests),
            (&mut self.acknowledged, told.acknowledged.len() as u64),
            (&mut self.failed, told.failed),
            (&mut self.checkpoints, checkpoints as u64),
        ] {
            *sum += count;
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.begun.elapsed().as_secs_f64();
        let each = took / (self.rounds.max(1) as f64);
        writeln!(
            f,
            "{}: seed {}, {} rounds, {took:.0} s ({each:.2} s each)",
            self.what, self.seed, self.rounds
        )?;
        let kills: Vec<_> = self.kills.iter().map(|(part, times)| format!("{part} {times}")).collect();
        writeln!(f, "killed: {}", kills.join(", "))?;
        writeln!(f, "ended by themselves, by exit code, and raised again: {:?}", self.exits)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))?;
        let Account {
            signatures, intents, completions, void, failed, unknown_signed, unknown_unsigned, ..
        } = &self.account;
        writeln!(f, "signatures in the token's journal: {signatures}")?;
        writeln!(f, "intents: {intents}; completions: {completions}; void: {void}; failed: {failed}")?;
        writeln!(f, "unknown: {unknown_signed} that were signed, {unknown_unsigned} that were not")?;
        writeln!(
            f,
            "requests: {}; acknowledged: {}; ended without: {}",
            self.requests, self.acknowledged, self.failed
        )?;
        writeln!(f, "checkpoints that every later log extends: {}", self.checkpoints)?;
        writeln!(
            f,
            "whole logs verified: {}, by the second verifier too: {}",
            self.verified, self.verified_twice
        )?;
        let mut recoveries = self.recoveries.clone();
        recoveries.sort_unstable();
        let median = recoveries.get(recoveries.len() / 2).copied().unwrap_or_default();
        let longest = recoveries.last().copied().unwrap_or_default();
        writeln!(
            f,
            "recovery until ready: median {} ms, longest {} ms",
            median.as_millis(),
            longest.as_millis()
        )?;
        writeln!(f, "violations: {}", self.violations.len())?;
        self.violations.iter().take(LISTED).try_for_each(|what| writeln!(f, "  {what}"))?;
        self.kept.iter().try_for_each(|folder| writeln!(f, "  everything is left in {}", folder.display()))
    }
}
