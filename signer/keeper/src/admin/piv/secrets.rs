//! The secrets of a card, each in a file of its own that nobody but its owner can read.
//!
//! It promises: a secret that is made here is on disk before a card gets it, so that no interruption can leave a card with
//! one that nobody knows; none is printed or named on a command line. A file that is there is read and never written.

use crate::admin::unfinished;
use crate::config::{Secrecy, read_trusted};
use crate::exit::Fatal;
use crate::token::Pin;
use crate::token::piv::{FACTORY_MANAGEMENT_KEY, FACTORY_PIN, FACTORY_PUK, NEW_MANAGEMENT_KEY};
use std::cell::OnceCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Digits of a PIN or PUK that is made here: as many as fit.
const DIGITS: usize = 8;
/// Lengths of management keys: AES-128, 3DES and AES-192, AES-256.
const KEY_LENGTHS: [usize; 3] = [16, 24, 32];

/// A secret's bytes, wiped when dropped.
pub(super) type Bytes = Zeroizing<Vec<u8>>;

/// Which secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pin,
    Puk,
    ManagementKey,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pin => "PIN",
            Self::Puk => "PUK",
            Self::ManagementKey => "management key",
        }
    }

    /// The options that name its files: of the present one, and of the one that the card gets.
    pub(super) fn options(self) -> (&'static str, &'static str) {
        match self {
            Self::Pin => ("--pin-file", "--new-pin-file"),
            Self::Puk => ("--puk-file", "--new-puk-file"),
            Self::ManagementKey => ("--management-key-file", "--new-management-key-file"),
        }
    }

    /// The value of a card from the factory.
    pub(super) fn factory(self) -> Bytes {
        let value = match self {
            Self::Pin => FACTORY_PIN,
            Self::Puk => FACTORY_PUK,
            Self::ManagementKey => &FACTORY_MANAGEMENT_KEY,
        };
        Zeroizing::new(value.to_vec())
    }

    /// Reads one from its file.
    pub(super) fn read(self, file: &Path) -> Result<Bytes, Fatal> {
        let fault = |why: &str| Fatal::Config { file: file.to_owned(), why: why.into() };
        if self == Self::ManagementKey {
            let text = read_trusted(file, Secrecy::Secret)?;
            return key(&text)
                .ok_or_else(|| fault("must hold the management key in one line of 32, 48 or 64 hex digits"));
        }
        let pin = Pin::from_file(file)?;
        let bytes =
            pin.piv().ok_or_else(|| fault("must hold 6 to 8 bytes, as PINs and PUKs of cards have"))?;
        Ok(Zeroizing::new(bytes.to_vec()))
    }

    /// A random one, as the text of its file.
    fn random(self) -> io::Result<Zeroizing<String>> {
        let mut bytes = Zeroizing::new([0u8; NEW_MANAGEMENT_KEY]);
        let mut text = Zeroizing::new(String::with_capacity(2 * NEW_MANAGEMENT_KEY + 1));
        loop {
            getrandom::fill(bytes.as_mut()).map_err(io::Error::other)?;
            if self == Self::ManagementKey {
                let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
                text.extend(digits.filter_map(|digit| char::from_digit(digit.into(), 16)));
                return Ok(text);
            }
            // Each digit as likely as any other: the last six values of a byte are left out.
            let digits = bytes.iter().filter(|byte| **byte < 250).map(|byte| char::from(b'0' + byte % 10));
            text.extend(digits.take(DIGITS));
            if text.len() == DIGITS && text.as_bytes() != self.factory().as_slice() {
                return Ok(text);
            }
            text.clear();
        }
    }
}

/// The secret that a card gets.
pub(super) struct New {
    pub(super) kind: Kind,
    pub(super) file: PathBuf,
    /// What the file holds, if it was there before the command.
    pub(super) existing: Option<Bytes>,
    /// What this command has put into it.
    made: OnceCell<Bytes>,
}

impl New {
    /// Reads the file, if it is there.
    pub(super) fn at(kind: Kind, file: &Path) -> Result<Self, Fatal> {
        let there = fs::symlink_metadata(file).is_ok();
        let existing = if there { Some(kind.read(file)?) } else { None };
        let fault = |why: String| Err(Fatal::Config { file: file.to_owned(), why });
        if existing.as_ref().is_some_and(|value| **value == *kind.factory()) {
            return fault(format!(
                "holds the {} of cards from the factory, which everybody knows",
                kind.name()
            ));
        }
        if kind == Kind::ManagementKey && existing.as_ref().is_some_and(|key| key.len() != NEW_MANAGEMENT_KEY)
        {
            return fault("must hold 48 hex digits: a new management key is one for AES-192 or 3DES".into());
        }
        Ok(Self { kind, file: file.to_owned(), existing, made: OnceCell::new() })
    }

    /// The secret; a random one that is on disk now, where there was none.
    pub(super) fn value(&self) -> Result<Bytes, Fatal> {
        if let Some(value) = self.existing.as_ref().or(self.made.get()) {
            return Ok(value.clone());
        }
        let unwritten = |source| Fatal::Write { path: self.file.clone(), source };
        let text = self.kind.random().map_err(unwritten)?;
        write(&self.file, &text).map_err(unwritten)?;
        let value = self.kind.read(&self.file)?;
        Ok(self.made.get_or_init(|| value).clone())
    }
}

/// All of the file or none, and on disk; never in the place of another.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = unfinished(path);
    // One that is there is this program's own, left by a power cut: the name is nobody else's.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&new, path));
    fs::remove_file(&new)?;
    written?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn key(text: &[u8]) -> Option<Bytes> {
    let digits = text.trim_ascii_end();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes = digits.chunks(2).map(pair).collect::<Option<Vec<u8>>>().map(Zeroizing::new)?;
    KEY_LENGTHS.contains(&bytes.len()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_made_once_in_a_closed_file_and_read_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        for (kind, length) in [(Kind::Pin, 8), (Kind::Puk, 8), (Kind::ManagementKey, 24)] {
            let file = folder.path().join(kind.name());
            let new = New::at(kind, &file).unwrap();
            assert!(new.existing.is_none() && !file.exists());
            let made = new.value().unwrap();
            assert_eq!((made.len(), new.value().unwrap()), (length, made.clone()), "the same each time");
            assert!(write(&file, "another").is_err());
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            let again = New::at(kind, &file).unwrap();
            assert_eq!(again.existing.as_ref(), Some(&made));
            assert_eq!(again.value().unwrap(), made);
            assert_ne!(New::at(kind, &folder.path().join("other")).unwrap().value().unwrap(), made);
            fs::remove_file(folder.path().join("other")).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_secret_that_everybody_knows_or_no_card_takes_is_refused_by_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let fault = |kind, text: &str| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            New::at(kind, &file).err().unwrap().to_string()
        };
        for (kind, text, word) in [
            (Kind::Pin, "123456\n", "factory"),
            (Kind::Puk, "12345678\n", "factory"),
            (Kind::ManagementKey, "010203040506070801020304050607080102030405060708", "factory"),
            (Kind::Pin, "12345", "6 to 8"),
            (Kind::Puk, "123456789", "6 to 8"),
            (Kind::ManagementKey, "0102", "hex digits"),
            (Kind::ManagementKey, &"x".repeat(48), "hex digits"),
            (Kind::ManagementKey, &"0".repeat(47), "hex digits"),
            (Kind::ManagementKey, &"a".repeat(64), "48 hex digits"),
        ] {
            let said = fault(kind, text);
            assert!(said.contains(word) && said.contains("secret") && !said.contains(text.trim()), "{said}");
        }
    }
}
