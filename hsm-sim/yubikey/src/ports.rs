//! What the card asks of the world around it.

use crate::{journal::Signed, state::State};
use std::{io, time::Duration};

/// How a wait for a finger ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// Somebody touched.
    Given,
    /// Nobody did in time, or the card was pulled out.
    Missing,
}

/// The card's surroundings. Each failure makes the card answer 6581 and forget the answer it had.
pub trait Ports {
    /// 32 random bytes; in tests, any bytes.
    fn seed(&mut self) -> io::Result<[u8; 32]>;

    /// A clock that only moves forward, from any origin.
    fn now(&mut self) -> Duration;

    /// Waits for a touch, or for the end of the time for it.
    fn touch(&mut self) -> Touch;

    /// Writes down a signature before its reply leaves the card. When this returns `Ok`, it is on disk.
    fn journal(&mut self, signed: &Signed) -> io::Result<()>;

    /// Keeps the state. When this returns `Ok`, it is on disk.
    fn save(&mut self, state: &State) -> io::Result<()>;
}
