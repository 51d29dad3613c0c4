//! A token as tests hold it, whatever its module.

use super::{Module, card, tpm2::Swtpm};
use crate::{
    Entry, Error, Faults, Insertion, Journal, Journaled, Rule,
    files::{check_label, make_folder, random_pin, write_private},
    tools::run,
};
use card::Card;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// How `pkcs11-tool` gets the user's PIN: an argument would stand in the list of processes.
const PIN_VARIABLE: &str = "HSM_SIM_PIN";
/// How it gets the security officer's.
const SO_PIN_VARIABLE: &str = "HSM_SIM_SO_PIN";

/// A fresh token, and what runs for it. Dropping it ends that, and leaves the folder.
#[derive(Debug)]
pub struct Provisioned {
    raw: Raw,
    /// In front of a module whose device keeps no journal of its own.
    forwarder: Option<Box<Forwarder>>,
    keys: Vec<PublicKey>,
}

/// A key that was put into a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Where it lies: its `CKA_ID` in hex; for [`Module::Piv`] its slot.
    pub place: String,
    /// Its DER `SubjectPublicKeyInfo`.
    pub spki: Vec<u8>,
}

/// What the files of the modules make.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) module: Module,
    pub(super) dir: PathBuf,
    pub(super) label: String,
    pub(super) env: Vec<(String, String)>,
    pub(super) pin_file: PathBuf,
    pub(super) so_pin_file: Option<PathBuf>,
    pub(super) device: Device,
}

/// The thing that can be taken away.
#[derive(Debug)]
pub(super) enum Device {
    /// Files that the module holds open.
    Files,
    /// A folder that can be renamed.
    Folder(PathBuf),
    /// A TPM that can be switched off.
    Tpm(Swtpm),
    /// A card that can be pulled.
    Card(Box<Card>),
}

#[derive(Debug)]
struct Forwarder {
    journaled: Journaled,
    faults: Faults,
    journal: PathBuf,
}

impl Provisioned {
    pub(super) fn with_keys(raw: Raw, keys: usize) -> Result<Self, Error> {
        let forwarder = Forwarder::in_front_of(&raw)?.map(Box::new);
        let mut token = Self { forwarder, keys: Vec::new(), raw };
        token.keys = match &token.raw.device {
            Device::Card(card) => card.keys().to_vec(),
            _ => (1..=keys).map(|id| token.generate(&format!("{id:02x}"))).collect::<Result<_, _>>()?,
        };
        Ok(token)
    }

    /// Its kind.
    pub fn module(&self) -> Module {
        self.raw.module
    }

    /// The PKCS#11 library to load: the forwarder where faults can be had, else the module's own; none for
    /// [`Module::Piv`].
    pub fn library(&self) -> Result<Option<PathBuf>, Error> {
        match &self.forwarder {
            Some(forwarder) => Ok(Some(forwarder.journaled.module().to_owned())),
            None => self.real_library(),
        }
    }

    /// The module's own PKCS#11 library. Signatures made through it are in the journal for cards only.
    pub fn real_library(&self) -> Result<Option<PathBuf>, Error> {
        self.raw.module.library()
    }

    /// The whole environment that a child process needs.
    pub fn env(&self) -> Vec<(String, String)> {
        self.forwarder.as_ref().map_or_else(|| self.raw.env.clone(), |forwarder| forwarder.journaled.env())
    }

    /// The token's label.
    pub fn label(&self) -> &str {
        &self.raw.label
    }

    /// The file with the user PIN, and nothing else in it.
    pub fn pin_file(&self) -> &Path {
        &self.raw.pin_file
    }

    /// The file with the security officer's PIN, and nothing else in it; none for cards.
    pub fn so_pin_file(&self) -> Option<&Path> {
        self.raw.so_pin_file.as_deref()
    }

    /// The card's serial number; none for a token that is no card.
    pub fn card_serial(&self) -> Option<u32> {
        match &self.raw.device {
            Device::Card(card) => Some(card.serial()),
            _ => None,
        }
    }

    /// The keys that it was made with, in the order of their places.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// How the token is made to fail; none for cards, which fail by themselves.
    pub fn faults(&self) -> Option<&Faults> {
        self.forwarder.as_ref().map(|forwarder| &forwarder.faults)
    }

    /// What its keys signed, in order: the digests, if they were digests. The token's own word. Read it
    /// when nobody signs.
    pub fn signed(&self) -> Result<Vec<Vec<u8>>, Error> {
        if let Device::Card(card) = &self.raw.device {
            return card.inputs();
        }
        let journal = self.forwarder.as_ref().map(|forwarder| &forwarder.journal);
        // There is none before a process has loaded the forwarder.
        let Some(journal) = journal.filter(|journal| journal.exists()) else { return Ok(Vec::new()) };
        let input = |entry| match entry {
            Entry::Signature { input, .. } => Some(input.unwrap_or_default()),
            Entry::Login { .. } => None,
        };
        Ok(Journal::read(journal)?.into_iter().filter_map(input).collect())
    }

    /// Whether it is a thing that can be taken away from under its module.
    pub fn can_be_unplugged(&self) -> bool {
        !matches!(self.raw.device, Device::Files)
    }

    /// Takes it away from under its module: pulls the card, switches the TPM off, renames SoftHSM's folder.
    pub fn unplug(&self) -> Result<(), Error> {
        match &self.raw.device {
            Device::Files => Err(Error::NotPluggable { module: self.raw.module.name() }),
            Device::Folder(folder) => {
                fs::rename(folder, away(folder)).map_err(Error::file("rename the folder", folder))
            }
            Device::Tpm(tpm) => tpm.stop(),
            Device::Card(card) => card.pull(),
        }
    }

    /// Puts it back.
    pub fn plug(&self) -> Result<(), Error> {
        match &self.raw.device {
            Device::Files => Err(Error::NotPluggable { module: self.raw.module.name() }),
            Device::Folder(folder) => {
                fs::rename(away(folder), folder).map_err(Error::file("rename the folder back", folder))
            }
            Device::Tpm(tpm) => tpm.start(),
            Device::Card(card) => card.insert(),
        }
    }

    /// What its module says while the token is out of its slot, without being unplugged. Only where there are faults.
    pub fn remove(&self) -> Result<(), Error> {
        self.faults().ok_or(Error::NotPluggable { module: self.raw.module.name() })?.remove_token()
    }

    /// The token goes while its key makes the next signature: that is made, and nobody gets it. The module's calls, or the
    /// card, end there.
    pub fn remove_in_the_act(&self) -> Result<(), Error> {
        match (&self.forwarder, &self.raw.device) {
            (Some(forwarder), _) => {
                forwarder.faults.add(Rule::remove_token("C_Sign").after().times(1)).map(drop)
            }
            (None, Device::Card(card)) => {
                card.pull_in_the_act();
                Ok(())
            }
            (None, _) => Err(Error::NotPluggable { module: self.raw.module.name() }),
        }
    }

    /// Ends [`Provisioned::remove`] and [`Provisioned::remove_in_the_act`].
    pub fn insert(&self) -> Result<(), Error> {
        match self.faults() {
            Some(faults) => faults.insert_token(Insertion::default()),
            None => self.plug(),
        }
    }

    /// `pkcs11-tool` on this token, with its PIN.
    pub fn pkcs11_tool(&self) -> Result<Command, Error> {
        let mut tool = Command::new("pkcs11-tool");
        tool.arg("--module")
            .arg(self.library()?.ok_or(Error::NotPluggable { module: self.raw.module.name() })?);
        tool.args(["--token-label", self.label(), "--login", "--pin", &format!("env:{PIN_VARIABLE}")]);
        tool.envs(self.env()).env(PIN_VARIABLE, read(self.pin_file())?);
        Ok(tool)
    }

    fn generate(&self, id: &str) -> Result<PublicKey, Error> {
        let mut tool = self.pkcs11_tool()?;
        tool.args(["--keypairgen", "--key-type", "EC:prime256v1", "--sensitive", "--id", id, "--label", id]);
        run(&mut tool)?;
        let file = self.raw.dir.join(format!("{id}.der"));
        let mut tool = self.pkcs11_tool()?;
        tool.args(["--read-object", "--type", "pubkey", "--id", id, "--output-file"]).arg(&file);
        run(&mut tool)?;
        let spki = fs::read(&file).map_err(Error::file("read the public key", &file))?;
        Ok(PublicKey { place: id.to_owned(), spki })
    }
}

impl Forwarder {
    /// None for a card: it keeps a journal, and fails by itself.
    fn in_front_of(raw: &Raw) -> Result<Option<Self>, Error> {
        let library = raw.module.library()?.filter(|_| !matches!(raw.device, Device::Card(_)));
        let Some(library) = library else { return Ok(None) };
        let faults = Faults::create(&raw.dir.join("faults"))?;
        let journal = raw.dir.join("journal.jsonl");
        let journaled = Journaled::over(&library, raw.env.clone(), &journal)?.failing(&faults);
        Ok(Some(Self { journaled, faults, journal }))
    }
}

/// A folder of one's own, and two PIN files in it.
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) pin_file: PathBuf,
    pub(super) so_pin_file: PathBuf,
    pin: String,
    so_pin: String,
}

impl Place {
    pub(super) fn make(dir: &Path, label: &str) -> Result<Self, Error> {
        check_label(label)?;
        let dir = make_folder(dir)?;
        let (pin, so_pin) = (random_pin()?, random_pin()?);
        let place = Self { pin_file: dir.join("pin"), so_pin_file: dir.join("so-pin"), dir, pin, so_pin };
        write_private(&place.pin_file, &place.pin)?;
        write_private(&place.so_pin_file, &place.so_pin)?;
        Ok(place)
    }

    /// Initialises the token in the module's first slot, and sets its PIN.
    pub(super) fn initialise(
        &self,
        library: &Path,
        env: &[(String, String)],
        label: &str,
    ) -> Result<(), Error> {
        let tool = || {
            let mut tool = Command::new("pkcs11-tool");
            tool.arg("--module").arg(library).args(["--slot-index", "0"]);
            tool.args(["--so-pin", &format!("env:{SO_PIN_VARIABLE}")]);
            tool.envs(env.iter().cloned()).env(SO_PIN_VARIABLE, &self.so_pin).env(PIN_VARIABLE, &self.pin);
            tool
        };
        run(tool().args(["--init-token", "--label", label]))?;
        let new = format!("env:{PIN_VARIABLE}");
        run(tool().args(["--login", "--login-type", "so", "--init-pin", "--new-pin", &new])).map(drop)
    }

    pub(super) fn raw(self, module: Module, label: &str, env: Vec<(String, String)>, device: Device) -> Raw {
        let Self { dir, pin_file, so_pin_file, .. } = self;
        Raw { module, dir, label: label.to_owned(), env, pin_file, so_pin_file: Some(so_pin_file), device }
    }
}

fn away(folder: &Path) -> PathBuf {
    folder.with_extension("away")
}

fn read(file: &Path) -> Result<String, Error> {
    fs::read_to_string(file).map_err(Error::file("read the file", file))
}
