//! Hardware for tests: tokens and cards made in one call, and a journal of every signature that a key really made.
//!
//! Promises: [`Module::provision`] gives a fresh token of any PKCS#11 module of the matrix, or a fresh card, with keys,
//! that shares nothing with any other, in a folder of its own; no process that loads [`Provisioned::library`] gets a signature
//! from it that [`Provisioned::signed`] does not show. [`SoftHsm`] is such a token too, for tests that want that one module and keys of
//! their own making: its journal is there if it is asked for ([`SoftHsm::journaled`], [`Journal::read`]).
//! With [`Faults`] a token fails: hangs, errors, removal, PIN counters.
//! It does not know: who signs, and what.
//!
//! Tokens made here protect nothing: their PINs lie beside them in files.

mod error;
mod faults;
mod files;
mod forwarder;
mod journal;
mod module;
mod softhsm;
mod tools;

pub use error::Error;
pub use faults::{FaultEvent, Faults, Happened, Insertion, PinFlag, Rule, RuleId, Token};
pub use forwarder::forwarder;
pub use journal::{Entry, Journal, MAX_JOURNAL_BYTES, SignFunction};
pub use module::{Module, Provisioned, PublicKey};
pub use softhsm::{Journaled, SoftHsm};
pub use tools::{cached, cached_version, missing, skip};
