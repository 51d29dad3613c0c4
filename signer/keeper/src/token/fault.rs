//! What an error of a PKCS#11 library means: whether a signature may exist, and whether asking again can help.

use super::TokenError;
use super::attributes::ExamineError;
use crate::code;
use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};

/// What is done about an error. Each remedy helps one item at most once, and none when a signature may exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The session or a cached handle is stale: a fresh session, in which the key is found anew.
    Session,
    /// The login has ended: one login more.
    Login,
    /// The library or the token is gone: everything is opened anew.
    Reopen,
    /// The token could not be opened, and is tried again after a pause: the item may wait for that.
    Away,
    /// The token is at a limit: the item may ask again after a pause.
    Busy,
    /// The PIN must not be tried again: the process ends.
    Pin,
    /// The key cannot be used like this: nobody asks it again before an operator has looked.
    Disabled,
    /// Asking the same again cannot help.
    Refused,
}

/// A failed attempt to sign.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) class: Class,
    pub(crate) may_have_signed: bool,
    pub(crate) detail: String,
}

impl Fault {
    /// A fault before the key was asked.
    pub(crate) fn before(class: Class, detail: String) -> Self {
        Self { class, may_have_signed: false, detail }
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
        Self { class, may_have_signed, detail: said(&error) }
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
        let detail = fault.detail;
        let (word, may_wait) = match fault.class {
            Class::Session => ("token-session", true),
            Class::Reopen | Class::Away => ("token-gone", true),
            Class::Busy => ("token-busy", true),
            Class::Login => ("token-login", false),
            Class::Pin => ("token-pin", false),
            Class::Disabled | Class::Refused => ("token-refused", false),
        };
        let code = code(word);
        match (fault.may_have_signed, may_wait) {
            (true, _) => Self::Unknown { code, detail },
            (false, true) => Self::Busy { code, detail },
            (false, false) => Self::NotSigned { code, detail },
        }
    }
}

/// Function and return value. The binding's own text quotes half a page of the standard.
pub(crate) fn said(error: &Error) -> String {
    match error {
        Error::Pkcs11(rv, function) => format!("C_{function:?} said {rv:?}"),
        other => other.to_string(),
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
        UserNotLoggedIn => Class::Login,
        DeviceRemoved
        | TokenNotPresent
        | TokenNotRecognized
        | SlotIdInvalid
        | DeviceError
        | GeneralError
        | CryptokiNotInitialized => Class::Reopen,
        SessionCount | DeviceMemory | HostMemory | FunctionFailed | VendorDefined(_) => Class::Busy,
        MechanismInvalid | KeyFunctionNotPermitted | ActionProhibited => Class::Disabled,
        rv if is_pin_error(rv) => Class::Pin,
        _ => Class::Refused,
    }
}

/// Whether a token says by this that the PIN is not to be tried again.
pub(crate) fn is_pin_error(rv: &RvError) -> bool {
    use RvError::*;
    matches!(
        rv,
        PinIncorrect | PinInvalid | PinLenRange | PinExpired | PinLocked | PinTooWeak | UserPinNotInitialized
    )
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
    use RvError::*;

    fn fault(rv: RvError, function: Function) -> Fault {
        Fault::from(Error::Pkcs11(rv, function))
    }

    #[test]
    fn each_return_value_has_its_remedy() {
        let table: [(Class, &[RvError]); 7] = [
            (
                Class::Session,
                &[
                    SessionHandleInvalid,
                    SessionClosed,
                    OperationActive,
                    OperationNotInitialized,
                    ObjectHandleInvalid,
                    KeyHandleInvalid,
                ],
            ),
            (Class::Login, &[UserNotLoggedIn]),
            (
                Class::Reopen,
                &[
                    DeviceRemoved,
                    TokenNotPresent,
                    TokenNotRecognized,
                    SlotIdInvalid,
                    DeviceError,
                    GeneralError,
                    CryptokiNotInitialized,
                ],
            ),
            (
                Class::Busy,
                &[SessionCount, DeviceMemory, HostMemory, FunctionFailed, VendorDefined(0x8000_0123)],
            ),
            (Class::Pin, &[PinIncorrect, PinLocked, PinExpired, PinLenRange]),
            (Class::Disabled, &[MechanismInvalid, KeyFunctionNotPermitted, ActionProhibited]),
            (Class::Refused, &[ArgumentsBad, DataLenRange, UnknownErrorCode(0x7777)]),
        ];
        for (class, values) in table {
            for rv in values {
                assert_eq!(fault(*rv, Function::SignInit).class, class, "{rv}");
            }
        }
    }

    #[test]
    fn an_error_that_may_hide_a_signature_ends_as_unknown() {
        for rv in [
            DeviceError,
            GeneralError,
            DeviceRemoved,
            SessionClosed,
            FunctionFailed,
            HostMemory,
            BufferTooSmall,
            VendorDefined(0x8000_0123),
            UnknownErrorCode(0x7777),
        ] {
            let fault = fault(rv, Function::Sign);
            assert!(fault.may_have_signed, "{fault:?}");
            assert!(matches!(TokenError::from(fault), TokenError::Unknown { .. }));
        }
    }

    #[test]
    fn an_error_before_the_key_was_used_is_a_plain_failure_or_worth_a_wait() {
        for (rv, function, may_wait) in [
            (DeviceError, Function::SignInit, true),
            (SessionClosed, Function::SignInit, true),
            (HostMemory, Function::SignInit, true),
            (SessionHandleInvalid, Function::Sign, true),
            (SessionCount, Function::OpenSession, true),
            (UserNotLoggedIn, Function::Sign, false),
            (PinLocked, Function::SignInit, false),
            (MechanismInvalid, Function::SignInit, false),
            (DataLenRange, Function::Sign, false),
        ] {
            let error = TokenError::from(fault(rv, function));
            assert!(error.surely_not_signed(), "{error}");
            assert_eq!(matches!(error, TokenError::Busy { .. }), may_wait, "{error}");
        }
    }
}
