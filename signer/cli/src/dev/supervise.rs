//! The three processes of an instance: started in order, started again when they fall, stopped in reverse.

use super::{
    layout::{Layout, Role, Settings},
    provision::keeper_command,
};
use crate::{commands::daemon::sibling, exit::Exit, failure::Failure, output::Output};
use std::{fs, path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep, timeout},
};

/// Exit codes that a restart cannot help: the state or the disk needs a human.
const NOT_RESTARTED: [i32; 2] = [74, 78];
/// Pause before a fallen process is started again: first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How long each process may take to stop.
const STOP: Duration = Duration::from_secs(25);
/// How often fallen processes are looked for.
const LOOK: Duration = Duration::from_millis(100);

/// The processes of one instance.
pub(super) struct Family {
    layout: Layout,
    settings: Settings,
    members: Vec<Member>,
}

/// One process, running or fallen.
struct Member {
    kind: Kind,
    child: Option<Child>,
    pause: Duration,
    /// When to start it again; never for one whose exit code says that this cannot help.
    next: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Keeper(Role),
    Daemon,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Keeper(Role::Log) => "log-keeper",
            Self::Keeper(Role::Signing) => "signing-keeper",
            Self::Daemon => "chanceryd",
        }
    }
}

/// Ctrl-C and SIGTERM.
pub(super) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

/// Listens for Ctrl-C and SIGTERM from now on.
pub(super) fn stop_signals() -> Result<StopSignals, Failure> {
    let bad = |e: std::io::Error| Failure::new(Exit::Internal, "cannot listen for signals").why(e);
    Ok(StopSignals {
        interrupt: signal(SignalKind::interrupt()).map_err(bad)?,
        terminate: signal(SignalKind::terminate()).map_err(bad)?,
    })
}

impl Family {
    pub(super) fn new(layout: Layout, settings: &Settings) -> Self {
        Self { layout, settings: settings.clone(), members: Vec::new() }
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.layout.logs()
    }

    /// Starts both keepers and waits for their sockets.
    pub(super) async fn start_keepers(mut self) -> Result<Self, Failure> {
        for role in Role::ALL {
            // A socket of a keeper that was killed would look like one that serves.
            let _absent = fs::remove_file(self.layout.socket(role));
            self.start(Kind::Keeper(role))?;
        }
        let end = Instant::now() + BACKOFF.1 * 4;
        while Role::ALL.iter().any(|role| !self.layout.socket(*role).exists()) {
            if let Err(failure) = self.check_alive() {
                self.stop().await;
                return Err(failure);
            }
            if Instant::now() > end {
                self.stop().await;
                return Err(self.broken("the keepers opened no sockets within 20 s"));
            }
            sleep(LOOK / 4).await;
        }
        Ok(self)
    }

    /// Makes the log, once, while both keepers run.
    pub(super) async fn init_log(&mut self) -> Result<(), Failure> {
        let (config, token) = (self.layout.daemon_config(), self.layout.admin_token());
        let mut command = self.daemon_command(&["init"]);
        command.arg("--config").arg(config).arg("--admin-token-file").arg(token);
        let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().await;
        let output = output.map_err(|e| Failure::new(Exit::State, "cannot start chanceryd").why(e))?;
        if output.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        self.stop().await;
        Err(Failure::new(Exit::State, "the log could not be made").why(why))
    }

    pub(super) fn start_daemon(&mut self) -> Result<(), Failure> {
        self.start(Kind::Daemon)
    }

    /// An error if one of the processes has ended.
    pub(super) fn check_alive(&mut self) -> Result<(), Failure> {
        let mut fallen = None;
        for member in &mut self.members {
            if let Some(status) = member.child.as_mut().and_then(|c| c.try_wait().ok().flatten()) {
                fallen = Some(format!("{} ended ({status})", member.kind.name()));
            }
        }
        fallen.map_or(Ok(()), |what| Err(self.broken(&what)))
    }

    /// Starts fallen processes again until a stop signal comes.
    pub(super) async fn watch(&mut self, mut stop: StopSignals, output: &mut Output) {
        loop {
            tokio::select! {
                _ = stop.interrupt.recv() => return,
                _ = stop.terminate.recv() => return,
                () = sleep(LOOK) => self.raise_fallen(output),
            }
        }
    }

    fn raise_fallen(&mut self, output: &mut Output) {
        let now = Instant::now();
        for member in &mut self.members {
            if let Some(status) = member.child.as_mut().and_then(|c| c.try_wait().ok().flatten()) {
                let helps = !status.code().is_some_and(|code| NOT_RESTARTED.contains(&code));
                let name = member.kind.name();
                let what = if helps {
                    "it is started again".into()
                } else {
                    format!("it is NOT started again: see logs/{name}.log")
                };
                output.note(&format!("{name} ended ({status}); {what}"));
                member.child = None;
                member.next = helps.then(|| now + member.pause);
                member.pause = (member.pause * 2).min(BACKOFF.1);
            }
        }
        for place in 0..self.members.len() {
            if self
                .members
                .get(place)
                .is_some_and(|m| m.child.is_none() && m.next.is_some_and(|at| at <= now))
            {
                self.restart(place, output);
            }
        }
    }

    fn restart(&mut self, place: usize, output: &mut Output) {
        let Some(kind) = self.members.get(place).map(|m| m.kind) else { return };
        match self.spawn(kind) {
            Ok(child) => {
                if let Some(member) = self.members.get_mut(place) {
                    member.child = Some(child);
                }
            }
            Err(failure) => output.note(&failure.to_string()),
        }
    }

    /// Daemon first, then the keepers; whoever does not stop in time is killed.
    pub(super) async fn stop(&mut self) {
        self.members.sort_by_key(|m| m.kind != Kind::Daemon);
        for member in &mut self.members {
            let Some(mut child) = member.child.take() else { continue };
            if let Some(pid) =
                child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
            {
                // A child that has just ended needs no signal.
                let _ended = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            if timeout(STOP, child.wait()).await.is_err() {
                let _ended = child.kill().await;
            }
        }
    }

    fn start(&mut self, kind: Kind) -> Result<(), Failure> {
        let child = self.spawn(kind)?;
        self.members.push(Member { kind, child: Some(child), pause: BACKOFF.0, next: None });
        Ok(())
    }

    fn spawn(&self, kind: Kind) -> Result<Child, Failure> {
        let mut command = match kind {
            Kind::Keeper(role) => {
                let mut command = Command::from(keeper_command(&self.layout, &self.settings, role));
                command.arg("serve").arg("--config").arg(self.layout.keeper_config(role));
                command
            }
            Kind::Daemon => {
                let mut command = self.daemon_command(&["serve"]);
                command.arg("--config").arg(self.layout.daemon_config());
                command
            }
        };
        let path = self.layout.logs().join(format!("{}.log", kind.name()));
        let bad =
            |e: std::io::Error| Failure::new(Exit::State, format!("cannot start {}", kind.name())).why(e);
        let log = fs::OpenOptions::new().create(true).append(true).open(path).map_err(bad)?;
        // Whatever ends us, even a SIGKILL, ends them too.
        command.env("CHANCERY_PARENT", std::process::id().to_string());
        // A group of its own: Ctrl-C in the terminal reaches us, and we stop the others in order.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).kill_on_drop(true);
        command.spawn().map_err(bad)
    }

    fn daemon_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(sibling("chanceryd"));
        command.env_clear().args(args);
        for name in ["PATH", "CHANCERY_LOG", "CHANCERY_LOG_FORMAT", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    fn broken(&self, what: &str) -> Failure {
        let last = |kind: Kind| {
            let text =
                fs::read_to_string(self.logs().join(format!("{}.log", kind.name()))).unwrap_or_default();
            text.lines().last().map(|line| format!("{}: {line}", kind.name()))
        };
        let kinds = [Kind::Keeper(Role::Log), Kind::Keeper(Role::Signing), Kind::Daemon];
        let why: Vec<String> = kinds.into_iter().filter_map(last).collect();
        Failure::new(Exit::State, what.to_owned())
            .why(why.join("\n         "))
            .next(format!("read the files in {}", self.logs().display()))
    }
}
