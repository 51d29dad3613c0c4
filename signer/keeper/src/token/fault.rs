//! What an error of a PKCS#11 library means: whether a signature may exist, and whether asking again can help.

use super::TokenError;
use super::attributes::ExamineError;
use crate::code;
use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The session or a cached handle is stale: a fresh session can help.
    Session,
    /// The library, the token or the login is gone: everything must be opened anew.
    Reopen,
    /// The token is at a limit: a later request can help.
    Busy,
    /// Asking again cannot help.
    Refused,
}

/// A failed attempt to sign.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) class: Class,
    pub(crate) may_have_signed: bool,
    detail: String,
}

impl Fault {
    /// A fault before the key was asked.
    pub(crate) fn before(class: Class, detail: String) -> Self {
        Self { class, may_have_signed: false, detail }
    }

    /// Whether one more attempt is right: never when a signature may exist.
    pub(crate) fn retry(&self) -> bool {
        !self.may_have_signed && matches!(self.class, Class::Session | Class::Reopen)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let (class, may_have_signed) = match &error {
            Error::Pkcs11(rv, function) => {
                (class(rv), matches!(function, Function::Sign) && !refused_at_entry(rv))
            }
            Error::NullFunctionPointer | Error::NotSupported => (Class::Refused, false),
            _ => (Class::Refused, true),
        };
        Self { class, may_have_signed, detail: error.to_string() }
    }
}

impl From<ExamineError> for Fault {
    fn from(error: ExamineError) -> Self {
        match error {
            ExamineError::Token(error) => Self { may_have_signed: false, ..Self::from(error) },
            // A replaced token shows itself by other keys; opening it anew finds out.
            ExamineError::Key(detail) => Self::before(Class::Reopen, detail),
        }
    }
}

impl From<Fault> for TokenError {
    fn from(fault: Fault) -> Self {
        let code = code(match fault.class {
            Class::Session => "token-session",
            Class::Reopen => "token-gone",
            Class::Busy => "token-busy",
            Class::Refused => "token-refused",
        });
        if fault.may_have_signed {
            Self::Unknown { code, detail: fault.detail }
        } else {
            Self::NotSigned { code, detail: fault.detail }
        }
    }
}

fn class(rv: &RvError) -> Class {
    use RvError::*;
    match rv {
        SessionHandleInvalid
        | SessionClosed
        | OperationActive
        | OperationNotInitialized
        | ObjectHandleInvalid
        | KeyHandleInvalid => Class::Session,
        UserNotLoggedIn
        | DeviceRemoved
        | TokenNotPresent
        | TokenNotRecognized
        | SlotIdInvalid
        | DeviceError
        | GeneralError
        | CryptokiNotInitialized => Class::Reopen,
        SessionCount | DeviceMemory | HostMemory | FunctionFailed | VendorDefined(_) => Class::Busy,
        _ => Class::Refused,
    }
}

/// Return values by which `C_Sign` says that it did not begin: something was wrong when it was called (PKCS#11 v3.0,
/// 5.1). All others may have come after the key was used.
fn refused_at_entry(rv: &RvError) -> bool {
    use RvError::*;
    matches!(
        rv,
        SessionHandleInvalid
            | OperationNotInitialized
            | KeyHandleInvalid
            | ObjectHandleInvalid
            | UserNotLoggedIn
            | TokenNotPresent
            | CryptokiNotInitialized
            | ArgumentsBad
            | DataInvalid
            | DataLenRange
            | MechanismInvalid
            | MechanismParamInvalid
            | KeyFunctionNotPermitted
            | KeyTypeInconsistent
            | PinExpired
            | FunctionNotSupported
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(rv: RvError, function: Function) -> Fault {
        Fault::from(Error::Pkcs11(rv, function))
    }

    #[test]
    fn an_error_that_may_hide_a_signature_is_never_retried_and_ends_as_unknown() {
        for rv in [
            RvError::DeviceError,
            RvError::GeneralError,
            RvError::DeviceRemoved,
            RvError::SessionClosed,
            RvError::FunctionFailed,
            RvError::HostMemory,
            RvError::BufferTooSmall,
            RvError::VendorDefined(0x8000_0123),
            RvError::UnknownErrorCode(0x7777),
        ] {
            let fault = fault(rv, Function::Sign);
            assert!(fault.may_have_signed && !fault.retry(), "{fault:?}");
            assert!(!TokenError::from(fault).surely_not_signed());
        }
    }

    #[test]
    fn an_error_before_the_key_was_used_is_a_plain_failure() {
        for rv in [RvError::DeviceError, RvError::SessionClosed, RvError::HostMemory] {
            assert!(TokenError::from(fault(rv, Function::SignInit)).surely_not_signed());
        }
        assert!(fault(RvError::SessionHandleInvalid, Function::Sign).retry());
        assert!(fault(RvError::KeyHandleInvalid, Function::SignInit).retry());
        assert!(fault(RvError::UserNotLoggedIn, Function::SignInit).retry());
        assert!(!fault(RvError::SessionCount, Function::OpenSession).retry());
        for rv in [RvError::PinIncorrect, RvError::PinLocked, RvError::MechanismInvalid] {
            let fault = fault(rv, Function::SignInit);
            assert!(fault.class == Class::Refused && !fault.retry());
        }
    }
}
