//! One keeper on its own disk: a real SoftHSM token, a configuration, a state folder, and the processes that run there.
//! The same for both roles.
//!
//! The token stands behind a module that journals every signature a key makes, so that a test can tell not only what
//! the keeper answered, but also whether a key was touched.

use crate::traced::traced;
use hsm_sim::{Entry, Journal, SoftHsm};
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

const BINARY: &str = env!("CARGO_BIN_EXE_chancery-keeper");

/// The folder of one keeper.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    pub(crate) token: SoftHsm,
}

impl Place {
    /// A folder with a token of this label and no keys, or nothing where SoftHSM is not installed.
    pub(crate) fn new(label: &str) -> Option<Self> {
        if let Some(missing) = hsm_sim::missing(&["softhsm2-util"]) {
            hsm_sim::skip(missing);
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let token = SoftHsm::create(&folder.path().join("token"), label).unwrap();
        Some(Self { folder, token })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes the configuration: the role's own lines, and more for the token's table.
    pub(crate) fn configure_with(&self, own: &str, token: &str) {
        let module = self.token.journaled(&self.touched()).unwrap().module().display().to_string();
        let label = self.token.label();
        let text = format!(
            "state = 'state'\nsocket = 'socket'\n{own}\n[token]\nmodule = '{module}'\nlabel = '{label}'\n{token}\n"
        );
        self.write("keeper.toml", &text);
    }

    /// Creates the state.
    pub(crate) fn init(&self) {
        let init = self.command("init").output().unwrap();
        assert!(init.status.success(), "{}", said(&init));
    }

    fn touched(&self) -> PathBuf {
        self.path("touched.jsonl")
    }

    /// What was done with the token.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        Journal::read(&self.touched()).unwrap()
    }

    /// The token's answers to logins.
    pub(crate) fn logins(&self) -> Vec<u64> {
        let rv = |entry| if let Entry::Login { rv, .. } = entry { Some(rv) } else { None };
        self.entries().into_iter().filter_map(rv).collect()
    }

    /// Puts a wrong PIN into the PIN file.
    pub(crate) fn spoil_pin(&self) {
        std::fs::write(self.token.pin_file(), "not the pin").unwrap();
    }

    /// A command of the program with this place's configuration and token.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(BINARY);
        command.args(words.split(' ')).arg("--config").arg(self.path("keeper.toml"));
        command.envs(self.token.journaled(&self.touched()).unwrap().env());
        command
    }

    /// An operator's command on the token.
    pub(crate) fn admin(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("admin").args(words).arg("--module").arg(self.token.module());
        command.arg("--pin-file").arg(self.token.pin_file()).envs(self.token.env());
        command
    }

    /// Generates a key.
    pub(crate) fn generate(&self, id: &str, algorithm: &str, more: &[&str]) -> Output {
        let label = self.token.label();
        let words =
            ["key", "generate", "--token-label", label, "--id", id, "--label", "k", "--type", algorithm];
        self.admin(&[&words[..], more].concat()).output().unwrap()
    }

    /// Starts the keeper and waits until it listens.
    pub(crate) fn start(&self) -> Running {
        self.start_as(self.command("serve"))
    }

    /// Starts the keeper by another command.
    pub(crate) fn start_as(&self, command: Command) -> Running {
        Running::start(command, self.path("socket"))
    }

    /// Starts a keeper that must not come up: its exit code and what it said.
    pub(crate) fn start_in_vain(&self) -> (i32, String) {
        end_of(self.command("serve"))
    }

    /// A command under strace with these options besides.
    pub(crate) fn traced(&self, words: &str, options: &[&str]) -> Command {
        let calls = "trace=openat,pwrite64,fsync,fdatasync,write,sendto,listen";
        traced(&self.command(words), &self.calls(), &[&["-e", calls], options].concat())
    }

    /// Where the calls of a traced keeper stand.
    pub(crate) fn calls(&self) -> PathBuf {
        self.path("calls")
    }

    /// Starts the keeper under strace.
    pub(crate) fn start_traced(&self, options: &[&str]) -> Running {
        self.start_as(self.traced("serve", options))
    }

    /// Starts a keeper under strace that must not come up.
    pub(crate) fn start_traced_in_vain(&self, options: &[&str]) -> (i32, String) {
        end_of(self.traced("serve", options))
    }
}

pub(crate) fn end_of(mut command: Command) -> (i32, String) {
    let ended = command.output().unwrap();
    (ended.status.code().unwrap(), said(&ended))
}

/// What a command wrote to its log.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A keeper's process; killed when dropped.
pub(crate) struct Running {
    pub(crate) process: Child,
    socket: PathBuf,
    said: Option<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(mut command: Command, socket: PathBuf) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        while !said.contains("listening") {
            match lines.next() {
                Some(line) => said.push_str(&line),
                None => panic!("the keeper ended, {}: {said}", process.wait().unwrap()),
            }
        }
        let rest = std::thread::spawn(move || lines.collect::<Vec<_>>().join("\n"));
        Self { process, socket, said: Some(rest) }
    }

    /// A connection on which nothing was said.
    pub(crate) fn raw(&self) -> UnixStream {
        UnixStream::connect(&self.socket).unwrap()
    }

    /// Sends a signal that ends the keeper. Its exit code; none after SIGKILL, which is a power cut of this process.
    pub(crate) fn signal(&mut self, signal: Signal) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).unwrap();
        self.process.wait().unwrap().code()
    }

    /// Waits until the keeper ends by itself: its exit code, and what it said since it listens.
    pub(crate) fn ended(&mut self) -> (i32, String) {
        let code = self.process.wait().unwrap().code().unwrap();
        (code, self.said.take().unwrap().join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
