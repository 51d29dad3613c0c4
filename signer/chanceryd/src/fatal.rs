//! Errors that end the process, and the exit code each one has.

use std::path::PathBuf;

/// Why the daemon cannot start or go on. `Display` says what, why and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The configuration cannot be used. Exit code 78.
    #[error("configuration {}: {why}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// State on disk is missing, damaged, or contradicts another part. Exit code 78: a restart does not help.
    #[error("{}: {why}\n  next: {next}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What an operator can do.
        next: String,
    },
    /// Reading or writing state failed: what is on the disk is not known. Exit code 74: a restart does not help.
    #[error("{}: {why}\n  next: check the disk; then run `chancery unseal --config FILE`, which reads everything anew", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What failed.
        why: String,
    },
    /// Two parts of the state contradict each other: it is damaged. Exit code 78: a restart does not help.
    #[error("{}: {why}\n  next: run `chancery unseal --config FILE`: it reads everything anew and says what holds it a second time", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// What contradicts what.
        why: String,
    },
    /// Another daemon has this state, perhaps one that is about to end. Exit code 75.
    #[error("{}: another chanceryd is running on this folder\n  next: stop it, or use another data folder", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Files that were to be relied on are not what they should be. Exit code 10, as of the command line's verifications.
    #[error("{why}\n  next: {next}")]
    Verification {
        /// What is wrong, and where.
        why: String,
        /// What an operator can do.
        next: String,
    },
    /// Something outside cannot be used now: a socket, a keeper, an address. Exit code 69.
    #[error("{what}: {why}")]
    Unavailable {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
}

impl Fatal {
    /// The exit code: a supervisor must not restart after 74 and 78, which need a human; 69 and 75 may go away by themselves.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config { .. } | Self::State { .. } | Self::Contradiction { .. } => 78,
            Self::Disk { .. } => 74,
            Self::Locked { .. } => 75,
            Self::Verification { .. } => 10,
            Self::Unavailable { .. } => 69,
        }
    }
}
