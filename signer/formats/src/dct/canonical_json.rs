//! Canonical JSON as the notary clients compute it (the OLPC form, Go package `docker/go/canonical/json`): members
//! sorted by their bytes, no white space, integers only, strings raw but for `\` and `"`.
//!
//! The reader refuses whatever two parsers could read differently: duplicate members, fractions and exponents, numbers
//! beyond 2^53, control characters, trailing data. Members that differ only in case are legal in a map (tags) and
//! refused where clients decode into a struct; the readers of those structs do that.

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use std::{collections::BTreeMap, fmt};

/// Deepest nesting; metadata needs six, `custom` data of a client some more.
pub const MAX_DEPTH: usize = 32;
/// Largest magnitude of a number: what a parser that reads numbers as doubles still gets right.
pub const MAX_INTEGER: u64 = 1 << 53;

/// A JSON value without fractions. Members are sorted by their bytes, which is the canonical order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number of at most [`MAX_INTEGER`] in magnitude.
    Integer(i64),
    /// Text without control characters.
    String(String),
    /// A list.
    Array(Vec<Value>),
    /// Members by name.
    Object(BTreeMap<String, Value>),
}

/// Why bytes are not JSON that every client reads alike.
#[derive(Debug, thiserror::Error)]
#[error("not JSON that all clients read alike: {0}")]
pub struct JsonError(serde_json::Error);

/// Reads one JSON document, in any spelling that has a single meaning.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: MAX_DEPTH }.deserialize(&mut reader).map_err(JsonError)?;
    reader.end().map_err(JsonError)?;
    Ok(value)
}

/// Writes the canonical form.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_value(value, &mut out);
    out
}

/// An object from its members; a name given twice keeps its last value.
pub(crate) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Integer(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => write_list(b'[', items, b']', out, write_value),
        Value::Object(members) => write_list(b'{', members, b'}', out, |(name, value), out| {
            write_string(name, out);
            out.push(b':');
            write_value(value, out);
        }),
    }
}

fn write_list<T>(
    open: u8,
    items: impl IntoIterator<Item = T>,
    close: u8,
    out: &mut Vec<u8>,
    write: impl Fn(T, &mut Vec<u8>),
) {
    out.push(open);
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(close);
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Reads a value with at most `depth` levels of lists and objects.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested deeper than 32 levels"))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<Value, E> {
        if n.unsigned_abs() > MAX_INTEGER {
            Err(E::custom("a number beyond 2^53"))
        } else {
            Ok(Value::Integer(n))
        }
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<Value, E> {
        self.visit_i64(i64::try_from(n).unwrap_or(i64::MAX))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Err(E::custom("a number that is no plain integer"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        plain(text).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = BTreeMap::new();
        while let Some(name) = from.next_key::<String>()? {
            let name = plain(name)?;
            if members.contains_key(&name) {
                return Err(A::Error::custom(format_args!("member {name:?} stands twice")));
            }
            members.insert(name, from.next_value_seed(inner)?);
        }
        Ok(Value::Object(members))
    }
}

/// Clients disagree on how to spell control characters, so no text may hold one.
fn plain<E: Error>(text: String) -> Result<String, E> {
    if text.bytes().any(|b| b.is_ascii_control()) {
        Err(E::custom("a control character in a text"))
    } else {
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(json: &str) -> String {
        String::from_utf8(encode(&parse(json.as_bytes()).unwrap())).unwrap()
    }

    #[test]
    fn the_canonical_form_is_that_of_the_go_package() {
        for (json, form) in [
            (r#" { "b" : 1 , "a" : [ true, false, null, -7 ] } "#, r#"{"a":[true,false,null,-7],"b":1}"#),
            // Sorted by bytes: upper case first, then '_', then lower case, then everything beyond ASCII.
            (r#"{"é":1,"a":2,"Z":3,"_":4,"aa":5,"":6}"#, r#"{"":6,"Z":3,"_":4,"a":2,"aa":5,"é":1}"#),
            ("{\"\u{ffff}\":1,\"\u{10000}\":2}", "{\"\u{ffff}\":1,\"\u{10000}\":2}"),
            (r#""a\"b\\c\/d""#, r#""a\"b\\c/d""#),
            (r#""\u0026\u003c\u003e\u00e9\ud83d\ude00""#, "\"&<>é😀\""),
            ("9007199254740992", "9007199254740992"),
            ("-9007199254740992", "-9007199254740992"),
            ("[]", "[]"),
            ("{}", "{}"),
        ] {
            assert_eq!(canonical(json), form);
        }
    }

    #[test]
    fn json_that_two_parsers_could_read_differently_is_refused() {
        for json in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            "1.0",
            "1.5",
            "1e3",
            "1E0",
            "-0",
            "01",
            "+1",
            "9007199254740993",
            "-9007199254740993",
            "18446744073709551616",
            "99999999999999999999999999",
            "NaN",
            r#""\u0000""#,
            r#""a\nb""#,
            r#""\u007f""#,
            "\"a\nb\"",
            r#"{"a\tb":1}"#,
            r#""\ud800""#,
            r#""\x41""#,
            "{} {}",
            "{}x",
            "[1,]",
            r#"{"a":1,}"#,
            "// c\n1",
            "'a'",
            "",
            " ",
            "\u{feff}1",
        ] {
            assert!(parse(json.as_bytes()).is_err(), "{json:?}");
        }
        assert!(parse(b"\"\xff\"").is_err() && parse(b"\"\xc0\xaf\"").is_err(), "not UTF-8");
    }

    #[test]
    fn nesting_ends_at_its_limit() {
        let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(parse(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(parse("[".repeat(1_000_000).as_bytes()).is_err());
        let objects = |depth| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert!(
            parse(objects(MAX_DEPTH).as_bytes()).is_ok() && parse(objects(MAX_DEPTH + 1).as_bytes()).is_err()
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let bound = i64::try_from(MAX_INTEGER).unwrap();
        let text = || any::<String>().prop_map(|s| s.replace(|c: char| c.is_ascii_control(), "\\"));
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-bound..=bound).prop_map(Value::Integer),
            text().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 64, 8, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                proptest::collection::btree_map(text(), inner, 0..8).prop_map(Value::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_reads_back_from_its_canonical_form(value in any_value()) {
            let form = encode(&value);
            prop_assert_eq!(parse(&form).unwrap(), value);
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = parse(&bytes) {
                prop_assert_eq!(parse(&encode(&value)).unwrap(), value);
            }
        }
    }
}
