//! The one place that tries the PIN: one thread at a time, never the last try, and never again once it was refused.

use super::Pin;
use super::fault::{Class, Fault, is_pin_error};
use super::pool::unusable;
use crate::exit::Fatal;
use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A PIN, and whether a token has refused it.
pub(crate) struct Login {
    label: String,
    pin: Pin,
    refused: Mutex<Option<String>>,
}

impl Login {
    /// A PIN that was not tried yet.
    pub(crate) fn new(label: &str, pin: Pin) -> Self {
        Self { label: label.to_owned(), pin, refused: Mutex::default() }
    }

    /// Logs the application in.
    pub(crate) fn user(&self, context: &Pkcs11, slot: Slot, session: &Session) -> Result<(), Fatal> {
        self.once(context, slot, session, UserType::User)
    }

    /// Allows the operation that is active in `session`, of a key with `CKA_ALWAYS_AUTHENTICATE`.
    pub(crate) fn context_specific(
        &self,
        context: &Pkcs11,
        slot: Slot,
        session: &Session,
    ) -> Result<(), Fault> {
        self.once(context, slot, session, UserType::ContextSpecific).map_err(|fatal| match fatal {
            Fatal::Pin { why, .. } => Fault::before(Class::Pin, why),
            other => Fault::before(Class::Reopen, other.to_string()),
        })
    }

    /// Notes that the PIN is not to be tried any more.
    pub(crate) fn refuse(&self, why: &str) {
        self.lock().get_or_insert_with(|| why.to_owned());
    }

    /// Why the PIN is not to be tried any more, if that is so.
    pub(crate) fn refused(&self) -> Option<Fatal> {
        self.lock().clone().map(|why| Fatal::Pin { token: self.label.clone(), why })
    }

    // INVARIANT(one-try): the lock is held from the look at the flags to the token's answer, so that two threads never
    // spend two tries, and what was refused stays refused until a person starts the process again.
    fn once(&self, context: &Pkcs11, slot: Slot, session: &Session, user: UserType) -> Result<(), Fatal> {
        let mut refused = self.lock();
        if let Some(why) = &*refused {
            return Err(Fatal::Pin { token: self.label.clone(), why: why.clone() });
        }
        let info = context.get_token_info(slot).map_err(|e| unusable(&self.label, &e))?;
        let result = login_as(user, session, &info, &self.pin, &self.label);
        if let Err(Fatal::Pin { why, .. }) = &result {
            *refused = Some(why.clone());
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs in with exactly one try of the PIN, and with none when it could be the last.
pub(crate) fn login_once(session: &Session, info: &TokenInfo, pin: &Pin, label: &str) -> Result<(), Fatal> {
    login_as(UserType::User, session, info, pin, label)
}

fn login_as(
    user: UserType,
    session: &Session,
    info: &TokenInfo,
    pin: &Pin,
    label: &str,
) -> Result<(), Fatal> {
    let refuse = |why: String| Fatal::Pin { token: label.to_owned(), why };
    if info.user_pin_locked() {
        return Err(refuse("the PIN is locked".into()));
    }
    if info.user_pin_final_try() {
        return Err(refuse("only one try is left before the PIN locks, and a person must make it".into()));
    }
    if info.user_pin_count_low() {
        tracing::warn!(token = label, "a wrong PIN was tried since the last login");
    }
    match session.login(user, Some(pin.auth())) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(Error::Pkcs11(rv, _)) if is_pin_error(&rv) => {
            Err(refuse(format!("the PIN was refused ({rv:?})")))
        }
        Err(e) => Err(unusable(label, &e)),
    }
}
