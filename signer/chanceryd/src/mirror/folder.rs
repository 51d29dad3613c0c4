//! A mirror in a folder of this host, or of another one that is mounted here.
//!
//! Promises: a file is written beside its place, flushed, and renamed; so is the folder around it. The modes are those that
//! readers need, whatever the daemon's umask is, from the moment a file has its name. The folder itself is never made:
//! where its disk is not mounted, nothing is written to the disk below. A call that hangs holds one of a few threads.

use super::place::PlaceError;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
};
use tlog::TilePath;
use tokio::sync::Semaphore;

/// Calls of one mirror at once, those included that hang in a dead network file system: each holds a thread.
const MAX_CALLS: usize = 8;
/// What a name gets while its file is written.
const UNFINISHED: &str = ".new";
/// How deep tiles lie: `tile`, a level, six groups of an index, `N.p`.
const MAX_DEPTH: usize = 10;

/// A folder, which must exist.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: Arc<Path>,
    modes: Modes,
    calls: Calls,
}

/// The threads that one mirror may hold, however often its folder is opened: those that hang are counted until they end.
#[derive(Debug, Clone)]
pub(super) struct Calls(Arc<Semaphore>);

impl Default for Calls {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CALLS)))
    }
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
        self.call(path, move |root| write(root, &name, &bytes, modes)).await
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
        let permit = self.calls.0.clone().acquire_owned().await.map_err(|e| failed(io::Error::other(e)))?;
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
    if folder == root || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(root);
    make_folders(root, parent, modes)?;
    match DirBuilder::new().mode(modes.folder).create(folder) {
        Ok(()) => {
            fs::set_permissions(folder, Permissions::from_mode(modes.folder))?;
            File::open(parent)?.sync_all()
        }
        // Another file of the same round.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
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

    fn mode(path: PathBuf) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_public_mirror_can_be_read_by_everybody_and_one_with_entries_by_its_group() {
        for (entries, file, folder) in [(false, 0o644, 0o755), (true, 0o640, 0o750)] {
            let dir = tempfile::tempdir().unwrap();
            let place = Folder::new(dir.path(), entries, Calls::default());
            let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            place.write("tile/0/x001/234.p/5", b"five".to_vec()).await.unwrap();
            rustix::process::umask(mask);
            assert_eq!(mode(dir.path().join("tile/0/x001/234.p/5")), file);
            assert_eq!(mode(dir.path().join("tile/0/x001")), folder);
        }
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
