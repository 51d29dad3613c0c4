//! The table of overrides, and the C functions in it. Everything that is not in the table is the real module's own.

#![expect(
    unsafe_code,
    reason = "the C ABI: raw pointers come in, and the real functions are called with them"
)]

mod attributes;
mod forwarded;
mod initialize;
mod pin;
mod session;
mod sign;
mod slots;
mod unsupported;

use crate::forwarder::enter;
use cryptoki_sys::{CK_FUNCTION_LIST, CK_RV, CK_VERSION, CKR_ARGUMENTS_BAD, CKR_OK};

/// Functions of this module, besides those in [`forwarded`], that have a session as first argument.
const WITH_SESSION: &[&str] = &[
    "C_Login",
    "C_InitPIN",
    "C_SetPIN",
    "C_SignInit",
    "C_Sign",
    "C_SignUpdate",
    "C_SignFinal",
    "C_GetAttributeValue",
    "C_GetSessionInfo",
    "C_CloseSession",
];
/// Functions of this module, besides those in [`forwarded`], that have none.
const WITHOUT_SESSION: &[&str] = &[
    "C_Initialize",
    "C_GetSlotList",
    "C_GetSlotInfo",
    "C_GetTokenInfo",
    "C_WaitForSlotEvent",
    "C_OpenSession",
    "C_CloseAllSessions",
    "C_Finalize",
];

/// The real list with the forwarder's functions over it.
pub(crate) fn over(real: &CK_FUNCTION_LIST) -> CK_FUNCTION_LIST {
    CK_FUNCTION_LIST {
        // This struct ends where 2.40 ends, whatever more the real module has.
        version: CK_VERSION { major: 2, minor: 40 },
        C_GetFunctionList: Some(C_GetFunctionList),
        C_Initialize: Some(initialize::initialize),
        C_Login: Some(pin::login),
        C_SignInit: Some(sign::sign_init),
        C_Sign: Some(sign::sign),
        C_SignUpdate: Some(sign::sign_update),
        C_SignFinal: Some(sign::sign_final),
        C_CloseSession: Some(session::close_session),
        C_CloseAllSessions: Some(session::close_all_sessions),
        C_Finalize: Some(session::finalize),
        // Ways to a signature whose key or input the forwarder would not see: not supported, as in many modules.
        C_SignRecoverInit: Some(unsupported::sign_recover_init),
        C_SignEncryptUpdate: Some(unsupported::sign_encrypt_update),
        C_SetOperationState: Some(unsupported::set_operation_state),
        ..*real
    }
}

/// The same, with all further functions over it that a fault may strike.
pub(crate) fn over_with_faults(real: &CK_FUNCTION_LIST) -> CK_FUNCTION_LIST {
    let mut list = CK_FUNCTION_LIST {
        C_GetSlotList: Some(slots::slot_list),
        C_GetSlotInfo: Some(slots::slot_info),
        C_GetTokenInfo: Some(slots::token_info),
        C_WaitForSlotEvent: Some(slots::wait_for_slot_event),
        C_OpenSession: Some(slots::open_session),
        C_GetSessionInfo: Some(slots::session_info),
        C_GetAttributeValue: Some(attributes::attribute_value),
        C_InitPIN: Some(pin::init_pin),
        C_SetPIN: Some(pin::set_pin),
        ..over(real)
    };
    forwarded::install(&mut list);
    list
}

/// Whether rules may name the function.
pub(crate) fn takes_faults(name: &str) -> bool {
    [WITH_SESSION, WITHOUT_SESSION, forwarded::WITH_SESSION, forwarded::ON_SLOT, forwarded::WITHOUT_SESSION]
        .iter()
        .any(|names| names.contains(&name))
}

/// Whether the function has a session as first argument.
pub(crate) fn has_session(name: &str) -> bool {
    WITH_SESSION.contains(&name) || forwarded::WITH_SESSION.contains(&name)
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
