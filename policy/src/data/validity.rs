//! How long what is signed stays valid: the durations of a repository's collection, with their grammar and bounds.

use serde::Deserialize;

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
const DAY_S: i64 = 24 * HOUR_S;
const YEAR_S: i64 = 365 * DAY_S;

/// For how many seconds each signed thing of a collection is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Root metadata.
    pub root_s: i64,
    /// The root key's X.509 certificate; never shorter than the root metadata.
    pub root_certificate_s: i64,
    /// Targets metadata.
    pub targets_s: i64,
    /// Snapshot metadata.
    pub snapshot_s: i64,
    /// Timestamp metadata: how long a client can be kept from seeing what is new.
    pub timestamp_s: i64,
}

impl Default for Validity {
    /// What Docker Content Trust's clients and servers have always used.
    fn default() -> Self {
        Self {
            root_s: 10 * YEAR_S,
            root_certificate_s: 10 * YEAR_S,
            targets_s: 3 * YEAR_S,
            snapshot_s: 3 * YEAR_S,
            timestamp_s: 14 * DAY_S,
        }
    }
}

/// Why a duration or a set of them is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValidityError {
    /// Not a number with a unit.
    #[error(
        "validity.{field} = {text:?} is no duration: write a number from 1 and one of s, m, h, d, y, as \"14d\""
    )]
    Grammar {
        /// The option.
        field: &'static str,
        /// What was written.
        text: String,
    },
    /// Outside its bounds.
    #[error("validity.{field} = {text:?} is out of bounds: it may be from {least} to {most}")]
    Bounds {
        /// The option.
        field: &'static str,
        /// What was written.
        text: String,
        /// The shortest that is accepted.
        least: &'static str,
        /// The longest that is accepted.
        most: &'static str,
    },
    /// The root metadata would outlive the certificate that clients check it with.
    #[error(
        "validity.root is longer than validity.root_certificate: clients would refuse a root whose certificate is over; \
         make the certificate last at least as long"
    )]
    RootOutlivesCertificate,
}

/// `validity` as it is written in the file; what is absent has its default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawValidity {
    root: Option<String>,
    root_certificate: Option<String>,
    targets: Option<String>,
    snapshot: Option<String>,
    timestamp: Option<String>,
}

impl RawValidity {
    pub(crate) const KEYS: [&'static str; 5] =
        ["root", "root_certificate", "targets", "snapshot", "timestamp"];

    pub(crate) fn check(&self) -> Result<Validity, ValidityError> {
        let default = Validity::default();
        let validity = Validity {
            root_s: ROOT.read(self.root.as_deref(), default.root_s)?,
            root_certificate_s: ROOT_CERTIFICATE
                .read(self.root_certificate.as_deref(), default.root_certificate_s)?,
            targets_s: TARGETS.read(self.targets.as_deref(), default.targets_s)?,
            snapshot_s: SNAPSHOT.read(self.snapshot.as_deref(), default.snapshot_s)?,
            timestamp_s: TIMESTAMP.read(self.timestamp.as_deref(), default.timestamp_s)?,
        };
        if validity.root_s > validity.root_certificate_s {
            return Err(ValidityError::RootOutlivesCertificate);
        }
        Ok(validity)
    }
}

/// The bounds of one duration. Below the least, renewal could not keep up; beyond the most, a stolen or forgotten
/// file would be believed for longer than the protocol allows.
struct Bounds {
    field: &'static str,
    least: &'static str,
    most: &'static str,
}

const ROOT: Bounds = Bounds { field: "root", least: "1h", most: "10y" };
const ROOT_CERTIFICATE: Bounds = Bounds { field: "root_certificate", least: "1h", most: "10y" };
const TARGETS: Bounds = Bounds { field: "targets", least: "1m", most: "3y" };
const SNAPSHOT: Bounds = Bounds { field: "snapshot", least: "10s", most: "3y" };
const TIMESTAMP: Bounds = Bounds { field: "timestamp", least: "10s", most: "31d" };

impl Bounds {
    fn read(&self, text: Option<&str>, default: i64) -> Result<i64, ValidityError> {
        let Some(text) = text else { return Ok(default) };
        let field = self.field;
        let seconds = seconds(text).ok_or_else(|| ValidityError::Grammar { field, text: text.to_owned() })?;
        let within = seconds >= self::seconds(self.least).unwrap_or(i64::MAX)
            && seconds <= self::seconds(self.most).unwrap_or(0);
        if within {
            Ok(seconds)
        } else {
            Err(ValidityError::Bounds { field, text: text.to_owned(), least: self.least, most: self.most })
        }
    }
}

/// `<number><unit>` in seconds; a year is 365 days. No sign, no leading zero, so no zero.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.starts_with('0') || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let unit_s = match unit {
        "s" => 1,
        "m" => MINUTE_S,
        "h" => HOUR_S,
        "d" => DAY_S,
        "y" => YEAR_S,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit_s)
}
