//! `chancery dev`: a whole instance in the foreground, on two fresh SoftHSM tokens, as a newcomer's first command and
//! every test's. The first start makes everything; later starts go on where it was.

mod layout;
mod provision;
mod supervise;

use crate::{
    args::DevArgs,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use api::{Client, NewToken, Scope, Secret, Trust};
use layout::{Layout, Settings};
use record::{Clock, SystemClock};
use std::{fs, time::Duration};
use supervise::Family;
use tokio::time::{Instant, sleep};

/// How long a start may take: two keepers, a database check and a TLS listener need under a second.
const READY: Duration = Duration::from_secs(60);
/// Life of the tokens that a first start makes.
const TOKEN_LIFE_S: i64 = 89 * 86_400;

impl Answer for Settings {
    const SCHEMA: &'static str = "chancery.dev/v1";
}

/// Runs until Ctrl-C or SIGTERM.
pub(crate) async fn run(args: DevArgs, output: &mut Output) -> Result<Exit, Failure> {
    let layout = Layout::new(&args.dir)?;
    let _lock = layout.lock()?;
    let stop = supervise::stop_signals()?;
    let (settings, fresh) = match layout.settings()? {
        Some(settings) => (check_again(&args, settings)?, false),
        None => (first_settings(&args).await?, true),
    };
    let family = Family::new(layout.clone(), &settings);
    if fresh {
        output.note("making two tokens, five keys, charters, a TLS certificate and a log");
        provision::files(&layout, &settings).await?;
    }
    let mut family = family.start_keepers().await?;
    if fresh {
        family.init_log().await?;
    }
    family.start_daemon()?;
    let client = Client::new(&settings.url(), &Trust::CaFile(layout.ca()), None)?;
    let result = async {
        wait_until_ready(&client, &mut family).await?;
        if fresh {
            write_env(&layout, &settings, &client).await?;
            layout.write_settings(&settings)?;
        }
        Ok(())
    };
    if let Err(failure) = result.await {
        family.stop().await;
        return Err(failure);
    }
    output.note(&format!(". {}", layout.env_file().display()));
    let ready = format!("ready url={} pid={}", settings.url(), std::process::id());
    output.result(&settings, &ready)?;
    family.watch(stop, output).await;
    output.note("stopping: daemon first, then the keepers");
    family.stop().await;
    Ok(Exit::Ok)
}

/// The settings of a first start, with what was not given filled in.
async fn first_settings(args: &DevArgs) -> Result<Settings, Failure> {
    let listen = args.listen.clone().unwrap_or_else(|| "127.0.0.1:4443".into());
    let (host, port) = listen.rsplit_once(':').ok_or_else(|| usage("--listen is HOST:PORT", &listen))?;
    let port: u16 = port.parse().map_err(|_| usage("the port is a number", &listen))?;
    let address = resolve(host, port).await?;
    let registries: Vec<String> = if args.registries.is_empty() {
        vec!["localhost:5000=http".into()]
    } else {
        args.registries.iter().map(|r| format!("{}={}", r.host, r.scheme)).collect()
    };
    let hosts = registries.iter().filter_map(|r| r.split_once('=')).map(|(host, _)| format!("{host}/"));
    let repositories = if args.repositories.is_empty() { hosts.collect() } else { args.repositories.clone() };
    let module = match &args.pkcs11_module {
        Some(module) => module.clone(),
        None => provision::softhsm()?,
    };
    let origin = args.origin.as_ref().map_or_else(|| "log.chancery.test".into(), ToString::to_string);
    Ok(Settings {
        schema: 1,
        host: host.to_owned(),
        address: address.to_string(),
        origin,
        registries,
        repositories,
        module,
        keeper_env: args.keeper_env.clone(),
    })
}

/// A later start goes on with what the first one was given; asking for another address is a mistake worth a word.
fn check_again(args: &DevArgs, settings: Settings) -> Result<Settings, Failure> {
    let asked = args.listen.as_ref().and_then(|l| l.rsplit_once(':')).map(|(_, port)| port);
    let had = settings.address.rsplit_once(':').map(|(_, port)| port);
    if asked.is_some() && asked != had && asked != Some("0") {
        return Err(Failure::new(
            Exit::Conflict,
            format!("this directory's instance listens on {}", settings.address),
        )
        .next("leave --listen out, or use another --dir"));
    }
    Ok(settings)
}

async fn resolve(host: &str, port: u16) -> Result<std::net::SocketAddr, Failure> {
    let bad = |why: String| Failure::new(Exit::Usage, format!("cannot listen on {host}")).why(why);
    let found = tokio::net::lookup_host((host, port)).await.map_err(|e| bad(e.to_string()))?;
    let mut address =
        found.into_iter().min_by_key(|a| !a.is_ipv4()).ok_or_else(|| bad("no address".into()))?;
    if port == 0 {
        let probe = std::net::TcpListener::bind(address).map_err(|e| bad(e.to_string()))?;
        address = probe.local_addr().map_err(|e| bad(e.to_string()))?;
    }
    Ok(address)
}

fn usage(why: &str, value: &str) -> Failure {
    Failure::new(Exit::Usage, format!("--listen {value:?}: {why}")).next("such as --listen localhost:4443")
}

async fn wait_until_ready(client: &Client, family: &mut Family) -> Result<(), Failure> {
    let end = Instant::now() + READY;
    loop {
        if client.readyz().await.is_ok_and(|probe| probe.readiness.ready) {
            return Ok(());
        }
        family.check_alive()?;
        if Instant::now() > end {
            return Err(Failure::new(Exit::State, "the service did not become ready within a minute")
                .next(format!("read the files in {}", family.logs().display())));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Makes the tokens of CI and of the auditor, and writes what a shell needs to use the instance.
async fn write_env(layout: &Layout, settings: &Settings, client: &Client) -> Result<(), Failure> {
    let bad = |e: std::io::Error| Failure::new(Exit::State, "cannot read the administrator's token").why(e);
    let admin = fs::read_to_string(layout.admin_token()).map_err(bad)?.trim().to_owned();
    let client = client.with_token(Secret::new(&admin)?);
    let ci = token(&client, Scope::Sign, settings.repositories.clone(), "CI, made by chancery dev").await?;
    let auditor = token(&client, Scope::Audit, vec![], "auditor, made by chancery dev").await?;
    let vkey = fs::read_to_string(layout.pubkeys().join("log.vkey")).map_err(bad)?;
    let url = settings.url();
    let exports = [
        ("CHANCERY_URL", url.clone()),
        ("CHANCERY_CACERT", layout.ca().display().to_string()),
        ("CHANCERY_TOKEN", ci),
        ("CHANCERY_AUDITOR_TOKEN", auditor),
        ("CHANCERY_ADMIN_TOKEN", admin),
        ("CHANCERY_DCT_SERVER", url),
        ("CHANCERY_PUBKEYS", layout.pubkeys().display().to_string()),
        ("CHANCERY_LOG_VKEY", vkey.trim().to_owned()),
    ];
    let text: String =
        exports.iter().map(|(name, value)| format!("export {name}={}\n", quote(value))).collect();
    layout::write_private(&layout.env_file(), text.as_bytes())
}

async fn token(
    client: &Client,
    scope: Scope,
    repositories: Vec<String>,
    note: &str,
) -> Result<String, Failure> {
    let expires = SystemClock.now().plus_s(TOKEN_LIFE_S);
    let new = NewToken { scopes: vec![scope], repositories, expires, note: note.into() };
    Ok(client.create_token(&new).await?.bearer)
}

/// A word that a POSIX shell reads back as it was.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_quoted_words_back_as_they_were() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's $(x)"), r"'it'\''s $(x)'");
    }
}
