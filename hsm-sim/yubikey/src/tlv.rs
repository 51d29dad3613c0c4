//! BER-TLV as cards speak it (ISO 7816-4 section 5.2.2), which is DER as well where lengths are shortest.
//!
//! Lengths of up to two bytes after the first: nothing in a card is longer than 65535 bytes.

/// Tags of more than one byte have these bits set in the first.
const LONG_TAG: u8 = 0x1f;

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tlv<'a> {
    pub(crate) tag: u32,
    pub(crate) value: &'a [u8],
}

/// Every element of `input`, in order; `None` if it is not made of whole elements.
pub(crate) fn parse(mut input: &[u8]) -> Option<Vec<Tlv<'_>>> {
    let mut found = Vec::new();
    while !input.is_empty() {
        let (tlv, rest) = take(input)?;
        found.push(tlv);
        input = rest;
    }
    Some(found)
}

/// The value, if `input` is exactly one element with this tag.
pub(crate) fn only(input: &[u8], tag: u32) -> Option<&[u8]> {
    let (tlv, rest) = take(input)?;
    (tlv.tag == tag && rest.is_empty()).then_some(tlv.value)
}

/// The value of the first element with this tag.
pub(crate) fn find<'a>(all: &[Tlv<'a>], tag: u32) -> Option<&'a [u8]> {
    all.iter().find(|tlv| tlv.tag == tag).map(|tlv| tlv.value)
}

/// The first element, and what follows it.
pub(crate) fn take(input: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (tag, rest) = take_tag(input)?;
    let (length, rest) = take_length(rest)?;
    let (value, rest) = rest.split_at_checked(length)?;
    Some((Tlv { tag, value }, rest))
}

/// One element with the shortest length.
pub(crate) fn encode(tag: u32, value: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = tag.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    let length = value.len().to_be_bytes();
    match value.len() {
        0..=0x7f => out.extend(length.last()),
        0x80..=0xff => out.extend([0x81].iter().chain(length.last())),
        _ => out.extend([0x82].iter().chain(length.last_chunk::<2>().into_iter().flatten())),
    }
    out.extend_from_slice(value);
    out
}

fn take_tag(input: &[u8]) -> Option<(u32, &[u8])> {
    let (first, rest) = input.split_first()?;
    if first & LONG_TAG != LONG_TAG {
        return Some((u32::from(*first), rest));
    }
    let (second, rest) = rest.split_first()?;
    Some((u32::from(*first) << 8 | u32::from(*second), rest))
}

fn take_length(input: &[u8]) -> Option<(usize, &[u8])> {
    match input.split_first()? {
        (length @ 0..=0x7f, rest) => Some((usize::from(*length), rest)),
        (0x81, rest) => rest.split_first().map(|(length, rest)| (usize::from(*length), rest)),
        (0x82, rest) => rest
            .split_first_chunk::<2>()
            .map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Tlv, encode, find, only, parse};

    #[test]
    fn elements_of_every_length_form_are_read_back() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 3000] {
            let value = vec![7; length];
            for tag in [0x53, 0x7f49, 0x9b] {
                assert_eq!(parse(&encode(tag, &value)), Some(vec![Tlv { tag, value: &value }]), "{length}");
            }
        }
    }

    #[test]
    fn a_torn_element_is_none_and_never_shorter() {
        let whole = encode(0x53, &[1; 200]);
        for cut in 1..whole.len() {
            assert_eq!(parse(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(parse(&[0x53, 0x80]), None);
        assert_eq!(parse(&[0x53, 0x83, 0, 0, 1, 0]), None);
    }

    #[test]
    fn only_takes_nothing_beside_the_element() {
        assert_eq!(only(&[0x7c, 1, 9], 0x7c), Some(&[9][..]));
        assert_eq!(only(&[0x7c, 1, 9, 0], 0x7c), None);
        assert_eq!(find(&parse(&[0x80, 0, 0x81, 1, 5]).unwrap(), 0x81), Some(&[5][..]));
    }
}
