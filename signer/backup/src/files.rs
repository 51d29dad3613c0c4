//! The files that a manifest names, read and hashed.

use crate::{
    BackupError, Manifest, NamedFile,
    fault::{unreadable, wrong},
};
use record::Sha256Stream;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The files of one backup.
pub(crate) struct Files {
    dir: PathBuf,
    by_path: BTreeMap<String, NamedFile>,
}

impl Files {
    pub(crate) fn new(dir: &Path, manifest: &Manifest) -> Self {
        let by_path = manifest.files.iter().map(|file| (file.path.clone(), file.clone())).collect();
        Self { dir: dir.to_owned(), by_path }
    }

    /// Opens a file that the manifest names.
    pub(crate) fn open(&self, path: &str) -> Result<File, BackupError> {
        File::open(self.dir.join(path)).map_err(|e| self.unread(path, e))
    }

    /// What the manifest says of a file.
    pub(crate) fn named(&self, path: &str) -> Result<&NamedFile, BackupError> {
        self.by_path.get(path).ok_or_else(|| wrong(path, "the manifest does not name it"))
    }

    /// Demands that what was read of a file is the file that the manifest names.
    pub(crate) fn demand(&self, path: &str, hash: Sha256Stream, bytes: u64) -> Result<(), BackupError> {
        let named = self.named(path)?;
        if (hash.finish(), bytes) == (named.sha256, named.bytes) {
            Ok(())
        } else {
            Err(wrong(path, "its SHA-256 is not the manifest's"))
        }
    }

    /// The bytes of a file, at most `most`, if they are those that the manifest names; `None` for one that it does not name.
    pub(crate) fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, BackupError> {
        let Some(named) = self.by_path.get(path) else { return Ok(None) };
        if named.bytes > most {
            return Err(wrong(
                path,
                format!("the manifest gives it {} bytes: at most {most} can be", named.bytes),
            ));
        }
        let mut bytes = Vec::new();
        let read = self.open(path)?.take(named.bytes + 1).read_to_end(&mut bytes);
        read.map_err(|e| self.unread(path, e))?;
        let mut hash = Sha256Stream::default();
        hash.update(&bytes);
        self.demand(path, hash, bytes.len() as u64)?;
        Ok(Some(bytes))
    }

    /// Hashes a whole file that is too long to be held.
    pub(crate) fn demand_whole(&self, path: &str) -> Result<(), BackupError> {
        let (mut hash, mut bytes, mut buffer) = (Sha256Stream::default(), 0, vec![0; 64 * 1024]);
        let mut file = self.open(path)?;
        loop {
            let n = file.read(&mut buffer).map_err(|e| self.unread(path, e))?;
            if n == 0 {
                return self.demand(path, hash, bytes);
            }
            hash.update(buffer.get(..n).unwrap_or_default());
            bytes += n as u64;
        }
    }

    /// The file `checkpoint`, which readers of the log look at, repeats the manifest's.
    pub(crate) fn demand_checkpoint(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let path = self.dir.join("checkpoint");
        let (mut bytes, most) = (Vec::new(), manifest.checkpoint.len() as u64 + 1);
        match File::open(&path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
            Ok(_) if bytes == manifest.checkpoint.as_bytes() => return Ok(()),
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(unreadable(&path)(e)),
            _ => {}
        }
        let why = "it is not the manifest's: the backup was cut off in its last step, which another one into this folder \
                   makes good, or the file was altered";
        Err(wrong("checkpoint", why))
    }

    fn unread(&self, path: &str, error: io::Error) -> BackupError {
        match error.kind() {
            io::ErrorKind::NotFound => wrong(path, "it is missing"),
            _ => unreadable(&self.dir.join(path))(error),
        }
    }
}
