//! An operator at a keeper's host: a token that can fail, a configuration, a charter, and the commands.

use crate::place::{Place, said};
use hsm_sim::{Entry, Faults, Journal};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// One keeper's host.
pub(crate) struct Desk {
    place: Place,
    pub(crate) faults: Faults,
}

impl std::ops::Deref for Desk {
    type Target = Place;
    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Desk {
    /// A token `signing` without keys, a charter without keys, and a configuration without a token.
    pub(crate) fn new() -> Option<Self> {
        let place = Place::new("signing")?;
        let faults = Faults::create(&place.path("faults")).unwrap();
        let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key();
        let vkey = tlog::VerifierKey::new_ed25519("log.example.com", key.to_bytes()).unwrap();
        place.write(
            "charter.toml",
            &format!(
                "# Mine.\nschema = 1\nkeeper = \"signing\"\norigin = \"log.example.com\"\nlog_vkey = \"{vkey}\"\n"
            ),
        );
        place.write(
            "keeper.toml",
            "role = 'sign'\nname = 'signing'\ncharter = 'charter.toml'\nstate = 'state'\nsocket = 'socket'\n",
        );
        Some(Self { place, faults })
    }

    /// Runs `chancery-keeper` with these words; `MODULE`, `PIN`, `SO_PIN`, `CHARTER` and `CONFIG` stand for the files.
    pub(crate) fn run(&self, words: &str) -> Answer {
        let journaled = self.journaled();
        let module = journaled.module().to_owned();
        let path = |word: &str| match word {
            "MODULE" => module.clone(),
            "PIN" => self.token.pin_file().to_owned(),
            "SO_PIN" => self.token.so_pin_file().to_owned(),
            "CHARTER" => self.path("charter.toml"),
            "CONFIG" => self.path("keeper.toml"),
            other => PathBuf::from(other),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-keeper"));
        command.args(words.split(' ').map(path)).envs(journaled.env());
        Answer::of(&command.output().unwrap())
    }

    /// The same for a command on the token with its PIN.
    pub(crate) fn with_pin(&self, words: &str) -> Answer {
        self.run(&format!("{words} --module MODULE --token-label signing --pin-file PIN"))
    }

    fn journaled(&self) -> hsm_sim::Journaled {
        self.token.journaled_with(&self.path("journal.jsonl"), &self.faults).unwrap()
    }

    fn entries(&self) -> Vec<Entry> {
        let path = self.path("journal.jsonl");
        if path.exists() { Journal::read(&path).unwrap() } else { vec![] }
    }

    /// The token's answers to logins.
    pub(crate) fn logins(&self) -> Vec<u64> {
        let rv = |entry| if let Entry::Login { rv, .. } = entry { Some(rv) } else { None };
        self.entries().into_iter().filter_map(rv).collect()
    }

    /// How many signatures keys have made.
    pub(crate) fn signatures(&self) -> usize {
        self.entries().iter().filter(|e| e.signature().is_some()).count()
    }

    pub(crate) fn charter(&self) -> String {
        std::fs::read_to_string(self.path("charter.toml")).unwrap()
    }

    /// The keys that the token has, seen without the module that fails.
    pub(crate) fn keys(&self) -> Vec<Value> {
        let listed = self.admin(&["key", "list", "--token-label", "signing"]).output().unwrap();
        Answer::of(&listed).json()["keys"].as_array().unwrap().clone()
    }

    /// A key for targets in token and charter: its id.
    pub(crate) fn granted(&self, cka_id: &str) -> String {
        let made = self.with_pin(&format!(
            "admin key generate --id {cka_id} --label t --charter CHARTER --purpose targets --repository r.example/"
        ));
        made.json()["id"].as_str().unwrap().to_owned()
    }

    /// The token of the configuration.
    pub(crate) fn enrol(&self) {
        let words =
            "admin token enrol --module MODULE --token-label signing --pin-file PIN --config CONFIG --write";
        self.run(words).json();
    }
}

impl Answer {
    pub(crate) fn of(output: &Output) -> Self {
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        Self { code: output.status.code().unwrap_or(128), out, err: said(output) }
    }

    /// The document of a command that did not fail.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        self.document()
    }

    /// The document of any command.
    pub(crate) fn document(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The command failed with this code, printed no result, and its error has all these words.
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is missing: {self:?}");
        }
    }
}
