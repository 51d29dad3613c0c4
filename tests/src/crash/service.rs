//! The three processes of a service, raised here one by one as systemd would: at once, and without the growing pauses
//! that `chancery dev` makes for people.

use super::disk::Disk;
use crate::{
    Instance, PATIENCE, Settings, Signal, binary,
    instance::{runtime, signal},
};
use api::{Client, Readiness, Trust};
use std::{
    collections::BTreeMap,
    fmt, fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// `RestartPreventExitStatus=` of the units.
const NOT_RESTARTED: [i32; 2] = [74, 78];
/// Pause before a process that ended by itself is raised again.
const RESTART: Duration = Duration::from_millis(50);
/// How often a state is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// As many bytes of a process's last words are shown.
const LAST_WORDS: usize = 1500;

/// One of the three processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `chancery-keeper serve` with the log key.
    LogKeeper,
    /// `chancery-keeper serve` with the image keys.
    SigningKeeper,
    /// `chanceryd serve`.
    Daemon,
}

impl Part {
    /// All of them, in the order in which they are raised.
    pub const ALL: [Self; 3] = [Self::LogKeeper, Self::SigningKeeper, Self::Daemon];
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::LogKeeper => "log keeper",
            Self::SigningKeeper => "signing keeper",
            Self::Daemon => "daemon",
        })
    }
}

/// A service that `chancery dev` has made and that is kept running here. Dropping it ends its processes.
pub(crate) struct Service {
    /// Its folder, registry, journal and clients' environment.
    pub(crate) instance: Instance,
    /// Where its state lies, if its power can be cut.
    pub(crate) disk: Option<Disk>,
    client: Client,
    runtime: tokio::runtime::Runtime,
    running: BTreeMap<Part, Child>,
    /// Exit codes of processes that ended by themselves; 128 and the number for a signal.
    ended: Vec<i32>,
    /// When a process that ended by itself is raised again.
    due: BTreeMap<Part, Instant>,
}

impl Service {
    /// A fresh service with its processes not raised yet; `prepare` sees its folder before that.
    pub(crate) fn make(prepare: impl FnOnce(&Path) -> Option<Disk>) -> Self {
        let mut instance = Instance::with(&Settings::default());
        assert_eq!(instance.stop(), 0, "chancery dev ends well");
        let disk = prepare(&instance.dir());
        let env = instance.env();
        let trust = Trust::CaFile(env["CHANCERY_CACERT"].clone().into());
        let client = Client::new(&env["CHANCERY_URL"], &trust, None).unwrap();
        let (running, due, ended) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { instance, disk, client, runtime: runtime(), running, ended, due }
    }

    /// Starts a process.
    pub(crate) fn raise(&mut self, part: Part) {
        let mut command = match part {
            Part::LogKeeper => self.keeper("log"),
            Part::SigningKeeper => self.keeper("signing"),
            Part::Daemon => {
                let mut command = Command::new(binary("chanceryd"));
                command.args(["serve", "--config"]).arg(self.instance.dir().join("chanceryd.toml"));
                command
            }
        };
        let log = fs::File::options().create(true).append(true).open(self.log_file(part)).unwrap();
        // It ends with us, whatever ends us.
        command.env("CHANCERY_PARENT", std::process::id().to_string());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.due.remove(&part);
        self.running.insert(part, child);
    }

    fn keeper(&self, folder: &str) -> Command {
        let folder = self.instance.dir().join(folder);
        let mut command = Command::new(binary("chancery-keeper"));
        command.args(["serve", "--config"]).arg(folder.join("keeper.toml"));
        command.envs(self.instance.token_environment()).env("SOFTHSM2_CONF", folder.join("softhsm2.conf"));
        command
    }

    /// The id of a process that runs.
    pub(crate) fn pid(&self, part: Part) -> u32 {
        self.running[&part].id()
    }

    /// How a process that was raised has ended, if it has.
    pub(crate) fn end_of(&mut self, part: Part) -> Option<ExitStatus> {
        self.running.get_mut(&part).and_then(|child| child.try_wait().unwrap())
    }

    /// Stops processes between two instructions, all their threads: what they have in the kernel is finished first.
    pub(crate) fn freeze(&self, parts: &[Part]) {
        let pids: Vec<u32> = parts.iter().filter_map(|part| Some(self.running.get(part)?.id())).collect();
        // One that ended by itself stands still, too.
        let _ended: Vec<_> = pids.iter().map(|pid| signal(Signal::STOP, *pid)).collect();
        crate::wait_for("processes to stand still", || {
            pids.iter().all(|pid| stands_still(*pid)).then_some(())
        });
    }

    /// Kills processes without warning, and waits until they are gone.
    pub(crate) fn kill(&mut self, parts: &[Part]) {
        let mut killed: Vec<Child> = parts.iter().filter_map(|part| self.running.remove(part)).collect();
        for child in &mut killed {
            // One that has just ended needs no signal.
            let _ended = child.kill();
        }
        for child in &mut killed {
            child.wait().unwrap();
        }
        self.due.retain(|part, _| !parts.contains(part));
    }

    /// Raises what has ended by itself, a little later; an error if that must not be, with the process's last words.
    pub(crate) fn tend(&mut self) -> Result<(), String> {
        for part in Part::ALL {
            let Some(child) = self.running.get_mut(&part) else { continue };
            let Some(status) = child.try_wait().unwrap() else { continue };
            self.running.remove(&part);
            self.ended.push(status.signal().map(|number| 128 + number).or(status.code()).unwrap_or(-1));
            let crashed = status.signal().is_some_and(|number| number != Signal::KILL.as_raw());
            if crashed || status.code().is_some_and(|code| NOT_RESTARTED.contains(&code)) {
                return Err(format!(
                    "the {part} ended ({status}) and must not be started again: {}",
                    self.last_words(part)
                ));
            }
            self.due.insert(part, Instant::now() + RESTART);
        }
        let due: Vec<Part> =
            self.due.iter().filter(|(_, at)| **at <= Instant::now()).map(|(part, _)| *part).collect();
        due.into_iter().for_each(|part| self.raise(part));
        Ok(())
    }

    /// Tends the processes until signatures can be asked for; gives the leaves under the newest note.
    pub(crate) fn wait_until_ready(&mut self) -> Result<u64, String> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.tend()?;
            let problem = match self.readiness() {
                Some(state) if state.ready => return Ok(state.log_size),
                Some(state) => state.problems.join("; "),
                None => "no answer".to_owned(),
            };
            if Instant::now() > end {
                return Err(format!(
                    "not ready within {PATIENCE:?}: {problem}; {}",
                    self.last_words(Part::Daemon)
                ));
            }
            thread::sleep(LOOK);
        }
    }

    /// What the daemon says of itself; nothing while it does not answer.
    pub(crate) fn readiness(&self) -> Option<Readiness> {
        self.runtime.block_on(self.client.readyz()).ok().map(|probe| probe.readiness)
    }

    /// Exit codes of processes that ended by themselves; 128 and the number for a signal.
    pub(crate) fn ended(&self) -> &[i32] {
        &self.ended
    }

    fn last_words(&self, part: Part) -> String {
        let text = fs::read_to_string(self.log_file(part)).unwrap_or_default();
        let from = text.len().saturating_sub(LAST_WORDS);
        text.get(from..).unwrap_or(&text).trim().to_owned()
    }

    fn log_file(&self, part: Part) -> PathBuf {
        self.instance.dir().join("logs").join(format!("{part}.log").replace(' ', "-"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill(&Part::ALL);
        // Before the instance's folder, in which it is mounted.
        self.disk = None;
    }
}

/// Whether every thread of a process is stopped, or the process is gone.
fn stands_still(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with(['T', 'Z', 'X']) || rest.is_empty())
    })
}
