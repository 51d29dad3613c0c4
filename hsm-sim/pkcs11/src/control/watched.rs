//! A file of the control folder that others replace: parsed anew when it is another one.

use super::error::ControlError;
use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// More than any set of rules, and a bound for what is parsed at a call.
pub(crate) const MAX_BYTES: u64 = 1024 * 1024;

/// The last version that was parsed. A file that is not there counts as empty.
pub(crate) struct Watched<T> {
    path: PathBuf,
    parse: fn(&Path, &str) -> Result<T, ControlError>,
    /// Kept open: as long as it is, no newer file can have its inode number.
    seen: Option<(Option<File>, Stamp)>,
    value: T,
}

#[derive(PartialEq, Eq, Default)]
struct Stamp([i64; 5]);

impl<T> Watched<T> {
    /// Nothing is read yet; `empty` stands for a file that is not there.
    pub(crate) fn new(path: PathBuf, empty: T, parse: fn(&Path, &str) -> Result<T, ControlError>) -> Self {
        Self { path, parse, seen: None, value: empty }
    }

    /// What the file says now. A broken file is an error at each call until it is replaced.
    pub(crate) fn current(&mut self) -> Result<&T, ControlError> {
        let (file, stamp) = self.open()?;
        if self.seen.as_ref().is_none_or(|(_, seen)| *seen != stamp) {
            self.seen = None;
            let text = file.as_ref().map_or(Ok(String::new()), |file| self.read(file))?;
            self.value = (self.parse)(&self.path, &text)?;
            self.seen = Some((file, stamp));
        }
        Ok(&self.value)
    }

    fn open(&self) -> Result<(Option<File>, Stamp), ControlError> {
        let unreadable = |source| ControlError::file("read it", &self.path)(source);
        match File::open(&self.path) {
            Ok(file) => {
                let stamp = file.metadata().map(|found| Stamp::of(&found)).map_err(unreadable)?;
                Ok((Some(file), stamp))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((None, Stamp::default())),
            Err(error) => Err(unreadable(error)),
        }
    }

    fn read(&self, file: &File) -> Result<String, ControlError> {
        let mut text = String::new();
        let length = file.take(MAX_BYTES + 1).read_to_string(&mut text);
        let length = length.map_err(ControlError::file("read it as UTF-8", &self.path))?;
        if length as u64 > MAX_BYTES {
            return Err(ControlError::TooLarge { path: self.path.clone(), limit: MAX_BYTES });
        }
        Ok(text)
    }
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        let number = |value: u64| value.cast_signed();
        Self([
            number(found.dev()),
            number(found.ino()),
            number(found.size()),
            found.mtime(),
            found.mtime_nsec(),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, Watched};
    use crate::control::error::ControlError;
    use std::{fs, path::Path};

    #[expect(clippy::unnecessary_wraps, reason = "the form of a parser")]
    fn text(_: &Path, text: &str) -> Result<String, ControlError> {
        Ok(text.to_owned())
    }

    #[test]
    fn every_replacement_is_noticed_even_at_once_and_of_the_same_size() {
        let dir = tempfile::tempdir().unwrap();
        let (path, new) = (dir.path().join("file"), dir.path().join("new"));
        let mut watched = Watched::new(path.clone(), String::new(), text);
        assert_eq!(watched.current().unwrap(), "");
        for n in 100..400 {
            fs::write(&new, n.to_string()).unwrap();
            fs::rename(&new, &path).unwrap();
            assert_eq!(*watched.current().unwrap(), n.to_string());
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(watched.current().unwrap(), "");
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused_at_each_call() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, vec![b' '; usize::try_from(MAX_BYTES).unwrap() + 1]).unwrap();
        let mut watched = Watched::new(path, String::new(), text);
        for _ in 0..2 {
            assert!(matches!(watched.current(), Err(ControlError::TooLarge { .. })));
        }
    }
}
