//! Logins and new PINs. PINs are passed on, and compared; they are written nowhere.

use super::sign::borrow;
use crate::{control::Call, forwarder::enter, journal::Event, real::call};
use cryptoki_sys::{CK_RV, CK_SESSION_HANDLE, CK_ULONG, CK_USER_TYPE, CK_UTF8CHAR, CKR_OK};
use std::ptr::null_mut;

/// A PIN is not tried unless the try can be journaled.
pub(super) unsafe extern "C" fn login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    pin_len: CK_ULONG,
) -> CK_RV {
    enter("C_Login", |forwarder| {
        forwarder.guarded(&Call::in_session("C_Login", session), || {
            forwarder.journal.ready()?;
            // SAFETY: null is told apart; else the caller's PIN, readable during the call.
            let given = if pin.is_null() { None } else { Some(unsafe { borrow(pin, pin_len) }?) };
            let rv = forwarder.login(session, user, given, |session, pin| {
                let (pin, len) =
                    pin.map_or((null_mut(), pin_len), |pin| (pin.as_ptr().cast_mut(), pin.len() as CK_ULONG));
                let _pass = forwarder.pass();
                // SAFETY: no PIN, or one with its length, alive during the call.
                unsafe { call!(forwarder.real, C_Login(session, user, pin, len)) }
            })?;
            forwarder.journal.append(&Event::Login { rv: format!("0x{rv:x}") })?;
            Ok(rv)
        })
    })
}

/// The security officer's new PIN for the user has all its tries.
pub(super) unsafe extern "C" fn init_pin(
    session: CK_SESSION_HANDLE,
    pin: *mut CK_UTF8CHAR,
    pin_len: CK_ULONG,
) -> CK_RV {
    enter("C_InitPIN", |forwarder| {
        forwarder.guarded(&Call::in_session("C_InitPIN", session), || {
            let _pass = forwarder.pass();
            // SAFETY: the caller's arguments, as they came.
            let rv = unsafe { call!(forwarder.real, C_InitPIN(session, pin, pin_len)) };
            if let (CKR_OK, Some(faults)) = (rv, &forwarder.faults) {
                faults.control.reset_pin_tries()?;
            }
            Ok(rv)
        })
    })
}

pub(super) unsafe extern "C" fn set_pin(
    session: CK_SESSION_HANDLE,
    old: *mut CK_UTF8CHAR,
    old_len: CK_ULONG,
    new: *mut CK_UTF8CHAR,
    new_len: CK_ULONG,
) -> CK_RV {
    enter("C_SetPIN", |forwarder| {
        forwarder.guarded(&Call::in_session("C_SetPIN", session), || {
            // SAFETY: the caller's new PIN, readable during the call.
            let replacement = unsafe { borrow(new, new_len) }?;
            forwarder.set_pin(replacement, || {
                let _pass = forwarder.pass();
                // SAFETY: the caller's arguments, as they came.
                unsafe { call!(forwarder.real, C_SetPIN(session, old, old_len, new, new_len)) }
            })
        })
    })
}
