//! Checks that many tables of the file share: limits, names, patterns, dates, durations.

use super::{DataError, validity};
use crate::{glob::Glob, nearest};
use record::Time;
use std::collections::{BTreeMap, BTreeSet};

/// Most values of one list in an entry: they are all named in a denial, or walked at each decision.
pub(crate) const MAX_LIST: usize = 32;

pub(super) fn unique(what: &'static str, names: Vec<String>) -> Result<BTreeSet<String>, DataError> {
    let mut set = BTreeSet::new();
    for name in names {
        if let Some(name) = set.replace(name) {
            return Err(DataError::Duplicate { what, name });
        }
    }
    Ok(set)
}

pub(super) fn limit(place: &str, what: &'static str, found: usize, limit: usize) -> Result<(), DataError> {
    if found <= limit {
        return Ok(());
    }
    Err(DataError::TooMany { place: place.to_owned(), what, found, limit })
}

pub(super) fn bad(place: &str, value: &str, why: &'static str) -> DataError {
    DataError::Value { place: place.to_owned(), value: value.to_owned(), why }
}

/// The names must be defined, and none twice; gives them sorted.
pub(super) fn defined<T>(
    place: &str,
    what: &'static str,
    names: Vec<String>,
    known: &BTreeMap<String, T>,
) -> Result<Vec<String>, DataError> {
    limit(place, what, names.len(), MAX_LIST)?;
    if let Some(name) = names.iter().find(|name| !known.contains_key(*name)) {
        let (place, hint) = (place.to_owned(), nearest::hint(name, known.keys().map(String::as_str)));
        return Err(DataError::Undefined { place, what, name: name.clone(), hint });
    }
    Ok(unique(what, names)?.into_iter().collect())
}

/// Names of teams, workloads, keys and windows: 1 to 64 of `a-z 0-9 -`.
pub(super) fn name(place: &str, name: &str) -> Result<(), DataError> {
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits { Ok(()) } else { Err(bad(place, name, "is no name: write 1 to 64 of a-z 0-9 and '-'")) }
}

pub(super) fn globs(place: &str, given: Option<Vec<String>>) -> Result<Option<Vec<Glob>>, DataError> {
    let Some(given) = nonempty(place, given)? else { return Ok(None) };
    let why = "is no pattern: write 1 to 256 printable ASCII characters, with '*' for anything but '/'";
    let parse = |text: &String| Glob::parse(text).ok_or_else(|| bad(place, text, why));
    given.iter().map(parse).collect::<Result<_, _>>().map(Some)
}

/// A list that is written is not empty: an empty one would match nothing, and reads as if it allowed everything.
pub(super) fn nonempty(place: &str, given: Option<Vec<String>>) -> Result<Option<Vec<String>>, DataError> {
    match given {
        Some(list) if list.is_empty() => {
            Err(bad(place, "[]", "is an empty list, which nothing would fit; leave the key out"))
        }
        Some(list) => {
            limit(place, "values", list.len(), MAX_LIST)?;
            Ok(Some(list))
        }
        None => Ok(None),
    }
}

/// A TOML date (its first moment, UTC) or a date and time with `Z`.
pub(super) fn time(place: &str, given: &toml::value::Datetime) -> Result<Time, DataError> {
    let why = "is no time in UTC: write 2026-12-20, or 2026-12-20T18:00:00Z";
    let mut text = given.to_string();
    if given.time.is_none() {
        text.push_str("T00:00:00Z");
    }
    let seconds = text.get(..19).filter(|_| text.len() == 20 && text.ends_with('Z'));
    let parsed = seconds.and_then(|seconds| format!("{seconds}.000Z").parse().ok());
    parsed.ok_or_else(|| bad(place, &given.to_string(), why))
}

/// A duration as `validity` has them, in seconds; at most ten years.
pub(super) fn seconds(place: &str, given: Option<&str>) -> Result<Option<i64>, DataError> {
    let why = "is no duration: write a number from 1 and one of s, m, h, d, y, as \"24h\"; at most \"10y\"";
    let Some(text) = given else { return Ok(None) };
    let most = 10 * 365 * 86_400;
    validity::seconds(text).filter(|s| *s <= most).map(Some).ok_or_else(|| bad(place, text, why))
}

/// One line of words for people: 1 to 200 bytes.
pub(super) fn words(place: &str, text: &str) -> Result<(), DataError> {
    let fits =
        (1..=200).contains(&text.len()) && !text.chars().any(char::is_control) && !text.trim().is_empty();
    if fits { Ok(()) } else { Err(bad(place, text, "must be one line of 1 to 200 bytes that says why")) }
}
