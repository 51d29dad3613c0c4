//! Whether a database is the file that a daemon had open, or a copy that was made file by file.
//!
//! SQLite's newest commits stand in a journal beside the database (`-wal`). Whoever copies the two one after the other
//! while a daemon writes may get a journal that is older than the database; SQLite then puts old pages over new ones, and
//! neither its checks nor ours need notice that rows are gone. Such a copy is refused. A file system's snapshot keeps
//! inodes, and is taken; so is a copy without a journal, of a daemon that was stopped while no backup read. A sealed daemon
//! leaves its journal and writes nothing: `chancery unseal` takes a copy of its folder, once all of it was found whole.
//!
//! It does not see a copy that was written over the old files in place.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// Whether it has a journal, and is not the file that was noted down.
pub(super) fn is_live_copy(database: &Path) -> io::Result<bool> {
    let journal = match fs::metadata(beside(database, "-wal")) {
        Ok(about) => about.len() > 0,
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(e),
    };
    Ok(journal && noted(database)?.as_deref() != Some(identity(database)?.as_str()))
}

/// Notes down, durably, which file it is: before its journal gets its first commit.
pub(super) fn note(database: &Path) -> io::Result<()> {
    let identity = identity(database)?;
    if noted(database)?.as_deref() == Some(identity.as_str()) {
        return Ok(());
    }
    let (path, new) = (beside(database, "-identity"), beside(database, "-identity.new"));
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(identity.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    super::sync_directory(&path)
}

/// Forgets a file that gets another name.
pub(super) fn forget(database: &Path) -> io::Result<()> {
    fs::remove_file(beside(database, "-identity"))
}

fn noted(database: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(beside(database, "-identity")) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Inode, and birth where the file system knows it: an inode number may be given again.
fn identity(database: &Path) -> io::Result<String> {
    let about = fs::metadata(database)?;
    let born =
        about.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos());
    Ok(format!("inode {} born {born}\n", about.ino()))
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", database.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_copy_with_a_journal_is_a_live_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (original, copied) = (dir.path().join("a.db"), dir.path().join("b.db"));
        fs::write(&original, "database").unwrap();
        note(&original).unwrap();
        fs::copy(&original, &copied).unwrap();
        fs::copy(beside(&original, "-identity"), beside(&copied, "-identity")).unwrap();
        assert!(!is_live_copy(&copied).unwrap(), "no journal");
        for database in [&original, &copied] {
            fs::write(beside(database, "-wal"), "journal").unwrap();
        }
        assert!(!is_live_copy(&original).unwrap(), "after a crash");
        assert!(is_live_copy(&copied).unwrap());
        forget(&copied).unwrap();
        assert!(is_live_copy(&copied).unwrap(), "without the note");
        note(&copied).unwrap();
        assert!(!is_live_copy(&copied).unwrap());
    }
}
