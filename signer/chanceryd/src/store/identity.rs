//! Whether a database is the file that a daemon had open, or a copy that was made file by file.
//!
//! SQLite's newest commits stand in a journal beside the database (`-wal`). Whoever copies the two one after the other
//! while a daemon writes may get a journal that is older than the database; SQLite then puts old pages over new ones, and
//! neither its checks nor ours need notice that rows are gone. Such a copy is refused. A file system's snapshot keeps
//! inodes, and is taken; so is a copy without a journal, of a daemon that was stopped while no backup read. A sealed daemon
//! leaves its journal and writes nothing: `chancery unseal` takes a copy of its folder that was begun after the seal, once
//! all of it was found whole.
//!
//! It does not see a copy that was written over the old files in place, nor, after a seal, a copy of a copy that was begun
//! before it; and it trusts the clock of the host that the copy was made on.

use record::Time;
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

/// Whether the file was made after this time; `None` where the file system does not know. What is copied later, the journal
/// too, is as it was after this time.
pub(super) fn is_born_after(database: &Path, time: Time) -> io::Result<Option<bool>> {
    let born = fs::metadata(database)?.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Ok(born.map(|born| i128::try_from(born.as_millis()).is_ok_and(|born| born > i128::from(time.unix_ms()))))
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

    #[test]
    fn a_file_tells_whether_it_was_made_after_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.db");
        fs::write(&file, "database").unwrap();
        let Ok(born) = fs::metadata(&file).unwrap().created() else {
            return println!("SKIPPED: this file system does not know when a file was made");
        };
        let born = i64::try_from(born.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        for (later_ms, is_after) in [(-1, true), (0, false), (1, false)] {
            let time = Time::from_unix_ms(born + later_ms).unwrap();
            assert_eq!(is_born_after(&file, time).unwrap(), Some(is_after), "{later_ms}");
        }
    }
}
