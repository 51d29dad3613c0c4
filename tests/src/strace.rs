//! A running process under strace: which calls it makes on its files, and what it does when one of them fails.

use crate::wait_for;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How often it is looked whether a call has come.
const LOOK: Duration = Duration::from_millis(20);

/// The calls that say that durable state is durable, or that write it; the first are few and the ones that matter most.
pub const WRITES: &[&str] = &[
    "fsync",
    "fdatasync",
    "pwrite64",
    "write",
    "pwritev",
    "writev",
    "ftruncate",
    "fallocate",
    "rename",
    "unlink",
];

/// strace on a process; ends with it, or when dropped.
pub struct Strace {
    child: Child,
    calls: PathBuf,
}

/// One call of the traced process.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Seconds since 1970 at which it began.
    pub at: f64,
    /// Its name.
    pub name: String,
    /// The file that it was for.
    pub path: String,
    /// strace has made it fail.
    pub injected: bool,
}

/// A call that is made to fail: the `n`th of its name on these files, counted from 1 in the thread that makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// `fdatasync`, `pwrite64` and so on.
    pub call: &'static str,
    /// `EIO` and so on.
    pub errno: &'static str,
    /// Which one.
    pub n: usize,
}

impl Strace {
    /// Traces the calls of a process that write to these files; one of them fails.
    pub fn attach(pid: u32, files: &[PathBuf], log: &Path, fault: Option<Fault>) -> Self {
        let _absent = fs::remove_file(log);
        let said = log.with_extension("err");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-y", "-ttt", "-s", "16", "-e", &format!("trace={}", WRITES.join(","))]);
        for file in files {
            strace.arg("-P").arg(file);
        }
        if let Some(Fault { call, errno, n }) = fault {
            strace.args(["-e", &format!("inject={call}:error={errno}:when={n}")]);
        }
        strace.arg("-o").arg(log).args(["-p", &pid.to_string()]);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap());
        let mut child = strace.spawn().unwrap();
        wait_for("strace to be attached", || {
            let text = fs::read_to_string(&said).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "strace ended: {text}");
            text.contains("attached").then_some(())
        });
        Self { child, calls: log.to_owned() }
    }

    /// The calls so far, in the order in which they were made.
    pub fn calls(&self) -> Vec<Call> {
        let text = fs::read_to_string(&self.calls).unwrap_or_default();
        text.lines().filter_map(Call::parse).collect()
    }

    /// The call that was made to fail, if it comes within this time.
    pub fn hit_within(&self, time: Duration) -> Option<Call> {
        let end = Instant::now() + time;
        loop {
            let hit = self.calls().into_iter().find(|call| call.injected);
            if hit.is_some() || Instant::now() > end {
                return hit;
            }
            thread::sleep(LOOK);
        }
    }

    /// The calls of a process that has ended.
    pub fn ended(mut self) -> Vec<Call> {
        wait_for("strace to end with its process", || self.child.try_wait().unwrap());
        self.calls()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // SIGINT has strace let its process go.
        let _ended = crate::instance::signal(crate::Signal::INT, self.child.id());
        let _status = self.child.wait();
    }
}

impl Call {
    /// `PID TIME name(FD<path>, ...) = ...`; lines of other forms (resumed, signals, exits) are none.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let at = words.nth(1)?.parse().ok()?;
        let rest = line.split_once(&format!(" {} ", line.split_whitespace().nth(1)?))?.1;
        let (name, args) = rest.trim_start().split_once('(')?;
        let path =
            args.split_once('<').and_then(|(_, tail)| tail.split_once('>')).map_or("", |(path, _)| path);
        let known = WRITES.contains(&name);
        known.then(|| Self {
            at,
            name: name.to_owned(),
            path: path.to_owned(),
            injected: line.contains("(INJECTED)"),
        })
    }
}
