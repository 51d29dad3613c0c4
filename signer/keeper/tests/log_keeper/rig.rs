//! A log keeper with a log key, and a daemon that can say anything to it.

use crate::place::{Place, Running, said};
use record::wire::{Blob, FromLog, PROTO, ToLog, read_message, write_message};
use record::{Clock, Event, Leaf, Nonce, Spki, SystemClock};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tlog::VerifierKey;

pub(crate) const ORIGIN: &str = "log.example.com";

/// A log keeper's place, and its key.
pub(crate) struct Rig {
    place: Place,
    pub(crate) vkey: String,
    /// The key of entry timestamps, if the keeper has one.
    pub(crate) set_key: Option<Spki>,
}

impl std::ops::Deref for Rig {
    type Target = Place;
    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Rig {
    /// A keeper with a fresh key and an empty log, or nothing where SoftHSM is not installed.
    pub(crate) fn new() -> Option<Self> {
        Self::with_key("ed25519")
    }

    /// The same with a log key of this kind.
    pub(crate) fn with_key(kind: &str) -> Option<Self> {
        let rig = Self::without_key()?;
        let made = rig.generate("01", kind, &["--origin", ORIGIN]);
        assert!(made.status.success(), "{}", said(&made));
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let rig = Self { vkey: made["vkey"].as_str().unwrap().to_owned(), ..rig };
        rig.configure("");
        rig.init();
        Some(rig)
    }

    /// The same with a key of entry timestamps.
    pub(crate) fn with_set_key() -> Option<Self> {
        Self::with_set_key_beside("ed25519")
    }

    /// The same with a log key of this kind.
    pub(crate) fn with_set_key_beside(log_key: &str) -> Option<Self> {
        let rig = Self::with_key(log_key)?;
        let made = rig.generate("02", "p256", &[]);
        assert!(made.status.success(), "{}", said(&made));
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let rig = Self { set_key: Some(serde_json::from_value(made["spki"].clone()).unwrap()), ..rig };
        rig.configure("");
        Some(rig)
    }

    /// A token without keys.
    pub(crate) fn without_key() -> Option<Self> {
        Some(Self { place: Place::new("log")?, vkey: String::new(), set_key: None })
    }

    /// Writes the configuration; `more` goes to the end of its token table.
    pub(crate) fn configure(&self, more: &str) {
        self.configure_token(&format!("pin_file = 'token/pin'\n{more}"));
    }

    /// Writes the configuration with these lines in its token table.
    pub(crate) fn configure_token(&self, lines: &str) {
        let mut key = format!("[key]\ncka_id = '01'\nvkey = '{}'", self.vkey);
        if let Some(spki) = &self.set_key {
            key += &format!("\n[set_key]\ncka_id = '02'\nspki = {}", serde_json::to_string(spki).unwrap());
        }
        self.configure_with(&format!("role = 'log'\norigin = '{ORIGIN}'\n{key}"), lines);
    }

    /// The verifier key of this log.
    pub(crate) fn key(&self) -> VerifierKey {
        VerifierKey::parse(&self.vkey).unwrap()
    }

    /// Takes the token away, or puts it back.
    pub(crate) fn plug(&self, there: bool) {
        let (tokens, away) = (self.path("token/tokens"), self.path("token/away"));
        if there {
            std::fs::remove_dir(&tokens).unwrap();
            std::fs::rename(away, tokens).unwrap();
        } else {
            std::fs::rename(&tokens, away).unwrap();
            std::fs::create_dir(tokens).unwrap();
        }
    }

    /// How many signatures the keys of the token have made.
    pub(crate) fn signatures(&self) -> usize {
        self.entries().iter().filter(|e| e.signature().is_some()).count()
    }
}

/// As the daemons of a log keeper use it.
impl Running {
    /// A connection that has said nothing yet.
    pub(crate) fn connect(&self) -> Daemon {
        Daemon(self.raw())
    }

    /// A connection that has the lease. Waits while an earlier connection's end is not noticed yet.
    pub(crate) fn welcome(&self) -> (Daemon, Welcome) {
        self.welcome_knowing(0)
    }

    /// The same for a daemon whose database has this epoch.
    pub(crate) fn welcome_knowing(&self, epoch: u64) -> (Daemon, Welcome) {
        loop {
            let mut daemon = self.connect();
            match daemon.ask(&hello_knowing(epoch)) {
                FromLog::Welcome { epoch, size, root, set_key, .. } => {
                    return (daemon, Welcome { epoch, size, root, set_key });
                }
                FromLog::Busy {} => std::thread::yield_now(),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// What a `Welcome` says of the log.
#[derive(Debug)]
pub(crate) struct Welcome {
    pub(crate) epoch: u64,
    pub(crate) size: u64,
    pub(crate) root: record::Sha256,
    pub(crate) set_key: Option<Spki>,
}

/// A daemon's connection.
pub(crate) struct Daemon(UnixStream);

impl Daemon {
    pub(crate) fn ask(&mut self, message: &ToLog) -> FromLog {
        self.try_ask(message).expect("an answer")
    }

    /// The answer, or nothing when the keeper has gone.
    pub(crate) fn try_ask(&mut self, message: &ToLog) -> Option<FromLog> {
        write_message(&mut self.0, message).ok()?;
        read_message(&mut self.0).ok()?
    }

    pub(crate) fn append(&mut self, epoch: u64, base: u64, leaves: &[Vec<u8>]) -> FromLog {
        self.ask(&append(epoch, base, leaves))
    }

    pub(crate) fn note(&mut self) -> String {
        match self.ask(&ToLog::Note {}) {
            FromLog::Noted { note } => note,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn hello() -> ToLog {
    hello_knowing(0)
}

/// The first message of a daemon whose database has this epoch.
pub(crate) fn hello_knowing(epoch: u64) -> ToLog {
    ToLog::Hello { proto: PROTO, daemon: "test".into(), epoch }
}

pub(crate) fn append(epoch: u64, base: u64, leaves: &[Vec<u8>]) -> ToLog {
    ToLog::Append { epoch, base, leaves: leaves.iter().cloned().map(Blob).collect() }
}

/// Different leaves.
pub(crate) fn leaves(count: usize) -> Vec<Vec<u8>> {
    let leaf = |_| {
        let event = Event::Stopped { time: SystemClock.now(), nonce: Nonce::random().unwrap() };
        Leaf::Event(event).encode().unwrap()
    };
    (0..count).map(leaf).collect()
}

/// The code of a refusal.
pub(crate) fn refusal(answer: &FromLog) -> &str {
    match answer {
        FromLog::Refused { code, .. } => code.as_str(),
        other => panic!("not refused: {other:?}"),
    }
}

/// The first segment of the spool.
pub(crate) fn first_segment(state: &Path) -> PathBuf {
    state.join("spool/00000000000000000000.seg")
}
