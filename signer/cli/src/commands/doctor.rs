//! `chancery doctor`: what works from here, what does not, and what to do about it.

use crate::{
    connect::Connection,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use serde::Serialize;

/// Everything that was looked at.
#[derive(Debug, Serialize)]
struct Diagnosis {
    checks: Vec<Check>,
}

impl Answer for Diagnosis {
    const SCHEMA: &'static str = "chancery.doctor/v1";
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    ok: bool,
    says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

pub(super) async fn run(connection: &Connection, output: &mut Output) -> Result<Exit, Failure> {
    let checks = checks(connection).await?;
    let line = |c: &Check| {
        let mark = if c.ok { "ok  " } else { "FAIL" };
        let remedy = c.remedy.as_ref().map_or(String::new(), |r| format!("\n      remedy: {r}"));
        format!("{mark}  {}: {}{remedy}", c.what, c.says)
    };
    let text = checks.iter().map(line).collect::<Vec<_>>().join("\n");
    let good = checks.iter().all(|c| c.ok);
    output.result(&Diagnosis { checks }, &text)?;
    Ok(if good { Exit::Ok } else { Exit::Temporary })
}

async fn checks(connection: &Connection) -> Result<Vec<Check>, Failure> {
    let client = connection.client()?;
    let mut checks = Vec::new();
    let probe = match client.readyz().await {
        Ok(probe) => probe,
        Err(error) => {
            let failure = Failure::from(error);
            checks.push(bad(
                "server",
                failure.to_string().trim().to_owned(),
                "check --url, --cacert and that the server runs",
            ));
            return Ok(checks);
        }
    };
    checks.push(good("server", format!("{} answers, version {}", client.base(), probe.readiness.version)));
    if probe.readiness.ready {
        checks.push(good("service", format!("ready, {} entries in the log", probe.readiness.log_size)));
    }
    for problem in probe.readiness.problems {
        checks.push(bad("service", problem, "start or repair what is named; its log says why it stopped"));
    }
    checks.push(token(connection, &client).await);
    Ok(checks)
}

async fn token(connection: &Connection, client: &api::Client) -> Check {
    if !connection.has_token() {
        return bad("token", "none given".into(), "set CHANCERY_TOKEN or --token-file");
    }
    match client.keys().await {
        Ok(keys) => good("token", format!("accepted; {} signing keys are known", keys.keys.len())),
        Err(error) => {
            bad("token", error.to_string(), "ask an administrator for a new one: chancery token create")
        }
    }
}

fn good(what: &'static str, says: String) -> Check {
    Check { what, ok: true, says, remedy: None }
}

fn bad(what: &'static str, says: String, remedy: &str) -> Check {
    Check { what, ok: false, says, remedy: Some(remedy.to_owned()) }
}
