//! The daemon as a whole: state is opened, the heads are compared, the keepers connected, and only then is served.

use crate::{
    audit::{Log, Parts, Refill},
    auth::Tokens,
    config::Config,
    fatal::Fatal,
    handles,
    health::{Health, Trouble},
    http,
    in_force::{self, InForce, Reload},
    issuers::Issuers,
    keys::KeyDirectory,
    machines::Machines,
    mark::{Mark, MarkFile},
    mirror,
    opening::{self, Opened},
    publication::{Publication, Published, Witnesses},
    publish::{Publisher, Workshop},
    refusals::Refusals,
    registry::Registries,
    scrub::{Pace, Scrub},
    signer::{Connection, Context},
    store::{Store, StoreError},
    touches::Touches,
    watch::Watch,
};
use api::KeeperFault;
use policy::PolicySet;
use record::{Clock, Event, KeeperRecord, Leaf, Nonce, Sha256, SystemClock};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long the last leaf, and the writer's end, may take.
const STOP: Duration = Duration::from_secs(5);

/// From a start in good order to the first scrub; after any other end it begins at once, beside what is served.
const FIRST_SCRUB: Duration = Duration::from_secs(60);

/// Leaves that a start reads to know the time of the newest one; completions have none.
const NEWEST: u64 = 64;

/// What every request handler shares.
pub(crate) struct Service {
    pub store: Store,
    pub log: Log,
    pub published: Published,
    pub health: Arc<Health>,
    pub policy: Arc<InForce>,
    pub keys: Arc<KeyDirectory>,
    pub tokens: Arc<Tokens>,
    pub token_turn: tokio::sync::Mutex<()>,
    pub issuers: Issuers,
    pub registries: Registries,
    pub publisher: Arc<Publisher>,
    pub touches: Arc<Touches>,
    pub refusals: Arc<Refusals>,
    pub clock: Arc<dyn Clock>,
    pub waiting_limit: u64,
}

/// Serves until SIGTERM or SIGINT. `digest` is that of the configuration file, which the log is told.
pub async fn serve(config: &Config, digest: Sha256) -> Result<(), Fatal> {
    let listeners = if config.machines.is_some() { 2 } else { 1 };
    handles::provide(config.limits.connections.saturating_mul(listeners))?;
    let _lock = opening::lock(&config.data)?;
    let vkey = opening::vkey(config)?;
    let origin = opening::origin(&vkey)?;
    let hangups = in_force::hangups()
        .map_err(|e| Fatal::Unavailable { what: "the signal SIGHUP".into(), why: e.to_string() })?;
    let policy = opening::load_policy(config)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (mark, before) = opening::unsealed_mark(config, clock.as_ref())?;
    let Opened { store, writer, link, generations, witnesses } =
        opening::open(config, &vkey, &mark, clock.as_ref()).await?;
    if before == Some(Mark::Stopped {}) {
        put_mark(&mark, &Mark::Running {})?;
    }
    let mark = Arc::new(mark);
    let health = Arc::new(Health::new(clock.clone(), Some(mark.clone())));
    let parts = Parts {
        writer,
        socket: config.log.socket.clone(),
        vkey: vkey.clone(),
        refill: Refill::UpTo(config.limits.refill_leaves),
        clock: clock.clone(),
        link: Some(link),
        generations: generations.clone(),
    };
    let met = |e: StoreError| opening::failed(config, &mark, clock.as_ref(), &e.into());
    let newest = newest_leaves(&store, parts.writer.head().size).await.map_err(met)?;
    let (log, sequencer) = Log::new(parts, origin, store.clone(), health.clone());
    newest.iter().for_each(|leaf| log.saw_time(leaf));
    let witness_policy = witnesses.as_ref().map(Witnesses::policy_digest);
    let (publication, published) =
        Publication::new(&log, vkey.clone(), witnesses, health.clone(), clock.clone());
    tokio::spawn(sequencer.run());
    tokio::spawn(publication.run());
    let keys = Arc::new(KeyDirectory::new(configured(config, &store, &health).await.map_err(met)?));
    let tokens = Arc::new(Tokens::default());
    tokens.replace(store.tokens().await.map_err(met)?);
    let touches = Arc::new(Touches::default());
    let context = Context {
        log: log.clone(),
        store: store.clone(),
        keys: keys.clone(),
        health: health.clone(),
        clock: clock.clone(),
        generations,
        touches: touches.clone(),
    };
    let mut signers = BTreeMap::new();
    for keeper in &config.keepers {
        let trouble = Trouble::new(KeeperFault::NotConnected, "not connected yet");
        health.set_keeper(&keeper.name, Some(trouble));
        let (signer, connection) =
            Connection::new(keeper.name.clone(), keeper.socket.clone(), context.clone());
        signers.insert(keeper.name.clone(), signer);
        tokio::spawn(connection.run());
    }
    in_force::tell_warnings(&policy, clock.as_ref());
    let in_force = Arc::new(InForce::new(config.policy.clone(), policy.clone()));
    let workshop = Arc::new(Workshop {
        store: store.clone(),
        log: log.clone(),
        policy: in_force.clone(),
        keys: keys.clone(),
        tokens: tokens.clone(),
        signers: Arc::new(signers),
        health: health.clone(),
        clock: clock.clone(),
    });
    let publisher = Publisher::new(workshop);
    let registries = Registries::new(config.registries.clone())
        .map_err(|e| Fatal::Unavailable { what: "the registry client".into(), why: e.to_string() })?;
    let refusals = Arc::new(Refusals::default());
    let machines = match &config.machines {
        Some(machines) => Some(Arc::new(Machines::open(machines, refusals.clone(), clock.clone())?)),
        None => None,
    };
    let issuers = Issuers::open(&config.issuers, &config.data, &clock, &health)?;
    let front = http::Front::open(config, machines.clone())?;
    issuers.start();
    write_started(&log, &policy, (digest, witness_policy), clock.as_ref()).await;
    let end_is_told = write_how_it_ended(&log, before.as_ref(), &mark, clock.as_ref()).await?;
    publisher.start().await.map_err(met)?;
    let reload = Reload {
        in_force: in_force.clone(),
        log: log.clone(),
        health: health.clone(),
        publisher: publisher.clone(),
        clock: clock.clone(),
    };
    tokio::spawn(reload.run(hangups));
    tokio::spawn(refusals.clone().run(log.clone(), clock.clone()));
    if let Some(machines) = machines {
        tokio::spawn(machines.follow(health.clone()));
    }
    let scrub = Scrub {
        store: store.clone(),
        log: log.clone(),
        health: health.clone(),
        clock: clock.clone(),
        pace: Pace {
            every: Duration::from_secs(config.limits.scrub_hours * 3600),
            percent: config.limits.scrub_percent,
        },
    };
    tokio::spawn(Watch { log: log.clone(), health: health.clone(), clock: clock.clone() }.run());
    let in_order = matches!(before, Some(Mark::Stopped {} | Mark::Unsealed { .. }));
    let scrub = tokio::spawn(scrub.run(if in_order { FIRST_SCRUB } else { Duration::ZERO }));
    let mut mirrors = mirror::start(&config.mirrors, &vkey, &log, &published.watch(), &health);
    let waiting_limit = config.limits.waiting_requests as u64;
    let service = Arc::new(Service {
        store,
        log: log.clone(),
        published,
        health,
        policy: in_force,
        keys,
        tokens,
        token_turn: tokio::sync::Mutex::default(),
        issuers,
        registries,
        publisher,
        touches,
        refusals: refusals.clone(),
        clock,
        waiting_limit,
    });
    let served = http::serve(front, service.clone()).await;
    if tokio::time::timeout(STOP, refusals.close(&log, service.clock.now())).await.is_err() {
        tracing::error!("counted refusals could not be written into the log");
    }
    mirrors.shutdown().await;
    let end_is_told = end_is_told || {
        let again = write_how_it_ended(&log, before.as_ref(), &mark, service.clock.as_ref());
        matches!(tokio::time::timeout(STOP, again).await, Ok(Ok(true)))
    };
    // Without it the mark stays: the next start writes into the log how the one before this one ended.
    let told = write_stopped(&log, service.clock.as_ref()).await && end_is_told;
    if service.health.sealed().is_some() {
        // INVARIANT(no-write-after-fault): what is open is left as it is, and ends with the process.
        service.health.finish_marking().await;
        return served;
    }
    // Readers first, the scrub's too: the writer then moves all of SQLite's write-ahead log into the file, and seals if it
    // cannot. Only a reader of another process, as of a backup, keeps the log beside the file.
    scrub.abort();
    let _ended = scrub.await;
    service.store.close().await;
    match tokio::time::timeout(STOP, log.stop()).await {
        Ok(()) if told && service.health.sealed().is_none() => put_mark(&mark, &Mark::Stopped {})?,
        Ok(()) => {}
        Err(_) => tracing::warn!(
            "the log keeper is away, or the disk is slow: what is committed is appended at the next start"
        ),
    }
    service.health.finish_marking().await;
    served
}

/// The last leaves: among them are some that say when they were written.
async fn newest_leaves(store: &Store, size: u64) -> Result<Vec<Leaf>, StoreError> {
    let count = size.min(NEWEST);
    let decode = |bytes: &Vec<u8>| Leaf::decode(bytes).ok();
    Ok(store.leaves(size - count, count).await?.iter().filter_map(decode).collect())
}

/// What the log knows of the configured keepers. Keys of others cannot be used; intents that only such a keeper could
/// close are told of, since their repositories wait for it.
async fn configured(
    config: &Config,
    store: &Store,
    health: &Health,
) -> Result<Vec<(KeeperRecord, u64)>, StoreError> {
    let (ours, gone): (Vec<_>, Vec<_>) = store
        .keepers()
        .await?
        .into_iter()
        .partition(|(k, _)| config.keepers.iter().any(|c| c.name == k.name));
    for (keeper, _) in gone {
        let open = store.open_intents(keeper.name.as_str()).await?.len();
        if open > 0 {
            let problem = format!(
                "it is not configured any more, and {open} of its intents have no end: configure it until they have, or retire it if it is lost"
            );
            health.set_keeper(&keeper.name, Some(Trouble::new(KeeperFault::NotConfigured, problem)));
        }
    }
    Ok(ours)
}

async fn write_started(
    log: &Log,
    policy: &PolicySet,
    (config, witness_policy): (Sha256, Option<Sha256>),
    clock: &dyn Clock,
) {
    let (version, policy) = (env!("CARGO_PKG_VERSION").to_owned(), policy.stamp());
    if let Ok(nonce) = Nonce::random() {
        let event = Event::Started { time: clock.now(), nonce, version, policy, config, witness_policy };
        if let Err(e) = log.append(Leaf::Event(event)).await {
            tracing::error!(error = %e, "the start could not be written into the log");
        }
    }
}

/// Writes into the log that the daemon before this one did not end in good order; or that it was sealed, and that a full
/// check has found the state whole. Says whether the log has all that is to be told; until then the mark says it.
async fn write_how_it_ended(
    log: &Log,
    before: Option<&Mark>,
    mark: &MarkFile,
    clock: &dyn Clock,
) -> Result<bool, Fatal> {
    let Ok(nonce) = Nonce::random() else { return Ok(false) };
    let time = clock.now();
    let event = match before {
        Some(Mark::Running {}) => Event::Recovered { time, nonce },
        Some(Mark::Unsealed { reason, at }) => {
            Event::Unsealed { time, nonce, reason: reason.clone(), at: *at }
        }
        _ => return Ok(true),
    };
    match log.append(Leaf::Event(event)).await {
        Ok(_) => put_mark(mark, &Mark::Running {}).map(|()| true),
        Err(e) => {
            tracing::warn!(error = %e, "how the daemon before this one ended could not be written into the log");
            Ok(false)
        }
    }
}

/// Says whether the log has it.
async fn write_stopped(log: &Log, clock: &dyn Clock) -> bool {
    let Ok(nonce) = Nonce::random() else { return false };
    let leaf = Leaf::Event(Event::Stopped { time: clock.now(), nonce });
    let told = matches!(tokio::time::timeout(STOP, log.append(leaf)).await, Ok(Ok(_)));
    if !told {
        tracing::warn!("the stop could not be written into the log");
    }
    told
}

fn put_mark(file: &MarkFile, mark: &Mark) -> Result<(), Fatal> {
    file.write(mark).map_err(|e| Fatal::Disk { path: file.path().to_owned(), why: e.to_string() })
}
