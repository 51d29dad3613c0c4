//! The connection to the log keeper: the writer's lease. One message, one answer.

use crate::frames::{self, FrameSink, Frames};
use formats::sigstore::{EntryTimestamp, SignedEntryTimestamp};
use record::wire::{Blob, FrameError, FromLog, PROTO, ToLog};
use record::{Completion, Spki};
use std::path::Path;
use tlog::{Checkpoint, Hash, VerifierKey};

/// Why the log keeper gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The connection failed or was slow: connect again and compare heads.
    #[error("no connection: {0}")]
    Down(#[from] FrameError),
    /// Another daemon holds the lease.
    #[error("another daemon holds the log keeper's lease")]
    Busy,
    /// The keeper's token could not sign now; nothing is lost, the keeper signs the next that it is asked for.
    #[error("the log keeper's token did not sign ({code}): {detail}")]
    Token {
        /// The keeper's code.
        code: String,
        /// The keeper's words.
        detail: String,
    },
    /// The keeper refused: nothing was written.
    #[error("refused ({code}): {detail}")]
    Refused {
        /// The rule.
        code: String,
        /// The keeper's words.
        detail: String,
    },
    /// It is not the keeper of this log, or it breaks the protocol: the daemon must seal.
    #[error("{0}")]
    Violation(String),
}

/// A held lease, and the head that the keeper has on its disk.
#[derive(Debug)]
pub(crate) struct LogLink {
    frames: Frames,
    sink: FrameSink,
    vkey: VerifierKey,
    /// The key of the keeper's entry timestamps, if it has one.
    pub set_key: Option<Spki>,
    /// This lease's number.
    pub epoch: u64,
    /// Leaves in the spool.
    pub size: u64,
    /// Their root.
    pub root: Hash,
    /// The size at which the database was last found to have the same root.
    pub agreed: Option<u64>,
}

impl LogLink {
    /// Takes the lease, and checks that it is the keeper of this log's key. `known` is the epoch in the database: the
    /// lease's is higher, also from a spool that was made anew.
    pub(crate) async fn connect(socket: &Path, vkey: &VerifierKey, known: u64) -> Result<Self, LinkError> {
        let (mut frames, mut sink) = frames::connect(socket).await?;
        let daemon = format!("chanceryd {}", std::process::id());
        sink.send(&ToLog::Hello { proto: PROTO, daemon, epoch: known }).await?;
        match frames.answer().await? {
            FromLog::Welcome { origin, vkey: shown, epoch, size, root, set_key } => {
                if shown != vkey.to_string() || origin.as_str() != vkey.name() {
                    return Err(LinkError::Violation(format!(
                        "it keeps the log {shown}, and {vkey} is configured"
                    )));
                }
                Ok(Self {
                    frames,
                    sink,
                    vkey: vkey.clone(),
                    set_key,
                    epoch,
                    size,
                    root: Hash(*root.as_bytes()),
                    agreed: None,
                })
            }
            FromLog::Busy {} => Err(LinkError::Busy),
            other => Err(unexpected(other)),
        }
    }

    /// Has leaves written behind the last one; returns when they are on the keeper's disk.
    pub(crate) async fn append(&mut self, leaves: Vec<Vec<u8>>) -> Result<(), LinkError> {
        let count = leaves.len() as u64;
        let message = ToLog::Append {
            epoch: self.epoch,
            base: self.size,
            leaves: leaves.into_iter().map(Blob).collect(),
        };
        match self.ask(&message).await? {
            FromLog::Appended { size, root } if size == self.size + count => {
                self.size = size;
                self.root = Hash(*root.as_bytes());
                Ok(())
            }
            other => Err(unexpected(other)),
        }
    }

    /// A note over the keeper's head, verified with the pinned key.
    pub(crate) async fn note(&mut self) -> Result<String, LinkError> {
        let note = match self.ask(&ToLog::Note {}).await? {
            FromLog::Noted { note } => note,
            other => return Err(unexpected(other)),
        };
        let checkpoint = Checkpoint::open(&note, &self.vkey)
            .map_err(|e| LinkError::Violation(format!("its note does not verify: {e}")))?;
        if checkpoint.size == self.size && checkpoint.root == self.root {
            Ok(note)
        } else {
            Err(LinkError::Violation(format!(
                "it signed a head of {} leaves and told of {}",
                checkpoint.size, self.size
            )))
        }
    }

    /// The signed entry timestamp of a completion, verified to say what it must; `None` if the keeper has no key for them.
    pub(crate) async fn timestamp(
        &mut self,
        index: u64,
        completion: &Completion,
    ) -> Result<Option<SignedEntryTimestamp>, LinkError> {
        let Some(set_key) = self.set_key.clone() else { return Ok(None) };
        let (body, time, signature) = match self.ask(&ToLog::Set { index }).await? {
            FromLog::SetSigned { body, integrated_time, signature } => (body, integrated_time, signature),
            other => return Err(unexpected(other)),
        };
        let expected = EntryTimestamp::of(completion, index, time, &set_key).ok();
        expected
            .filter(|timestamp| *timestamp.body() == *body.0)
            .and_then(|timestamp| timestamp.signed(&signature, &set_key))
            .map(Some)
            .ok_or_else(|| {
                LinkError::Violation(format!(
                    "its timestamp of entry {index} is not of this entry, or does not verify"
                ))
            })
    }

    /// Leaves from the spool; fewer than `n` only at its end.
    pub(crate) async fn read(&mut self, from: u64, n: u64) -> Result<Vec<Vec<u8>>, LinkError> {
        match self.ask(&ToLog::Read { from, n }).await? {
            FromLog::Leaves { from: first, leaves } if first == from => {
                Ok(leaves.into_iter().map(|b| b.0).collect())
            }
            other => Err(unexpected(other)),
        }
    }

    /// Returns when the keeper has closed the connection, or said something that was not asked for. Dropping it loses
    /// nothing.
    pub(crate) async fn end(&mut self) -> LinkError {
        match self.frames.next().await {
            Ok(unasked) => unexpected(unasked),
            Err(e) => e.into(),
        }
    }

    async fn ask(&mut self, message: &ToLog) -> Result<FromLog, LinkError> {
        self.sink.send(message).await?;
        match self.frames.answer().await? {
            FromLog::Refused { code, detail } if code.as_str().starts_with("token-") => {
                Err(LinkError::Token { code: code.to_string(), detail })
            }
            FromLog::Refused { code, detail } => Err(LinkError::Refused { code: code.to_string(), detail }),
            answer => Ok(answer),
        }
    }
}

fn unexpected(answer: FromLog) -> LinkError {
    LinkError::Violation(
        format!("it gave an answer that does not fit: {answer:?}").chars().take(300).collect(),
    )
}
