//! What the rules did so far, over all processes that use the control folder: `state.json`, replaced in one step by
//! whoever holds the folder's lock. It outlives a process that was killed, and promises nothing for a power cut.

use super::error::ControlError;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io, path::Path};

const FILE: &str = "state.json";
const NEW: &str = "state.json.new";

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
            Ok(text) => serde_json::from_slice(&text).map_err(|source| ControlError::Json { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(ControlError::file("read the state", path)(error)),
        }
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<(), ControlError> {
        let (path, new) = (folder.join(FILE), folder.join(NEW));
        let text =
            serde_json::to_vec(self).map_err(|source| ControlError::Json { path: path.clone(), source })?;
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(ControlError::file("replace the state", path))
    }
}
