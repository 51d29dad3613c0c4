//! The processes of an instance in a test's own hands: `chancery dev` stands still, so nobody starts them again.

use crate::{
    DAEMON, Instance, LOG_KEEPER, Output, SIGNING_KEEPER, Signal, binary,
    instance::{ended, signal},
    wait_for,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// One of the three processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Member {
    /// `chanceryd`.
    Daemon,
    /// The log keeper.
    LogKeeper,
    /// The signing keeper.
    SigningKeeper,
}

impl Member {
    /// All, in the order in which they start.
    pub const ALL: [Self; 3] = [Self::LogKeeper, Self::SigningKeeper, Self::Daemon];

    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Daemon => DAEMON,
            Self::LogKeeper => LOG_KEEPER,
            Self::SigningKeeper => SIGNING_KEEPER,
        }
    }

    /// The name of its log file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Daemon => "chanceryd",
            Self::LogKeeper => "log-keeper",
            Self::SigningKeeper => "signing-keeper",
        }
    }
}

/// An instance whose processes the test starts and ends.
pub struct Held {
    running: BTreeMap<Member, Child>,
    dev: u32,
    /// The instance, whose `chancery dev` stands still until this is dropped.
    pub service: Instance,
}

impl Held {
    /// Takes the processes over: they are ended, and started as children of the test.
    pub fn of(service: Instance) -> Self {
        let dev = service.dev();
        signal(Signal::STOP, dev).unwrap();
        let mut parts = Self { running: BTreeMap::new(), dev, service };
        for part in Member::ALL.into_iter().rev() {
            let pid = parts.service.pid(part.words());
            signal(Signal::TERM, pid).unwrap();
            wait_for("a process of chancery dev to end", || ended(pid).then_some(()));
        }
        Member::ALL.into_iter().for_each(|part| parts.start(part));
        parts.service.wait_until_ready();
        parts
    }

    /// The folder of the database.
    pub fn data(&self) -> PathBuf {
        self.service.dir().join("data")
    }

    /// The process's id.
    pub fn pid(&self, part: Member) -> u32 {
        self.running[&part].id()
    }

    /// Starts a process, and waits for a keeper's socket. One that ends is started again as its supervisor would, unless
    /// that helps nothing.
    pub fn start(&mut self, part: Member) {
        self.spawn(part);
        let Some(socket) = self.socket(part) else { return };
        wait_for("a keeper's socket", || {
            let child = self.running.get_mut(&part).unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                let said = self.service.log_of(part.name());
                assert!(
                    !matches!(status.code(), Some(74 | 78)),
                    "the {} ended: {status} {said}",
                    part.name()
                );
                self.spawn(part);
            }
            socket.exists().then_some(())
        });
    }

    fn spawn(&mut self, part: Member) {
        let mut command = self.command(part, "serve");
        let log = self.service.dir().join(format!("logs/{}.log", part.name()));
        let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        if let Some(socket) = self.socket(part) {
            // One of a keeper that was killed would look like one that serves.
            let _absent = fs::remove_file(socket);
        }
        self.running.insert(part, command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Ends a process as its supervisor would; its exit code.
    pub fn stop(&mut self, part: Member) -> i32 {
        let child = self.running.get_mut(&part).unwrap();
        // One that has ended needs no signal.
        let _ended = signal(Signal::TERM, child.id());
        self.ended(part)
    }

    /// Kills a process without warning.
    pub fn kill(&mut self, part: Member) {
        let _ended = signal(Signal::KILL, self.pid(part));
        self.ended(part);
    }

    /// Waits for the end of a process; its exit code.
    pub fn ended(&mut self, part: Member) -> i32 {
        let mut child = self.running.remove(&part).unwrap();
        let status = wait_for(&format!("the {} to end", part.name()), || child.try_wait().unwrap());
        status.code().unwrap_or(128)
    }

    /// Whether a process has ended by itself.
    pub fn has_ended(&self, part: Member) -> bool {
        ended(self.pid(part))
    }

    /// Starts the daemon where it must refuse; what it says.
    pub fn serve_in_vain(&self) -> Output {
        Output::of(&mut self.command(Member::Daemon, "serve"))
    }

    /// `chancery unseal`.
    pub fn unseal(&self) -> Output {
        let config = self.service.dir().join("chanceryd.toml");
        self.service.chancery(&["unseal", "--config", config.to_str().unwrap()])
    }

    fn command(&self, part: Member, word: &str) -> Command {
        let config = |file: &str| self.service.dir().join(file).display().to_string();
        let mut command = match part {
            Member::Daemon => {
                let mut command = Command::new(binary("chanceryd"));
                command.args([word, "--config", &config("chanceryd.toml")]);
                command
            }
            Member::LogKeeper => {
                self.service.keeper_command_of("log", &[word, "--config", &config("log/keeper.toml")])
            }
            Member::SigningKeeper => {
                self.service.keeper_command_of("signing", &[word, "--config", &config("signing/keeper.toml")])
            }
        };
        command.stdin(Stdio::null());
        command
    }

    fn socket(&self, part: Member) -> Option<PathBuf> {
        let socket = |folder: &str| {
            let config = fs::read_to_string(self.service.dir().join(folder).join("keeper.toml")).unwrap();
            let line = config.lines().find_map(|line| line.strip_prefix("socket = ")).unwrap();
            self.service.dir().join(folder).join(Path::new(line.trim_matches('"')))
        };
        match part {
            Member::Daemon => None,
            Member::LogKeeper => Some(socket("log")),
            Member::SigningKeeper => Some(socket("signing")),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for (_, mut child) in std::mem::take(&mut self.running) {
            let _ended = child.kill();
            let _status = child.wait();
        }
        // Its processes are gone: it starts them again, or ends, and is ended by the instance.
        let _ended = signal(Signal::CONT, self.dev);
    }
}
