//! The key processes of the service: one binary, two roles that never mix in one process.
//!
//! * [`log`]: the log keeper. Holds every leaf's bytes a second time, and the log key.
//! * [`sign`]: a signing keeper. Decides for itself whether it signs, durably, before a key is asked.
//!
//! [`admin`] and [`doctor`] are what its operator runs on its host.
//!
//! Below both: [`records`] (durable files), [`token`] (keys in hardware), [`server`] (the socket), [`config`], and
//! [`exit`] (why and how a process ends). It does not know: networks, policy, people's logins, the daemon.

pub mod admin;
pub mod config;
pub mod doctor;
pub mod exit;
pub mod log;
pub mod process;
pub mod records;
pub mod server;
pub mod sign;
#[cfg(test)]
mod steps;
pub mod token;

/// A code from a word of this program's own text.
#[expect(clippy::expect_used, reason = "a constant that fits the grammar; every use is a literal")]
pub(crate) fn code(word: &'static str) -> record::FailureCode {
    record::FailureCode::parse(word).expect("a literal of a-z 0-9 and '-', at most 32 characters")
}
