//! Signed entry timestamps (SETs) on demand: one at a time at the log keeper, and none twice while it is remembered.
//!
//! They are remembered for as long as one lease of the log keeper's lasts: under the next one its SET key may be another.

use super::{Log, Work};
use formats::sigstore::SignedEntryTimestamp;
use record::Completion;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// Timestamps that are remembered: about 1 KiB each. Then all are forgotten, and each costs a signature of the log's token again.
const REMEMBERED: usize = 4096;

/// Codes of a token's trouble that ends by itself, or with the token's return. Any other waits for its operator.
const PASSING: [&str; 3] = ["token-busy", "token-gone", "token-session"];

/// Why there is no timestamp.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum TimestampError {
    /// The log keeper has no key for them.
    #[error(
        "this log gives no entry timestamps: its keeper has no [set_key]; use the Sigstore bundle, or ask for a SET key"
    )]
    NoKey,
    /// The log keeper is away, or the daemon is sealed: the same call can succeed later.
    #[error("the log keeper gives no entry timestamp now: {0}")]
    Unavailable(String),
    /// The token did not sign with the SET key.
    #[error(
        "the SET key's token did not sign ({code}): {detail}; the log keeper's log and `chancery-keeper doctor` have more"
    )]
    Token {
        /// The keeper's code.
        code: String,
        /// The keeper's words.
        detail: String,
    },
    /// The keeper refuses this entry.
    #[error("the log keeper refuses a timestamp of this entry ({code}): {detail}")]
    Refused {
        /// The keeper's code.
        code: String,
        /// The keeper's words.
        detail: String,
    },
}

impl TimestampError {
    /// Whether the same call can succeed later before somebody has done something about it.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::NoKey | Self::Refused { .. } => false,
            Self::Unavailable(_) => true,
            Self::Token { code, .. } => PASSING.contains(&code.as_str()),
        }
    }
}

/// What was given, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Timestamps {
    given: Mutex<HashMap<u64, SignedEntryTimestamp>>,
    turn: tokio::sync::Mutex<()>,
}

impl Log {
    /// The timestamp of a completion of the log: one that was given before, or a new one by the keeper's clock.
    pub(crate) async fn timestamp(
        &self,
        index: u64,
        completion: Completion,
    ) -> Result<SignedEntryTimestamp, TimestampError> {
        if let Some(given) = self.timestamps.given(index) {
            return Ok(given);
        }
        let _turn = self.timestamps.turn.lock().await;
        // Whoever had the turn before may have asked for the same.
        if let Some(given) = self.timestamps.given(index) {
            return Ok(given);
        }
        let stopping = || TimestampError::Unavailable("the daemon is stopping".into());
        let (reply, answer) = oneshot::channel();
        let work = Work::Timestamp { index, completion: Box::new(completion), reply };
        self.work.send(work).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

impl Timestamps {
    fn given(&self, index: u64) -> Option<SignedEntryTimestamp> {
        self.lock().get(&index).cloned()
    }

    /// For the sequencer alone: whoever remembers must know under which lease it was given.
    pub(super) fn remember(&self, index: u64, set: &SignedEntryTimestamp) {
        let mut given = self.lock();
        if given.len() >= REMEMBERED {
            given.clear();
        }
        given.insert(index, set.clone());
    }

    /// A lease has begun.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, SignedEntryTimestamp>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_an_operator_can_mend_is_not_to_be_asked_again_and_names_the_set_key() {
        let token = |code: &str| TimestampError::Token { code: code.into(), detail: "CKR".into() };
        for (code, temporary) in [
            ("token-busy", true),
            ("token-gone", true),
            ("token-session", true),
            ("token-quarantined", false),
            ("token-wrong", false),
            ("token-refused", false),
            ("token-pin", false),
        ] {
            let error = token(code);
            assert_eq!(error.is_temporary(), temporary, "{code}");
            let text = error.to_string();
            assert!(text.contains("SET key's token") && !text.contains("log key"), "{text}");
        }
        assert!(TimestampError::Unavailable("away".into()).is_temporary());
    }
}
