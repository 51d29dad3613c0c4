//! The keeper's socket: who may connect, and frames in and out.
//!
//! It promises: a peer whose uid is not allowed gets no byte read; no peer can stop the keeper by not reading its
//! answers; at the end of the process the running frames are finished first. It does not know the messages.

use crate::config::Listen;
use crate::exit::{self, Fatal};
use record::wire::{FrameError, read_message, write_message};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most connections at the same time: a daemon needs one, several daemons some more, each costs a thread.
pub const MAX_CONNECTIONS: usize = 64;
/// A peer that takes no byte of an answer for this long is cut off.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of the process waits for running work: longer than a usual token call, shorter than a
/// supervisor's patience.
pub const STOP_GRACE: Duration = Duration::from_secs(20);
/// Pause after `accept` failed, as it does without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    listener: UnixListener,
    allow_uid: Vec<u32>,
}

impl Server {
    /// Binds the socket: mode 0600, or 0660 with the configured group. A socket file that nobody answers on is
    /// removed first; one that somebody answers on is [`Fatal::Held`].
    pub fn bind(listen: &Listen) -> Result<Self, Fatal> {
        let path = &listen.socket;
        let fault = |what: &'static str| {
            move |e: io::Error| Fatal::Socket { path: path.clone(), why: format!("{what}: {e}") }
        };
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(fault("cannot be bound"))?;
        if listen.socket_gid.is_some() {
            std::os::unix::fs::chown(path, None, listen.socket_gid)
                .map_err(fault("cannot be given to socket_gid"))?;
        }
        let mode = if listen.socket_gid.is_some() { 0o660 } else { 0o600 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(fault("cannot be given its mode"))?;
        Ok(Self { path: path.clone(), listener, allow_uid: listen.allow_uid.clone() })
    }

    /// Serves for ever, one thread a connection. What `each` returns as an error ends the process.
    pub fn serve(
        self,
        each: impl Fn(Connection) -> Result<(), Fatal> + Send + Sync + 'static,
    ) -> Result<(), Fatal> {
        tracing::info!(socket = %self.path.display(), "listening");
        let each = Arc::new(each);
        let open = Arc::new(AtomicUsize::new(0));
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, &open, &each),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    std::thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn admit<F>(&self, stream: UnixStream, open: &Arc<AtomicUsize>, each: &Arc<F>)
    where
        F: Fn(Connection) -> Result<(), Fatal> + Send + Sync + 'static,
    {
        let connection = match Connection::accept(stream, &self.allow_uid) {
            Ok(connection) => connection,
            Err(error) => return tracing::warn!(%error, "connection refused"),
        };
        if open.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
            open.fetch_sub(1, Ordering::SeqCst);
            return tracing::warn!(limit = MAX_CONNECTIONS, "connection refused: too many are open");
        }
        let (counter, each) = (Arc::clone(open), Arc::clone(each));
        let run = move || {
            if let Err(fatal) = each(connection) {
                fatal.end();
            }
            counter.fetch_sub(1, Ordering::SeqCst);
        };
        if let Err(error) = std::thread::Builder::new().name("connection".into()).spawn(run) {
            open.fetch_sub(1, Ordering::SeqCst);
            tracing::warn!(%error, "connection refused: no thread for it");
        }
    }
}

fn remove_stale(path: &Path) -> Result<(), Fatal> {
    let fault = |why: String| Fatal::Socket { path: path.to_owned(), why };
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(fault(format!("cannot be examined: {e}"))),
        Ok(about) if !about.file_type().is_socket() => {
            return Err(fault(
                "a file that is no socket stands there: remove it or choose another path".into(),
            ));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Fatal::Held { path: path.to_owned() }),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|e| fault(format!("a stale socket cannot be removed: {e}")))
        }
        Err(e) => Err(fault(format!("cannot tell whether somebody answers on it: {e}"))),
    }
}

/// One peer's connection: the reading half; [`Connection::writer`] gives the other to whoever answers.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<UnixStream>,
    writer: Writer,
    peer: String,
}

impl Connection {
    fn accept(stream: UnixStream, allow_uid: &[u32]) -> io::Result<Self> {
        let credentials = rustix::net::sockopt::socket_peercred(&stream)?;
        let uid = credentials.uid.as_raw();
        if !allow_uid.contains(&uid) {
            return Err(io::Error::other(format!("uid {uid} is not in allow_uid")));
        }
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let peer = format!("uid {uid}, pid {}", credentials.pid.as_raw_nonzero());
        let writer = Writer(Arc::new(Mutex::new(stream.try_clone()?)));
        Ok(Self { reader: BufReader::new(stream), writer, peer })
    }

    /// Waits for the next message; `None` when the peer has gone.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        read_message(&mut self.reader)
    }

    /// The writing half, which other threads may hold.
    pub fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// Who it is, for logs.
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

/// The writing half of a connection: whole frames, one at a time.
#[derive(Debug, Clone)]
pub struct Writer(Arc<Mutex<UnixStream>>);

impl Writer {
    /// Sends one message. After an error both halves are shut, since a frame may be half written.
    pub fn send<T: Serialize>(&self, message: &T) -> Result<(), FrameError> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = write_message(&mut *stream, message);
        if sent.is_err() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        sent
    }
}

/// The orderly end of the process: running work is counted, and awaited once SIGTERM has come.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    stopping: bool,
}

/// Work that the end of the process waits for, until dropped. A clone goes along with work that is handed on.
#[derive(Debug)]
pub struct Work(Arc<Shared>);

impl Stop {
    /// Ends the process with exit code 0 on SIGTERM or SIGINT, after running work.
    pub fn on_signal() -> io::Result<Self> {
        use signal_hook::{consts, low_level::pipe};
        let stop = Self::default();
        let (mut read, write) = UnixStream::pair()?;
        pipe::register(consts::SIGTERM, write.try_clone()?)?;
        pipe::register(consts::SIGINT, write)?;
        let waiting = stop.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let _ = read.read_exact(&mut [0]);
            waiting.drain(STOP_GRACE);
            tracing::info!("asked to end");
            exit::end(0);
        })?;
        Ok(stop)
    }

    /// Begins a piece of work. Blocks for good once the process is ending.
    pub fn begin(&self) -> Work {
        let mut state = self.0.lock();
        while state.stopping {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.running += 1;
        Work(Arc::clone(&self.0))
    }

    /// Lets no new work begin, and waits until the running work is done or `grace` has passed.
    fn drain(&self, grace: Duration) {
        let mut state = self.0.lock();
        state.stopping = true;
        let waited = self.0.changed.wait_timeout_while(state, grace, |s| s.running > 0);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.running > 0 {
            tracing::warn!(running = state.running, "ending although work is running");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Work {
    fn clone(&self) -> Self {
        self.0.lock().running += 1;
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running -= 1;
        if state.running == 0 {
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::wire::ToLog;

    fn listen(folder: &Path, uid: u32) -> Listen {
        Listen { socket: folder.join("s"), allow_uid: vec![uid], socket_gid: None }
    }

    fn own_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn echo(server: Server) {
        std::thread::spawn(move || {
            server.serve(|mut connection| {
                while let Ok(Some(message)) = connection.receive::<ToLog>() {
                    let _ = connection.writer().send(&message);
                }
                Ok(())
            })
        });
    }

    #[test]
    fn frames_go_both_ways_and_the_socket_is_the_owners() {
        let folder = tempfile::tempdir().unwrap();
        let listen = listen(folder.path(), own_uid());
        echo(Server::bind(&listen).unwrap());
        assert_eq!(std::fs::metadata(&listen.socket).unwrap().permissions().mode() & 0o777, 0o600);
        let mut stream = UnixStream::connect(&listen.socket).unwrap();
        write_message(&mut stream, &ToLog::Note {}).unwrap();
        assert_eq!(read_message::<ToLog>(&mut stream).unwrap(), Some(ToLog::Note {}));
    }

    #[test]
    fn a_peer_that_is_not_allowed_is_cut_off_unread() {
        let folder = tempfile::tempdir().unwrap();
        let listen = listen(folder.path(), own_uid() + 1);
        echo(Server::bind(&listen).unwrap());
        let mut stream = UnixStream::connect(&listen.socket).unwrap();
        let _ = write_message(&mut stream, &ToLog::Note {});
        assert!(!matches!(read_message::<ToLog>(&mut stream), Ok(Some(_))));
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_or_another_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let listen = listen(folder.path(), own_uid());
        drop(Server::bind(&listen).unwrap());
        let live = Server::bind(&listen).unwrap();
        assert!(matches!(Server::bind(&listen), Err(Fatal::Held { .. })));
        drop(live);
        std::fs::remove_file(&listen.socket).unwrap();
        std::fs::write(&listen.socket, "data").unwrap();
        assert!(matches!(Server::bind(&listen), Err(Fatal::Socket { .. })));
        assert_eq!(std::fs::read(&listen.socket).unwrap(), b"data");
    }

    #[test]
    fn the_end_waits_for_work_and_for_what_it_was_handed_on_to() {
        let stop = Stop::default();
        let work = stop.begin();
        let handed_on = work.clone();
        drop(work);
        let waiting = stop.clone();
        let drained = std::thread::spawn(move || waiting.drain(Duration::from_secs(60)));
        assert!(!drained.is_finished());
        drop(handed_on);
        drained.join().unwrap();
        assert!(stop.0.lock().stopping);
    }
}
