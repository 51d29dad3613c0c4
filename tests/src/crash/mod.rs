//! Crashes that lose nothing: rounds of kills and power cuts, after each of which the log, the token's journal and what
//! clients were told must agree.
//!
//! | run | what dies, and when |
//! |---|---|
//! | [`kills()`] | daemon, log keeper, signing keeper, one, two or all, at random moments under clients |
//! | [`syscalls()`] | each of them at the entry of every file-system call that it makes for one request |
//! | [`power()`] | the host: what was not synced is lost |
//!
//! After each round: the service is raised, `chancery log verify` reads the whole log, and [`oracle::judge`] compares it
//! with the token's own journal. The judge has unit tests that show it finding what must never be.

mod clients;
mod copy;
mod cuts;
mod disk;
mod draws;
mod figures;
mod kills;
pub mod oracle;
mod power;
mod service;
mod strace;
mod syscalls;
mod trial;

pub use copy::LogCopy;
pub use figures::Figures;
pub use kills::kills;
pub use power::{no_power_cuts, power};
pub use service::Part;
pub use syscalls::syscalls;
