//! The lease that extends a log: the daemon's end of the protocol.

use anyhow::{Context, Result, bail};
use record::{
    Genesis, Leaf, Origin,
    wire::{Blob, FromLog, PROTO, ToLog, read_message, write_message},
};
use std::{io::Write, os::unix::net::UnixStream, path::Path};

/// The right to extend the log.
pub(super) struct Lease {
    stream: UnixStream,
    origin: Origin,
    epoch: u64,
    size: u64,
    /// The last message has no answer yet: the next one is made meanwhile.
    unanswered: bool,
}

impl Lease {
    /// Takes the lease of the log keeper that listens on this socket.
    pub(super) fn take(socket: &Path) -> Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        write_message(&mut stream, &ToLog::Hello { proto: PROTO, daemon: "grow".into(), epoch: 0 })?;
        match read_message(&mut stream)?.context("the log keeper has gone")? {
            FromLog::Welcome { origin, epoch, size, .. } => {
                Ok(Self { stream, origin, epoch, size, unanswered: false })
            }
            other => bail!("no lease: {other:?}"),
        }
    }

    /// The log's name.
    pub(super) fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// Entries that were appended, the ones on their way with them.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The log's first entry.
    pub(super) fn genesis(&mut self) -> Result<Genesis> {
        let first = match self.ask(&ToLog::Read { from: 0, n: 1 })? {
            FromLog::Leaves { leaves, .. } => leaves.into_iter().next(),
            other => bail!("no leaf: {other:?}"),
        };
        match Leaf::decode(&first.context("the log is empty")?.0)? {
            Leaf::Genesis(genesis) => Ok(genesis),
            other => bail!("the first entry is {}", other.kind()),
        }
    }

    /// Sends leaves, as soon as those before are durable.
    pub(super) fn append(&mut self, leaves: Vec<Vec<u8>>) -> Result<()> {
        let count = leaves.len() as u64;
        let leaves = leaves.into_iter().map(Blob).collect();
        let frame = record::wire::to_frame(&ToLog::Append { epoch: self.epoch, base: self.size, leaves })?;
        self.settle()?;
        self.stream.write_all(&frame)?;
        self.size += count;
        self.unanswered = true;
        Ok(())
    }

    /// Waits until everything that was sent is durable.
    pub(super) fn settle(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.unanswered) {
            return Ok(());
        }
        match self.answer()? {
            FromLog::Appended { size, .. } if size == self.size => Ok(()),
            other => bail!("not appended: {other:?}"),
        }
    }

    fn ask(&mut self, message: &ToLog) -> Result<FromLog> {
        write_message(&mut self.stream, message)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<FromLog> {
        read_message(&mut self.stream)?.context("the log keeper has gone")
    }
}
