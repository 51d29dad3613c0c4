//! The signing operation, from `C_SignInit` to the signature: journaled, then what the rules do with it, then the
//! caller has it.
//!
//! With a control folder the real operation runs in a session of its own beside the caller's. PKCS#11 2.40 has no way
//! to end an operation without a signature but to end its session: so a fault before the key ends that one, and the
//! key makes nothing.

use crate::{
    control::Call,
    faults::{Answer, Withheld},
    forwarder::{Forwarder, Refusal, enter},
    journal::{Event, SignatureMade},
    operations::{self, Operation},
    real::{OwnSession, call},
};
use cryptoki_sys::{
    CK_BYTE, CK_MECHANISM, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG, CKR_BUFFER_TOO_SMALL,
    CKR_OK, CKR_OPERATION_ACTIVE, CKR_USER_NOT_LOGGED_IN,
};

/// The key's id is read first: once the operation is active, nothing else may fail.
pub(super) unsafe extern "C" fn sign_init(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    enter("C_SignInit", |forwarder| {
        let key_id = forwarder.key_id(session, key);
        let name = key_id.as_deref().ok().map(operations::hex);
        let call = Call { key: name, ..Call::in_session("C_SignInit", session) };
        if let Some(answer) = forwarder.before(&call)? {
            return Ok(answer.rv);
        }
        // SAFETY: null is told apart; else the caller gives one mechanism.
        let rv = unsafe { begin(forwarder, session, mechanism, key, key_id) }?;
        match forwarder.after(&call, None)? {
            Some(answer) => end(forwarder, session, answer),
            None => Ok(rv),
        }
    })
}

/// # Safety
/// `mechanism` is null or one mechanism.
unsafe fn begin(
    forwarder: &'static Forwarder,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
    key_id: Result<Vec<u8>, CK_RV>,
) -> Result<CK_RV, Refusal> {
    let _pass = forwarder.pass();
    if forwarder.faults.is_some() && forwarder.operations.key(session)?.is_some() {
        return Ok(CKR_OPERATION_ACTIVE);
    }
    let own = match own_session(forwarder, session) {
        Ok(own) => own,
        Err(rv) => return Ok(rv),
    };
    let place = own.as_ref().map_or(session, OwnSession::handle);
    // SAFETY: the caller's arguments, as they came.
    let rv = unsafe { call!(forwarder.real, C_SignInit(place, mechanism, key)) };
    // SAFETY: null is told apart by this function's own contract.
    let Some(mechanism) = (unsafe { mechanism.as_ref() }) else { return Ok(rv) };
    if rv == CKR_OK {
        let key_id = key_id.map_err(|rv| Refusal::KeyUnnamed { rv })?;
        let view = forwarder.view()?;
        let awaits = view.is_some_and(|view| view.token.wants_login_for(&operations::hex(&key_id)));
        let operation = Operation::new(key_id, mechanism.mechanism).run_in(own).awaiting_login(awaits);
        forwarder.operations.begin(session, operation)?;
    }
    Ok(rv)
}

/// With faults, the session in which the operation runs, or why there is none.
fn own_session(
    forwarder: &'static Forwarder,
    session: CK_SESSION_HANDLE,
) -> Result<Option<OwnSession>, CK_RV> {
    forwarder.faults.as_ref().map(|_| OwnSession::beside(&forwarder.real, session)).transpose()
}

pub(super) unsafe extern "C" fn sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_len: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_len: *mut CK_ULONG,
) -> CK_RV {
    let output = Output { bytes: signature, len: signature_len };
    enter("C_Sign", |forwarder| {
        let call = output.call(forwarder, "C_Sign", session)?;
        finish(forwarder, &call, output, Event::Sign, |place, operation, output| {
            if let Some(operation) = operation.filter(|_| output.is_wanted()) {
                // Before the call: the signature may be written over its input.
                // SAFETY: the caller's input, readable during the call.
                operation.absorb_whole(unsafe { borrow(data, data_len) }?);
            }
            // SAFETY: the caller's arguments, or a null output in place of the caller's.
            Ok(unsafe { call!(forwarder.real, C_Sign(place, data, data_len, output.bytes, output.len)) })
        })
    })
}

pub(super) unsafe extern "C" fn sign_final(
    session: CK_SESSION_HANDLE,
    signature: *mut CK_BYTE,
    signature_len: *mut CK_ULONG,
) -> CK_RV {
    let output = Output { bytes: signature, len: signature_len };
    enter("C_SignFinal", |forwarder| {
        let call = output.call(forwarder, "C_SignFinal", session)?;
        finish(forwarder, &call, output, Event::SignFinal, |place, _, output| {
            // SAFETY: the caller's arguments, or a null output in place of the caller's.
            Ok(unsafe { call!(forwarder.real, C_SignFinal(place, output.bytes, output.len)) })
        })
    })
}

pub(super) unsafe extern "C" fn sign_update(
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    part_len: CK_ULONG,
) -> CK_RV {
    enter("C_SignUpdate", |forwarder| {
        let key = forwarder.operations.key(session)?;
        let call = Call { key, ..Call::in_session("C_SignUpdate", session) };
        if let Some(answer) = forwarder.before(&call)? {
            return end(forwarder, session, answer);
        }
        // SAFETY: the caller's arguments, as they came.
        let rv = unsafe { update(forwarder, session, part, part_len) }?;
        match forwarder.after(&call, None)? {
            Some(answer) => end(forwarder, session, answer),
            None => Ok(rv),
        }
    })
}

/// # Safety
/// `part` is null or readable for `part_len` bytes.
unsafe fn update(
    forwarder: &Forwarder,
    session: CK_SESSION_HANDLE,
    part: *mut CK_BYTE,
    part_len: CK_ULONG,
) -> Result<CK_RV, Refusal> {
    let _pass = forwarder.pass();
    let operation = forwarder.operations.take(session)?;
    if operation.as_ref().is_some_and(Operation::awaits_login) {
        return Ok(CKR_USER_NOT_LOGGED_IN);
    }
    let place = operation.as_ref().map_or(session, |operation| operation.place(session));
    // SAFETY: the caller's arguments, as they came.
    let rv = unsafe { call!(forwarder.real, C_SignUpdate(place, part, part_len)) };
    if let (Some(mut operation), CKR_OK) = (operation, rv) {
        // SAFETY: the caller's part, readable during the call; the module took it without complaint.
        operation.absorb(unsafe { borrow(part, part_len) }?);
        forwarder.operations.begin(session, operation)?;
    }
    Ok(rv)
}

/// An error ends the operation, as PKCS#11 demands, unless the rule models a module that forgets to.
fn end(forwarder: &Forwarder, session: CK_SESSION_HANDLE, answer: Answer) -> Result<CK_RV, Refusal> {
    if !answer.poison {
        let _pass = forwarder.pass();
        drop(forwarder.operations.take(session)?);
    }
    Ok(answer.rv)
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

    /// The call that ends here, as rules see it.
    fn call(
        self,
        forwarder: &Forwarder,
        function: &'static str,
        session: CK_SESSION_HANDLE,
    ) -> Result<Call, Refusal> {
        let key = forwarder.operations.key(session)?;
        Ok(Call { key, length_query: !self.is_wanted(), ..Call::in_session(function, session) })
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
    call: &Call,
    output: Output,
    event: fn(SignatureMade) -> Event,
    ask: impl FnOnce(CK_SESSION_HANDLE, Option<&mut Operation>, Output) -> Result<CK_RV, Refusal>,
) -> Result<CK_RV, Refusal> {
    let session = call.session.unwrap_or_default();
    if let Some(answer) = forwarder.before(call)? {
        return end(forwarder, session, answer);
    }
    let pass = forwarder.pass();
    let Some(mut operation) = forwarder.operations.take(session)? else {
        // A length query makes no signature, and gets the module's own word for what is wrong.
        let rv = ask(session, None, output.length_query())?;
        return if rv == CKR_OK { Err(Refusal::Unseen) } else { Ok(rv) };
    };
    if operation.awaits_login() {
        return Ok(CKR_USER_NOT_LOGGED_IN);
    }
    forwarder.journal.ready()?;
    let rv = ask(operation.place(session), Some(&mut operation), output)?;
    if output.keeps_active(rv) {
        forwarder.operations.begin(session, operation)?;
        return Ok(rv);
    }
    if rv != CKR_OK {
        return Ok(rv);
    }
    let signature = journaled(forwarder, output, |signature| event(operation.signed(signature)))?;
    drop(pass);
    hand_over(forwarder, call, signature)
}

/// The signature stays in the caller's buffer only if the journal has it.
fn journaled<'a>(
    forwarder: &Forwarder,
    output: Output,
    event: impl FnOnce(&[u8]) -> Event,
) -> Result<&'a mut [u8], Refusal> {
    // SAFETY: only called after CKR_OK to a call with a non-null output.
    let signature: &'a mut [u8] = unsafe { output.written() }?;
    match forwarder.journal.append(&event(signature)) {
        Ok(()) => Ok(signature),
        Err(error) => {
            signature.fill(0);
            Err(Refusal::from(error))
        }
    }
}

/// With faults, the signature comes back to the caller's buffer only when the rules are done with it.
fn hand_over(forwarder: &Forwarder, call: &Call, signature: &mut [u8]) -> Result<CK_RV, Refusal> {
    let Some(faults) = &forwarder.faults else { return Ok(CKR_OK) };
    let key = call.key.as_deref().unwrap_or_default();
    let mut withheld = Withheld { bytes: signature.to_vec(), older: faults.older_than(key, signature) };
    signature.fill(0);
    let call = Call { has_older: withheld.older.is_some(), ..call.clone() };
    if let Some(answer) = forwarder.after(&call, Some(&mut withheld))? {
        return Ok(answer.rv);
    }
    signature.iter_mut().zip(&withheld.bytes).for_each(|(place, byte)| *place = *byte);
    Ok(CKR_OK)
}

/// The caller's bytes; none if the pointer is null.
///
/// # Safety
/// A non-null `bytes` is readable for `len` bytes during the call, and nobody writes to it meanwhile.
pub(super) unsafe fn borrow<'a>(bytes: *const CK_BYTE, len: CK_ULONG) -> Result<&'a [u8], Refusal> {
    if bytes.is_null() {
        return Ok(&[]);
    }
    let len = isize::try_from(len).map_err(|_| Refusal::Length { bytes: len })?;
    // SAFETY: not null, within an address space, readable by this function's own contract.
    Ok(unsafe { std::slice::from_raw_parts(bytes, len.unsigned_abs()) })
}
