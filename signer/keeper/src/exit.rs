//! Why a keeper ends, and with which exit code its supervisor learns it.
//!
//! | code | meaning | supervisor |
//! |---|---|---|
//! | 0 | asked to end | |
//! | 70 | the token or its library does not work | starts it again |
//! | 71 | the socket, or what the process itself needs of the system, cannot be had | starts it again |
//! | 74 | a read, write or sync of durable state failed | must not restart |
//! | 75 | a token call exceeded its deadline, or another keeper still holds the state | starts it again |
//! | 78 | configuration, durable state, PIN or key is not as it must be | must not restart |
//!
//! It promises that a process which cannot write its state does nothing else any more. It does not know what the
//! state means.

use record::PivSlot;
use std::{io, path::PathBuf};

/// A reason to end the process. No caller may go on after one.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The configuration, the charter or a file that they name cannot be used.
    #[error("{file}: {why}", file = file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong with which key of it.
        why: String,
    },
    /// Durable state is missing, damaged, or stands where none may be.
    #[error("{path}: {why}; {next}", path = path.display())]
    State {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What an operator does about it.
        next: String,
    },
    /// Another process holds the state.
    #[error("{path}: another keeper is using it; only one process may hold this state", path = path.display())]
    Held {
        /// The folder.
        path: PathBuf,
    },
    /// Durable state could not be read. The disk is not to be trusted until somebody has looked at it.
    #[error("{path}: cannot be read; check the disk before starting the keeper again", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Durable state could not be written or synced. What of it reached the disk is not known before the next start.
    #[error("{path}: cannot be written; check the disk before starting the keeper again", path = path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The socket cannot be bound or used.
    #[error("socket {path}: {why}", path = path.display())]
    Socket {
        /// The socket's path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The operating system refused what the process itself needs.
    #[error("{what}")]
    Process {
        /// What cannot be had.
        what: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The PIN must not be tried, or was tried and refused.
    #[error(
        "token {token:?}: {why}; no further try is made: correct the PIN's source, then start the keeper"
    )]
    Pin {
        /// The token's label.
        token: String,
        /// What the token said.
        why: String,
    },
    /// A key is not what the configuration pins, or lacks an attribute that hardware keys must have.
    #[error("token {token:?}, key with CKA_ID {cka_id}: {why}")]
    Key {
        /// The token's label.
        token: String,
        /// The key's `CKA_ID` in hex.
        cka_id: String,
        /// What is wrong.
        why: String,
    },
    /// A key on a YubiKey is not what the configuration pins, or proves less than it must.
    #[error("YubiKey {serial}, slot {slot}: {why}")]
    PivKey {
        /// The card's serial number.
        serial: u32,
        /// The slot.
        slot: PivSlot,
        /// What is wrong.
        why: String,
    },
    /// The token or its library does not work.
    #[error("token {token:?}: {why}")]
    Token {
        /// The token's label.
        token: String,
        /// What failed.
        why: String,
    },
    /// A token call did not return in time. Whether a signature was made is not known.
    #[error(
        "token call {call} did not return within {deadline_ms} ms; the process ends so that no later call can hang"
    )]
    Hang {
        /// Which call.
        call: &'static str,
        /// The configured deadline.
        deadline_ms: u64,
    },
}

impl Fatal {
    /// The process exit code of this reason.
    pub fn code(&self) -> u8 {
        match self {
            Self::Token { .. } => 70,
            Self::Socket { .. } | Self::Process { .. } => 71,
            Self::Read { .. } | Self::Write { .. } => 74,
            Self::Held { .. } | Self::Hang { .. } => 75,
            Self::Config { .. }
            | Self::State { .. }
            | Self::Pin { .. }
            | Self::Key { .. }
            | Self::PivKey { .. } => 78,
        }
    }

    /// Ends the process at once: no destructor or exit handler runs, nothing more is written to the state.
    pub fn end(&self) -> ! {
        match std::error::Error::source(self) {
            Some(source) => tracing::error!(code = self.code(), %source, "{self}"),
            None => tracing::error!(code = self.code(), "{self}"),
        }
        end(self.code())
    }
}

/// Ends the process with `code`, whatever its threads and libraries are doing: `_exit`, without exit handlers. Those of
/// a vendor's library may hang or crash while a worker is inside it, and a process that dies of a signal is started
/// again, also where its code would have forbidden that: a wrong PIN would be tried until it locks.
pub(crate) fn end(code: u8) -> ! {
    signal_hook::low_level::exit(code.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_state_stop_the_supervisor_and_failures_of_hardware_do_not() {
        let io = || io::Error::from_raw_os_error(5);
        let path = PathBuf::from("/s/x");
        assert_eq!(Fatal::Write { path: path.clone(), source: io() }.code(), 74);
        assert_eq!(Fatal::State { path: path.clone(), why: "w".into(), next: "n".into() }.code(), 78);
        assert_eq!(Fatal::Pin { token: "t".into(), why: "w".into() }.code(), 78);
        assert_eq!(Fatal::Hang { call: "C_Sign", deadline_ms: 1 }.code(), 75);
        assert_eq!(Fatal::Held { path }.code(), 75);
        assert_eq!(Fatal::Process { what: "w", source: io() }.code(), 71);
        assert_eq!(Fatal::Token { token: "t".into(), why: "w".into() }.code(), 70);
    }
}
