//! `chancery version`.

use crate::{
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Version {
    pub(super) version: &'static str,
}

impl Answer for Version {
    const SCHEMA: &'static str = "chancery.version/v1";
}

pub(super) fn run(output: &mut Output) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    output.result(&Version { version }, &format!("chancery {version}"))?;
    Ok(Exit::Ok)
}
