//! Mirrors: the published log as static files in a folder or a bucket, which any web server and any auditor's tool reads.
//!
//! Promises: a mirror verifies at every moment: under its checkpoint every file is there, since the checkpoint is written
//! last and tiles never change. What stands in the place of a mirror's checkpoint and is not ours is never overwritten. A
//! mirror that has a larger or another log under our key seals the daemon: this host was rolled back, or the log has
//! forked. Nothing that signs waits for a mirror. It does not know what entries mean, or how a checkpoint came to be
//! published.

mod bucket;
mod copy;
mod credentials;
mod folder;
mod follow;
mod held;
mod place;
mod task;

#[cfg(test)]
mod tests;

pub(crate) use held::compare_at_start;
pub(crate) use task::start;

use crate::store::StoreError;
use place::PlaceError;

/// Why a round was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MirrorError {
    /// The place: it may work again.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The database of this log.
    #[error("{}", .0.full())]
    Store(#[from] StoreError),
    /// What stands there is no mirror of this log, or of the other kind: a person decides what becomes of it.
    #[error("{0}; nothing was written there")]
    NotOurs(String),
    /// Two logs under one key: the daemon must seal.
    #[error("{0}")]
    Fork(String),
}
