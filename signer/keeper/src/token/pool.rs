//! One generation of a token: the library initialised, logged in, and its sessions.
//!
//! The first session is never lent: it keeps the login alive, which ends with an application's last session. Lent
//! sessions are dropped after any error, since a failed operation may stay active in them.

use super::attributes::examine;
use super::fault::{Class, Fault, said};
use super::login::Login;
use super::watchdog::Watchdog;
use super::{Key, KeyRef};
use crate::config::Pkcs11Config;
use crate::exit::Fatal;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use cryptoki::slot::{Limit, Slot, TokenInfo};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The sessions of one login. Dropping it closes them all.
pub(crate) struct Pool {
    context: Pkcs11,
    slot: Slot,
    serial: String,
    threads: Threads,
    max: usize,
    sessions: Mutex<Sessions>,
    returned: Condvar,
    keeper: Mutex<KeeperSession>,
}

/// The session that is never lent, and how often it has logged in.
struct KeeperSession {
    session: Session,
    logins: u64,
}

#[derive(Default)]
struct Sessions {
    idle: Vec<Opened>,
    open: usize,
}

/// A session with the keys that were found in it: handles are good for their own generation only.
struct Opened {
    session: Session,
    keys: BTreeMap<KeyRef, Resolved>,
}

/// A key object, and whether it wants the PIN for each signature.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolved {
    pub(crate) handle: ObjectHandle,
    pub(crate) always_authenticate: bool,
}

/// A session lent to one thread.
pub(crate) struct Lease<'a> {
    pool: &'a Pool,
    opened: Option<Opened>,
    good: bool,
}

impl Pool {
    /// Initialises the library, finds the token and logs in, trying the PIN exactly once. `serial` is the number of
    /// the token that was open before: another one in its place is not opened.
    pub(crate) fn open(
        context: &Pkcs11,
        config: &Pkcs11Config,
        serial: Option<&str>,
        login: &Login,
        watchdog: &Watchdog,
    ) -> Result<Self, Fatal> {
        let _watched = watchdog.watch("C_Initialize or C_Login");
        let unusable = |e: Error| unusable(&config.label, &e);
        let threads = initialize(context, &config.label)?;
        let slot = slot_of(context, &config.label, config.serial.as_deref().or(serial))?;
        let info = context.get_token_info(slot).map_err(unusable)?;
        if threads == Threads::One {
            tracing::warn!(token = config.label, "the PKCS#11 library cannot lock: one thread uses it");
        }
        let wanted = if threads == Threads::One { 1 } else { config.sessions };
        let max = session_limit(wanted, &info).ok_or_else(|| Fatal::Token {
            token: config.label.clone(),
            why: "it allows one session, and two are needed: one keeps the login, one signs".into(),
        })?;
        let session = open_session(context, slot).map_err(unusable)?;
        login.user(context, slot, &session)?;
        Ok(Self {
            context: context.clone(),
            slot,
            serial: info.serial_number().to_owned(),
            threads,
            max,
            sessions: Mutex::default(),
            returned: Condvar::new(),
            keeper: Mutex::new(KeeperSession { session, logins: 0 }),
        })
    }

    /// How many sessions may be lent at the same time.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// The token's serial number.
    pub(crate) fn serial(&self) -> &str {
        &self.serial
    }

    /// Whether the token that was opened is still in its slot. `None` while sessions are lent: a module may let one call
    /// wait for another, which may wait for a person. Where only the thread that signs is let in, it
    /// is taken for there.
    pub(crate) fn look(&self, watchdog: &Watchdog) -> Option<Result<(), Fault>> {
        {
            let sessions = self.lock();
            if self.threads == Threads::One {
                return Some(Ok(()));
            }
            if sessions.open > sessions.idle.len() {
                return None;
            }
        }
        let _watched = watchdog.watch("C_GetTokenInfo");
        Some(match self.context.get_token_info(self.slot) {
            Ok(info) if info.serial_number() == self.serial => Ok(()),
            Ok(_) => Err(Fault::before(Class::Reopen, "another token is in its slot".into())),
            Err(error) => Err(error.into()),
        })
    }

    /// Lends a session, waiting while all are lent.
    pub(crate) fn lend(&self, watchdog: &Watchdog) -> Result<Lease<'_>, Fault> {
        let mut sessions = self.lock();
        loop {
            if let Some(opened) = sessions.idle.pop() {
                return Ok(Lease { pool: self, opened: Some(opened), good: false });
            }
            if sessions.open < self.max {
                sessions.open += 1;
                drop(sessions);
                match self.open_one(watchdog) {
                    Ok(lease) => return Ok(lease),
                    Err(Error::Pkcs11(RvError::SessionCount, function)) => {
                        sessions = self.lock();
                        // Others use the token too: fewer sessions than announced must do, as long as there is one.
                        if sessions.open == 0 {
                            return Err(Error::Pkcs11(RvError::SessionCount, function).into());
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if sessions.idle.is_empty() {
                sessions = self.returned.wait(sessions).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Opens a session that is counted already.
    fn open_one(&self, watchdog: &Watchdog) -> Result<Lease<'_>, Error> {
        let _watched = watchdog.watch("C_OpenSession");
        // A lease without a session gives its count back.
        let mut lease = Lease { pool: self, opened: None, good: false };
        let session = open_session(&self.context, self.slot)?;
        lease.opened = Some(Opened { session, keys: BTreeMap::new() });
        Ok(lease)
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

    /// How often this generation has logged in again.
    pub(crate) fn logins(&self) -> u64 {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).logins
    }

    /// Logs in again, unless somebody else has done so since `logins` was read.
    pub(crate) fn login_again(&self, login: &Login, logins: u64) -> Result<(), Fatal> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.logins == logins {
            login.user(&self.context, self.slot, &keeper.session)?;
            keeper.logins += 1;
        }
        drop(keeper);
        // The handles of private objects ended with the login.
        self.forget_idle();
        Ok(())
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

    /// The key's object in this session. At the first use the key is examined again: after a replug the same id may
    /// belong to another key.
    pub(crate) fn find(&mut self, key: &Key) -> Result<Resolved, Fault> {
        let opened = self.opened.as_mut().ok_or_else(gone)?;
        if let Some(resolved) = opened.keys.get(key.id()) {
            return Ok(*resolved);
        }
        let no_id = || Fault::before(Class::Refused, format!("slot {} is none of this token", key.id()));
        let found = examine(&opened.session, key.id().cka_id().ok_or_else(no_id)?)?;
        if found.public != *key.public() {
            let why = format!("the key with CKA_ID {} is not the pinned one any more", key.id());
            return Err(Fault::before(Class::Reopen, why));
        }
        let resolved = Resolved { handle: found.handle, always_authenticate: found.always_authenticate };
        opened.keys.insert(key.id().clone(), resolved);
        Ok(resolved)
    }

    /// Gives the PIN for the operation that is active in this session.
    pub(crate) fn authenticate(&self, login: &Login) -> Result<(), Fault> {
        login.context_specific(&self.pool.context, self.pool.slot, self.session()?)
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

/// How many threads a library lets into it at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// As many as there are.
    Any,
    /// One: it has no locks that fit this system.
    One,
}

/// Initialises a library, for use by several threads if it can be.
pub(crate) fn initialize(context: &Pkcs11, label: &str) -> Result<Threads, Fatal> {
    let with = |flags| context.initialize(CInitializeArgs::new(flags));
    let (initialized, threads) = match with(CInitializeFlags::OS_LOCKING_OK) {
        Err(Error::Pkcs11(RvError::CantLock, _)) => (with(CInitializeFlags::empty()), Threads::One),
        other => (other, Threads::Any),
    };
    match initialized {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(threads),
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

/// A session for signing. Some modules want every session to be one that may write.
fn open_session(context: &Pkcs11, slot: Slot) -> Result<Session, Error> {
    match context.open_ro_session(slot) {
        Err(Error::Pkcs11(RvError::SessionReadOnly, _)) => context.open_rw_session(slot),
        other => other,
    }
}

/// As many as are wanted, less the one that is never lent; none if that leaves nothing.
fn session_limit(wanted: usize, info: &TokenInfo) -> Option<usize> {
    match info.max_session_count() {
        Limit::Max(max) => usize::try_from(max).unwrap_or(usize::MAX).checked_sub(1).filter(|n| *n > 0),
        _ => Some(wanted),
    }
    .map(|allowed| allowed.min(wanted))
}

fn gone() -> Fault {
    Fault::before(Class::Session, "the session was given back already".into())
}

/// The token's error as a reason to end.
pub(crate) fn unusable(label: &str, error: &Error) -> Fatal {
    Fatal::Token { token: label.to_owned(), why: said(error) }
}
