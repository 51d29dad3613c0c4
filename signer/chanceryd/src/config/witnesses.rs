//! `[log.witnesses]`: who cosigns the published checkpoint, and what happens while they do not.

use serde::Deserialize;
use std::{path::PathBuf, time::Duration};

/// The fewest unwitnessed leaves that can be a limit: one request writes about six, and leaves come in batches.
const MIN_LEAVES: u64 = 16;
/// The longest time without witnesses that can be a limit: a week.
const MAX_MINUTES: u64 = 7 * 24 * 60;

/// The witnesses of the log (C2SP tlog-witness).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessConfig {
    /// A C2SP tlog-policy: a `log` line with our key, `witness` lines with URLs, groups, and the quorum.
    pub policy: PathBuf,
    /// What is done with a checkpoint that lacks the quorum. There is no default: somebody has to decide.
    pub without_quorum: WithoutQuorum,
    /// How long signing goes on without the quorum; stands there if and only if the checkpoint waits.
    #[serde(default)]
    pub max_unwitnessed: Option<MaxUnwitnessed>,
    /// How long one witness may take for one answer, in seconds: 1 to 5.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// PEM file with the only CAs that may vouch for witnesses at `https`; without it the system's roots.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// What is done with a checkpoint that lacks the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WithoutQuorum {
    /// It is published all the same, with an alarm (fail-open).
    Publish,
    /// It waits, and beyond `max_unwitnessed` nothing new is signed (fail-closed).
    Wait,
}

/// How far the log may grow beyond the last checkpoint with the quorum. Whichever is reached first stops new intents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxUnwitnessed {
    /// Leaves.
    pub leaves: u64,
    /// Minutes since the first of them.
    pub minutes: u64,
}

fn default_timeout_s() -> u64 {
    3
}

impl WitnessConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=5).contains(&self.timeout_s) {
            return Err("[log.witnesses] timeout_s is 1 to 5".into());
        }
        match (self.without_quorum, self.max_unwitnessed) {
            (WithoutQuorum::Publish, None) => Ok(()),
            (WithoutQuorum::Publish, Some(_)) => Err(
                "[log.witnesses] max_unwitnessed is for without_quorum = \"wait\": \"publish\" stops nothing".into(),
            ),
            (WithoutQuorum::Wait, None) => Err(
                "[log.witnesses] without_quorum = \"wait\" needs max_unwitnessed = { leaves = N, minutes = M }: where \
                 signing stops"
                    .into(),
            ),
            (WithoutQuorum::Wait, Some(limit)) => limit.check(),
        }
    }

    /// How long one witness may take for one answer.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }
}

impl MaxUnwitnessed {
    fn check(self) -> Result<(), String> {
        if self.leaves < MIN_LEAVES {
            return Err(format!(
                "[log.witnesses] max_unwitnessed.leaves is at least {MIN_LEAVES}: one request writes several"
            ));
        }
        if !(1..=MAX_MINUTES).contains(&self.minutes) {
            return Err(format!("[log.witnesses] max_unwitnessed.minutes is 1 to {MAX_MINUTES}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), String> {
        let config: WitnessConfig = toml::from_str(text).map_err(|e| e.to_string())?;
        config.check()
    }

    #[test]
    fn what_happens_without_a_quorum_is_said_in_full_or_refused() {
        let wait = "policy = \"p\"\nwithout_quorum = \"wait\"\n";
        let limits = |leaves: u64, minutes: u64| {
            checked(&format!("{wait}max_unwitnessed = {{ leaves = {leaves}, minutes = {minutes} }}\n"))
        };
        assert_eq!(checked("policy = \"p\"\nwithout_quorum = \"publish\"\n"), Ok(()));
        assert_eq!(limits(16, 1), Ok(()));
        for (bad, word) in [
            (checked("policy = \"p\"\n"), "without_quorum"),
            (checked(wait), "max_unwitnessed"),
            (
                checked(
                    "policy = \"p\"\nwithout_quorum = \"publish\"\nmax_unwitnessed = { leaves = 99, minutes = 1 }\n",
                ),
                "stops nothing",
            ),
            (checked("policy = \"p\"\nwithout_quorum = \"publish\"\ntimeout_s = 6\n"), "timeout_s"),
            (checked("policy = \"p\"\nwithout_quorum = \"publish\"\nquorum = 2\n"), "unknown field"),
            (limits(15, 1), "leaves"),
            (limits(16, 0), "minutes"),
            (limits(16, MAX_MINUTES + 1), "minutes"),
        ] {
            let why = bad.unwrap_err();
            assert!(why.contains(word), "{word}: {why}");
        }
    }
}
