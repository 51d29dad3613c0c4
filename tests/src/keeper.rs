//! A signing keeper beside that of `chancery dev`, with a token, a journal and faults of its own, started and started
//! again by the test as systemd would: after every end but those that a person must look at first.

use crate::{
    Instance, Settings, binary,
    instance::{Signal, payload, signal, signed},
    wait_for,
};
use hsm_sim::{Entry, Faults, Journal, SoftHsm};
use record::{Purpose, Sha256};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
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

/// What a test wants of a keeper of its own.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The keeper's name, and that of its token.
    pub name: &'static str,
    /// The repositories that its keys sign for, below `demo/`, such as `demo/hsm/`: of two keys that may, that with the
    /// closer scope is taken.
    pub prefix: &'static str,
    /// Its token's `call_deadline_ms`.
    pub call_deadline_ms: u64,
}

/// The keeper, its token, and its supervisor. Dropping it ends them.
pub struct OwnKeeper {
    /// What its token is made to do wrong; nothing at first.
    pub faults: Faults,
    /// Its token, without faults.
    pub token: SoftHsm,
    folder: PathBuf,
    shared: Arc<Mutex<Shared>>,
    supervisor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    pid: Option<u32>,
    exits: Vec<i32>,
    stopping: bool,
}

impl OwnKeeper {
    /// Makes a token with keys, a charter and a configuration, and starts the keeper; the service is started anew with
    /// it. Its folder lies beside the instance's.
    pub fn join(instance: &mut Instance, wanted: Wanted) -> Self {
        assert_eq!(instance.stop(), 0, "an instance that runs well");
        let folder = instance.dir().parent().unwrap().join(wanted.name);
        fs::create_dir(&folder).unwrap();
        let token = SoftHsm::create(&folder.join("token"), wanted.name).unwrap();
        let faults = Faults::create(&folder.join("faults")).unwrap();
        let mut keeper = Self { faults, token, folder, shared: Arc::default(), supervisor: None };
        keeper.write_charter(instance, wanted);
        keeper.write_config(wanted);
        let init = keeper.command("init").output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        append(
            &instance.dir().join("chanceryd.toml"),
            &format!(
                "\n[[keeper]]\nname = \"{}\"\nsocket = \"{}\"\n",
                wanted.name,
                keeper.path("socket").display()
            ),
        );
        keeper.start();
        wait_for("the keeper's socket", || keeper.path("socket").exists().then_some(()));
        instance.resume(&Settings::default());
        instance.wait_until_ready();
        keeper
    }

    /// Starts the keeper under its supervisor, as `systemctl start` does.
    pub fn start(&mut self) {
        self.stop();
        self.lock().stopping = false;
        let (shared, config, folder) = (self.shared.clone(), self.path("keeper.toml"), self.folder.clone());
        let environment = self.token.journaled_with(&self.path("journal.jsonl"), &self.faults).unwrap().env();
        let serve = move || {
            let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("keeper.log"));
            let mut command = Command::new(binary("chancery-keeper"));
            command.arg("serve").arg("--config").arg(&config).envs(environment.clone());
            command.env("CHANCERY_PARENT", std::process::id().to_string());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap());
            command
        };
        self.supervisor = Some(thread::spawn(move || supervise(&shared, serve)));
    }

    /// Ends the keeper, and does not start it again.
    pub fn stop(&mut self) {
        self.lock().stopping = true;
        self.send(Signal::TERM);
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.join().unwrap();
        }
    }

    /// Kills the keeper's process without warning; its supervisor starts it again.
    pub fn kill(&self) {
        self.send(Signal::KILL);
    }

    fn send(&self, what: Signal) {
        let shared = self.lock();
        if let Some(pid) = shared.pid {
            // One that has just ended needs no signal.
            let _ended = signal(what, pid);
        }
    }

    /// The exit codes of all its processes so far; 128 and the number for a signal.
    pub fn exits(&self) -> Vec<i32> {
        self.lock().exits.clone()
    }

    /// Whether a process runs.
    pub fn runs(&self) -> bool {
        self.lock().pid.is_some()
    }

    /// What its processes have said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.path("keeper.log")).unwrap()
    }

    /// SHA-256 of every payload that its keys really signed, in order.
    pub fn signed(&self) -> Vec<Sha256> {
        signed(&self.path("journal.jsonl"))
    }

    /// Entries in the token's journal, of logins too.
    pub fn journaled(&self) -> usize {
        let journal = fs::read(self.path("journal.jsonl")).unwrap();
        journal.iter().filter(|byte| **byte == b'\n').count()
    }

    /// The journal's entries: what an image key signed, if the entry says that.
    pub fn entries(&self) -> Vec<Option<Sha256>> {
        Journal::read(&self.path("journal.jsonl")).unwrap().into_iter().map(payload).collect()
    }

    /// What the real token answered to each login, in order.
    pub fn logins(&self) -> Vec<u64> {
        let answer = |entry: Entry| match entry {
            Entry::Login { rv, .. } => Some(rv),
            Entry::Signature { .. } => None,
        };
        Journal::read(&self.path("journal.jsonl")).unwrap().into_iter().filter_map(answer).collect()
    }

    fn command(&self, word: &str) -> Command {
        let mut command = Command::new(binary("chancery-keeper"));
        command.arg(word).arg("--config").arg(self.path("keeper.toml")).envs(self.token.env());
        command
    }

    fn write_charter(&self, instance: &Instance, wanted: Wanted) {
        let other = fs::read_to_string(instance.dir().join("signing/charter.toml")).unwrap();
        let line = |name: &str| other.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
        let mut charter =
            format!("schema = 1\nkeeper = \"{}\"\n{}\n{}\n", wanted.name, line("origin"), line("log_vkey"));
        for (id, purpose) in (1..).zip(Purpose::ALL) {
            let spki = self.generate(&format!("{id:02x}"), purpose.as_str());
            charter.push_str(&format!(
                "\n[[key]]\nspki = \"{spki}\"\ncka_id = \"{id:02x}\"\npurpose = \"{purpose}\"\nrepositories = [\"{}\"]\n\
                 approval = \"none\"\nsignatures_per_hour = 1000000\nmax_validity_days = 3660\n",
                instance.repository(wanted.prefix)
            ));
        }
        self.write("charter.toml", &charter);
    }

    /// The SPKI of a new key.
    fn generate(&self, id: &str, label: &str) -> String {
        let mut command = Command::new(binary("chancery-keeper"));
        command.args(["admin", "key", "generate", "--type", "p256", "--id", id, "--label", label]);
        command.args(["--token-label", self.token.label()]).arg("--module").arg(self.token.module());
        let made =
            command.arg("--pin-file").arg(self.token.pin_file()).envs(self.token.env()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        made["spki"].as_str().unwrap().to_owned()
    }

    fn write_config(&self, wanted: Wanted) {
        let journaled = self.token.journaled_with(&self.path("journal.jsonl"), &self.faults).unwrap();
        self.write("keeper.toml", &format!(
            "role = \"sign\"\nname = \"{}\"\ncharter = \"charter.toml\"\nstate = \"state\"\nsocket = \"socket\"\n\n\
             [token]\nmodule = \"{}\"\nlabel = \"{}\"\npin_file = \"{}\"\ncall_deadline_ms = {}\n",
            wanted.name,
            journaled.module().display(),
            self.token.label(),
            self.token.pin_file().display(),
            wanted.call_deadline_ms,
        ));
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OwnKeeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs the process until it is stopped, or ends with a code that only a person can do something about.
fn supervise(shared: &Mutex<Shared>, command: impl Fn() -> Command) {
    loop {
        let mut child = {
            let mut shared = shared.lock().unwrap();
            if shared.stopping {
                return;
            }
            let child = command().spawn().unwrap();
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

fn append(path: &Path, text: &str) {
    let old = fs::read_to_string(path).unwrap();
    fs::write(path, old + text).unwrap();
}
