//! The ends of sessions.

use crate::{
    control::Call,
    forwarder::{Forwarder, Refusal, enter},
    real::call,
};
use cryptoki_sys::{CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CK_VOID_PTR, CKR_OK};

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
    if let (CKR_OK, Some(faults)) = (rv, &forwarder.faults) {
        faults.sessions.closed(session);
    }
    if let Some(operation) = operation.filter(|_| rv != CKR_OK) {
        forwarder.operations.begin(session, operation)?;
    }
    Ok(rv)
}

pub(super) unsafe extern "C" fn close_all_sessions(slot: CK_SLOT_ID) -> CK_RV {
    enter("C_CloseAllSessions", |forwarder| {
        forwarder.guarded(&Call::on_slot("C_CloseAllSessions"), || {
            let slot = forwarder.real_slot(slot)?;
            let _pass = forwarder.pass();
            // SAFETY: no pointers.
            let rv = unsafe { call!(forwarder.real, C_CloseAllSessions(slot)) };
            if let Some(faults) = &forwarder.faults {
                faults.sessions.retain(|session| forwarder.real.has_session(session));
            }
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
                forwarder.faults.iter().for_each(|faults| faults.sessions.clear());
                forwarder.operations.retain(|_| false)?;
            }
            Ok(rv)
        })
    })
}
