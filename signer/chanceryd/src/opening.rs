//! Opening what is there: the database, held by one process, brought to one head with the log keeper's spool, and
//! compared with what the signing keepers and the witnesses have seen. Nothing here makes state, or lowers a head.

use crate::{
    audit::{self, LinkError, LogLink, RecoverError, Refill},
    config::Config,
    fatal::Fatal,
    generations::Generations,
    mark::{Mark, MarkFile},
    mirror,
    publication::Witnesses,
    signer,
    store::{Head, Store, StoreError, Writer},
};
use futures_util::future::join_all;
use policy::{PolicySet, Sources};
use record::{Clock, Origin};
use std::{os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};
use tlog::VerifierKey;

/// State that may be written: every part of it agrees.
pub(crate) struct Opened {
    pub store: Store,
    pub writer: Writer,
    pub link: LogLink,
    pub generations: Arc<Generations>,
    pub witnesses: Option<Witnesses>,
}

/// Opens the mark of the data folder; gives what it said. A seal stops everything but `chancery unseal`.
pub(crate) fn unsealed_mark(config: &Config, clock: &dyn Clock) -> Result<(MarkFile, Option<Mark>), Fatal> {
    let (file, said) = MarkFile::open(&config.data, clock.now())?;
    if let Some(Mark::Sealed { reason, at }) = said {
        return Err(Fatal::State {
            path: file.path().to_owned(),
            why: format!("sealed since {at}: {reason}"),
            next: "find the cause and mend it; then run `chancery unseal --config FILE`, which checks everything from the disk".into(),
        });
    }
    Ok((file, said))
}

/// Opens the database of this log and makes its head and the log keeper's one. A database that fails meanwhile seals.
pub(crate) async fn open(
    config: &Config,
    vkey: &VerifierKey,
    mark: &MarkFile,
    clock: &dyn Clock,
) -> Result<Opened, Fatal> {
    let path = Store::path_in(&config.data);
    let mut witnesses = config.log.witnesses.as_ref().map(|w| Witnesses::open(w, vkey)).transpose()?;
    let (store, mut writer) = Store::open(&path).await?;
    check_identity(&writer, vkey, &path)?;
    if writer.head().size == 0 {
        let why = "it has no entry at all: an init or a rebuild was cut off";
        let next = "remove it and run `chancery init` for a new log, or `chanceryd rebuild` for one whose spool is there";
        return Err(Fatal::State { path, why: why.into(), next: next.into() });
    }
    let refill = Refill::UpTo(config.limits.refill_leaves);
    let link = recover(&mut writer, config, vkey, refill, mark, clock).await?;
    let compared = async {
        let stored = store.generations().await.map_err(|e| unreadable(&path, &e))?;
        let generations = Arc::new(Generations::new(stored));
        let head = writer.head().clone();
        // Those that are away are compared when they are there.
        let _away =
            compare_with_others(config, vkey, (&store, &head), &generations, witnesses.as_mut()).await?;
        Ok(generations)
    };
    let generations = compared.await.inspect_err(|fatal| keep_seal(mark, clock, fatal))?;
    Ok(Opened { store, writer, link, generations, witnesses })
}

/// Ends a command that writes with this error. Where the data cannot be trusted any more, no other may write until it was
/// checked.
pub(crate) fn failed(config: &Config, mark: &MarkFile, clock: &dyn Clock, error: &RecoverError) -> Fatal {
    let fatal = not_reconciled(config, &Store::path_in(&config.data), error);
    keep_seal(mark, clock, &fatal);
    fatal
}

fn keep_seal(mark: &MarkFile, clock: &dyn Clock, fatal: &Fatal) {
    if let Fatal::Disk { why, .. } | Fatal::Contradiction { why, .. } = fatal
        && let Err(e) = mark.write(&Mark::sealed(why, clock.now()))
    {
        tracing::warn!(error = %e, "the seal could not be kept for the next start");
    }
}

/// What may get better by itself is no matter for an operator: a supervisor tries again.
pub(crate) fn not_reconciled(config: &Config, path: &Path, error: &RecoverError) -> Fatal {
    if let RecoverError::Store(e) = error {
        unreadable(path, e)
    } else if error.is_temporary() {
        let what = format!("log keeper at {}", config.log.socket.display());
        Fatal::Unavailable { what, why: error.to_string() }
    } else {
        state(path, error.to_string())
    }
}

/// What an error of the database at this path means for a process that serves nobody.
pub(crate) fn unreadable(path: &Path, error: &StoreError) -> Fatal {
    let (path, why) = (path.to_owned(), error.full());
    match error {
        StoreError::NotApplied(_) | StoreError::Starved(_) | StoreError::Busy => {
            Fatal::Unavailable { what: path.display().to_string(), why }
        }
        StoreError::Integrity(_) => Fatal::Disk { path, why },
        StoreError::Contradiction(_) => Fatal::Contradiction { path, why },
    }
}

pub(crate) fn state(path: &Path, why: String) -> Fatal {
    Fatal::State {
        path: path.to_owned(),
        why,
        next: "see the message above; nothing was changed to hide it".into(),
    }
}

/// One daemon per data folder: the lock ends with the process.
pub(crate) fn lock(data: &Path) -> Result<std::fs::File, Fatal> {
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

pub(crate) fn vkey(config: &Config) -> Result<VerifierKey, Fatal> {
    let bad = |why: String| Fatal::Config { path: "[log] vkey".into(), why };
    VerifierKey::parse(&config.log.vkey).map_err(|e| bad(e.to_string()))
}

pub(crate) fn origin(vkey: &VerifierKey) -> Result<Origin, Fatal> {
    Origin::parse(vkey.name()).map_err(|e| Fatal::Config { path: "[log] vkey".into(), why: e.to_string() })
}

pub(crate) fn load_policy(config: &Config) -> Result<Arc<PolicySet>, Fatal> {
    let bad =
        |e: policy::PolicyError| Fatal::Config { path: config.policy.clone(), why: api::chain_text(&e) };
    Ok(Arc::new(PolicySet::load(Sources::read(&config.policy).map_err(bad)?).map_err(bad)?))
}

pub(crate) fn check_identity(writer: &Writer, vkey: &VerifierKey, path: &Path) -> Result<(), Fatal> {
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

pub(crate) async fn connect(config: &Config, vkey: &VerifierKey, known: u64) -> Result<LogLink, Fatal> {
    LogLink::connect(&config.log.socket, vkey, known).await.map_err(|e| match e {
        LinkError::Violation(why) => Fatal::Config { path: config.log.socket.clone(), why },
        e => Fatal::Unavailable {
            what: format!("log keeper at {}", config.log.socket.display()),
            why: e.to_string(),
        },
    })
}

pub(crate) async fn recover(
    writer: &mut Writer,
    config: &Config,
    vkey: &VerifierKey,
    refill: Refill,
    mark: &MarkFile,
    clock: &dyn Clock,
) -> Result<LogLink, Fatal> {
    let mut link = connect(config, vkey, writer.head().epoch).await?;
    audit::recover(writer, &mut link, refill, clock, None)
        .await
        .map_err(|e| failed(config, mark, clock, &e))?;
    Ok(link)
}

/// Refuses a log that is older than, or another one than, what signing keepers, witnesses and mirrors have seen of it. Gives
/// those that cannot be read now: `keeper NAME`, `witness NAME`, `mirror URL`, as the reason of a seal names them.
pub(crate) async fn compare_with_others(
    config: &Config,
    vkey: &VerifierKey,
    (store, head): (&Store, &Head),
    generations: &Generations,
    witnesses: Option<&mut Witnesses>,
) -> Result<Vec<String>, Fatal> {
    let path = Store::path_in(&config.data);
    let mut unread = compare_with_keepers(config, store, head, generations).await?;
    if let Some(witnesses) = witnesses {
        unread.extend(witnesses.compare(store, head.size, vkey, &path).await?);
    }
    unread.extend(mirror::compare_at_start(&config.mirrors, vkey, store, head.size, &path).await?);
    Ok(unread)
}

/// Refuses a log that a signing keeper does not follow, or of which it has seen more: database and spool were restored
/// together. A keeper that is away now is compared when it connects; gives these.
async fn compare_with_keepers(
    config: &Config,
    store: &Store,
    head: &Head,
    generations: &Generations,
) -> Result<Vec<String>, Fatal> {
    let mut unread = Vec::new();
    let path = Store::path_in(&config.data);
    let greetings =
        config.keepers.iter().map(|keeper| signer::greet(&keeper.socket, generations.of(&keeper.name)));
    for (keeper, greeting) in config.keepers.iter().zip(join_all(greetings).await) {
        let welcome = match greeting {
            Ok((.., welcome)) => welcome,
            Err(e) => {
                tracing::warn!(keeper = %keeper.name, error = %e, "a signing keeper is not there yet; its head is compared when it is");
                unread.push(format!("keeper {}", keeper.name));
                continue;
            }
        };
        if welcome.origin.as_str() != head.origin {
            let why = format!(
                "keeper {} follows the log {}, and this is {}",
                keeper.name, welcome.origin, head.origin
            );
            let next = "a keeper that was told to follow another log never comes back: start the daemon of that log; or \
                        correct the keeper's socket in the configuration";
            return Err(Fatal::State { path, why, next: next.into() });
        }
        let strayed = signer::strayed(store, head.size, &welcome).await;
        if let Some(why) = strayed.map_err(|e| unreadable(&path, &e))? {
            let next = "the log was restored from an older copy, or is another one: restore the newest database and spool; \
                        a keeper never follows a log that lacks what it has seen";
            return Err(Fatal::State { path, why, next: next.into() });
        }
    }
    Ok(unread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::stand_in::{StandIn, Then},
        store::NewLeaf,
    };
    use ed25519_dalek::Signer;
    use record::{Event, Leaf, Nonce, SystemClock};

    fn said(data: &Path) -> Option<Mark> {
        MarkFile::open(data, SystemClock.now()).unwrap().1
    }

    #[test]
    fn a_command_that_has_met_a_database_that_cannot_be_trusted_keeps_the_seal_and_one_that_was_busy_does_not()
     {
        let dir = tempfile::tempdir().unwrap();
        let (mark, _) = MarkFile::open(dir.path(), SystemClock.now()).unwrap();
        for (harmless, code) in [
            (StoreError::NotApplied(sqlx::Error::PoolTimedOut), 69),
            (StoreError::Starved(sqlx::Error::PoolTimedOut), 69),
            (StoreError::Busy, 69),
        ] {
            let fatal = unreadable(dir.path(), &harmless);
            keep_seal(&mark, &SystemClock, &fatal);
            assert_eq!((fatal.exit_code(), said(dir.path())), (code, Some(Mark::Running {})), "{fatal}");
        }
        for (damage, code) in [
            (StoreError::Integrity(sqlx::Error::WorkerCrashed), 74),
            (StoreError::Contradiction("two".into()), 78),
        ] {
            let (mark, _) = MarkFile::open(dir.path(), SystemClock.now()).unwrap();
            mark.write(&Mark::Running {}).unwrap();
            let fatal = unreadable(dir.path(), &damage);
            keep_seal(&mark, &SystemClock, &fatal);
            assert_eq!(fatal.exit_code(), code, "{fatal}");
            assert!(matches!(said(dir.path()), Some(Mark::Sealed { .. })), "{fatal}");
        }
    }

    /// A log of 300 entries that its log keeper has, and a mirror that has its first 100.
    async fn mirrored(folder: &Path) -> (Config, VerifierKey) {
        let leaf = |n: u64| {
            let nonce: Nonce = format!("{n:032x}").parse().unwrap();
            let leaf = Leaf::Event(Event::Stopped { time: SystemClock.now(), nonce });
            NewLeaf { bytes: leaf.encode().unwrap(), leaf, payload: None }
        };
        let leaves: Vec<_> = (0..300).map(leaf).collect();
        let spool = leaves.iter().map(|new| new.bytes.clone()).collect();
        let keeper = StandIn::start(folder, spool, || Then::Answer);
        let vkey = keeper.vkey();
        let mut writer =
            Store::create(&Store::path_in(folder), vkey.name(), &vkey.to_string()).await.unwrap();
        writer.commit_all(1, &leaves).await.unwrap();
        let root = writer.root_at(100).await.unwrap();
        writer.close().await.unwrap();
        let text = tlog::Checkpoint { origin: vkey.name().into(), size: 100, root }.text();
        let note = tlog::signed_note(&text, &vkey, &keeper.key.sign(text.as_bytes()).to_bytes()).unwrap();
        std::fs::create_dir(folder.join("mirror")).unwrap();
        std::fs::write(folder.join("mirror/checkpoint"), note).unwrap();
        let text = format!(
            "data = {folder:?}\npolicy = \"p\"\nlisten = \"127.0.0.1:1\"\ntls_certificate = \"c\"\ntls_key = \"k\"\n\
             keeper = []\nlog = {{ socket = {:?}, vkey = \"{vkey}\" }}\n\
             [[mirror]]\nto = \"file://{}/mirror\"\nentries = false\n",
            keeper.socket,
            folder.display()
        );
        (toml::from_str(&text).unwrap(), vkey)
    }

    #[tokio::test]
    async fn a_database_that_fails_while_others_are_compared_seals() {
        for (damage, code) in [("none", 0), ("a page", 74), ("a row", 78)] {
            let dir = tempfile::tempdir().unwrap();
            let (config, vkey) = mirrored(dir.path()).await;
            let path = Store::path_in(dir.path());
            match damage {
                "a page" => overwrite_page_of(&path, format!("{:032x}", 50).as_bytes()),
                "a row" => delete_leaf(&path, 50).await,
                _ => {}
            }
            let (mark, _) = MarkFile::open(dir.path(), SystemClock.now()).unwrap();
            mark.write(&Mark::Stopped {}).unwrap();
            let opened = open(&config, &vkey, &mark, &SystemClock).await;
            let found = opened.as_ref().err().map_or(0, Fatal::exit_code);
            assert_eq!(found, code, "{damage}: {:?}", opened.err());
            assert_eq!(matches!(said(dir.path()), Some(Mark::Sealed { .. })), code != 0, "{damage}");
        }
    }

    /// Writes zeros over the page of the database that has these bytes.
    fn overwrite_page_of(path: &Path, bytes: &[u8]) {
        let mut file = std::fs::read(path).unwrap();
        let at = file.windows(bytes.len()).position(|window| window == bytes).unwrap();
        file[at / 4096 * 4096..][..4096].fill(0);
        std::fs::write(path, file).unwrap();
    }

    async fn delete_leaf(path: &Path, index: i64) {
        use sqlx::ConnectOptions;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut connection = options.connect().await.unwrap();
        sqlx::query("DELETE FROM leaf WHERE idx = ?").bind(index).execute(&mut connection).await.unwrap();
    }
}
