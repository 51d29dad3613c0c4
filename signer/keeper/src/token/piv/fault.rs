//! Why an attempt on a card gave no signature, and whether one may exist all the same.

use crate::code;
use crate::token::TokenError;
use std::time::Duration;
use yubikey::Error;

/// A failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection is of no use any more. Nothing was signed: a new one may help.
    Gone(String),
    /// The card wanted the PIN first. Nothing was signed: giving it again may help.
    PinWanted,
    /// What there is to say to the caller.
    Final(TokenError),
}

impl Fault {
    /// Surely not signed.
    pub(super) fn failed(word: &'static str, detail: impl Into<String>) -> Self {
        Self::Final(TokenError::NotSigned { code: code(word), detail: detail.into() })
    }

    /// Surely not signed, and the card is away: the item may wait for it.
    pub(super) fn away(detail: impl Into<String>) -> Self {
        Self::Final(TokenError::Busy { code: code("token-gone"), detail: detail.into() })
    }

    /// What the caller is told when no further attempt is made.
    pub(super) fn told(self) -> TokenError {
        match self {
            Self::Final(error) => error,
            Self::Gone(detail) => TokenError::Busy { code: code("token-gone"), detail },
            Self::PinWanted => TokenError::NotSigned {
                code: code("token-pin"),
                detail:
                    "the card wants the PIN although it was just given: does another program use this card?"
                        .into(),
            },
        }
    }
}

/// An error before the key was asked.
pub(super) fn before(error: Error) -> Fault {
    Fault::Gone(error.to_string())
}

/// What the card knows after it answered a request to sign with 6982, which it says both of a missing PIN and of a missing
/// touch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    /// The key wants a touch.
    pub(super) touch: bool,
    /// How long the card took to say no.
    pub(super) after: Duration,
    /// How long it waits for a touch.
    pub(super) touch_wait: Duration,
    /// The PIN is still verified.
    pub(super) pin_verified: bool,
}

impl Refusal {
    /// Which of the two it was. Either way nothing was signed.
    pub(super) fn judge(self) -> Fault {
        // Nothing but a wait for a finger takes a card this long.
        let waited = self.after.saturating_mul(3) >= self.touch_wait.saturating_mul(2);
        match (self.touch, self.pin_verified) {
            (true, _) if waited => {
                Fault::failed("touch-timeout", "nobody touched the YubiKey in time: nothing was signed")
            }
            (true, true) => Fault::failed(
                "touch-denied",
                "the YubiKey waited for no touch, or another program used it in between: nothing was signed",
            ),
            _ => Fault::PinWanted,
        }
    }
}

/// An error of the request to sign other than 6982.
pub(super) fn while_signing(error: Error) -> Fault {
    let detail = error.to_string();
    match error {
        // Said before a command is sent: somebody reset the card since the last one. The request is one command.
        Error::PcscError { inner: Some(pcsc::Error::ResetCard) } => Fault::Gone(detail),
        // Said by the crate before it sends anything.
        Error::NotSupported => Fault::failed("token-refused", detail),
        // The crate says the same of a card that was pulled out and of any other status word.
        _ => Fault::Final(TokenError::Unknown { code: code("token-gone"), detail }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_touch_is_told_from_a_missing_pin_by_the_time_it_took_and_by_what_is_verified() {
        let after = |ms: u64, touch, pin_verified| {
            let touch_wait = Duration::from_secs(15);
            Refusal { touch, after: Duration::from_millis(ms), touch_wait, pin_verified }.judge()
        };
        let word = |fault: Fault| fault.told().code().to_string();
        assert_eq!(word(after(15_000, true, true)), "touch-timeout");
        assert_eq!(word(after(10_000, true, false)), "touch-timeout");
        assert_eq!(word(after(30, true, true)), "touch-denied");
        for (ms, touch, pin) in
            [(30, true, false), (30, false, false), (30, false, true), (15_000, false, true)]
        {
            assert_eq!(after(ms, touch, pin), Fault::PinWanted);
        }
    }

    #[test]
    fn what_may_hide_a_signature_is_unknown_and_never_asked_again() {
        for error in [
            Error::GenericError,
            Error::ParseError,
            Error::PcscError { inner: Some(pcsc::Error::NotTransacted) },
            Error::PcscError { inner: Some(pcsc::Error::RemovedCard) },
            Error::PcscError { inner: None },
        ] {
            let Fault::Final(told) = while_signing(error) else { panic!("{error:?} would be tried again") };
            assert!(!told.surely_not_signed(), "{error:?}");
        }
        let reset = Error::PcscError { inner: Some(pcsc::Error::ResetCard) };
        assert!(matches!(while_signing(reset), Fault::Gone(_)));
    }
}
