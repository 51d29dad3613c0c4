//! `chancery-keeper doctor`: what a keeper needs on its host, whether that is there, and what to do about what is not.
//!
//! It promises: nothing is changed, nothing is signed, and no PIN is tried without `--login`; with it one try, and none
//! when a wrong one could lock the PIN. Its exit code is the one with which a keeper would end that meets the worst of the
//! failed checks. A keeper may run meanwhile. It does not know what a journal or a spool says.

mod host;
mod piv;
mod token;

use crate::admin::Format;
use crate::admin::report::{Document, print};
use crate::config::{Config, TokenConfig};
use crate::exit::{self, Fatal};
use crate::sign::charter::Charter;
use crate::token::Watchdog;
use people::Rule;
use record::KeyId;
use serde::Serialize;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    what: String,
    state: State,
    says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// The exit code of a keeper that meets this.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Ok,
    Failed,
    /// A keeper works with it, and its operator should not leave it so.
    Warning,
    /// It cannot be told from here, for the reason given.
    Skipped,
}

impl Check {
    fn good(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self { what: what.into(), state: State::Ok, says: says.into(), remedy: None, code: None }
    }

    fn skipped(what: impl Into<String>, says: impl Into<String>) -> Self {
        Self { state: State::Skipped, ..Self::good(what, says) }
    }

    fn bad(what: impl Into<String>, code: u8, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Failed, remedy: Some(remedy.into()), code: Some(code), ..Self::good(what, says) }
    }

    fn warning(what: impl Into<String>, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Warning, remedy: Some(remedy.into()), ..Self::good(what, says) }
    }

    /// What a keeper would end with, in its own words.
    fn failed(what: impl Into<String>, fatal: &Fatal, remedy: impl Into<String>) -> Self {
        Self::bad(what, fatal.code(), fatal.to_string(), remedy)
    }
}

#[derive(Debug, Serialize)]
struct Diagnosis {
    config: String,
    checks: Vec<Check>,
}

impl Document for Diagnosis {
    const SCHEMA: &'static str = "chancery.keeper.doctor/v1";

    fn text(&self) -> String {
        let line = |check: &Check| {
            let mark = match check.state {
                State::Ok => "ok  ",
                State::Failed => "FAIL",
                State::Warning => "warn",
                State::Skipped => "skip",
            };
            let remedy = check.remedy.as_ref().map_or(String::new(), |r| format!("\n      remedy: {r}"));
            format!("{mark}  {}: {}{remedy}", check.what, check.says)
        };
        self.checks.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl Diagnosis {
    /// The exit code: what needs a person before what a restart can mend, and of equals the first.
    fn code(&self) -> u8 {
        let needs_a_person = |code: &u8| matches!(code, 74 | 78);
        let codes: Vec<u8> = self.checks.iter().filter_map(|c| c.code).collect();
        codes.iter().copied().find(needs_a_person).or(codes.first().copied()).unwrap_or(0)
    }
}

/// The report while it grows: a call into a vendor's library that hangs must not take along what was found before.
#[derive(Clone)]
struct Report(Arc<Mutex<Diagnosis>>);

impl Report {
    fn add(&self, check: Check) {
        self.lock().checks.push(check);
    }

    fn lock(&self) -> MutexGuard<'_, Diagnosis> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, format: Option<Format>) -> Result<u8, Fatal> {
        let diagnosis = self.lock();
        print(format, &*diagnosis)?;
        Ok(diagnosis.code())
    }

    /// Ends the process after a call that did not return.
    fn end(&self, fatal: &Fatal, format: Option<Format>) -> ! {
        let remedy = "look at the token and at what stands between it and this host; unplug it, or restart its service";
        self.add(Check::failed("token", fatal, remedy));
        exit::end(self.print(format).unwrap_or_else(|fatal| fatal.code()))
    }
}

/// Looks at everything that the keeper with this configuration needs; gives the exit code.
pub fn run(file: &Path, login: bool, format: Option<Format>) -> Result<u8, Fatal> {
    let report =
        Report(Arc::new(Mutex::new(Diagnosis { config: file.display().to_string(), checks: vec![] })));
    let config = match Config::read(file) {
        Ok(config) => config,
        Err(fatal) => {
            report.add(Check::failed(
                "config",
                &fatal,
                "correct the configuration, as the key and the line say",
            ));
            return report.print(format);
        }
    };
    report.add(Check::good("config", format!("{} can be used", file.display())));
    let charter = charter(&config, &report);
    let (hung, deadline_ms) = (report.clone(), config.token().call_deadline_ms());
    let watchdog = Watchdog::start(deadline_ms, move |fatal| hung.end(&fatal, format))
        .map_err(|source| Fatal::Process { what: "the token's watchdog cannot be started", source })?;
    let (charter, watchdog) = (charter.as_ref(), &watchdog);
    match config.token() {
        TokenConfig::Pkcs11(token) => {
            token::Patient { config: &config, token, charter, watchdog }.examine(login, &report);
        }
        TokenConfig::Piv(token) => {
            piv::Patient { config: &config, token, charter, watchdog }.examine(login, &report);
        }
    }
    host::checks(&config).into_iter().for_each(|check| report.add(check));
    report.print(format)
}

fn charter(config: &Config, report: &Report) -> Option<Charter> {
    let Config::Sign(config) = config else { return None };
    match Charter::read(&config.charter, &config.name) {
        Ok(charter) => {
            let (all, active) = (charter.all().count(), charter.keys().count());
            let says = format!("{active} keys may sign, {} are retired", all - active);
            report.add(Check::good("charter", says));
            let rules = charter.keys().filter_map(|(id, key)| Some((id, key.rule.as_ref()?)));
            rules.for_each(|(id, rule)| report.add(approval(id, rule)));
            Some(charter)
        }
        Err(fatal) => {
            report.add(Check::failed(
                "charter",
                &fatal,
                "correct the charter, as the key and the member say",
            ));
            None
        }
    }
}

/// What the rule of a key asks for. A single person's word is no second pair of eyes.
fn approval(id: &KeyId, rule: &Rule) -> Check {
    let people: u32 = rule.needs().iter().map(|need| need.count).sum();
    let (what, says) = (format!("approval of key {id}"), rule.to_string());
    if people > 1 {
        Check::good(what, says)
    } else {
        let remedy = "ask for two people, unless one of them alone is to decide";
        Check::warning(what, format!("{says}: one person is enough"), remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_first_check_that_needs_a_person() {
        let code = |codes: &[u8]| {
            let checks = codes.iter().map(|code| Check::bad("x", *code, "", "")).collect();
            Diagnosis { config: String::new(), checks }.code()
        };
        assert_eq!((code(&[]), code(&[70, 71]), code(&[70, 78, 74]), code(&[75, 74])), (0, 70, 78, 74));
    }
}
