//! The processes of a stopped `chancery dev`, started one by one and without its supervisor: to see what each start takes.

use crate::{
    binary,
    instance::{Signal, signal},
    wait_for,
};
use anyhow::{Result, ensure};
use std::{
    fs::File,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A process that is ready. Dropping it ends it in good order.
pub struct Started {
    child: Child,
    /// From its start until it was ready.
    pub took: Duration,
}

impl Started {
    /// The log keeper of the instance in `dir`, once it takes connections.
    pub fn log_keeper(dir: &Path) -> Result<Self> {
        Self::keeper(dir, "log")
    }

    /// The signing keeper, once it takes connections.
    pub fn signing_keeper(dir: &Path) -> Result<Self> {
        Self::keeper(dir, "signing")
    }

    /// The daemon, once `ready` says so.
    pub fn daemon(dir: &Path, ready: impl FnMut() -> bool) -> Result<Self> {
        let mut command = Command::new(binary("chanceryd"));
        command.args(["serve", "--config"]).arg(dir.join("chanceryd.toml"));
        Self::start(command, &dir.join("daemon.log"), ready)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn keeper(dir: &Path, role: &str) -> Result<Self> {
        let folder = dir.join(role);
        let mut command = Command::new(binary("chancery-keeper"));
        command.args(["serve", "--config"]).arg(folder.join("keeper.toml"));
        command.env("SOFTHSM2_CONF", folder.join("softhsm2.conf"));
        let socket = folder.join("keeper.sock");
        Self::start(command, &dir.join(format!("{role}.log")), || UnixStream::connect(&socket).is_ok())
    }

    fn start(mut command: Command, said: &Path, mut ready: impl FnMut() -> bool) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(said)?);
        let start = Instant::now();
        let mut child = command.spawn()?;
        let up = wait_for("a process to be ready", || match child.try_wait() {
            Ok(None) => ready().then_some(true),
            _ => Some(false),
        });
        ensure!(up, "a process ended at its start: see {}", said.display());
        Ok(Self { child, took: start.elapsed() })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _gone = signal(Signal::TERM, self.child.id());
        let _status = self.child.wait();
    }
}
