//! When nothing is signed: freeze windows, and the hours of a repository.

use super::{DataError, check};
use record::{Repository, Time};
use serde::Deserialize;

/// A time in which nothing is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// Its name.
    pub name: String,
    /// Its first moment.
    pub from: Time,
    /// The first moment after it.
    pub until: Time,
    /// Names, or prefixes that end in '/'; empty: everything.
    pub repositories: Vec<String>,
}

impl Freeze {
    /// Whether it holds for this repository now.
    pub(crate) fn holds(&self, repository: &Repository, now: Time) -> bool {
        let covers = self.repositories.is_empty() || self.repositories.iter().any(|p| repository.is_under(p));
        covers && self.from <= now && now < self.until
    }
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFreeze {
    name: String,
    from: toml::value::Datetime,
    until: toml::value::Datetime,
    repositories: Option<Vec<String>>,
}

impl RawFreeze {
    pub(super) fn check(self) -> Result<Freeze, DataError> {
        check::name("freeze", &self.name)?;
        let place = format!("freeze {:?}", self.name);
        let (from, until) = (check::time(&place, &self.from)?, check::time(&place, &self.until)?);
        if from >= until {
            let why = "is not after 'from': the window would never hold";
            return Err(check::bad(&place, &self.until.to_string(), why));
        }
        let repositories = check::nonempty(&place, self.repositories)?.unwrap_or_default();
        repositories.iter().try_for_each(|name| super::repository::check_name(name))?;
        Ok(Freeze { name: self.name, from, until, repositories })
    }
}

/// The days of a week, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// When a repository's images are signed, UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfficeHours {
    /// Days, 1 is Monday.
    pub days: Vec<i64>,
    /// The first minute of the day.
    pub from: i64,
    /// The first minute after it.
    pub until: i64,
}

/// As they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOfficeHours {
    days: Vec<String>,
    from: String,
    until: String,
}

impl RawOfficeHours {
    pub(super) fn check(self, place: &str) -> Result<OfficeHours, DataError> {
        let days = check::nonempty(place, Some(self.days))?.unwrap_or_default();
        let days = check::unique("day", days)?;
        let number = |day: &String| {
            let at = DAYS.iter().position(|d| d == day).and_then(|at| i64::try_from(at + 1).ok());
            at.ok_or_else(|| check::bad(place, day, "is no day: write mon, tue, wed, thu, fri, sat or sun"))
        };
        let mut days = days.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        days.sort_unstable();
        let minute = |text: &str| {
            minute(text).ok_or_else(|| check::bad(place, text, "is no time of day: write 08:00, UTC"))
        };
        let (from, until) = (minute(&self.from)?, minute(&self.until)?);
        if from >= until {
            return Err(check::bad(
                place,
                &self.until,
                "is not after 'from'; hours over midnight are two days",
            ));
        }
        Ok(OfficeHours { days, from, until })
    }
}

impl std::fmt::Display for OfficeHours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |day: &i64| usize::try_from(day - 1).ok().and_then(|at| DAYS.get(at)).copied();
        let days: Vec<&str> = self.days.iter().filter_map(name).collect();
        let clock = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{} {} to {} UTC", days.join(" "), clock(self.from), clock(self.until))
    }
}

/// `HH:MM`, up to 24:00, in minutes.
fn minute(text: &str) -> Option<i64> {
    let (hour, minute) = text.split_once(':')?;
    let number =
        |t: &str| (t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse::<i64>().ok())?;
    let all = number(hour)? * 60 + number(minute).filter(|m| *m < 60)?;
    (all <= 24 * 60).then_some(all)
}

/// Day of the week, 1 is Monday, and minute of the day, in UTC.
pub(crate) fn weekday_and_minute(now: Time) -> (i64, i64) {
    let minutes = now.unix_s() / 60;
    let days = minutes / (24 * 60);
    // 1970-01-01 was a Thursday.
    ((days + 3) % 7 + 1, minutes % (24 * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_with_monday_and_minutes_at_midnight_utc() {
        let at = |text: &str| weekday_and_minute(text.parse().unwrap());
        assert_eq!(at("1970-01-01T00:00:00.000Z"), (4, 0));
        assert_eq!(at("2026-11-23T10:20:59.999Z"), (1, 620));
        assert_eq!(at("2026-11-22T23:59:00.000Z"), (7, 1439));
    }
}
