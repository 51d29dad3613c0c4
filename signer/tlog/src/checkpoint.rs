//! Checkpoints (C2SP tlog-checkpoint): a log's origin, size and root, in the text of a signed note.
//!
//! Promises: [`Checkpoint::open`] answers only with what the log's key has signed. Extension lines are refused: ours has
//! none, and what a line means that nobody verifies cannot be told. Does not know an earlier checkpoint: consistency is
//! [`verify_consistency`](crate::verify_consistency)'s.

use crate::{Hash, HashError, MAX_SIZE, Note, NoteError, VerifierKey, empty_root, verifier_key::is_key_name};

/// What a log says about itself at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name for ever, and the name of its key: not empty, no spaces, no `+`.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Why something is no checkpoint of this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not three lines: origin, size, root.
    #[error("a checkpoint has three lines, origin, size and root, and nothing after them")]
    Lines,
    /// The first line is no origin.
    #[error("the origin of a checkpoint is 1 to 255 bytes without spaces, control characters and '+'")]
    Origin,
    /// The second line is no size.
    #[error("the size of a checkpoint is a decimal number without leading zeros, at most {MAX_SIZE}")]
    Size,
    /// The third line is no hash.
    #[error("the root of a checkpoint is no hash")]
    Root(#[source] HashError),
    /// Size 0 with the root of some other tree.
    #[error("the checkpoint has size 0, but not the root of the empty log")]
    EmptyRoot,
    /// The note does not parse, or the key has not signed it.
    #[error("the checkpoint's note is not accepted")]
    Note(#[source] NoteError),
    /// A checkpoint of another log, although signed by this key.
    #[error("the checkpoint is of {found}, not of {expected}")]
    OtherLog {
        /// The key's name.
        expected: String,
        /// The origin in the checkpoint.
        found: String,
    },
}

impl Checkpoint {
    /// The text that is signed: three lines.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root.to_base64())
    }

    /// Parses the text of a checkpoint. Who signed it is not known here: see [`open`](Self::open).
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Lines);
        };
        if !is_key_name(origin) {
            return Err(CheckpointError::Origin);
        }
        let size = parse_size(size).ok_or(CheckpointError::Size)?;
        let root = Hash::from_base64(root).map_err(CheckpointError::Root)?;
        if size == 0 && root != empty_root() {
            return Err(CheckpointError::EmptyRoot);
        }
        Ok(Self { origin: origin.to_owned(), size, root })
    }

    /// Parses a note, verifies that `key` signed it, and takes the checkpoint out of it, whose origin must be the key's
    /// name.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        Self::of_note(&Note::parse(note).map_err(CheckpointError::Note)?, key)
    }

    /// As [`open`](Self::open), out of a note that is parsed already.
    pub fn of_note(note: &Note, key: &VerifierKey) -> Result<Self, CheckpointError> {
        note.verify(key).map_err(CheckpointError::Note)?;
        let checkpoint = Self::parse(note.text())?;
        if checkpoint.origin == key.name() {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::OtherLog { expected: key.name().to_owned(), found: checkpoint.origin })
        }
    }
}

/// Parses a size or an index: decimal, no leading zero, at most [`MAX_SIZE`].
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let size: u64 = text.parse().ok().filter(|size| *size <= MAX_SIZE)?;
    (size.to_string() == text).then_some(size)
}
