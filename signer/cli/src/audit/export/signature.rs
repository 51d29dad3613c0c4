//! The exporter's own signature: a signed note (C2SP signed-note) beside the manifest.
//!
//! The log's signature says that the entries are the log's. This one says who handed them out, and when by his own clock.
//! The key has the form of a witness's (C2SP tlog-cosignature, type 0x04), so the time is signed too. Its text is none of
//! a checkpoint: the first line is no name of a log, and the second is no size. So a signature of one kind is never one of
//! the other, even by a key that somebody has used for both.

use super::{MANIFEST, Manifest, small, wrong};
use crate::{
    audit::{AuditError, verify::time_text},
    witness::WitnessKey,
};
use record::Sha256;
use serde::Serialize;
use std::path::Path;
use tlog::{CosignerKey, Note};

/// The file.
pub(super) const SIGNATURE: &str = "manifest.note";
/// The first line of the text: what is signed, and in which form.
const PURPOSE: &str = "chancery.export-manifest/v1";

/// Who signs an export, and when.
pub(crate) struct Exporter<'a> {
    /// His key.
    pub(crate) key: &'a WitnessKey,
    /// Seconds since 1970.
    pub(crate) time_s: u64,
}

/// What is known of the exporter's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum ManifestSignature {
    /// There is none, and none was demanded.
    Absent,
    /// There is a file that may be one: no key was given to verify it with.
    NotChecked,
    /// It is over this manifest and by the key that was demanded.
    Verified {
        /// The key.
        signer: String,
        /// When, by the signer's clock.
        time: String,
    },
}

/// The signed note over a manifest.
pub(super) fn sign(bytes: &[u8], manifest: &Manifest, exporter: &Exporter<'_>) -> Result<String, AuditError> {
    let text = text(bytes, manifest);
    let line =
        exporter.key.cosign(&text, exporter.time_s).map_err(|e| AuditError::Export(api::chain_text(&e)))?;
    Ok(format!("{text}\n{line}\n"))
}

/// Demands the signature of `signer`, if there is one to demand. The manifest must be known to be of this log.
pub(super) fn verify(
    dir: &Path,
    bytes: &[u8],
    manifest: &Manifest,
    signer: Option<&CosignerKey>,
) -> Result<ManifestSignature, AuditError> {
    let path = dir.join(SIGNATURE);
    let exists = path.try_exists().map_err(|e| super::unreadable(&path, e))?;
    let Some(signer) = signer else {
        return Ok(if exists { ManifestSignature::NotChecked } else { ManifestSignature::Absent });
    };
    if !exists {
        return Err(wrong(format!("{SIGNATURE} is missing, and a signature by {signer} was demanded")));
    }
    let bad = |why: String| wrong(format!("{SIGNATURE}: {why}"));
    let note = String::from_utf8(small(&path)?).map_err(|_| bad("it is not UTF-8".into()))?;
    let note = Note::parse(&note).map_err(|e| bad(api::chain_text(&e)))?;
    if note.text() != text(bytes, manifest) {
        return Err(bad(format!("it is not over this {MANIFEST}")));
    }
    let time_s = note.cosigned_at(signer).map_err(|e| bad(api::chain_text(&e)))?;
    Ok(ManifestSignature::Verified { signer: signer.to_string(), time: time_text(time_s) })
}

/// What is signed: the purpose, the log, the entries and the manifest's own bytes.
fn text(bytes: &[u8], manifest: &Manifest) -> String {
    let Manifest { log, from, until, .. } = manifest;
    format!("{PURPOSE}\nlog {log}\nentries {from} {until}\nsha256 {}\n", Sha256::of(bytes))
}

#[cfg(test)]
mod tests;
