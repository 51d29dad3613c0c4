//! What a row of the table is.

use super::scene::Scene;
use hsm_sim::Rule;

/// The keys in the keeper's token.
pub(super) const TARGETS: &[u8] = &[2];

/// One row: what goes wrong, and what is promised then.
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) rules: Vec<Rule>,
    /// Done before the request.
    pub(super) before: fn(&mut Scene),
    /// The exit code of `chancery sign`. 0: published; 7: its wait of 2 s ended first, and the same request is published
    /// once the fault is over; 8: the request has failed, after three tries; 9: no request was made, since the keeper is
    /// not there.
    pub(super) answer: i32,
    /// What ends the fault.
    pub(super) mend: fn(&mut Scene),
    /// How the intents of the request end, each with the signatures that the token made for it.
    pub(super) log: &'static str,
    /// The exit codes of the keeper's processes.
    pub(super) exits: &'static [i32],
    /// What else must hold while the fault is in force.
    pub(super) check: fn(&Scene, &Before),
}

/// How things stood before a row.
pub(super) struct Before {
    pub(super) exits: usize,
    pub(super) logins: usize,
}

impl Row {
    /// A row in which the request is signed while its client waits, whatever happened.
    pub(super) fn new(what: &'static str, rules: Vec<Rule>, log: &'static str) -> Self {
        Self { what, rules, before: |_| {}, answer: 0, mend: |_| {}, log, exits: &[], check: |_, _| {} }
    }

    pub(super) fn after(mut self, before: fn(&mut Scene)) -> Self {
        self.before = before;
        self
    }

    /// The client is still waiting after 2 s, and gets its answer when this was done.
    pub(super) fn until(self, mend: fn(&mut Scene)) -> Self {
        self.answers(7, mend)
    }

    /// The client gets this answer, and the next one a good one when this was done.
    pub(super) fn answers(mut self, answer: i32, mend: fn(&mut Scene)) -> Self {
        (self.answer, self.mend) = (answer, mend);
        self
    }

    /// The keeper's processes end so.
    pub(super) fn exits(mut self, exits: &'static [i32]) -> Self {
        self.exits = exits;
        self
    }

    pub(super) fn check(mut self, check: fn(&Scene, &Before)) -> Self {
        self.check = check;
        self
    }
}

/// An answer of the module, at one call of the targets key.
pub(super) fn once(function: &'static str, rv: &str) -> Rule {
    Rule::answer(function, rv).key(TARGETS).times(1)
}

pub(super) fn name(function: &str, rv: &str) -> &'static str {
    format!("{function}: {rv}").leak()
}

pub(super) fn line(number: usize, row: &Row) -> String {
    let answer = match row.answer {
        0 => "0 published",
        7 => "7 waiting, then published",
        8 => "8 failed",
        _ => "9 unavailable",
    };
    let exits = row.exits.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let next = match (row.exits, row.answer) {
        ([.., 78] | [0], _) => "signed, once an operator has mended it and started the keeper",
        (_, 0) => "signed",
        _ => "signed, once the fault is over",
    };
    let log = if row.log.is_empty() { "none" } else { row.log };
    format!("| {number} | {} | {answer} | {log} | {exits} | {next} |", row.what)
}
