//! Hardware for tests: SoftHSM tokens made in one call, and a journal of every signature that a key really made.
//!
//! Promises: a [`SoftHsm`] is a fresh, initialised token that shares nothing with any other, in a folder of its own; a
//! process that was given [`SoftHsm::journaled`] cannot get a signature from it that [`Journal::read`] does not show.
//! With [`SoftHsm::journaled_with`] the token also fails as [`Faults`] says: hangs, errors, removal, PIN counters.
//! It does not know: which keys a test wants, or who signs with them. Tests make keys with the program under test, or
//! with `pkcs11-tool`.
//!
//! Tokens made here protect nothing: their PINs lie beside them in files.

mod error;
mod faults;
mod forwarder;
mod journal;
mod softhsm;
mod tools;

pub use error::Error;
pub use faults::{FaultEvent, Faults, Happened, Insertion, PinFlag, Rule, RuleId, Token};
pub use forwarder::forwarder;
pub use journal::{Entry, Journal, MAX_JOURNAL_BYTES, SignFunction};
pub use softhsm::{Journaled, SoftHsm};
pub use tools::{missing, skip};
