//! Bytes as pairs of lower-case hex digits: the one spelling of the state file, the journal and the APDU log.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes that are stored as hex.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes =
            decode(&text).ok_or_else(|| de::Error::custom("bytes are pairs of lower-case hex digits"));
        bytes.map(Self)
    }
}

/// `#[serde(with = "hex::bytes")]` for public fields that are plain bytes.
pub(crate) mod bytes {
    use super::{Deserialize, Deserializer, Hex, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        Hex(bytes.to_vec()).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Hex::deserialize(from).map(|hex| hex.0)
    }
}

/// The same for bytes that may be absent.
pub(crate) mod some {
    use super::{Deserialize, Deserializer, Hex, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        bytes.clone().map(Hex).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        Option::<Hex>::deserialize(from).map(|hex| hex.map(|hex| hex.0))
    }
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn what_was_encoded_is_decoded_and_nothing_else_is() {
        assert_eq!(decode(&encode(&[0, 0x0f, 0xf0, 0xff])), Some(vec![0, 0x0f, 0xf0, 0xff]));
        for bad in ["0", "0A", "0g", "0x", " 00"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
