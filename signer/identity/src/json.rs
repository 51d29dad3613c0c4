//! JSON as it is taken from strangers: a member that stands there twice is refused, since two readers could see two values.

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::{collections::BTreeMap, fmt};

/// Deepest nesting: claims of every provider stay below half of it.
const MAX_DEPTH: usize = 8;

/// A JSON value. Numbers that are no whole ones of 64 bits are kept only as being numbers: no claim is read from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    OtherNumber,
    String(String),
    Array(Vec<Value>),
    Object(Object),
}

/// The members of an object.
pub(crate) type Object = BTreeMap<String, Value>;

/// Why bytes are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAnObject {
    /// A member stands there twice.
    Duplicate,
    /// Not JSON, too deep, or something else than an object.
    Malformed,
}

/// What a duplicate is called on its way through serde.
const DUPLICATE: &str = "duplicate member";

/// Reads one object and nothing after it.
pub(crate) fn object(bytes: &[u8]) -> Result<Object, NotAnObject> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Nested(MAX_DEPTH).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(NotAnObject::Malformed),
        Err(e) if e.to_string().starts_with(DUPLICATE) => Err(NotAnObject::Duplicate),
        Err(_) => Err(NotAnObject::Malformed),
    }
}

/// A value that may be nested this deep.
struct Nested(usize);

impl Nested {
    fn inner<E: de::Error>(&self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::OtherNumber, Value::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::OtherNumber)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner()?)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self.inner()?)?;
            if object.insert(name, value).is_some() {
                return Err(de::Error::custom(DUPLICATE));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_there_twice_is_refused_however_deep_and_however_it_is_spelled() {
        for twice in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"b":[{"a":1,"a":2}]}"#] {
            assert_eq!(object(twice.as_bytes()), Err(NotAnObject::Duplicate), "{twice}");
        }
        assert!(object(br#"{"a":{"a":1}}"#).is_ok());
    }

    #[test]
    fn only_one_object_of_bounded_depth_is_taken() {
        let deep = |n| format!(r#"{{"a":{}1{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(object(deep(MAX_DEPTH - 1).as_bytes()).is_ok());
        for bad in [&deep(MAX_DEPTH), &deep(100_000), "[]", "", "{} {}", "{", "{\"a\":\"\\ud800\"}"] {
            assert_eq!(object(bad.as_bytes()), Err(NotAnObject::Malformed), "{}", bad.len());
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(NotAnObject::Malformed));
    }

    #[test]
    fn a_number_is_a_whole_one_or_none_to_read_from() {
        let of = |text: &str| object(format!("{{\"a\":{text}}}").as_bytes()).unwrap()["a"].clone();
        assert_eq!(of("-7"), Value::Integer(-7));
        for other in ["1.0", "1e3", "9223372036854775808"] {
            assert_eq!(of(other), Value::OtherNumber, "{other}");
        }
    }
}
