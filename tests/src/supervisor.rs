//! Starts a keeper, and starts it again as systemd would: after every end but those that a person must look at first.

use crate::{
    binary,
    instance::{Signal, signal},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Exit codes that `RestartPreventExitStatus=` of the keeper's unit names.
const NOT_RESTARTED: [i32; 2] = [74, 78];
/// `RestartSec=`.
const RESTART: Duration = Duration::from_millis(100);

/// The processes of one keeper, whose `keeper.toml` lies in a folder and whose `keeper.log` is written there. Dropping it
/// ends them.
pub(crate) struct Supervisor {
    folder: PathBuf,
    env: Vec<(String, String)>,
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    pid: Option<u32>,
    exits: Vec<i32>,
    stopping: bool,
}

impl Supervisor {
    /// Nothing runs yet. `env` is what the token needs.
    pub(crate) fn new(folder: &Path, env: Vec<(String, String)>) -> Self {
        Self { folder: folder.to_owned(), env, shared: Arc::default(), thread: None }
    }

    /// `chancery-keeper WORDS` on the folder's configuration.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(binary("chancery-keeper"));
        command
            .args(words.split(' '))
            .arg("--config")
            .arg(self.folder.join("keeper.toml"))
            .envs(self.env.clone());
        command.stdin(Stdio::null());
        command
    }

    /// Makes the keeper's state.
    pub(crate) fn init(&self) {
        let init = self.command("init").output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    }

    /// Starts the keeper, as `systemctl start` does.
    pub(crate) fn start(&mut self) {
        self.stop();
        self.lock().stopping = false;
        let log = self.folder.join("keeper.log");
        let mut command = self.command("serve");
        command.env("CHANCERY_PARENT", std::process::id().to_string()).stdout(Stdio::null());
        let serve = move || {
            command.stderr(fs::OpenOptions::new().create(true).append(true).open(&log).unwrap());
            command.spawn().unwrap()
        };
        let shared = self.shared.clone();
        self.thread = Some(thread::spawn(move || supervise(&shared, serve)));
    }

    /// Ends the keeper, and does not start it again.
    pub(crate) fn stop(&mut self) {
        self.lock().stopping = true;
        self.send(Signal::TERM);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Sends a signal to the process that runs, if one does.
    pub(crate) fn send(&self, what: Signal) {
        let shared = self.lock();
        if let Some(pid) = shared.pid {
            // One that has just ended needs no signal.
            let _ended = signal(what, pid);
        }
    }

    /// The exit codes of all its processes so far; 128 and the number for a signal.
    pub(crate) fn exits(&self) -> Vec<i32> {
        self.lock().exits.clone()
    }

    /// Whether a process runs.
    pub(crate) fn runs(&self) -> bool {
        self.lock().pid.is_some()
    }

    /// What its processes have said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.join("keeper.log")).unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs the process until it is stopped, or ends with a code that only a person can do something about.
fn supervise(shared: &Mutex<Shared>, mut start: impl FnMut() -> std::process::Child) {
    loop {
        let mut child = {
            let mut shared = shared.lock().unwrap();
            if shared.stopping {
                return;
            }
            let child = start();
            shared.pid = Some(child.id());
            child
        };
        let status = child.wait().unwrap();
        let code = std::os::unix::process::ExitStatusExt::signal(&status).map(|n| 128 + n).or(status.code());
        let code = code.expect("a code or a signal");
        let mut told = shared.lock().unwrap();
        (told.pid, told.stopping) = (None, told.stopping || NOT_RESTARTED.contains(&code));
        told.exits.push(code);
        drop(told);
        thread::sleep(RESTART);
    }
}
