//! Command and response APDUs (ISO 7816-3 section 12.1, ISO 7816-4 section 5): parsing, and the status words in use.

use std::fmt;

/// What a response without an expected length may hold, and what `Le = 00` asks for, in the short form.
const SHORT_MAX: usize = 256;

/// The two bytes that end every response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sw(pub u16);

impl Sw {
    /// Done.
    pub const OK: Self = Self(0x9000);
    /// The data cannot be stored, or not be stored durably.
    pub const MEMORY_FAILURE: Self = Self(0x6581);
    /// The APDU, a chain or an object has a wrong length.
    pub const WRONG_LENGTH: Self = Self(0x6700);
    /// A chain was not continued with the instruction that began it.
    pub const LAST_COMMAND_EXPECTED: Self = Self(0x6883);
    /// PIN, management key or touch is missing.
    pub const SECURITY_STATUS: Self = Self(0x6982);
    /// No tries are left.
    pub const BLOCKED: Self = Self(0x6983);
    /// Not now.
    pub const CONDITIONS: Self = Self(0x6985);
    /// The body or a parameter says nothing that the card knows.
    pub const WRONG_DATA: Self = Self(0x6a80);
    /// No such application or object.
    pub const NOT_FOUND: Self = Self(0x6a82);
    /// The object store is full.
    pub const FULL: Self = Self(0x6a84);
    /// No such key or reference.
    pub const REFERENCE_NOT_FOUND: Self = Self(0x6a88);
    /// No such instruction here.
    pub const NO_INSTRUCTION: Self = Self(0x6d00);
    /// No such class.
    pub const NO_CLASS: Self = Self(0x6e00);

    /// `63Cx`: a wrong PIN or PUK, and how many tries are left. The field has four bits.
    pub fn tries_left(left: u8) -> Self {
        Self(0x63c0 | u16::from(left.min(15)))
    }

    /// `61xx`: so many bytes wait for GET RESPONSE; 00 is 256 or more.
    pub(crate) fn more(waiting: usize) -> Self {
        Self(0x6100 | u16::from(u8::try_from(waiting).unwrap_or(0)))
    }
}

impl fmt::Display for Sw {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:04X}", self.0)
    }
}

/// One command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command<'a> {
    pub(crate) cla: u8,
    pub(crate) ins: u8,
    pub(crate) p1: u8,
    pub(crate) p2: u8,
    pub(crate) data: &'a [u8],
    /// The most that one response may hold.
    pub(crate) room: usize,
}

impl<'a> Command<'a> {
    /// `None` if the lengths contradict each other. A short APDU without `Le` gets 256 bytes a response, an extended one
    /// all of it: `ykman` sends no `Le` and expects the whole body.
    pub(crate) fn parse(apdu: &'a [u8]) -> Option<Self> {
        let ([cla, ins, p1, p2], body) = apdu.split_first_chunk::<4>()?;
        let (data, room) = match body {
            [] => (body, SHORT_MAX),
            [le] => (&[][..], short_room(*le)),
            [0, rest @ ..] => extended(rest)?,
            [lc, rest @ ..] => short(usize::from(*lc), rest)?,
        };
        Some(Self { cla: *cla, ins: *ins, p1: *p1, p2: *p2, data, room })
    }
}

fn short(lc: usize, rest: &[u8]) -> Option<(&[u8], usize)> {
    match rest.split_at_checked(lc)? {
        (data, []) => Some((data, SHORT_MAX)),
        (data, [le]) => Some((data, short_room(*le))),
        _ => None,
    }
}

fn extended(rest: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = rest.split_first_chunk::<2>()?;
    if rest.is_empty() {
        return Some((rest, extended_room(*length)));
    }
    match rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))? {
        (data, []) => Some((data, usize::MAX)),
        (data, [high, low]) => Some((data, extended_room([*high, *low]))),
        _ => None,
    }
}

fn short_room(le: u8) -> usize {
    if le == 0 { SHORT_MAX } else { usize::from(le) }
}

fn extended_room(le: [u8; 2]) -> usize {
    if le == [0, 0] { usize::MAX } else { usize::from(u16::from_be_bytes(le)) }
}

#[cfg(test)]
mod tests {
    use super::Command;

    fn parsed(apdu: &[u8]) -> Option<(Vec<u8>, usize)> {
        Command::parse(apdu).map(|command| (command.data.to_vec(), command.room))
    }

    #[test]
    fn every_form_of_an_apdu_is_read() {
        let with = |tail: &[u8]| parsed(&[&[0, 0xcb, 0x3f, 0xff], tail].concat());
        assert_eq!(with(&[]), Some((vec![], 256)));
        assert_eq!(with(&[0]), Some((vec![], 256)));
        assert_eq!(with(&[8]), Some((vec![], 8)));
        assert_eq!(with(&[2, 1, 2]), Some((vec![1, 2], 256)));
        assert_eq!(with(&[2, 1, 2, 9]), Some((vec![1, 2], 9)));
        assert_eq!(with(&[0, 0, 0]), Some((vec![], usize::MAX)));
        assert_eq!(with(&[0, 1, 0]), Some((vec![], 256)));
        assert_eq!(with(&[0, 0, 2, 1, 2]), Some((vec![1, 2], usize::MAX)));
        assert_eq!(with(&[0, 0, 2, 1, 2, 1, 1]), Some((vec![1, 2], 257)));
    }

    #[test]
    fn lengths_that_contradict_each_other_are_refused() {
        for bad in [
            &[0, 1, 2][..],
            &[0, 1, 2, 3, 2, 9],
            &[0, 1, 2, 3, 1, 9, 9, 9],
            &[0, 1, 2, 3, 0, 0],
            &[0, 1, 2, 3, 0, 0, 2, 9],
        ] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
    }
}
