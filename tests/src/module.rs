//! A signing keeper beside that of `chancery dev`, over a token of any module of the matrix, made as its operator makes
//! it: keys, charter and configuration by `chancery-keeper admin`, wherever there is a PKCS#11 module.

use crate::{
    Instance, Settings, binary,
    charter::{DAYS, tell_daemon, tell_dev, without_keys, write},
    instance::Output,
    supervisor::Supervisor,
    wait_for,
    yubikey::{head, write_chain},
};
use hsm_sim::{Module, Provisioned};
use record::{Purpose, Sha256, Spki};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The keeper's name, and its token's where one may choose.
const NAME: &str = "matrix";
/// Long enough for a signature on a busy machine, and for one after the other: OpenSC hangs when its card is pulled.
const DEADLINE_MS: u64 = 5_000;
/// The repositories of its keys, below the instance's.
const PREFIX: &str = "demo/hsm/";
/// The roles of a token's keys, in the order of their places. Where there is room for two only, the root is the second: on
/// a card that is slot 9c, which wants its PIN for each signature.
const ROLES: [Purpose; 4] = [Purpose::Targets, Purpose::Root, Purpose::Snapshot, Purpose::Timestamp];

/// Where a card without a module has them.
const SLOTS: [&str; 4] = ["9a", "9c", "9d", "82"];

/// A running keeper and its token.
pub struct ModuleKeeper {
    supervisor: Supervisor,
    /// The token.
    pub token: Provisioned,
    /// Its keys, with their roles.
    pub keys: Vec<(Purpose, Spki)>,
    /// Signatures that were made before the keeper first served: operators' commands try the keys.
    tried: usize,
    folder: PathBuf,
}

/// What is read of the answer of `admin key generate` and `admin key import-public`.
#[derive(Deserialize)]
struct Made {
    spki: Spki,
}

impl ModuleKeeper {
    /// Makes the token, and starts the keeper; the service is started anew with it. An error is what an operator's command
    /// said that refused the token's keys; the service is as it was then.
    pub fn join(service: &mut Instance, module: Module) -> Result<Self, String> {
        let folder = service.dir().parent().unwrap().join(NAME);
        fs::create_dir(&folder).unwrap();
        let token = provision(module, &folder);
        let env = token.env();
        let mut keeper =
            Self { supervisor: Supervisor::new(&folder, env), token, keys: Vec::new(), tried: 0, folder };
        let prefix = service.repository(PREFIX);
        write(&keeper.path("charter.toml"), &without_keys(service, NAME, &prefix));
        if module == Module::Piv {
            write_chain(&keeper.folder);
        }
        keeper.enter_keys(&prefix)?;
        keeper.configure();
        keeper.tried = keeper.token.signed().unwrap().len();
        assert_eq!(service.stop(), 0, "an instance that runs well");
        tell_dev(service, &prefix, &keeper.keys);
        tell_daemon(service, NAME, &keeper.path("keeper.sock"));
        keeper.supervisor.init();
        keeper.supervisor.start();
        wait_for("the keeper's socket", || {
            assert!(keeper.supervisor.runs() || keeper.exits().is_empty(), "{}", keeper.said());
            keeper.path("keeper.sock").exists().then_some(())
        });
        service.resume(&Settings::default());
        service.wait_until_ready();
        Ok(keeper)
    }

    /// A repository of its keys.
    pub fn repository(name: &str) -> String {
        format!("{PREFIX}{name}")
    }

    /// How keys come into a token of this module.
    pub fn origin(module: Module) -> &'static str {
        match module {
            Module::Ykcs11 | Module::OpenSc | Module::NssSoftokn => "`admin key import-public`",
            Module::Piv => "`admin piv setup`",
            _ => "`admin key generate`",
        }
    }

    /// SHA-256 of every payload that its keys signed for the service, in order: the token's own word.
    pub fn signed(&self) -> Vec<Sha256> {
        let made = self.token.signed().unwrap().into_iter().skip(self.tried);
        made.map(|digest| Sha256::from_bytes(digest.try_into().expect("ECDSA signs a SHA-256 here")))
            .collect()
    }

    /// The exit codes of its processes so far.
    pub fn exits(&self) -> Vec<i32> {
        self.supervisor.exits()
    }

    /// What its processes have said.
    pub fn said(&self) -> String {
        self.supervisor.said()
    }

    /// What `chancery-keeper doctor` says, which tries the PIN.
    pub fn doctor(&self) -> Output {
        Output::of(self.supervisor.command("doctor").arg("--login"))
    }

    /// What `chancery doctor` says on this keeper's host: of the service, and of this keeper.
    pub fn doctor_of_all(&self, service: &Instance) -> Output {
        let mut doctor = Command::new(binary("chancery"));
        doctor.args(["doctor", "--keeper"]).arg(self.path("keeper.toml"));
        doctor.envs(service.env()).env("XDG_STATE_HOME", service.dir()).envs(self.token.env());
        Output::of(&mut doctor)
    }

    /// Programs that use the card beside the keeper, each of which leaves it without a PIN: one resets it, one selects
    /// another application.
    pub fn others_use_the_card(&self) -> Option<[Command; 2]> {
        self.token.card_serial()?;
        let mut resets = Command::new("yubico-piv-tool");
        resets.args(["-rYubico", "-astatus"]).envs(self.token.env());
        let mut selects = Command::new("opensc-tool");
        selects.args(["-r0", "-s", "00:A4:04:00:08:A0:00:00:05:27:47:11:17"]).envs(self.token.env());
        Some([resets, selects])
    }

    fn enter_keys(&mut self, prefix: &str) -> Result<(), String> {
        let module = self.token.module();
        let there: Vec<_> = self.token.keys().to_vec();
        let roles = match there.len() {
            // A card with two keys: the second is the root, and the other roles are the other keeper's.
            2 => ROLES.into_iter().zip(&there).skip(1).map(|(role, key)| (role, key.place.clone())).collect(),
            0 if module == Module::Piv => {
                ROLES.into_iter().zip(SLOTS).map(|(role, slot)| (role, slot.to_owned())).collect()
            }
            0 => (1..).map(|id| format!("{id:02x}")).zip(ROLES).map(|(id, role)| (role, id)).collect(),
            _ => {
                ROLES.into_iter().zip(&there).map(|(role, key)| (role, key.place.clone())).collect::<Vec<_>>()
            }
        };
        for (role, place) in roles {
            let spki = match module {
                Module::Piv => self.set_up(role, &place, prefix)?,
                Module::Ykcs11 | Module::OpenSc | Module::NssSoftokn => {
                    self.key_command("import-public", role, &place, prefix)?
                }
                _ => self.key_command("generate", role, &place, prefix)?,
            };
            self.keys.push((role, spki));
        }
        Ok(())
    }

    fn key_command(&self, word: &str, role: Purpose, id: &str, prefix: &str) -> Result<Spki, String> {
        let mut command = self.admin(&["key", word, "--id", id]);
        if word == "generate" {
            command.args(["--label", role.as_str()]);
        }
        made(grant(command.current_dir(&self.folder), role, prefix))
    }

    /// The first of these commands makes the card a keeper's, each further one adds a key.
    fn set_up(&self, role: Purpose, slot: &str, prefix: &str) -> Result<Spki, String> {
        let mut setup = self.card_command(&["piv", "setup", "--touch-policy", "never"], "--serial");
        setup.args(["--slot", slot, "--new-pin-file", "pin", "--new-puk-file", "puk"]);
        setup.args(["--new-management-key-file", "management-key", "--output", "json"]);
        made(grant(&mut setup, role, prefix))
    }

    /// A command about the card, in the keeper's folder, whose chain is its proof.
    fn card_command(&self, words: &[&str], serial: &str) -> Command {
        let mut command = Command::new(binary("chancery-keeper"));
        command.arg("admin").args(words).current_dir(&self.folder).envs(self.token.env());
        command.arg(serial).arg(self.token.card_serial().expect("a card").to_string());
        command.args(["--attestation-chain", "chain.pem", "--attestation-root", "root.pem"]);
        command
    }

    /// With the module's own library, as operators have it: not behind the journal, where that can be left away.
    fn admin(&self, words: &[&str]) -> Command {
        let library = if self.token.module() == Module::NssSoftokn {
            self.token.library()
        } else {
            self.token.real_library()
        };
        self.admin_with(&library.unwrap().unwrap(), words)
    }

    fn admin_with(&self, library: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(binary("chancery-keeper"));
        command.arg("admin").args(words).arg("--module").arg(library).args(["--output", "json"]);
        command.args(["--token-label", self.token.label(), "--pin-file"]).arg(self.token.pin_file());
        command.envs(self.token.env());
        command
    }

    fn configure(&self) {
        let own = format!("{}\n[token]\n", head(NAME));
        let enrol = ["token", "enrol", "--write", "--config", "keeper.toml"];
        let (own, mut enrol) = if self.token.module() == Module::Piv {
            let mut enrol = self.card_command(&enrol, "--piv-serial");
            enrol.args(["--pin-file", "pin"]);
            (own, enrol)
        } else {
            let library = self.token.library().unwrap().unwrap();
            (format!("{own}call_deadline_ms = {DEADLINE_MS}\n"), self.admin_with(&library, &enrol))
        };
        write(&self.path("keeper.toml"), &own);
        let enrolled = Output::of(enrol.current_dir(&self.folder));
        assert_eq!(enrolled.code, 0, "{enrolled:?}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The key shall stand in the keeper's charter.
fn grant<'a>(command: &'a mut Command, role: Purpose, prefix: &str) -> &'a mut Command {
    command.args(["--charter", "charter.toml", "--purpose", role.as_str()]);
    command.args(["--repository", prefix, "--max-validity-days", &DAYS.to_string()])
}

/// The key that an operator's command has made or entered.
fn made(command: &mut Command) -> Result<Spki, String> {
    let made = Output::of(command);
    if made.code != 0 {
        return Err(made.stderr);
    }
    let made: Made = serde_json::from_str(&made.stdout).unwrap_or_else(|e| panic!("{e}: {}", made.stdout));
    Ok(made.spki)
}

/// Keys are made by other tools where `admin key generate` does not make them: the cards' modules want the management key
/// for it, and NSS softokn does not know all that is asked of a key.
fn provision(module: Module, folder: &Path) -> Provisioned {
    let keys = match module {
        Module::NssSoftokn => ROLES.len(),
        Module::Ykcs11 | Module::OpenSc => module.max_keys(),
        _ => 0,
    };
    module.provision(&folder.join("token"), NAME, keys).unwrap()
}
