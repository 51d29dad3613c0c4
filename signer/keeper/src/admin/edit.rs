//! Changes to a file that a person wrote: the new text is there as a whole or not at all, and survives a power cut.
//!
//! It promises that nobody else's change is lost: commands on files of one folder take turns, and a file that changed
//! since it was read is left alone. It does not know what the text means.

use super::unfinished;
use crate::config::{Secrecy, read_trusted};
use crate::exit::Fatal;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A text file that is being changed. Its folder is locked for other commands until this is dropped.
#[derive(Debug)]
pub(crate) struct Editing {
    path: PathBuf,
    folder: File,
    text: String,
    mode: u32,
}

impl Editing {
    /// Reads the file for a change by its owner, who alone could have written it.
    pub(crate) fn open(named: &Path) -> Result<Self, Fatal> {
        let fault = |why: String| Fatal::Config { file: named.to_owned(), why };
        // Links are followed now: the file is replaced, and not the link.
        let path = named.canonicalize().map_err(|e| fault(format!("cannot be opened: {e}")))?;
        let folder = path.parent().ok_or_else(|| fault("is no file".into()))?;
        let folder = File::open(folder).map_err(|e| fault(format!("its folder cannot be opened: {e}")))?;
        flock(&folder, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            fault("another command changes files of its folder: let it end, then try again".into())
        })?;
        let text = read(&path)?;
        let about = fs::metadata(&path).map_err(|e| fault(format!("cannot be examined: {e}")))?;
        let own = rustix::process::geteuid().as_raw();
        if about.uid() != own {
            let why = format!("belongs to uid {}: change it as that user, not as uid {own}", about.uid());
            return Err(fault(why));
        }
        Ok(Self { path, folder, text, mode: about.mode() & 0o7777 })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Puts `text` in the place of what was read. After an error the old text or the new one is there as a whole.
    pub(crate) fn replace(&self, text: &str) -> Result<(), Fatal> {
        if read(&self.path)? != self.text {
            let why = "was changed by somebody else meanwhile: nothing was written, look at it and try again";
            return Err(Fatal::Config { file: self.path.clone(), why: why.into() });
        }
        let new = unfinished(&self.path);
        self.write(&new, text).map_err(|source| Fatal::Write { path: self.path.clone(), source })
    }

    fn write(&self, new: &Path, text: &str) -> io::Result<()> {
        // One that is there is this program's own, left by a power cut: the name is nobody else's.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new)?;
        let done = file
            .write_all(text.as_bytes())
            .and_then(|()| file.set_permissions(fs::Permissions::from_mode(self.mode)))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(new, &self.path));
        if done.is_err() {
            let _left = fs::remove_file(new);
        }
        done.and_then(|()| self.folder.sync_all())
    }
}

fn read(path: &Path) -> Result<String, Fatal> {
    let bytes = read_trusted(path, Secrecy::Public)?;
    let text = std::str::from_utf8(&bytes).map(str::to_owned);
    text.map_err(|_| Fatal::Config { file: path.to_owned(), why: "is not UTF-8 text".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_keeps_the_mode_goes_through_a_link_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("f.toml"), folder.path().join("link"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Editing::open(&link).unwrap().replace("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn two_commands_take_turns_and_a_change_from_elsewhere_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.toml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let editing = Editing::open(&path).unwrap();
        assert!(Editing::open(&path).unwrap_err().to_string().contains("another command"));
        fs::write(&path, "by hand").unwrap();
        assert!(editing.replace("new").unwrap_err().to_string().contains("meanwhile"));
        drop(editing);
        assert_eq!(fs::read_to_string(&path).unwrap(), "by hand");
        Editing::open(&path).unwrap();
    }
}
