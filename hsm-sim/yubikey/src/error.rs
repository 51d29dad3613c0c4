//! Everything that can go wrong around a virtual card. Each text says what, why, and what to do next.

use crate::profile::Profile;
use std::{io, path::PathBuf, time::Duration};

/// A card, its files, its reader or its control that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, folder or socket.
    #[error("{}: cannot {action}", path.display())]
    File {
        /// What was tried, as a verb with its object.
        action: &'static str,
        /// The path concerned.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A thread or process could not be started.
    #[error("cannot start {what}")]
    Start {
        /// The thread or program.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The key material compiled into this crate is damaged.
    #[error(
        "the f9 key of profile {profile} is damaged; make the chains anew with hsm-sim/yubikey/pki/make.sh"
    )]
    Fixture {
        /// The profile.
        profile: Profile,
    },
    /// The state file is not one.
    #[error("{}: this is no state of a card; name another file, or remove it for a card from the factory", path.display())]
    StateForm {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The state file has another form, or a firmware that nobody plays.
    #[error("{}: this state has another form or firmware than this program knows; remove it for a card from the factory", path.display())]
    StateVersion {
        /// The file.
        path: PathBuf,
    },
    /// The state file belongs to another card.
    #[error("{}: this is the state of card {found} with firmware {firmware}, not of the card asked for; name another file", path.display())]
    StateOfAnother {
        /// The file.
        path: PathBuf,
        /// The serial number in it.
        found: u32,
        /// The firmware version in it.
        firmware: crate::Version,
    },
    /// The last line of the journal has no end.
    #[error("{}: line {line} is torn; a writer was stopped in the middle, so the journal proves nothing: begin a new one", path.display())]
    JournalTorn {
        /// The journal.
        path: PathBuf,
        /// The line's number, from 1.
        line: u64,
    },
    /// A line that no card wrote.
    #[error("{}: line {line} is no journal line; something else wrote into the journal, or it was damaged", path.display())]
    JournalLine {
        /// The journal.
        path: PathBuf,
        /// The line's number, from 1.
        line: u64,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The lines are not numbered without a gap.
    #[error("{}: line {line} has the number {found}; lines were lost, so the journal proves nothing", path.display())]
    JournalGap {
        /// The journal.
        path: PathBuf,
        /// The line's number, from 1.
        line: u64,
        /// The number that it carries.
        found: u64,
    },
    /// The journal is longer than anything a test writes.
    #[error("{}: the journal has more than {limit} bytes; begin a new one", path.display())]
    JournalTooLarge {
        /// The journal.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A state of the card or of pcscd did not come in time.
    #[error("{what} did not happen within {within:?}{hint}")]
    NotInTime {
        /// What was waited for.
        what: &'static str,
        /// How long.
        within: Duration,
        /// What to look at.
        hint: String,
    },
    /// The address of a reader is none.
    #[error("{text}: this is no address of a vpcd slot, such as 127.0.0.1:35963")]
    Address {
        /// What was given.
        text: String,
    },
    /// No port is left for a reader.
    #[error("no two neighbouring TCP ports could be had for a reader; end other simulators")]
    Ports,
    /// An answer of the control socket that is a refusal.
    #[error("the card refused: {why}")]
    Refused {
        /// The card's text.
        why: String,
    },
    /// Bytes on the control socket that are no answer.
    #[error("the control socket answered something strange; is it one of hsm-sim-yubikey?")]
    Answer {
        /// What the parser said.
        source: serde_json::Error,
    },
}

impl Error {
    /// For `map_err`: what was tried on which path.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// For `map_err`: what was to be started.
    pub(crate) fn start(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Start { what, source }
    }
}
