//! Login, and the ends of sessions.

use crate::{
    control::Call,
    forwarder::{Forwarder, Refusal, enter},
    journal::Event,
    real::call,
};
use cryptoki_sys::{
    CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CK_ULONG, CK_USER_TYPE, CK_UTF8CHAR, CK_VOID_PTR, CKR_OK,
};

/// A PIN is not tried unless the try can be journaled. The PIN itself is only passed on.
pub(super) unsafe extern "C" fn login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    pin_len: CK_ULONG,
) -> CK_RV {
    enter("C_Login", |forwarder| {
        forwarder.guarded(&Call::in_session("C_Login", session), || {
            forwarder.journal.ready()?;
            let _pass = forwarder.pass();
            // SAFETY: the caller's arguments, as they came.
            let rv = unsafe { call!(forwarder.real, C_Login(session, user, pin, pin_len)) };
            forwarder.journal.append(&Event::Login { rv: format!("0x{rv:x}") })?;
            Ok(rv)
        })
    })
}

pub(super) unsafe extern "C" fn close_session(session: CK_SESSION_HANDLE) -> CK_RV {
    enter("C_CloseSession", |forwarder| {
        forwarder.guarded(&Call::in_session("C_CloseSession", session), || close(forwarder, session))
    })
}

fn close(forwarder: &Forwarder, session: CK_SESSION_HANDLE) -> Result<CK_RV, Refusal> {
    let _pass = forwarder.pass();
    // Taken before the call: after it, the handle may be another thread's new session.
    let operation = forwarder.operations.take(session)?;
    // SAFETY: no pointers.
    let rv = unsafe { call!(forwarder.real, C_CloseSession(session)) };
    if let Some(operation) = operation.filter(|_| rv != CKR_OK) {
        forwarder.operations.begin(session, operation)?;
    }
    Ok(rv)
}

pub(super) unsafe extern "C" fn close_all_sessions(slot: CK_SLOT_ID) -> CK_RV {
    enter("C_CloseAllSessions", |forwarder| {
        forwarder.guarded(&Call::of("C_CloseAllSessions"), || {
            let _pass = forwarder.pass();
            // SAFETY: no pointers.
            let rv = unsafe { call!(forwarder.real, C_CloseAllSessions(slot)) };
            forwarder.operations.retain(|session| forwarder.real.has_session(session))?;
            Ok(rv)
        })
    })
}

pub(super) unsafe extern "C" fn finalize(reserved: CK_VOID_PTR) -> CK_RV {
    enter("C_Finalize", |forwarder| {
        forwarder.guarded(&Call::of("C_Finalize"), || {
            let _pass = forwarder.pass();
            // SAFETY: the caller's argument, as it came.
            let rv = unsafe { call!(forwarder.real, C_Finalize(reserved)) };
            if rv == CKR_OK {
                forwarder.operations.retain(|_| false)?;
            }
            Ok(rv)
        })
    })
}
