//! `faults.jsonl`: what the rules did, in order, a line an event. Tests wait for its lines.

use super::error::ControlError;
use serde::Serialize;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
};

/// About half a million events.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The open log.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

/// What is told of a rule.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// It struck: a call that it holds is held from here on.
    Fired,
    /// The call that it held goes on.
    Released,
}

/// The event's circumstances.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) rule: &'a str,
    pub(crate) event: Event,
    pub(crate) function: &'a str,
    pub(crate) session: Option<u64>,
    /// The rule's fires so far.
    pub(crate) n: u64,
}

#[derive(Serialize)]
struct Written<'a> {
    pid: u32,
    #[serde(flatten)]
    line: &'a Line<'a>,
}

impl Log {
    pub(crate) fn open(folder: &Path) -> Result<Self, ControlError> {
        let path = folder.join("faults.jsonl");
        let file = OpenOptions::new().append(true).create(true).open(&path);
        Ok(Self { file: file.map_err(ControlError::file("open the log", &path))?, path })
    }

    /// One `write` to a file opened for appending: lines of several processes do not mix.
    pub(crate) fn append(&self, line: &Line<'_>) -> Result<(), ControlError> {
        let full = || self.file.metadata().map(|found| found.len() > MAX_BYTES);
        if full().map_err(ControlError::file("measure the log", &self.path))? {
            return Err(ControlError::TooLarge { path: self.path.clone(), limit: MAX_BYTES });
        }
        self.write(line).map_err(ControlError::file("append to the log", &self.path))
    }

    fn write(&self, line: &Line<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(&Written { pid: process::id(), line })?;
        text.push(b'\n');
        (&self.file).write_all(&text)
    }
}
