//! The module as a C program calls it.
#![expect(unsafe_code, reason = "calls the module as C does")]

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_C_INITIALIZE_ARGS, CK_FUNCTION_LIST, CK_MECHANISM, CK_RV, CK_SESSION_INFO,
    CK_TOKEN_INFO, CK_TRUE, CK_USER_TYPE, CKA_CLASS, CKA_ID, CKF_OS_LOCKING_OK, CKF_RW_SESSION,
    CKF_SERIAL_SESSION, CKF_TOKEN_INITIALIZED, CKM_ECDSA, CKR_OK,
};
use std::{env, ptr::null_mut};

/// The function list as a C program has it.
pub(crate) struct Raw {
    list: CK_FUNCTION_LIST,
    pub(crate) session: u64,
    pub(crate) key: u64,
    _library: libloading::Library,
}

impl Raw {
    /// The module that the parent named, to be called with these handles.
    pub(crate) fn load(session: u64, key: u64) -> Self {
        type Getter = unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV;
        let mut list = null_mut();
        // SAFETY: the forwarder, which cryptoki loaded before; its entry point has PKCS#11's type.
        let (list, library) = unsafe {
            let library = libloading::Library::new(env::var("CHILD_MODULE").unwrap()).unwrap();
            let getter = library.get::<Getter>(b"C_GetFunctionList\0").unwrap();
            assert_eq!(getter(&raw mut list), CKR_OK);
            (*list, library)
        };
        Self { list, session, key, _library: library }
    }

    /// Begins, in the only slot with a token, which it returns.
    pub(crate) fn initialize(&self) -> u64 {
        let mut arguments = CK_C_INITIALIZE_ARGS { flags: CKF_OS_LOCKING_OK, ..Default::default() };
        // SAFETY: the arguments live during the call.
        assert_eq!(unsafe { self.list.C_Initialize.unwrap()((&raw mut arguments).cast()) }, CKR_OK);
        let (rv, slots) = self.slots();
        assert_eq!(rv, CKR_OK);
        let initialized = |slot: &u64| self.token_info(*slot).1.flags & CKF_TOKEN_INITIALIZED != 0;
        slots.into_iter().find(initialized).unwrap()
    }

    /// The slots that have a token.
    pub(crate) fn slots(&self) -> (CK_RV, Vec<u64>) {
        let mut slots = vec![0; 16];
        let mut count = slots.len() as u64;
        // SAFETY: room for as many slots as are announced.
        let rv = unsafe { self.list.C_GetSlotList.unwrap()(CK_TRUE, slots.as_mut_ptr(), &raw mut count) };
        slots.truncate(usize::try_from(count).unwrap());
        (rv, slots)
    }

    pub(crate) fn token_info(&self, slot: u64) -> (CK_RV, CK_TOKEN_INFO) {
        let mut info = CK_TOKEN_INFO::default();
        // SAFETY: the place lives during the call.
        let rv = unsafe { self.list.C_GetTokenInfo.unwrap()(slot, &raw mut info) };
        (rv, info)
    }

    /// A session for reading and writing, which further calls use.
    pub(crate) fn open(&mut self, slot: u64) -> CK_RV {
        let flags = CKF_SERIAL_SESSION | CKF_RW_SESSION;
        // SAFETY: the place lives during the call.
        unsafe { self.list.C_OpenSession.unwrap()(slot, flags, null_mut(), None, &raw mut self.session) }
    }

    pub(crate) fn close(&self) -> CK_RV {
        // SAFETY: no pointers.
        unsafe { self.list.C_CloseSession.unwrap()(self.session) }
    }

    pub(crate) fn session_info(&self) -> CK_RV {
        let mut info = CK_SESSION_INFO::default();
        // SAFETY: the place lives during the call.
        unsafe { self.list.C_GetSessionInfo.unwrap()(self.session, &raw mut info) }
    }

    pub(crate) fn login(&self, user: CK_USER_TYPE, pin: Option<&str>) -> CK_RV {
        let (bytes, len) = pin.map_or((null_mut(), 0), |pin| (pin.as_ptr().cast_mut(), pin.len()));
        // SAFETY: the PIN lives during the call.
        unsafe { self.list.C_Login.unwrap()(self.session, user, bytes, len as u64) }
    }

    /// Finds the object of this class with id a1, which further calls use if it is a private key.
    pub(crate) fn find(&self, class: u64) -> (CK_RV, Option<u64>) {
        let (mut class, mut id) = (class, [0xa1u8]);
        let mut template = [
            CK_ATTRIBUTE { type_: CKA_CLASS, pValue: (&raw mut class).cast(), ulValueLen: 8 },
            CK_ATTRIBUTE { type_: CKA_ID, pValue: id.as_mut_ptr().cast(), ulValueLen: 1 },
        ];
        let (mut object, mut count) = (0, 0);
        // SAFETY: template and places live during the calls.
        unsafe {
            let rv = self.list.C_FindObjectsInit.unwrap()(self.session, template.as_mut_ptr(), 2);
            if rv != CKR_OK {
                return (rv, None);
            }
            let rv = self.list.C_FindObjects.unwrap()(self.session, &raw mut object, 1, &raw mut count);
            self.list.C_FindObjectsFinal.unwrap()(self.session);
            (rv, (count == 1).then_some(object))
        }
    }

    /// One attribute, into a buffer of this size; without one, only its length.
    pub(crate) fn attribute(&self, object: u64, kind: u64, room: Option<usize>) -> (CK_RV, u64, Vec<u8>) {
        let mut value = vec![0; room.unwrap_or(0)];
        let place = room.map_or(null_mut(), |_| value.as_mut_ptr());
        let mut template = CK_ATTRIBUTE { type_: kind, pValue: place.cast(), ulValueLen: value.len() as u64 };
        // SAFETY: template and value live during the call.
        let rv =
            unsafe { self.list.C_GetAttributeValue.unwrap()(self.session, object, &raw mut template, 1) };
        (rv, template.ulValueLen, value)
    }

    pub(crate) fn sign_init(&self) -> CK_RV {
        let mut mechanism = CK_MECHANISM { mechanism: CKM_ECDSA, pParameter: null_mut(), ulParameterLen: 0 };
        // SAFETY: the mechanism lives during the call.
        unsafe { self.list.C_SignInit.unwrap()(self.session, &raw mut mechanism, self.key) }
    }

    pub(crate) fn sign_recover_init(&self) -> CK_RV {
        let mut mechanism = CK_MECHANISM { mechanism: CKM_ECDSA, pParameter: null_mut(), ulParameterLen: 0 };
        // SAFETY: the mechanism lives during the call.
        unsafe { self.list.C_SignRecoverInit.unwrap()(self.session, &raw mut mechanism, self.key) }
    }

    pub(crate) fn sign(&self, input: &[u8], output: &mut [u8]) -> CK_RV {
        self.call(input.as_ptr().cast_mut(), input.len(), output.as_mut_ptr(), output.len()).0
    }

    pub(crate) fn sign_in_place(&self, buffer: &mut [u8], input_len: usize) -> CK_RV {
        self.call(buffer.as_mut_ptr(), input_len, buffer.as_mut_ptr(), buffer.len()).0
    }

    pub(crate) fn length(&self, input: &[u8]) -> u64 {
        let (rv, length) = self.call(input.as_ptr().cast_mut(), input.len(), null_mut(), 0);
        assert_eq!(rv, CKR_OK);
        length
    }

    fn call(&self, input: *mut u8, input_len: usize, output: *mut u8, output_len: usize) -> (CK_RV, u64) {
        let mut length = output_len as u64;
        // SAFETY: the callers above pass pointers into slices with their lengths.
        let rv = unsafe {
            self.list.C_Sign.unwrap()(self.session, input, input_len as u64, output, &raw mut length)
        };
        (rv, length)
    }
}
