//! The operator's commands over the binary: what they refuse, that they name the file or key and the next step, and
//! that a refusal tried no PIN, made no key and used none.
//!
//! The token stands behind the module that journals logins and signatures and that fails on command.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod desk;
#[path = "../support/place.rs"]
#[expect(dead_code, reason = "each test program uses its part")]
mod place;
#[path = "../support/traced.rs"]
#[expect(dead_code, reason = "each test program uses its part")]
mod traced;

mod doctor;
mod key;
mod token;
