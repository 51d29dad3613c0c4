//! A real signing keeper over a real SoftHSM token, and a daemon that can say anything to it.
//!
//! The token stands behind a module that journals every signature a key makes, so that a test can tell not only what
//! the keeper answered, but also whether a key was touched.

use crate::traced::traced;
use crate::world::World;
use hsm_sim::{Journal, SoftHsm};
use record::wire::{
    Batch, FromSigner, OpenState, PROTO, Refusal, Reserved, Settle, SignResult, ToSigner, Welcome,
    read_message, write_message,
};
use record::{Clock, Purpose, Sha256, Signature, Spki, SystemClock};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

const BINARY: &str = env!("CARGO_BIN_EXE_chancery-keeper");

/// The folder of one keeper: token, keys, charter, configuration, state.
pub(crate) struct Rig {
    folder: tempfile::TempDir,
    token: SoftHsm,
    pub(crate) world: World,
}

impl Rig {
    /// A keeper with four fresh keys and a fresh journal, or nothing where SoftHSM is not installed.
    pub(crate) fn new() -> Option<Self> {
        if let Some(missing) = hsm_sim::missing(&["softhsm2-util"]) {
            hsm_sim::skip(missing);
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let token = SoftHsm::create(&folder.path().join("token"), "signing").unwrap();
        let keys: BTreeMap<Purpose, Spki> = (1..)
            .zip(Purpose::ALL)
            .map(|(number, purpose)| (purpose, generate(&token, number, purpose)))
            .collect();
        let rig = Self { folder, token, world: World::new(keys, SystemClock.now()) };
        rig.write("charter.toml", &rig.world.charter());
        rig.write("keeper.toml", &rig.config());
        let init = rig.command("init").output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        Some(rig)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn config(&self) -> String {
        let module = self.token.journaled(&self.touched()).unwrap().module().display().to_string();
        let pin = self.token.pin_file().display();
        format!(
            "role = 'sign'\nname = 'signing'\ncharter = 'charter.toml'\nstate = 'state'\nsocket = 'socket'\n\
             [token]\nmodule = '{module}'\nlabel = 'signing'\npin_file = '{pin}'\nsessions = 2\n"
        )
    }

    fn touched(&self) -> PathBuf {
        self.folder.path().join("touched.jsonl")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.path().join("state/journal")
    }

    /// The token's answers to logins.
    pub(crate) fn logins(&self) -> Vec<u64> {
        let rv = |entry| if let hsm_sim::Entry::Login { rv, .. } = entry { Some(rv) } else { None };
        Journal::read(&self.touched()).unwrap().into_iter().filter_map(rv).collect()
    }

    /// Puts a wrong PIN into the PIN file.
    pub(crate) fn spoil_pin(&self) {
        std::fs::write(self.token.pin_file(), "not the pin").unwrap();
    }

    /// The digests that keys have signed, in order.
    pub(crate) fn signed(&self) -> Vec<Sha256> {
        let input = |entry: hsm_sim::Entry| match entry {
            hsm_sim::Entry::Signature { input, .. } => {
                let bytes: [u8; 32] = input.unwrap().try_into().unwrap();
                Some(Sha256::from_bytes(bytes))
            }
            hsm_sim::Entry::Login { .. } => None,
        };
        Journal::read(&self.touched()).unwrap().into_iter().filter_map(input).collect()
    }

    /// Takes the token away, or puts it back.
    pub(crate) fn plug(&self, there: bool) {
        let (tokens, away) = (self.folder.path().join("token/tokens"), self.folder.path().join("token/away"));
        if there {
            std::fs::remove_dir(&tokens).unwrap();
            std::fs::rename(away, tokens).unwrap();
        } else {
            std::fs::rename(&tokens, away).unwrap();
            std::fs::create_dir(tokens).unwrap();
        }
    }

    /// A command of the keeper's program with this rig's configuration and token.
    pub(crate) fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(BINARY);
        command.args(verb.split(' ')).arg("--config").arg(self.folder.path().join("keeper.toml"));
        command.envs(self.token.journaled(&self.touched()).unwrap().env());
        command
    }

    /// Starts the keeper and waits until it listens.
    pub(crate) fn start(&self) -> Running {
        Running::start(self.command("serve"), self.folder.path().join("socket"))
    }

    /// Starts the keeper so that no file it writes can exceed some kilobytes.
    pub(crate) fn start_on_a_small_disk(&self) -> Running {
        let serve = self.command("serve");
        let mut limited = Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""]).arg(serve.get_program());
        limited.args(serve.get_args());
        limited.envs(serve.get_envs().filter_map(|(k, v)| Some((k, v?))));
        Running::start(limited, self.folder.path().join("socket"))
    }

    /// Where the calls of a traced keeper stand.
    pub(crate) fn calls(&self) -> PathBuf {
        self.folder.path().join("calls")
    }

    fn traced(&self, options: &[&str]) -> Command {
        let calls = "trace=openat,pwrite64,fsync,fdatasync,write,sendto,listen";
        traced(&self.command("serve"), &self.calls(), &[&["-e", calls], options].concat())
    }

    /// Starts the keeper under strace.
    pub(crate) fn start_traced(&self, options: &[&str]) -> Running {
        Running::start(self.traced(options), self.folder.path().join("socket"))
    }

    /// Starts a keeper under strace that must not come up.
    pub(crate) fn start_traced_in_vain(&self, options: &[&str]) -> (i32, String) {
        let ended = self.traced(options).output().unwrap();
        (ended.status.code().unwrap(), String::from_utf8_lossy(&ended.stderr).into_owned())
    }

    /// Starts a keeper that must not come up: its exit code and what it said.
    pub(crate) fn start_in_vain(&self) -> (i32, String) {
        let ended = self.command("serve").output().unwrap();
        (ended.status.code().unwrap(), String::from_utf8_lossy(&ended.stderr).into_owned())
    }
}

fn generate(token: &SoftHsm, number: u8, purpose: Purpose) -> Spki {
    let made = Command::new(BINARY)
        .args(["admin", "key-generate", "--type", "p256", "--label", purpose.as_str()])
        .args(["--id", &format!("{number:02}"), "--token-label", token.label()])
        .arg("--module")
        .arg(token.module())
        .arg("--pin-file")
        .arg(token.pin_file())
        .envs(token.env())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}: {}", made.status, String::from_utf8_lossy(&made.stderr));
    let described: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    serde_json::from_value(described["spki"].clone()).unwrap()
}

/// A keeper's process; killed when dropped.
pub(crate) struct Running {
    process: Child,
    socket: PathBuf,
    said: Option<JoinHandle<String>>,
}

impl Running {
    fn start(mut command: Command, socket: PathBuf) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = String::new();
        loop {
            let Some(line) = lines.next() else {
                panic!("the keeper ended, {}: {said}", process.wait().unwrap())
            };
            let line = line.unwrap();
            said.push_str(&line);
            if line.contains("listening") {
                break;
            }
        }
        let rest = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"));
        Self { process, socket, said: Some(rest) }
    }

    /// A new connection that has been welcomed.
    pub(crate) fn connect(&self) -> Daemon {
        self.connect_knowing(0).unwrap()
    }

    /// A new connection of a daemon that was told of this generation; nothing if the keeper does not answer it.
    pub(crate) fn connect_knowing(&self, generation: u64) -> Option<Daemon> {
        let mut stream = self.raw();
        write_message(&mut stream, &hello(generation)).unwrap();
        match read_message(&mut stream).unwrap_or(None)? {
            FromSigner::Welcome(welcome) => Some(Daemon { stream, seen: welcome.seen_size, welcome }),
            other => panic!("{other:?}"),
        }
    }

    /// A connection on which nothing was said.
    pub(crate) fn raw(&self) -> UnixStream {
        UnixStream::connect(&self.socket).unwrap()
    }

    /// SIGKILL, as a power cut of this process.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The exit code with which the keeper ends by itself.
    pub(crate) fn ends(self) -> i32 {
        self.ends_saying().0
    }

    /// The same, with what it said since it listens.
    pub(crate) fn ends_saying(mut self) -> (i32, String) {
        let code = self.process.wait().unwrap().code().unwrap();
        (code, self.said.take().unwrap().join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The first message of a daemon that was told of this generation.
pub(crate) fn hello(generation: u64) -> ToSigner {
    ToSigner::Hello { proto: PROTO, daemon: "test".into(), generation }
}

/// One daemon's connection.
pub(crate) struct Daemon {
    stream: UnixStream,
    pub(crate) seen: u64,
    pub(crate) welcome: Welcome,
}

impl Daemon {
    /// Sends a frame and gives back the answer to it.
    pub(crate) fn ask(&mut self, batch: &Batch) -> FromSigner {
        self.say(&ToSigner::Batch(batch.clone()))
    }

    /// Says anything and gives back the answer.
    pub(crate) fn say(&mut self, message: &ToSigner) -> FromSigner {
        write_message(&mut self.stream, message).unwrap();
        read_message(&mut self.stream).unwrap().unwrap()
    }

    /// Sends a frame to which no answer must come: the keeper ends.
    pub(crate) fn ask_in_vain(&mut self, batch: &Batch) -> bool {
        write_message(&mut self.stream, &ToSigner::Batch(batch.clone())).unwrap();
        !matches!(read_message::<FromSigner>(&mut self.stream), Ok(Some(_)))
    }

    /// Sends a frame that must be carried out.
    pub(crate) fn reserve(&mut self, batch: &Batch) -> Reserved {
        match self.ask(batch) {
            FromSigner::Reserved(reserved) => {
                self.seen = reserved.seen;
                reserved
            }
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the next result.
    pub(crate) fn result(&mut self) -> (u64, SignResult) {
        match read_message(&mut self.stream).unwrap().unwrap() {
            FromSigner::Result { index, result } => (index, result),
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the next result, which must be a signature.
    pub(crate) fn signature(&mut self) -> (u64, Signature) {
        match self.result() {
            (index, SignResult::Signed { signature }) => (index, signature),
            other => panic!("{other:?}"),
        }
    }

    /// The refusal of the only item of `batch`.
    pub(crate) fn refused(&mut self, batch: &Batch) -> Refusal {
        let mut answer = self.reserve(batch);
        assert!(answer.accepted.is_empty(), "accepted");
        assert_eq!(answer.refused.len(), 1);
        answer.refused.remove(0)
    }

    /// Its code.
    pub(crate) fn refusal(&mut self, batch: &Batch) -> String {
        self.refused(batch).code.to_string()
    }

    /// Has one item signed and settled; its sealed file.
    pub(crate) fn through(&mut self, world: &mut World, made: &crate::world::Made) -> Vec<u8> {
        let answer = self.reserve(&world.batch(self.seen, &[made], vec![]));
        assert_eq!(answer.accepted, [made.index], "{:?}", answer.refused);
        let (index, signature) = self.signature();
        assert_eq!(index, made.index);
        let settle: Settle = world.completion(made, &signature);
        let answer = self.reserve(&world.batch(self.seen, &[], vec![settle]));
        assert_eq!(answer.settled, [made.index], "{:?}", answer.unsettled);
        made.seal(world, &signature)
    }

    /// What `Welcome` said of an index.
    pub(crate) fn told(&self, index: u64) -> Option<&OpenState> {
        self.welcome.open.iter().find(|o| o.index == index).map(|o| &o.state)
    }
}

/// Changes a file's bytes.
pub(crate) fn tamper(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}
