//! The heads of the log that are kept off this host. If all of this host is put back to an older copy, only they can show
//! it, so an operator is told how many there are.
//!
//! Counted is what is elsewhere by the configuration alone:
//! - a witness, by its last cosignature that was verified, while nothing is wrong with it. One whose URL is on this machine
//!   (`localhost`, a loopback address) is not: its state goes back together with the log.
//! - a mirror in a bucket, by the checkpoint that it had when its last round ended well. One whose `endpoint` is on this
//!   machine is not, for the same reason; nor is one in a folder, which may be the network's but is the same host's for all
//!   that can be seen from here.
//!
//! An address of this host that is no loopback address, or a proxy here that leads elsewhere, is taken for what it looks
//! like. Nothing is remembered over a restart: a head counts again once its keeper has answered.

use api::KeptHead;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Who keeps a head elsewhere, as the parts that speak with them say.
#[derive(Debug, Default)]
pub(crate) struct Heads(Mutex<Keepers>);

#[derive(Debug, Default)]
struct Keepers {
    witnesses: Vec<KeptHead>,
    /// By the place, which is not told with the head.
    mirrors: BTreeMap<String, u64>,
}

impl Heads {
    /// Replaces what the witnesses keep.
    pub(crate) fn set_witnesses(&self, kept: Vec<KeptHead>) {
        self.lock().witnesses = kept;
    }

    /// Notes the size of a mirror's checkpoint, or that it is not known to keep one.
    pub(crate) fn set_mirror(&self, place: &str, size: Option<u64>) {
        let mut keepers = self.lock();
        match size {
            Some(size) => keepers.mirrors.insert(place.to_owned(), size),
            None => keepers.mirrors.remove(place),
        };
    }

    /// All of them, for everybody to read.
    pub(crate) fn kept(&self) -> Vec<KeptHead> {
        let keepers = self.lock();
        let mirrors = keepers.mirrors.values().map(|size| KeptHead::Mirror { size: *size });
        keepers.witnesses.iter().cloned().chain(mirrors).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Keepers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_told_how_many_mirrors_keep_a_head_and_not_where_they_are() {
        let heads = Heads::default();
        let north = KeptHead::Witness { name: "w.example".into(), size: 8 };
        heads.set_witnesses(vec![north.clone()]);
        for (place, size) in [("s3://secret/a", Some(7)), ("s3://secret/b", Some(9)), ("s3://secret/a", None)]
        {
            heads.set_mirror(place, size);
        }
        assert_eq!(heads.kept(), [north, KeptHead::Mirror { size: 9 }]);
        assert_eq!(
            serde_json::to_string(&heads.kept()).unwrap(),
            r#"[{"by":"witness","name":"w.example","size":8},{"by":"mirror","size":9}]"#
        );
        heads.set_witnesses(vec![]);
        heads.set_mirror("s3://secret/b", None);
        assert!(heads.kept().is_empty());
    }
}
