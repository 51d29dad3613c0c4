//! One walk over a whole log, from its published files alone: what every command that speaks about the whole log does.

use super::{
    AuditError, LogSource, ReadError,
    ends::{Ends, Step},
    trust::{Accepted, Trust},
};
use tlog::VerifyError;

/// A log whose hashes, root and note are right, and what its entries say.
pub(crate) struct Walked {
    pub(crate) accepted: Accepted,
    pub(crate) ends: Ends,
}

/// Verifies everything that `source` publishes. `visit` sees every entry in order; what it collects counts only once this
/// has returned.
pub(crate) fn walk(
    source: &LogSource,
    trust: &Trust,
    mut visit: impl FnMut(u64, &[u8], Step),
) -> Result<Walked, AuditError> {
    let mut ends = Ends::new(trust.key.name(), trust.key.to_string());
    let mut note = Vec::new();
    let read = |path: &str| {
        if path == "checkpoint" {
            note = source.checkpoint()?;
            return Ok(Some(note.clone()));
        }
        source.read(path)
    };
    tlog::verify_log(read, &trust.key, |index, bytes| {
        let step = ends.entry(index, bytes);
        visit(index, bytes, step);
    })
    .map_err(altered)?;
    let accepted = trust.accept(&String::from_utf8_lossy(&note))?;
    Ok(Walked { accepted, ends })
}

fn altered(error: VerifyError<ReadError>) -> AuditError {
    match error {
        VerifyError::Read { source, .. } => AuditError::Read(source),
        other => AuditError::Log(api::chain_text(&other)),
    }
}
