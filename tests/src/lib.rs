//! Black-box tests over the real binaries: what they share.
//!
//! [`Instance`] is a whole service, started with `chancery dev` on fresh tokens behind the journaling PKCS#11 module,
//! beside a registry of its own. Nothing in it sleeps for a fixed time: every wait is for a state, with a limit.

mod charter;
pub mod crash;
mod database;
mod faultrun;
mod growth;
mod held;
mod history;
mod instance;
mod jobs;
mod journal;
mod keeper;
mod module;
mod page;
mod parts;
mod process;
mod registry;
mod s3;
pub mod second;
mod strace;
mod supervisor;
mod witness;
mod yubikey;

pub use database::{alter, checkpoint, dump};
pub use faultrun::{Figures, random_faults};
pub use growth::{Grown, grow, grow_command};
pub use held::{Held, Member};
pub use history::{End, History, Told};
pub use instance::{
    DAEMON, Instance, LOG_KEEPER, Output, SIGNING_KEEPER, SNAPSHOT_KEY, Settings, Signal, TARGETS_KEY,
};
pub use jobs::{AUDIENCE, Jobs};
pub use journal::ImageSignature;
pub use keeper::{OwnKeeper, Wanted};
pub use module::ModuleKeeper;
pub use page::commands;
pub use parts::{Part, Parts, Process, copy};
pub use process::Started;
pub use registry::Registry;
pub use s3::S3;
pub use strace::{Call, Fault, Strace, WRITES};
pub use witness::{OwnWitness, exchange};
pub use yubikey::{CardHost, Place, YubiKeyKeeper};

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// The longest that any state is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A binary of this workspace, built beside the running test.
pub fn binary(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("a running program has a path");
    let found = me.ancestors().skip(1).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: run `make build` first"))
}

/// Waits until `state` gives something; panics with `what` when it takes too long.
pub fn wait_for<T>(what: &str, mut state: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = state() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that nobody uses now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("loopback has free ports")
        .port()
}

/// Whether a program is installed; otherwise says on stderr what is skipped.
pub fn have(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|d| d.join(program).is_file()));
    if !found {
        hsm_sim::skip(format_args!("{program} is not installed"));
    }
    found
}
