//! A whole service, started with `chancery dev`, and the command line as its users run it.

use crate::{History, ImageSignature, Registry, binary, free_port, journal::TokenKeys, second, wait_for};
use hsm_sim::{Entry, Faults, Journal};
use record::{Digest, Sha256};
use rustix::process::Pid;
pub use rustix::process::Signal;
use serde_json::Value;
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// The log keeper's process.
pub const LOG_KEEPER: &[&str] = &["chancery-keeper serve", "/log/"];
/// The signing keeper's process.
pub const SIGNING_KEEPER: &[&str] = &["chancery-keeper serve", "/signing/"];
/// The daemon's process.
pub const DAEMON: &[&str] = &["chanceryd serve"];

/// `CKA_ID` of the targets key of `chancery dev`.
pub const TARGETS_KEY: &[u8] = &[2];

/// And of its snapshot key.
pub const SNAPSHOT_KEY: &[u8] = &[3];

/// And of the key of the log's entry timestamps.
const SET_KEY: &[u8] = &[0x10];

/// What a test wants other than the default.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Options for `chancery dev` beyond directory, address, registry and repositories.
    pub options: Vec<String>,
    /// SoftHSM itself, without a journal: for measuring.
    pub plain_token: bool,
}

/// A running service with a registry.
pub struct Instance {
    /// The registry beside it.
    pub registry: Registry,
    /// What the tokens are made to do wrong; nothing at first.
    pub faults: Faults,
    folder: Folder,
    port: u16,
    dev: Option<Child>,
}

/// Where an instance lies.
enum Folder {
    /// Removed with it.
    Passing(TempDir),
    /// Left where it is.
    Kept(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Passing(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Exit code; 128 and the signal's number if it was killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Instance {
    /// A fresh service, ready to sign.
    pub fn start() -> Self {
        Self::with(&Settings::default())
    }

    /// A fresh service with settings.
    pub fn with(settings: &Settings) -> Self {
        let folder = tempfile::Builder::new().prefix("chy").tempdir().unwrap();
        Self::within(Folder::Passing(folder), (free_port(), free_port()), settings)
    }

    /// The service in this folder, taken up again if there is one, and left there in the end. Its ports are those of its
    /// first start.
    pub fn kept_in(folder: &Path, settings: &Settings) -> Self {
        fs::create_dir_all(folder).unwrap();
        let file = folder.join("ports");
        if !file.exists() {
            fs::write(&file, format!("{} {}", free_port(), free_port())).unwrap();
        }
        let text = fs::read_to_string(&file).unwrap();
        let (service, registry) = text.split_once(' ').unwrap();
        let ports = (service.parse().unwrap(), registry.parse().unwrap());
        Self::within(Folder::Kept(folder.to_owned()), ports, settings)
    }

    fn within(folder: Folder, (port, registry): (u16, u16), settings: &Settings) -> Self {
        let registry = Registry::start(&folder.path().join("registry"), registry);
        let faults = folder.path().join("faults");
        let _left_over = fs::remove_dir_all(&faults);
        let faults = Faults::create(&faults).unwrap();
        let mut instance = Self { registry, faults, folder, port, dev: None };
        instance.resume(settings);
        instance
    }

    /// The folder of `chancery dev`.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("dev")
    }

    /// Leaves the folder behind when all is over, for people to look at; where it is.
    pub(crate) fn keep(&mut self) -> PathBuf {
        if let Folder::Passing(folder) = &mut self.folder {
            folder.disable_cleanup(true);
        }
        self.folder.path().to_owned()
    }

    /// The port of the service.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of a repository in this instance's registry.
    pub fn repository(&self, path: &str) -> String {
        format!("{}/{path}", self.registry.host())
    }

    /// Starts `chancery dev` on the folder and waits until it is ready.
    pub fn resume(&mut self, settings: &Settings) {
        let mut child = self.command(settings).spawn().unwrap();
        wait_for("chancery dev to be ready", || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("chancery dev ended with {status}:\n{}", self.said("dev.err"));
            }
            self.said("dev.out").contains("ready ").then_some(())
        });
        self.dev = Some(child);
    }

    /// Starts `chancery dev` on a folder that it must refuse; what it says.
    pub fn resume_in_vain(&self) -> String {
        let mut child = self.command(&Settings::default()).spawn().unwrap();
        let status = wait_for("chancery dev to refuse", || {
            if self.said("dev.out").contains("ready ") {
                let _ended = signal(Signal::TERM, child.id());
                let _status = child.wait();
                panic!("it started: {}", self.said("dev.out"));
            }
            child.try_wait().unwrap()
        });
        assert!(!status.success(), "{status}");
        self.said("dev.err")
    }

    fn said(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    fn command(&self, settings: &Settings) -> Command {
        let mut command = Command::new(binary("chancery"));
        command
            .arg("dev")
            .arg("--dir")
            .arg(self.dir())
            .arg("--listen")
            .arg(format!("localhost:{}", self.port));
        command.arg("--registry").arg(format!("{}=http", self.registry.host()));
        command.arg("--repository").arg(self.repository("demo/"));
        command.args(&settings.options);
        if !settings.plain_token {
            command.arg("--pkcs11-module").arg(hsm_sim::forwarder().unwrap());
        }
        for (name, value) in self.token_environment() {
            command.args(["--keeper-env", name]).env(name, value);
        }
        let file = |name: &str| fs::File::create(self.folder.path().join(name)).unwrap();
        command.stdin(Stdio::null()).stdout(file("dev.out")).stderr(file("dev.err"));
        command
    }

    /// Both tokens are SoftHSM's, behind a module that journals what their keys sign.
    pub(crate) fn token_environment(&self) -> [(&'static str, PathBuf); 3] {
        let softhsm = hsm_sim::SoftHsm::installed().unwrap();
        let control = self.faults.folder().to_owned();
        [("HSM_SIM_MODULE", softhsm), ("HSM_SIM_JOURNAL", self.journal()), ("HSM_SIM_CONTROL", control)]
    }

    /// `chancery-keeper` as `chancery dev` starts the log keeper's.
    pub fn keeper_command(&self, args: &[&str]) -> Command {
        self.keeper_command_of("log", args)
    }

    /// `chancery-keeper` as `chancery dev` starts that of a folder, `log` or `signing`.
    pub(crate) fn keeper_command_of(&self, folder: &str, args: &[&str]) -> Command {
        let mut command = Command::new(binary("chancery-keeper"));
        let conf = self.dir().join(folder).join("softhsm2.conf");
        command.args(args).envs(self.token_environment()).env("SOFTHSM2_CONF", conf).stdin(Stdio::null());
        command
    }

    /// The tokens' journal.
    pub fn journal(&self) -> PathBuf {
        self.folder.path().join("journal.jsonl")
    }

    /// SHA-256 of every payload that an image key really signed, in order: the token's word, not the daemon's.
    pub fn signed(&self) -> Vec<Sha256> {
        let lines = TokenKeys::of_dev(&self.dir()).read(&self.journal()).unwrap();
        lines.into_iter().flatten().map(ImageSignature::sha256).collect()
    }

    /// How many entry timestamps the log's token has signed.
    pub fn entry_timestamps(&self) -> usize {
        let of_set_key =
            |entry: &Entry| matches!(entry, Entry::Signature { key_id, .. } if key_id == SET_KEY);
        Journal::read(&self.journal()).unwrap().iter().filter(|entry| of_set_key(entry)).count()
    }

    /// What the tokens answered to each login, in order.
    pub fn logins(&self) -> Vec<u64> {
        let answer = |entry: Entry| match entry {
            Entry::Login { rv, .. } => Some(rv),
            Entry::Signature { .. } => None,
        };
        Journal::read(&self.journal()).unwrap().into_iter().filter_map(answer).collect()
    }

    /// Ends `chancery dev` as Ctrl-C does; its exit code.
    pub fn stop(&mut self) -> i32 {
        self.end(Signal::INT)
    }

    /// Ends `chancery dev` with a signal; its exit code, -1 for one that the signal killed.
    pub fn end(&mut self, with: Signal) -> i32 {
        let Some(mut child) = self.dev.take() else { return 0 };
        // One that has ended by itself needs no signal.
        let _ended = signal(with, child.id());
        child.wait().ok().and_then(|status| status.code()).unwrap_or(-1)
    }

    /// Kills the process whose command line holds all these words, without warning.
    pub fn kill(&self, words: &[&str]) {
        signal(Signal::KILL, self.pid(words)).unwrap();
    }

    /// What a process of `chancery dev` has said: `chanceryd`, `log-keeper` or `signing-keeper`.
    pub fn log_of(&self, process: &str) -> String {
        fs::read_to_string(self.dir().join(format!("logs/{process}.log"))).unwrap()
    }

    /// The process id of `chancery dev`.
    pub(crate) fn dev(&self) -> u32 {
        self.dev.as_ref().expect("an instance that runs").id()
    }

    /// Stops a process between two instructions; [`Self::thaw`] or [`Self::kill`] ends that.
    pub fn freeze(&self, words: &[&str]) {
        let pid = self.pid(words);
        signal(Signal::STOP, pid).unwrap();
        wait_for("a process to stand still", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit(") ").next()?.starts_with('T').then_some(())
        });
    }

    /// Lets a process go on.
    pub fn thaw(&self, words: &[&str]) {
        signal(Signal::CONT, self.pid(words)).unwrap();
    }

    /// Has the daemon read its policy folder again.
    pub fn hang_up(&self) {
        signal(Signal::HUP, self.pid(DAEMON)).unwrap();
    }

    /// Kills processes at one moment: none of them sees the end of another.
    pub fn kill_all(&self, processes: &[&[&str]]) {
        let pids: Vec<u32> = processes.iter().map(|words| self.pid(words)).collect();
        for name in [Signal::STOP, Signal::KILL] {
            pids.iter().for_each(|pid| signal(name, *pid).unwrap());
        }
        wait_for("killed processes to be gone", || {
            pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
    }

    /// Leaves that the database has committed, whether or not the log keeper has them.
    pub fn committed(&self) -> u64 {
        let path = self.dir().join("data/chancery.db");
        let size = async {
            let options = SqliteConnectOptions::new().filename(path).read_only(true);
            let mut connection = options.connect().await?;
            let size: i64 =
                sqlx::query_scalar("SELECT size FROM head WHERE id = 1").fetch_one(&mut connection).await?;
            connection.close().await.map(|()| size)
        };
        let size: Result<i64, sqlx::Error> = runtime().block_on(size);
        u64::try_from(size.unwrap()).unwrap()
    }

    /// Leaves under the newest note; none while the daemon does not answer.
    pub fn noted(&self) -> Option<u64> {
        let env = self.env();
        let trust = api::Trust::CaFile(env["CHANCERY_CACERT"].clone().into());
        let client = api::Client::new(&env["CHANCERY_URL"], &trust, None).unwrap();
        runtime().block_on(client.readyz()).ok().map(|probe| probe.readiness.log_size)
    }

    /// Waits until signatures can be asked for.
    pub fn wait_until_ready(&self) {
        wait_for("the service to be ready", || self.ready().then_some(()));
    }

    /// Whether signatures can be asked for.
    pub fn ready(&self) -> bool {
        self.http("", "/readyz", &[]).0 == 200
    }

    /// The log as an auditor reads it, every entry proven; none before the first checkpoint.
    pub fn history(&self) -> History {
        self.history_from(0)
    }

    /// The log from this index on.
    pub fn history_from(&self, from: u64) -> History {
        const MOST: u64 = 10_000;
        let mut history = self.some_history(from, MOST);
        loop {
            let have = history.leaves().len() as u64;
            if !have.is_multiple_of(MOST) || have == 0 {
                return history;
            }
            history.extend(self.some_history(from + have, MOST));
        }
    }

    fn some_history(&self, from: u64, limit: u64) -> History {
        let (from_text, limit) = (from.to_string(), limit.to_string());
        let shown = self.chancery_as(
            "CHANCERY_AUDITOR_TOKEN",
            &["log", "show", "--from", &from_text, "--limit", &limit, "-o", "json"],
        );
        assert_eq!(shown.code, 0, "{shown:?}");
        History::read(&shown.stdout, from)
    }

    /// The process of this instance whose command line holds all these words.
    pub fn pid(&self, words: &[&str]) -> u32 {
        let dir = self.dir().display().to_string();
        wait_for(&format!("a process with {words:?}"), || {
            fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let line = fs::read(entry.path().join("cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                (line.contains(&dir) && words.iter().all(|w| line.contains(w))).then_some(pid)
            })
        })
    }

    /// The variables of `DIR/env`.
    pub fn env(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.dir().join("env")).unwrap();
        let line = |l: &str| {
            let (name, value) = l.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
        };
        text.lines().filter_map(line).collect()
    }

    /// Runs `chancery` as CI would.
    pub fn chancery(&self, args: &[&str]) -> Output {
        self.chancery_as("CHANCERY_TOKEN", args)
    }

    /// Runs `chancery` with the token that this variable of `DIR/env` holds.
    pub fn chancery_as(&self, token: &str, args: &[&str]) -> Output {
        Output::of(&mut self.command_as(token, args))
    }

    /// `chancery` as an auditor runs it, to be run.
    pub fn auditor(&self, args: &[&str]) -> Command {
        self.command_as("CHANCERY_AUDITOR_TOKEN", args)
    }

    /// `chancery` with the token that this variable of `DIR/env` holds, to be run.
    pub fn command_as(&self, token: &str, args: &[&str]) -> Command {
        let mut env = self.env();
        if let Some(value) = env.get(token).cloned() {
            env.insert("CHANCERY_TOKEN".into(), value);
        }
        let home = self.folder.path().join("home");
        let mut command = Command::new(binary("chancery"));
        command.args(args).envs(env).env("HOME", &home).env("XDG_STATE_HOME", &home);
        command
    }

    /// A file of the Docker Content Trust server as clients get it.
    pub fn trust_file(&self, repository: &str, name: &str) -> String {
        let path = format!("/v2/{}/_trust/tuf/{name}", self.repository(repository));
        let (status, body) = self.http("", &path, &[]);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// One call of the HTTP API by curl, with the token that this variable of `DIR/env` holds: status and body. Status
    /// 0 is no answer.
    pub fn http(&self, token: &str, path: &str, args: &[&str]) -> (u16, String) {
        self.http_at(&self.env()["CHANCERY_URL"], token, path, args)
    }

    /// The same at another of the service's listeners.
    pub fn http_at(&self, base: &str, token: &str, path: &str, args: &[&str]) -> (u16, String) {
        let env = self.env();
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "60", "-w", "\n%{http_code}", "--cacert", &env["CHANCERY_CACERT"]]);
        if let Some(token) = env.get(token) {
            curl.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        let said = Output::of(curl.args(args).arg(format!("{base}{path}")));
        let (body, status) = said.stdout.rsplit_once('\n').unwrap_or_default();
        (status.parse().unwrap_or(0), body.to_owned())
    }

    /// `POST /v1/requests` without waiting: status and document.
    pub fn post(&self, token: &str, key: &str, repository: &str, digest: &Digest, tag: &str) -> (u16, Value) {
        let body =
            serde_json::json!({ "image": format!("{}@{digest}", self.repository(repository)), "tag": tag });
        let (key, body) = (format!("Idempotency-Key: {key}"), body.to_string());
        let args = ["-H", "Content-Type: application/json", "-H", &key, "-d", &body];
        let (status, answer) = self.http(token, "/v1/requests?wait=0", &args);
        (status, serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {status} {answer}")))
    }

    /// Requests from one client over many connections, none of which waits for its end: their ids.
    pub fn ask_at_once(&self, repository: &str, digest: &Digest, tags: &[String]) -> Vec<String> {
        let env = self.env();
        let trust = api::Trust::CaFile(env["CHANCERY_CACERT"].clone().into());
        let token = api::Secret::new(&env["CHANCERY_TOKEN"]).unwrap();
        let client = api::Client::new(&env["CHANCERY_URL"], &trust, Some(token)).unwrap();
        runtime().block_on(async {
            let one = |tag: &String| {
                let image = format!("{}@{digest}", self.repository(repository)).parse().unwrap();
                let (new, client) = (api::NewRequest { image, tag: tag.parse().unwrap() }, client.clone());
                let key = api::IdempotencyKey::random().unwrap();
                tokio::spawn(async move { client.sign(&new, &key).await.unwrap().id.to_string() })
            };
            let mut ids = Vec::new();
            for asked in tags.iter().map(one).collect::<Vec<_>>() {
                ids.push(asked.await.unwrap());
            }
            ids
        })
    }

    /// A request's state, by its id.
    pub fn state(&self, id: &str) -> String {
        let (status, answer) = self.http("CHANCERY_AUDITOR_TOKEN", &format!("/v1/requests/{id}"), &[]);
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["state"].as_str().unwrap().to_owned()
    }

    /// Asks for a signature and waits for its end.
    pub fn sign(&self, repository: &str, digest: &Digest, tag: &str) -> Output {
        self.chancery(&[
            "sign",
            &format!("{}@{digest}", self.repository(repository)),
            "--tag",
            tag,
            "--wait=60s",
        ])
    }

    /// Asks for a signature and waits for its end only so long, such as `2s`: the answer, and the request's id if there
    /// is a request.
    pub fn sign_within(
        &self,
        repository: &str,
        digest: &Digest,
        tag: &str,
        wait: &str,
    ) -> (Output, Option<String>) {
        let image = format!("{}@{digest}", self.repository(repository));
        let wait = format!("--wait={wait}");
        let answer = self.chancery(&["sign", &image, "--tag", tag, &wait, "-o", "json"]);
        let request: Option<Value> = serde_json::from_str(&answer.stdout).ok();
        let id = request.and_then(|request| Some(request["id"].as_str()?.to_owned()));
        (answer, id)
    }

    /// Downloads everything that the log publishes into a folder.
    pub fn fetch_log(&self, folder: &Path) {
        let fetched = self.chancery_as("CHANCERY_AUDITOR_TOKEN", &["log", "fetch", "--out", path(folder)]);
        assert_eq!(fetched.code, 0, "{fetched:?}");
    }

    /// The log as an auditor verifies it from published files alone, with two verifiers that share nothing; panics unless
    /// it is whole, and both say the same.
    pub fn verify_log(&self) -> Output {
        let published = tempfile::tempdir().unwrap();
        let (log, state) = (published.path().join("log"), published.path().join("state"));
        self.fetch_log(&log);
        second::agreed(&log, &self.env()["CHANCERY_LOG_VKEY"], &state)
    }

    /// What a real notary client sees; none if it is not installed.
    pub fn notary(&self, state: &Path, args: &[&str]) -> Output {
        let env = self.env();
        let mut command = Command::new("notary");
        command.args([
            "-s",
            &env["CHANCERY_DCT_SERVER"],
            "--tlscacert",
            &env["CHANCERY_CACERT"],
            "-d",
            path(state),
        ]);
        Output::of(command.args(args))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Output {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self {
            code: output.status.code().unwrap_or(128),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

pub(crate) fn signal(signal: Signal, pid: u32) -> rustix::io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(rustix::io::Errno::SRCH)?;
    rustix::process::kill_process(pid, signal)
}

/// Whether a process has ended, also if nobody has asked for its exit code.
pub(crate) fn ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}
