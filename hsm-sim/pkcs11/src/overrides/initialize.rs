//! `C_Initialize`, for modules that want a text with it: NSS softokn does not work without one, and has a struct of its
//! own for it, one field longer than the standard's. No caller but NSS itself fills that in.

use crate::{
    control::Call,
    forwarder::{INIT_ARGS_VARIABLE, Refusal, enter},
    real::call,
};
use cryptoki_sys::{
    CK_C_INITIALIZE_ARGS, CK_CHAR, CK_CREATEMUTEX, CK_DESTROYMUTEX, CK_FLAGS, CK_LOCKMUTEX, CK_RV,
    CK_UNLOCKMUTEX, CK_VOID_PTR, CKF_OS_LOCKING_OK,
};
use std::{env, ffi::CString, os::unix::ffi::OsStringExt, ptr::null_mut};

/// `CK_C_INITIALIZE_ARGS` of NSS's `pkcs11t.h`: the sixth field is the standard's `pReserved`.
#[repr(C)]
struct NssArguments {
    create_mutex: CK_CREATEMUTEX,
    destroy_mutex: CK_DESTROYMUTEX,
    lock_mutex: CK_LOCKMUTEX,
    unlock_mutex: CK_UNLOCKMUTEX,
    flags: CK_FLAGS,
    library_parameters: *mut CK_CHAR,
    reserved: CK_VOID_PTR,
}

pub(super) unsafe extern "C" fn initialize(arguments: CK_VOID_PTR) -> CK_RV {
    enter("C_Initialize", |forwarder| {
        forwarder.guarded(&Call::of("C_Initialize"), || {
            let Some(text) = env::var_os(INIT_ARGS_VARIABLE) else {
                // SAFETY: the caller's argument, as it came.
                return Ok(unsafe { call!(forwarder.real, C_Initialize(arguments)) });
            };
            let text = CString::new(text.into_vec())
                .map_err(|_| Refusal::NotAText { variable: INIT_ARGS_VARIABLE })?;
            // SAFETY: null is told apart; else it is the standard's struct, of a caller that knows no other.
            let given = unsafe { arguments.cast::<CK_C_INITIALIZE_ARGS>().as_ref() };
            let mut own = NssArguments {
                create_mutex: given.and_then(|given| given.CreateMutex),
                destroy_mutex: given.and_then(|given| given.DestroyMutex),
                lock_mutex: given.and_then(|given| given.LockMutex),
                unlock_mutex: given.and_then(|given| given.UnlockMutex),
                flags: given.map_or(CKF_OS_LOCKING_OK, |given| given.flags),
                library_parameters: text.as_ptr().cast_mut().cast(),
                reserved: null_mut(),
            };
            // SAFETY: NSS's struct, for NSS; it and its text are alive during the call, and NSS copies the text.
            Ok(unsafe { call!(forwarder.real, C_Initialize((&raw mut own).cast())) })
        })
    })
}
