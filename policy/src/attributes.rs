//! A Cedar record in the making.

use crate::request::RequestError;
use cedar_policy::RestrictedExpression;
use record::Time;
use std::collections::HashMap;

/// Names and values; an absent value adds nothing.
pub(crate) struct Attributes(HashMap<String, RestrictedExpression>);

impl Attributes {
    pub(crate) fn new() -> Self {
        Self(HashMap::new())
    }

    pub(crate) fn into_pairs(self) -> impl Iterator<Item = (String, RestrictedExpression)> {
        self.0.into_iter()
    }

    pub(crate) fn bool(self, name: &str, value: bool) -> Self {
        self.with(name, RestrictedExpression::new_bool(value))
    }

    pub(crate) fn long(self, name: &str, value: i64) -> Self {
        self.with(name, RestrictedExpression::new_long(value))
    }

    pub(crate) fn string(self, name: &str, value: impl AsRef<str>) -> Self {
        self.with(name, RestrictedExpression::new_string(value.as_ref().to_owned()))
    }

    pub(crate) fn time(self, name: &str, value: Time) -> Self {
        self.with(name, RestrictedExpression::new_datetime(value.to_string()))
    }

    pub(crate) fn set(self, name: &str, values: impl IntoIterator<Item = RestrictedExpression>) -> Self {
        self.with(name, RestrictedExpression::new_set(values))
    }

    pub(crate) fn strings(self, name: &str, values: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let string = |text: &str| RestrictedExpression::new_string(text.to_owned());
        self.set(name, values.into_iter().map(|value| string(value.as_ref())).collect::<Vec<_>>())
    }

    pub(crate) fn record(self, name: &str, record: Self) -> Result<Self, RequestError> {
        let record =
            RestrictedExpression::new_record(record.0).map_err(|e| RequestError::Context(e.to_string()))?;
        Ok(self.with(name, record))
    }

    pub(crate) fn maybe_long(self, name: &str, value: Option<i64>) -> Self {
        match value {
            Some(value) => self.long(name, value),
            None => self,
        }
    }

    pub(crate) fn maybe_string(self, name: &str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.string(name, value),
            None => self,
        }
    }

    pub(crate) fn maybe_time(self, name: &str, value: Option<Time>) -> Self {
        match value {
            Some(value) => self.time(name, value),
            None => self,
        }
    }

    fn with(mut self, name: &str, value: RestrictedExpression) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }
}
