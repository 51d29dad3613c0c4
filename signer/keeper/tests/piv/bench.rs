//! A signing keeper whose one key is on a virtual YubiKey, behind a real pcscd of its own.

use crate::place::{Running, end_of, said};
use crate::rig::Daemon;
use crate::world::{KEEPER, Made, World};
use base64::{Engine, prelude::BASE64_STANDARD};
use hsm_sim_yubikey::{
    Builder, Entry, Operation, Pcscd, PinPolicy, Profile, SOCKET_VARIABLE, Slot, TouchPolicy, VirtualYubiKey,
    YubiKeyJournal,
};
use record::wire::{FromSigner, SignResult, Touch};
use record::{Clock, Purpose, Sha256, Spki, SystemClock};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) const SERIAL: u32 = 5_740_001;
/// How long the card waits for a touch.
pub(crate) const TOUCH_WAIT: Duration = Duration::from_millis(2_000);
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What differs between tests.
pub(crate) struct Setup {
    pub(crate) profile: Profile,
    /// The key's policies.
    pub(crate) pin: PinPolicy,
    pub(crate) touch: TouchPolicy,
    pub(crate) imported: bool,
    /// Whether the configuration names the test root.
    pub(crate) root: bool,
    /// More members of `piv`.
    pub(crate) more: &'static str,
    /// What the charter says of the key.
    pub(crate) charter: &'static str,
}

impl Setup {
    /// A key that wants PIN and touch each time, on a card that proves it.
    pub(crate) fn usual() -> Self {
        Self {
            profile: Profile::V5_7_4,
            pin: PinPolicy::Always,
            touch: TouchPolicy::Always,
            imported: false,
            root: true,
            more: "",
            charter: "slot = \"9c\"\ntouch = \"always\"",
        }
    }

    /// The same without a touch.
    pub(crate) fn untouched() -> Self {
        Self { touch: TouchPolicy::Never, charter: "slot = \"9c\"", ..Self::usual() }
    }
}

pub(crate) struct Bench {
    pub(crate) card: VirtualYubiKey,
    pub(crate) pcscd: Pcscd,
    pub(crate) world: World,
    pub(crate) folder: tempfile::TempDir,
}

impl Bench {
    /// `None`, with the reason printed, where pcscd or vpcd are missing.
    pub(crate) fn new(setup: &Setup) -> Option<Self> {
        Self::with(setup, |card| card)
    }

    /// The same, with more done to the card before it is plugged in.
    pub(crate) fn with(setup: &Setup, build: impl FnOnce(Builder) -> Builder) -> Option<Self> {
        if let Some(why) = Pcscd::missing() {
            hsm_sim::skip(why);
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let pcscd = Pcscd::start(folder.path(), 1).unwrap();
        let card = VirtualYubiKey::builder()
            .profile(setup.profile)
            .serial(SERIAL)
            .reader(pcscd.vpcd(0).unwrap())
            .touch_timeout(TOUCH_WAIT)
            .journal(&folder.path().join("journal"))
            .apdu_log(&folder.path().join("apdus"));
        let card = match setup.imported {
            false => card.key(Slot::SIGNATURE, setup.pin, setup.touch),
            true => card.imported_key(Slot::SIGNATURE, setup.pin, setup.touch),
        };
        let card = build(card).insert().unwrap();
        let root = Spki::from_der(card.public_key(Slot::SIGNATURE).unwrap()).unwrap();
        let bench = Self { card, pcscd, world: world(root), folder };
        bench.configure(setup);
        Some(bench)
    }

    fn configure(&self, setup: &Setup) {
        let mut piv = format!("serial = {SERIAL}, touch_wait_ms = {}{}", TOUCH_WAIT.as_millis(), setup.more);
        let between = setup.profile.attestation_intermediates();
        if !between.is_empty() {
            self.write("chain.pem", &between.iter().map(|der| pem(der)).collect::<String>());
            piv.push_str(", attestation_chain = ['chain.pem']");
        }
        if setup.root {
            self.write("root.pem", &pem(setup.profile.attestation_root()));
            piv.push_str(", attestation_roots = ['root.pem']");
        }
        self.write("pin", "123456\n");
        self.write("charter.toml", &self.charter(Purpose::Root, setup.charter));
        self.write(
            "keeper.toml",
            &format!(
                "role = 'sign'\nname = '{KEEPER}'\ncharter = 'charter.toml'\nstate = 'state'\nsocket = 'socket'\n\
                 [token]\npiv = {{ {piv} }}\npin_file = 'pin'\n"
            ),
        );
        let init = self.command("init").output().unwrap();
        assert!(init.status.success(), "{}", said(&init));
    }

    /// A charter with the card's key alone.
    fn charter(&self, purpose: Purpose, place: &str) -> String {
        let spki = serde_json::to_string(&self.world.spki[&purpose]).unwrap();
        let whole = self.world.charter();
        let (head, _) = whole.split_once("\n[[key]]").unwrap();
        format!(
            "{head}\n[[key]]\nspki = {spki}\n{place}\npurpose = \"{purpose}\"\nrepositories = [\"r.example/team/\"]\n\
             approval = \"none\"\nsignatures_per_hour = 1000\nmax_validity_days = 1100\n"
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery-keeper"));
        command.args(words.split(' ')).arg("--config").arg(self.path("keeper.toml"));
        command.env(SOCKET_VARIABLE, self.pcscd.socket());
        command
    }

    /// Starts the keeper and waits until it listens.
    pub(crate) fn start(&self) -> Running {
        Running::start(self.command("serve"), self.path("socket"))
    }

    /// Starts a keeper that must not come up: its exit code and what it said.
    pub(crate) fn start_in_vain(&self) -> (i32, String) {
        end_of(self.command("serve"))
    }

    fn journal(&self) -> Vec<Entry> {
        YubiKeyJournal::read(&self.path("journal")).unwrap()
    }

    /// The digests that the key has signed, in order: the card's word.
    pub(crate) fn signed(&self) -> Vec<Sha256> {
        let signatures = self.journal().into_iter().filter(|e| e.signed.operation == Operation::Sign);
        signatures.map(|e| Sha256::from_bytes(e.signed.input.unwrap().try_into().unwrap())).collect()
    }

    /// How many attestations the card has made.
    pub(crate) fn attestations(&self) -> usize {
        self.journal().iter().filter(|entry| entry.signed.operation == Operation::Attest).count()
    }

    /// How often the PIN was given, rightly or not.
    pub(crate) fn verifies(&self) -> usize {
        let log = fs::read_to_string(self.path("apdus")).unwrap();
        let given = |line: &&str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let command = line["command"].as_str().unwrap();
            // The log hides the body and not its length: one byte is a question, nine are a PIN.
            command == "00200080[9 bytes hidden]"
        };
        log.lines().filter(given).count()
    }

    pub(crate) fn pin_tries_left(&self) -> u64 {
        self.card.dump()["card"]["pin"]["left"].as_u64().unwrap()
    }

    /// An intent for the certificate of a new repository's root key, reserved.
    pub(crate) fn ask(&mut self, daemon: &mut Daemon, repository: &str) -> Made {
        self.world.now = SystemClock.now();
        let made = self.world.certificate(&format!("r.example/team/{repository}"));
        let answer = daemon.reserve(&self.world.batch(daemon.seen, &[&made], vec![]));
        assert_eq!(answer.accepted, [made.index], "{:?}", answer.refused);
        made
    }

    /// Asks for one signature after the other until one is made; the failures on the way are certain ones.
    pub(crate) fn ask_until_signed(&mut self, daemon: &mut Daemon) -> Made {
        let end = Instant::now() + PATIENCE;
        for number in 0.. {
            let made = self.ask(daemon, &format!("again{number}"));
            match ended(daemon, made.index) {
                SignResult::Signed { .. } => return made,
                SignResult::Failed { code } => assert_eq!(code.to_string(), "token-gone"),
                SignResult::Lost {} => panic!("lost"),
            }
            assert!(Instant::now() < end, "the card did not come back");
        }
        unreachable!()
    }
}

/// The next result, which must be of this item; touches and an absent card that are told before it do not count.
pub(crate) fn ended(daemon: &mut Daemon, index: u64) -> SignResult {
    loop {
        match daemon.next() {
            FromSigner::Touch(touch) => assert_eq!(touch.index, index),
            FromSigner::Token { .. } => {}
            FromSigner::Result { index: found, result } => {
                assert_eq!(found, index);
                return result;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The next message that is about an item, which must tell of a touch.
pub(crate) fn touch(daemon: &mut Daemon) -> Touch {
    loop {
        match daemon.next() {
            FromSigner::Touch(touch) => return touch,
            FromSigner::Token { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The code of a certain failure.
pub(crate) fn failure(result: SignResult) -> String {
    match result {
        SignResult::Failed { code } => code.to_string(),
        other => panic!("{other:?}"),
    }
}

/// A world whose root key is this one, and in which nobody has the others.
pub(crate) fn world(root: Spki) -> World {
    let software = |byte: u8| {
        let key = p256::ecdsa::SigningKey::from_slice(&[byte; 32]).unwrap();
        Spki::from_sec1(key.verifying_key().to_sec1_point(false).as_bytes()).unwrap()
    };
    let spki = (1..).zip(Purpose::ALL).map(|(number, purpose)| match purpose {
        Purpose::Root => (purpose, root.clone()),
        _ => (purpose, software(number)),
    });
    World::new(spki.collect(), SystemClock.now())
}

pub(crate) fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64_STANDARD.encode(der))
}
