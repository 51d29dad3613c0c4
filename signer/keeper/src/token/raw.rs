//! `C_Sign` called directly: the one call that the binding has no form for, and the keeper's only unsafe code.
//!
//! A key with `CKA_ALWAYS_AUTHENTICATE` wants a login between `C_SignInit` and `C_Sign`, which the binding's own `sign`
//! leaves no room for; and that asks for the length first, one round trip more on a networked HSM. So all signatures are
//! made here. It promises: one call a signature, into a buffer that fits any key. It does not know keys or mechanisms.

#![expect(unsafe_code, reason = "takes C_Sign from the module that the binding has loaded, and calls it")]

use cryptoki::context::Function;
use cryptoki::error::{Error, Rv};
use cryptoki::session::Session;
use cryptoki_sys::{CK_BYTE_PTR, CK_FUNCTION_LIST, CK_RV, CK_SESSION_HANDLE, CK_ULONG, CK_ULONG_PTR, CKR_OK};
use libloading::Library;
use std::path::Path;

/// Longest signature: that of a key of 8192 bits, twice what any token of the field holds.
const MAX_SIGNATURE: usize = 1024;

type GetFunctionList = unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV;
type Sign =
    unsafe extern "C" fn(CK_SESSION_HANDLE, CK_BYTE_PTR, CK_ULONG, CK_BYTE_PTR, CK_ULONG_PTR) -> CK_RV;

/// The `C_Sign` of a module.
#[derive(Debug)]
pub(crate) struct RawSign {
    sign: Sign,
    /// Keeps `sign` callable.
    _library: Library,
}

impl RawSign {
    /// Takes it from the module at `path`, which the binding has loaded: the system gives the same library again.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        // SAFETY: the library is loaded already, so no initialiser runs; the operator named it as a PKCS#11 module.
        let library = unsafe { Library::new(path) }.map_err(|e| e.to_string())?;
        // SAFETY: PKCS#11 gives this symbol this type, in every version.
        let list = unsafe { library.get::<GetFunctionList>(b"C_GetFunctionList\0") };
        let list = list.map_err(|e| e.to_string())?;
        let mut functions = std::ptr::null_mut();
        // SAFETY: `functions` is writable and alive during the call.
        let rv = unsafe { list(&raw mut functions) };
        if rv != CKR_OK {
            return Err(format!("C_GetFunctionList said 0x{rv:x}"));
        }
        // SAFETY: after CKR_OK it points to the module's own list, which lives as long as the library.
        let sign = unsafe { functions.as_ref() }.and_then(|functions| functions.C_Sign);
        let sign = sign.ok_or_else(|| "the module has no C_Sign".to_owned())?;
        Ok(Self { sign, _library: library })
    }

    /// Ends the operation that `C_SignInit` began in `session`, which must be one of the same module.
    pub(crate) fn sign(&self, session: &Session, data: &[u8]) -> Result<Vec<u8>, Error> {
        let mut signature = vec![0u8; MAX_SIGNATURE];
        let (given, mut length) = (data.len() as CK_ULONG, signature.len() as CK_ULONG);
        // SAFETY: both pointers are good for the lengths beside them and outlive the call; the data is only read.
        let rv = unsafe {
            (self.sign)(
                session.handle(),
                data.as_ptr().cast_mut(),
                given,
                signature.as_mut_ptr(),
                &raw mut length,
            )
        };
        Rv::from(rv).into_result(Function::Sign)?;
        // A module that says more than there was room for has made nothing that verifies.
        signature.truncate(usize::try_from(length).unwrap_or(0));
        Ok(signature)
    }
}
