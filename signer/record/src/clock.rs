//! Time as a value, and the one place that reads the system's clock.

use std::{fmt, str::FromStr, sync::Arc, sync::atomic::AtomicI64, sync::atomic::Ordering};
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, UtcOffset};

/// A point in time, UTC, in whole milliseconds. Written `2026-11-23T10:20:30.123Z`, always 24 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    unix_ms: i64,
}

/// A text that is not a time of the form `YYYY-MM-DDTHH:MM:SS.mmmZ`, or a time outside the years 1970 to 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a UTC time of the form YYYY-MM-DDTHH:MM:SS.mmmZ between 1970 and 9999")]
pub struct TimeError;

/// 9999-12-31T23:59:59.999Z: the last time that four digits of year can say.
const LAST_MS: i64 = 253_402_300_799_999;

impl Time {
    /// A time from milliseconds since 1970-01-01T00:00:00Z.
    pub fn from_unix_ms(unix_ms: i64) -> Result<Self, TimeError> {
        if (0..=LAST_MS).contains(&unix_ms) { Ok(Self { unix_ms }) } else { Err(TimeError) }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn unix_ms(self) -> i64 {
        self.unix_ms
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    pub fn unix_s(self) -> i64 {
        self.unix_ms / 1000
    }

    /// This time `ms` milliseconds later (earlier if negative), held inside the years 1970 to 9999.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self { unix_ms: self.unix_ms.saturating_add(ms).clamp(0, LAST_MS) }
    }

    /// This time `s` seconds later (earlier if negative), held inside the years 1970 to 9999.
    #[must_use]
    pub fn plus_s(self, s: i64) -> Self {
        self.plus_ms(s.saturating_mul(1000))
    }

    /// This time with its milliseconds cut off, as formats with whole seconds need it.
    #[must_use]
    pub fn whole_seconds(self) -> Self {
        Self { unix_ms: self.unix_s() * 1000 }
    }

    /// The text with whole seconds, `YYYY-MM-DDTHH:MM:SSZ`, as TUF writes it.
    pub fn to_rfc3339_seconds(self) -> String {
        let mut text = self.to_string();
        text.truncate(19);
        text.push('Z');
        text
    }

    fn civil(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.unix_s()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.civil();
        let (y, m, d) = (t.year(), u8::from(t.month()), t.day());
        let (h, min, s) = (t.hour(), t.minute(), t.second());
        write!(f, "{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}.{:03}Z", self.unix_ms % 1000)
    }
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let number = |from: usize, to: usize| -> Result<u32, TimeError> {
            let digits = text.get(from..to).ok_or(TimeError)?;
            if digits.bytes().all(|b| b.is_ascii_digit()) {
                digits.parse().map_err(|_| TimeError)
            } else {
                Err(TimeError)
            }
        };
        let small = |from, to| number(from, to).and_then(|n| u8::try_from(n).map_err(|_| TimeError));
        let year = i32::try_from(number(0, 4)?).map_err(|_| TimeError)?;
        let month = Month::try_from(small(5, 7)?).map_err(|_| TimeError)?;
        let date = Date::from_calendar_date(year, month, small(8, 10)?).map_err(|_| TimeError)?;
        let clock =
            time::Time::from_hms(small(11, 13)?, small(14, 16)?, small(17, 19)?).map_err(|_| TimeError)?;
        let at = PrimitiveDateTime::new(date, clock).assume_offset(UtcOffset::UTC);
        let parsed = Self::from_unix_ms(at.unix_timestamp() * 1000 + i64::from(number(20, 23)?))?;
        // Punctuation and length are right exactly when the text is what we would write.
        if parsed.to_string() == text { Ok(parsed) } else { Err(TimeError) }
    }
}

impl serde::Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a part of the service takes the time from.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Time;
}

/// The system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Time {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Time { unix_ms: i64::try_from(since.as_millis()).unwrap_or(LAST_MS).clamp(0, LAST_MS) }
    }
}

/// A clock that stands where a test has put it.
#[derive(Debug, Clone)]
pub struct FixedClock(Arc<AtomicI64>);

impl FixedClock {
    /// A clock that shows `at`.
    pub fn at(at: Time) -> Self {
        Self(Arc::new(AtomicI64::new(at.unix_ms)))
    }

    /// Moves the clock, forward or back.
    pub fn advance_ms(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Time {
        Time { unix_ms: self.0.load(Ordering::SeqCst).clamp(0, LAST_MS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_as_it_was_written() {
        for ms in [0, 1, 999, 1_700_000_000_123, LAST_MS] {
            let t = Time::from_unix_ms(ms).unwrap();
            assert_eq!(t.to_string().parse::<Time>().unwrap(), t);
        }
    }

    #[test]
    fn other_spellings_of_a_time_are_refused() {
        for text in [
            "2026-11-23T10:20:30Z",
            "2026-11-23t10:20:30.000Z",
            "2026-11-23T10:20:30.000+00:00",
            "2026-11-23T10:20:60.000Z",
            "2026-02-30T10:20:30.000Z",
            "+026-11-23T10:20:30.000Z",
            "2026-11-23T10:20:30.000Z ",
            "",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
        assert!(Time::from_unix_ms(-1).is_err() && Time::from_unix_ms(LAST_MS + 1).is_err());
    }
}
