//! A second signing keeper beside those of `chancery dev`, with its keys on a virtual YubiKey: written by hand, as an
//! operator writes it.

use crate::{
    Instance, Settings, binary,
    charter::{DAYS, known, pem, tell_daemon, tell_dev, without_keys, write},
    wait_for,
};
use hsm_sim_yubikey::{
    Builder, Entry, Operation, Pcscd, PinPolicy, Profile, SOCKET_VARIABLE, Slot, TouchPolicy, VirtualYubiKey,
    YubiKeyJournal,
};
use record::{Purpose, Sha256, Spki};
use rustix::process::Signal;
use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The keeper's name.
const NAME: &str = "yubikey";
/// The card's serial number.
const SERIAL: u32 = 5_740_001;

/// What real cards wait for a touch.
const TOUCH_WAIT: Duration = Duration::from_secs(15);

/// Where a role's key lies on the card.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The role.
    pub purpose: Purpose,
    /// The slot.
    pub slot: u8,
    /// Whether each signature needs a touch.
    pub touch: bool,
}

/// A keeper's folder beside `chancery dev`, with a card in its reader. Nothing runs there yet.
pub struct CardHost {
    /// The card.
    pub card: VirtualYubiKey,
    pcscd: Pcscd,
    folder: PathBuf,
}

/// A running keeper, its card and the card's reader.
pub struct YubiKeyKeeper {
    /// The card.
    pub card: VirtualYubiKey,
    _pcscd: Pcscd,
    folder: PathBuf,
    process: Child,
}

impl CardHost {
    /// Stops the service, and puts a card beside it. `None`, with the reason printed, where pcscd or vpcd are missing.
    pub fn new(service: &mut Instance, build: impl FnOnce(Builder) -> Builder) -> Option<Self> {
        if let Some(why) = Pcscd::missing() {
            hsm_sim::skip(why);
            return None;
        }
        service.stop();
        let folder = service.dir().join("yubikey");
        fs::create_dir(&folder).unwrap();
        let pcscd = Pcscd::start(&folder, 1).unwrap();
        let card = VirtualYubiKey::builder()
            .serial(SERIAL)
            .reader(pcscd.vpcd(0).unwrap())
            .journal(&folder.join("journal"));
        let card = build(card).insert().unwrap();
        write_chain(&folder);
        Some(Self { card, pcscd, folder })
    }

    /// The keeper's folder: `chain.pem` and `root.pem` make its card's attestations believed.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the keeper's charter, with these entries beside the keys of `chancery dev`, which stay the others' below
    /// `prefix`; and its configuration, with these lines behind it.
    pub fn configure(&self, service: &Instance, prefix: &str, entries: &str, token: &str) {
        let own = without_keys(service, NAME, prefix) + entries;
        write(&self.folder.join("charter.toml"), &own);
        write(&self.folder.join("keeper.toml"), &(head(NAME) + token));
    }

    /// A program at this host.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env(SOCKET_VARIABLE, self.pcscd.socket()).current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// Starts the keeper, names it and its keys to the service, and starts that again.
    pub fn serve(self, service: &mut Instance, keys: &[(Purpose, Spki)], prefix: &str) -> YubiKeyKeeper {
        tell_dev(service, prefix, keys);
        tell_daemon(service, NAME, &self.folder.join("keeper.sock"));
        let log = fs::File::create(self.folder.join("keeper.log")).unwrap();
        let mut serve = self.command(&binary("chancery-keeper"));
        let process = serve.args(["serve", "--config", "keeper.toml"]).stderr(log).spawn().unwrap();
        let Self { card, pcscd, folder } = self;
        let mut keeper = YubiKeyKeeper { card, _pcscd: pcscd, folder, process };
        keeper.wait_until_it_listens();
        service.resume(&Settings::default());
        service.wait_until_ready();
        keeper
    }
}

impl YubiKeyKeeper {
    /// Puts these keys on a card and gives them a keeper, for the repositories below `prefix`; the keys of `chancery dev`
    /// stay the others'. `None`, with the reason printed, where pcscd or vpcd are missing.
    pub fn start(
        service: &mut Instance,
        prefix: &str,
        places: &[Place],
        build: impl FnOnce(Builder) -> Builder,
    ) -> Option<Self> {
        Self::start_waiting(service, prefix, places, TOUCH_WAIT, build)
    }

    /// The same with a card that waits no longer than that for a touch, which the keeper knows.
    pub fn start_waiting(
        service: &mut Instance,
        prefix: &str,
        places: &[Place],
        touch_wait: Duration,
        build: impl FnOnce(Builder) -> Builder,
    ) -> Option<Self> {
        let with_keys = |card: Builder| {
            build(places.iter().fold(card.touch_timeout(touch_wait), |card, place| {
                let touch = if place.touch { TouchPolicy::Always } else { TouchPolicy::Never };
                card.key(Slot::new(place.slot).unwrap(), PinPolicy::Always, touch)
            }))
        };
        let host = CardHost::new(service, with_keys)?;
        let prefix = service.repository(prefix);
        let key = |place: &Place| {
            let slot = Slot::new(place.slot).unwrap();
            (place.purpose, Spki::from_der(host.card.public_key(slot).unwrap()).unwrap())
        };
        let keys: Vec<(Purpose, Spki)> = places.iter().map(key).collect();
        let entry = |((purpose, spki), place): (&(Purpose, Spki), &Place)| {
            let touch = if place.touch { "always" } else { "never" };
            format!(
                "\n[[key]]\n{}slot = \"{:02x}\"\ntouch = \"{touch}\"\napproval = \"none\"\n\
                 signatures_per_hour = 1000\nmax_validity_days = {DAYS}\n",
                known(spki, *purpose, &prefix),
                place.slot
            )
        };
        let entries: String = keys.iter().zip(places).map(entry).collect();
        write(&host.folder.join("pin"), "123456\n");
        let token = format!(
            "\n[token]\npin_file = \"pin\"\npiv = {{ serial = {SERIAL}, attestation_chain = [\"chain.pem\"], \
             attestation_roots = [\"root.pem\"], touch_wait_ms = {} }}\n",
            touch_wait.as_millis()
        );
        host.configure(service, &prefix, &entries, &token);
        let mut init = host.command(&binary("chancery-keeper"));
        let init = init.args(["init", "--config", "keeper.toml"]).output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        Some(host.serve(service, &keys, &prefix))
    }

    fn wait_until_it_listens(&mut self) {
        wait_for("the keeper of the YubiKey to listen", || {
            if let Ok(Some(status)) = self.process.try_wait() {
                panic!(
                    "it ended with {status}: {}",
                    fs::read_to_string(self.folder.join("keeper.log")).unwrap()
                );
            }
            UnixStream::connect(self.folder.join("keeper.sock")).ok()
        });
    }

    /// Tries that the card's PIN has left.
    pub fn pin_tries_left(&self) -> u64 {
        self.card.dump()["card"]["pin"]["left"].as_u64().unwrap()
    }

    /// What the card has signed, in order, without its attestations: its own word.
    pub fn signed(&self) -> Vec<(Sha256, Entry)> {
        let entries = YubiKeyJournal::read(&self.folder.join("journal")).unwrap();
        let signatures = entries.into_iter().filter(|entry| entry.signed.operation == Operation::Sign);
        let digest = |entry: &Entry| {
            let input = entry.signed.input.clone().unwrap();
            Sha256::from_bytes(input.try_into().expect("ECDSA signs a SHA-256 here"))
        };
        signatures.map(|entry| (digest(&entry), entry)).collect()
    }
}

impl Drop for YubiKeyKeeper {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        // One that has ended by itself needs no signal.
        let _ended = rustix::process::kill_process(pid, Signal::TERM);
        let _status = self.process.wait();
    }
}

/// A configuration that has no token yet.
pub(crate) fn head(name: &str) -> String {
    format!(
        "role = \"sign\"\nname = \"{name}\"\ncharter = \"charter.toml\"\nstate = \"state\"\nsocket = \"keeper.sock\"\n"
    )
}

/// The certificates above a card's f9 key.
pub(crate) fn write_chain(folder: &Path) {
    let profile = Profile::V5_7_4;
    write(&folder.join("root.pem"), &pem(profile.attestation_root()));
    let chain: String = profile.attestation_intermediates().iter().map(|der| pem(der)).collect();
    write(&folder.join("chain.pem"), &chain);
}
