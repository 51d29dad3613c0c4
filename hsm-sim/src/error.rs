//! Everything that can go wrong while hardware is simulated. Each text says what, why, and what to do next.

use std::{io, path::PathBuf, process::ExitStatus};

/// A token, the forwarder or a journal that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of the token could not be made.
    #[error("{}: cannot {action}", path.display())]
    File {
        /// What was tried, as a verb with its object.
        action: &'static str,
        /// The file or folder concerned.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The folder's name does not fit into `softhsm2.conf` or into an environment variable.
    #[error("{}: this folder's name {why}; choose another folder", path.display())]
    Folder {
        /// The folder concerned.
        path: PathBuf,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The folder holds a token already; making a second one there would hide the first.
    #[error("{}: there is a token in this folder already; give each token an empty folder", path.display())]
    Occupied {
        /// The configuration file that was found.
        path: PathBuf,
    },
    /// The label does not fit into a token.
    #[error(
        "token label {label:?}: a label is 1 to 32 bytes without control characters, not starting with '-'"
    )]
    Label {
        /// The label that was asked for.
        label: String,
    },
    /// No SoftHSM library was found.
    #[error(
        "no SoftHSM library at {tried}; install Debian's softhsm2, or name the library in SOFTHSM2_MODULE"
    )]
    Module {
        /// The places that were looked at.
        tried: String,
    },
    /// The operating system gave no random bytes for a PIN.
    #[error("no random bytes for a PIN from the operating system")]
    Random(#[source] getrandom::Error),
    /// A program that makes tokens could not be started.
    #[error("{tool} cannot be started; `tests/setup.sh modules` installs it")]
    ToolMissing {
        /// The program.
        tool: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A program that makes tokens ran and failed.
    #[error("{tool} ended with {status}: {said}")]
    ToolFailed {
        /// The program.
        tool: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote.
        said: String,
    },
    /// This machine lacks something for the module.
    #[error("{why}")]
    Missing {
        /// What is lacking, and where it comes from.
        why: String,
    },
    /// A module has no room for so many keys.
    #[error("{module}: {wanted} keys were asked for, and it takes at most {most}")]
    TooManyKeys {
        /// The module.
        module: &'static str,
        /// The keys that were asked for.
        wanted: usize,
        /// The keys that it takes.
        most: usize,
    },
    /// A device did not come up, or did not go.
    #[error("{device} did not {what} within {waited_s} s")]
    NotInTime {
        /// The device.
        device: &'static str,
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited_s: u64,
    },
    /// Only a token that is a thing of its own can be unplugged.
    #[error("{module}: this token cannot be unplugged; take it away with its faults")]
    NotPluggable {
        /// The module.
        module: &'static str,
    },
    /// A card has no such slot.
    #[error("{number:02x} is no slot of a card; name 9a, 9c, 9d, 9e or one of 82 to 95")]
    NoSlot {
        /// The number.
        number: u8,
    },
    /// The virtual card or its reader.
    #[error("the virtual YubiKey failed")]
    Card(#[from] hsm_sim_yubikey::Error),
    /// The forwarding module was not built.
    #[error(
        "the forwarding PKCS#11 module is not at {tried}; run `cargo build -p hsm-sim-pkcs11`, or name the built module in HSM_SIM_PKCS11"
    )]
    Forwarder {
        /// The places that were looked at.
        tried: String,
    },
    /// A journal's name that no process can be told in an environment variable.
    #[error("{}: a journal's path is absolute and UTF-8; choose another path", path.display())]
    JournalPath {
        /// The path concerned.
        path: PathBuf,
    },
    /// A journal cannot be read. A journal that is not there means that no process ever loaded the forwarder with it.
    #[error("{}: the journal cannot be read; was the forwarder loaded with it?", path.display())]
    JournalRead {
        /// The journal.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A journal beyond [`crate::MAX_JOURNAL_BYTES`].
    #[error("{}: the journal has more than {limit} bytes; let the test sign less, or give each part its own journal", path.display())]
    JournalTooLarge {
        /// The journal.
        path: PathBuf,
        /// The limit that it passes.
        limit: u64,
    },
    /// The journal's last line has no end: its writer was stopped in the act, or still writes.
    #[error("{}: line {line} has no end; its writer was stopped while writing it, so what the key did last is not known; read only after the writers ended", path.display())]
    JournalTorn {
        /// The journal.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
    },
    /// A line that no forwarder wrote.
    #[error("{}: line {line} is no journal line; something else wrote into the journal, or it was damaged", path.display())]
    JournalLine {
        /// The journal.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A process's lines are not numbered without a gap: lines were lost.
    #[error("{}: line {line} is number {found} of process {pid}, where {expected} was due; lines were lost, so the journal proves nothing", path.display())]
    JournalGap {
        /// The journal.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// The process that wrote it.
        pid: u32,
        /// The number that it carries.
        found: u64,
        /// The number that was due.
        expected: u64,
    },
    /// A control folder that cannot be used.
    #[error("{}: this control folder {why}; choose another folder", path.display())]
    ControlFolder {
        /// The folder concerned.
        path: PathBuf,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A file of the control folder says what this version does not know.
    #[error("{}: line {line} is nothing that the forwarder writes; do not edit it while tests run", path.display())]
    ControlLine {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A rule did not strike as often as was waited for: the calls did not come, or another rule ended them before.
    #[error(
        "rule {rule}: fired {fired} times in {waited_s} s, where {wanted} were waited for; were the calls made?"
    )]
    NotFired {
        /// The rule's id.
        rule: String,
        /// The times it fired.
        fired: u64,
        /// The times that were waited for.
        wanted: u64,
        /// How long.
        waited_s: u64,
    },
}

impl Error {
    /// For `map_err`: what was tried on which path.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
