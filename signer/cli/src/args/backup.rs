//! The grammar of `chancery backup`.

use super::{Forward, LogKey};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Write a backup, also while the daemon serves (runs chanceryd backup create)
    Create(Forward),
    /// Verify a backup with its files and the log's key alone: every hash, leaf and payload, and the signed root
    Verify(BackupVerifyArgs),
    /// Make the database anew from a backup, in an empty data folder (runs chanceryd backup restore)
    Restore(Forward),
}

#[derive(Debug, Args)]
pub(crate) struct BackupVerifyArgs {
    /// The backup's folder
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) key: LogKey,
}
