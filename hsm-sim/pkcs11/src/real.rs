//! The real module: loaded once, never unloaded, and the few questions that the forwarder asks on its own account.

#![expect(unsafe_code, reason = "loads a C library and calls it")]

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_FALSE, CK_FUNCTION_LIST, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_SESSION_INFO,
    CK_SLOT_ID, CK_ULONG, CKA_ID, CKR_GENERAL_ERROR, CKR_OK,
};
use libloading::{Library, Symbol};
use std::{
    path::{Path, PathBuf},
    ptr::null_mut,
};

/// The bound of a key's name. PKCS#11 sets none; 1 to 20 bytes are usual.
const MAX_KEY_ID_BYTES: usize = 256;

/// More than any machine has in tests.
const MAX_SLOTS: usize = 64;

type FunctionListGetter = unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV;

/// Calls a function of the real module, which may lack it.
macro_rules! call {
    ($real:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $real.functions().$function {
            Some(function) => function($($argument),*),
            None => cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}
pub(crate) use call;

/// A real module that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("{}: cannot be loaded; name a PKCS#11 module in HSM_SIM_MODULE", path.display())]
    Library { path: PathBuf, source: libloading::Error },
    #[error("{}: has no C_GetFunctionList; name a PKCS#11 module in HSM_SIM_MODULE", path.display())]
    Symbol { path: PathBuf, source: libloading::Error },
    #[error("{}: this is the forwarder itself; name the real module in HSM_SIM_MODULE", path.display())]
    Itself { path: PathBuf },
    #[error("{}: C_GetFunctionList said 0x{rv:x}", path.display())]
    FunctionList { path: PathBuf, rv: CK_RV },
}

/// The loaded module.
pub(crate) struct Real {
    functions: CK_FUNCTION_LIST,
    /// Keeps `functions` callable.
    _library: Library,
}

impl Real {
    /// Loads the module at `path`, which must not be the one whose entry point is `own`.
    pub(crate) fn load(path: &Path, own: FunctionListGetter) -> Result<Self, LoadError> {
        // SAFETY: the test names a PKCS#11 module, whose initialisers are those of any shared library.
        let library = unsafe { Library::new(path) }
            .map_err(|source| LoadError::Library { path: path.to_owned(), source })?;
        let functions = function_list(&library, path, own)?;
        Ok(Self { functions, _library: library })
    }

    /// The real functions.
    pub(crate) fn functions(&self) -> &CK_FUNCTION_LIST {
        &self.functions
    }

    /// A key's `CKA_ID`, or what the module said instead.
    pub(crate) fn key_id(&self, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Result<Vec<u8>, CK_RV> {
        let mut id = [0u8; MAX_KEY_ID_BYTES];
        let mut attribute = CK_ATTRIBUTE {
            type_: CKA_ID,
            pValue: id.as_mut_ptr().cast(),
            ulValueLen: CK_ULONG::try_from(id.len()).map_err(|_| CKR_GENERAL_ERROR)?,
        };
        // SAFETY: one attribute, whose value points to as many bytes as it says, both alive during the call.
        let rv = unsafe { call!(self, C_GetAttributeValue(session, key, &raw mut attribute, 1)) };
        if rv != CKR_OK {
            return Err(rv);
        }
        let length = usize::try_from(attribute.ulValueLen).map_err(|_| CKR_GENERAL_ERROR)?;
        id.get(..length).map(<[u8]>::to_vec).ok_or(CKR_GENERAL_ERROR)
    }

    /// Whether the module still knows the session.
    pub(crate) fn has_session(&self, session: CK_SESSION_HANDLE) -> bool {
        self.session_info(session).is_ok()
    }

    /// The module's slots; none if it says nothing.
    pub(crate) fn slots(&self) -> Vec<CK_SLOT_ID> {
        let mut slots = [0; MAX_SLOTS];
        let mut count = slots.len() as CK_ULONG;
        // SAFETY: room for as many slots as are announced, alive during the call.
        let rv = unsafe { call!(self, C_GetSlotList(CK_FALSE, slots.as_mut_ptr(), &raw mut count)) };
        let count = if rv == CKR_OK { usize::try_from(count).unwrap_or_default() } else { 0 };
        slots.into_iter().take(count).collect()
    }

    fn session_info(&self, session: CK_SESSION_HANDLE) -> Result<CK_SESSION_INFO, CK_RV> {
        let mut info = CK_SESSION_INFO::default();
        // SAFETY: `info` is writable and alive during the call.
        let rv = unsafe { call!(self, C_GetSessionInfo(session, &raw mut info)) };
        if rv == CKR_OK { Ok(info) } else { Err(rv) }
    }
}

/// A real session that no caller has, closed when it is dropped: whatever runs in it ends with it.
pub(crate) struct OwnSession {
    real: &'static Real,
    handle: CK_SESSION_HANDLE,
}

impl OwnSession {
    /// Opens one of the same kind on the same token as the caller's `session`, or returns what the module said.
    pub(crate) fn beside(real: &'static Real, session: CK_SESSION_HANDLE) -> Result<Self, CK_RV> {
        let info = real.session_info(session)?;
        let mut handle = 0;
        // SAFETY: no callback, and `handle` is writable and alive during the call.
        let rv =
            unsafe { call!(real, C_OpenSession(info.slotID, info.flags, null_mut(), None, &raw mut handle)) };
        if rv == CKR_OK { Ok(Self { real, handle }) } else { Err(rv) }
    }

    pub(crate) fn handle(&self) -> CK_SESSION_HANDLE {
        self.handle
    }
}

impl Drop for OwnSession {
    fn drop(&mut self) {
        // A session that is gone already is as closed as can be.
        // SAFETY: no pointers.
        unsafe { call!(self.real, C_CloseSession(self.handle)) };
    }
}

fn function_list(
    library: &Library,
    path: &Path,
    own: FunctionListGetter,
) -> Result<CK_FUNCTION_LIST, LoadError> {
    // SAFETY: PKCS#11 2.40 gives this symbol this type.
    let getter: Symbol<FunctionListGetter> = unsafe { library.get(b"C_GetFunctionList\0") }
        .map_err(|source| LoadError::Symbol { path: path.to_owned(), source })?;
    if std::ptr::fn_addr_eq(*getter, own) {
        return Err(LoadError::Itself { path: path.to_owned() });
    }
    let mut list = std::ptr::null_mut();
    // SAFETY: `list` is writable and alive during the call.
    let rv = unsafe { getter(&raw mut list) };
    // SAFETY: after CKR_OK it points to the module's own list, which lives as long as the library.
    match unsafe { list.as_ref() } {
        Some(functions) if rv == CKR_OK => Ok(*functions),
        _ => Err(LoadError::FunctionList { path: path.to_owned(), rv }),
    }
}
