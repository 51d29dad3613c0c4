//! Reading `faults.jsonl`, while its writers may be at work.

use crate::Error;
use serde::Deserialize;
use std::{fs, io, path::Path};

/// One event of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultEvent {
    /// The process whose call it was.
    pub pid: u32,
    /// The rule's id, as [`super::RuleId`] displays it.
    pub rule: String,
    /// What happened.
    #[serde(rename = "event")]
    pub happened: Happened,
    /// The PKCS#11 function that was called.
    pub function: String,
    /// The session handle of the call, if it had one.
    pub session: Option<u64>,
    /// The rule's fires so far.
    pub n: u64,
}

/// What a rule did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// It struck a call.
    Fired,
    /// The call that it held went on.
    Released,
}

/// A last line without an end is not written yet.
pub(super) fn read(folder: &Path) -> Result<Vec<FaultEvent>, Error> {
    let path = folder.join("faults.jsonl");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read the log of the faults", path)(error)),
    };
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|source| Error::ControlLine {
                path: path.clone(),
                line: index + 1,
                source,
            })
        })
        .collect()
}
