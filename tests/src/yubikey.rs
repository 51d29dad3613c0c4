//! A second signing keeper beside those of `chancery dev`, with its keys on a virtual YubiKey: written by hand, as an
//! operator writes it.

use crate::{Instance, Settings, binary, wait_for};
use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use hsm_sim_yubikey::{
    Builder, Entry, Operation, Pcscd, PinPolicy, Profile, SOCKET_VARIABLE, Slot, TouchPolicy, VirtualYubiKey,
    YubiKeyJournal,
};
use record::{Purpose, Sha256, Spki};
use rustix::process::Signal;
use serde::Deserialize;
use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The card's serial number.
const SERIAL: u32 = 5_740_001;
/// The days that `chancery dev` gives each role, and so does this keeper's charter.
const DAYS: u32 = 3660;

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

/// What is read of the charter of `chancery dev`.
#[derive(Deserialize)]
struct DevCharter {
    origin: String,
    log_vkey: String,
    key: Vec<DevKey>,
}

#[derive(Deserialize)]
struct DevKey {
    spki: Spki,
    purpose: Purpose,
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
        let profile = Profile::V5_7_4;
        write(&folder.join("root.pem"), &pem(profile.attestation_root()));
        let chain: String = profile.attestation_intermediates().iter().map(|der| pem(der)).collect();
        write(&folder.join("chain.pem"), &chain);
        Some(Self { card, pcscd, folder })
    }

    /// The keeper's folder: `chain.pem` and `root.pem` make its card's attestations believed.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the keeper's charter, with these entries beside the keys of `chancery dev`, which stay the others' below
    /// `prefix`; and its configuration, with these lines behind it.
    pub fn configure(&self, service: &Instance, prefix: &str, entries: &str, token: &str) {
        let charter = dev_charter(service);
        let mut own = format!(
            "schema = 1\nkeeper = \"yubikey\"\norigin = \"{}\"\nlog_vkey = \"{}\"\n{entries}",
            charter.origin, charter.log_vkey
        );
        for key in &charter.key {
            own += &format!("\n[[other_key]]\n{}", known(&key.spki, key.purpose, prefix));
        }
        write(&self.folder.join("charter.toml"), &own);
        let head = "role = \"sign\"\nname = \"yubikey\"\ncharter = \"charter.toml\"\nstate = \"state\"\n\
                    socket = \"keeper.sock\"\n";
        write(&self.folder.join("keeper.toml"), &format!("{head}{token}"));
    }

    /// A program at this host.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env(SOCKET_VARIABLE, self.pcscd.socket()).current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// Starts the keeper, names it and its keys to the service, and starts that again.
    pub fn serve(self, service: &mut Instance, keys: &[(Spki, Purpose)], prefix: &str) -> YubiKeyKeeper {
        let dev = service.dir().join("signing/charter.toml");
        let mut theirs = fs::read_to_string(&dev).unwrap();
        for (spki, purpose) in keys {
            theirs += &format!("\n[[other_key]]\n{}", known(spki, *purpose, prefix));
        }
        write(&dev, &theirs);
        let daemon = service.dir().join("chanceryd.toml");
        let (config, socket) = (fs::read_to_string(&daemon).unwrap(), self.folder.join("keeper.sock"));
        write(
            &daemon,
            &format!("{config}\n[[keeper]]\nname = \"yubikey\"\nsocket = \"{}\"\n", socket.display()),
        );
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
        let with_keys = |card: Builder| {
            build(places.iter().fold(card, |card, place| {
                let touch = if place.touch { TouchPolicy::Always } else { TouchPolicy::Never };
                card.key(Slot::new(place.slot).unwrap(), PinPolicy::Always, touch)
            }))
        };
        let host = CardHost::new(service, with_keys)?;
        let prefix = service.repository(prefix);
        let key = |place: &Place| {
            let slot = Slot::new(place.slot).unwrap();
            (Spki::from_der(host.card.public_key(slot).unwrap()).unwrap(), place.purpose)
        };
        let keys: Vec<(Spki, Purpose)> = places.iter().map(key).collect();
        let entry = |((spki, purpose), place): (&(Spki, Purpose), &Place)| {
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
             attestation_roots = [\"root.pem\"] }}\n"
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

fn dev_charter(service: &Instance) -> DevCharter {
    toml::from_str(&fs::read_to_string(service.dir().join("signing/charter.toml")).unwrap()).unwrap()
}

fn known(spki: &Spki, purpose: Purpose, prefix: &str) -> String {
    format!(
        "spki = \"{}\"\npurpose = \"{purpose}\"\nrepositories = [\"{prefix}\"]\n",
        BASE64.encode(spki.der())
    )
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(der))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
