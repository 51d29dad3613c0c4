//! What the keeper needs of its host besides a token: a clock, its state folder, room on the disk, and its socket.

use super::Check;
use crate::config::{Config, Listen};
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Free bytes that a keeper should have: twice its largest file, since that is written anew beside the old one.
const MIN_FREE: u64 = 2 * crate::records::MAX_FILE;
/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last of them 0.
const MAX_SOCKET_PATH: usize = 107;
/// There while systemd-timesyncd runs; the file in it once it has set the clock.
const TIMESYNCD: (&str, &str) = ("/run/systemd/timesync", "/run/systemd/timesync/synchronized");
/// There while chronyd runs.
const CHRONYD: [&str; 2] = ["/run/chrony/chronyd.pid", "/run/chrony/chronyd.sock"];
/// Files that are counted in a state folder at most: a spool has a segment for each 64 MiB.
const MAX_FILES: usize = 100_000;

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let journal = match config {
        Config::Log(_) => "spool",
        Config::Sign(_) => "journal",
    };
    let mut checks = vec![clock(Path::new("/"))];
    checks.extend(state(config.state(), journal));
    checks.extend(socket(config.listen()));
    checks
}

/// What keeps the clock right, as far as it leaves files that anybody can read. `root` is `/`, or a test's.
fn clock(root: &Path) -> Check {
    let there = |path: &str| root.join(path.trim_start_matches('/')).exists();
    if there(TIMESYNCD.1) {
        return Check::good("clock", "systemd-timesyncd has synchronised it");
    }
    if CHRONYD.into_iter().any(there) {
        return Check::skipped("clock", "chronyd runs, and tells its state to `chronyc tracking` only");
    }
    if there(TIMESYNCD.0) {
        return Check::bad(
            "clock",
            71,
            "systemd-timesyncd has not synchronised it",
            "let it reach a time server (timedatectl status): intents that are 300 s old or new are refused",
        );
    }
    let says =
        "no time service is seen from here; a clock that is off by more than 300 s stops the keeper's work";
    Check::skipped("clock", says)
}

fn state(folder: &Path, journal: &str) -> Vec<Check> {
    let missing = |what: &Path| {
        let says = format!("{} is not there", what.display());
        let remedy =
            "a new keeper: chancery-keeper init; one that has signed before: restore its state, or retire it";
        vec![Check::bad("state", 78, says, remedy)]
    };
    let Ok(about) = fs::metadata(folder) else { return missing(folder) };
    if !folder.join(journal).exists() {
        return missing(&folder.join(journal));
    }
    let own = rustix::process::geteuid().as_raw();
    let mut checks = vec![if about.uid() == own && about.mode() & 0o022 == 0 {
        let size = size(&folder.join(journal), &mut 0);
        Check::good("state", format!("{}: its {journal} has {size} bytes", folder.display()))
    } else {
        let says =
            format!("{} has uid {} and mode {:04o}", folder.display(), about.uid(), about.mode() & 0o7777);
        Check::bad("state", 78, says, format!("give it to uid {own} with the mode 0700"))
    }];
    checks.push(disk(folder));
    checks
}

fn size(path: &Path, seen: &mut usize) -> u64 {
    *seen += 1;
    if *seen > MAX_FILES {
        return 0;
    }
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| size(&entry.path(), seen)).sum(),
        Err(_) => fs::symlink_metadata(path).map_or(0, |about| about.len()),
    }
}

fn disk(folder: &Path) -> Check {
    match rustix::fs::statvfs(folder) {
        Ok(about) => {
            let free = about.f_bavail.saturating_mul(about.f_frsize);
            let says = format!("{} MiB are free", free / (1024 * 1024));
            if free >= MIN_FREE {
                Check::good("disk", says)
            } else {
                let remedy = format!(
                    "make room until {} MiB are free: a keeper that cannot write stops",
                    MIN_FREE >> 20
                );
                Check::bad("disk", 74, says, remedy)
            }
        }
        Err(e) => Check::bad("disk", 74, format!("{}: {e}", folder.display()), "look at the file system"),
    }
}

fn socket(listen: &Listen) -> Vec<Check> {
    let path = &listen.socket;
    let bad = |code: u8, says: String, remedy: &str| vec![Check::bad("socket", code, says, remedy)];
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        let says = format!(
            "{} has {length} bytes, and a socket's path has at most {MAX_SOCKET_PATH}",
            path.display()
        );
        return bad(78, says, "put the socket into a folder with a shorter path, such as /run/chancery");
    }
    // A bare file name lies in the folder where this runs.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(about) = fs::metadata(folder) else {
        let says = format!("the folder of {} is not there", path.display());
        return bad(71, says, "make it, or add RuntimeDirectory= to the keeper's unit");
    };
    if about.mode() & 0o002 != 0 && about.mode() & 0o1000 == 0 {
        let says =
            format!("everybody can write to the folder of {}, and put another socket there", path.display());
        return bad(78, says, "take the right to write away from others: chmod o-w");
    }
    match fs::symlink_metadata(path) {
        Err(_) => vec![Check::good("socket", format!("{} can be made; no keeper runs", path.display()))],
        Ok(about) => vec![existing(path, &about, listen)],
    }
}

fn existing(path: &Path, about: &Metadata, listen: &Listen) -> Check {
    let shown = path.display();
    if !about.file_type().is_socket() {
        let says = format!("{shown} is there and is no socket");
        return Check::bad("socket", 71, says, "move it away, or correct `socket` in the configuration");
    }
    let wanted = if listen.socket_gid.is_some() { 0o660 } else { 0o600 };
    if UnixStream::connect(path).is_err() {
        return Check::good(
            "socket",
            format!("{shown} is left of a keeper that does not run, and will be replaced"),
        );
    }
    if about.mode() & 0o777 != wanted || listen.socket_gid.is_some_and(|gid| gid != about.gid()) {
        let says = format!(
            "{shown} has mode {:04o} and gid {}, not as the configuration says",
            about.mode() & 0o777,
            about.gid()
        );
        return Check::bad("socket", 71, says, "restart the keeper: it makes the socket anew");
    }
    Check::good("socket", format!("a keeper listens on {shown}"))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    fn listen(socket: &Path) -> Listen {
        Listen { socket: socket.to_owned(), allow_uid: vec![], socket_gid: None }
    }

    fn one(mut checks: Vec<Check>) -> Check {
        assert_eq!(checks.len(), 1, "{checks:?}");
        checks.remove(0)
    }

    #[test]
    fn a_socket_that_cannot_be_made_or_could_be_anothers_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        assert_eq!(one(socket(&listen(&path))).state, State::Ok);
        let long = folder.path().join("x".repeat(MAX_SOCKET_PATH));
        assert!(one(socket(&listen(&long))).says.contains("at most 107"));
        assert_eq!(one(socket(&listen(&folder.path().join("absent/s")))).code, Some(71));
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(one(socket(&listen(&path))).says.contains("0666"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(one(socket(&listen(&path))).says.contains("listens"));
        drop(listener);
        assert!(one(socket(&listen(&path))).says.contains("does not run"));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(one(socket(&listen(&path))).code, Some(78));
    }

    #[test]
    fn a_state_folder_that_is_missing_or_anothers_fails_and_its_size_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(one(state(&path, "spool")).code, Some(78));
        fs::create_dir_all(path.join("spool")).unwrap();
        fs::write(path.join("spool/a"), [0; 10]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let checks = state(&path, "spool");
        assert_eq!((checks.len(), checks[0].state), (2, State::Ok));
        assert!(checks[1].says.contains("MiB are free"), "{checks:?}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(state(&path, "spool")[0].code, Some(78));
    }

    #[test]
    fn the_clock_is_called_right_only_where_its_service_says_so() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = root.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        assert_eq!(clock(root.path()).state, State::Skipped);
        fs::create_dir_all(root.path().join("run/systemd/timesync")).unwrap();
        assert_eq!(clock(root.path()).code, Some(71));
        make(CHRONYD[0]);
        assert!(clock(root.path()).says.contains("chronyc"));
        make(TIMESYNCD.1);
        assert_eq!(clock(root.path()).state, State::Ok);
    }
}
