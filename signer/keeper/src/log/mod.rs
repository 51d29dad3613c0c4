//! The log role: extends the log's second copy, and signs checkpoints of what it has on its own disk.
//!
//! It promises: one connection at a time can extend the log, and nothing is answered before it is durable; a note says
//! only what this process has synced, built from its own head; a signed entry timestamp only what its own spool has. It does not know which leaves are right to append, beyond
//! their form: that is the daemon's and the signing keepers' part.

mod set;
mod spool;

pub use spool::{SEGMENT_BYTES, Spool};

use crate::code;
use crate::config::LogConfig;
use crate::exit::Fatal;
use crate::records::{FolderLock, lock_folder};
use crate::server::{Connection, Server, Stop};
use crate::token::{self, Key, Token, TokenError, TouchPolicy};
use record::wire::{Blob, FrameError, FromLog, MAX_ITEMS, MAX_READ, PROTO, ToLog};
use record::{Algorithm, Clock, Leaf, Sha256, SignedData, SystemClock};
use set::SetSigner;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tlog::{Checkpoint, Hash, LogKey};

/// Creates an empty log. Refuses when there is one.
pub fn init(config: &LogConfig) -> Result<(), Fatal> {
    let spool = spool_folder(&config.state);
    Spool::create(&spool)?;
    tracing::info!(spool = %spool.display(), "created");
    Ok(())
}

/// Serves until the process is asked to end.
pub fn serve(config: LogConfig) -> Result<(), Fatal> {
    let stop = Stop::on_signal()?;
    // INVARIANT(one-roll): this lock is held until the process ends, and the lease goes to one connection at a time.
    let lock = lock_folder(&config.state, &spool::FORM)?;
    let spool = Spool::open(&spool_folder(&config.state), SEGMENT_BYTES)?;
    // The end of the process waits for it: a module that is cut off in its login may leave the token broken, as SoftHSM does.
    let opening = stop.begin();
    let token = token::open(&config.token)?;
    let key = token.key(&config.key.id, &config.key.public)?;
    let set_key = match &config.set_key {
        Some(set_key) => Some(SetSigner::open(token.as_ref(), &config, set_key)?),
        None => None,
    };
    drop(opening);
    if key.touch() != TouchPolicy::Never {
        let why = "key: the log key wants a touch for each signature, and signs at every request: make one that does not";
        return Err(Fatal::Config { file: config.file, why: why.into() });
    }
    let server = Server::bind(&config.listen)?;
    tracing::info!(size = spool.size(), epoch = spool.epoch(), origin = %config.origin, "log keeper");
    let keeper = LogKeeper {
        algorithm: match config.key.vkey.key() {
            LogKey::Ed25519(_) => Algorithm::Ed25519,
            LogKey::P256(_) => Algorithm::EcdsaP256,
        },
        config,
        token,
        key,
        set_key,
        stop: stop.clone(),
        spool: Mutex::new(spool),
        lease: Lease::default(),
        _lock: lock,
    };
    server.serve(&stop, move |connection| keeper.converse(connection))
}

fn spool_folder(state: &Path) -> PathBuf {
    state.join("spool")
}

struct LogKeeper {
    config: LogConfig,
    token: Arc<dyn Token>,
    key: Key,
    algorithm: Algorithm,
    set_key: Option<SetSigner>,
    stop: Stop,
    spool: Mutex<Spool>,
    lease: Lease,
    _lock: FolderLock,
}

/// The right to extend the log: it is one connection's, for as long as that connection lives.
#[derive(Default)]
struct Lease(Arc<Mutex<bool>>);

struct Held(Arc<Mutex<bool>>);

impl Lease {
    fn take(&self) -> Option<Held> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_free = !std::mem::replace(&mut *taken, true);
        was_free.then(|| Held(Arc::clone(&self.0)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl LogKeeper {
    fn converse(&self, mut connection: Connection) -> Result<(), Fatal> {
        let peer = connection.peer().to_owned();
        match self.serve_daemon(&mut connection) {
            Ok(()) => tracing::info!(peer, "daemon has gone"),
            Err(Ended::Frame(error)) => tracing::warn!(peer, %error, "connection ended"),
            Err(Ended::Fatal(fatal)) => return Err(fatal),
        }
        Ok(())
    }

    fn serve_daemon(&self, connection: &mut Connection) -> Result<(), Ended> {
        let writer = connection.writer();
        let Some(first) = connection.receive::<ToLog>()? else { return Ok(()) };
        let (_held, epoch) = match self.admit(&first)? {
            Ok((held, epoch, welcome)) => {
                writer.send(&welcome)?;
                (held, epoch)
            }
            Err(refusal) => return Ok(writer.send(&refusal)?),
        };
        while let Some(message) = connection.receive::<ToLog>()? {
            let _work = self.stop.begin();
            writer.send(&self.answer(message, epoch)?)?;
        }
        Ok(())
    }

    /// Gives the lease to the sender of a right `Hello`, with a new epoch.
    fn admit(&self, first: &ToLog) -> Result<Result<(Held, u64, FromLog), FromLog>, Fatal> {
        let ToLog::Hello { proto: PROTO, daemon, epoch: known } = first else {
            return Ok(Err(refused("hello", format!("the first message must be Hello with proto {PROTO}"))));
        };
        let _work = self.stop.begin();
        let Some(held) = self.lease.take() else {
            tracing::warn!(daemon, "refused: another connection holds the lease");
            return Ok(Err(FromLog::Busy {}));
        };
        let mut spool = self.spool();
        let Some(epoch) = spool.next_epoch(*known)? else {
            let why = format!("epoch {known} is too far from this spool's {}", spool.epoch());
            return Ok(Err(refused("epoch", why)));
        };
        tracing::info!(daemon, epoch, size = spool.size(), "lease given");
        let welcome = FromLog::Welcome {
            origin: self.config.origin.clone(),
            vkey: self.config.key.vkey.to_string(),
            epoch,
            size: spool.size(),
            root: sha256(spool.root()),
            set_key: self.set_key.as_ref().map(|key| key.spki().clone()),
        };
        Ok(Ok((held, epoch, welcome)))
    }

    fn answer(&self, message: ToLog, lease: u64) -> Result<FromLog, Fatal> {
        match message {
            ToLog::Hello { .. } => Ok(refused("hello", "this connection has said Hello already".into())),
            ToLog::Append { epoch, .. } if epoch != lease => {
                Ok(refused("epoch", format!("the epoch of this connection is {lease}, not {epoch}")))
            }
            ToLog::Append { base, leaves, .. } => self.append(base, &leaves),
            ToLog::Note {} => self.note(),
            ToLog::Set { index } => self.set(index),
            ToLog::Read { from, n } => self.read(from, n),
        }
    }

    fn append(&self, base: u64, leaves: &[Blob]) -> Result<FromLog, Fatal> {
        if leaves.is_empty() || leaves.len() > MAX_ITEMS {
            return Ok(refused(
                "items",
                format!("{} leaves: 1 to {MAX_ITEMS} go into one Append", leaves.len()),
            ));
        }
        for (number, leaf) in leaves.iter().enumerate() {
            if let Err(error) = Leaf::decode(&leaf.0) {
                return Ok(refused("leaf", format!("leaf {number} of this Append: {error}")));
            }
        }
        let mut spool = self.spool();
        if base != spool.size() {
            return Ok(refused("base", format!("the log has {} leaves, not {base}", spool.size())));
        }
        spool.append(&leaves.iter().map(|leaf| leaf.0.as_slice()).collect::<Vec<_>>())?;
        Ok(FromLog::Appended { size: spool.size(), root: sha256(spool.root()) })
    }

    /// A note over the durable head. Nothing in it comes from the caller; the key is asked without the spool's lock.
    fn note(&self) -> Result<FromLog, Fatal> {
        let (size, root) = {
            let spool = self.spool();
            (spool.size(), spool.root())
        };
        let text = Checkpoint { origin: self.config.origin.to_string(), size, root }.text();
        let data = match SignedData::of(self.algorithm, text.as_bytes()) {
            Ok(data) => data,
            Err(error) => return Ok(refused("note", error.to_string())),
        };
        let signature = match self.token.sign(&self.key, &data, &|_| {}) {
            Ok(signature) => signature.to_der(),
            Err(error) => return self.not_signed("log key", &error),
        };
        Ok(match self.assemble(&text, &signature) {
            Ok(note) => FromLog::Noted { note },
            Err(why) => refused("note", why),
        })
    }

    /// An SET over the leaf that the spool has at `index`. Like a note it needs no intent: it says what is in the log.
    fn set(&self, index: u64) -> Result<FromLog, Fatal> {
        let Some(signer) = &self.set_key else {
            return Ok(refused(
                "set-key",
                "this log keeper has no SET key: its configuration has no [set_key]".into(),
            ));
        };
        let (size, leaf) = {
            let mut spool = self.spool();
            (spool.size(), spool.read(index, 1)?.pop())
        };
        let Some(leaf) = leaf else {
            return Ok(refused("index", format!("the log has {size} leaves, and none at {index}")));
        };
        signer
            .sign(self.token.as_ref(), index, &leaf, SystemClock.now())
            .or_else(|error| self.not_signed("SET key", &error))
    }

    fn not_signed(&self, key: &str, error: &TokenError) -> Result<FromLog, Fatal> {
        tracing::error!(%error, key, "no signature");
        match self.token.ended() {
            Some(fatal) => Err(fatal),
            None => Ok(FromLog::Refused { code: error.code().clone(), detail: error.to_string() }),
        }
    }

    /// The note as a client will read it: opened again before it is given away.
    fn assemble(&self, text: &str, signature: &[u8]) -> Result<String, String> {
        let vkey = &self.config.key.vkey;
        let note = tlog::signed_note(text, vkey, signature).map_err(|e| e.to_string())?;
        Checkpoint::open(&note, vkey).map_err(|e| e.to_string())?;
        Ok(note)
    }

    fn read(&self, from: u64, n: u64) -> Result<FromLog, Fatal> {
        if n > MAX_READ {
            return Ok(refused("items", format!("{n} leaves: at most {MAX_READ} go into one Read")));
        }
        let leaves = self.spool().read(from, n)?.into_iter().map(Blob).collect();
        Ok(FromLog::Leaves { from, leaves })
    }

    fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a conversation ended early.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

fn refused(word: &'static str, detail: String) -> FromLog {
    FromLog::Refused { code: code(word), detail }
}

fn sha256(hash: Hash) -> Sha256 {
    Sha256::from_bytes(hash.0)
}
