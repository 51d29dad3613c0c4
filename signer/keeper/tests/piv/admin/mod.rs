//! An operator at a keeper's host, with a YubiKey in the reader: the commands, and what they did to the card, by its own
//! word and by the log of its APDUs.

mod cards;
mod doctor;
mod interrupted;
mod keys;
mod setup;

use crate::bench::{Bench, SERIAL, pem, world};
use crate::place::said;
use crate::world::KEEPER;
use base64::{Engine, prelude::BASE64_STANDARD};
use hsm_sim_yubikey::{
    Builder, Entry, Operation, Pcscd, Profile, SOCKET_VARIABLE, VirtualYubiKey, YubiKeyJournal,
};
use record::{Clock, Sha256, Spki, SystemClock};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

/// What the operator asks for, besides the proof's files.
const SETUP: &str = "admin piv setup --serial SERIAL --slot 9c --touch-policy always --new-pin-file PIN --new-puk-file PUK \
                     --new-management-key-file KEY TRUST";
const GRANT: &str = "--charter CHARTER --purpose root --repository r.example/team/";

struct Desk {
    card: VirtualYubiKey,
    pcscd: Pcscd,
    folder: tempfile::TempDir,
    profile: Profile,
}

/// What a command answered.
#[derive(Debug)]
struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Desk {
    /// A card with firmware 5.7.4 from the factory. `None`, with the reason printed, where pcscd or vpcd are missing.
    fn new() -> Option<Self> {
        Self::with(Profile::V5_7_4, |card| card)
    }

    /// A card of this kind, and what is done to it before it is plugged in.
    fn with(profile: Profile, build: impl FnOnce(Builder) -> Builder) -> Option<Self> {
        if let Some(why) = Pcscd::missing() {
            hsm_sim::skip(why);
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let pcscd = Pcscd::start(folder.path(), 1).unwrap();
        let card = VirtualYubiKey::builder()
            .profile(profile)
            .serial(SERIAL)
            .reader(pcscd.vpcd(0).unwrap())
            .journal(&folder.path().join("journal"))
            .apdu_log(&folder.path().join("apdus"));
        let card = build(card).insert().unwrap();
        let desk = Self { card, pcscd, folder, profile };
        let chain: String = profile.attestation_intermediates().iter().map(|der| pem(der)).collect();
        desk.write("chain.pem", &chain);
        desk.write("root.pem", &pem(profile.attestation_root()));
        let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
        let spki = Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap();
        let charter = world(spki).charter();
        desk.write("charter.toml", charter.split_once("\n[[key]]").unwrap().0);
        desk.write(
            "keeper.toml",
            &format!("role = 'sign'\nname = '{KEEPER}'\ncharter = 'charter.toml'\nstate = 'state'\nsocket = 'socket'\n"),
        );
        Some(desk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The command with these words. Those in capitals stand for files of this desk, `TRUST` for what makes the card's
    /// attestations believed, `SERIAL` for the card.
    fn command(&self, words: &str) -> Command {
        let root = "--attestation-root ROOT";
        let trust = match self.profile {
            Profile::V5_7_4 => format!("--attestation-chain CHAIN {root}"),
            Profile::V5_4_3 => format!("{root} --firmware-floor 5.4.0"),
        };
        let words = words.replace("TRUST", &trust).replace("SERIAL", &SERIAL.to_string());
        let word = |word: &str| match word {
            "CHAIN" => self.path("chain.pem"),
            "ROOT" => self.path("root.pem"),
            "PIN" => self.path("pin"),
            "PUK" => self.path("puk"),
            "KEY" => self.path("management-key"),
            "OLD" => self.path("old"),
            "CHARTER" => self.path("charter.toml"),
            "CONFIG" => self.path("keeper.toml"),
            "OUT" => self.path("proof"),
            "AGAIN" => self.path("proof-again"),
            other => PathBuf::from(other),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-keeper"));
        command.args(words.split_ascii_whitespace().map(word)).env(SOCKET_VARIABLE, self.pcscd.socket());
        command
    }

    fn run(&self, words: &str) -> Answer {
        Answer::of(&self.command(words).output().unwrap())
    }

    /// The commands that the card has got, without what is secret in them.
    fn apdus(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("apdus")).unwrap_or_default();
        let command = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["command"].as_str().unwrap().to_owned()
        };
        log.lines().map(command).collect()
    }

    /// How many commands begin so.
    fn count(&self, begin: &str) -> usize {
        self.apdus().iter().filter(|apdu| apdu.starts_with(begin)).count()
    }

    /// How often a PIN was given, rightly or not: the log hides the body and not its length.
    fn pins_given(&self) -> usize {
        self.count("00200080[9 bytes hidden]")
    }

    /// How often anything was changed, or tried that is counted.
    fn changes(&self) -> usize {
        ["0024", "002c", "00ff", "0047", "00fe", "00db", "00f6", "00fa", "00fb"]
            .into_iter()
            .map(|instruction| self.count(instruction))
            .sum()
    }

    fn tries_left(&self) -> (u64, u64) {
        let card = self.card.dump()["card"].clone();
        let left = |which: &str| card[which]["left"].as_u64().unwrap();
        (left("pin"), left("puk"))
    }

    fn slots(&self) -> Value {
        self.card.dump()["card"]["slots"].clone()
    }

    fn entries(&self, operation: Operation) -> Vec<Entry> {
        let entries = YubiKeyJournal::read(&self.path("journal")).unwrap();
        entries.into_iter().filter(|entry| entry.signed.operation == operation).collect()
    }

    fn signatures(&self) -> usize {
        self.entries(Operation::Sign).len()
    }

    /// Nothing was sent that could change f9 or its certificate, and the card still proves its keys with the factory's.
    fn f9_is_untouched(&self) {
        for apdu in self.apdus() {
            let instruction = &apdu[2..4];
            let reference = &apdu[6..8];
            assert!(!(["47", "fe", "f6"].contains(&instruction) && reference == "f9"), "{apdu}");
            assert!(!(instruction == "db" && apdu.contains("5c035fff01")), "{apdu}");
        }
        let shown = self.run("admin key attest --piv-serial SERIAL --slot 9c TRUST").json();
        assert_eq!(shown["chain"][1], Sha256::of(self.profile.attestation_f9()).to_string());
    }

    /// The keeper of this host, once the card and the charter have its key.
    fn keeper(self, spki: &Value) -> Bench {
        let der = BASE64_STANDARD.decode(spki.as_str().unwrap()).unwrap();
        let Self { card, pcscd, folder, .. } = self;
        let mut world = world(Spki::from_der(&der).unwrap());
        world.now = SystemClock.now();
        let bench = Bench { card, pcscd, world, folder };
        let init = bench.command("init").output().unwrap();
        assert!(init.status.success(), "{}", said(&init));
        bench
    }
}

impl Answer {
    fn of(output: &Output) -> Self {
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        Self { code: output.status.code().unwrap_or(128), out, err: said(output) }
    }

    /// The document of a command that did not fail.
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The command failed with this code, printed no result, and its error has all these words.
    fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is missing: {self:?}");
        }
    }
}
