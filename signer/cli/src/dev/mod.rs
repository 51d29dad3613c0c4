//! `chancery dev`: a whole instance in the foreground, on two fresh SoftHSM tokens, as a newcomer's first command and
//! every test's. The first start makes everything, or nothing: what a failed one made is removed. Later starts go on where
//! it was.

mod again;
mod layout;
mod provision;
mod supervise;
mod tokens;
mod words;

use crate::{
    args::DevArgs,
    exit::Exit,
    failure::Failure,
    output::{Answer, Output},
};
use api::{Client, Trust};
use layout::{Layout, Settings};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};
use supervise::Family;
use tokio::time::{Instant, sleep};

/// How long a start may take: two keepers, a database check and a TLS listener need under a second.
const READY: Duration = Duration::from_secs(60);

impl Answer for Settings {
    const SCHEMA: &'static str = "chancery.dev/v1";
}

/// Runs until Ctrl-C or SIGTERM.
pub(crate) async fn run(args: DevArgs, output: &mut Output) -> Result<Exit, Failure> {
    let mut stop = supervise::stop_signals()?;
    let layout = Layout::new(&args.dir)?;
    let _lock = layout.lock()?;
    let before = layout.settings()?;
    let fresh = before.is_none();
    let end = match before {
        Some(settings) => start_and_watch(settings, &args, &layout, false, &mut stop, output).await,
        None => match first_settings(&args).await {
            Ok(settings) => start_and_watch(settings, &args, &layout, true, &mut stop, output).await,
            Err(failure) => Err(failure),
        },
    };
    if fresh
        && !layout.is_whole()
        && let Err(failure) = layout.remove()
    {
        // Why the start failed is what the command ends with; this stands before it.
        output.note(&failure.to_string());
    }
    end
}

/// The instance from its first process to its last. Whatever ends it, everything that was started is stopped.
async fn start_and_watch(
    settings: Settings,
    args: &DevArgs,
    layout: &Layout,
    fresh: bool,
    stop: &mut supervise::StopSignals,
    output: &mut Output,
) -> Result<Exit, Failure> {
    if !fresh {
        again::check(args, &settings, layout)?;
    }
    free(&settings, layout, fresh)?;
    let mut family = Family::new(layout.clone(), &settings);
    let started = tokio::select! {
        end = start(&mut family, &settings, layout, fresh, output) => end,
        () = stop.received() => Err(Failure::new(Exit::Interrupted, "interrupted while it started")),
    };
    let end = match started {
        Ok(()) => family.watch(stop, output).await,
        Err(failure) => Err(failure),
    };
    if family.runs() {
        output.note("stopping: daemon first, then the keepers");
    }
    family.stop().await;
    end.map(|()| Exit::Ok)
}

/// Everything up to the line that says that the service is ready.
async fn start(
    family: &mut Family,
    settings: &Settings,
    layout: &Layout,
    fresh: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    if fresh {
        output.note("making two tokens, six keys, charters, a TLS certificate and a log");
        layout.begin()?;
        provision::files(family, layout, settings).await?;
    }
    family.start_keepers().await?;
    if fresh {
        family.init_log().await?;
    }
    family.start_daemon()?;
    let client = Client::new(&settings.url(), &Trust::CaFile(layout.ca()), None)?;
    wait_until_ready(&client, family).await?;
    if !tokens::admin_is_accepted(layout, &client).await? {
        output.note("no administrator's token is left: the daemon stops for a moment, to make one");
        family.stop_daemon().await;
        family.admin_token().await?;
        family.start_daemon()?;
        wait_until_ready(&client, family).await?;
    }
    let renewed = tokens::keep(layout, settings, &client).await?;
    if fresh {
        layout.write_settings(settings)?;
    } else if !renewed.is_empty() {
        output.note(&format!("renewed in {}: {}", layout.env_file().display(), renewed.join(", ")));
    }
    output.note(&format!(". {}", layout.env_file().display()));
    let ready = format!("ready url={} pid={}", settings.url(), std::process::id());
    output.result(settings, &ready)
}

/// The settings of a first start, with what was not given filled in.
async fn first_settings(args: &DevArgs) -> Result<Settings, Failure> {
    let listen = args.listen.clone().unwrap_or_else(|| "127.0.0.1:4443".into());
    let (host, port) = host_and_port(&listen)?;
    let address = resolve(host, port).await?;
    let registries: Vec<String> = if args.registries.is_empty() {
        vec!["localhost:5000=http".into()]
    } else {
        args.registries.iter().map(ToString::to_string).collect()
    };
    let hosts = registries.iter().filter_map(|r| r.split_once('=')).map(|(host, _)| format!("{host}/"));
    let repositories = if args.repositories.is_empty() { hosts.collect() } else { args.repositories.clone() };
    let module = match &args.pkcs11_module {
        Some(module) => absolute(module)?,
        None => provision::softhsm()?,
    };
    let origin = args.origin.as_ref().map_or_else(|| "log.chancery.test".into(), ToString::to_string);
    Ok(Settings {
        schema: 1,
        host: host.to_owned(),
        address: address.to_string(),
        origin,
        log_key: args.log_key.unwrap_or_default(),
        registries,
        repositories,
        module,
        keeper_env: args.keeper_env.clone(),
    })
}

/// A later start may be in another folder.
fn absolute(path: &std::path::Path) -> Result<std::path::PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|e| Failure::new(Exit::Usage, format!("cannot use the path {}", path.display())).why(e))
}

fn host_and_port(listen: &str) -> Result<(&str, u16), Failure> {
    let usage = |why: &str| {
        Failure::new(Exit::Usage, format!("--listen {listen:?}: {why}"))
            .next("such as --listen localhost:4443")
    };
    let (host, port) = listen.rsplit_once(':').ok_or_else(|| usage("it is HOST:PORT"))?;
    Ok((host, port.parse().map_err(|_| usage("the port is a number"))?))
}

async fn resolve(host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let bad = |why: String| Failure::new(Exit::Usage, format!("cannot listen on {host}")).why(why);
    let found = tokio::net::lookup_host((host, port)).await.map_err(|e| bad(e.to_string()))?;
    let address = found.into_iter().min_by_key(|a| !a.is_ipv4()).ok_or_else(|| bad("no address".into()))?;
    if port == 0 { bound(address) } else { Ok(address) }
}

/// The address as it is bound for a moment: a port for 0, and proof that nobody else listens there.
fn bound(address: SocketAddr) -> Result<SocketAddr, Failure> {
    TcpListener::bind(address).and_then(|probe| probe.local_addr()).map_err(|e| {
        let failure = Failure::new(Exit::Conflict, format!("cannot listen on {address}")).why(&e);
        match e.kind() {
            io::ErrorKind::AddrInUse => failure.next("stop what listens there, or choose another --listen"),
            _ => failure.next("choose another --listen"),
        }
    })
}

/// Whether the address can be had, before anything is started or made. The daemon of a `chancery dev` that was killed may
/// still be ending: it is waited for when ours finds its state held.
fn free(settings: &Settings, layout: &Layout, fresh: bool) -> Result<(), Failure> {
    if !fresh && layout.daemon_holds_its_state() {
        return Ok(());
    }
    let address = settings
        .address
        .parse()
        .map_err(|e| Failure::new(Exit::State, format!("dev.toml: address {:?}", settings.address)).why(e))?;
    bound(address).map(drop)
}

async fn wait_until_ready(client: &Client, family: &mut Family) -> Result<(), Failure> {
    let end = Instant::now() + READY;
    loop {
        let missing = match client.readyz().await {
            Ok(probe) if probe.readiness.ready => return Ok(()),
            Ok(probe) => probe.readiness.problems.join("\n"),
            Err(error) => api::chain_text(&error),
        };
        family.check_alive()?;
        if Instant::now() > end {
            return Err(Failure::new(Exit::State, "the service did not become ready within a minute")
                .why(missing)
                .next(family.logs_hint()));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_somebody_has_is_a_conflict_and_port_zero_takes_a_free_one() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let failure = bound(other.local_addr().unwrap()).unwrap_err();
        assert_eq!(failure.exit, Exit::Conflict);
        assert!(failure.next.unwrap().contains("--listen"));
        assert_ne!(bound("127.0.0.1:0".parse().unwrap()).unwrap().port(), 0);
    }
}
