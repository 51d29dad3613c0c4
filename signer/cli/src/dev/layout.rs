//! Where everything of an instance lies, and the markers that say whether it is whole.
//!
//! Promises: a first start leaves a whole instance or none. `dev.unfinished` is there from before its first file until
//! after `dev.toml`, its last; a folder with it and without `dev.toml` holds nothing but what a first start has made.

use crate::{args::LogKeyType, audit::replace, exit::Exit, failure::Failure};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Longest path of a Unix socket, its final zero included.
const MAX_SOCKET: usize = 108;

/// Held while a `chancery dev` runs on the folder.
const LOCK: &str = "dev.lock";
/// What the instance was given; the last file of a first start.
const SETTINGS: &str = "dev.toml";
/// There while a first start is not done.
const UNFINISHED: &str = "dev.unfinished";

/// What a first start was given; written last, so that a folder with it is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) schema: u32,
    pub(super) host: String,
    pub(super) address: String,
    pub(super) origin: String,
    #[serde(default)]
    pub(super) log_key: LogKeyType,
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
pub(super) struct Layout {
    dir: PathBuf,
    /// Whether this process has made the folder.
    made: bool,
}

impl Layout {
    /// The folder, made if it is missing, as an absolute path.
    pub(super) fn new(dir: &Path) -> Result<Self, Failure> {
        let bad =
            |e: std::io::Error| Failure::new(Exit::State, format!("cannot use {}", dir.display())).why(e);
        let made = !dir.exists();
        if made {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(bad)?;
        }
        let layout = Self { dir: dir.canonicalize().map_err(bad)?, made };
        if layout.socket(Role::Signing).as_os_str().len() >= MAX_SOCKET {
            return Err(Failure::new(Exit::Usage, format!("the path {} is too long", layout.dir.display()))
                .why("the keepers' Unix sockets lie below it, and their paths end at 107 bytes")
                .next("use a shorter --dir"));
        }
        Ok(layout)
    }

    /// The folder itself.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Holds the folder for this process.
    pub(super) fn lock(&self) -> Result<fs::File, Failure> {
        let path = self.lock_file();
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
            return Err(Failure::new(Exit::Conflict, format!("{} is in use", self.dir.display()))
                .why(format!("chancery dev with process id {} runs on it", holder.trim()))
                .next("stop that one, or use another --dir"));
        }
        // A start that failed may have removed the file between our two steps; a lock on it would hold nobody off.
        let same = file.metadata().and_then(|ours| Ok(fs::metadata(&path)?.ino() == ours.ino()));
        if !same.unwrap_or(false) {
            return Err(Failure::new(
                Exit::Conflict,
                format!("{} has just been removed", self.dir.display()),
            )
            .next("start again"));
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(bad)?;
        Ok(file)
    }

    /// What the whole instance in the folder was given; `None` for an empty folder, and for one that only a first start has
    /// written to that was cut off, which is emptied. Anything else is refused.
    pub(super) fn settings(&self) -> Result<Option<Settings>, Failure> {
        let marker = self.dir.join(SETTINGS);
        match fs::read_to_string(&marker) {
            Ok(text) => toml::from_str(&text).map(Some).map_err(|e| {
                Failure::new(Exit::State, format!("{} cannot be read", marker.display())).why(e)
            }),
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Failure::new(Exit::State, format!("{} cannot be read", marker.display())).why(e))
            }
            Err(_) if self.dir.join(UNFINISHED).exists() => self.remove_parts().map(|()| None),
            Err(_) if self.is_empty() => Ok(None),
            Err(_) => Err(Failure::new(
                Exit::State,
                format!("{} holds no whole instance", self.dir.display()),
            )
            .why("there are files but no dev.toml: the folder is something else's, or dev.toml was removed")
            .next("use an empty --dir, or remove this one yourself")),
        }
    }

    fn is_empty(&self) -> bool {
        let others = |dir: fs::ReadDir| dir.flatten().filter(|e| e.file_name() != LOCK).count();
        fs::read_dir(&self.dir).is_ok_and(|dir| others(dir) == 0)
    }

    /// Whether the folder holds a whole instance.
    pub(super) fn is_whole(&self) -> bool {
        self.dir.join(SETTINGS).exists()
    }

    /// The first step of a first start.
    pub(super) fn begin(&self) -> Result<(), Failure> {
        write_private(&self.dir.join(UNFINISHED), b"")
    }

    /// The last step of a first start.
    pub(super) fn write_settings(&self, settings: &Settings) -> Result<(), Failure> {
        let text = toml::to_string(settings)
            .map_err(|e| Failure::new(Exit::Internal, "the settings have no TOML form").why(e))?;
        // Whole or not at all: a part of it would make a failed start look like a whole instance.
        let place = self.dir.join(SETTINGS);
        replace(&place, text.as_bytes())
            .map_err(|e| Failure::new(Exit::State, format!("cannot write {}", place.display())).why(e))?;
        let marker = self.dir.join(UNFINISHED);
        removed(fs::remove_file(&marker), &marker)
    }

    /// Removes what a failed first start has made, the folder too if it is this process's, and nothing else.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        self.remove_parts()?;
        if self.made {
            removed(fs::remove_file(self.lock_file()), &self.lock_file())?;
            // Somebody else's file in it is a reason to leave the folder.
            let _kept = fs::remove_dir(&self.dir);
        }
        Ok(())
    }

    /// Removes what a first start makes; only with the marker, without which nothing here is known to be ours.
    fn remove_parts(&self) -> Result<(), Failure> {
        let marker = self.dir.join(UNFINISHED);
        if self.is_whole() || !marker.exists() {
            return Ok(());
        }
        let folders = Role::ALL.map(|role| self.keeper(role)).into_iter().chain(self.folders());
        folders.into_iter().try_for_each(|folder| removed(fs::remove_dir_all(&folder), &folder))?;
        let settings = self.dir.join(SETTINGS).with_extension("toml.new");
        let files = [self.daemon_config(), self.admin_token(), self.env_file(), settings];
        files.iter().try_for_each(|file| removed(fs::remove_file(file), file))?;
        removed(fs::remove_file(&marker), &marker)
    }

    /// Whether a daemon runs on the instance, such as one that a killed `chancery dev` left to end by itself.
    pub(super) fn daemon_holds_its_state(&self) -> bool {
        let try_lock =
            |file: fs::File| rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        fs::File::open(self.data().join("lock")).is_ok_and(|file| try_lock(file).is_err())
    }

    fn lock_file(&self) -> PathBuf {
        self.dir.join(LOCK)
    }

    /// The folders beside the keepers'.
    fn folders(&self) -> [PathBuf; 5] {
        [self.policy(), self.tls(), self.data(), self.logs(), self.pubkeys()]
    }

    pub(super) fn keeper(&self, role: Role) -> PathBuf {
        self.dir.join(role.name())
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
        self.dir.join("policy")
    }
    pub(super) fn tls(&self) -> PathBuf {
        self.dir.join("tls")
    }
    pub(super) fn ca(&self) -> PathBuf {
        self.tls().join("ca.pem")
    }
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
    pub(super) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }
    pub(super) fn pubkeys(&self) -> PathBuf {
        self.dir.join("pubkeys")
    }
    /// The key of the log's entry timestamps, for clients.
    pub(super) fn set_key(&self) -> PathBuf {
        self.pubkeys().join("set.pub.pem")
    }
    /// By what Sigstore's clients believe the log.
    pub(super) fn trusted_root(&self) -> PathBuf {
        self.pubkeys().join("trusted_root.json")
    }
    pub(super) fn daemon_config(&self) -> PathBuf {
        self.dir.join("chanceryd.toml")
    }
    pub(super) fn admin_token(&self) -> PathBuf {
        self.dir.join("admin.token")
    }
    pub(super) fn env_file(&self) -> PathBuf {
        self.dir.join("env")
    }

    /// All folders, readable by their owner only.
    pub(super) fn make_folders(&self) -> Result<(), Failure> {
        let tokens = Role::ALL.map(|role| self.keeper(role).join("tokens"));
        for folder in self.folders().iter().chain(&tokens) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|e| Failure::new(Exit::State, format!("cannot make {}", folder.display())).why(e))?;
        }
        Ok(())
    }
}

/// The end of a removal; what was not there is removed.
fn removed(end: io::Result<()>, path: &Path) -> Result<(), Failure> {
    match end {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Failure::new(Exit::State, format!("cannot remove {}", path.display()))
                .why(e)
                .next("remove it yourself: a first start that failed has made it"))
        }
        _ => Ok(()),
    }
}

/// Writes a new file that only its owner reads.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(|e| Failure::new(Exit::State, format!("cannot write {}", path.display())).why(e))
}

#[cfg(test)]
impl Settings {
    /// What a first start was given in tests.
    pub(super) fn example() -> Self {
        Self {
            schema: 1,
            host: "localhost".into(),
            address: "127.0.0.1:4443".into(),
            origin: "log.chancery.test".into(),
            log_key: LogKeyType::Ed25519,
            registries: vec![],
            repositories: vec![],
            module: "/lib/x.so".into(),
            keeper_env: vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A first start, cut off half-way.
    fn begun(dir: &Path) -> Layout {
        let layout = Layout::new(dir).unwrap();
        layout.begin().unwrap();
        layout.make_folders().unwrap();
        write_private(&layout.pin(Role::Log), b"1234").unwrap();
        write_private(&layout.env_file(), b"").unwrap();
        // The settings, cut off in the middle of being written.
        write_private(&dir.join("dev.toml.new"), b"sch").unwrap();
        layout
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_first_start_leaves_nothing_and_takes_nothing_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        let layout = begun(&own);
        layout.lock().unwrap();
        layout.remove().unwrap();
        assert!(!own.exists());
        let layout = begun(dir.path());
        fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        layout.remove().unwrap();
        assert_eq!(names(dir.path()), ["notes.txt"]);
    }

    #[test]
    fn a_folder_that_no_first_start_has_begun_in_is_never_emptied() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        assert_eq!(layout.settings().unwrap_err().exit, Exit::State);
        layout.remove().unwrap();
        assert_eq!(names(dir.path()), ["data"]);
    }

    #[test]
    fn a_first_start_that_was_killed_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let layout = begun(dir.path());
        assert_eq!(layout.settings().unwrap(), None);
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }

    #[test]
    fn a_whole_instance_stays_also_if_its_start_was_killed_at_the_very_end() {
        let dir = tempfile::tempdir().unwrap();
        let layout = begun(dir.path());
        layout.write_settings(&Settings::example()).unwrap();
        assert!(!names(dir.path()).contains(&UNFINISHED.to_owned()));
        layout.begin().unwrap();
        assert_eq!(layout.settings().unwrap(), Some(Settings::example()));
        layout.remove().unwrap();
        assert!(layout.env_file().exists());
    }

    #[test]
    fn a_daemon_that_still_ends_is_seen_by_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let layout = begun(dir.path());
        assert!(!layout.daemon_holds_its_state());
        let lock = fs::File::create(layout.data().join("lock")).unwrap();
        assert!(!layout.daemon_holds_its_state());
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        assert!(layout.daemon_holds_its_state());
    }
}
