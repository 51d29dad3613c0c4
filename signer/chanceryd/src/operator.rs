//! What an operator does to a log while no daemon serves it: begin it, refill a lost database, make an administrator, retire
//! a lost keeper, check everything after a seal.

mod retirement;
mod succession;
mod unseal;

pub use retirement::retire_keeper;
pub use succession::Former;
pub use unseal::unseal;

use crate::{
    audit::{RecoverError, Refill, reconcile},
    config::Config,
    fatal::Fatal,
    mark::{Mark, MarkFile},
    opening::{self, Opened, connect, not_reconciled, state, unreadable},
    signer,
    store::{NewLeaf, Store, StoreError},
};
use formats::sigstore::TrustedRoot;
use record::{Clock, Event, Genesis, KeeperRecord, Leaf, Nonce, Origin, Principal, SystemClock};
use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path};
use tlog::VerifierKey;

/// Life of an administrator's token that is made on this machine.
const ADMIN_TOKEN_S: i64 = 90 * 86_400;

/// Which witnesses a new log may ever want. Nothing remembers it but the log's key, whose type stands in the genesis leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witnesses {
    /// Public ones too: the log key must be one that they take.
    Public,
    /// Only the operator's own, or none.
    OwnOnly,
}

/// Makes a new log: an empty database, the genesis leaf, and the first administrator's token. Gives the `trusted_root.json` by
/// which Sigstore's clients believe this log, with the keys that its keeper has presented. A log that continues a former one
/// takes over the files of that one's collections; nothing else of it, no API token either.
pub async fn init(
    config: &Config,
    admin_token_file: &Path,
    witnesses: Witnesses,
    former: Option<&Former>,
) -> Result<TrustedRoot, Fatal> {
    let vkey = opening::vkey(config)?;
    suits(&vkey, witnesses)?;
    std::fs::create_dir_all(&config.data).map_err(|e| state(&config.data, e.to_string()))?;
    let _lock = opening::lock(&config.data)?;
    let origin = opening::origin(&vkey)?;
    opening::load_policy(config)?;
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
    let taken = match former {
        Some(former) => {
            is_elsewhere(former, &config.data)?;
            Some(succession::read(former, &origin, &keepers, &path, &clock).await?)
        }
        None => None,
    };
    let (continues, adopted) = taken.map(|t| (t.continues, t.adopted)).unzip();
    let genesis = Genesis {
        log: origin.clone(),
        vkey: vkey.to_string(),
        time: clock.now(),
        nonce: nonce()?,
        keepers,
        continues,
    };
    let (created, bearer) =
        admin_token("system:init", "the first administrator, made by init", &clock, &path)?;
    write_secret(&mut new_secret_file(admin_token_file)?, admin_token_file, &bearer)?;
    let mut writer = Store::create(&path, origin.as_str(), &vkey.to_string()).await?;
    let mut leaves = vec![new_leaf(Leaf::Genesis(genesis), &path)?];
    leaves.extend(adopted.into_iter().flatten());
    leaves.push(created);
    writer.commit_all(link.epoch, &leaves).await.map_err(|e| unreadable(&path, &e))?;
    reconcile(&mut writer, &mut link, Refill::UpTo(0), None)
        .await
        .map_err(|e| not_reconciled(config, &path, &e))?;
    tracing::info!(log = %origin, leaves = writer.head().size, "the log has begun");
    let (mark, _) = MarkFile::open(&config.data, clock.now())?;
    closed(config, &mark, writer.close().await)?;
    mark.write(&Mark::Stopped {}).map_err(|e| state(mark.path(), e.to_string()))?;
    Ok(TrustedRoot::of_log(&vkey, link.set_key.as_ref()))
}

/// Writes the trusted root into a file that did not exist, or to standard output.
pub fn write_trusted_root(trusted_root: &TrustedRoot, file: Option<&Path>) -> Result<(), Fatal> {
    let place = file.unwrap_or(Path::new("standard output"));
    let lost = |why: String| Fatal::State {
        path: place.to_owned(),
        why: format!("the log was made, but its trusted root could not be written: {why}"),
        next:
            "make it with `chancery log trusted-root --vkey VKEY`, from the [log] vkey of the configuration"
                .into(),
    };
    let text = trusted_root.to_json().map_err(|e| lost(e.to_string()))?;
    let written = match file {
        Some(path) => std::fs::File::create_new(path)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all())),
        None => std::io::stdout().write_all(text.as_bytes()),
    };
    written.map_err(|e| lost(e.to_string()))
}

/// A log keeps its key, so that one which public witnesses refuse is an operator's decision, made before there is a log.
fn suits(vkey: &VerifierKey, witnesses: Witnesses) -> Result<(), Fatal> {
    if witnesses == Witnesses::OwnOnly || vkey.is_for_public_witnesses() {
        return Ok(());
    }
    let why = "it is a P-256 key: public witnesses cosign only logs with an Ed25519 key, and a log keeps its key. Make an Ed25519 \
               key (chancery-keeper admin key generate --type ed25519 --origin NAME), or, if no public witness shall ever \
               cosign this log, say so: init --no-public-witnesses";
    Err(Fatal::Config { path: "[log] vkey".into(), why: why.into() })
}

/// The new log is made beside the former one, which is only read: not in its folder.
fn is_elsewhere(former: &Former, data: &Path) -> Result<(), Fatal> {
    let same = matches!((former.data.canonicalize(), data.canonicalize()), (Ok(old), Ok(new)) if old == new);
    if !same {
        return Ok(());
    }
    let why = format!(
        "{} is the `data` folder of the new log: the new one gets a folder of its own, and the former one stays as it is",
        data.display()
    );
    Err(Fatal::Config { path: "--former".into(), why })
}

/// Makes an administrator's token without one, for when all of them have ended: an operator on this machine decides, the
/// daemon is stopped, and the log says that it was so.
pub async fn admin_token_for_operator(config: &Config, out: &Path) -> Result<(), Fatal> {
    let mut log = Unserved::open(config).await?;
    let path = Store::path_in(&config.data);
    let (created, bearer) =
        admin_token("system:operator", "an administrator, made by admin-token", &SystemClock, &path)?;
    // Opened first: a token whose secret has nowhere to go would be lost.
    let mut file = new_secret_file(out)?;
    // In the spool as well before anybody can use it.
    let leaves = match log.append(&[created]).await {
        Ok(leaves) => leaves,
        Err(fatal) => {
            // The empty file is ours; leaving it would only stop the next try.
            let _ = std::fs::remove_file(out);
            return Err(fatal);
        }
    };
    write_secret(&mut file, out, &bearer)?;
    tracing::info!(file = %out.display(), leaves, "an administrator's token was made");
    log.close().await
}

/// A log that no daemon serves, opened as a daemon does, for an operator's word.
struct Unserved<'a> {
    config: &'a Config,
    _lock: std::fs::File,
    mark: MarkFile,
    opened: Opened,
}

impl<'a> Unserved<'a> {
    async fn open(config: &'a Config) -> Result<Self, Fatal> {
        let lock = opening::lock(&config.data)?;
        let vkey = opening::vkey(config)?;
        let (mark, _) = opening::unsealed_mark(config, &SystemClock)?;
        let opened = opening::open(config, &vkey, &mark, &SystemClock).await?;
        Ok(Self { config, _lock: lock, mark, opened })
    }

    /// Appends leaves, to the database and to the log keeper's spool; how many the log has then.
    async fn append(&mut self, leaves: &[NewLeaf]) -> Result<u64, Fatal> {
        let failed = |e: RecoverError| opening::failed(self.config, &self.mark, &SystemClock, &e);
        let Opened { writer, link, .. } = &mut self.opened;
        writer.commit_all(link.epoch, leaves).await.map_err(|e| failed(e.into()))?;
        reconcile(writer, link, Refill::UpTo(0), None).await.map_err(failed)?;
        Ok(writer.head().size)
    }

    async fn close(self) -> Result<(), Fatal> {
        self.opened.store.close().await;
        closed(self.config, &self.mark, self.opened.writer.close().await)
    }
}

/// The leaf of a new administrator's token, and its secret.
fn admin_token(by: &str, note: &str, clock: &dyn Clock, path: &Path) -> Result<(NewLeaf, String), Fatal> {
    let random = |why: String| Fatal::Unavailable { what: "random bytes".into(), why };
    let (token, bearer, secret_sha256) = crate::auth::new_token().map_err(random)?;
    let created = Event::TokenCreated {
        time: clock.now(),
        nonce: Nonce::random().map_err(|e| random(e.to_string()))?,
        by: Principal::parse(by).map_err(|e| state(path, e.to_string()))?,
        token,
        secret_sha256,
        scopes: vec!["admin".into()],
        repositories: vec![],
        expires: clock.now().plus_s(ADMIN_TOKEN_S),
        note: note.to_owned(),
    };
    Ok((new_leaf(Leaf::Event(created), path)?, bearer))
}

/// Refills a lost or older database from the log keeper's spool, as far as it goes: an operator has decided.
pub async fn rebuild(config: &Config) -> Result<(), Fatal> {
    std::fs::create_dir_all(&config.data).map_err(|e| state(&config.data, e.to_string()))?;
    let _lock = opening::lock(&config.data)?;
    let vkey = opening::vkey(config)?;
    let path = Store::path_in(&config.data);
    // A seal does not stop it: a damaged database is moved away and made anew, and then unsealed.
    let (mark, said) = MarkFile::open(&config.data, SystemClock.now())?;
    let mut writer = if path.exists() {
        Store::open(&path).await.map_err(move_away)?.1
    } else {
        Store::create(&path, vkey.name(), &vkey.to_string()).await?
    };
    opening::check_identity(&writer, &vkey, &path)?;
    let before = writer.head().size;
    opening::recover(&mut writer, config, &vkey, Refill::All, &mark, &SystemClock).await?;
    tracing::info!(
        before,
        after = writer.head().size,
        "the database was refilled from the log keeper's spool"
    );
    closed(config, &mark, writer.close().await)?;
    match said {
        None => mark.write(&Mark::Stopped {}).map_err(|e| state(mark.path(), e.to_string())),
        Some(_) => Ok(()),
    }
}

/// A journal that others still read from stays: nothing is lost.
fn closed(config: &Config, mark: &MarkFile, done: Result<(), StoreError>) -> Result<(), Fatal> {
    match done {
        Err(e) if e.is_integrity() => Err(opening::failed(config, mark, &SystemClock, &e.into())),
        Err(e) => {
            tracing::warn!("{}", e.full());
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// A file that cannot be opened is never replaced: its owner puts it aside first.
fn move_away(error: Fatal) -> Fatal {
    match error {
        Fatal::State { path, why, .. } => {
            let next =
                "move chancery.db and its -wal and -shm files away, then run `chanceryd rebuild` again";
            Fatal::State { path, why, next: next.into() }
        }
        other => other,
    }
}

/// Asks every signing keeper who it is, for the genesis leaf.
async fn present_keepers(config: &Config, origin: &Origin) -> Result<Vec<KeeperRecord>, Fatal> {
    let mut records = Vec::new();
    for keeper in &config.keepers {
        let bad = |why: String| Fatal::Unavailable { what: format!("signing keeper {}", keeper.name), why };
        let (.., w) = signer::greet(&keeper.socket, 0).await.map_err(|e| bad(e.to_string()))?;
        if w.keeper != keeper.name || w.origin != *origin {
            return Err(bad(format!("it is {} of the log {}", w.keeper, w.origin)));
        }
        records.push(KeeperRecord { name: w.keeper, charter: w.charter, keys: w.keys });
    }
    Ok(records)
}

/// A file that did not exist, for its owner only.
fn new_secret_file(path: &Path) -> Result<std::fs::File, Fatal> {
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|e| Fatal::State {
        path: path.to_owned(),
        why: format!("the administrator's token has nowhere to go: {e}"),
        next: "name a file that does not exist yet, in a folder that does".into(),
    })
}

fn write_secret(file: &mut std::fs::File, path: &Path, text: &str) -> Result<(), Fatal> {
    let written = file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|e| state(path, format!("the administrator's token could not be written: {e}")))
}

fn new_leaf(leaf: Leaf, path: &Path) -> Result<NewLeaf, Fatal> {
    let bytes = leaf.encode().map_err(|e| state(path, e.to_string()))?;
    Ok(NewLeaf { leaf, bytes, payload: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::stand_in::{StandIn, Then},
        store::reading,
    };
    use std::{os::unix::fs::MetadataExt, path::PathBuf};

    /// The configuration of a log that is to be made in `data`; without a signing keeper.
    fn config(data: &Path, keeper: &StandIn) -> Config {
        let policy = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy/example"));
        let text = format!(
            "data = {data:?}\npolicy = {policy:?}\nlisten = \"127.0.0.1:1\"\ntls_certificate = \"c\"\ntls_key = \"k\"\n\
             keeper = []\nlog = {{ socket = {:?}, vkey = \"{}\" }}\n",
            keeper.socket,
            keeper.vkey()
        );
        toml::from_str(&text).unwrap()
    }

    #[tokio::test]
    async fn a_log_begins_also_while_another_program_reads_the_database_that_is_being_made() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let path = Store::path_in(&data);
        let mut readers = Vec::new();
        let keeper = StandIn::start(dir.path(), Vec::new(), move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            readers.push((runtime.block_on(reading(&path)), runtime));
            Then::Answer
        });
        let config = config(&data, &keeper);
        let token = dir.path().join("admin.token");
        init(&config, &token, Witnesses::Public, None).await.unwrap();
        assert_eq!(keeper.leaves().len(), 2);
        assert!(std::fs::metadata(data.join("chancery.db-wal")).unwrap().len() > 0, "nobody was in the way");
        assert_eq!(MarkFile::open(&data, SystemClock.now()).unwrap().1, Some(Mark::Stopped {}));
    }

    #[tokio::test]
    async fn a_log_that_is_to_be_made_in_the_folder_of_its_former_one_is_refused_in_these_words() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = StandIn::start(dir.path(), Vec::new(), || Then::Answer);
        let config = config(dir.path(), &keeper);
        let former = Former {
            note: "note".into(),
            vkey: keeper.vkey().to_string(),
            data: dir.path().join("."),
            reason: "moved".into(),
            without: vec![],
        };
        let token = dir.path().join("admin.token");
        let refused = init(&config, &token, Witnesses::Public, Some(&former)).await.unwrap_err();
        assert_eq!(refused.exit_code(), 78);
        let text = refused.to_string();
        assert!(text.contains("--former") && text.contains("folder of its own"), "{text}");
    }

    #[test]
    fn a_secret_goes_into_a_new_file_that_only_its_owner_reads_and_never_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        write_secret(&mut new_secret_file(&path).unwrap(), &path, "chy_a_b").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "chy_a_b\n");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let fatal = new_secret_file(&path).unwrap_err();
        assert_eq!(fatal.exit_code(), 78);
        assert!(fatal.to_string().contains("admin.token"), "{fatal}");
        assert!(new_secret_file(&dir.path().join("none/admin.token")).is_err());
    }

    #[test]
    fn a_token_of_the_operator_is_an_administrators_and_the_log_says_whose_act_it_was() {
        let (leaf, bearer) = admin_token("system:operator", "note", &SystemClock, Path::new("db")).unwrap();
        let Leaf::Event(Event::TokenCreated { by, scopes, expires, secret_sha256, .. }) = leaf.leaf else {
            panic!("not a token-created leaf")
        };
        assert_eq!((by.as_str(), scopes.as_slice()), ("system:operator", &["admin".to_owned()][..]));
        assert!(expires > SystemClock.now().plus_s(89 * 86_400));
        let secret = bearer.rsplit('_').next().unwrap();
        assert_eq!(secret_sha256, record::Sha256::of(secret.as_bytes()));
    }
}
