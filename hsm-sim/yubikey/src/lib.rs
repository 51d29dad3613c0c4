//! A virtual YubiKey: the PIV application with Yubico's extensions, for an unmodified pcscd and everything above it.
//!
//! Promises: the status words, counters, policies and attestations of a real card, as far as they are published
//! (`README.md` says which); a signature that left the card stands in [`YubiKeyJournal`]; what the card remembers survives
//! a kill at any moment. It does not know: what its clients want.
//!
//! [`Card`] is the core: APDU in, APDU out, the world behind [`Ports`]. [`VirtualYubiKey`] plays one on a thread for a
//! reader of a [`Pcscd`], and [`Control`] is its finger, its plug and its faults.
//!
//! It protects nothing: keys lie in a file, and [`Profile::attestation_root`] is a test root.

mod algorithm;
mod apdu;
mod apdu_log;
mod card;
mod control;
mod error;
mod hex;
mod journal;
mod key;
mod management_key;
mod pcscd;
mod ports;
mod profile;
mod rng;
mod runner;
mod state;
mod switches;
mod tlv;
mod virtual_yubikey;
mod vpcd;

pub use algorithm::{Algorithm, PinPolicy, Slot, TouchPolicy, Version};
pub use apdu::Sw;
pub use card::{ATR, Card, MAX_BODY_BYTES, Options, TOUCH_CACHE};
pub use control::{Action, Control, send};
pub use error::Error;
pub use journal::{Entry, MAX_JOURNAL_BYTES, Operation, PinState, Signed, TouchState, YubiKeyJournal};
pub use pcscd::{Pcscd, SOCKET_VARIABLE, free_pair};
pub use ports::{Ports, Touch};
pub use profile::Profile;
pub use state::State;
pub use switches::TouchMode;
pub use virtual_yubikey::{Builder, TOUCH_TIMEOUT, VirtualYubiKey};
pub use vpcd::play_blank;
