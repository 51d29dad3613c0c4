//! A keeper's configuration file: TOML, nothing unknown in it, every error with its file and key.
//!
//! ```toml
//! role = "log"                       # or "sign"
//! origin = "log.example.com"         # role log
//! # name = "signing"                 # role sign
//! # charter = "charter.toml"         # role sign
//! state = "/var/lib/chancery-keeper-log"
//! socket = "/run/chancery/log.sock"
//! allow_uid = [990]                  # who may connect; default: the keeper's own uid
//! socket_gid = 990                   # opens the socket's mode to this group; default: owner only
//!
//! [token]
//! module = "/usr/lib/softhsm/libsofthsm2.so"
//! label = "chancery-log"
//! serial = "a1b2c3d4"                # optional: pins one token among equal labels
//! pin_file = "/etc/chancery/log.pin" # or pin_credential = "NAME", or pin_fd = 3
//! sessions = 4
//! call_deadline_ms = 10000
//!
//! # or, for a YubiKey, in place of module, label, serial and sessions:
//! # piv = { serial = 12345678, attestation_chain = ["yubico-intermediate.pem", "yubico-ca-1.pem"] }
//!
//! [key]                              # role log
//! cka_id = "01"                      # or slot = "9a", on a YubiKey
//! vkey = "log.example.com+3f1c9a20+AQ..."
//!
//! [set_key]                          # role log, optional: signs entry timestamps for clients from before Rekor v2
//! cka_id = "02"                      # or slot = "9c", on a YubiKey
//! spki = "MFkw..."                   # base64 of its DER, P-256
//! ```
//!
//! Relative paths start at the file's own folder. It promises that a file which somebody else could have written is
//! not read. It does not know what a charter says.

mod piv;

use crate::exit::Fatal;
use crate::token::{CkaId, KeyRef, PublicKey};
use record::{Algorithm, KeeperName, Origin, PivSlot, Spki};
use serde::{Deserialize, de::DeserializeOwned};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(crate) use piv::command_deadline_ms;
pub use piv::{Attestation, Demands, PivConfig};
use piv::{PivTable, least_deadline, usual_deadline};

/// Largest configuration, charter or PIN file: far beyond any real one, small enough to read at once.
pub const MAX_FILE: u64 = 1024 * 1024;
/// Most sessions of one token: the smallest devices have 16, and no device gains from more signing threads.
pub const MAX_SESSIONS: usize = 64;

/// A keeper's configuration, by its role.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one exists in a process; boxing would only add noise")]
pub enum Config {
    /// The log keeper's.
    Log(LogConfig),
    /// A signing keeper's.
    Sign(SignConfig),
}

/// The log keeper's configuration.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The file it came from.
    pub file: PathBuf,
    /// The log's name.
    pub origin: Origin,
    /// Folder of the spool.
    pub state: PathBuf,
    /// Where the daemon connects.
    pub listen: Listen,
    /// The token with the log key.
    pub token: TokenConfig,
    /// The log key.
    pub key: LogKey,
    /// The key of entry timestamps, where there is one.
    pub set_key: Option<SetKey>,
}

impl LogConfig {
    /// The keys that its token must have, and what operators call them.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&'static str, &KeyRef, &PublicKey)> {
        let set_key = self.set_key.as_ref().map(|key| ("SET key", &key.id, &key.public));
        std::iter::once(("log key", &self.key.id, &self.key.public)).chain(set_key)
    }
}

/// A signing keeper's configuration.
#[derive(Debug, Clone)]
pub struct SignConfig {
    /// The file it came from.
    pub file: PathBuf,
    /// The keeper's name in the log.
    pub name: KeeperName,
    /// What it may sign.
    pub charter: PathBuf,
    /// Folder of the journal.
    pub state: PathBuf,
    /// Where daemons connect.
    pub listen: Listen,
    /// The token with its keys.
    pub token: TokenConfig,
}

/// The socket and who may use it.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Its path.
    pub socket: PathBuf,
    /// Peers by uid, as the kernel names them.
    pub allow_uid: Vec<u32>,
    /// The group that may open the socket, besides the owner.
    pub socket_gid: Option<u32>,
}

/// The log key as it is pinned.
#[derive(Debug, Clone)]
pub struct LogKey {
    /// The key in the token.
    pub id: KeyRef,
    /// Its public half, with the log's name.
    pub vkey: tlog::VerifierKey,
    /// The same as the token shows it.
    pub public: PublicKey,
}

/// The key of signed entry timestamps (SETs) as it is pinned. It signs nothing else.
#[derive(Debug, Clone)]
pub struct SetKey {
    /// The key in the token.
    pub id: KeyRef,
    /// Its public half.
    pub spki: Spki,
    /// The same, as tokens show it.
    pub public: PublicKey,
}

/// How to reach a token, by its kind.
#[derive(Debug, Clone)]
pub enum TokenConfig {
    /// Through a PKCS#11 library.
    Pkcs11(Pkcs11Config),
    /// A YubiKey's PIV application, through PC/SC.
    Piv(PivConfig),
}

impl TokenConfig {
    /// After this long in one call the process ends.
    pub(crate) fn call_deadline_ms(&self) -> u64 {
        match self {
            Self::Pkcs11(config) => config.call_deadline_ms,
            Self::Piv(config) => config.call_deadline_ms,
        }
    }
}

/// How to reach a token of a PKCS#11 library.
#[derive(Debug, Clone)]
pub struct Pkcs11Config {
    /// The PKCS#11 library.
    pub module: PathBuf,
    /// The token's label.
    pub label: String,
    /// The token's serial number, where it is pinned.
    pub serial: Option<String>,
    /// Where the PIN comes from.
    pub pin: PinSource,
    /// Signing sessions; the token's own limit may make it fewer.
    pub sessions: usize,
    /// After this long in one call of the library the process ends.
    pub call_deadline_ms: u64,
}

/// Where a PIN is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinSource {
    /// A file that only the keeper's user and root can read.
    File(PathBuf),
    /// A systemd credential: a file name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A file descriptor that the process was started with: a file, pipe or socket, read to its end once.
    Fd(u32),
}

impl Config {
    /// Reads and checks the file.
    pub fn read(file: &Path) -> Result<Self, Fatal> {
        Self::parse(file, &read_text(file)?)
    }

    /// Checks the text that `file` has, or shall have.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, Fatal> {
        match parse::<RoleOnly>(file, text)?.role {
            Role::Log => parse::<LogFile>(file, text)?.check(file).map(Self::Log),
            Role::Sign => parse::<SignFile>(file, text)?.check(file).map(Self::Sign),
        }
    }

    /// How to reach the keeper's token.
    pub(crate) fn token(&self) -> &TokenConfig {
        match self {
            Self::Log(config) => &config.token,
            Self::Sign(config) => &config.token,
        }
    }

    /// The keeper's socket.
    pub(crate) fn listen(&self) -> &Listen {
        match self {
            Self::Log(config) => &config.listen,
            Self::Sign(config) => &config.listen,
        }
    }

    /// The folder of the keeper's state.
    pub(crate) fn state(&self) -> &Path {
        match self {
            Self::Log(config) => &config.state,
            Self::Sign(config) => &config.state,
        }
    }
}

/// How closed a file must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// Others may read it, nobody but its owner may write it.
    Public,
    /// Nobody but its owner may read it.
    Secret,
}

/// Reads a file that root or this user owns and that nobody else could have written (or read, if `Secret`).
pub fn read_trusted(path: &Path, secrecy: Secrecy) -> Result<zeroize::Zeroizing<Vec<u8>>, Fatal> {
    let fault = |why: String| Fatal::Config { file: path.to_owned(), why };
    let file = std::fs::File::open(path).map_err(|e| fault(format!("cannot be opened: {e}")))?;
    let about = file.metadata().map_err(|e| fault(format!("cannot be examined: {e}")))?;
    let own = rustix::process::geteuid().as_raw();
    if !about.is_file() || about.len() > MAX_FILE {
        return Err(fault("is not a regular file of at most 1 MiB".into()));
    }
    if about.uid() != 0 && about.uid() != own {
        return Err(fault(format!("belongs to uid {}: it must belong to root or to uid {own}", about.uid())));
    }
    let forbidden = if secrecy == Secrecy::Secret { 0o077 } else { 0o022 };
    if about.mode() & forbidden != 0 {
        let (mode, wanted) =
            (about.mode() & 0o7777, if secrecy == Secrecy::Secret { "0600" } else { "0644" });
        return Err(fault(format!("has mode {mode:04o}: others can change or read it; set it to {wanted}")));
    }
    // With its full capacity from the start no unwiped copy is left behind by growing.
    let mut bytes =
        zeroize::Zeroizing::new(Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0) + 1));
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|e| fault(format!("cannot be read: {e}")))?;
    Ok(bytes)
}

fn read_text(file: &Path) -> Result<String, Fatal> {
    let bytes = read_trusted(file, Secrecy::Public)?;
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Fatal::Config { file: file.to_owned(), why: "is not UTF-8 text".into() })
}

fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, Fatal> {
    toml::from_str(text)
        .map_err(|e| Fatal::Config { file: file.to_owned(), why: e.to_string().trim_end().to_owned() })
}

/// A path of the file, starting at the file's own folder.
fn beside(file: &Path, path: PathBuf) -> PathBuf {
    file.parent().map(|folder| folder.join(&path)).unwrap_or(path)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Role {
    Log,
    Sign,
}

#[derive(Deserialize)]
struct RoleOnly {
    role: Role,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogFile {
    #[serde(rename = "role")]
    _role: Role,
    origin: Origin,
    state: PathBuf,
    socket: PathBuf,
    allow_uid: Option<Vec<u32>>,
    socket_gid: Option<u32>,
    token: TokenTable,
    key: KeyTable,
    set_key: Option<SetKeyTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignFile {
    #[serde(rename = "role")]
    _role: Role,
    name: KeeperName,
    charter: PathBuf,
    state: PathBuf,
    socket: PathBuf,
    allow_uid: Option<Vec<u32>>,
    socket_gid: Option<u32>,
    token: TokenTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyTable {
    cka_id: Option<CkaId>,
    slot: Option<PivSlot>,
    vkey: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetKeyTable {
    cka_id: Option<CkaId>,
    slot: Option<PivSlot>,
    spki: Spki,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenTable {
    module: Option<PathBuf>,
    label: Option<String>,
    serial: Option<String>,
    piv: Option<PivTable>,
    pin_file: Option<PathBuf>,
    pin_credential: Option<String>,
    pin_fd: Option<u32>,
    sessions: Option<usize>,
    call_deadline_ms: Option<u64>,
}

const DEFAULT_SESSIONS: usize = 4;
const DEFAULT_DEADLINE_MS: u64 = 10_000;

impl LogFile {
    fn check(self, file: &Path) -> Result<LogConfig, Fatal> {
        let vkey: tlog::VerifierKey =
            self.key.vkey.parse().map_err(|e| wrong(file, "key.vkey", format!("is no verifier key: {e}")))?;
        if vkey.name() != self.origin.as_str() {
            return Err(wrong(
                file,
                "key.vkey",
                format!("names {:?}, the origin is {}", vkey.name(), self.origin),
            ));
        }
        let public = PublicKey::of_log(&vkey)
            .ok_or_else(|| wrong(file, "key.vkey", "is of a kind that no token signs with here".into()))?;
        let id = KeyRef::from_members(self.key.cka_id, self.key.slot)
            .map_err(|e| wrong(file, "key", e.to_string()))?;
        let set_key = self.set_key.map(|table| table.check(file, &id, &public)).transpose()?;
        Ok(LogConfig {
            file: file.to_owned(),
            origin: self.origin,
            state: beside(file, self.state),
            listen: listen(file, self.socket, self.allow_uid, self.socket_gid)?,
            token: self.token.check(file)?,
            key: LogKey { id, vkey, public },
            set_key,
        })
    }
}

impl SetKeyTable {
    fn check(self, file: &Path, log_key: &KeyRef, log_public: &PublicKey) -> Result<SetKey, Fatal> {
        let id = KeyRef::from_members(self.cka_id, self.slot)
            .map_err(|e| wrong(file, "set_key", e.to_string()))?;
        let public = PublicKey::P256(self.spki.clone());
        if self.spki.algorithm() != Algorithm::EcdsaP256 {
            let why = format!("is a {} key: older clients take P-256 only", self.spki.algorithm());
            return Err(wrong(file, "set_key.spki", why));
        }
        if id == *log_key || public == *log_public {
            let why =
                "is the log key: a SET key is a key of its own, since whoever believes it asks for no proof";
            return Err(wrong(file, "set_key", why.into()));
        }
        Ok(SetKey { id, spki: self.spki, public })
    }
}

impl SignFile {
    fn check(self, file: &Path) -> Result<SignConfig, Fatal> {
        Ok(SignConfig {
            file: file.to_owned(),
            name: self.name,
            charter: beside(file, self.charter),
            state: beside(file, self.state),
            listen: listen(file, self.socket, self.allow_uid, self.socket_gid)?,
            token: self.token.check(file)?,
        })
    }
}

impl TokenTable {
    fn check(mut self, file: &Path) -> Result<TokenConfig, Fatal> {
        let pin = self.pin(file)?;
        match self.piv.take() {
            Some(piv) => self.check_piv(file, piv, pin).map(TokenConfig::Piv),
            None => self.check_pkcs11(file, pin).map(TokenConfig::Pkcs11),
        }
    }

    fn pin(&mut self, file: &Path) -> Result<PinSource, Fatal> {
        match (self.pin_file.take(), self.pin_credential.take(), self.pin_fd) {
            (Some(path), None, None) => Ok(PinSource::File(beside(file, path))),
            (None, Some(name), None) if is_file_name(&name) => Ok(PinSource::Credential(name)),
            (None, Some(_), None) => {
                Err(wrong(file, "token.pin_credential", "must be a bare file name".into()))
            }
            (None, None, Some(fd)) => Ok(PinSource::Fd(fd)),
            _ => {
                let why = "give exactly one of pin_file, pin_credential and pin_fd".into();
                Err(wrong(file, "token", why))
            }
        }
    }

    fn check_pkcs11(self, file: &Path, pin: PinSource) -> Result<Pkcs11Config, Fatal> {
        let missing =
            |member: &str| wrong(file, member, "is missing: a token has module and label, or piv".into());
        let label = self.label.ok_or_else(|| missing("token.label"))?;
        let sessions = self.sessions.unwrap_or(DEFAULT_SESSIONS);
        if label.is_empty() || label.len() > 32 {
            return Err(wrong(file, "token.label", "must have 1 to 32 bytes, as PKCS#11 labels have".into()));
        }
        if !(1..=MAX_SESSIONS).contains(&sessions) {
            return Err(wrong(file, "token.sessions", format!("must be 1 to {MAX_SESSIONS}")));
        }
        Ok(Pkcs11Config {
            module: beside(file, self.module.ok_or_else(|| missing("token.module"))?),
            label,
            serial: self.serial,
            pin,
            sessions,
            call_deadline_ms: deadline(file, self.call_deadline_ms.unwrap_or(DEFAULT_DEADLINE_MS))?,
        })
    }

    fn check_piv(self, file: &Path, piv: PivTable, pin: PinSource) -> Result<PivConfig, Fatal> {
        let alien = [
            ("module", self.module.is_some()),
            ("label", self.label.is_some()),
            ("serial", self.serial.is_some()),
            ("sessions", self.sessions.is_some()),
        ];
        if let Some((member, _)) = alien.into_iter().find(|(_, given)| *given) {
            return Err(wrong(file, &format!("token.{member}"), "has no meaning beside piv".into()));
        }
        let least = least_deadline(piv.touch_wait_ms);
        let usual = usual_deadline(piv.touch_wait_ms);
        let call_deadline_ms = deadline(file, self.call_deadline_ms.unwrap_or(usual))?;
        if call_deadline_ms < least {
            let why = format!(
                "must be at least {least}, since one call waits {} ms for a touch",
                piv.touch_wait_ms
            );
            return Err(wrong(file, "token.call_deadline_ms", why));
        }
        piv.check(file, pin, call_deadline_ms)
    }
}

fn deadline(file: &Path, ms: u64) -> Result<u64, Fatal> {
    if (100..=600_000).contains(&ms) {
        Ok(ms)
    } else {
        Err(wrong(file, "token.call_deadline_ms", "must be 100 to 600000".into()))
    }
}

fn listen(file: &Path, socket: PathBuf, allow: Option<Vec<u32>>, gid: Option<u32>) -> Result<Listen, Fatal> {
    let allow_uid = allow.unwrap_or_else(|| vec![rustix::process::geteuid().as_raw()]);
    if allow_uid.is_empty() {
        return Err(wrong(file, "allow_uid", "is empty: nobody could connect".into()));
    }
    Ok(Listen { socket: beside(file, socket), allow_uid, socket_gid: gid })
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}

fn wrong(file: &Path, key: &str, why: String) -> Fatal {
    Fatal::Config { file: file.to_owned(), why: format!("{key}: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const SIGN: &str = "role = 'sign'\nname = 'signing'\ncharter = 'charter.toml'\nstate = 'state'\n\
        socket = 's.sock'\n[token]\nmodule = '/m.so'\nlabel = 't'\npin_file = 'pin'\n";

    /// A log keeper's file with these lines at its end.
    fn log(more: &str) -> String {
        let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
        let vkey = tlog::VerifierKey::new_ed25519("log.example.com", key).unwrap();
        format!(
            "role = 'log'\norigin = 'log.example.com'\nstate = 'state'\nsocket = 's.sock'\n[token]\nmodule = '/m.so'\n\
             label = 't'\npin_file = 'pin'\n[key]\ncka_id = '01'\nvkey = '{vkey}'\n{more}"
        )
    }

    #[test]
    fn a_set_key_is_another_key_than_the_logs() {
        use p256::pkcs8::EncodePublicKey;
        let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
        let spki = Spki::from_der(key.verifying_key().to_public_key_der().unwrap().as_bytes()).unwrap();
        let table =
            |place: &str| format!("[set_key]\n{place}\nspki = {}\n", serde_json::to_string(&spki).unwrap());
        let Ok(Config::Log(config)) = read(&log("")) else { panic!("not read") };
        assert!(config.set_key.is_none());
        let Ok(Config::Log(config)) = read(&log(&table("cka_id = '02'"))) else { panic!("not read") };
        assert_eq!(config.set_key.unwrap().spki, spki);
        for (more, word) in [
            (table("cka_id = '01'"), "a key of its own"),
            (table("slot = '9a'\ncka_id = '02'"), "set_key"),
            (table("cka_id = '02'\nvkey = 'x'"), "vkey"),
            ("[set_key]\ncka_id = '02'\nspki = 'AAAA'\n".into(), "spki"),
        ] {
            let error = read(&log(&more)).unwrap_err();
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    fn read(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keeper.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        Config::read(&file).map_err(|e| {
            assert_eq!(e.code(), 78);
            assert!(e.to_string().contains("keeper.toml"), "{e}");
            e.to_string()
        })
    }

    #[test]
    fn a_signing_keepers_file_gives_paths_beside_it_and_defaults() {
        let Ok(Config::Sign(config)) = read(SIGN) else { panic!("not read") };
        assert!(config.charter.is_absolute() && config.charter.ends_with("charter.toml"));
        let TokenConfig::Pkcs11(token) = config.token else { panic!("another kind of token") };
        assert_eq!((token.sessions, token.call_deadline_ms), (4, 10_000));
        assert_eq!(config.listen.allow_uid, [rustix::process::geteuid().as_raw()]);
    }

    #[test]
    fn a_yubikey_is_named_by_its_serial_and_has_time_for_a_touch() {
        let text = SIGN.replace("module = '/m.so'\nlabel = 't'", "piv = { serial = 12345678 }");
        let Ok(Config::Sign(config)) = read(&text) else { panic!("not read") };
        let TokenConfig::Piv(token) = config.token else { panic!("another kind of token") };
        assert_eq!((token.serial, token.demands.attestation), (12_345_678, Attestation::Required));
        assert_eq!((token.demands.firmware_floor.to_string(), token.touch_wait_ms), ("5.7.0".into(), 15_000));
        assert_eq!(token.call_deadline_ms, 40_000);
    }

    #[test]
    fn every_error_names_its_key() {
        for (from, to, key) in [
            ("name = 'signing'", "name = 'Signing'", "name"),
            ("state = 'state'\n", "", "state"),
            ("label = 't'", "label = 't'\nlabell = 't'", "labell"),
            ("label = 't'", "label = ''", "token.label"),
            ("label = 't'", "label = 't'\nsessions = 0", "token.sessions"),
            ("label = 't'", "label = 't'\ncall_deadline_ms = 1", "token.call_deadline_ms"),
            ("label = 't'", "label = 't'\npin_fd = 3", "pin_fd"),
            ("pin_file = 'pin'", "pin_credential = '../pin'", "token.pin_credential"),
            ("pin_file = 'pin'", "", "pin_file"),
            ("label = 't'\n", "", "token.label"),
            ("label = 't'", "label = 't'\npiv = { serial = 1 }", "token.module"),
            ("module = '/m.so'\nlabel = 't'", "piv = { serial = 1, reader = 'x' }", "reader"),
            ("module = '/m.so'\nlabel = 't'", "piv = { serial = 0 }", "token.piv.serial"),
            (
                "module = '/m.so'\nlabel = 't'",
                "piv = { serial = 1, touch_wait_ms = 1 }",
                "token.piv.touch_wait_ms",
            ),
            (
                "module = '/m.so'\nlabel = 't'",
                "piv = { serial = 1, firmware_floor = '5.2.9' }",
                "firmware_floor",
            ),
            (
                "module = '/m.so'\nlabel = 't'",
                "piv = { serial = 1 }\ncall_deadline_ms = 15000",
                "call_deadline_ms",
            ),
            ("role = 'sign'", "role = 'both'", "role"),
            ("state = 'state'", "state = 'state'\nallow_uid = []", "allow_uid"),
            ("state = 'state'", "state = 'state'\norigin = 'log.example.com'", "origin"),
        ] {
            let error = read(&SIGN.replace(from, to)).unwrap_err();
            assert!(error.contains(key), "{key}: {error}");
        }
    }

    #[test]
    fn a_file_that_others_could_have_written_or_a_secret_they_could_have_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "x").unwrap();
        for (mode, public, secret) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o644, true, false),
            (0o620, false, false),
            (0o606, false, false),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_trusted(&path, Secrecy::Public).is_ok(), public, "{mode:o}");
            assert_eq!(read_trusted(&path, Secrecy::Secret).is_ok(), secret, "{mode:o}");
        }
    }
}
