//! The one place that tries a card's PIN.

use super::card::Card;
use yubikey::Error;

/// Why the PIN is not verified.
pub(crate) enum PinError {
    /// The card did not answer.
    Card(Error),
    /// It must not be tried, for this reason.
    NotTried(String),
    /// It is not the card's PIN.
    Refused(String),
}

/// Gives the PIN with exactly one try, and with none when it could be the last.
pub(crate) fn give_pin(card: &mut Card, pin: &[u8]) -> Result<(), PinError> {
    let left = card.pin_tries().map_err(PinError::Card)?;
    if let Some(why) = untriable(left) {
        return Err(PinError::NotTried(why.into()));
    }
    match card.verify_pin(pin) {
        Ok(()) => Ok(()),
        Err(Error::WrongPin { tries }) => {
            Err(PinError::Refused(format!("the PIN was refused; {tries} tries are left")))
        }
        Err(error) => Err(PinError::Card(error)),
    }
}

/// Why no program may try a PIN of which so many tries are left.
pub(crate) fn untriable(left: u8) -> Option<&'static str> {
    match left {
        0 => Some("the PIN is locked"),
        1 => Some("only one try is left before the PIN locks, and a person must make it"),
        _ => None,
    }
}
