//! What the doctor of a keeper says, where this command runs on that keeper's host: its module or pcscd, its token, the
//! PIN's tries, and each key with its touch policy.
//!
//! Promises: no PIN is tried. It does not know hardware: that is `chancery-keeper doctor`, run as a process of its own.

use super::{daemon::sibling, doctor::Check};
use crate::exit::Exit;
use serde::Deserialize;
use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

/// The document of `chancery-keeper doctor`.
#[derive(Debug, Deserialize)]
struct Diagnosis {
    checks: Vec<Found>,
}

#[derive(Debug, Deserialize)]
struct Found {
    what: String,
    state: State,
    says: String,
    remedy: Option<String>,
    code: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Ok,
    Failed,
    Warning,
    Skipped,
}

/// The checks of the keeper with this configuration.
pub(super) fn checks(config: &Path) -> Vec<Check> {
    let program = sibling("chancery-keeper");
    let ran = Command::new(&program)
        .args(["doctor", "--output", "json", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let why = match ran {
        Err(error) => format!("{} cannot be started: {error}", program.display()),
        Ok(output) => match understood(&output) {
            Ok(found) => return found.into_iter().map(|found| found.check(config)).collect(),
            Err(why) => format!("{}: {why}", program.display()),
        },
    };
    let remedy = "install chancery-keeper beside chancery, and run this as the keeper's user on its host";
    vec![Check::bad("keeper on this host", Exit::State, why, remedy)]
}

fn understood(output: &Output) -> Result<Vec<Found>, String> {
    let diagnosis: Diagnosis = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("it ended with {}, and its answer is none: {error}", output.status))?;
    Ok(diagnosis.checks)
}

impl Found {
    fn check(self, config: &Path) -> Check {
        let what = format!("{} of {}", self.what, config.display());
        match self.state {
            State::Ok => Check::good(what, self.says),
            State::Skipped => Check::good(what, format!("skipped: {}", self.says)),
            State::Warning => Check::warning(what, self.says, self.remedy),
            // What a restart of the keeper can mend may pass by itself.
            State::Failed => {
                let exit = if matches!(self.code, Some(70 | 75)) { Exit::Temporary } else { Exit::State };
                let remedy = self.remedy.unwrap_or_else(|| "chancery-keeper doctor has more".into());
                Check::bad(what, exit, self.says, &remedy)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn output(stdout: &str) -> Output {
        Output { status: std::process::ExitStatus::from_raw(0), stdout: stdout.into(), stderr: vec![] }
    }

    #[test]
    fn each_check_of_a_keepers_doctor_becomes_one_here() {
        let said = r#"{ "schema": "chancery.keeper.doctor/v1", "config": "k", "checks": [
            { "what": "pcscd", "state": "ok", "says": "answers" },
            { "what": "card", "state": "failed", "says": "is in no reader", "remedy": "put it in", "code": 70 },
            { "what": "PIN", "state": "failed", "says": "is the factory's", "remedy": "change it", "code": 78 },
            { "what": "socket", "state": "warning", "says": "is open to all", "remedy": "close it" },
            { "what": "PIN", "state": "skipped", "says": "needs --login" } ] }"#;
        let found = understood(&output(said)).unwrap();
        let checks: Vec<Check> = found.into_iter().map(|f| f.check(Path::new("keeper.toml"))).collect();
        let text: Vec<String> = checks.iter().map(Check::line).collect();
        assert_eq!(
            text,
            [
                "ok    pcscd of keeper.toml: answers",
                "FAIL  card of keeper.toml: is in no reader\n      remedy: put it in",
                "FAIL  PIN of keeper.toml: is the factory's\n      remedy: change it",
                "warn  socket of keeper.toml: is open to all\n      remedy: close it",
                "ok    PIN of keeper.toml: skipped: needs --login",
            ]
        );
        assert_eq!(super::super::doctor::Diagnosis { checks }.exit(), Exit::State);
    }

    #[test]
    fn an_answer_that_is_none_is_a_failed_check() {
        assert!(understood(&output("no")).unwrap_err().contains("its answer is none"));
    }
}
