//! The table of overrides, and the C functions in it. Everything that is not in the table is the real module's own.

#![expect(
    unsafe_code,
    reason = "the C ABI: raw pointers come in, and the real functions are called with them"
)]

use crate::{
    forwarder::{Forwarder, Refusal, enter},
    journal::{Event, SignatureMade},
    operations::Operation,
    real::call,
};
use cryptoki_sys::{
    CK_BYTE, CK_FUNCTION_LIST, CK_MECHANISM, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID,
    CK_ULONG, CK_USER_TYPE, CK_UTF8CHAR, CK_VERSION, CK_VOID_PTR, CKR_ARGUMENTS_BAD, CKR_BUFFER_TOO_SMALL,
    CKR_FUNCTION_NOT_SUPPORTED, CKR_OK,
};

/// The real list with the forwarder's functions over it.
pub(crate) fn over(real: &CK_FUNCTION_LIST) -> CK_FUNCTION_LIST {
    CK_FUNCTION_LIST {
        // This struct ends where 2.40 ends, whatever more the real module has.
        version: CK_VERSION { major: 2, minor: 40 },
        C_GetFunctionList: Some(C_GetFunctionList),
        C_Login: Some(login),
        C_SignInit: Some(sign_init),
        C_Sign: Some(sign),
        C_SignUpdate: Some(sign_update),
        C_SignFinal: Some(sign_final),
        C_CloseSession: Some(close_session),
        C_CloseAllSessions: Some(close_all_sessions),
        C_Finalize: Some(finalize),
        // Ways to a signature whose key or input the forwarder would not see: not supported, as in many modules.
        C_SignRecoverInit: Some(sign_recover_init),
        C_SignEncryptUpdate: Some(sign_encrypt_update),
        C_SetOperationState: Some(set_operation_state),
        ..*real
    }
}

/// The module's only exported symbol: PKCS#11's entry point.
///
/// # Safety
/// `list` is null or writable, as PKCS#11 demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    enter("C_GetFunctionList", |forwarder| {
        // SAFETY: null is told apart; else the caller gives a place for one pointer.
        let Some(place) = (unsafe { list.as_mut() }) else { return Ok(CKR_ARGUMENTS_BAD) };
        *place = forwarder.list();
        Ok(CKR_OK)
    })
}

/// A PIN is not tried unless the try can be journaled. The PIN itself is only passed on.
unsafe extern "C" fn login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    pin_len: CK_ULONG,
) -> CK_RV {
    enter("C_Login", |forwarder| {
        forwarder.journal.ready()?;
        // SAFETY: the caller's arguments, as they came.
        let rv = unsafe { call!(forwarder.real, C_Login(session, user, pin, pin_len)) };
        forwarder.journal.append(&Event::Login { rv: format!("0x{rv:x}") })?;
        Ok(rv)
    })
}

/// The key's id is read first: once the operation is active, nothing else may fail.
unsafe extern "C" fn sign_init(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    enter("C_SignInit", |forwarder| {
        let key_id = forwarder.real.key_id(session, key);
        // SAFETY: the caller's arguments, as they came.
        let rv = unsafe { call!(forwarder.real, C_SignInit(session, mechanism, key)) };
        // SAFETY: null is told apart; else the caller gives one mechanism.
        let Some(mechanism) = (unsafe { mechanism.as_ref() }) else { return Ok(rv) };
        if rv == CKR_OK {
            let key_id = key_id.map_err(|rv| Refusal::KeyUnnamed { rv })?;
            forwarder.operations.begin(session, Operation::new(key_id, mechanism.mechanism))?;
        }
        Ok(rv)
    })
}

unsafe extern "C" fn sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_len: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_len: *mut CK_ULONG,
) -> CK_RV {
    let output = Output { bytes: signature, len: signature_len };
    enter("C_Sign", |forwarder| {
        finish(forwarder, session, output, Event::Sign, |operation, output| {
            if let Some(operation) = operation.filter(|_| output.is_wanted()) {
                // Before the call: the signature may be written over its input.
                // SAFETY: the caller's input, readable during the call.
                operation.absorb_whole(unsafe { borrow(data, data_len) }?);
            }
            // SAFETY: the caller's arguments, or a null output in place of the caller's.
            Ok(unsafe { call!(forwarder.real, C_Sign(session, data, data_len, output.bytes, output.len)) })
        })
    })
}

unsafe extern "C" fn sign_final(
    session: CK_SESSION_HANDLE,
    signature: *mut CK_BYTE,
    signature_len: *mut CK_ULONG,
) -> CK_RV {
    let output = Output { bytes: signature, len: signature_len };
    enter("C_SignFinal", |forwarder| {
        finish(forwarder, session, output, Event::SignFinal, |_, output| {
            // SAFETY: the caller's arguments, or a null output in place of the caller's.
            Ok(unsafe { call!(forwarder.real, C_SignFinal(session, output.bytes, output.len)) })
        })
    })
}

unsafe extern "C" fn sign_update(
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    part_len: CK_ULONG,
) -> CK_RV {
    enter("C_SignUpdate", |forwarder| {
        let operation = forwarder.operations.take(session)?;
        // SAFETY: the caller's arguments, as they came.
        let rv = unsafe { call!(forwarder.real, C_SignUpdate(session, part, part_len)) };
        if let (Some(mut operation), CKR_OK) = (operation, rv) {
            // SAFETY: the caller's part, readable during the call; the module took it without complaint.
            operation.absorb(unsafe { borrow(part, part_len) }?);
            forwarder.operations.begin(session, operation)?;
        }
        Ok(rv)
    })
}

unsafe extern "C" fn close_session(session: CK_SESSION_HANDLE) -> CK_RV {
    enter("C_CloseSession", |forwarder| {
        // Taken before the call: after it, the handle may be another thread's new session.
        let operation = forwarder.operations.take(session)?;
        // SAFETY: no pointers.
        let rv = unsafe { call!(forwarder.real, C_CloseSession(session)) };
        if let Some(operation) = operation.filter(|_| rv != CKR_OK) {
            forwarder.operations.begin(session, operation)?;
        }
        Ok(rv)
    })
}

unsafe extern "C" fn close_all_sessions(slot: CK_SLOT_ID) -> CK_RV {
    enter("C_CloseAllSessions", |forwarder| {
        // SAFETY: no pointers.
        let rv = unsafe { call!(forwarder.real, C_CloseAllSessions(slot)) };
        forwarder.operations.retain(|session| forwarder.real.has_session(session))?;
        Ok(rv)
    })
}

unsafe extern "C" fn finalize(reserved: CK_VOID_PTR) -> CK_RV {
    enter("C_Finalize", |forwarder| {
        // SAFETY: the caller's argument, as it came.
        let rv = unsafe { call!(forwarder.real, C_Finalize(reserved)) };
        if rv == CKR_OK {
            forwarder.operations.retain(|_| false)?;
        }
        Ok(rv)
    })
}

unsafe extern "C" fn sign_recover_init(
    _: CK_SESSION_HANDLE,
    _: *mut CK_MECHANISM,
    _: CK_OBJECT_HANDLE,
) -> CK_RV {
    CKR_FUNCTION_NOT_SUPPORTED
}

unsafe extern "C" fn sign_encrypt_update(
    _: CK_SESSION_HANDLE,
    _: *mut CK_BYTE,
    _: CK_ULONG,
    _: *mut CK_BYTE,
    _: *mut CK_ULONG,
) -> CK_RV {
    CKR_FUNCTION_NOT_SUPPORTED
}

unsafe extern "C" fn set_operation_state(
    _: CK_SESSION_HANDLE,
    _: *mut CK_BYTE,
    _: CK_ULONG,
    _: CK_OBJECT_HANDLE,
    _: CK_OBJECT_HANDLE,
) -> CK_RV {
    CKR_FUNCTION_NOT_SUPPORTED
}

/// Where the caller wants the signature. A null `bytes` only asks for its length.
#[derive(Clone, Copy)]
struct Output {
    bytes: *mut CK_BYTE,
    len: *mut CK_ULONG,
}

impl Output {
    fn is_wanted(self) -> bool {
        !self.bytes.is_null()
    }

    /// What the module wrote.
    ///
    /// # Safety
    /// The module said `CKR_OK`: it wrote `len`, and as many bytes to `bytes`.
    unsafe fn written<'a>(self) -> Result<&'a mut [u8], Refusal> {
        // SAFETY: null is told apart; else the caller gave a place for one length.
        let len = *unsafe { self.len.as_ref() }.ok_or(Refusal::NoLength)?;
        let size = isize::try_from(len).map_err(|_| Refusal::Length { bytes: len })?;
        // SAFETY: `finish` asked with a non-null `bytes`, which holds `len` bytes by this function's own contract.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.bytes, size.unsigned_abs()) })
    }

    fn length_query(self) -> Self {
        Self { bytes: std::ptr::null_mut(), len: self.len }
    }

    /// PKCS#11 2.40, 5.2: a length query and a buffer that is too small leave the operation active.
    fn keeps_active(self, rv: CK_RV) -> bool {
        rv == CKR_BUFFER_TOO_SMALL || (rv == CKR_OK && !self.is_wanted())
    }
}

/// The last call of a signing operation, `ask`: journals the signature before the caller has it.
fn finish(
    forwarder: &Forwarder,
    session: CK_SESSION_HANDLE,
    output: Output,
    event: fn(SignatureMade) -> Event,
    ask: impl FnOnce(Option<&mut Operation>, Output) -> Result<CK_RV, Refusal>,
) -> Result<CK_RV, Refusal> {
    let Some(mut operation) = forwarder.operations.take(session)? else {
        // A length query makes no signature, and gets the module's own word for what is wrong.
        let rv = ask(None, output.length_query())?;
        return if rv == CKR_OK { Err(Refusal::Unseen) } else { Ok(rv) };
    };
    forwarder.journal.ready()?;
    let rv = ask(Some(&mut operation), output)?;
    if output.keeps_active(rv) {
        forwarder.operations.begin(session, operation)?;
    } else if rv == CKR_OK {
        release(forwarder, output, |signature| event(operation.signed(signature)))?;
    }
    Ok(rv)
}

/// The signature stays in the caller's buffer only if the journal has it.
fn release(forwarder: &Forwarder, output: Output, event: impl FnOnce(&[u8]) -> Event) -> Result<(), Refusal> {
    // SAFETY: only called after CKR_OK to a call with a non-null output.
    let signature = unsafe { output.written() }?;
    forwarder.journal.append(&event(signature)).map_err(|error| {
        signature.fill(0);
        Refusal::from(error)
    })
}

/// The caller's bytes; none if the pointer is null.
///
/// # Safety
/// A non-null `bytes` is readable for `len` bytes during the call, and nobody writes to it meanwhile.
unsafe fn borrow<'a>(bytes: *const CK_BYTE, len: CK_ULONG) -> Result<&'a [u8], Refusal> {
    if bytes.is_null() {
        return Ok(&[]);
    }
    let len = isize::try_from(len).map_err(|_| Refusal::Length { bytes: len })?;
    // SAFETY: not null, within an address space, readable by this function's own contract.
    Ok(unsafe { std::slice::from_raw_parts(bytes, len.unsigned_abs()) })
}
