//! A whole service, started with `chancery dev`, and the command line as its users run it.

use crate::{Registry, binary, free_port, wait_for};
use record::Digest;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// What a test wants other than the default.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Options for `chancery dev` beyond directory, address, registry and repositories.
    pub options: Vec<String>,
}

/// A running service with a registry.
pub struct Instance {
    /// The registry beside it.
    pub registry: Registry,
    folder: TempDir,
    port: u16,
    dev: Option<Child>,
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
        let registry = Registry::start(&folder.path().join("registry"));
        let mut instance = Self { registry, folder, port: free_port(), dev: None };
        instance.resume(settings);
        instance
    }

    /// The folder of `chancery dev`.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("dev")
    }

    /// The name of a repository in this instance's registry.
    pub fn repository(&self, path: &str) -> String {
        format!("{}/{path}", self.registry.host())
    }

    /// Starts `chancery dev` on the folder and waits until it is ready.
    pub fn resume(&mut self, settings: &Settings) {
        let out = self.folder.path().join("dev.out");
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
        command
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(self.folder.path().join("dev.err")).unwrap());
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        wait_for("chancery dev to be ready", || {
            if let Ok(Some(status)) = child.try_wait() {
                let why = fs::read_to_string(self.folder.path().join("dev.err")).unwrap_or_default();
                panic!("chancery dev ended with {status}:\n{why}");
            }
            fs::read_to_string(&out).ok().filter(|text| text.contains("ready "))
        });
        self.dev = Some(child);
    }

    /// Ends `chancery dev` as Ctrl-C does; its exit code.
    pub fn stop(&mut self) -> i32 {
        let Some(mut child) = self.dev.take() else { return 0 };
        signal("TERM", child.id());
        child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Kills the process whose command line holds all these words, without warning.
    pub fn kill(&self, words: &[&str]) {
        signal("KILL", self.pid(words));
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
        let mut env = self.env();
        if let Some(value) = env.get(token).cloned() {
            env.insert("CHANCERY_TOKEN".into(), value);
        }
        let home = self.folder.path().join("home");
        Output::of(
            Command::new(binary("chancery"))
                .args(args)
                .envs(env)
                .env("HOME", &home)
                .env("XDG_STATE_HOME", &home),
        )
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

    /// The log as an auditor verifies it from published files alone; panics unless it is whole.
    pub fn verify_log(&self) -> Output {
        let published = tempfile::tempdir().unwrap();
        let out = published.path().join("log");
        let fetched = self.chancery_as("CHANCERY_AUDITOR_TOKEN", &["log", "fetch", "--out", path(&out)]);
        assert_eq!(fetched.code, 0, "{fetched:?}");
        let vkey = &self.env()["CHANCERY_LOG_VKEY"];
        let verified =
            Output::of(Command::new(binary("chancery")).args(["log", "verify", path(&out), "--vkey", vkey]));
        assert_eq!(verified.code, 0, "{verified:?}");
        verified
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

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(sent.success(), "no process {pid}");
}

fn path(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}
