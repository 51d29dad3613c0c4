//! Documents as files: read up to a limit, written once.

use keeper::exit::Fatal;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::Path;

/// Longest file that is read: more than any document of these kinds.
const MAX_FILE: u64 = 256 * 1024;

/// What cannot be done with a file.
pub(crate) fn fault(file: &Path, why: impl ToString) -> Fatal {
    Fatal::Config { file: file.to_owned(), why: why.to_string() }
}

/// Reads a document.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Fatal> {
    let unread = |e: io::Error| fault(file, format!("cannot be read: {e}"));
    let mut bytes = vec![];
    std::fs::File::open(file)
        .and_then(|opened| opened.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(unread)?;
    if bytes.len() as u64 > MAX_FILE { Err(fault(file, "is longer than 256 KiB")) } else { Ok(bytes) }
}

/// That a new file can have this name: asked before anybody touches a card for it.
pub(crate) fn is_new(file: &Path) -> Result<(), Fatal> {
    if file.symlink_metadata().is_ok() {
        return Err(fault(file, "is there already, and nothing is overwritten: name another file"));
    }
    Ok(())
}

/// Writes a new file, readable by its owner.
pub(crate) fn write(file: &Path, bytes: &[u8]) -> Result<(), Fatal> {
    let unwritten = |source| Fatal::Write { path: file.to_owned(), source };
    let mut opened = OpenOptions::new().write(true).create_new(true).open(file).map_err(unwritten)?;
    opened.write_all(bytes).and_then(|()| opened.sync_all()).map_err(unwritten)
}

/// Writes a line of a result.
pub(crate) fn print(text: &str) -> Result<(), Fatal> {
    let unwritten = |source| Fatal::Write { path: "standard output".into(), source };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(unwritten)
}

/// Shows a person what they are asked to sign.
pub(crate) fn tell(text: &str) -> Result<(), Fatal> {
    let unwritten = |source| Fatal::Write { path: "standard error".into(), source };
    writeln!(io::stderr(), "{}", text.trim_end()).map_err(unwritten)
}
