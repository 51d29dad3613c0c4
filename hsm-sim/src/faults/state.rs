//! The one number of `state.json` that tests read and set: the wrong PINs. The rest is the forwarder's own.

use super::replace;
use crate::Error;
use serde_json::{Map, Value};
use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

const FILE: &str = "state.json";
const WRONG_PINS: &str = "wrong_pins";

/// Wrong PINs since the last right one.
pub(super) fn wrong_pins(folder: &Path) -> Result<u32, Error> {
    let _alone = lock(folder)?;
    let wrong = read(folder)?.get(WRONG_PINS).and_then(Value::as_u64);
    Ok(wrong.and_then(|wrong| u32::try_from(wrong).ok()).unwrap_or_default())
}

pub(super) fn set_wrong_pins(folder: &Path, wrong_pins: u32) -> Result<(), Error> {
    let _alone = lock(folder)?;
    let mut state = read(folder)?;
    state.insert(WRONG_PINS.to_owned(), wrong_pins.into());
    replace(&folder.join(FILE), &Value::Object(state).to_string())
}

/// Alone among those who use the folder, until the file is closed: the forwarder takes the same lock.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let lock = OpenOptions::new().append(true).create(true).open(&path);
    let lock = lock.map_err(Error::file("open the lock", &path))?;
    lock.lock().map_err(Error::file("take the lock", &path))?;
    Ok(lock)
}

fn read(folder: &Path) -> Result<Map<String, Value>, Error> {
    let path = folder.join(FILE);
    match fs::read(&path) {
        Ok(text) if text.is_empty() => Ok(Map::new()),
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|source| Error::ControlLine { path, line: 1, source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(Error::file("read the state", path)(error)),
    }
}
