//! One SoftHSM token in a folder of its own: configuration, token store, PIN files.
//!
//! Promises: [`SoftHsm::create`] returns only when the token is initialised and has a user PIN; it never touches a
//! token that exists. SoftHSM reads its configuration from the environment, once a process, so a token is given to a
//! *child* process with [`SoftHsm::env`]. It does not know: keys.
//!
//! Several processes may use one token at once, but must not come to it at once: `C_Login` of SoftHSM 2.6.1 empties
//! the token's file and writes it anew, and a process that loads or logs in meanwhile finds no token, or gets
//! `CKR_GENERAL_ERROR`. Let one log in before the next is started.

use crate::{
    Error, Faults,
    files::{check_label, make_folder, random_pin, write_private},
    forwarder,
    tools::run,
};
use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Command,
};

const CONF: &str = "softhsm2.conf";
const TOKENS: &str = "tokens";

/// A fresh SoftHSM token. Dropping it removes nothing: the folder is the caller's.
#[derive(Debug)]
pub struct SoftHsm {
    label: String,
    module: PathBuf,
    conf: PathBuf,
    pin_file: PathBuf,
    so_pin_file: PathBuf,
}

/// A token behind the forwarder that journals every signature.
#[derive(Debug)]
pub struct Journaled {
    module: PathBuf,
    env: Vec<(String, String)>,
}

impl SoftHsm {
    /// Makes a token with this label in `dir` (made if absent, with mode 0700): `softhsm2.conf`, the token store, and
    /// two files (0600, no line end) with random PINs. Refuses a folder that holds a token.
    pub fn create(dir: &Path, label: &str) -> Result<Self, Error> {
        check_label(label)?;
        let module = find_module()?;
        let dir = make_folder(dir)?;
        let conf = dir.join(CONF);
        write_conf(&conf, &dir.join(TOKENS))?;
        let pin = random_pin()?;
        let so_pin = random_pin()?;
        let token = Self {
            label: label.to_owned(),
            module,
            conf,
            pin_file: dir.join("pin"),
            so_pin_file: dir.join("so-pin"),
        };
        write_private(&token.pin_file, &pin)?;
        write_private(&token.so_pin_file, &so_pin)?;
        token.initialise(&pin, &so_pin)?;
        Ok(token)
    }

    /// SoftHSM's PKCS#11 library as it is installed here: for a caller that makes its token by other means.
    pub fn installed() -> Result<PathBuf, Error> {
        find_module()
    }

    /// The folder with the token itself: without it there is no token.
    pub(crate) fn store(&self) -> PathBuf {
        self.conf.with_file_name(TOKENS)
    }

    /// The SoftHSM configuration file, absolute.
    pub fn conf(&self) -> &Path {
        &self.conf
    }

    /// SoftHSM's PKCS#11 library.
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// The token's label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The file with the user PIN, and nothing else in it.
    pub fn pin_file(&self) -> &Path {
        &self.pin_file
    }

    /// The file with the security officer's PIN, and nothing else in it.
    pub fn so_pin_file(&self) -> &Path {
        &self.so_pin_file
    }

    /// The environment that lets a child process find this token through [`SoftHsm::module`].
    pub fn env(&self) -> Vec<(String, String)> {
        vec![("SOFTHSM2_CONF".to_owned(), self.conf.to_string_lossy().into_owned())]
    }

    /// This token with the forwarder in front: the module to load instead, and the whole environment that a child
    /// process needs. `journal` is absolute; the forwarder makes it when it is loaded. Several processes may share one.
    pub fn journaled(&self, journal: &Path) -> Result<Journaled, Error> {
        Journaled::over(&self.module, self.env(), journal)
    }

    /// The same, and the token fails as `faults` says. One handle may serve several processes and tokens at once.
    pub fn journaled_with(&self, journal: &Path, faults: &Faults) -> Result<Journaled, Error> {
        Ok(self.journaled(journal)?.failing(faults))
    }

    /// The PINs stand in the process list for a moment: `softhsm2-util` reads them from nowhere else but a terminal.
    fn initialise(&self, pin: &str, so_pin: &str) -> Result<(), Error> {
        let mut util = Command::new("softhsm2-util");
        util.args(["--init-token", "--free", "--label", &self.label, "--pin", pin, "--so-pin", so_pin]);
        util.arg("--module").arg(&self.module).envs(self.env());
        run(&mut util).map(drop)
    }
}

impl Journaled {
    /// The forwarder in front of `library`, for whose processes `env` is.
    pub(crate) fn over(
        library: &Path,
        mut env: Vec<(String, String)>,
        journal: &Path,
    ) -> Result<Self, Error> {
        let path = journal
            .to_str()
            .filter(|_| journal.is_absolute())
            .ok_or_else(|| Error::JournalPath { path: journal.to_owned() })?;
        env.push(("HSM_SIM_MODULE".to_owned(), library.to_string_lossy().into_owned()));
        env.push(("HSM_SIM_JOURNAL".to_owned(), path.to_owned()));
        Ok(Self { module: forwarder()?, env })
    }

    /// The same, and the token fails as `faults` says.
    pub(crate) fn failing(mut self, faults: &Faults) -> Self {
        self.env.push(("HSM_SIM_CONTROL".to_owned(), faults.folder().to_string_lossy().into_owned()));
        self
    }

    /// The forwarder: the library to load in place of the token's own.
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// Everything a child process needs in its environment, the token's own part included.
    pub fn env(&self) -> Vec<(String, String)> {
        self.env.clone()
    }
}

/// `SOFTHSM2_MODULE` decides alone if it is set; else the places where distributions install the library.
fn find_module() -> Result<PathBuf, Error> {
    let places = match std::env::var_os("SOFTHSM2_MODULE") {
        Some(path) => vec![PathBuf::from(path)],
        None => installed_places(),
    };
    if let Some(found) = places.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let tried = places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(Error::Module { tried })
}

fn installed_places() -> Vec<PathBuf> {
    let multiarch = format!("/usr/lib/{}-linux-gnu/softhsm/libsofthsm2.so", std::env::consts::ARCH);
    ["/usr/lib/softhsm/libsofthsm2.so", &multiarch, "/usr/lib64/pkcs11/libsofthsm2.so"]
        .iter()
        .map(PathBuf::from)
        .collect()
}

fn write_conf(conf: &Path, tokens: &Path) -> Result<(), Error> {
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
        tokens.display()
    );
    write_private(conf, &text)?;
    DirBuilder::new().mode(0o700).create(tokens).map_err(Error::file("make the token store", tokens))
}

#[cfg(test)]
mod tests {
    use super::SoftHsm;
    use crate::Error;
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    fn token(dir: &Path) -> Option<SoftHsm> {
        if let Some(why) = crate::missing(&["softhsm2-util"]) {
            crate::skip(why);
            return None;
        }
        Some(SoftHsm::create(dir, "test").unwrap())
    }

    #[test]
    fn pin_files_are_the_owners_alone_and_hold_two_different_pins() {
        let dir = tempfile::tempdir().unwrap();
        let Some(token) = token(dir.path()) else { return };
        for file in [token.pin_file(), token.so_pin_file(), token.conf()] {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        }
        let (pin, so_pin) = (fs::read(token.pin_file()).unwrap(), fs::read(token.so_pin_file()).unwrap());
        assert_eq!((pin.len(), so_pin.len()), (16, 16));
        assert_ne!(pin, so_pin);
    }

    #[test]
    fn a_folder_that_holds_a_token_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let Some(first) = token(dir.path()) else { return };
        let pin = fs::read(first.pin_file()).unwrap();
        assert!(matches!(SoftHsm::create(dir.path(), "again"), Err(Error::Occupied { .. })));
        assert_eq!(fs::read(first.pin_file()).unwrap(), pin);
    }

    #[test]
    fn a_journal_needs_an_absolute_path() {
        let dir = tempfile::tempdir().unwrap();
        let Some(token) = token(dir.path()) else { return };
        assert!(matches!(token.journaled(Path::new("journal")), Err(Error::JournalPath { .. })));
    }
}
