//! Slots and tokens as the control folder shows them. Only with a control folder.

use crate::{
    control::Call,
    faults::Faults,
    forwarder::{Forwarder, Refusal, enter},
    real::call,
};
use cryptoki_sys::{
    CK_BBOOL, CK_FALSE, CK_FLAGS, CK_NOTIFY, CK_RV, CK_SESSION_HANDLE, CK_SESSION_INFO, CK_SLOT_ID,
    CK_SLOT_INFO, CK_TOKEN_INFO, CK_ULONG, CK_VOID_PTR, CKR_ARGUMENTS_BAD, CKR_OK, CKR_SESSION_COUNT,
};
use std::{ptr::null_mut, slice};

pub(super) unsafe extern "C" fn slot_list(
    present: CK_BBOOL,
    slots: *mut CK_SLOT_ID,
    count: *mut CK_ULONG,
) -> CK_RV {
    enter("C_GetSlotList", |forwarder| {
        forwarder.guarded(&Call::of("C_GetSlotList"), || {
            // SAFETY: null is told apart; else the caller gives a place for one number.
            let Some(count) = (unsafe { count.as_mut() }) else { return Ok(CKR_ARGUMENTS_BAD) };
            let hidden = present != CK_FALSE && forwarder.view()?.is_some_and(|view| view.removed);
            let place = if hidden { null_mut() } else { slots };
            // SAFETY: the caller's arguments, or a null list in place of the caller's.
            let rv = unsafe { call!(forwarder.real, C_GetSlotList(present, place, count)) };
            if rv == CKR_OK && hidden {
                *count = 0;
            } else if rv == CKR_OK && !slots.is_null() {
                // SAFETY: the module just wrote as many slots.
                show(forwarder, unsafe { written(slots, *count) }?)?;
            }
            Ok(rv)
        })
    })
}

fn show(forwarder: &Forwarder, slots: &mut [CK_SLOT_ID]) -> Result<(), Refusal> {
    for slot in slots {
        *slot = forwarder.visible_slot(*slot)?;
    }
    Ok(())
}

/// # Safety
/// `slots` points to `count` slots.
unsafe fn written<'a>(slots: *mut CK_SLOT_ID, count: CK_ULONG) -> Result<&'a mut [CK_SLOT_ID], Refusal> {
    let count = usize::try_from(count).map_err(|_| Refusal::Length { bytes: count })?;
    // SAFETY: this function's own contract.
    Ok(unsafe { slice::from_raw_parts_mut(slots, count) })
}

/// A slot is there without its token.
pub(super) unsafe extern "C" fn slot_info(slot: CK_SLOT_ID, info: *mut CK_SLOT_INFO) -> CK_RV {
    enter("C_GetSlotInfo", |forwarder| {
        forwarder.guarded(&Call::of("C_GetSlotInfo"), || {
            let slot = forwarder.real_slot(slot)?;
            // SAFETY: the caller's place, as it came.
            let rv = unsafe { call!(forwarder.real, C_GetSlotInfo(slot, info)) };
            // SAFETY: null is told apart; else the module just wrote it.
            if let (CKR_OK, Some(info)) = (rv, unsafe { info.as_mut() }) {
                forwarder.change_slot_info(info)?;
            }
            Ok(rv)
        })
    })
}

pub(super) unsafe extern "C" fn token_info(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    enter("C_GetTokenInfo", |forwarder| {
        forwarder.guarded(&Call::on_slot("C_GetTokenInfo"), || {
            let slot = forwarder.real_slot(slot)?;
            // SAFETY: the caller's place, as it came.
            let rv = unsafe { call!(forwarder.real, C_GetTokenInfo(slot, info)) };
            // SAFETY: null is told apart; else the module just wrote it.
            if let (CKR_OK, Some(info)) = (rv, unsafe { info.as_mut() }) {
                forwarder.change_token_info(info)?;
            }
            Ok(rv)
        })
    })
}

pub(super) unsafe extern "C" fn session_info(
    session: CK_SESSION_HANDLE,
    info: *mut CK_SESSION_INFO,
) -> CK_RV {
    enter("C_GetSessionInfo", |forwarder| {
        forwarder.guarded(&Call::in_session("C_GetSessionInfo", session), || {
            let _pass = forwarder.pass();
            // SAFETY: the caller's place, as it came.
            let rv = unsafe { call!(forwarder.real, C_GetSessionInfo(session, info)) };
            // SAFETY: null is told apart; else the module just wrote it.
            if let (CKR_OK, Some(info)) = (rv, unsafe { info.as_mut() }) {
                info.slotID = forwarder.visible_slot(info.slotID)?;
            }
            Ok(rv)
        })
    })
}

/// No pass while it waits: it may block for ever, and uses no session.
pub(super) unsafe extern "C" fn wait_for_slot_event(
    flags: CK_FLAGS,
    slot: *mut CK_SLOT_ID,
    reserved: CK_VOID_PTR,
) -> CK_RV {
    enter("C_WaitForSlotEvent", |forwarder| {
        forwarder.guarded(&Call::of("C_WaitForSlotEvent"), || {
            // SAFETY: the caller's arguments, as they came.
            let rv = unsafe { call!(forwarder.real, C_WaitForSlotEvent(flags, slot, reserved)) };
            // SAFETY: null is told apart; else the module just wrote it.
            if let (CKR_OK, Some(slot)) = (rv, unsafe { slot.as_mut() }) {
                *slot = forwarder.visible_slot(*slot)?;
            }
            Ok(rv)
        })
    })
}

pub(super) unsafe extern "C" fn open_session(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: CK_VOID_PTR,
    notify: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    enter("C_OpenSession", |forwarder| {
        forwarder.guarded(&Call::on_slot("C_OpenSession"), || {
            let Some(faults) = &forwarder.faults else { return Ok(CKR_ARGUMENTS_BAD) };
            let slot = forwarder.real_slot(slot)?;
            limited(faults, || {
                let _pass = forwarder.pass();
                // SAFETY: the caller's arguments, as they came.
                let rv = unsafe {
                    call!(forwarder.real, C_OpenSession(slot, flags, application, notify, session))
                };
                // SAFETY: null is told apart; else the module just wrote it.
                let opened = unsafe { session.as_ref() }.copied().filter(|_| rv == CKR_OK);
                (rv, opened)
            })
        })
    })
}

/// Opens a session if the token has one more. `open` returns its handle.
fn limited(
    faults: &Faults,
    open: impl FnOnce() -> (CK_RV, Option<CK_SESSION_HANDLE>),
) -> Result<CK_RV, Refusal> {
    if !faults.sessions.reserve(faults.control.view()?.token.max_sessions) {
        return Ok(CKR_SESSION_COUNT);
    }
    let (rv, session) = open();
    faults.sessions.opened(session);
    Ok(rv)
}
