//! What the rules did so far, over all processes that use the control folder: `state.json`, read and written by whoever
//! holds the folder's lock. It outlives a process that was killed, and promises nothing for a power cut.
//!
//! It is overwritten by one `write`, with blanks over what was longer. Replacing the file would be the usual way, but
//! ext4 then flushes the new one: a millisecond for each call that a rule counts. The kernel ends a `write` early only
//! between pages; a state of dozens of rules fits into one, and half of a larger one is no JSON: calls fail, loudly.

use super::error::ControlError;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

const FILE: &str = "state.json";

/// The state of the simulated token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct State {
    /// By the rule's id.
    pub(crate) rules: BTreeMap<String, Count>,
    /// The rule that took the token away: it is back when the rule is gone.
    pub(crate) removed_by: Option<String>,
    /// How often a rule took the token away.
    pub(crate) removals: u64,
    /// Wrong PINs since the last right one.
    pub(crate) wrong_pins: u32,
}

/// The counters of one rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Count {
    /// Calls that the rule is about.
    pub(crate) seen: u64,
    /// Calls that it struck.
    pub(crate) fired: u64,
}

impl State {
    /// A folder without the file is a fresh one.
    pub(crate) fn read(folder: &Path) -> Result<Self, ControlError> {
        let path = folder.join(FILE);
        match fs::read(&path) {
            // Made, and not yet written.
            Ok(text) if text.is_empty() => Ok(Self::default()),
            Ok(text) => serde_json::from_slice(&text).map_err(|source| ControlError::Json { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(ControlError::file("read the state", path)(error)),
        }
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<(), ControlError> {
        let path = folder.join(FILE);
        let text =
            serde_json::to_vec(self).map_err(|source| ControlError::Json { path: path.clone(), source })?;
        overwrite(&path, text).map_err(ControlError::file("overwrite the state", path))
    }
}

fn overwrite(path: &Path, mut text: Vec<u8>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let before = usize::try_from(file.metadata()?.len()).unwrap_or_default();
    text.resize(before.max(text.len()), b' ');
    file.write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::{Count, State};
    use std::fs;

    #[test]
    fn a_shorter_state_leaves_nothing_of_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::default();
        for id in ["one", "another"] {
            state.rules.insert(id.to_owned(), Count { seen: 1000, fired: 10 });
            state.write(dir.path()).unwrap();
            assert_eq!(State::read(dir.path()).unwrap(), state);
        }
        State::default().write(dir.path()).unwrap();
        assert_eq!(State::read(dir.path()).unwrap(), State::default());
    }

    #[test]
    fn an_absent_or_empty_file_is_a_fresh_state() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::read(dir.path()).unwrap(), State::default());
        fs::write(dir.path().join("state.json"), "").unwrap();
        assert_eq!(State::read(dir.path()).unwrap(), State::default());
    }
}
