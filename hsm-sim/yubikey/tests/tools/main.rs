//! The virtual card behind a real pcscd, used by programs that take it for a YubiKey. Every test has a pcscd of its own.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod bench;
mod control;
mod opensc;
mod piv_tool;
mod ykcs11;
mod yubikey_crate;
