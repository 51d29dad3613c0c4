//! The three processes of an instance, started one by one, on its own state or on a copy of it.

use crate::{
    Instance, Output, binary,
    instance::{Signal, signal},
    wait_for,
};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// A process with the state that it owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The daemon with its database.
    Daemon,
    /// The log keeper with its spool.
    LogKeeper,
    /// The signing keeper with its journal.
    SigningKeeper,
}

/// The parts of a service that `chancery dev` has made, in its folder or in another one. Tokens are never copied.
#[derive(Debug)]
pub struct Parts {
    dir: PathBuf,
    tokens: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
    port: u16,
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Part {
    /// All of them, in the order of a start.
    pub const ALL: [Self; 3] = [Self::LogKeeper, Self::SigningKeeper, Self::Daemon];

    /// Its folder of state, below an instance's.
    pub fn state(self) -> &'static str {
        match self {
            Self::Daemon => "data",
            Self::LogKeeper => "log/state",
            Self::SigningKeeper => "signing/state",
        }
    }

    /// The files that an operator writes for it.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Daemon => &["chanceryd.toml"],
            Self::LogKeeper => &["log/keeper.toml", "log/pin"],
            Self::SigningKeeper => &["signing/keeper.toml", "signing/pin", "signing/charter.toml"],
        }
    }

    /// What the daemon's configuration names of it.
    fn written(self) -> &'static str {
        match self {
            Self::Daemon => "data",
            Self::LogKeeper => "log/keeper.sock",
            Self::SigningKeeper => "signing/keeper.sock",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Daemon => "data",
            Self::LogKeeper => "log",
            Self::SigningKeeper => "signing",
        }
    }
}

impl Parts {
    /// The parts of an instance, which is stopped.
    pub fn of(service: &Instance) -> Self {
        let environment = service.token_environment().to_vec();
        Self { dir: service.dir(), tokens: service.dir(), environment, port: service.port() }
    }

    /// Copies of these parts with their state as it is now, whose daemon listens elsewhere. What is not copied they share
    /// with the instance: its other keepers, its policy, its TLS files and always its tokens.
    pub fn copied(service: &Instance, own: &[Part], to: &Path, port: u16) -> Self {
        let from = service.dir();
        for part in own {
            for name in part.files() {
                let text = fs::read_to_string(from.join(name)).unwrap();
                let text = text.replace(&format!(":{}\"", service.port()), &format!(":{port}\""));
                let text = own.iter().map(|part| part.written()).fold(text, |text, written| {
                    text.replace(
                        &from.join(written).display().to_string(),
                        &to.join(written).display().to_string(),
                    )
                });
                fs::create_dir_all(to.join(name).parent().unwrap()).unwrap();
                fs::write(to.join(name), text).unwrap();
                fs::set_permissions(to.join(name), fs::Permissions::from_mode(0o600)).unwrap();
            }
            copy(&from.join(part.state()), &to.join(part.state()));
        }
        Self { dir: to.to_owned(), tokens: from, environment: service.token_environment().to_vec(), port }
    }

    /// Where the daemon is reached.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Where a part's state lies.
    pub fn state(&self, part: Part) -> PathBuf {
        self.dir.join(part.state())
    }

    /// Puts copies of these parts' states, as [`copy`] made them, in place of what is there.
    pub fn restore(&self, copies: &Path, parts: &[Part]) {
        for part in parts {
            let place = self.state(*part);
            if place.exists() {
                fs::remove_dir_all(&place).unwrap();
            }
            copy(&copies.join(part.state()), &place);
        }
    }

    /// The configuration of a part.
    pub fn config(&self, part: Part) -> PathBuf {
        match part {
            Part::Daemon => self.dir.join("chanceryd.toml"),
            keeper => self.dir.join(keeper.folder()).join("keeper.toml"),
        }
    }

    /// A command of a part's program on its configuration, such as `serve` or `init`.
    pub fn command(&self, part: Part, words: &[&str]) -> Command {
        let mut command = match part {
            Part::Daemon => Command::new(binary("chanceryd")),
            keeper => {
                let mut command = Command::new(binary("chancery-keeper"));
                let conf = self.tokens.join(keeper.folder()).join("softhsm2.conf");
                command.envs(self.environment.iter().cloned()).env("SOFTHSM2_CONF", conf);
                command
            }
        };
        command.args(words).arg("--config").arg(self.config(part)).stdin(Stdio::null());
        command
    }

    /// Starts a part. A keeper serves when this returns, or has ended.
    pub fn start(&self, part: Part) -> Process {
        let socket = self.dir.join(part.folder()).join("keeper.sock");
        if part != Part::Daemon && socket.exists() {
            fs::remove_file(&socket).unwrap();
        }
        // One file a process: two may run at a time.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = self.dir.join(format!("{part:?}-{number}.said"));
        let file = fs::File::create(&log).unwrap();
        let child = self.command(part, &["serve"]).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        let mut process = Process { child, log };
        if part != Part::Daemon {
            wait_for("a keeper to serve or end", || {
                (process.ended().is_some() || UnixStream::connect(&socket).is_ok()).then_some(())
            });
        }
        process
    }

    /// Waits until the daemon is ready, or has ended with this code.
    pub fn settled(&self, daemon: &mut Process) -> Option<i32> {
        wait_for("the daemon to be ready or to end", || match daemon.ended() {
            Some(code) => Some(Some(code)),
            None => (self.readyz() == "200").then_some(None),
        })
    }

    fn readyz(&self) -> String {
        let url = format!("{}/readyz", self.url());
        let mut curl = Command::new("curl");
        curl.args(["-s", "-k", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", &url]);
        Output::of(&mut curl).stdout
    }
}

impl Process {
    /// Its exit code, once it has ended; 128 and the number for a signal.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.child.try_wait().unwrap()?;
        std::os::unix::process::ExitStatusExt::signal(&status).map(|n| 128 + n).or(status.code())
    }

    /// What it has said.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Sends it a signal.
    pub fn send(&self, what: Signal) {
        signal(what, self.child.id()).unwrap();
    }

    /// Ends it as a supervisor does; its exit code.
    pub fn stop(&mut self) -> i32 {
        if self.ended().is_none() {
            self.send(Signal::TERM);
        }
        wait_for("a process to end", || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended by itself needs no signal.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Copies a folder as it is now, file by file, also while somebody writes to it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    let mut names: Vec<_> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let (source, target) = (from.join(&name), to.join(&name));
        match fs::metadata(&source) {
            Ok(about) if about.is_dir() => copy(&source, &target),
            // A temporary file may be gone by now, as it may be for `cp`.
            Ok(_) => drop(fs::copy(&source, &target)),
            Err(_) => {}
        }
    }
}
