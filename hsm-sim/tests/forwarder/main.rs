//! The forwarder in front of a real SoftHSM token: used by a program that knows nothing of it, and by many at once.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

mod bench;
mod faults;
mod hammer;
mod obedient;
mod pkcs11_tool;
mod processes;
mod raw;
mod token;
