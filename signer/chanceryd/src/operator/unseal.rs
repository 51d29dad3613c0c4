//! The full check after a seal: everything is read from the disk and compared with itself, and with every leaf in the log
//! keeper's spool. Only a state that is whole is unsealed. Nothing is repaired here.

use crate::{
    audit::{LinkError, LogLink},
    config::Config,
    fatal::Fatal,
    generations::Generations,
    mark::{Mark, MarkFile},
    opening::{self, connect},
    publication::Witnesses,
    scrub::{Batch, Leaves, Read, Walk},
    store::{Inspection, Store, StoreError},
};
use record::{Clock, Event, Leaf, SystemClock, wire::MAX_READ};
use std::{collections::BTreeMap, path::Path, time::Instant};
use tlog::{Checkpoint, Frontier, Hash, VerifierKey};

/// Leaves between two lines that tell how far the check is.
const TELL_EVERY: u64 = 256 * 1024;

/// Checks everything, and lifts the seal if there is one and all is whole. The daemon is stopped; the log keeper runs.
pub async fn unseal(config: &Config) -> Result<(), Fatal> {
    let _lock = opening::lock(&config.data)?;
    let vkey = opening::vkey(config)?;
    let (mark, said) = MarkFile::open(&config.data, SystemClock.now())?;
    match &said {
        Some(Mark::Sealed { reason, at }) => {
            Store::refuse_copy_begun_before(&Store::path_in(&config.data), *at)?;
            tracing::info!(reason, %at, "sealed; everything is checked now");
        }
        _ => {
            // Nothing says that no daemon wrote while it was copied, and rows that no leaf names are not checked.
            Store::refuse_live_copy(&Store::path_in(&config.data))?;
            tracing::info!("there is no seal; everything is checked all the same");
        }
    }
    let begun = Instant::now();
    let found = check(config, &vkey).await?;
    let Read { leaves, nodes, blobs, bytes } = found.read;
    let (intents, spool, seconds) = (found.intents, found.spool, begun.elapsed().as_secs_f32());
    tracing::info!(
        leaves,
        nodes,
        blobs,
        bytes,
        intents,
        spool,
        seconds,
        "everything was read from the disk and is whole: pages, leaves, tree, note, payloads, rows of intents and tokens, and \
         the log keeper's spool"
    );
    others_agree(config, &vkey, (leaves, spool), said.as_ref()).await?;
    lift(&config.data, &mark, said)
}

/// What signing keepers, witnesses and mirrors have seen is of this log. One of them that proved the opposite, and so
/// sealed, must say now that it is: the start would go on without it while it is away.
async fn others_agree(
    config: &Config,
    vkey: &VerifierKey,
    (leaves, spool): (u64, u64),
    said: Option<&Mark>,
) -> Result<(), Fatal> {
    let path = Store::path_in(&config.data);
    let reason = match said {
        Some(Mark::Sealed { reason, .. }) => reason.as_str(),
        _ => "",
    };
    let refused = |why: String, next: &str| Err(Fatal::State { path: path.clone(), why, next: next.into() });
    if spool > leaves {
        if is_of_others(reason) {
            let why = format!(
                "the log keeper's spool has {spool} entries and the database {leaves}: what sealed it ({reason}) cannot be compared"
            );
            return refused(
                why,
                "the seal stays: `chanceryd rebuild --config FILE` takes the rest over; then unseal again",
            );
        }
        tracing::info!(
            leaves,
            spool,
            "the start refills the database; it compares what others have seen after that"
        );
        return Ok(());
    }
    let store = Store::open_to_read(&path).await?;
    let stored = store.generations().await.map_err(|e| opening::unreadable(&path, &e))?;
    let head = store.head().await.map_err(|e| opening::unreadable(&path, &e))?;
    let mut witnesses = config.log.witnesses.as_ref().map(|w| Witnesses::open(w, vkey)).transpose()?;
    let generations = Generations::new(stored);
    let unread =
        opening::compare_with_others(config, vkey, (&store, &head), &generations, witnesses.as_mut()).await?;
    store.close().await;
    match unread.into_iter().find(|name| is_of(reason, name)) {
        None => Ok(()),
        Some(name) => {
            let why = format!("{name} sealed it ({reason}) and cannot be read now");
            refused(
                why,
                "the seal stays: have it answer, then unseal again; it may hold the only proof that this log is not the newest. \
                 If it is gone for ever, decide without it: take it out of the configuration, then unseal again",
            )
        }
    }
}

/// Whether a seal has its reason from what somebody else has seen of the log.
fn is_of_others(reason: &str) -> bool {
    ["keeper ", "witness ", "mirror "].iter().any(|kind| accuser(reason).starts_with(kind))
}

/// Whether this one has sealed: `keeper NAME`, `witness NAME` or `mirror URL`. Another's name may begin as its does.
fn is_of(reason: &str, name: &str) -> bool {
    let rest = accuser(reason).strip_prefix(name);
    rest.is_some_and(|rest| rest.starts_with(' ') || rest.starts_with(": "))
}

/// A reason from what it calls a fork on: who has seen one stands first.
fn accuser(reason: &str) -> &str {
    ["fork: ", "FORK: "].iter().find_map(|word| reason.strip_prefix(word)).unwrap_or(reason)
}

fn lift(data: &Path, mark: &MarkFile, said: Option<Mark>) -> Result<(), Fatal> {
    let Some(Mark::Sealed { reason, at }) = said else { return Ok(()) };
    let failed = |e: std::io::Error| Fatal::Disk { path: mark.path().to_owned(), why: e.to_string() };
    // A sealed daemon writes nothing: a copy of its folder that was begun after the seal has a journal of its own.
    Store::adopt(&Store::path_in(data)).map_err(failed)?;
    mark.write(&Mark::Unsealed { reason, at }).map_err(failed)?;
    tracing::info!("unsealed: start the daemon; it writes into the log that it was sealed, and why");
    Ok(())
}

/// What is not as it must be.
#[derive(Debug, thiserror::Error)]
enum Finding {
    #[error("{}", .0.full())]
    Store(#[from] StoreError),
    #[error("the log keeper's spool: {0}")]
    Spool(String),
    #[error("the log keeper: {0}")]
    Link(#[from] LinkError),
}

impl Finding {
    /// Says what is damaged and what holds it a second time.
    fn fatal(self, config: &Config) -> Fatal {
        let next = match &self {
            Self::Store(_) => {
                "the seal stays. The log keeper's spool has every leaf: move chancery.db and its -wal and -shm files away, \
                 run `chanceryd rebuild --config FILE`, then unseal again; or restore a backup"
            }
            Self::Spool(_) | Self::Link(_) => {
                "the seal stays. The keeper's own log says more. If the spool is damaged and the database whole, restore the \
                 newest copy of the keeper's state folder: the start fills it up from the database"
            }
        };
        Fatal::State { path: Store::path_in(&config.data), why: self.to_string(), next: next.into() }
    }
}

/// What was found whole.
struct Whole {
    read: Read,
    intents: u64,
    /// Leaves of the spool that were compared.
    spool: u64,
}

async fn check(config: &Config, vkey: &VerifierKey) -> Result<Whole, Fatal> {
    let found = |finding: Finding| finding.fatal(config);
    let mut disk = Inspection::open_alone(&config.data).await.map_err(|e| found(e.into()))?;
    disk.structure().await.map_err(|e| found(e.into()))?;
    let head = disk.head().await.map_err(|e| found(e.into()))?;
    let link = connect(config, vkey, head.epoch).await?;
    let noted = note_of(&head.note, vkey).map_err(found)?;
    let check = Check { walk: Walk::new(disk, head.size), link, noted, rows: Rows::default() };
    check.run(head.size, head.root).await.map_err(found)
}

/// Size and root of the stored note; the empty tree's without one.
fn note_of(note: &str, vkey: &VerifierKey) -> Result<(u64, Hash), Finding> {
    if note.is_empty() {
        return Ok((0, tlog::empty_root()));
    }
    let open = Checkpoint::open(note, vkey).map_err(|e| contradiction(format!("the stored note: {e}")))?;
    Ok((open.size, open.root))
}

fn contradiction(why: String) -> Finding {
    StoreError::Contradiction(why).into()
}

struct Check {
    walk: Walk,
    link: LogLink,
    noted: (u64, Hash),
    rows: Rows,
}

/// What rows there must be by the leaves.
#[derive(Default)]
struct Rows {
    /// How many intents have each end; `None` for those that are open.
    ends: BTreeMap<Option<String>, u64>,
    /// How many tokens there are.
    tokens: u64,
}

impl Check {
    async fn run(mut self, size: u64, root: Hash) -> Result<Whole, Finding> {
        if self.noted.0 > size {
            return Err(contradiction(format!("the stored note covers {} leaves of {size}", self.noted.0)));
        }
        let mut tell_at = TELL_EVERY;
        while let Some(batch) = self.walk.next().await? {
            if let Batch::Leaves(leaves) = batch {
                self.leaves(&leaves).await?;
            }
            if self.walk.read.leaves >= tell_at {
                tell_at += TELL_EVERY;
                tracing::info!(leaves = self.walk.read.leaves, of = size, "checking");
            }
        }
        if self.walk.tree.root() != root {
            return Err(contradiction(format!("the {size} leaves fold to another root than the head has")));
        }
        let (disk, read) = (&mut self.walk.disk, self.walk.read);
        if disk.sizes().await? != (read.leaves, read.nodes) {
            return Err(contradiction("there are rows of leaves or hashes beyond the head".into()));
        }
        let Rows { mut ends, tokens } = self.rows;
        ends.retain(|_, count| *count > 0);
        let rows = disk.ends().await?;
        if rows != ends {
            let text = format!("intents end as {ends:?} by their leaves and as {rows:?} by their rows");
            return Err(contradiction(text));
        }
        let found = disk.tokens().await?;
        if found != tokens {
            return Err(contradiction(format!("the leaves make {tokens} tokens, and there are {found}")));
        }
        spool_goes_on(&mut self.link, self.walk.tree).await?;
        Ok(Whole { read, intents: rows.values().sum(), spool: self.link.size })
    }

    async fn leaves(&mut self, leaves: &Leaves) -> Result<(), Finding> {
        let (size, root) = self.noted;
        if leaves.root_at(size).is_some_and(|found| found != root) {
            return Err(contradiction(format!("the {size} leaves of the stored note fold to another root")));
        }
        spool_agrees(&mut self.link, leaves).await?;
        rows_agree(&mut self.walk.disk, leaves, &mut self.rows).await
    }
}

/// The spool has the same bytes for these leaves, as far as it goes; and the keeper's root is that of the same leaves.
async fn spool_agrees(link: &mut LogLink, batch: &Leaves) -> Result<(), Finding> {
    if batch.root_at(link.size).is_some_and(|root| root != link.root) {
        let text =
            format!("its {} leaves have another root than the database's first {}", link.size, link.size);
        return Err(Finding::Spool(text));
    }
    let until = link.size.min(batch.from + batch.leaves.len() as u64);
    let mut at = batch.from;
    let mut ours = batch.leaves.iter().map(|(_, bytes)| bytes);
    while at < until {
        let theirs = link.read(at, (until - at).min(MAX_READ)).await?;
        if theirs.is_empty() {
            return Err(Finding::Spool(format!("it tells of {} leaves and gives only {at}", link.size)));
        }
        for leaf in theirs {
            if ours.next() != Some(&leaf) {
                return Err(Finding::Spool(format!("leaf {at} is another one than in the database")));
            }
            at += 1;
        }
    }
    Ok(())
}

/// What the spool has beyond the database leads to the keeper's root: the start refills the database from it.
async fn spool_goes_on(link: &mut LogLink, mut tree: Frontier) -> Result<(), Finding> {
    let ahead = link.size.saturating_sub(tree.size());
    while tree.size() < link.size {
        let leaves = link.read(tree.size(), (link.size - tree.size()).min(MAX_READ)).await?;
        if leaves.is_empty() {
            let text = format!("it tells of {} leaves and gives only {}", link.size, tree.size());
            return Err(Finding::Spool(text));
        }
        leaves.iter().for_each(|leaf| tree.append(tlog::leaf_hash(leaf)));
    }
    if ahead > 0 && tree.root() != link.root {
        return Err(Finding::Spool("it goes on from other leaves than the database has".into()));
    }
    Ok(())
}

/// Every intent has its row and its bytes, every token its row; counts how intents end, and tokens.
async fn rows_agree(disk: &mut Inspection, batch: &Leaves, rows: &mut Rows) -> Result<(), Finding> {
    let Rows { ends, tokens } = rows;
    for (index, (_, bytes)) in (batch.from..).zip(&batch.leaves) {
        let leaf =
            Leaf::decode(bytes).map_err(|e| contradiction(format!("leaf {index} cannot be read: {e}")))?;
        let end = match &leaf {
            Leaf::Intent(intent) => {
                disk.intent(index, intent).await?;
                *ends.entry(None).or_default() += 1;
                continue;
            }
            Leaf::Completion(_) => "signed",
            Leaf::Outcome(outcome) => outcome.outcome.as_str(),
            Leaf::Event(event) => {
                *tokens += u64::from(matches!(event, Event::TokenCreated { .. }));
                disk.token(index, event).await?;
                continue;
            }
            Leaf::Genesis(_) | Leaf::Denial(_) | Leaf::Allowance(_) => continue,
        };
        *ends.entry(Some(end.to_owned())).or_default() += 1;
        let open = ends.entry(None).or_default();
        *open = open.saturating_sub(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;

    #[tokio::test]
    async fn who_sealed_by_what_it_has_seen_must_be_read_before_the_seal_is_lifted() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
        let vkey = VerifierKey::new_ed25519("log.example.com", key).unwrap();
        let text = format!(
            "data = {:?}\npolicy = \"p\"\nlisten = \"127.0.0.1:1\"\ntls_certificate = \"c\"\ntls_key = \"k\"\n\
             log = {{ socket = \"nowhere\", vkey = \"{vkey}\" }}\n\
             [[keeper]]\nname = \"signing\"\nsocket = \"nowhere\"\n\
             [[mirror]]\nto = \"file:///nowhere\"\nentries = false\n",
            dir.path()
        );
        let config: Config = toml::from_str(&text).unwrap();
        let path = Store::path_in(dir.path());
        Store::create(&path, vkey.name(), &vkey.to_string()).await.unwrap().close().await.unwrap();
        for (reason, spool, is_lifted) in [
            ("the disk", 0, true),
            ("the disk", 1, true),
            ("keeper signing calls our head a fork", 0, false),
            ("keeper signing calls our head a fork", 1, false),
            ("mirror file:///nowhere: it has a checkpoint", 0, false),
            ("fork: keeper signing has seen 9 leaves of this log", 0, false),
            ("keeper signing-2 calls our head a fork", 0, true),
            ("keeper signing-2 calls our head a fork", 1, false),
            ("mirror file:///nowhere/else: it has a checkpoint", 0, true),
            ("FORK: witness signing has a checkpoint", 0, true),
            ("scrub: leaf 3 of keeper signing is damaged", 0, true),
        ] {
            let mark = Mark::sealed(reason, SystemClock.now());
            let agreed = others_agree(&config, &vkey, (0, spool), Some(&mark)).await;
            assert_eq!(agreed.is_ok(), is_lifted, "{reason} {spool}: {agreed:?}");
        }
    }

    #[tokio::test]
    async fn a_copy_that_was_begun_before_the_seal_is_not_unsealed() {
        let (original, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = Store::path_in(original.path());
        Store::create(&path, "log.example.com", "vkey").await.unwrap().close().await.unwrap();
        let (_store, mut writer) = Store::open(&path).await.unwrap();
        writer.commit_all(1, &[]).await.unwrap();
        drop(writer);
        // As rsync does it: the database first, and its journal and the seal when they are.
        let copied = |name: &str| std::fs::copy(original.path().join(name), copy.path().join(name)).unwrap();
        copied("chancery.db");
        copied("chancery.db-identity");
        let database = Store::path_in(copy.path());
        let Ok(begun) = std::fs::metadata(&database).unwrap().created() else {
            return println!("SKIPPED: this file system does not know when a file was made");
        };
        let begun = i64::try_from(begun.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap();
        copied("chancery.db-wal");
        for (seal, is_refused) in [(begun + 1, true), (begun - 1, false)] {
            let seal = record::Time::from_unix_ms(seal).unwrap();
            let found = Store::refuse_copy_begun_before(&database, seal);
            assert_eq!(found.is_err(), is_refused, "{found:?}");
            Store::refuse_copy_begun_before(&path, seal).unwrap();
            if let Err(refused) = found {
                assert!(refused.to_string().contains("Copy the whole folder anew"), "{refused}");
            }
        }
    }
}
