//! A witness of our own, `chancery log witness serve`, on a port of this host.

use crate::{Output, binary, free_port, instance::signal, wait_for};
use rustix::process::Signal;
use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tlog::{Checkpoint, Note, VerifierKey};

/// A witness of one log, and its process if it runs.
pub struct OwnWitness {
    folder: PathBuf,
    name: String,
    vkey: String,
    log: VerifierKey,
    port: u16,
    process: Option<Child>,
}

impl OwnWitness {
    /// A new witness below this folder, which knows the log with this key. It does not run yet.
    pub fn init(folder: &Path, name: &str, log: &str) -> Self {
        let folder = folder.join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("policy"), format!("log {log}\nquorum none\n")).unwrap();
        let state = folder.join("state");
        let state = state.to_str().unwrap();
        let run = |args: &[&str]| {
            let done = Output::of(Command::new(binary("chancery")).args(["log", "witness"]).args(args));
            assert_eq!(done.code, 0, "{done:?}");
            done.stdout.trim().to_owned()
        };
        let vkey = run(&["init", "--state", state, "--name", &format!("{name}.example")]);
        run(&["add-log", "--state", state, log]);
        Self { folder, name: name.into(), vkey, log: log.parse().unwrap(), port: free_port(), process: None }
    }

    /// Its line in a policy.
    pub fn line(&self) -> String {
        format!("witness {} {} http://127.0.0.1:{}\n", self.name, self.vkey, self.port)
    }

    /// Its public key.
    pub fn vkey(&self) -> &str {
        &self.vkey
    }

    /// The file of what it has cosigned last.
    pub fn memory(&self) -> PathBuf {
        let logs = fs::read_dir(self.folder.join("state/logs")).unwrap();
        logs.map(|e| e.unwrap().path()).find(|p| p.extension().is_none()).unwrap()
    }

    /// `chancery log witness serve`, as it is started.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary("chancery"));
        command.args(["log", "witness", "serve", "--listen", &format!("127.0.0.1:{}", self.port), "--state"]);
        command.arg(self.folder.join("state")).arg("--policy").arg(self.folder.join("policy"));
        command.stdin(Stdio::null());
        command
    }

    /// Starts it, and waits until it serves.
    pub fn start(&mut self) {
        let file = |name: &str| fs::File::create(self.folder.join(name)).unwrap();
        let mut child = self.command().stdout(file("out")).stderr(file("err")).spawn().unwrap();
        wait_for("a witness to serve", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "the witness ended with {status}: {}",
                    fs::read_to_string(self.folder.join("err")).unwrap()
                );
            }
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        self.process = Some(child);
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Ends it as its supervisor does; its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.end(Signal::TERM)
    }

    /// Waits until it has ended by itself; its exit code.
    pub fn ended(&mut self) -> i32 {
        let mut child = self.process.take().unwrap();
        let status = wait_for("a witness to end", || child.try_wait().unwrap());
        status.code().unwrap()
    }

    fn end(&mut self, with: Signal) -> Option<i32> {
        let mut child = self.process.take()?;
        signal(with, child.id()).unwrap();
        child.wait().unwrap().code()
    }

    /// The address where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it shows that it has cosigned last: a checkpoint that the log and it have signed.
    pub fn seen(&self) -> Option<Checkpoint> {
        let path = format!("/{}/checkpoint", record::Sha256::of(self.log.name().as_bytes()));
        let (status, body) = exchange(self.port, "GET", &path, "").unwrap();
        if status == 404 {
            return None;
        }
        let note = Note::parse(&body).unwrap();
        note.cosigned_at(&self.vkey.parse().unwrap()).unwrap();
        Some(Checkpoint::of_note(&note, &self.log).unwrap())
    }
}

impl Drop for OwnWitness {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}

/// One request over plain HTTP/1.1 on this host: status and body, or why there is no whole answer.
pub fn exchange(port: u16, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: w\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let whole = || {
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: "))?;
        (length.parse() == Ok(body.len())).then(|| (status, body.to_owned()))
    };
    whole().ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, answer.clone()))
}
