//! An operation on durable state whose process dies at one file-system call after the other, or has it fail.
//!
//! The operation runs as a test of its own in a process of its own under strace, which counts per name of a call. So each
//! name is taken by itself, its calls one after the other until one more does not come.

use crate::exit::Fatal;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Tells the operation's process which folder it works on.
const FOLDER: &str = "CHANCERY_STEPS_FOLDER";
/// What opens and changes files and names, and makes them durable.
const CALLS: &str =
    "openat,write,pwrite64,ftruncate,fsync,fdatasync,link,linkat,rename,renameat,unlink,unlinkat";
/// What the operation's process says of it, before `told` or an exit code.
const SAID: &str = "steps: ";

/// What the operation's process did.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It said that the operation is done.
    Told,
    /// It was killed before it could say so.
    Killed,
    /// It ended with this code.
    Fatal(u8),
}

/// The operation's folder, in the process that is to carry it out; none where the test runs as one of many.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Says how the operation went.
pub(crate) fn say(done: Result<(), Fatal>) {
    match done {
        Ok(()) => println!("{SAID}told"),
        Err(fatal) => println!("{SAID}{}", fatal.code()),
    }
}

/// The calls of an undisturbed operation on a copy of `before`, as `name file`, in their order; only those on these files
/// of the folder, and on the folder itself, which is `.`. None without strace.
pub(crate) fn recorded(operation: &str, before: &Path, files: &[&str]) -> Option<Vec<String>> {
    hsm_sim::missing(&["strace"]).map(hsm_sim::skip).map_or(Some(()), |()| None)?;
    let place = Place::copy_of(before);
    let (status, said, calls) = place.traced(operation, files, &[]);
    assert_eq!(end(status, &said), End::Told, "{said}");
    Some(calls)
}

/// Disturbs the operation, each time on a copy of `before`: each call that was recorded kills its process, and each fails.
/// A call that fails must end it with 74. `look` sees what is left each time, and after which step.
pub(crate) fn disturbed(operation: &str, before: &Path, files: &[&str], look: impl Fn(&Path, &str)) {
    let calls = recorded(operation, before, files).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &calls {
        *counts.entry(call.split(' ').next().unwrap()).or_default() += 1;
    }
    for (how, ends) in [("signal=KILL", End::Killed), ("error=EIO", End::Fatal(74))] {
        for (name, n) in counts.iter().flat_map(|(name, count)| (1..=*count).map(move |n| (name, n))) {
            let place = Place::copy_of(before);
            let step = format!("{name} {n} of {calls:?}: {how}");
            let (status, said, _) =
                place.traced(operation, files, &[&format!("inject={name}:{how}:when={n}")]);
            assert_eq!(end(status, &said), ends, "{step}: {said}");
            look(&place.folder(), &step);
        }
    }
}

/// A copy of a state folder.
struct Place(tempfile::TempDir);

impl Place {
    fn copy_of(before: &Path) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.folder()).unwrap();
        for entry in std::fs::read_dir(before).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), place.folder().join(entry.file_name())).unwrap();
        }
        place
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// Carries the operation out: its process's end, what it said, and its calls.
    fn traced(&self, operation: &str, files: &[&str], options: &[&str]) -> (ExitStatus, String, Vec<String>) {
        let (folder, written) = (self.folder(), self.0.path().join("calls"));
        let mut strace = Command::new("strace");
        strace.args(["-f", "-y", "-qq", "-s", "0", "-e", &format!("trace={CALLS}"), "-P"]).arg(&folder);
        files.iter().for_each(|file| {
            strace.arg("-P").arg(folder.join(file));
        });
        options.iter().for_each(|option| {
            strace.args(["-e", option]);
        });
        strace.arg("-o").arg(&written).arg(std::env::current_exe().unwrap());
        strace
            .args([operation, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, &folder);
        let output = strace.output().unwrap();
        let lines = std::fs::read_to_string(&written).unwrap();
        let calls = lines.lines().filter_map(|line| call(line, &folder)).collect();
        let said = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8_lossy(&said).into_owned(), calls)
    }
}

fn end(status: ExitStatus, said: &str) -> End {
    let word = said.split(SAID).nth(1).and_then(|rest| rest.split_whitespace().next());
    match word {
        Some("told") => End::Told,
        Some(code) => End::Fatal(code.parse().unwrap()),
        None if status.signal() == Some(9) => End::Killed,
        None => panic!("the operation said nothing and ended with {status}: {said}"),
    }
}

/// `name file` of a line such as `17 fsync(4</tmp/x/state/journal.new>) = 0`.
fn call(line: &str, folder: &Path) -> Option<String> {
    let (name, arguments) = line.split_once(' ')?.1.trim_start().split_once('(')?;
    let quoted = arguments.split('"').nth(1).filter(|path| path.starts_with('/'));
    let described = || arguments.split_once("</").map(|(_, path)| path.split('>').next().unwrap());
    let path = match quoted {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(format!("/{}", described()?)),
    };
    let file = path.strip_prefix(folder).ok()?;
    let file = if file.as_os_str().is_empty() { OsStr::new(".") } else { file.as_os_str() };
    Some(format!("{name} {}", file.to_str()?))
}
