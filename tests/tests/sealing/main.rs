//! A disk that fails, is full, or gives back other bytes than it got: what is sealed, what goes on, and how it is left.
//!
//! Promises shown here: after a failed write or sync of durable state nothing is written and no key is used any more; callers
//! are told so within a second; reads go on; only a full check from disk leads back. The processes run under strace, which
//! makes one call after the other fail; or their folder is a tmpfs that is full; or a bit of a file is flipped.
//!
//! With `CHANCERY_DISK_FAULTS=all` every call meets every error, with a number each sync and so many writes of a process do;
//! without, each sync and a choice of the writes meet them in rotation.

mod corruption;
mod daemon;
mod full;
mod keepers;
mod scene;
