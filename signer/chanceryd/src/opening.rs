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
    let stored = store.generations().await.map_err(|e| state(&path, e.full()))?;
    let generations = Arc::new(Generations::new(stored));
    // Those that are away are compared when they are there.
    let head = writer.head().clone();
    let _away = compare_with_others(config, vkey, (&store, &head), &generations, witnesses.as_mut()).await?;
    Ok(Opened { store, writer, link, generations, witnesses })
}

/// Ends a command that writes with this error. Where the data cannot be trusted any more, no other may write until it was
/// checked.
pub(crate) fn failed(config: &Config, mark: &MarkFile, clock: &dyn Clock, error: &RecoverError) -> Fatal {
    keep_seal(mark, clock, error);
    not_reconciled(config, &Store::path_in(&config.data), error)
}

fn keep_seal(mark: &MarkFile, clock: &dyn Clock, error: &RecoverError) {
    if let RecoverError::Store(e) = error
        && e.is_integrity()
        && let Err(e) = mark.write(&Mark::sealed(&e.full(), clock.now()))
    {
        tracing::warn!(error = %e, "the seal could not be kept for the next start");
    }
}

/// What may get better by itself is no matter for an operator: a supervisor tries again.
pub(crate) fn not_reconciled(config: &Config, path: &Path, error: &RecoverError) -> Fatal {
    if let RecoverError::Store(e) = error
        && !e.is_integrity()
    {
        Fatal::Unavailable { what: path.display().to_string(), why: e.full() }
    } else if error.is_temporary() {
        let what = format!("log keeper at {}", config.log.socket.display());
        Fatal::Unavailable { what, why: error.to_string() }
    } else if let RecoverError::Store(StoreError::Integrity(_)) = error {
        Fatal::Disk { path: path.to_owned(), why: error.to_string() }
    } else {
        state(path, error.to_string())
    }
}

/// What it means at a start that the database at this path cannot be read.
pub(crate) fn unreadable(path: &Path, error: &StoreError) -> Fatal {
    let (path, why) = (path.to_owned(), error.full());
    match error {
        StoreError::NotApplied(_) | StoreError::Starved(_) | StoreError::Busy => {
            Fatal::Unavailable { what: path.display().to_string(), why }
        }
        StoreError::Integrity(_) => Fatal::Disk { path, why },
        StoreError::Contradiction(_) => state(&path, why),
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
        if let Some(why) = strayed.map_err(|e| state(&path, e.full()))? {
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
    use record::SystemClock;

    #[test]
    fn a_command_that_has_met_a_database_that_cannot_be_trusted_keeps_the_seal_and_one_that_was_busy_does_not()
     {
        let dir = tempfile::tempdir().unwrap();
        let (mark, _) = MarkFile::open(dir.path(), SystemClock.now()).unwrap();
        let said = || MarkFile::open(dir.path(), SystemClock.now()).unwrap().1;
        for harmless in [
            RecoverError::Store(StoreError::NotApplied(sqlx::Error::PoolTimedOut)),
            RecoverError::Store(StoreError::Busy),
            RecoverError::Link(LinkError::Busy),
        ] {
            keep_seal(&mark, &SystemClock, &harmless);
            assert_eq!(said(), Some(Mark::Running {}), "{harmless}");
        }
        for damage in
            [StoreError::Integrity(sqlx::Error::WorkerCrashed), StoreError::Contradiction("two".into())]
        {
            let (mark, _) = MarkFile::open(dir.path(), SystemClock.now()).unwrap();
            mark.write(&Mark::Running {}).unwrap();
            keep_seal(&mark, &SystemClock, &RecoverError::Store(damage));
            assert!(matches!(said(), Some(Mark::Sealed { .. })));
        }
    }
}
