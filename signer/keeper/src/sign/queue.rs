//! The way to the token: reserved items in the order of their reservation, one worker a session.
//!
//! It promises that nothing reaches a key without the proof that its reservation is durable, that an item which waited
//! too long is not signed, and that one which a busy or absent token did not sign waits for it no longer than that. It does not know why an item was accepted, or who waits for it.

use super::journal::Durable;
use super::refusal::Code;
use super::state::MAX_OPEN;
use super::validate::Checked;
use crate::exit::Fatal;
use crate::server::{Stop, Work};
use crate::token::{Key, Token, TokenError, TouchWait};
use record::wire::SignResult;
use record::{Clock, KeyId, Sha256, SignedData, Time};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long after its reservation an item may still be signed: longer than any queue of a working token, shorter than
/// the pause of a virtual machine that was moved or suspended.
const SIGN_WITHIN_MS: i64 = 60_000;

/// Pause before a busy token is asked again for the same item: first, and at most. A token that is away is left alone
/// for longer by itself.
const BUSY_PAUSE_MS: (u64, u64) = (100, 2_000);

/// One signature to make.
#[derive(Debug)]
pub(super) struct Job {
    index: u64,
    key: KeyId,
    data: SignedData,
    reserved_at: Time,
    work: Work,
}

impl Job {
    /// A job for an item whose reservation is on the disk.
    // INVARIANT(log-before-key): there is no way to a key but through a `Job`, and none to a `Job` but with `Durable`.
    pub(super) fn new(checked: &Checked, reserved_at: Time, _reserved: &Durable, work: Work) -> Self {
        Self { index: checked.index(), key: checked.key(), data: checked.data().clone(), reserved_at, work }
    }
}

/// Where jobs go in. It never blocks: a job stands for an open item, and there is room for all of those.
pub(super) type Queue = SyncSender<Job>;

/// A queue, and the end that [`Workers::start`] takes.
pub(super) fn queue() -> (Queue, Receiver<Job>) {
    sync_channel(MAX_OPEN)
}

/// What is to be said of an item on its way.
#[derive(Debug)]
pub(super) enum News {
    /// Its key waits for a touch.
    Touch(TouchWait),
    /// It has ended.
    Ended(SignResult),
}

/// What every worker uses.
pub(super) struct Workers<F> {
    /// The token.
    pub(super) token: Arc<dyn Token>,
    /// Its keys.
    pub(super) keys: BTreeMap<KeyId, Key>,
    /// The clock.
    pub(super) clock: Arc<dyn Clock>,
    /// Whether the process ends.
    pub(super) stop: Stop,
    /// Takes the news of each item.
    pub(super) tell: F,
}

impl<F: Fn(u64, News) + Send + Sync + 'static> Workers<F> {
    /// Starts one worker for each of the token's sessions.
    pub(super) fn start(self, jobs: Receiver<Job>) -> Result<(), Fatal> {
        let (shared, jobs) = (Arc::new(self), Arc::new(Mutex::new(jobs)));
        for number in 0..shared.token.sessions().max(1) {
            let (shared, jobs) = (Arc::clone(&shared), Arc::clone(&jobs));
            std::thread::Builder::new()
                .name(format!("sign-{number}"))
                .spawn(move || shared.run(&jobs))
                .map_err(|source| Fatal::Process { what: "a signing worker cannot be started", source })?;
        }
        Ok(())
    }

    fn run(&self, jobs: &Mutex<Receiver<Job>>) {
        loop {
            // The lock is held while waiting: the others wait behind it, and each job goes to one of them.
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            let result = self.sign(&job);
            (self.tell)(job.index, News::Ended(result));
            if let Some(fatal) = self.token.ended() {
                fatal.end();
            }
            drop(job.work);
        }
    }

    fn sign(&self, job: &Job) -> SignResult {
        let Some(key) = self.keys.get(&job.key) else {
            tracing::error!(index = job.index, key = %job.key, "not signed: the token's key is not loaded");
            return SignResult::Failed { code: Code::Intent.failure() };
        };
        let waits = |wait| (self.tell)(job.index, News::Touch(wait));
        let mut reason = Code::Stale.failure();
        for attempt in 0.. {
            if is_stale(job.reserved_at, self.clock.now()) {
                tracing::warn!(index = job.index, reserved_at = %job.reserved_at, code = %reason, "not signed: it waited too long");
                break;
            }
            match self.token.sign(key, &job.data, &waits) {
                Ok(signature) => return SignResult::Signed { signature },
                Err(TokenError::Busy { code, detail }) => {
                    tracing::warn!(index = job.index, code = %code, detail, "not signed yet: the token is asked again");
                    reason = code;
                }
                Err(error) => return told(job.index, &error),
            }
            if !self.stop.pause(busy_pause(job.index, attempt)) {
                break;
            }
        }
        SignResult::Failed { code: reason }
    }
}

/// What a failed call is told as: `Failed` only where no signature can exist.
fn told(index: u64, error: &TokenError) -> SignResult {
    tracing::error!(index, %error, "the token made no signature that can be used");
    match error {
        TokenError::NotSigned { code, .. } | TokenError::Busy { code, .. } => {
            SignResult::Failed { code: code.clone() }
        }
        TokenError::Unknown { .. } => SignResult::Lost {},
    }
}

/// Doubled with each attempt; from half of it up, so that items which were refused together do not come back together.
fn busy_pause(index: u64, attempt: u32) -> Duration {
    let (first, most) = BUSY_PAUSE_MS;
    let whole = (first << attempt.min(10)).min(most);
    let [a, b, ..] =
        *Sha256::of(&[index.to_be_bytes(), u64::from(attempt).to_be_bytes()].concat()).as_bytes();
    Duration::from_millis(whole / 2 + whole / 2 * u64::from(u16::from_be_bytes([a, b])) / u64::from(u16::MAX))
}

/// Whether an item waited too long; a clock that jumped back tells as little as one that jumped ahead.
fn is_stale(reserved_at: Time, now: Time) -> bool {
    now.unix_ms().abs_diff(reserved_at.unix_ms()) > SIGN_WITHIN_MS.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_waited_over_a_minute_or_whose_clock_jumped_is_stale() {
        let reserved_at = Time::from_unix_ms(1_790_000_000_000).unwrap();
        for (ms, stale) in [(0, false), (60_000, false), (60_001, true), (-60_000, false), (-60_001, true)] {
            assert_eq!(is_stale(reserved_at, reserved_at.plus_ms(ms)), stale, "{ms}");
        }
    }

    #[test]
    fn pauses_before_a_busy_token_grow_and_differ_between_items() {
        let ms = |index, attempt| busy_pause(index, attempt).as_millis();
        assert!((50..=100).contains(&ms(1, 0)) && (1_000..=2_000).contains(&ms(1, 60)));
        assert!((2..20).any(|index| ms(index, 4) != ms(1, 4)));
    }

    #[test]
    fn a_token_that_can_not_tell_makes_the_item_lost_and_not_failed() {
        let (code, detail) = (crate::code("device-error"), String::new());
        let unknown = TokenError::Unknown { code: code.clone(), detail: detail.clone() };
        assert_eq!(told(1, &unknown), SignResult::Lost {});
        let surely = TokenError::NotSigned { code: code.clone(), detail };
        assert_eq!(told(1, &surely), SignResult::Failed { code });
    }
}
