//! What a mirror holds: its own checkpoint, and whether it and our log can both be true (protocol section 8, R3).

use super::{
    MirrorError,
    folder::Calls,
    place::{CHECKPOINT, Place, PlaceError},
};
use crate::{
    config::MirrorConfig,
    fatal::Fatal,
    opening::unreadable,
    store::{Store, StoreError},
};
use futures_util::future::join_all;
use std::{path::Path, time::Duration};
use tlog::{Checkpoint, Hash, MAX_NOTE_LEN, VerifierKey};

/// How long a start waits for mirrors; one that is slower is compared by its task.
const START: Duration = Duration::from_secs(5);

/// A mirror's checkpoint, which our log key has signed.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) checkpoint: Checkpoint,
    /// The note as it stands there.
    pub(super) note: String,
}

impl Held {
    /// Reads it; `None` where a mirror is yet to be made.
    pub(super) async fn read(place: &Place, key: &VerifierKey) -> Result<Option<Self>, MirrorError> {
        let foreign = |why: &str| {
            let origin = key.name();
            MirrorError::NotOurs(format!("the file {CHECKPOINT} there is no checkpoint of {origin}: {why}"))
        };
        let bytes = match place.read(CHECKPOINT, MAX_NOTE_LEN).await {
            Err(e @ PlaceError::TooLarge { .. }) => return Err(foreign(&e.to_string())),
            bytes => bytes?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let note = String::from_utf8(bytes).map_err(|_| foreign("it is no text"))?;
        let checkpoint = Checkpoint::open(&note, key).map_err(|e| foreign(&api::chain_text(&e)))?;
        Ok(Some(Self { checkpoint, note }))
    }

    /// How many leaves it covers.
    pub(super) fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// Demands that our log of `size` leaves, which at the mirror's size had the root `root_there`, has grown from this.
    pub(super) async fn is_before(
        &self,
        size: u64,
        root_there: impl Future<Output = Result<Hash, StoreError>>,
    ) -> Result<(), MirrorError> {
        let (held, root) = (self.checkpoint.size, self.checkpoint.root);
        if held > size {
            return Err(MirrorError::Fork(format!(
                "FORK: it has a checkpoint of {held} entries with root {root:?}, signed by this log's key, and the database has \
                 {size} entries: the log was rolled back"
            )));
        }
        let ours = root_there.await?;
        if ours == root {
            return Ok(());
        }
        Err(MirrorError::Fork(format!(
            "FORK: it has a checkpoint of {held} entries with root {root:?}, signed by this log's key, and here they have root \
             {ours:?}"
        )))
    }
}

/// Before anything is served: refuses a log that is older than one of its mirrors, or another one. A mirror that cannot be
/// read now is compared when it can; gives these.
pub(crate) async fn compare_at_start(
    mirrors: &[MirrorConfig],
    key: &VerifierKey,
    store: &Store,
    size: u64,
    database: &Path,
) -> Result<Vec<String>, Fatal> {
    let mut unread = Vec::new();
    let compare = async |mirror: &MirrorConfig| match Held::read(
        &Place::open(mirror, &Calls::default())?,
        key,
    )
    .await?
    {
        None => Ok(()),
        Some(held) => held.is_before(size, store.root_at(held.size())).await,
    };
    let compared = mirrors.iter().map(|mirror| tokio::time::timeout(START, compare(mirror)));
    for (mirror, compared) in mirrors.iter().zip(join_all(compared).await) {
        match compared.unwrap_or(Err(MirrorError::Place(PlaceError::Slow))) {
            Ok(()) => {}
            Err(MirrorError::Fork(why)) => {
                return Err(Fatal::State {
                    path: database.to_owned(),
                    why: format!("mirror {}: {why}", mirror.to),
                    next: "restore the newest database and spool: the mirror shows what was published; if nothing newer is \
                           left, keep the mirror as evidence and begin a new log"
                        .into(),
                });
            }
            Err(MirrorError::Place(PlaceError::Credentials(e))) => {
                return Err(Fatal::Config {
                    path: format!("[[mirror]] {}", mirror.to).into(),
                    why: e.to_string(),
                });
            }
            // Our own database, which is about to be served.
            Err(MirrorError::Store(e)) => return Err(unreadable(database, &e)),
            Err(e) => {
                tracing::warn!(mirror = %mirror.to, error = %e, "a mirror cannot be compared now; it is when it can be read");
                unread.push(format!("mirror {}", mirror.to));
            }
        }
    }
    Ok(unread)
}
