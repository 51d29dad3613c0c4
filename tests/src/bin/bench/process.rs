//! What a process uses, as the kernel counts it (proc(5)).

use anyhow::{Result, ensure};
use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Kernel clock ticks a second (USER_HZ on Linux).
const TICKS: f64 = 100.0;

/// User and system time of a process (proc(5), fields 14 and 15 of `stat`).
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS
}

/// A size of `/proc/PID/status` in MiB: `VmRSS` is what is in memory now, `VmHWM` the most that ever was.
pub(crate) fn memory_mib(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// A command that has ended well.
pub(crate) struct Run {
    pub(crate) seconds: f64,
    /// The most memory that it had.
    pub(crate) peak_mib: f64,
}

/// How often a running command's memory is looked at; the kernel keeps the peak.
const LOOK: Duration = Duration::from_millis(5);

/// Runs a command to its end.
pub(crate) fn run_measured(command: &mut Command) -> Result<Run> {
    let start = Instant::now();
    // Its progress is not shown; what it fails with is.
    let said = tempfile::NamedTempFile::new()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.reopen()?);
    let mut child = command.spawn()?;
    let mut peak_mib = 0.0_f64;
    let status = loop {
        peak_mib = peak_mib.max(memory_mib(child.id(), "VmHWM"));
        match child.try_wait()? {
            Some(status) => break status,
            None => thread::sleep(LOOK),
        }
    };
    // Not the whole command: its environment has a token.
    let args: Vec<_> = command.get_args().collect();
    ensure!(status.success(), "{args:?} ended with {status}: {}", fs::read_to_string(said.path())?);
    Ok(Run { seconds: start.elapsed().as_secs_f64(), peak_mib })
}
