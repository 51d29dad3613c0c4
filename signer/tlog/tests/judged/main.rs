//! The public functions, judged by independent implementations (`ct-merkle`, `tlog_tiles`, `signed_note`) and attacked.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod ecdsa;
mod files;
mod foreign;
mod forest;
mod notes;
mod proofs;
mod tampered;
mod witnesses;
mod witnessing;
