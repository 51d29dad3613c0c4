//! Frames of the keepers' protocol over a Unix socket, for an asynchronous program: every read and write has a deadline.

use record::wire::{self, FrameError};
use serde::{Serialize, de::DeserializeOwned};
use std::{io, path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// How long a keeper may take for an answer that needs its disk or a fast token.
pub(crate) const ANSWER: Duration = Duration::from_secs(15);

/// Connects to a keeper's socket.
pub(crate) async fn connect(socket: &Path) -> Result<(Frames, FrameSink), FrameError> {
    let stream = within(ANSWER, UnixStream::connect(socket)).await??;
    let (reader, writer) = stream.into_split();
    Ok((Frames { reader, have: Vec::new() }, FrameSink(writer)))
}

/// The reading half. Dropping a pending read loses nothing: bytes that came are kept for the next call.
#[derive(Debug)]
pub(crate) struct Frames {
    reader: OwnedReadHalf,
    have: Vec<u8>,
}

impl Frames {
    /// The next message; an error when the keeper has closed the connection.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<T, FrameError> {
        loop {
            if let Some(body) = self.complete()? {
                return wire::from_body(&body);
            }
            let n = self.reader.read_buf(&mut self.have).await?;
            if n == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// The next message, which must come soon.
    pub(crate) async fn answer<T: DeserializeOwned>(&mut self) -> Result<T, FrameError> {
        within(ANSWER, self.next()).await?
    }

    fn complete(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some((prefix, rest)) = self.have.split_first_chunk::<4>() else { return Ok(None) };
        let length = wire::frame_length(*prefix)?;
        let Some(body) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.have.drain(..4 + length);
        Ok(Some(body))
    }
}

/// The writing half.
#[derive(Debug)]
pub(crate) struct FrameSink(OwnedWriteHalf);

impl FrameSink {
    /// Sends one message.
    pub(crate) async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), FrameError> {
        let frame = wire::to_frame(message)?;
        Ok(within(ANSWER, self.0.write_all(&frame)).await??)
    }
}

async fn within<F: Future>(limit: Duration, work: F) -> Result<F::Output, FrameError> {
    timeout(limit, work).await.map_err(|_| FrameError::Io(io::ErrorKind::TimedOut.into()))
}
