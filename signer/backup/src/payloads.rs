//! Payload files: for each intent among 256 leaves, in order, the bytes that were to be signed after their length in four
//! bytes, big-endian. A file of leaves without an intent is empty.

use crate::{BackupError, MAX_PAYLOAD_BYTES, fault::wrong, files::Files, layout::payload_path};
use record::{Intent, Leaf, Sha256, Sha256Stream};
use std::{
    fs::File,
    io::{self, BufReader, Read},
    rc::Rc,
};
use tlog::TILE_WIDTH;

/// Gives the payloads of a backup in the order of its leaves, each one the right one.
pub(crate) struct Payloads {
    files: Rc<Files>,
    leaves: u64,
    open: Option<Open>,
}

/// The file of the leaves at hand.
struct Open {
    path: String,
    bundle: u64,
    reader: BufReader<File>,
    hash: Sha256Stream,
    bytes: u64,
}

impl Payloads {
    pub(crate) fn new(files: Rc<Files>, leaves: u64) -> Self {
        Self { files, leaves, open: None }
    }

    /// Takes the leaves in order; for an intent, gives its payload.
    pub(crate) fn of(&mut self, index: u64, leaf: &Leaf) -> Result<Option<Vec<u8>>, BackupError> {
        let bundle = index / TILE_WIDTH;
        if self.open.as_ref().is_none_or(|open| open.bundle != bundle) {
            self.finish()?;
            let width = (self.leaves - bundle * TILE_WIDTH).min(TILE_WIDTH);
            self.open = Some(Open::at(&self.files, bundle, payload_path(bundle, width))?);
        }
        match (leaf, &mut self.open) {
            (Leaf::Intent(intent), Some(open)) => open.next(index, intent).map(Some),
            _ => Ok(None),
        }
    }

    /// Demands that the file at hand has ended, and is the one that the manifest names.
    pub(crate) fn finish(&mut self) -> Result<(), BackupError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let mut rest = [0; 1];
        if open.read(&mut rest)? != 0 {
            return Err(wrong(open.path, "it goes on behind the payload of its last intent"));
        }
        self.files.demand(&open.path, open.hash, open.bytes)
    }
}

impl Open {
    fn at(files: &Files, bundle: u64, path: String) -> Result<Self, BackupError> {
        let reader = BufReader::new(files.open(&path)?);
        Ok(Self { path, bundle, reader, hash: Sha256Stream::default(), bytes: 0 })
    }

    fn next(&mut self, index: u64, intent: &Intent) -> Result<Vec<u8>, BackupError> {
        let missing = |path: &str| wrong(path, format!("the payload of entry {index} is missing"));
        let mut length = [0; 4];
        if self.read(&mut length)? < length.len() {
            return Err(missing(&self.path));
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD_BYTES {
            return Err(wrong(
                &self.path,
                format!("no payload has {length} bytes, as that of entry {index} would"),
            ));
        }
        let mut payload = vec![0; length];
        if self.read(&mut payload)? < length {
            return Err(missing(&self.path));
        }
        if Sha256::of(&payload) != intent.payload {
            return Err(wrong(
                &self.path,
                format!("the payload of entry {index} is not the one that the intent names"),
            ));
        }
        Ok(payload)
    }

    /// Fills the buffer as far as the file goes.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, BackupError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(BackupError::Read { path: (&self.path).into(), source: e }),
            }
        }
        self.hash.update(buffer.get(..filled).unwrap_or_default());
        self.bytes += filled as u64;
        Ok(filled)
    }
}
