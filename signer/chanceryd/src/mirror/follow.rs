//! One mirror that follows the log: each round reads and judges the mirror's own checkpoint, and copies what was published
//! since.

use super::{
    MirrorError,
    copy::{Copy, sweep},
    held::Held,
    place::{Place, PlaceError},
};
use crate::{audit::Noted, store::StoreError};
use tlog::{Hash, TilePath, VerifierKey};

/// Our log.
pub(super) trait Source {
    /// How many leaves it has under its newest note.
    fn size(&self) -> u64;
    /// The root of its first `size` leaves.
    fn root_at(&self, size: u64) -> impl Future<Output = Result<Hash, StoreError>> + Send;
    /// The bytes of a file as a log of `size` leaves publishes it.
    fn file(&self, path: TilePath, size: u64) -> impl Future<Output = Result<Vec<u8>, StoreError>> + Send;
}

/// What is known of a mirror.
#[derive(Debug)]
pub(super) struct Follower {
    key: VerifierKey,
    entries: bool,
    /// The place, once it was found to be of the right kind.
    place: Option<Place>,
    /// The size of its last known checkpoint.
    reached: u64,
    /// What was begun and not finished.
    copy: Option<Copy>,
    /// Whether partial tiles may be left from before.
    untidy: bool,
}

impl Follower {
    pub(super) fn new(key: VerifierKey, entries: bool) -> Self {
        Self { key, entries, place: None, reached: 0, copy: None, untidy: true }
    }

    /// How many entries the mirror's checkpoint covers, as far as is known.
    pub(super) fn reached(&self) -> u64 {
        self.reached
    }

    /// Brings the mirror to what is published. The place is opened if it is not open, or if the last round failed.
    pub(super) async fn round(
        &mut self,
        open: impl FnOnce() -> Result<Place, PlaceError>,
        target: Noted,
        source: &impl Source,
    ) -> Result<(), MirrorError> {
        let (place, is_new) = match self.place.take() {
            Some(place) => (place, false),
            None => (open()?, true),
        };
        let held = self.look(&place, source).await?;
        if is_new {
            self.demand_kind(&place, held.is_some()).await?;
        }
        self.bring(&place, held, target, source).await?;
        self.place = Some(place);
        Ok(())
    }

    /// Reads and judges the mirror's checkpoint: nothing that is not ours, or not from before, is ever overwritten.
    async fn look(&mut self, place: &Place, source: &impl Source) -> Result<Option<Held>, MirrorError> {
        let held = self.read(place).await?;
        if let Some(held) = &held {
            held.is_before(source.size(), source.root_at(held.size())).await?;
        }
        Ok(held)
    }

    async fn read(&mut self, place: &Place) -> Result<Option<Held>, MirrorError> {
        let held = Held::read(place, &self.key).await?;
        self.reached = size(held.as_ref());
        Ok(held)
    }

    /// A mirror stays what it is: one for everybody must not keep entries, and one for auditors would lack the older ones.
    async fn demand_kind(&self, place: &Place, is_made: bool) -> Result<(), MirrorError> {
        let other = |has: &str| {
            let entries = self.entries;
            Err(MirrorError::NotOurs(format!(
                "the mirror there {has} entries, and entries = {entries} is configured: give this one another, empty place"
            )))
        };
        match (place.has_entries().await?, self.entries) {
            (true, false) => other("has"),
            (false, true) if is_made => other("lacks"),
            _ => Ok(()),
        }
    }

    async fn bring(
        &mut self,
        place: &Place,
        mut held: Option<Held>,
        target: Noted,
        source: &impl Source,
    ) -> Result<(), MirrorError> {
        let from = size(held.as_ref());
        if let Some(begun) = self.copy.take().filter(|copy| copy.from == from && copy.to.size > from) {
            held = self.copy(place, begun, source).await?;
        }
        if held.as_ref().is_none_or(|held| is_better(&target, held)) {
            let copy = Copy::new(size(held.as_ref()), target, self.entries);
            self.copy(place, copy, source).await?;
        }
        if self.untidy {
            sweep(place, self.reached).await?;
            self.untidy = false;
        }
        Ok(())
    }

    /// Makes a copy, or goes on with it; what the mirror holds then.
    async fn copy(
        &mut self,
        place: &Place,
        mut copy: Copy,
        source: &impl Source,
    ) -> Result<Option<Held>, MirrorError> {
        // The checkpoint may be there, and what follows it not done.
        let untidy = std::mem::replace(&mut self.untidy, true);
        if let Err(e) = copy.run(place, source).await {
            self.copy = Some(copy);
            return Err(e);
        }
        let held = self.read(place).await?;
        for full in copy.filled() {
            place.remove_partials(full).await?;
        }
        self.untidy = untidy;
        Ok(held)
    }
}

fn size(held: Option<&Held>) -> u64 {
    held.map_or(0, Held::size)
}

/// Whether a published checkpoint covers more than a mirror's, or as much with no fewer signatures of witnesses, of which
/// some are others: of a log at rest, fresh ones come all the time, and after a start there are none at first.
fn is_better(target: &Noted, held: &Held) -> bool {
    let signatures = |note: &str| note.lines().count();
    target.size > held.size()
        || (target.size == held.size()
            && *target.note != *held.note
            && signatures(&target.note) >= signatures(&held.note))
}
