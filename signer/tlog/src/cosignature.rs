//! Cosignatures (C2SP tlog-cosignature, cosignature/v1): a witness's word that it has seen a checkpoint at some time, and
//! never one that contradicts it.
//!
//! In a note's signature line it is eight bytes of time, big-endian, and an Ed25519 signature over time and text. Does not
//! know a clock: whoever cosigns says when.

use crate::{CosignerKey, Note, NoteError, NoteSignature};

/// How many bytes of a cosignature say when.
const TIME_LEN: usize = 8;

/// The bytes that a witness signs: `text` is a checkpoint's, with its final newline; the time is in seconds since 1970.
pub fn cosigned_message(time_s: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}

/// The signature line of a cosignature. It is verified first, so that a token's wrong answer never becomes one.
pub fn cosignature_line(
    text: &str,
    key: &CosignerKey,
    time_s: u64,
    signature: &[u8; 64],
) -> Result<NoteSignature, NoteError> {
    let sig = [time_s.to_be_bytes().as_slice(), signature].concat();
    match verified_time(text, key, &sig) {
        Some(_) => Ok(NoteSignature { name: key.name().to_owned(), id: key.key_id(), sig }),
        None => Err(NoteError::BadSignature { vkey: key.to_string() }),
    }
}

impl Note {
    /// Verifies that `key` cosigned the text, and says when: the latest time, if it did so more than once. As with
    /// [`verify`](Self::verify), a line of this key that does not verify makes the whole note worthless.
    pub fn cosigned_at(&self, key: &CosignerKey) -> Result<u64, NoteError> {
        let times = self.each_by(key, |signature| verified_time(self.text(), key, signature))?;
        Ok(times.into_iter().max().unwrap_or_default())
    }
}

/// The time in a cosignature that is this key's over the text.
fn verified_time(text: &str, key: &CosignerKey, sig: &[u8]) -> Option<u64> {
    let (time, signature) = sig.split_first_chunk::<TIME_LEN>()?;
    let time_s = u64::from_be_bytes(*time);
    key.verifies(cosigned_message(time_s, text).as_bytes(), signature).then_some(time_s)
}
