//! What the policy promises, through its public functions only.
#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod deciding;
mod facts;
mod loading;
mod operator;
