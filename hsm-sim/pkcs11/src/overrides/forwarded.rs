//! The functions that only pass through, between what the rules do before and after them.

#![expect(non_snake_case, reason = "the names are PKCS#11's")]

use crate::{control::Call, forwarder::enter, real::call};
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BYTE, CK_FUNCTION_LIST, CK_INFO, CK_MECHANISM, CK_MECHANISM_INFO, CK_MECHANISM_TYPE,
    CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CK_ULONG, CK_UTF8CHAR,
};

/// Puts all of them into the list.
pub(super) fn install(list: &mut CK_FUNCTION_LIST) {
    install_with_session(list);
    install_on_slot(list);
    install_without_session(list);
}

macro_rules! with_session {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        /// Those with a session as first argument.
        pub(super) const WITH_SESSION: &[&str] = &[$(stringify!($name)),*];

        fn install_with_session(list: &mut CK_FUNCTION_LIST) {
            $(list.$name = Some($name);)*
        }

        $(unsafe extern "C" fn $name(session: CK_SESSION_HANDLE, $($argument: $type),*) -> CK_RV {
            enter(stringify!($name), |forwarder| {
                forwarder.guarded(&Call::in_session(stringify!($name), session), || {
                    let _pass = forwarder.pass();
                    // SAFETY: the caller's arguments, as they came.
                    Ok(unsafe { call!(forwarder.real, $name(session, $($argument),*)) })
                })
            })
        })*
    };
}

macro_rules! on_slot {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        /// Those with a slot as first argument.
        pub(super) const ON_SLOT: &[&str] = &[$(stringify!($name)),*];

        fn install_on_slot(list: &mut CK_FUNCTION_LIST) {
            $(list.$name = Some($name);)*
        }

        $(unsafe extern "C" fn $name(slot: CK_SLOT_ID, $($argument: $type),*) -> CK_RV {
            enter(stringify!($name), |forwarder| {
                forwarder.guarded(&Call::on_slot(stringify!($name)), || {
                    let slot = forwarder.real_slot(slot)?;
                    // SAFETY: the caller's arguments, as they came.
                    Ok(unsafe { call!(forwarder.real, $name(slot, $($argument),*)) })
                })
            })
        })*
    };
}

macro_rules! without_session {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        /// Those with neither.
        pub(super) const WITHOUT_SESSION: &[&str] = &[$(stringify!($name)),*];

        fn install_without_session(list: &mut CK_FUNCTION_LIST) {
            $(list.$name = Some($name);)*
        }

        $(unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
            enter(stringify!($name), |forwarder| {
                forwarder.guarded(&Call::of(stringify!($name)), || {
                    // SAFETY: the caller's arguments, as they came.
                    Ok(unsafe { call!(forwarder.real, $name($($argument),*)) })
                })
            })
        })*
    };
}

with_session! {
    C_GetOperationState(state: *mut CK_BYTE, state_len: *mut CK_ULONG);
    C_Logout();
    C_CreateObject(template: *mut CK_ATTRIBUTE, count: CK_ULONG, object: *mut CK_OBJECT_HANDLE);
    C_CopyObject(from: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG, to: *mut CK_OBJECT_HANDLE);
    C_DestroyObject(object: CK_OBJECT_HANDLE);
    C_GetObjectSize(object: CK_OBJECT_HANDLE, size: *mut CK_ULONG);
    C_SetAttributeValue(object: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG);
    C_FindObjectsInit(template: *mut CK_ATTRIBUTE, count: CK_ULONG);
    C_FindObjects(objects: *mut CK_OBJECT_HANDLE, room: CK_ULONG, count: *mut CK_ULONG);
    C_FindObjectsFinal();
    C_EncryptInit(mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_Encrypt(input: *mut CK_BYTE, input_len: CK_ULONG, output: *mut CK_BYTE, output_len: *mut CK_ULONG);
    C_EncryptUpdate(input: *mut CK_BYTE, input_len: CK_ULONG, output: *mut CK_BYTE, output_len: *mut CK_ULONG);
    C_EncryptFinal(output: *mut CK_BYTE, output_len: *mut CK_ULONG);
    C_DecryptInit(mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_Decrypt(input: *mut CK_BYTE, input_len: CK_ULONG, output: *mut CK_BYTE, output_len: *mut CK_ULONG);
    C_DecryptUpdate(input: *mut CK_BYTE, input_len: CK_ULONG, output: *mut CK_BYTE, output_len: *mut CK_ULONG);
    C_DecryptFinal(output: *mut CK_BYTE, output_len: *mut CK_ULONG);
    C_DigestInit(mechanism: *mut CK_MECHANISM);
    C_Digest(input: *mut CK_BYTE, input_len: CK_ULONG, output: *mut CK_BYTE, output_len: *mut CK_ULONG);
    C_DigestUpdate(part: *mut CK_BYTE, part_len: CK_ULONG);
    C_DigestKey(key: CK_OBJECT_HANDLE);
    C_DigestFinal(output: *mut CK_BYTE, output_len: *mut CK_ULONG);
    C_VerifyInit(mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_Verify(input: *mut CK_BYTE, input_len: CK_ULONG, signature: *mut CK_BYTE, signature_len: CK_ULONG);
    C_VerifyUpdate(part: *mut CK_BYTE, part_len: CK_ULONG);
    C_VerifyFinal(signature: *mut CK_BYTE, signature_len: CK_ULONG);
    C_VerifyRecoverInit(mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_VerifyRecover(input: *mut CK_BYTE, input_len: CK_ULONG, output: *mut CK_BYTE, output_len: *mut CK_ULONG);
    C_DigestEncryptUpdate(input: *mut CK_BYTE, input_len: CK_ULONG, output: *mut CK_BYTE, output_len: *mut CK_ULONG);
    C_DecryptDigestUpdate(input: *mut CK_BYTE, input_len: CK_ULONG, output: *mut CK_BYTE, output_len: *mut CK_ULONG);
    C_DecryptVerifyUpdate(input: *mut CK_BYTE, input_len: CK_ULONG, output: *mut CK_BYTE, output_len: *mut CK_ULONG);
    C_GenerateKey(mechanism: *mut CK_MECHANISM, template: *mut CK_ATTRIBUTE, count: CK_ULONG, key: *mut CK_OBJECT_HANDLE);
    C_GenerateKeyPair(
        mechanism: *mut CK_MECHANISM, public: *mut CK_ATTRIBUTE, public_count: CK_ULONG, private: *mut CK_ATTRIBUTE,
        private_count: CK_ULONG, public_key: *mut CK_OBJECT_HANDLE, private_key: *mut CK_OBJECT_HANDLE
    );
    C_WrapKey(
        mechanism: *mut CK_MECHANISM, wrapping: CK_OBJECT_HANDLE, key: CK_OBJECT_HANDLE, output: *mut CK_BYTE,
        output_len: *mut CK_ULONG
    );
    C_UnwrapKey(
        mechanism: *mut CK_MECHANISM, unwrapping: CK_OBJECT_HANDLE, input: *mut CK_BYTE, input_len: CK_ULONG,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG, key: *mut CK_OBJECT_HANDLE
    );
    C_DeriveKey(
        mechanism: *mut CK_MECHANISM, base: CK_OBJECT_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        key: *mut CK_OBJECT_HANDLE
    );
    C_SeedRandom(seed: *mut CK_BYTE, seed_len: CK_ULONG);
    C_GenerateRandom(output: *mut CK_BYTE, output_len: CK_ULONG);
    C_GetFunctionStatus();
    C_CancelFunction();
}

on_slot! {
    C_GetMechanismList(mechanisms: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG);
    C_GetMechanismInfo(mechanism: CK_MECHANISM_TYPE, info: *mut CK_MECHANISM_INFO);
    C_InitToken(pin: *mut CK_UTF8CHAR, pin_len: CK_ULONG, label: *mut CK_UTF8CHAR);
}

without_session! {
    C_GetInfo(info: *mut CK_INFO);
}
