//! The daemon as a whole: state is opened, the heads are compared, the keepers connected, and only then is served.

use crate::{
    audit::{Log, LogLink, Parts, Refill, reconcile, rollback_leaf},
    auth::Tokens,
    config::Config,
    fatal::Fatal,
    health::Health,
    http,
    keys::KeyDirectory,
    publish::{Publisher, Workshop},
    registry::Registries,
    signer::{self, Connection, Context},
    store::{NewLeaf, Store, Writer},
};
use futures_util::future::join_all;
use policy::{PolicySet, Sources};
use record::{Clock, Event, Genesis, KeeperRecord, Leaf, Nonce, Origin, Principal, SystemClock};
use std::{collections::BTreeMap, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};
use tlog::VerifierKey;

/// What every request handler shares.
pub(crate) struct Service {
    pub store: Store,
    pub log: Log,
    pub health: Arc<Health>,
    pub policy: Arc<PolicySet>,
    pub keys: Arc<KeyDirectory>,
    pub tokens: Arc<Tokens>,
    pub registries: Registries,
    pub publisher: Arc<Publisher>,
    pub clock: Arc<dyn Clock>,
    pub waiting_limit: u64,
}

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: &Config) -> Result<(), Fatal> {
    let _lock = lock(&config.data)?;
    let vkey = vkey(config)?;
    let origin = origin(&vkey, config)?;
    let policy = load_policy(config)?;
    let path = Store::path_in(&config.data);
    let (store, mut writer) = Store::open(&path).await?;
    check_identity(&writer, &vkey, &path)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let refill = Refill::UpTo(config.limits.refill_leaves);
    let link = recover(&mut writer, config, &vkey, refill, clock.as_ref()).await?;
    compare_with_keepers(config, &store, writer.head().size).await?;
    let health = Arc::new(Health::default());
    let parts = Parts {
        writer,
        socket: config.log.socket.clone(),
        vkey,
        refill,
        clock: clock.clone(),
        link: Some(link),
    };
    let (log, sequencer) = Log::new(parts, origin, store.clone(), health.clone());
    let sequencer = tokio::spawn(sequencer.run());
    let keepers = store.keepers().await.map_err(|e| state(&path, e.full()))?;
    let keys = Arc::new(KeyDirectory::new(keepers));
    let tokens = Arc::new(Tokens::default());
    tokens.replace(store.tokens().await.map_err(|e| state(&path, e.full()))?);
    let context = Context {
        log: log.clone(),
        store: store.clone(),
        keys: keys.clone(),
        health: health.clone(),
        clock: clock.clone(),
    };
    let mut signers = BTreeMap::new();
    for keeper in &config.keepers {
        health.set_keeper(&keeper.name, Some("not connected yet".into()));
        let (signer, connection) =
            Connection::new(keeper.name.clone(), keeper.socket.clone(), context.clone());
        signers.insert(keeper.name.clone(), signer);
        tokio::spawn(connection.run());
    }
    let workshop = Arc::new(Workshop {
        store: store.clone(),
        log: log.clone(),
        policy: policy.clone(),
        keys: keys.clone(),
        tokens: tokens.clone(),
        signers: Arc::new(signers),
        health: health.clone(),
        clock: clock.clone(),
    });
    let publisher = Publisher::new(workshop);
    let registries = Registries::new(config.registries.clone())
        .map_err(|e| Fatal::Unavailable { what: "the registry client".into(), why: e.to_string() })?;
    write_started(&log, &policy, clock.as_ref()).await;
    publisher.start().await.map_err(|e| state(&path, e.full()))?;
    let waiting_limit = config.limits.waiting_requests as u64;
    let service = Arc::new(Service {
        store,
        log: log.clone(),
        health,
        policy,
        keys,
        tokens,
        registries,
        publisher,
        clock,
        waiting_limit,
    });
    let served = http::serve(config, service.clone()).await;
    write_stopped(&log, service.clock.as_ref()).await;
    sequencer.abort();
    served
}

/// Makes a new log: an empty database, the genesis leaf, and the first administrator's token.
pub async fn init(config: &Config, admin_token_file: &Path) -> Result<(), Fatal> {
    std::fs::create_dir_all(&config.data).map_err(|e| state(&config.data, e.to_string()))?;
    let _lock = lock(&config.data)?;
    let vkey = vkey(config)?;
    let origin = origin(&vkey, config)?;
    load_policy(config)?;
    let mut link = connect(config, &vkey, 0).await?;
    if link.size != 0 {
        let why = format!("the log keeper's spool has {} leaves already", link.size);
        let next = "to refill a lost database from it, run `chanceryd rebuild`";
        return Err(Fatal::State { path: config.log.socket.clone(), why, next: next.into() });
    }
    let keepers = present_keepers(config, &origin).await?;
    let clock = SystemClock;
    let path = Store::path_in(&config.data);
    let random = |e: String| Fatal::Unavailable { what: "random bytes".into(), why: e };
    let nonce = || Nonce::random().map_err(|e| random(e.to_string()));
    let genesis =
        Genesis { log: origin.clone(), vkey: vkey.to_string(), time: clock.now(), nonce: nonce()?, keepers };
    let (token, bearer, secret_sha256) = crate::auth::new_token().map_err(random)?;
    let created = Event::TokenCreated {
        time: clock.now(),
        nonce: nonce()?,
        by: Principal::parse("system:init").map_err(|e| state(&path, e.to_string()))?,
        token,
        secret_sha256,
        scopes: vec!["admin".into()],
        repositories: vec![],
        expires: clock.now().plus_s(90 * 86_400),
        note: "the first administrator, made by init".into(),
    };
    write_secret(admin_token_file, &bearer)?;
    let mut writer = Store::create(&path, origin.as_str(), &vkey.to_string()).await?;
    let leaves = [new_leaf(Leaf::Genesis(genesis), &path)?, new_leaf(Leaf::Event(created), &path)?];
    writer.commit(link.epoch, &leaves, &[]).await.map_err(|e| state(&path, e.full()))?;
    reconcile(&mut writer, &mut link, Refill::UpTo(0)).await.map_err(|e| state(&path, e.to_string()))?;
    tracing::info!(log = %origin, leaves = writer.head().size, "the log has begun");
    Ok(())
}

/// Refills a lost or older database from the log keeper's spool, as far as it goes: an operator has decided.
pub async fn rebuild(config: &Config) -> Result<(), Fatal> {
    std::fs::create_dir_all(&config.data).map_err(|e| state(&config.data, e.to_string()))?;
    let _lock = lock(&config.data)?;
    let vkey = vkey(config)?;
    let path = Store::path_in(&config.data);
    let mut writer = if path.exists() {
        Store::open(&path).await?.1
    } else {
        Store::create(&path, vkey.name(), &vkey.to_string()).await?
    };
    check_identity(&writer, &vkey, &path)?;
    let before = writer.head().size;
    recover(&mut writer, config, &vkey, Refill::All, &SystemClock).await?;
    tracing::info!(
        before,
        after = writer.head().size,
        "the database was refilled from the log keeper's spool"
    );
    Ok(())
}

fn state(path: &Path, why: String) -> Fatal {
    Fatal::State {
        path: path.to_owned(),
        why,
        next: "see the message above; nothing was changed to hide it".into(),
    }
}

/// One daemon per data folder: the lock ends with the process.
fn lock(data: &Path) -> Result<std::fs::File, Fatal> {
    let path = data.join("lock");
    if !data.is_dir() {
        return Err(Fatal::State {
            path: data.to_owned(),
            why: "this folder does not exist".into(),
            next: "run `chancery init` for a new log, or restore the folder".into(),
        });
    }
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|e| state(&path, e.to_string()))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| Fatal::Locked { path })?;
    Ok(file)
}

fn vkey(config: &Config) -> Result<VerifierKey, Fatal> {
    let bad = |why: String| Fatal::Config { path: "[log] vkey".into(), why };
    VerifierKey::parse(&config.log.vkey).map_err(|e| bad(e.to_string()))
}

fn origin(vkey: &VerifierKey, _config: &Config) -> Result<Origin, Fatal> {
    Origin::parse(vkey.name()).map_err(|e| Fatal::Config { path: "[log] vkey".into(), why: e.to_string() })
}

fn load_policy(config: &Config) -> Result<Arc<PolicySet>, Fatal> {
    let bad = |e: policy::PolicyError| Fatal::Config { path: config.policy.clone(), why: full(&e) };
    Ok(Arc::new(PolicySet::load(Sources::read(&config.policy).map_err(bad)?).map_err(bad)?))
}

/// An error with its causes.
fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}

fn check_identity(writer: &Writer, vkey: &VerifierKey, path: &Path) -> Result<(), Fatal> {
    let head = writer.head();
    if head.vkey != vkey.to_string() || head.origin != vkey.name() {
        return Err(state(path, format!("it holds the log {}, and {vkey} is configured", head.vkey)));
    }
    if !head.note.is_empty() {
        let noted = tlog::Checkpoint::open(&head.note, vkey)
            .map_err(|e| state(path, format!("its stored note: {e}")))?;
        if noted.size > head.size {
            return Err(state(
                path,
                format!("its stored note covers {} leaves and it has {}", noted.size, head.size),
            ));
        }
    }
    Ok(())
}

async fn connect(config: &Config, vkey: &VerifierKey, known: u64) -> Result<LogLink, Fatal> {
    LogLink::connect(&config.log.socket, vkey, known).await.map_err(|e| Fatal::Unavailable {
        what: format!("log keeper at {}", config.log.socket.display()),
        why: e.to_string(),
    })
}

async fn recover(
    writer: &mut Writer,
    config: &Config,
    vkey: &VerifierKey,
    refill: Refill,
    clock: &dyn Clock,
) -> Result<LogLink, Fatal> {
    let path = Store::path_in(&config.data);
    let mut link = connect(config, vkey, writer.head().epoch).await?;
    let refilled = reconcile(writer, &mut link, refill).await.map_err(|e| state(&path, e.to_string()))?;
    if refilled > 0
        && let Some(leaf) = rollback_leaf(clock, link.size - refilled, link.size)
    {
        writer.commit(link.epoch, &[leaf], &[]).await.map_err(|e| state(&path, e.full()))?;
    }
    Ok(link)
}

/// Refuses a log that is older than what a signing keeper has seen: database and spool were restored together. A keeper
/// that is away now is compared when it connects.
async fn compare_with_keepers(config: &Config, store: &Store, size: u64) -> Result<(), Fatal> {
    let path = Store::path_in(&config.data);
    let greetings = config.keepers.iter().map(|keeper| signer::greet(&keeper.socket));
    for (keeper, greeting) in config.keepers.iter().zip(join_all(greetings).await) {
        let welcome = match greeting {
            Ok((.., welcome)) => welcome,
            Err(e) => {
                tracing::warn!(keeper = %keeper.name, error = %e, "a signing keeper is not there yet; its head is compared when it is");
                continue;
            }
        };
        if let Some(why) = signer::strayed(store, size, &welcome).await.map_err(|e| state(&path, e.full()))? {
            let next = "the log was restored from an older copy, or is another one: restore the newest database and spool; \
                        a keeper never follows a log that lacks what it has seen";
            return Err(Fatal::State { path, why, next: next.into() });
        }
    }
    Ok(())
}

/// Asks every signing keeper who it is, for the genesis leaf.
async fn present_keepers(config: &Config, origin: &Origin) -> Result<Vec<KeeperRecord>, Fatal> {
    let mut records = Vec::new();
    for keeper in &config.keepers {
        let bad = |why: String| Fatal::Unavailable { what: format!("signing keeper {}", keeper.name), why };
        let (.., w) = signer::greet(&keeper.socket).await.map_err(|e| bad(e.to_string()))?;
        if w.keeper != keeper.name || w.origin != *origin {
            return Err(bad(format!("it is {} of the log {}", w.keeper, w.origin)));
        }
        records.push(KeeperRecord { name: w.keeper, charter: w.charter, keys: w.keys });
    }
    Ok(records)
}

fn write_secret(path: &Path, text: &str) -> Result<(), Fatal> {
    use std::io::Write;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = made
        .and_then(|mut file| file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|e| state(path, format!("the administrator's token could not be written: {e}")))
}

fn new_leaf(leaf: Leaf, path: &Path) -> Result<NewLeaf, Fatal> {
    let bytes = leaf.encode().map_err(|e| state(path, e.to_string()))?;
    Ok(NewLeaf { leaf, bytes, payload: None })
}

async fn write_started(log: &Log, policy: &PolicySet, clock: &dyn Clock) {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    if let Ok(nonce) = Nonce::random() {
        let event = Event::Started { time: clock.now(), nonce, version, policy: policy.stamp() };
        if let Err(e) = log.append(Leaf::Event(event)).await {
            tracing::error!(error = %e, "the start could not be written into the log");
        }
    }
}

async fn write_stopped(log: &Log, clock: &dyn Clock) {
    if let Ok(nonce) = Nonce::random() {
        let leaf = Leaf::Event(Event::Stopped { time: clock.now(), nonce });
        match tokio::time::timeout(std::time::Duration::from_secs(5), log.append(leaf)).await {
            Ok(Ok(_)) => {}
            _ => tracing::error!("the stop could not be written into the log"),
        }
    }
}
