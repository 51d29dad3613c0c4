//! A real log keeper over a real SoftHSM token, and a daemon that can say anything to it.

use crate::traced::traced;
use hsm_sim::{Entry, Journal, SoftHsm};
use record::wire::{Blob, FromLog, PROTO, ToLog, read_message, write_message};
use record::{Clock, Event, Leaf, Nonce, SystemClock};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use tlog::VerifierKey;

pub(crate) const ORIGIN: &str = "log.example.com";
const BINARY: &str = env!("CARGO_BIN_EXE_chancery-keeper");

/// The folder of one keeper: token, configuration, state.
pub(crate) struct Rig {
    folder: tempfile::TempDir,
    pub(crate) token: SoftHsm,
    pub(crate) vkey: String,
}

impl Rig {
    /// A keeper with a fresh key and an empty log, or nothing where SoftHSM is not installed.
    pub(crate) fn new() -> Option<Self> {
        let rig = Self::without_key()?;
        let made = rig.generate("01", "ed25519", &["--origin", ORIGIN]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let rig = Self { vkey: made["vkey"].as_str().unwrap().to_owned(), ..rig };
        rig.configure("");
        let init = rig.command(&["init"]).output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        Some(rig)
    }

    /// A token without keys.
    pub(crate) fn without_key() -> Option<Self> {
        if let Some(missing) = hsm_sim::missing(&["softhsm2-util"]) {
            hsm_sim::skip(missing);
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let token = SoftHsm::create(&folder.path().join("token"), "log").unwrap();
        Some(Self { folder, token, vkey: String::new() })
    }

    /// Writes the configuration; `more` goes to the end of its token table.
    pub(crate) fn configure(&self, more: &str) {
        self.configure_token(&format!("pin_file = 'token/pin'\n{more}"));
    }

    /// Writes the configuration with these lines in its token table.
    pub(crate) fn configure_token(&self, lines: &str) {
        let module = self.token.journaled(&self.touched()).unwrap().module().display().to_string();
        let text = format!(
            "role = 'log'\norigin = '{ORIGIN}'\nstate = 'state'\nsocket = 'socket'\n[key]\ncka_id = '01'\n\
             vkey = '{}'\n[token]\nmodule = '{module}'\nlabel = 'log'\n{lines}\n",
            self.vkey
        );
        std::fs::write(self.path("keeper.toml"), text).unwrap();
        std::fs::set_permissions(self.path("keeper.toml"), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn touched(&self) -> PathBuf {
        self.path("touched.jsonl")
    }

    /// The verifier key of this log.
    pub(crate) fn key(&self) -> VerifierKey {
        VerifierKey::parse(&self.vkey).unwrap()
    }

    /// How many signatures the keys of the token have made.
    pub(crate) fn signatures(&self) -> usize {
        Journal::read(&self.touched()).unwrap().iter().filter(|e| e.signature().is_some()).count()
    }

    /// The token's answers to logins.
    pub(crate) fn logins(&self) -> Vec<u64> {
        let rv = |entry| if let Entry::Login { rv, .. } = entry { Some(rv) } else { None };
        Journal::read(&self.touched()).unwrap().into_iter().filter_map(rv).collect()
    }

    /// A command of the program with this rig's configuration and token.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(words).arg("--config").arg(self.path("keeper.toml"));
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
        let words = ["key-generate", "--token-label", "log", "--id", id, "--label", "k", "--type", algorithm];
        self.admin(&[&words[..], more].concat()).output().unwrap()
    }

    /// Starts the keeper and waits until it listens.
    pub(crate) fn start(&self) -> Running {
        Running::start(self.command(&["serve"]), self.path("socket"))
    }

    /// Where the calls of a traced keeper stand.
    pub(crate) fn calls(&self) -> PathBuf {
        self.path("calls")
    }

    fn traced(&self, verb: &str, options: &[&str]) -> Command {
        let calls = "trace=openat,pwrite64,fsync,fdatasync,write,sendto,listen";
        traced(&self.command(&[verb]), &self.calls(), &[&["-e", calls], options].concat())
    }

    /// Creates the state under strace.
    pub(crate) fn init_traced(&self, options: &[&str]) -> Output {
        self.traced("init", options).output().unwrap()
    }

    /// Starts the keeper under strace.
    pub(crate) fn start_traced(&self, options: &[&str]) -> Running {
        Running::start(self.traced("serve", options), self.path("socket"))
    }

    /// Starts a keeper under strace that must not come up.
    pub(crate) fn start_traced_in_vain(&self, options: &[&str]) -> (i32, String) {
        let ended = self.traced("serve", options).output().unwrap();
        (ended.status.code().unwrap(), String::from_utf8_lossy(&ended.stderr).into_owned())
    }

    /// Starts a keeper that must not come up: its exit code and what it said.
    pub(crate) fn start_in_vain(&self) -> (i32, String) {
        let ended = self.command(&["serve"]).output().unwrap();
        (ended.status.code().unwrap(), String::from_utf8_lossy(&ended.stderr).into_owned())
    }
}

/// A keeper's process; killed when dropped.
pub(crate) struct Running {
    process: Child,
    socket: PathBuf,
}

impl Running {
    pub(crate) fn start(mut command: Command, socket: PathBuf) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = String::new();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("the keeper did not come up: {said}")).unwrap();
            if line.contains("listening") {
                break;
            }
            said.push_str(&line);
        }
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, socket }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A connection that has said nothing yet.
    pub(crate) fn connect(&self) -> Daemon {
        Daemon(UnixStream::connect(&self.socket).unwrap())
    }

    /// A connection that has the lease. Waits while an earlier connection's end is not noticed yet.
    pub(crate) fn welcome(&self) -> (Daemon, Welcome) {
        self.welcome_knowing(0)
    }

    /// The same for a daemon whose database has this epoch.
    pub(crate) fn welcome_knowing(&self, epoch: u64) -> (Daemon, Welcome) {
        loop {
            let mut daemon = self.connect();
            match daemon.ask(&hello_knowing(epoch)) {
                FromLog::Welcome { epoch, size, root, .. } => return (daemon, Welcome { epoch, size, root }),
                FromLog::Busy {} => std::thread::yield_now(),
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn signal(&mut self, signal: rustix::process::Signal) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).unwrap();
        self.ended()
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a `Welcome` says of the log.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) epoch: u64,
    pub(crate) size: u64,
    pub(crate) root: record::Sha256,
}

/// A daemon's connection.
pub(crate) struct Daemon(UnixStream);

impl Daemon {
    pub(crate) fn ask(&mut self, message: &ToLog) -> FromLog {
        self.try_ask(message).expect("an answer")
    }

    /// The answer, or nothing when the keeper has gone.
    pub(crate) fn try_ask(&mut self, message: &ToLog) -> Option<FromLog> {
        write_message(&mut self.0, message).ok()?;
        read_message(&mut self.0).ok()?
    }

    pub(crate) fn append(&mut self, epoch: u64, base: u64, leaves: &[Vec<u8>]) -> FromLog {
        self.ask(&append(epoch, base, leaves))
    }

    pub(crate) fn note(&mut self) -> String {
        match self.ask(&ToLog::Note {}) {
            FromLog::Noted { note } => note,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn hello() -> ToLog {
    hello_knowing(0)
}

/// The first message of a daemon whose database has this epoch.
pub(crate) fn hello_knowing(epoch: u64) -> ToLog {
    ToLog::Hello { proto: PROTO, daemon: "test".into(), epoch }
}

pub(crate) fn append(epoch: u64, base: u64, leaves: &[Vec<u8>]) -> ToLog {
    ToLog::Append { epoch, base, leaves: leaves.iter().cloned().map(Blob).collect() }
}

/// Different leaves.
pub(crate) fn leaves(count: usize) -> Vec<Vec<u8>> {
    let leaf = |_| {
        let event = Event::Stopped { time: SystemClock.now(), nonce: Nonce::random().unwrap() };
        Leaf::Event(event).encode().unwrap()
    };
    (0..count).map(leaf).collect()
}

/// The code of a refusal.
pub(crate) fn refusal(answer: &FromLog) -> &str {
    match answer {
        FromLog::Refused { code, .. } => code.as_str(),
        other => panic!("not refused: {other:?}"),
    }
}

/// The first segment of the spool.
pub(crate) fn first_segment(state: &Path) -> PathBuf {
    state.join("spool/00000000000000000000.seg")
}
