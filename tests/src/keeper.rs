//! A signing keeper beside that of `chancery dev`, with a token, a journal and faults of its own.

use crate::{
    ImageSignature, Instance, Settings, binary,
    charter::{tell_daemon, write},
    instance::{Output, Signal},
    journal::TokenKeys,
    supervisor::Supervisor,
    wait_for,
};
use hsm_sim::{Entry, Faults, Journal, SoftHsm};
use record::{Purpose, Sha256};
use std::{fs, path::PathBuf, process::Command};

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

/// The keeper, its token, and its supervisor. Dropping it ends the keeper.
pub struct OwnKeeper {
    /// What its token is made to do wrong; nothing at first.
    pub faults: Faults,
    /// Its token, without faults.
    pub token: SoftHsm,
    folder: PathBuf,
    supervisor: Supervisor,
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
        let journaled = token.journaled_with(&folder.join("journal.jsonl"), &faults).unwrap();
        let supervisor = Supervisor::new(&folder, journaled.env());
        let mut keeper = Self { faults, token, folder, supervisor };
        keeper.write_charter(instance, wanted);
        keeper.write_config(wanted);
        keeper.supervisor.init();
        tell_daemon(instance, wanted.name, &keeper.path("socket"));
        keeper.start();
        wait_for("the keeper's socket", || keeper.path("socket").exists().then_some(()));
        instance.resume(&Settings::default());
        instance.wait_until_ready();
        keeper
    }

    /// Starts the keeper under its supervisor, as `systemctl start` does.
    pub fn start(&mut self) {
        self.supervisor.start();
    }

    /// Ends the keeper, and does not start it again.
    pub fn stop(&mut self) {
        self.supervisor.stop();
    }

    /// Has the keeper, which does not run, follow a new log instead of the former one: both by name and key.
    pub fn follow_log(&self, former: (&str, &str), new: (&str, &str)) -> Output {
        let charter = fs::read_to_string(self.path("charter.toml")).unwrap();
        let charter = charter.replace(former.1, new.1);
        let named = charter.replace(&format!("{:?}", former.0), &format!("{:?}", new.0));
        write(&self.path("charter.toml"), &named);
        Output::of(self.supervisor.command("admin follow-log").args([
            "--abandon-open",
            "--former-origin",
            former.0,
        ]))
    }

    /// Kills the keeper's process without warning; its supervisor starts it again.
    pub fn kill(&self) {
        self.supervisor.send(Signal::KILL);
    }

    /// Stops the keeper's process where it is: it stays connected and reads nothing more. [`Self::kill`] ends it.
    pub fn freeze(&self) {
        self.supervisor.send(Signal::STOP);
    }

    /// The exit codes of all its processes so far; 128 and the number for a signal.
    pub fn exits(&self) -> Vec<i32> {
        self.supervisor.exits()
    }

    /// Whether a process runs.
    pub fn runs(&self) -> bool {
        self.supervisor.runs()
    }

    /// What its processes have said.
    pub fn said(&self) -> String {
        self.supervisor.said()
    }

    /// SHA-256 of every payload that its keys really signed, in order.
    pub fn signed(&self) -> Vec<Sha256> {
        self.entries().into_iter().flatten().collect()
    }

    /// Entries in the token's journal, of logins too.
    pub fn journaled(&self) -> usize {
        let journal = fs::read(self.path("journal.jsonl")).unwrap();
        journal.iter().filter(|byte| **byte == b'\n').count()
    }

    /// The journal's entries: what an image key signed, if the entry says that.
    pub fn entries(&self) -> Vec<Option<Sha256>> {
        let keys = TokenKeys::of_charter(&self.path("charter.toml"));
        let lines = keys.read(&self.path("journal.jsonl")).unwrap().into_iter();
        lines.map(|line| line.map(ImageSignature::sha256)).collect()
    }

    /// What the real token answered to each login, in order.
    pub fn logins(&self) -> Vec<u64> {
        let answer = |entry: Entry| match entry {
            Entry::Login { rv, .. } => Some(rv),
            Entry::Signature { .. } => None,
        };
        Journal::read(&self.path("journal.jsonl")).unwrap().into_iter().filter_map(answer).collect()
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
        write(&self.path("charter.toml"), &charter);
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
        write(
            &self.path("keeper.toml"),
            &format!(
                "role = \"sign\"\nname = \"{}\"\ncharter = \"charter.toml\"\nstate = \"state\"\nsocket = \"socket\"\n\n\
             [token]\nmodule = \"{}\"\nlabel = \"{}\"\npin_file = \"{}\"\ncall_deadline_ms = {}\n",
                wanted.name,
                journaled.module().display(),
                self.token.label(),
                self.token.pin_file().display(),
                wanted.call_deadline_ms,
            ),
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
