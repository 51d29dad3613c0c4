//! Folders and files of a token, closed to others, and PINs for them.

use crate::Error;
use std::{
    fs::{DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// SoftHSM reads `softhsm2.conf` by lines of at most 1023 bytes and cuts longer ones silently; the key needs some.
const MAX_FOLDER_BYTES: usize = 900;
/// PKCS#11's `CK_TOKEN_INFO.label` is a field of 32 bytes.
const MAX_LABEL_BYTES: usize = 32;

/// Makes the folder, with those above it; its absolute name.
pub(crate) fn make_folder(dir: &Path) -> Result<PathBuf, Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::file("make the folder", dir))?;
    let dir = dir.canonicalize().map_err(Error::file("resolve the folder", dir))?;
    match folder_fault(&dir) {
        None => Ok(dir),
        Some(why) => Err(Error::Folder { path: dir, why }),
    }
}

/// Modules' configurations know little quoting, each another one. SoftHSM's has none: `#` opens a comment, a second `=` ends
/// the value, outer blanks are cut.
fn folder_fault(dir: &Path) -> Option<&'static str> {
    let Some(text) = dir.to_str() else { return Some("is not UTF-8") };
    if text.len() > MAX_FOLDER_BYTES {
        return Some("is longer than 900 bytes, which SoftHSM would cut");
    }
    let splits = |c: char| matches!(c, '#' | '=' | '\'' | '"' | '\\') || c.is_control();
    text.contains(splits).then_some(
        "has a '#', a '=', a quote, a backslash or a control character, which a module would misread",
    )
}

/// Makes a file that only its owner can read. Refuses one that is there.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match opened {
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(Error::file("write the file", path)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::Occupied { path: path.to_owned() })
        }
        Err(error) => Err(Error::file("make the file", path)(error)),
    }
}

/// 16 hex digits: 64 bits, within every token's limits for a PIN.
pub(crate) fn random_pin() -> Result<String, Error> {
    getrandom::u64().map(|pin| format!("{pin:016x}")).map_err(Error::Random)
}

pub(crate) fn check_label(label: &str) -> Result<(), Error> {
    let fits = (1..=MAX_LABEL_BYTES).contains(&label.len())
        && !label.starts_with('-')
        && !label.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(Error::Label { label: label.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::{check_label, folder_fault};
    use std::path::Path;

    #[test]
    fn folders_that_a_module_would_misread_are_refused() {
        for bad in ["/tmp/a#b", "/tmp/a=b", "/tmp/a'b", "/tmp/a\nb", &format!("/tmp/{}", "x".repeat(900))] {
            assert!(folder_fault(Path::new(bad)).is_some(), "{bad}");
        }
        assert_eq!(folder_fault(Path::new("/tmp/with blank/é")), None);
    }

    #[test]
    fn labels_are_what_a_token_can_hold() {
        for bad in ["", "--pin", "a\nb", &"x".repeat(33)] {
            assert!(check_label(bad).is_err(), "{bad}");
        }
        for good in ["t", &"x".repeat(32), "log key"] {
            assert!(check_label(good).is_ok(), "{good}");
        }
    }
}
