//! What is seen when something has died, and what of that the judge may take into account for how long.
//!
//! It promises: once the log is at rest, no death explains anything of later intents.

use super::{
    copy::LogCopy,
    oracle::{Death, Moment},
};
use record::{Event, Leaf};

/// Every cut of one log, in order.
#[derive(Debug, Default)]
pub(crate) struct Cuts(Vec<Cut>);

/// What was seen when something had died.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// Lines of the token's journal.
    pub(crate) journaled: usize,
    /// Where later intents begin.
    pub(crate) bound: Bound,
    /// Leaves when the log had last been at rest, if the signing keeper died.
    pub(crate) since: Option<u64>,
}

/// An index that no earlier intent reaches.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// As many leaves were under the newest note a little later.
    Noted(u64),
    /// The `started` leaf with this number, from 0: a daemon writes it before it does anything new.
    Started(usize),
    /// Not known before the log is at rest: the daemon was starting.
    Unknown,
}

impl Cuts {
    /// One more.
    pub(crate) fn push(&mut self, cut: Cut) {
        self.0.push(cut);
    }

    /// The log is at rest with so many leaves: every intent from before any of these cuts is among them and has its end,
    /// so that bounds that are not known are known now.
    pub(crate) fn settle(&mut self, size: u64) {
        for cut in self.0.iter_mut().filter(|cut| matches!(cut.bound, Bound::Unknown)) {
            cut.bound = Bound::Noted(size);
        }
    }

    /// The moments at which the journal was looked at.
    pub(crate) fn moments(&self, log: &LogCopy) -> Vec<Moment> {
        let moment = |cut: &Cut| Moment { journaled: cut.journaled, noted: cut.bound.index(log) };
        self.0.iter().map(moment).collect()
    }

    /// The deaths of the signing keeper.
    pub(crate) fn deaths(&self, log: &LogCopy) -> Vec<Death> {
        let death = |cut: &Cut| Some(Death { since: cut.since?, until: cut.bound.index(log) });
        self.0.iter().filter_map(death).collect()
    }
}

impl Bound {
    /// Behind every leaf while it is not known.
    fn index(self, log: &LogCopy) -> u64 {
        match self {
            Self::Noted(size) => size,
            Self::Started(number) => starts(log).nth(number).unwrap_or(u64::MAX),
            Self::Unknown => u64::MAX,
        }
    }
}

/// Indices of the leaves that daemons began with.
pub(crate) fn starts(log: &LogCopy) -> impl Iterator<Item = u64> {
    let started = |leaf: &Leaf| matches!(leaf, Leaf::Event(Event::Started { .. }));
    (0..).zip(log.leaves()).filter(move |(_, leaf)| started(leaf)).map(|(index, _)| index)
}
