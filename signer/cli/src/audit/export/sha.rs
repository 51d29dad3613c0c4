//! A writer that knows the SHA-256 of what went through it.

use record::{Sha256, Sha256Stream};
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

/// Passes bytes on, and counts and hashes them.
pub(super) struct Counted<W> {
    inner: W,
    hash: Sha256Stream,
    pub(super) bytes: u64,
}

impl<W: Write> Counted<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256Stream::default(), bytes: 0 }
    }

    pub(super) fn sha256(&self) -> Sha256 {
        self.hash.clone().finish()
    }

    pub(super) fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The hash and length of a file.
pub(super) fn of_file(path: &Path) -> io::Result<Counted<io::Sink>> {
    let mut counted = Counted::new(io::sink());
    io::copy(&mut File::open(path)?, &mut counted)?;
    Ok(counted)
}
