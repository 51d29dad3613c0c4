//! Writing a backup: what is there already is kept, what is new is written beside it, and the manifest comes last.

use crate::{
    BackupError, MANIFEST, Manifest, NamedFile, RequestRow, SCHEMA,
    fault::{unreadable, unwritable},
    layout,
};
use record::{KeeperName, Sha256, Sha256Stream, Time};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What stands in a folder that a backup was begun in: anything else is somebody else's.
const OWN: [&str; 2] = [CHECKPOINT, MANIFEST];
/// The folders in it.
const FOLDERS: [&str; 2] = ["tile", "payload"];
/// Of a file that is being written: it gets its name when it is whole.
const UNFINISHED: &str = ".unfinished";
/// The copy of the manifest's note for readers of the log.
const CHECKPOINT: &str = "checkpoint";

/// A backup that is being made. Dropped before [`finish`](Self::finish) it leaves the one before it as it was.
#[derive(Debug)]
pub struct Draft {
    dir: PathBuf,
    _lock: File,
    previous: Option<Manifest>,
    kept: BTreeMap<String, NamedFile>,
    files: Vec<NamedFile>,
    folders: BTreeSet<PathBuf>,
    written: u64,
}

/// What the manifest says beyond the files.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The log's verifier key.
    pub log: String,
    /// When the backup was begun.
    pub created: Time,
    /// The version of the program that makes it.
    pub version: String,
    /// The format of the database.
    pub database_format: u64,
    /// The newest note.
    pub checkpoint: String,
    /// Leaves under it, and their root.
    pub noted: (u64, Sha256),
    /// All leaves, and their root.
    pub head: (u64, Sha256),
    /// The highest lease of the database.
    pub epoch: u64,
    /// How far each signing keeper's journal had grown.
    pub generations: BTreeMap<KeeperName, u64>,
}

impl Draft {
    /// Takes the folder, which is made if it is not there, for one backup at a time.
    pub fn open(dir: &Path) -> Result<Self, BackupError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unwritable(dir))?;
        let lock = File::open(dir).map_err(unreadable(dir))?;
        let unfit = |why: String| BackupError::Unfit { path: dir.to_owned(), why };
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| unfit("another backup into it is being made".into()))?;
        if let Some(stranger) = stranger(dir)? {
            return Err(unfit(format!("it holds {stranger:?}, which no backup does")));
        }
        let previous = Manifest::read(dir)?.map(|(manifest, _)| manifest);
        let kept =
            previous.iter().flat_map(|m| m.files.iter().cloned()).map(|f| (f.path.clone(), f)).collect();
        Ok(Self {
            dir: dir.to_owned(),
            _lock: lock,
            previous,
            kept,
            files: Vec::new(),
            folders: BTreeSet::new(),
            written: 0,
        })
    }

    /// The backup that the folder holds so far.
    pub fn previous(&self) -> Option<&Manifest> {
        self.previous.as_ref()
    }

    /// How many files were written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether this file is there from an earlier backup, with the length it had: a path says which leaves it covers, and
    /// those do not change. Its bytes are [`verify`](crate::verify())'s concern.
    pub fn keep(&mut self, path: &str) -> bool {
        let Some(named) = self.kept.get(path) else { return false };
        let there = fs::metadata(self.dir.join(path)).is_ok_and(|m| m.is_file() && m.len() == named.bytes);
        if there {
            self.files.push(named.clone());
        }
        there
    }

    /// Begins a file, which counts once it was given to [`end`](Self::end).
    pub fn begin(&self, path: &str) -> Result<DraftFile, BackupError> {
        DraftFile::create(&self.dir, path)
    }

    /// Begins the file of the leaves that no note covers yet.
    pub fn begin_tail(&self) -> Result<DraftFile, BackupError> {
        self.begin(&layout::tail(self.sequence()))
    }

    /// Begins the file of the requests.
    pub fn begin_requests(&self) -> Result<DraftFile, BackupError> {
        self.begin(&layout::requests(self.sequence()))
    }

    /// Gives a file its name when it is whole and on the disk.
    pub fn end(&mut self, file: DraftFile) -> Result<(), BackupError> {
        let named = self.put(file)?;
        self.files.push(named);
        self.written += 1;
        Ok(())
    }

    /// Makes it the backup of this folder: what was written is on the disk, then the manifest, then what only the backup
    /// before it had is removed.
    pub fn finish(mut self, facts: Facts, requests: u64) -> Result<Manifest, BackupError> {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            log: facts.log,
            sequence: self.sequence(),
            created: facts.created,
            version: facts.version,
            database_format: facts.database_format,
            checkpoint: facts.checkpoint,
            size: facts.noted.0,
            root: facts.noted.1,
            leaves: facts.head.0,
            leaves_root: facts.head.1,
            requests,
            epoch: facts.epoch,
            generations: facts.generations,
            files: std::mem::take(&mut self.files),
        };
        self.sync_folders()?;
        let text = manifest.encode().map_err(|e| unwritable(&self.dir.join(MANIFEST))(e.into()))?;
        for (name, bytes) in [(MANIFEST, text.as_slice()), (CHECKPOINT, manifest.checkpoint.as_bytes())] {
            let mut file = self.begin(name)?;
            file.add(bytes)?;
            self.put(file)?;
            self.sync_folders()?;
        }
        self.remove_unnamed(&manifest);
        Ok(manifest)
    }

    fn sequence(&self) -> u64 {
        self.previous.as_ref().map_or(0, |m| m.sequence) + 1
    }

    fn put(&mut self, file: DraftFile) -> Result<NamedFile, BackupError> {
        let named = file.end()?;
        let whole = self.dir.join(&named.path);
        let above = whole.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.dir));
        self.folders.extend(above.map(Path::to_owned));
        Ok(named)
    }

    /// New names reach the disk with the folders they stand in.
    fn sync_folders(&mut self) -> Result<(), BackupError> {
        for folder in std::mem::take(&mut self.folders) {
            File::open(&folder).and_then(|f| f.sync_all()).map_err(unwritable(&folder))?;
        }
        Ok(())
    }

    /// Partial files that wider ones replace, the state of the backup before, and what a run has left that was cut off.
    /// What cannot be removed is in the way of nobody.
    fn remove_unnamed(&self, manifest: &Manifest) {
        let named = manifest.by_path();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(self.dir.join(&folder)) else { continue };
            for entry in entries.flatten() {
                let path = folder.join(entry.file_name());
                let name = path.to_string_lossy();
                // Beside the folders that are a backup's own, somebody may have put a file meanwhile.
                let own = folder != Path::new("") || FOLDERS.contains(&&*name) || is_state(&name);
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if own && is_folder {
                    folders.push(path);
                } else if own && !FOLDERS.contains(&&*name) && !named.contains_key(&*name) {
                    let _ = fs::remove_file(self.dir.join(&path));
                }
            }
        }
    }
}

/// What is in the folder that no backup puts there.
fn stranger(dir: &Path) -> Result<Option<String>, BackupError> {
    for entry in fs::read_dir(dir).map_err(unreadable(dir))? {
        let name = entry.map_err(unreadable(dir))?.file_name().to_string_lossy().into_owned();
        if !OWN.contains(&name.as_str()) && !FOLDERS.contains(&name.as_str()) && !is_state(&name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether it is a file of the state beside the log, of whichever run, or one that was not finished.
fn is_state(name: &str) -> bool {
    name.starts_with("tail-") || name.starts_with("requests-") || name.ends_with(UNFINISHED)
}

/// A file on its way into a backup. Dropped before its end it is removed.
pub struct DraftFile {
    path: String,
    whole: PathBuf,
    unfinished: PathBuf,
    out: BufWriter<File>,
    hash: Sha256Stream,
    bytes: u64,
}

impl DraftFile {
    fn create(dir: &Path, path: &str) -> Result<Self, BackupError> {
        let whole = dir.join(path);
        let unfinished = dir.join(format!("{path}{UNFINISHED}"));
        let open = || {
            let folder = whole.parent().unwrap_or(dir);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            File::options().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)
        };
        let out = BufWriter::new(open().map_err(unwritable(&whole))?);
        Ok(Self { path: path.to_owned(), whole, unfinished, out, hash: Sha256Stream::default(), bytes: 0 })
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(unwritable(&self.whole))
    }

    /// Adds a leaf of the tail: its length in two bytes, big-endian, and its bytes.
    pub fn add_leaf(&mut self, leaf: &[u8]) -> Result<(), BackupError> {
        let too_long = |e| unwritable(&self.whole)(io::Error::other(e));
        let length = u16::try_from(leaf.len()).map_err(too_long)?;
        self.add(&length.to_be_bytes())?;
        self.add(leaf)
    }

    /// Adds a payload: its length in four bytes, big-endian, and its bytes.
    pub fn add_payload(&mut self, payload: &[u8]) -> Result<(), BackupError> {
        let too_long = |e| unwritable(&self.whole)(io::Error::other(e));
        let length = u32::try_from(payload.len()).map_err(too_long)?;
        self.add(&length.to_be_bytes())?;
        self.add(payload)
    }

    /// Adds a request: one line of JSON.
    pub fn add_request(&mut self, row: &RequestRow) -> Result<(), BackupError> {
        let mut line = serde_json::to_vec(row).map_err(|e| unwritable(&self.whole)(e.into()))?;
        line.push(b'\n');
        self.add(&line)
    }

    fn end(mut self) -> Result<NamedFile, BackupError> {
        let ended = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        ended.and_then(|()| fs::rename(&self.unfinished, &self.whole)).map_err(unwritable(&self.whole))?;
        let hash = std::mem::take(&mut self.hash).finish();
        Ok(NamedFile { path: std::mem::take(&mut self.path), sha256: hash, bytes: self.bytes })
    }
}

impl Drop for DraftFile {
    /// A full disk is not kept full by what nobody can use. After the end there is nothing under this name.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.unfinished);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(draft: &mut Draft, path: &str) {
        let mut file = draft.begin(path).unwrap();
        file.add(b"bytes").unwrap();
        draft.end(file).unwrap();
    }

    fn facts() -> Facts {
        Facts {
            log: "log".into(),
            created: Time::from_unix_ms(1_790_000_000_000).unwrap(),
            version: "1".into(),
            database_format: 1,
            checkpoint: "note".into(),
            noted: (0, Sha256::of(b"")),
            head: (0, Sha256::of(b"")),
            epoch: 1,
            generations: BTreeMap::new(),
        }
    }

    #[test]
    fn what_a_run_has_left_that_was_cut_off_is_gone_after_the_next_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut cut_off = Draft::open(dir.path()).unwrap();
        let left = ["tile/0/000.p/7", "payload/000.p/7", "tail-1"];
        left.iter().for_each(|path| put(&mut cut_off, path));
        drop(cut_off);
        let killed = ["tile/0/000.p/8.unfinished", "requests-1.jsonl.unfinished"];
        killed.iter().for_each(|path| fs::write(dir.path().join(path), "half").unwrap());
        let mut next = Draft::open(dir.path()).unwrap();
        let new = ["tile/0/000.p/9", "payload/000.p/9", "tail-2"];
        new.iter().for_each(|path| put(&mut next, path));
        fs::write(dir.path().join("note-of-the-operator"), "mine").unwrap();
        next.finish(facts(), 0).unwrap();
        for gone in left.iter().chain(&killed) {
            assert!(!dir.path().join(gone).exists(), "{gone}");
        }
        for kept in new.iter().chain(&["note-of-the-operator", CHECKPOINT, MANIFEST]) {
            assert!(dir.path().join(kept).exists(), "{kept}");
        }
    }
}
