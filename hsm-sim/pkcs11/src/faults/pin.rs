//! A token that counts wrong PINs, has a PIN pad, or wants a login for each signature.
//!
//! Promises: of a PIN that the token took, this process keeps the SHA-256, and nothing is kept outside it.

use super::Faults;
use crate::{
    control::{ControlError, View},
    forwarder::{Forwarder, Refusal},
};
use cryptoki_sys::{
    CK_RV, CK_SESSION_HANDLE, CK_USER_TYPE, CKR_OK, CKR_PIN_INCORRECT, CKR_PIN_LOCKED, CKU_CONTEXT_SPECIFIC,
    CKU_USER,
};
use sha2::{Digest, Sha256};
use std::{fs::File, io::Read, path::Path};

/// No token takes a longer one.
const MAX_PIN_BYTES: u64 = 255;

impl Forwarder {
    /// A login of `user` with `pin`, none if it is typed on the token's pad. `real` asks the real token.
    pub(crate) fn login(
        &self,
        session: CK_SESSION_HANDLE,
        user: CK_USER_TYPE,
        pin: Option<&[u8]>,
        real: impl Fn(CK_SESSION_HANDLE, Option<&[u8]>) -> CK_RV,
    ) -> Result<CK_RV, Refusal> {
        let Some(faults) = &self.faults else { return Ok(real(session, pin)) };
        let view = faults.control.view()?;
        let typed = typed(&view, pin)?;
        let pin = pin.or(typed.as_deref());
        match user {
            CKU_USER => faults.counted(&view, || {
                let rv = real(session, pin);
                if rv == CKR_OK {
                    faults.remember_pin(pin);
                }
                Ok(rv)
            }),
            CKU_CONTEXT_SPECIFIC => faults.counted(&view, || self.login_for_signature(session, pin, &real)),
            _ => Ok(real(session, pin)),
        }
    }

    /// The real token has a word in it only if its key wants such logins too. Else the PIN is compared with the one
    /// that it took last.
    fn login_for_signature(
        &self,
        session: CK_SESSION_HANDLE,
        pin: Option<&[u8]>,
        real: &impl Fn(CK_SESSION_HANDLE, Option<&[u8]>) -> CK_RV,
    ) -> Result<CK_RV, Refusal> {
        let rv = real(self.operations.place(session)?, pin);
        if !self.operations.awaits_login(session)? {
            return Ok(rv);
        }
        let right = match rv {
            CKR_OK => true,
            CKR_PIN_INCORRECT => false,
            _ => self.faults.as_ref().is_some_and(|faults| faults.knows_pin(pin)),
        };
        if right {
            self.operations.logged_in(session)?;
        }
        Ok(if right { CKR_OK } else { CKR_PIN_INCORRECT })
    }

    /// A call that shows the old PIN and, if it succeeds, sets the new one.
    pub(crate) fn set_pin(&self, new: &[u8], real: impl FnOnce() -> CK_RV) -> Result<CK_RV, Refusal> {
        let Some(faults) = &self.faults else { return Ok(real()) };
        faults.counted(&faults.control.view()?, || {
            let rv = real();
            if rv == CKR_OK {
                faults.remember_pin(Some(new));
            }
            Ok(rv)
        })
    }
}

impl Faults {
    /// A try that may use up the PIN: taken before, as a real token does, so that a kill does not save it.
    fn counted(
        &self,
        view: &View,
        attempt: impl FnOnce() -> Result<CK_RV, Refusal>,
    ) -> Result<CK_RV, Refusal> {
        if view.token.pin_tries.is_none() {
            return attempt();
        }
        if !self.control.take_pin_try()? {
            return Ok(CKR_PIN_LOCKED);
        }
        let rv = attempt()?;
        match rv {
            CKR_OK => self.control.reset_pin_tries()?,
            CKR_PIN_INCORRECT => {}
            _ => self.control.give_back_pin_try()?,
        }
        Ok(rv)
    }

    fn remember_pin(&self, pin: Option<&[u8]>) {
        if let Ok(mut accepted) = self.accepted_pin.lock() {
            *accepted = pin.map(|pin| Sha256::digest(pin).into());
        }
    }

    fn knows_pin(&self, pin: Option<&[u8]>) -> bool {
        let accepted = self.accepted_pin.lock().ok().and_then(|accepted| *accepted);
        pin.is_some_and(|pin| accepted == Some(Sha256::digest(pin).into()))
    }
}

/// What somebody typed on the pad, if the token has one and the caller gave no PIN.
fn typed(view: &View, pin: Option<&[u8]>) -> Result<Option<Vec<u8>>, ControlError> {
    match &view.token.protected_authentication_path {
        Some(file) if pin.is_none() => read(file).map(Some),
        _ => Ok(None),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, ControlError> {
    let mut pin = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(MAX_PIN_BYTES).read_to_end(&mut pin))
        .map_err(ControlError::file("read what is typed on the PIN pad", file))?;
    Ok(pin)
}
