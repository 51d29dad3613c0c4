//! Who comes in: a bounded number of connections, and none that reads its answers too slowly.

use axum_server::{Handle, accept::Accept};
use std::{
    future::{Ready, ready},
    io,
    net::SocketAddr,
    pin::Pin,
    time::Duration,
};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

/// How long a client may take no byte of an answer: beyond it, the connection is closed. hyper itself waits for ever.
const WRITE: Duration = Duration::from_secs(30);

/// Stands before the TLS handshake.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) handle: Handle<SocketAddr>,
    pub(super) connections: usize,
}

impl<S> Accept<TcpStream, S> for Door {
    type Stream = Pin<Box<TimeoutStream<TcpStream>>>;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // The count has this connection in it.
        if self.handle.connection_count() > self.connections {
            return ready(Err(io::Error::other("more connections than the configuration allows")));
        }
        let limited = stream.set_nodelay(true).map(|()| {
            let mut limited = TimeoutStream::new(stream);
            limited.set_write_timeout(Some(WRITE));
            (Box::pin(limited), service)
        });
        ready(limited)
    }
}
