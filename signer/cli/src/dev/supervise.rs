//! The three processes of an instance: started in order, started again when they fall, stopped in reverse. The operator's
//! commands that a start needs are run here too, so that nothing outlives [`Family::stop`].

use super::{
    layout::{Layout, Role, Settings},
    provision::keeper_command,
    words::{last_words, text_from},
};
use crate::{args::LogKeyType, commands::daemon::sibling, exit::Exit, failure::Failure, output::Output};
use std::{
    fs, io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep, timeout},
};

/// Exit codes that a restart cannot help: the disk, the state or a configuration needs a human.
const NOT_RESTARTED: [i32; 2] = [74, 78];
/// Exit code of a process whose state another one holds.
const HELD: i32 = 75;
/// Pause before a fallen process is started again: first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A process that has run this long was well: its next fall is a first one.
const STEADY: Duration = Duration::from_secs(10);
/// How long keepers may take to open their sockets.
const SOCKETS: Duration = Duration::from_secs(20);
/// How long the processes of a `chancery dev` that was killed may still hold their state: a daemon ends its calls for 20 s,
/// and writes its last leaf for 5 s.
const ENDING: Duration = Duration::from_secs(30);
/// How long each process may take to stop.
const STOP: Duration = Duration::from_secs(25);
/// How often fallen processes are looked for.
const LOOK: Duration = Duration::from_millis(100);

/// The processes of one instance.
pub(super) struct Family {
    layout: Layout,
    settings: Settings,
    members: Vec<Member>,
    /// An operator's command that is under way.
    tool: Option<Child>,
}

/// One process, running or fallen.
struct Member {
    kind: Kind,
    child: Option<Child>,
    first_started: Instant,
    started: Instant,
    /// Where in its log file this run's lines begin.
    log_from: u64,
    pause: Duration,
    /// When to start it again.
    next: Option<Instant>,
}

/// A process that has ended by itself.
struct Fallen {
    kind: Kind,
    status: ExitStatus,
    log_from: u64,
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
    let bad = |e: io::Error| Failure::new(Exit::Internal, "cannot listen for signals").why(e);
    Ok(StopSignals {
        interrupt: signal(SignalKind::interrupt()).map_err(bad)?,
        terminate: signal(SignalKind::terminate()).map_err(bad)?,
    })
}

impl StopSignals {
    /// Waits for one of them.
    pub(super) async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

impl Family {
    pub(super) fn new(layout: Layout, settings: &Settings) -> Self {
        Self { layout, settings: settings.clone(), members: Vec::new(), tool: None }
    }

    /// Whether any of its processes was started.
    pub(super) fn runs(&self) -> bool {
        !self.members.is_empty()
    }

    /// Starts both keepers and waits for their sockets.
    pub(super) async fn start_keepers(&mut self) -> Result<(), Failure> {
        for role in Role::ALL {
            // A socket of a keeper that was killed would look like one that serves.
            let _absent = fs::remove_file(self.layout.socket(role));
            self.start(Kind::Keeper(role))?;
        }
        let begun = Instant::now();
        while Role::ALL.iter().any(|role| !self.layout.socket(*role).exists()) {
            self.check_alive()?;
            if begun.elapsed() > SOCKETS + ENDING {
                let silent = self.members.iter().map(|m| self.words(m.kind, m.log_from)).collect::<Vec<_>>();
                return Err(Failure::new(Exit::State, "the keepers opened no sockets in time")
                    .why(silent.join("\n"))
                    .next(self.logs_hint()));
            }
            sleep(LOOK / 4).await;
        }
        Ok(())
    }

    /// Makes the log, once, while both keepers run.
    pub(super) async fn init_log(&mut self) -> Result<(), Failure> {
        let mut command = self.daemon_command(&["init"]);
        command.arg("--config").arg(self.layout.daemon_config());
        command.arg("--admin-token-file").arg(self.layout.admin_token());
        command.arg("--trusted-root").arg(self.layout.trusted_root());
        if self.settings.log_key == LogKeyType::P256 {
            command.arg("--no-public-witnesses");
        }
        self.run_daemon(command, "the log could not be made").await
    }

    /// Makes an administrator's token in place of one that has ended, while the keepers run and the daemon does not.
    pub(super) async fn admin_token(&mut self) -> Result<(), Failure> {
        let (place, new) = (self.layout.admin_token(), self.layout.admin_token().with_extension("new"));
        let bad =
            |e: io::Error| Failure::new(Exit::State, format!("cannot write {}", place.display())).why(e);
        if new.exists() {
            fs::remove_file(&new).map_err(bad)?;
        }
        let mut command = self.daemon_command(&["admin-token"]);
        command.arg("--config").arg(self.layout.daemon_config()).arg("--out").arg(&new);
        self.run_daemon(command, "an administrator's token could not be made").await?;
        fs::rename(&new, &place).map_err(bad)
    }

    async fn run_daemon(&mut self, command: Command, what: &str) -> Result<(), Failure> {
        let output = self.run(command).await;
        let output = output.map_err(|e| Failure::new(Exit::State, "cannot run chanceryd").why(e))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Failure::new(Exit::State, what).why(last_words(&String::from_utf8_lossy(&output.stderr))))
    }

    /// Runs a command of `chancery-keeper` to its end, as the keeper of this role would.
    pub(super) async fn run_keeper(&mut self, role: Role, args: &[&str]) -> io::Result<std::process::Output> {
        let mut command = Command::from(keeper_command(&self.layout, &self.settings, role));
        command.args(args);
        self.run(command).await
    }

    /// Runs a command to its end. If the caller goes away meanwhile, [`Self::stop`] ends it.
    async fn run(&mut self, mut command: Command) -> io::Result<std::process::Output> {
        tied_to_us(&mut command).stdout(Stdio::piped()).stderr(Stdio::piped());
        let tool = self.tool.insert(command.spawn()?);
        let (out, err) = (tool.stdout.take(), tool.stderr.take());
        let (stdout, stderr, status) = tokio::join!(drained(out), drained(err), tool.wait());
        self.tool = None;
        Ok(std::process::Output { status: status?, stdout: stdout?, stderr: stderr? })
    }

    pub(super) fn start_daemon(&mut self) -> Result<(), Failure> {
        self.start(Kind::Daemon)
    }

    /// Stops the daemon alone.
    pub(super) async fn stop_daemon(&mut self) {
        for member in self.members.iter_mut().filter(|m| m.kind == Kind::Daemon) {
            member.end().await;
        }
        self.members.retain(|m| m.kind != Kind::Daemon);
    }

    /// An error if one of the processes has ended. One whose state is held is started again for a while: the processes of
    /// a `chancery dev` that was killed end by themselves.
    pub(super) fn check_alive(&mut self) -> Result<(), Failure> {
        let mut fallen = Vec::new();
        for member in &mut self.members {
            let Some(fall) = member.fallen() else { continue };
            if fall.status.code() == Some(HELD) && member.first_started.elapsed() < ENDING {
                member.next = Some(Instant::now() + BACKOFF.0);
            } else {
                fallen.push(fall);
            }
        }
        if !fallen.is_empty() {
            return Err(self.broken(&fallen));
        }
        self.restart_due().into_iter().next().map_or(Ok(()), Err)
    }

    /// Starts fallen processes again until a stop signal comes, or until one falls for good.
    pub(super) async fn watch(&mut self, stop: &mut StopSignals, output: &mut Output) -> Result<(), Failure> {
        loop {
            tokio::select! {
                () = stop.received() => return Ok(()),
                () = sleep(LOOK) => self.raise_fallen(output)?,
            }
        }
    }

    fn raise_fallen(&mut self, output: &mut Output) -> Result<(), Failure> {
        let mut for_good = Vec::new();
        for member in &mut self.members {
            let Some(fall) = member.fallen() else { continue };
            if fall.status.code().is_some_and(|code| NOT_RESTARTED.contains(&code)) {
                for_good.push(fall);
            } else {
                output.note(&format!("{} ended ({}); it is started again", fall.kind.name(), fall.status));
                member.start_later();
            }
        }
        if !for_good.is_empty() {
            return Err(self.broken(&for_good));
        }
        for failure in self.restart_due() {
            output.note(&failure.to_string());
        }
        Ok(())
    }

    /// Starts the processes whose time has come; those that could not be started are tried again later.
    fn restart_due(&mut self) -> Vec<Failure> {
        let now = Instant::now();
        let due = |m: &Member| m.child.is_none() && m.next.is_some_and(|at| at <= now);
        let kinds: Vec<Kind> = self.members.iter().filter(|m| due(m)).map(|m| m.kind).collect();
        let mut failures = Vec::new();
        for kind in kinds {
            let spawned = self.spawn(kind);
            let Some(member) = self.members.iter_mut().find(|m| m.kind == kind) else { continue };
            match spawned {
                Ok((child, log_from)) => {
                    (member.child, member.log_from, member.next) = (Some(child), log_from, None);
                    member.started = Instant::now();
                }
                Err(failure) => {
                    member.start_later();
                    failures.push(failure);
                }
            }
        }
        failures
    }

    /// Ends everything that was started: daemon first, then the keepers; whoever does not stop in time is killed.
    pub(super) async fn stop(&mut self) {
        if let Some(mut tool) = self.tool.take() {
            // It works on files of a start that has failed; nothing of it is kept.
            let _ended = tool.kill().await;
        }
        self.stop_daemon().await;
        for member in &mut self.members {
            member.end().await;
        }
        self.members.clear();
    }

    fn start(&mut self, kind: Kind) -> Result<(), Failure> {
        let (child, log_from) = self.spawn(kind)?;
        self.members.push(Member::new(kind, child, log_from));
        Ok(())
    }

    /// Starts a process; gives it, and where its lines begin in its log file.
    fn spawn(&self, kind: Kind) -> Result<(Child, u64), Failure> {
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
        let bad = |e: io::Error| Failure::new(Exit::State, format!("cannot start {}", kind.name())).why(e);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file(kind)).map_err(bad)?;
        let log_from = log.metadata().map_err(bad)?.len();
        let child = tied_to_us(&mut command).stdout(Stdio::null()).stderr(log).spawn().map_err(bad)?;
        Ok((child, log_from))
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

    fn log_file(&self, kind: Kind) -> PathBuf {
        self.layout.logs().join(format!("{}.log", kind.name()))
    }

    /// What a process last said in this run.
    fn words(&self, kind: Kind, log_from: u64) -> String {
        format!("{}: {}", kind.name(), last_words(&text_from(&self.log_file(kind), log_from)))
    }

    /// The end of an instance one of whose processes has ended, in that process's own words.
    fn broken(&self, fallen: &[Fallen]) -> Failure {
        let what: Vec<_> = fallen.iter().map(|f| format!("{} ended ({})", f.kind.name(), f.status)).collect();
        let why: Vec<_> = fallen.iter().map(|f| self.words(f.kind, f.log_from)).collect();
        Failure::new(Exit::State, what.join("; ")).why(why.join("\n")).next(self.logs_hint())
    }

    /// Where more can be read.
    pub(super) fn logs_hint(&self) -> String {
        if self.layout.is_whole() {
            format!("mend what is named, then start again; the logs are in {}", self.layout.logs().display())
        } else {
            "mend what is named, then start again; what this first start has made is removed".to_owned()
        }
    }
}

impl Member {
    fn new(kind: Kind, child: Child, log_from: u64) -> Self {
        let now = Instant::now();
        Self {
            kind,
            child: Some(child),
            first_started: now,
            started: now,
            log_from,
            pause: BACKOFF.0,
            next: None,
        }
    }

    /// The end of its process, told once.
    fn fallen(&mut self) -> Option<Fallen> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(Fallen { kind: self.kind, status, log_from: self.log_from })
    }

    /// Sets when to start it again: soon after it was well, later each time it was not.
    fn start_later(&mut self) {
        if self.started.elapsed() >= STEADY {
            self.pause = BACKOFF.0;
        }
        self.next = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(BACKOFF.1);
    }

    async fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = id {
            // A child that has just ended needs no signal.
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if timeout(STOP, child.wait()).await.is_err() {
            let _ended = child.kill().await;
        }
    }
}

/// A process that ends with us, whatever ends us, even a SIGKILL; and that no Ctrl-C in the terminal reaches, since we stop
/// all in order.
fn tied_to_us(command: &mut Command) -> &mut Command {
    command.env("CHANCERY_PARENT", std::process::id().to_string());
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true)
}

async fn drained(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn family(dir: &Path) -> Family {
        let layout = Layout::new(dir).unwrap();
        layout.make_folders().unwrap();
        Family::new(layout, &Settings::example())
    }

    /// A member whose process is a shell that says and does this.
    async fn member(family: &mut Family, kind: Kind, script: &str) {
        let log = fs::File::options().create(true).append(true).open(family.log_file(kind)).unwrap();
        let log_from = log.metadata().unwrap().len();
        let mut command = Command::new("/bin/sh");
        let child = tied_to_us(command.args(["-c", script])).stderr(log).spawn().unwrap();
        family.members.push(Member::new(kind, child, log_from));
    }

    async fn ended(family: &mut Family) {
        for member in &mut family.members {
            member.child.as_mut().unwrap().wait().await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_instance_with_a_part_that_no_restart_helps_ends_and_says_why_in_that_parts_words() {
        for code in NOT_RESTARTED {
            let dir = tempfile::tempdir().unwrap();
            let mut family = family(dir.path());
            let daemon = family.log_file(Kind::Daemon);
            fs::write(&daemon, "t ERROR chanceryd: an old error\n").unwrap();
            let script = format!(
                "echo 't  INFO x: begins' >&2; echo 't ERROR chanceryd: data/chancery.db: truncated' >&2; \
                 echo '  next: restore it' >&2; exit {code}"
            );
            member(&mut family, Kind::Daemon, &script).await;
            member(&mut family, Kind::Keeper(Role::Log), "exec sleep 60").await;
            family.members[0].child.as_mut().unwrap().wait().await.unwrap();
            let mut stop = stop_signals().unwrap();
            let mut output =
                Output::to(crate::args::Format::Text, Box::new(io::sink()), Box::new(io::sink()));
            let failure = family.watch(&mut stop, &mut output).await.unwrap_err();
            assert_eq!(failure.exit, Exit::State);
            let text = failure.to_string();
            assert!(text.contains(&format!("chanceryd ended (exit status: {code})")), "{text}");
            assert!(text.contains("data/chancery.db: truncated\n           next: restore it"), "{text}");
            assert!(!text.contains("an old error") && !text.contains("begins"), "{text}");
            family.stop().await;
        }
    }

    #[tokio::test]
    async fn a_start_waits_for_state_that_is_held_and_for_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut family = family(dir.path());
        member(&mut family, Kind::Daemon, "exit 75").await;
        ended(&mut family).await;
        family.check_alive().unwrap();
        assert!(family.members[0].next.is_some(), "it is started again");
        family.members.clear();
        member(&mut family, Kind::Daemon, "exit 69").await;
        ended(&mut family).await;
        let failure = family.check_alive().unwrap_err();
        assert!(failure.to_string().contains("chanceryd ended (exit status: 69)"), "{failure}");
        family.members.clear();
        member(&mut family, Kind::Daemon, "exit 75").await;
        ended(&mut family).await;
        family.members[0].first_started -= ENDING;
        let failure = family.check_alive().unwrap_err();
        assert!(failure.to_string().contains("chanceryd ended (exit status: 75)"), "{failure}");
    }

    #[tokio::test]
    async fn pauses_grow_and_begin_anew_after_a_steady_run() {
        let dir = tempfile::tempdir().unwrap();
        let mut family = family(dir.path());
        member(&mut family, Kind::Daemon, "exit 1").await;
        let member = &mut family.members[0];
        let pause = |member: &mut Member| {
            member.start_later();
            member.next.unwrap() - Instant::now()
        };
        let (first, second) = (pause(member), pause(member));
        assert!(first <= BACKOFF.0 && second > BACKOFF.0, "{first:?} {second:?}");
        (0..9).for_each(|_| member.start_later());
        assert_eq!(member.pause, BACKOFF.1);
        member.started -= STEADY;
        assert!(pause(member) <= BACKOFF.0);
    }

    #[tokio::test]
    async fn a_process_that_cannot_be_started_is_tried_again_later_and_not_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut family = family(dir.path());
        member(&mut family, Kind::Daemon, "exit 1").await;
        ended(&mut family).await;
        family.members[0].child = None;
        family.members[0].next = Some(Instant::now());
        // No log file can be opened in a folder that is gone.
        fs::remove_dir_all(family.layout.logs()).unwrap();
        assert_eq!(family.restart_due().len(), 1);
        assert!(family.members[0].next.unwrap() > Instant::now());
        assert!(family.restart_due().is_empty());
    }

    #[tokio::test]
    async fn a_command_whose_start_was_given_up_is_ended_by_stop() {
        let dir = tempfile::tempdir().unwrap();
        let mut family = family(dir.path());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec sleep 60"]);
        tokio::select! {
            _ = family.run(command) => panic!("it ended by itself"),
            () = sleep(Duration::ZERO) => {}
        }
        let id = family.tool.as_ref().unwrap().id().unwrap();
        family.stop().await;
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[tokio::test]
    async fn a_command_gives_back_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut family = family(dir.path());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let output = family.run(command).await.unwrap();
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(output.status.code(), Some(3));
        assert!(family.tool.is_none());
    }
}
