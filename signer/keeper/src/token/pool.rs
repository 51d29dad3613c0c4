//! One generation of a token: the library initialised, logged in, and its sessions.
//!
//! The first session is never lent: it keeps the login alive, which ends with an application's last session. Lent
//! sessions are dropped after any error, since a failed operation may stay active in them.

use super::attributes::examine;
use super::fault::{Class, Fault};
use super::watchdog::Watchdog;
use super::{Key, KeyRef, Pin};
use crate::config::Pkcs11Config;
use crate::exit::Fatal;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Limit, Slot, TokenInfo};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The sessions of one login. Dropping it closes them all.
pub(crate) struct Pool {
    context: Pkcs11,
    slot: Slot,
    max: usize,
    sessions: Mutex<Sessions>,
    returned: Condvar,
    _login: Mutex<Session>,
}

#[derive(Default)]
struct Sessions {
    idle: Vec<Opened>,
    open: usize,
}

/// A session with the key handles that were resolved in it: handles are good for their own generation only.
struct Opened {
    session: Session,
    handles: BTreeMap<KeyRef, ObjectHandle>,
}

/// A session lent to one thread.
pub(crate) struct Lease<'a> {
    pool: &'a Pool,
    opened: Option<Opened>,
    good: bool,
}

impl Pool {
    /// Initialises the library, finds the token and logs in, trying the PIN exactly once.
    pub(crate) fn open(
        context: &Pkcs11,
        config: &Pkcs11Config,
        pin: &Pin,
        watchdog: &Watchdog,
    ) -> Result<Self, Fatal> {
        let _watched = watchdog.watch("C_Initialize or C_Login");
        initialize(context, &config.label)?;
        let slot = slot_of(context, &config.label, config.serial.as_deref())?;
        let info = context.get_token_info(slot).map_err(|e| unusable(&config.label, &e))?;
        let login = context.open_ro_session(slot).map_err(|e| unusable(&config.label, &e))?;
        login_once(&login, &info, pin, &config.label)?;
        Ok(Self {
            context: context.clone(),
            slot,
            max: session_limit(config.sessions, &info),
            sessions: Mutex::default(),
            returned: Condvar::new(),
            _login: Mutex::new(login),
        })
    }

    /// How many sessions may be lent at the same time.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Lends a session, waiting while all are lent.
    pub(crate) fn lend(&self, watchdog: &Watchdog) -> Result<Lease<'_>, Fault> {
        let mut sessions = self.lock();
        while sessions.idle.is_empty() && sessions.open >= self.max {
            sessions = self.returned.wait(sessions).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(opened) = sessions.idle.pop() {
            return Ok(Lease { pool: self, opened: Some(opened), good: false });
        }
        let _watched = watchdog.watch("C_OpenSession");
        let session = self.context.open_ro_session(self.slot)?;
        sessions.open += 1;
        let opened = Opened { session, handles: BTreeMap::new() };
        Ok(Lease { pool: self, opened: Some(opened), good: false })
    }

    /// Closes the sessions that are not lent: what made one stale has probably made all of them so.
    pub(crate) fn forget_idle(&self) {
        let stale = {
            let mut sessions = self.lock();
            sessions.open = sessions.open.saturating_sub(sessions.idle.len());
            std::mem::take(&mut sessions.idle)
        };
        drop(stale);
        self.returned.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    /// The session.
    pub(crate) fn session(&self) -> Result<&Session, Fault> {
        self.opened.as_ref().map(|o| &o.session).ok_or_else(gone)
    }

    /// The key's handle in this session. At the first use the key is examined again: after a replug the same id may
    /// belong to another key.
    pub(crate) fn handle(&mut self, key: &Key) -> Result<ObjectHandle, Fault> {
        let opened = self.opened.as_mut().ok_or_else(gone)?;
        if let Some(handle) = opened.handles.get(key.id()) {
            return Ok(*handle);
        }
        let no_id = || Fault::before(Class::Refused, format!("slot {} is none of this token", key.id()));
        let found = examine(&opened.session, key.id().cka_id().ok_or_else(no_id)?)?;
        if found.public != *key.public() {
            let why = format!("the key with CKA_ID {} is not the pinned one any more", key.id());
            return Err(Fault::before(Class::Reopen, why));
        }
        opened.handles.insert(key.id().clone(), found.handle);
        Ok(found.handle)
    }

    /// Says that the session's operation ended well: it may be lent again.
    pub(crate) fn good(mut self) {
        self.good = true;
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let opened = self.opened.take().filter(|_| self.good);
        let mut sessions = self.pool.lock();
        match opened {
            Some(opened) => sessions.idle.push(opened),
            None => sessions.open = sessions.open.saturating_sub(1),
        }
        drop(sessions);
        self.pool.returned.notify_one();
    }
}

/// Initialises a library for use by several threads.
pub(crate) fn initialize(context: &Pkcs11, label: &str) -> Result<(), Fatal> {
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(e) => Err(unusable(label, &e)),
    }
}

/// The slot of the one token with this label, and with this serial number if it is pinned.
pub(crate) fn slot_of(context: &Pkcs11, label: &str, serial: Option<&str>) -> Result<Slot, Fatal> {
    let fault = |why: String| Fatal::Token { token: label.to_owned(), why };
    let slots = context.get_slots_with_initialized_token().map_err(|e| unusable(label, &e))?;
    let matches = |slot: &Slot| {
        context
            .get_token_info(*slot)
            .is_ok_and(|t| t.label() == label && serial.is_none_or(|s| t.serial_number() == s))
    };
    let found: Vec<Slot> = slots.into_iter().filter(matches).collect();
    match found.as_slice() {
        [slot] => Ok(*slot),
        [] => Err(fault("no such token is present: connect it, or correct label and serial".into())),
        many => Err(fault(format!("{} tokens have this label: pin the serial number of one", many.len()))),
    }
}

/// Logs in with exactly one try of the PIN, and with none when it could be the last.
pub(crate) fn login_once(session: &Session, info: &TokenInfo, pin: &Pin, label: &str) -> Result<(), Fatal> {
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
    match session.login(UserType::User, Some(pin.auth())) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(Error::Pkcs11(rv, _)) if is_pin_error(&rv) => Err(refuse(format!("the PIN was refused ({rv})"))),
        Err(e) => Err(unusable(label, &e)),
    }
}

fn is_pin_error(rv: &RvError) -> bool {
    use RvError::*;
    matches!(
        rv,
        PinIncorrect | PinInvalid | PinLenRange | PinExpired | PinLocked | PinTooWeak | UserPinNotInitialized
    )
}

/// As many as are wanted, less the one that is never lent.
fn session_limit(wanted: usize, info: &TokenInfo) -> usize {
    match info.max_session_count() {
        Limit::Max(max) => usize::try_from(max).unwrap_or(usize::MAX).saturating_sub(1).clamp(1, wanted),
        _ => wanted,
    }
}

fn gone() -> Fault {
    Fault::before(Class::Session, "the session was given back already".into())
}

/// The token's error as a reason to end.
pub(crate) fn unusable(label: &str, error: &Error) -> Fatal {
    Fatal::Token { token: label.to_owned(), why: error.to_string() }
}
