//! Reading a verified backup for a restore: leaves with their payloads, in order, and the requests.

use crate::{
    BackupError, Manifest, RequestRow,
    fault::wrong,
    files::Files,
    payloads::Payloads,
    verify::{requests, tail},
};
use record::Leaf;
use std::{path::Path, rc::Rc};
use tlog::{TILE_WIDTH, TilePath, decode_bundle};

/// A leaf as a restore needs it.
#[derive(Debug)]
pub struct BackedLeaf {
    /// What it says.
    pub leaf: Leaf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// For an intent: the bytes that were to be signed.
    pub payload: Option<Vec<u8>>,
}

/// The contents of a backup. Every file is hashed again as it is read: it may have changed since it was verified.
pub struct Contents<'a> {
    manifest: &'a Manifest,
    files: Rc<Files>,
    payloads: Payloads,
    next: u64,
}

impl<'a> Contents<'a> {
    /// Of the backup in `dir`, which has this manifest.
    pub fn new(dir: &Path, manifest: &'a Manifest) -> Self {
        let files = Rc::new(Files::new(dir, manifest));
        Self { manifest, payloads: Payloads::new(files.clone(), manifest.leaves), files, next: 0 }
    }

    /// The requests.
    pub fn requests(
        &self,
    ) -> Result<impl Iterator<Item = Result<RequestRow, BackupError>> + use<>, BackupError> {
        requests(&self.files, self.manifest)
    }

    /// The next leaves, a bundle of them or those behind the note; none at the end.
    pub fn next_leaves(&mut self) -> Result<Vec<BackedLeaf>, BackupError> {
        let (size, leaves) = (self.manifest.size, self.manifest.leaves);
        let entries = if self.next < size {
            self.bundle(self.next / TILE_WIDTH, (size - self.next).min(TILE_WIDTH))?
        } else if self.next < leaves {
            tail(&self.files, self.manifest)?
        } else {
            self.payloads.finish()?;
            Vec::new()
        };
        entries.into_iter().map(|bytes| self.leaf(bytes)).collect()
    }

    fn bundle(&self, bundle: u64, width: u64) -> Result<Vec<Vec<u8>>, BackupError> {
        let path = TilePath::entries(bundle, width).map_err(|e| wrong("the manifest", e))?.to_string();
        let most = self.files.named(&path)?.bytes;
        let bytes = self.files.read(&path, most)?.unwrap_or_default();
        decode_bundle(&bytes).map_err(|e| wrong(path, e))
    }

    fn leaf(&mut self, bytes: Vec<u8>) -> Result<BackedLeaf, BackupError> {
        let index = self.next;
        self.next += 1;
        let leaf = Leaf::decode(&bytes).map_err(|e| wrong(format!("entry {index}"), e))?;
        let payload = self.payloads.of(index, &leaf)?;
        Ok(BackedLeaf { leaf, bytes, payload })
    }
}
