//! The bytes that clients verify, built from intents and read back from files.
//!
//! Promises: [`build()`] is a pure function of an intent, the files that the intent names by hash, and public keys. The
//! daemon and the keeper call the same function and must get the same bytes; nothing is signed that it did not build.
//! Readers are strict: a file that two parsers could understand differently is refused.
//! [`sigstore`] writes what cosign and its relatives read about an entry of the log.
//! It does not know: time, files, networks, tokens, the log, or which change is allowed.

mod build;
pub mod dct;
pub mod sigstore;

pub use build::{BuildError, Keys, MAX_VERSION, assemble, build, seal};
