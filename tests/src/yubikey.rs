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
};

/// The keeper's name.
const NAME: &str = "yubikey";
/// The card's serial number.
const SERIAL: u32 = 5_740_001;

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

/// A running keeper, its card and the card's reader.
pub struct YubiKeyKeeper {
    /// The card.
    pub card: VirtualYubiKey,
    _pcscd: Pcscd,
    folder: PathBuf,
    process: Child,
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
        if let Some(why) = Pcscd::missing() {
            hsm_sim::skip(why);
            return None;
        }
        service.stop();
        let folder = service.dir().join("yubikey");
        fs::create_dir(&folder).unwrap();
        let pcscd = Pcscd::start(&folder, 1).unwrap();
        let mut card = VirtualYubiKey::builder()
            .serial(SERIAL)
            .reader(pcscd.vpcd(0).unwrap())
            .journal(&folder.join("journal"));
        for place in places {
            let touch = if place.touch { TouchPolicy::Always } else { TouchPolicy::Never };
            card = card.key(Slot::new(place.slot).unwrap(), PinPolicy::Always, touch);
        }
        let card = build(card).insert().unwrap();
        configure(service, &folder, &service.repository(prefix), places, &card);
        let command = |words: &str| {
            let mut command = Command::new(binary("chancery-keeper"));
            command.arg(words).arg("--config").arg(folder.join("keeper.toml"));
            command.env(SOCKET_VARIABLE, pcscd.socket()).stdin(Stdio::null());
            command
        };
        let init = command("init").output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let log = fs::File::create(folder.join("keeper.log")).unwrap();
        let process = command("serve").stderr(log).spawn().unwrap();
        let mut keeper = Self { card, _pcscd: pcscd, folder, process };
        keeper.wait_until_it_listens();
        service.resume(&Settings::default());
        service.wait_until_ready();
        Some(keeper)
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

fn configure(service: &Instance, folder: &Path, prefix: &str, places: &[Place], card: &VirtualYubiKey) {
    let mut own = without_keys(service, NAME, prefix);
    let mut keys = Vec::new();
    for place in places {
        let slot = Slot::new(place.slot).unwrap();
        let spki = Spki::from_der(card.public_key(slot).unwrap()).unwrap();
        let touch = if place.touch { "always" } else { "never" };
        own += &format!(
            "\n[[key]]\n{}slot = \"{slot}\"\ntouch = \"{touch}\"\napproval = \"none\"\n\
             signatures_per_hour = 1000\nmax_validity_days = {DAYS}\n",
            known(&spki, place.purpose, prefix)
        );
        keys.push((place.purpose, spki));
    }
    tell_dev(service, prefix, &keys);
    write(&folder.join("charter.toml"), &own);
    write(&folder.join("pin"), "123456\n");
    let config = config(NAME, &folder.join("pin"), SERIAL);
    write(&folder.join("keeper.toml"), &config);
    write_chain(folder);
    tell_daemon(service, NAME, &folder.join("keeper.sock"));
}

/// The configuration of a keeper of a card; [`write_chain`] makes the files that it names.
pub(crate) fn config(name: &str, pin_file: &Path, serial: u32) -> String {
    format!(
        "role = \"sign\"\nname = \"{name}\"\ncharter = \"charter.toml\"\nstate = \"state\"\nsocket = \"keeper.sock\"\n\n\
         [token]\npin_file = \"{}\"\npiv = {{ serial = {serial}, attestation_chain = [\"chain.pem\"], \
         attestation_roots = [\"root.pem\"] }}\n",
        pin_file.display()
    )
}

/// The certificates above a card's f9 key.
pub(crate) fn write_chain(folder: &Path) {
    let profile = Profile::V5_7_4;
    write(&folder.join("root.pem"), &pem(profile.attestation_root()));
    let chain: String = profile.attestation_intermediates().iter().map(|der| pem(der)).collect();
    write(&folder.join("chain.pem"), &chain);
}
