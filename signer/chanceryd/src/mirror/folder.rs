//! A mirror in a folder of this host, or of another one that is mounted here.
//!
//! Promises: a file is written beside its place, flushed, and renamed; so is the folder around it. The modes are those that
//! readers need, whatever the daemon's umask is, from the moment a file has its name. The folder itself is never made:
//! where its disk is not mounted, nothing is written to the disk below. A call that hangs holds one of a few threads, and a
//! file that it writes is not written again before it ends.

use super::place::PlaceError;
use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tlog::TilePath;
use tokio::sync::Semaphore;

/// Calls of one mirror at once, those included that hang in a dead network file system: each holds a thread.
const MAX_CALLS: usize = 8;
/// What a name gets while its file is written.
const UNFINISHED: &str = ".new";
/// How deep tiles lie: `tile`, a level, six groups of an index, `N.p`.
const MAX_DEPTH: usize = 10;
/// The bit of a folder by which what is made in it gets its group, and the bit.
const SET_GROUP_ID: u32 = 0o2000;

/// A folder, which must exist.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: Arc<Path>,
    modes: Modes,
    calls: Calls,
}

/// The threads that one mirror may hold, however often its folder is opened: those that hang are counted until they end.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    threads: Arc<Semaphore>,
    /// The files that are being written, also by a call that nobody waits for any more.
    written: Arc<Mutex<BTreeSet<String>>>,
}

impl Default for Calls {
    fn default() -> Self {
        Self { threads: Arc::new(Semaphore::new(MAX_CALLS)), written: Arc::default() }
    }
}

/// The one write of a file that runs.
struct Writing {
    path: String,
    written: Arc<Mutex<BTreeSet<String>>>,
}

impl Calls {
    /// Begins a write of this file; none if an earlier one of it has not ended.
    fn begin(&self, path: &str) -> Option<Writing> {
        let is_first = locked(&self.written).insert(path.to_owned());
        is_first.then(|| Writing { path: path.to_owned(), written: self.written.clone() })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        locked(&self.written).remove(&self.path);
    }
}

fn locked(written: &Mutex<BTreeSet<String>>) -> MutexGuard<'_, BTreeSet<String>> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What files and folders get.
#[derive(Debug, Clone, Copy)]
struct Modes {
    file: u32,
    folder: u32,
}

impl Folder {
    /// A folder for everybody, or with `entries` for the group of its files.
    pub(super) fn new(root: &Path, entries: bool, calls: Calls) -> Self {
        let modes =
            if entries { Modes { file: 0o640, folder: 0o750 } } else { Modes { file: 0o644, folder: 0o755 } };
        Self { root: root.into(), modes, calls }
    }

    pub(super) async fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, PlaceError> {
        let name = path.to_owned();
        let limit = most as u64;
        let bytes = self.call(path, move |root| {
            // A folder that is not there is no folder without a checkpoint.
            fs::metadata(root)?;
            let mut bytes = Vec::new();
            match File::open(root.join(name)) {
                Ok(file) => file.take(limit + 1).read_to_end(&mut bytes).map(|_| Some(bytes)),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
                Err(e) => Err(e),
            }
        });
        match bytes.await? {
            Some(bytes) if bytes.len() > most => {
                Err(PlaceError::TooLarge { path: path.to_owned(), bytes: bytes.len() as u64, most })
            }
            bytes => Ok(bytes),
        }
    }

    pub(super) async fn has(&self, path: &str) -> Result<bool, PlaceError> {
        let name = path.to_owned();
        self.call(path, move |root| root.join(name).try_exists()).await
    }

    pub(super) async fn write(&self, path: &str, bytes: Vec<u8>) -> Result<(), PlaceError> {
        let (name, modes) = (path.to_owned(), self.modes);
        // The same unfinished file by two hands would be garbled, and the older checkpoint could come last.
        let Some(writing) = self.calls.begin(path) else {
            let source = io::Error::other("an earlier write of it that took too long still runs");
            return Err(PlaceError::File { path: self.root.join(path), source });
        };
        self.call(path, move |root| {
            let _until_done = writing;
            write(root, &name, &bytes, modes)
        })
        .await
    }

    pub(super) async fn has_entries(&self) -> Result<bool, PlaceError> {
        self.call("tile/entries", |root| match fs::read_dir(root.join("tile/entries")) {
            Ok(mut names) => Ok(names.next().transpose()?.is_some()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        })
        .await
    }

    pub(super) async fn partial_tiles(&self) -> Result<Vec<TilePath>, PlaceError> {
        self.call("tile", |root| {
            let mut found = Vec::new();
            walk(root, "tile", MAX_DEPTH, &mut found)?;
            Ok(found)
        })
        .await
    }

    pub(super) async fn remove_partials(&self, full: TilePath) -> Result<(), PlaceError> {
        let name = format!("{full}.p");
        self.call(&name.clone(), move |root| match fs::remove_dir_all(root.join(name)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        })
        .await
    }

    /// Runs on a thread that may block. The permit goes with it.
    async fn call<T: Send + 'static>(
        &self,
        path: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, PlaceError> {
        let failed = |source| PlaceError::File { path: self.root.join(path), source };
        let permit =
            self.calls.threads.clone().acquire_owned().await.map_err(|e| failed(io::Error::other(e)))?;
        let root = self.root.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _until_done = permit;
            work(&root)
        });
        done.await.map_err(|e| failed(io::Error::other(e)))?.map_err(failed)
    }
}

/// Whoever opens the file by its name gets all of it, also after a power cut.
fn write(root: &Path, name: &str, bytes: &[u8], modes: Modes) -> io::Result<()> {
    let path = root.join(name);
    let parent = path.parent().unwrap_or(root);
    make_folders(root, parent, modes)?;
    let unfinished = root.join(format!("{name}{UNFINISHED}"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(modes.file).open(&unfinished)?;
    // The umask has cut the mode.
    file.set_permissions(Permissions::from_mode(modes.file))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    File::open(parent)?.sync_all()
}

/// Makes what is missing between the root, which must be there, and a folder in it.
fn make_folders(root: &Path, folder: &Path, modes: Modes) -> io::Result<()> {
    if folder == root {
        return Ok(());
    }
    match fs::metadata(folder) {
        // It may have been made by a process that was killed before it set the mode.
        Ok(found) if found.is_dir() => return open_to_readers(folder, &found, modes),
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let parent = folder.parent().unwrap_or(root);
    make_folders(root, parent, modes)?;
    match DirBuilder::new().mode(modes.folder).create(folder) {
        Ok(()) => {
            open_to_readers(folder, &fs::metadata(folder)?, modes)?;
            File::open(parent)?.sync_all()
        }
        // Another file of the same round.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

/// Gives a folder the bits that its readers need and the umask has cut. Its set-group-id bit, which it has from the folder
/// around it, stays: by it files get the readers' group.
fn open_to_readers(folder: &Path, found: &Metadata, modes: Modes) -> io::Result<()> {
    let had = found.permissions().mode();
    if had & modes.folder == modes.folder {
        return Ok(());
    }
    fs::set_permissions(folder, Permissions::from_mode(modes.folder | had & SET_GROUP_ID))?;
    let is_for_group = modes.folder & 0o005 == 0;
    let has = fs::metadata(folder)?.permissions().mode();
    if is_for_group && had & SET_GROUP_ID != 0 && has & SET_GROUP_ID == 0 {
        // The system takes the bit, without an error, from a folder of a group that the caller is not in. One that was just
        // made is empty, and is made anew by the next try.
        let _not_empty = fs::remove_dir(folder);
        let group = found.gid();
        return Err(io::Error::other(format!(
            "its set-group-id bit was lost, since the daemon's user is not in its group {group}: add it to the group and start \
             the daemon again"
        )));
    }
    Ok(())
}

/// Collects the folders of partial tiles below a folder.
fn walk(root: &Path, below: &str, depth: usize, found: &mut Vec<TilePath>) -> io::Result<()> {
    let entries = match fs::read_dir(root.join(below)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if depth == 0 || !entry.file_type()?.is_dir() {
            continue;
        }
        let path = format!("{below}/{name}");
        match path.strip_suffix(".p") {
            Some(full) => found.extend(TilePath::parse(full)),
            None => walk(root, &path, depth - 1, found)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// The process has one umask.
    static UMASK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// Writes under the strictest umask.
    async fn write_closed(place: &Folder, path: &str) {
        let _alone = UMASK.lock().await;
        let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        place.write(path, b"five".to_vec()).await.unwrap();
        rustix::process::umask(mask);
    }

    fn mode(path: PathBuf) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_public_mirror_can_be_read_by_everybody_and_one_with_entries_by_its_group() {
        for (entries, file, folder) in [(false, 0o644, 0o755), (true, 0o640, 0o750)] {
            let dir = tempfile::tempdir().unwrap();
            let place = Folder::new(dir.path(), entries, Calls::default());
            write_closed(&place, "tile/0/x001/234.p/5").await;
            assert_eq!(mode(dir.path().join("tile/0/x001/234.p/5")), file);
            assert_eq!(mode(dir.path().join("tile/0/x001")), folder);
        }
    }

    #[tokio::test]
    async fn what_is_made_below_a_set_group_id_folder_has_its_group_and_its_bit_whatever_the_umask_is() {
        let dir = tempfile::tempdir().unwrap();
        let groups = rustix::process::getgroups().unwrap().into_iter().map(|group| group.as_raw());
        let own = rustix::process::getgid().as_raw();
        let is_root = rustix::process::geteuid().is_root();
        let Some(other) = groups.chain(is_root.then_some(own + 33)).find(|group| *group != own) else {
            return println!("SKIPPED: this user is in one group only");
        };
        std::os::unix::fs::chown(dir.path(), None, Some(other)).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o2755)).unwrap();
        let place = Folder::new(dir.path(), true, Calls::default());
        write_closed(&place, "tile/0/x001/234").await;
        for (path, mode) in [("tile", 0o2750), ("tile/0/x001", 0o2750), ("tile/0/x001/234", 0o640)] {
            let found = fs::metadata(dir.path().join(path)).unwrap();
            assert_eq!((found.mode() & 0o7777, found.gid()), (mode, other), "{path}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_was_left_closed_is_opened_to_its_readers_by_the_next_file_in_it() {
        let dir = tempfile::tempdir().unwrap();
        DirBuilder::new().mode(0o700).create(dir.path().join("tile")).unwrap();
        let place = Folder::new(dir.path(), false, Calls::default());
        place.write("tile/0/000", b"x".to_vec()).await.unwrap();
        assert_eq!(mode(dir.path().join("tile")), 0o755);
    }

    #[tokio::test]
    async fn a_file_whose_earlier_write_hangs_is_not_written_again_before_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let calls = Calls::default();
        let place = Folder::new(dir.path(), true, calls.clone());
        let unfinished = dir.path().join("checkpoint.new");
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &unfinished, pipe, 0o600.into(), 0).unwrap();
        // Opening a pipe to write hangs until somebody reads it.
        let hung = place.write("checkpoint", b"old".to_vec());
        tokio::time::timeout(std::time::Duration::ZERO, hung).await.unwrap_err();
        let refused = place.write("checkpoint", b"new".to_vec()).await.unwrap_err();
        assert!(refused.to_string().contains("still runs"), "{refused}");
        place.write("tile/0/000", b"x".to_vec()).await.unwrap();
        let pipe = unfinished.clone();
        tokio::task::spawn_blocking(move || fs::read(pipe)).await.unwrap().unwrap();
        drop(calls.threads.acquire_many(MAX_CALLS as u32).await.unwrap());
        fs::remove_file(&unfinished).unwrap();
        place.write("checkpoint", b"new".to_vec()).await.unwrap();
        assert_eq!(fs::read(dir.path().join("checkpoint")).unwrap(), b"new");
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let place = Folder::new(&dir.path().join("unmounted"), true, Calls::default());
        assert!(place.read("checkpoint", 10).await.is_err());
        assert!(place.write("tile/0/000", b"x".to_vec()).await.is_err());
        assert!(!dir.path().join("unmounted").exists());
    }

    #[tokio::test]
    async fn partial_tiles_are_found_by_their_tile_and_removed_with_what_was_unfinished() {
        let dir = tempfile::tempdir().unwrap();
        let place = Folder::new(dir.path(), true, Calls::default());
        for path in
            ["tile/0/x001/234.p/5", "tile/0/x001/234.p/6.new", "tile/0/x001/234", "tile/entries/000.p/1"]
        {
            place.write(path, b"x".to_vec()).await.unwrap();
        }
        let mut found = place.partial_tiles().await.unwrap();
        found.sort();
        let paths: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(paths, ["tile/entries/000", "tile/0/x001/234"]);
        place.remove_partials(TilePath::parse("tile/0/x001/234").unwrap()).await.unwrap();
        assert!(!dir.path().join("tile/0/x001/234.p").exists());
        assert!(dir.path().join("tile/0/x001/234").exists());
        assert!(matches!(place.read("tile/0/x001/234", 0).await, Err(PlaceError::TooLarge { .. })));
    }
}
