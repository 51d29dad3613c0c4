//! strace, attached to a process that runs: it writes down calls, or kills the process at one.

use crate::wait_for;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Calls that change files, or the names of files.
pub(crate) const FILE_CALLS: &str = "openat,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,\
rename,renameat,renameat2,ftruncate,fallocate,unlink,unlinkat,link,linkat,mkdir,mkdirat";

/// An attached strace. Dropping it lets the process go on without it.
pub(crate) struct Strace(Child);

/// A call that a thread made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The thread.
    pub(crate) thread: u32,
    /// The call's name.
    pub(crate) name: String,
    /// The file, if strace tells it and it is one.
    pub(crate) file: Option<String>,
}

impl Strace {
    /// Writes down what every thread of a process calls.
    pub(crate) fn record(process: u32, calls: &str, into: &Path) -> Self {
        let args = ["-f".to_owned(), "-y".to_owned(), format!("--trace={calls}")];
        let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let threads: Vec<_> = threads.map(|thread| thread.unwrap().path()).collect();
        Self::attach(process, &threads, &args, into)
    }

    /// Kills the process when one of its threads enters the call of this name for the `nth` time from now on, from 1. The
    /// call is not made. Counted is per thread, so no other thread is looked at; and per name, so it is one: of several,
    /// each would be counted by itself, and the first that comes to `nth` would be fatal.
    pub(crate) fn kill_at(thread: u32, call: &str, nth: u64, into: &Path) -> Self {
        let args = [format!("--trace={call}"), format!("--inject={call}:signal=KILL:when={nth}")];
        Self::attach(thread, &[format!("/proc/{thread}").into()], &args, into)
    }

    /// Returns when all these threads, as `/proc` has them, are traced.
    fn attach(id: u32, threads: &[PathBuf], args: &[String], into: &Path) -> Self {
        let mut command = Command::new("strace");
        command.args(args).arg("-o").arg(into).args(["-p", &id.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let tracer = format!("TracerPid:\t{}\n", child.id());
        let traced = |thread: &PathBuf| {
            let status = fs::read_to_string(thread.join("status"));
            status.unwrap_or_default().contains(&tracer)
        };
        wait_for("strace to be attached", || {
            assert!(child.try_wait().unwrap().is_none(), "strace ended: {command:?}");
            threads.iter().all(traced).then_some(())
        });
        Self(child)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // It detaches by itself; one whose process has ended has ended, too.
        let _ended = crate::instance::signal(crate::Signal::TERM, self.0.id());
        let _status = self.0.wait();
    }
}

/// The calls of a recording, in order. A call that another thread's line interrupts counts where it was entered.
pub(crate) fn read(recorded: &Path) -> Vec<Call> {
    fs::read_to_string(recorded).unwrap().lines().filter_map(call).collect()
}

/// How many calls a recording of one thread has. Its lines do not say which thread.
pub(crate) fn count(recorded: &Path) -> u64 {
    let is_call = |line: &&str| line.starts_with(|first: char| first.is_ascii_lowercase());
    fs::read_to_string(recorded).unwrap().lines().filter(is_call).count() as u64
}

/// A line such as `4711 fdatasync(7</path/of/file>) = 0`.
fn call(line: &str) -> Option<Call> {
    let (thread, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    let (name, arguments) = rest.split_once('(')?;
    if rest.starts_with('<') || rest.starts_with('+') || rest.starts_with('-') {
        return None;
    }
    // The descriptor's file stands behind its number; a new file's name is the first text.
    let quoted = || arguments.split('"').nth(1);
    let described = || arguments.split_once('<')?.1.split_once('>').map(|(path, _)| path);
    let file =
        if name.ends_with("at") || name.starts_with("open") { quoted() } else { described().or_else(quoted) };
    let file = file.filter(|file| file.starts_with('/')).map(str::to_owned);
    Some(Call { thread: thread.parse().ok()?, name: name.to_owned(), file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_call_with_its_thread_and_its_file() {
        let read =
            |line: &str| call(line).map(|call| (call.thread, call.name, call.file.unwrap_or_default()));
        let some = |name: &str, file: &str| Some((17, name.to_owned(), file.to_owned()));
        assert_eq!(read(r#"17 pwrite64(7</a/b>, "\0"..., 9, 12) = 9"#), some("pwrite64", "/a/b"));
        assert_eq!(read("17 fdatasync(7</a/b> <unfinished ...>"), some("fdatasync", "/a/b"));
        assert_eq!(read(r#"17 openat(AT_FDCWD</home>, "/a/b", O_RDONLY) = 8</a/b>"#), some("openat", "/a/b"));
        assert_eq!(read(r#"17 rename("/a/b.new", "/a/b") = 0"#), some("rename", "/a/b.new"));
        assert_eq!(read(r#"17 write(4<anon_inode:[eventfd]>, "\1", 8) = 8"#), some("write", ""));
        assert_eq!(read("17 <... fdatasync resumed>) = 0"), None);
        assert_eq!(read("17 +++ killed by SIGKILL +++"), None);
    }
}
