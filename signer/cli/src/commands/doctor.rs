//! `chancery doctor`: what works from here, what does not, and what to do about it.
//!
//! Promises: it changes nothing, here or there; its exit code is the one that a command would get that meets the worst of
//! the failed checks. What a keeper needs on its own host, `chancery-keeper doctor` tells there.

use super::{
    doctor_head, doctor_keeper, health,
    log::{optional_trust, seen_notes},
};
use crate::{
    args::LogKey,
    connect::Connection,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use api::{Client, ClientError, Probe, Readiness, TokenInfo};
use record::{Clock, SystemClock, Time};
use serde::Serialize;
use std::{borrow::Cow, path::PathBuf};
use tlog::{Checkpoint, VerifierKey};

/// What signing keepers allow between their clock and the one in an intent, which is the daemon's; they refuse the rest.
const MAX_SKEW_S: i64 = 300;

/// How `/readyz` begins what it says of a keeper.
const KEEPERS: [&str; 2] = ["signing keeper ", "log keeper: "];

/// How `/readyz` begins what it says of a daemon that writes nothing any more.
const SEALED: &str = "sealed: ";
const UNSEAL: &str =
    "find the cause and mend it, stop the daemon, then run `chancery unseal --config FILE` on its host";

/// Everything that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Diagnosis {
    pub(super) checks: Vec<Check>,
}

impl Answer for Diagnosis {
    const SCHEMA: &'static str = "chancery.doctor/v1";
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    what: Cow<'static, str>,
    ok: bool,
    /// It works, and should not be left so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    warning: bool,
    says: String,
    /// The word of `error[word]` for the same fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

/// `keepers` are configurations of keepers on this host.
pub(super) async fn run(
    connection: &Connection,
    keepers: &[PathBuf],
    output: &mut Output,
) -> Result<Exit, Failure> {
    let mut checks = checks(connection).await;
    checks.extend(keepers.iter().flat_map(|config| doctor_keeper::checks(config)));
    let diagnosis = Diagnosis { checks };
    output.result(&diagnosis, &text(&diagnosis))?;
    Ok(diagnosis.exit())
}

fn text(diagnosis: &Diagnosis) -> String {
    diagnosis.checks.iter().map(Check::line).collect::<Vec<_>>().join("\n")
}

impl Diagnosis {
    /// The exit code of the worst failed check: an alarm before all others, what may pass by itself after all others, and
    /// of equals the first.
    pub(super) fn exit(&self) -> Exit {
        let weight = |exit: Exit| match exit {
            Exit::Verification => 2,
            Exit::Temporary => 0,
            _ => 1,
        };
        let failed = self.checks.iter().filter(|c| !c.ok).map(|c| c.exit);
        failed
            .reduce(|worst, exit| if weight(exit) > weight(worst) { exit } else { worst })
            .unwrap_or(Exit::Ok)
    }
}

impl Check {
    pub(super) fn good(what: impl Into<Cow<'static, str>>, says: impl Into<String>) -> Self {
        let (what, says) = (what.into(), says.into());
        Self { what, ok: true, warning: false, says, code: None, remedy: None, exit: Exit::Ok }
    }

    pub(super) fn warning(what: String, says: String, remedy: Option<String>) -> Self {
        Self { warning: true, remedy, ..Self::good(what, says) }
    }

    pub(super) fn bad(
        what: impl Into<Cow<'static, str>>,
        exit: Exit,
        says: impl Into<String>,
        remedy: &str,
    ) -> Self {
        let code = Some(exit.word());
        Self { ok: false, code, remedy: Some(remedy.to_owned()), exit, ..Self::good(what, says) }
    }

    /// What people read of it.
    pub(super) fn line(&self) -> String {
        let mark = match (self.ok, self.warning) {
            (false, _) => "FAIL",
            (true, true) => "warn",
            (true, false) => "ok  ",
        };
        let remedy = self.remedy.as_ref().map_or(String::new(), |r| format!("\n      remedy: {r}"));
        format!("{mark}  {}: {}{remedy}", self.what, self.says)
    }

    /// What a command would have failed with, in its own words.
    fn failed(what: &'static str, failure: Failure) -> Self {
        let why = failure.why.map_or(String::new(), |why| format!(": {}", why.replace('\n', " ")));
        let says = format!("{}{why}", failure.what);
        let code = Some(failure.exit.word());
        // Other commands send their users here; whoever is here needs no such word.
        let remedy = failure.next.and_then(|next| next.split("; chancery doctor").next().map(str::to_owned));
        Self { ok: false, code, remedy, exit: failure.exit, ..Self::good(what, says) }
    }

    fn of(what: &'static str, checked: Result<String, Failure>) -> Self {
        match checked {
            Ok(says) => Self::good(what, says),
            Err(failure) => Self::failed(what, failure),
        }
    }
}

async fn checks(connection: &Connection) -> Vec<Check> {
    let asked = async {
        let client = connection.anonymous()?;
        let probe = client.readyz().await?;
        Ok((client, probe))
    };
    let (client, probe) = match asked.await {
        Ok(answer) => answer,
        Err(failure) => return vec![Check::failed("server", failure)],
    };
    let mut checks = vec![Check::good(
        "server",
        format!("{} answers, version {}", client.base(), probe.readiness.version),
    )];
    checks.extend(clock(probe.date, SystemClock.now()));
    checks.push(Check::of("token", token(connection).await));
    let keepers = keepers(connection).await;
    checks.extend(service(&probe, keepers.is_some()));
    checks.extend(keepers.unwrap_or_default());
    let mut seen_here = None;
    match optional_trust(&LogKey { vkey: None, vkey_file: None, policy: None }) {
        Ok(Some(trust)) => {
            checks.push(Check::of("log", log(&client, &trust.key).await));
            let remembered =
                seen_notes().and_then(|notes| Ok(notes.remembered(&trust.key)?)).map(|c| c.map(|c| c.size));
            seen_here = remembered.as_ref().ok().copied().flatten();
            checks.push(Check::of("memory", remembered.map(memory)));
        }
        Ok(None) => {}
        Err(failure) => checks.push(Check::failed("log", failure)),
    }
    checks.push(doctor_head::check(client.base(), seen_here, &probe.readiness.heads));
    checks
}

/// The clock here against the server's, which is the one that keepers see.
fn clock(server: Option<Time>, here: Time) -> Option<Check> {
    let skew = server?.unix_s() - here.unix_s();
    let says = match skew {
        0 => "the server's and this machine's are the same".to_owned(),
        1.. => format!("the server's is {skew} s ahead of this machine's"),
        _ => format!("the server's is {} s behind this machine's", -skew),
    };
    Some(if skew.abs() <= MAX_SKEW_S {
        Check::good("clock", says)
    } else {
        let remedy = "set the clock that is wrong (NTP): keepers refuse a daemon whose clock is off by more than 300 s";
        Check::bad("clock", Exit::State, says, remedy)
    })
}

/// What the service says of itself to everybody. Its keepers are left to their own checks where those could be made.
fn service(probe: &Probe, has_keepers: bool) -> Vec<Check> {
    let readiness = &probe.readiness;
    [troubles(readiness, has_keepers), readiness.alarms.iter().map(|says| alarm(says)).collect()].concat()
}

/// What the service works in spite of, by the part that it is about.
fn alarm(says: &str) -> Check {
    let (what, says, remedy) = match says.strip_prefix("mirror ") {
        Some(says) => {
            ("mirror", says, "look at the place, or at the way to it: docs/how-to/mirror.md has each alarm")
        }
        None => (
            "alarm",
            says,
            "look at what is named, or at the way to it: docs/how-to/witnesses.md has each alarm of a witness",
        ),
    };
    Check::warning(what.into(), says.into(), Some(remedy.into()))
}

fn troubles(readiness: &Readiness, has_keepers: bool) -> Vec<Check> {
    if readiness.ready {
        return vec![Check::good("service", format!("ready, {} entries in the log", readiness.log_size))];
    }
    let remedy = "start or repair what is named; chancery token health says more to a token with the scope audit or admin";
    let problem = |problem: &String| match problem.starts_with(SEALED) {
        true => Check::bad("service", Exit::State, problem.clone(), UNSEAL),
        false => Check::bad("service", Exit::Temporary, problem.clone(), remedy),
    };
    let of_keeper = |problem: &&String| KEEPERS.iter().any(|prefix| problem.starts_with(prefix));
    let left = readiness.problems.iter().filter(|problem| !has_keepers || !of_keeper(problem));
    let checks: Vec<Check> = left.map(problem).collect();
    if checks.is_empty() && readiness.problems.iter().any(|problem| of_keeper(&problem)) {
        return vec![];
    }
    if checks.is_empty() {
        return vec![Check::bad("service", Exit::Temporary, "not ready, and it does not say why", remedy)];
    }
    checks
}

/// One check a keeper, if the token may be told of them.
async fn keepers(connection: &Connection) -> Option<Vec<Check>> {
    let keepers = connection.client().ok()?.keepers().await.ok()?;
    let disk = Check::good("disk", health::scrub_text(&keepers.scrub));
    Some(health::rows(&keepers).iter().map(keeper).chain([disk]).collect())
}

fn keeper(row: &health::Row<'_>) -> Check {
    match &row.state.trouble {
        None => Check::good("keeper", row.text()),
        Some(trouble) => {
            let (exit, since) = (health::exit(trouble.code), row.state.since);
            let says = format!("{}: {} (since {since})", row.name, trouble.says);
            Check::bad("keeper", exit, says, &trouble.remedy)
        }
    }
}

/// Whether the token is accepted, and what it may do. Only administrators can be told all of it: the API shows tokens to
/// nobody else.
async fn token(connection: &Connection) -> Result<String, Failure> {
    if !connection.has_token() {
        return Err(Failure::new(Exit::Auth, "none given").next("set CHANCERY_TOKEN or --token-file"));
    }
    let (client, id) = (connection.client()?, connection.token()?.and_then(|secret| secret.token_id()));
    client.keys().await.map_err(|error| match &error {
        ClientError::Problem(problem) if problem.status == 401 => Failure::from(error).next(
            "ask an administrator for a new one: chancery token create; if none is left: chanceryd admin-token",
        ),
        _ => error.into(),
    })?;
    let name = id.as_ref().map_or_else(|| "it".to_owned(), ToString::to_string);
    match client.tokens().await {
        Ok(tokens) => {
            let own = tokens.tokens.iter().find(|t| Some(&t.id) == id.as_ref());
            Ok(own.map_or_else(|| format!("{name} is accepted, and may make tokens"), rights))
        }
        Err(ClientError::Problem(problem)) if problem.status == 403 => {
            let reads = if reads_the_log(&client).await? {
                "may read the log (audit)"
            } else {
                "may not read the log"
            };
            Ok(format!(
                "{name} is accepted, {reads} and makes no tokens; its repositories and its end are in \
                 chancery token list, which administrators can run"
            ))
        }
        Err(error) => Err(error.into()),
    }
}

fn rights(token: &TokenInfo) -> String {
    let scopes: Vec<&str> = token.scopes.iter().map(|s| s.as_str()).collect();
    let repositories = match token.repositories.as_slice() {
        [] => String::new(),
        names => format!(" for {}", names.join(" ")),
    };
    format!("{} is accepted: {}{repositories}, until {}", token.id, scopes.join(", "), token.expires)
}

/// Entries are for auditors: the first one, which every log has, is asked for.
async fn reads_the_log(client: &Client) -> Result<bool, Failure> {
    match client.log_file("tile/entries/000.p/1").await {
        Ok(_) => Ok(true),
        Err(ClientError::Problem(problem)) if problem.status == 403 => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the server's checkpoint carries the signature of the log that is expected here.
async fn log(client: &Client, key: &VerifierKey) -> Result<String, Failure> {
    let note = client.log_checkpoint().await?;
    let checkpoint = Checkpoint::open(&note, key).map_err(|e| {
        Failure::new(Exit::Verification, "the server's checkpoint is not signed by the key of CHANCERY_LOG_VKEY")
            .why(api::chain_text(&e))
            .next("check --url and CHANCERY_LOG_VKEY; if both are right, tell the people who run the log, by another way")
    })?;
    Ok(format!("the checkpoint of {} entries is signed by the key of CHANCERY_LOG_VKEY", checkpoint.size))
}

/// Whether this machine would notice a log that shrinks or forks.
fn memory(remembered: Option<u64>) -> String {
    match remembered {
        Some(seen) => format!("a checkpoint of {seen} entries is remembered here"),
        None => {
            "no checkpoint of this log is remembered here yet: chancery log checkpoint does that".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Readiness;

    fn at(seconds: i64) -> Time {
        Time::from_unix_ms(1_790_000_000_000).unwrap().plus_s(seconds)
    }

    fn exit(exits: &[Exit]) -> Exit {
        let check = |exit: &Exit| match exit {
            Exit::Ok => Check::good("x", "fine"),
            exit => Check::bad("x", *exit, "broken", "mend it"),
        };
        Diagnosis { checks: exits.iter().map(check).collect() }.exit()
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_failed_check() {
        assert_eq!(exit(&[Exit::Ok, Exit::Ok]), Exit::Ok);
        assert_eq!(exit(&[Exit::Ok, Exit::Temporary]), Exit::Temporary);
        assert_eq!(exit(&[Exit::Temporary, Exit::Auth]), Exit::Auth);
        assert_eq!(exit(&[Exit::Auth, Exit::Temporary, Exit::Verification]), Exit::Verification);
        assert_eq!(exit(&[Exit::State, Exit::Auth]), Exit::State);
    }

    #[test]
    fn a_clock_that_keepers_would_refuse_fails() {
        for (server, ok, says) in [
            (0, true, "the same"),
            (300, true, "300 s ahead"),
            (-300, true, "300 s behind"),
            (301, false, "301 s ahead"),
            (-301, false, "301 s behind"),
        ] {
            let check = clock(Some(at(server)), at(0)).unwrap();
            assert_eq!(check.ok, ok, "{check:?}");
            assert!(check.says.contains(says), "{check:?}");
            assert_eq!(check.remedy.is_some(), !ok);
        }
        assert!(clock(None, at(0)).is_none());
    }

    #[test]
    fn a_failed_check_says_its_remedy_and_nests_no_error_block() {
        let failure = Failure::new(Exit::Auth, "no")
            .why("because\nof this")
            .next("do that; chancery doctor tells more");
        let diagnosis = Diagnosis { checks: vec![Check::failed("token", failure)] };
        assert_eq!(text(&diagnosis), "FAIL  token: no: because of this\n      remedy: do that");
        let json = crate::output::tests::document(&diagnosis);
        assert_eq!(json["checks"][0]["code"], "auth");
    }

    #[test]
    fn a_keeper_in_trouble_fails_with_the_servers_remedy_and_its_own_exit_code() {
        let keepers = health::tests::keepers(Some(api::KeeperFault::OlderJournal));
        let checks: Vec<Check> = health::rows(&keepers).iter().map(keeper).collect();
        assert!(checks[0].ok, "the log keeper");
        assert_eq!((checks[1].exit, checks[1].remedy.as_deref()), (Exit::State, Some("mend it")));
        assert!(checks[1].says.contains("signing") && checks[1].says.contains("since 2026-"), "{checks:?}");
    }

    #[test]
    fn a_witness_that_is_lost_or_a_mirror_behind_is_a_warning_beside_a_service_that_is_ready() {
        let (ready, problems) = (true, vec![]);
        let alarms = vec!["witness north: it cannot be reached".to_owned()];
        let readiness =
            Readiness { ready, version: "1".into(), log_size: 1, problems, alarms, heads: vec![] };
        let checks = service(&Probe { readiness, date: None }, true);
        assert!(checks.iter().all(|c| c.ok) && checks[1].warning, "{checks:?}");
        assert!(checks[1].line().starts_with("warn  alarm: witness north"), "{checks:?}");
        let line = alarm("mirror file:///m is 3 entries behind since now: it is full").line();
        assert!(line.starts_with("warn  mirror: file:///m is 3") && line.contains("mirror.md"), "{line}");
    }

    #[test]
    fn a_service_that_is_not_ready_fails_even_without_a_reason() {
        let probe = |problems: &[&str]| Probe {
            readiness: Readiness {
                ready: false,
                version: "1".into(),
                log_size: 1,
                problems: problems.iter().map(ToString::to_string).collect(),
                alarms: vec![],
                heads: vec![],
            },
            date: None,
        };
        assert_eq!(service(&probe(&["keeper away", "sealed"]), true).len(), 2);
        for has_keepers in [true, false] {
            assert!(service(&probe(&[]), has_keepers).iter().all(|c| !c.ok && c.exit == Exit::Temporary));
            assert_eq!(service(&probe(&[]), has_keepers).len(), 1);
        }
        // A keeper is told of once: by its own check with its remedy, or, to who may not see that, here.
        let away = probe(&["signing keeper a: no connection", "sealed"]);
        assert_eq!((service(&away, true).len(), service(&away, false).len()), (1, 2));
        assert!(service(&probe(&["log keeper: it is away"]), true).is_empty());
    }
}
