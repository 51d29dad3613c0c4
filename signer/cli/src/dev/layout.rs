//! Where everything of an instance lies, and the marker that says it is whole.

use crate::{exit::Exit, failure::Failure};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Longest path of a Unix socket, its final zero included.
const MAX_SOCKET: usize = 108;

/// What a first start was given; written last, so that a folder with it is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) schema: u32,
    pub(super) host: String,
    pub(super) address: String,
    pub(super) origin: String,
    pub(super) registries: Vec<String>,
    pub(super) repositories: Vec<String>,
    pub(super) module: PathBuf,
    pub(super) keeper_env: Vec<String>,
}

impl Settings {
    /// Where the service is reached.
    pub(super) fn url(&self) -> String {
        let port = self.address.rsplit_once(':').map_or("443", |(_, port)| port);
        format!("https://{}:{port}", self.host)
    }
}

/// One of the two keepers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Log,
    Signing,
}

impl Role {
    pub(super) const ALL: [Self; 2] = [Self::Log, Self::Signing];

    /// The keeper's folder and name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Signing => "signing",
        }
    }
}

/// The folder of an instance.
#[derive(Debug, Clone)]
pub(super) struct Layout(PathBuf);

impl Layout {
    /// The folder, made if it is missing, as an absolute path.
    pub(super) fn new(dir: &Path) -> Result<Self, Failure> {
        let bad =
            |e: std::io::Error| Failure::new(Exit::State, format!("cannot use {}", dir.display())).why(e);
        if !dir.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(bad)?;
        }
        let layout = Self(dir.canonicalize().map_err(bad)?);
        if layout.socket(Role::Signing).as_os_str().len() >= MAX_SOCKET {
            return Err(Failure::new(Exit::Usage, format!("the path {} is too long", layout.0.display()))
                .why("the keepers' Unix sockets lie below it, and their paths end at 107 bytes")
                .next("use a shorter --dir"));
        }
        Ok(layout)
    }

    /// Holds the folder for this process.
    pub(super) fn lock(&self) -> Result<fs::File, Failure> {
        let path = self.0.join("dev.lock");
        let bad =
            |e: std::io::Error| Failure::new(Exit::State, format!("cannot lock {}", path.display())).why(e);
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .mode(0o600)
            .open(&path);
        let mut file = file.map_err(bad)?;
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            return Err(Failure::new(Exit::Conflict, format!("{} is in use", self.0.display()))
                .why(format!("chancery dev with process id {} runs on it", holder.trim()))
                .next("stop that one, or use another --dir"));
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(bad)?;
        Ok(file)
    }

    /// The marker of a whole instance; `None` for an empty folder. A half-made one is refused.
    pub(super) fn settings(&self) -> Result<Option<Settings>, Failure> {
        let marker = self.0.join("dev.toml");
        match fs::read_to_string(&marker) {
            Ok(text) => toml::from_str(&text).map(Some).map_err(|e| {
                Failure::new(Exit::State, format!("{} cannot be read", marker.display())).why(e)
            }),
            Err(_) if self.is_empty() => Ok(None),
            Err(_) => Err(Failure::new(Exit::State, format!("{} holds no whole instance", self.0.display()))
                .why("there are files but no dev.toml: a first start was cut off, or the folder is something else's")
                .next("use an empty --dir, or remove this one yourself")),
        }
    }

    fn is_empty(&self) -> bool {
        let others = |dir: fs::ReadDir| dir.flatten().filter(|e| e.file_name() != "dev.lock").count();
        fs::read_dir(&self.0).is_ok_and(|dir| others(dir) == 0)
    }

    pub(super) fn write_settings(&self, settings: &Settings) -> Result<(), Failure> {
        let text = toml::to_string(settings)
            .map_err(|e| Failure::new(Exit::Internal, "the settings have no TOML form").why(e))?;
        write_private(&self.0.join("dev.toml"), text.as_bytes())
    }

    pub(super) fn keeper(&self, role: Role) -> PathBuf {
        self.0.join(role.name())
    }
    pub(super) fn socket(&self, role: Role) -> PathBuf {
        self.keeper(role).join("keeper.sock")
    }
    pub(super) fn keeper_config(&self, role: Role) -> PathBuf {
        self.keeper(role).join("keeper.toml")
    }
    pub(super) fn softhsm_conf(&self, role: Role) -> PathBuf {
        self.keeper(role).join("softhsm2.conf")
    }
    pub(super) fn pin(&self, role: Role) -> PathBuf {
        self.keeper(role).join("pin")
    }
    pub(super) fn policy(&self) -> PathBuf {
        self.0.join("policy")
    }
    pub(super) fn tls(&self) -> PathBuf {
        self.0.join("tls")
    }
    pub(super) fn ca(&self) -> PathBuf {
        self.tls().join("ca.pem")
    }
    pub(super) fn data(&self) -> PathBuf {
        self.0.join("data")
    }
    pub(super) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }
    pub(super) fn pubkeys(&self) -> PathBuf {
        self.0.join("pubkeys")
    }
    pub(super) fn daemon_config(&self) -> PathBuf {
        self.0.join("chanceryd.toml")
    }
    pub(super) fn admin_token(&self) -> PathBuf {
        self.0.join("admin.token")
    }
    pub(super) fn env_file(&self) -> PathBuf {
        self.0.join("env")
    }

    /// All folders, readable by their owner only.
    pub(super) fn make_folders(&self) -> Result<(), Failure> {
        let tokens = Role::ALL.map(|role| self.keeper(role).join("tokens"));
        for folder in
            [self.policy(), self.tls(), self.data(), self.logs(), self.pubkeys()].iter().chain(&tokens)
        {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|e| Failure::new(Exit::State, format!("cannot make {}", folder.display())).why(e))?;
        }
        Ok(())
    }
}

/// Writes a new file that only its owner reads.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(|e| Failure::new(Exit::State, format!("cannot write {}", path.display())).why(e))
}
