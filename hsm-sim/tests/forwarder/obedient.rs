//! A process with the module in it that calls what the test tells it to, in several sessions at once: SoftHSM and the
//! module read their environment once a process, so the test itself cannot be it.

use crate::{
    bench::{Bench, hex},
    raw::Raw,
};
use cryptoki_sys::{
    CKF_PROTECTED_AUTHENTICATION_PATH, CKF_USER_PIN_COUNT_LOW, CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_LOCKED,
    CKF_USER_PIN_TO_BE_CHANGED, CKO_PRIVATE_KEY, CKO_PUBLIC_KEY, CKR_OK, CKU_CONTEXT_SPECIFIC, CKU_USER,
};
use std::{
    collections::HashMap,
    env,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Sender, channel},
    thread,
};

/// What the child writes before each answer; the test harness writes other lines.
const ANSWER: &str = "answer ";

/// The parent's side.
pub(crate) struct Obedient {
    child: Child,
    commands: ChildStdin,
    lines: BufReader<ChildStdout>,
    /// Answers that came before they were asked for, by worker.
    early: HashMap<u8, Vec<String>>,
}

impl Obedient {
    /// A child that has the module loaded and initialised, and no session.
    pub(crate) fn start(bench: &Bench) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "--exact", "obedient::child_obeys"])
            .envs(bench.journaled.env())
            .env("CHILD_MODULE", bench.journaled.module())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (commands, lines) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, commands, lines: BufReader::new(lines), early: HashMap::new() }
    }

    /// A child with a session of worker 0, logged in, which knows the key `a1`.
    pub(crate) fn ready(bench: &Bench) -> Self {
        let mut child = Self::start(bench);
        for (command, answer) in [("open", "0x0"), (&format!("login {}", bench.pin()), "0x0"), ("key", "0x0")]
        {
            assert_eq!(child.ask(0, command), answer, "{command}");
        }
        child
    }

    /// A further session, in a thread of its own.
    pub(crate) fn join(&mut self, worker: u8) {
        assert_eq!(self.ask(worker, "open"), "0x0");
        assert_eq!(self.ask(worker, "key"), "0x0");
    }

    pub(crate) fn ask(&mut self, worker: u8, command: &str) -> String {
        self.tell(worker, command);
        self.answer(worker)
    }

    pub(crate) fn tell(&mut self, worker: u8, command: &str) {
        writeln!(self.commands, "{worker} {command}").unwrap();
    }

    /// Reads until this worker answered.
    pub(crate) fn answer(&mut self, worker: u8) -> String {
        loop {
            let early = self.early.entry(worker).or_default();
            if !early.is_empty() {
                return early.remove(0);
            }
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the child ended");
            if let Some((_, answer)) = line.split_once(ANSWER) {
                let (from, answer) = answer.trim().split_once(' ').unwrap();
                self.early.entry(from.parse().unwrap()).or_default().push(answer.to_owned());
            }
        }
    }

    /// How it ended, after its own doing.
    pub(crate) fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
#[ignore = "a child of other tests"]
fn child_obeys() {
    let slot = Raw::load(0, 0).initialize();
    let mut workers: HashMap<String, Sender<String>> = HashMap::new();
    thread::scope(|scope| {
        for line in io::stdin().lines().map(Result::unwrap) {
            let (worker, command) = line.split_once(' ').unwrap();
            let sender = workers.entry(worker.to_owned()).or_insert_with(|| {
                let (sender, commands) = channel::<String>();
                let worker = worker.to_owned();
                scope.spawn(move || {
                    let mut raw = Raw::load(0, 0);
                    for command in commands {
                        println!("{ANSWER}{worker} {}", obey(&mut raw, slot, &command));
                    }
                });
                sender
            });
            sender.send(command.to_owned()).unwrap();
        }
        drop(workers);
    });
}

/// Those that tests look at.
const FLAGS: u64 = CKF_USER_PIN_COUNT_LOW
    | CKF_USER_PIN_FINAL_TRY
    | CKF_USER_PIN_LOCKED
    | CKF_USER_PIN_TO_BE_CHANGED
    | CKF_PROTECTED_AUTHENTICATION_PATH;

/// Return values in hex, and what else the call gave.
fn obey(raw: &mut Raw, slot: u64, command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let rv = match words.as_slice() {
        ["open"] => raw.open(slot),
        ["open", slot] => raw.open(slot.parse().unwrap()),
        ["close"] => raw.close(),
        ["login", pin] => raw.login(CKU_USER, Some(pin)),
        ["login"] => raw.login(CKU_USER, None),
        ["context", pin] => raw.login(CKU_CONTEXT_SPECIFIC, Some(pin)),
        ["session"] => raw.session_info(),
        ["key"] => {
            let (rv, key) = raw.find(CKO_PRIVATE_KEY);
            raw.key = key.unwrap_or_default();
            if rv == CKR_OK && key.is_none() { return "none".to_owned() } else { rv }
        }
        ["init"] => raw.sign_init(),
        ["sign", byte] => return signed(raw, byte),
        ["both", byte] => match raw.sign_init() {
            CKR_OK => return signed(raw, byte),
            rv => rv,
        },
        ["length"] => raw.length(&[0; 32]),
        ["slots"] => {
            let (rv, slots) = raw.slots();
            return format!("{rv:#x} {slots:?}");
        }
        ["token"] => return token(raw, slot),
        ["token", slot] => return token(raw, slot.parse().unwrap()),
        ["public", kind, room] => {
            let object = raw.find(CKO_PUBLIC_KEY).1.unwrap();
            let (rv, len, value) = raw.attribute(object, kind.parse().unwrap(), room.parse().ok());
            return format!("{rv:#x} {len} {}", hex(&value));
        }
        ["private", kind] => {
            let (rv, len, value) = raw.attribute(raw.key, kind.parse().unwrap(), Some(1));
            return format!("{rv:#x} {len} {}", hex(&value));
        }
        other => panic!("{other:?}"),
    };
    format!("{rv:#x}")
}

fn signed(raw: &Raw, byte: &str) -> String {
    let mut made = [0; 64];
    let rv = raw.sign(&[byte.parse().unwrap(); 32], &mut made);
    if made == [0; 64] { format!("{rv:#x}") } else { format!("{rv:#x} {}", hex(&made)) }
}

/// Its flags as far as tests look at them, its sessions, its serial number.
fn token(raw: &Raw, slot: u64) -> String {
    let (rv, info) = raw.token_info(slot);
    let serial = String::from_utf8_lossy(&info.serialNumber).trim().to_owned();
    format!("{rv:#x} {:#x} {} {serial}", info.flags & FLAGS, info.ulMaxSessionCount).trim().to_owned()
}
