//! Backups of the service, and the database made anew from one.
//!
//! A backup is made while the daemon serves: rows of the log never change, so that the head is read once, and whatever
//! stands below it may be read at leisure. It takes no lock and stops no signature.

mod create;
mod restore;

pub use create::create;
pub use restore::restore;

use crate::fatal::Fatal;
use backup::BackupError;

/// What a fault of a backup means to the operator at hand.
fn fatal(error: BackupError) -> Fatal {
    let why = error.to_string();
    match error {
        BackupError::Wrong { .. } => Fatal::Verification {
            why,
            next: "use another backup; `chancery backup verify` says the same on any machine".into(),
        },
        BackupError::NoFolder { path } => Fatal::State {
            path,
            why: "there is no such folder".into(),
            next: "name the folder that a backup was written into".into(),
        },
        BackupError::Unfit { path, why } => Fatal::State {
            path,
            why: format!("it cannot take this backup: {why}"),
            next: "name a folder that is new, or that holds a backup of this log".into(),
        },
        BackupError::Read { path, .. } | BackupError::Write { path, .. } => {
            Fatal::Unavailable { what: format!("backup file {}", path.display()), why }
        }
    }
}
