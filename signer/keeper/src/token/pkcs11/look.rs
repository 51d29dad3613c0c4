//! The glance at a token between signatures: whether it is there, and which keys are not asked any more. It tries no PIN:
//! a token that was away is logged in to when the next signature is asked for.

use super::Pkcs11Token;
use crate::code;
use crate::token::fault::{Class, Fault};
use crate::token::{Problem, TokenError};
use std::sync::PoisonError;
use std::time::Instant;

impl Pkcs11Token {
    /// What keeps keys from signing; `None` while sessions are lent.
    pub(super) fn problems(&self) -> Option<Vec<Problem>> {
        let away = self.present()?.err().map(|fault| Problem { key: None, error: self.told(fault) });
        let disabled = self.disabled.lock().unwrap_or_else(PoisonError::into_inner);
        let of_key = |(key, why): (&_, &String)| Problem {
            key: Some(Clone::clone(key)),
            error: TokenError::NotSigned { code: code("token-quarantined"), detail: why.clone() },
        };
        Some(away.into_iter().chain(disabled.iter().map(of_key)).collect())
    }

    fn present(&self) -> Option<Result<(), Fault>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = &current.pool {
            match pool.look(&self.watchdog)? {
                Err(fault) if fault.class != Class::Busy => {
                    tracing::warn!(token = self.config.label, ?fault, "the token does not answer as it did");
                    let generation = current.generation;
                    drop(current);
                    self.close(generation);
                }
                there_or_busy => return Some(there_or_busy),
            }
        } else {
            drop(current);
        }
        Some(self.glance())
    }

    /// Whether a token that is not open is in its slot: some libraries tell only when they are initialised anew. One that
    /// is back is opened with the next signature, however long others have waited for it. One that was there and could not
    /// be opened is left alone for its pause, and told of until then.
    fn glance(&self) -> Result<(), Fault> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.pool.is_some() {
            return Ok(());
        }
        let found = self.find();
        self.finalize();
        match (found, current.unopened.take()) {
            (Err(fatal), _) => Err(Fault::before(Class::Away, fatal.to_string())),
            (Ok(_), None) => {
                current.not_before = Instant::now();
                Ok(())
            }
            (Ok(_), Some(why)) if Instant::now() < current.not_before => {
                current.unopened = Some(why.clone());
                Err(Fault::before(Class::Away, why))
            }
            (Ok(_), Some(_)) => Ok(()),
        }
    }
}
