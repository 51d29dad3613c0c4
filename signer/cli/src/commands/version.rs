//! `chancery version`.

use crate::{exit::Exit, failure::Failure, output::Output};
use serde::Serialize;

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

pub(super) fn run(output: &mut Output) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    output.result("chancery.version/v1", &Version { version }, &format!("chancery {version}"))?;
    Ok(Exit::Ok)
}
