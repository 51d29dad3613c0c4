//! The keeper's socket: who may connect, and frames in and out.
//!
//! It promises: a peer whose uid is not allowed gets no byte read; nobody waits for a peer that does not read its
//! answers, it is cut off; a connection's descriptors are closed when it ends, whoever still knows of it; at the end of
//! the process the running frames are finished first. It does not know the messages.

use crate::config::Listen;
use crate::exit::{self, Fatal};
use record::wire::{FrameError, MAX_FRAME, read_message, to_frame};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Most connections at the same time: a daemon needs one, several daemons some more, each costs two threads.
pub const MAX_CONNECTIONS: usize = 64;
/// A peer that takes no byte of an answer for this long is cut off.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most frames that wait for one peer: the results of twice as many items as can be open.
const WAITING_FRAMES: usize = 2048;
/// Most bytes that wait for one peer: two of the longest frames.
const WAITING_BYTES: usize = 2 * MAX_FRAME;
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

    /// Serves for ever, one thread a connection and one for its answers, which the end of the process waits for like
    /// other work. What `each` returns as an error ends the process.
    pub fn serve(
        self,
        stop: &Stop,
        each: impl Fn(Connection) -> Result<(), Fatal> + Send + Sync + 'static,
    ) -> Result<(), Fatal> {
        tracing::info!(socket = %self.path.display(), "listening");
        let each = Arc::new(each);
        let open = Open::default();
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, &open, stop, &each),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    std::thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn admit<F>(&self, stream: UnixStream, open: &Open, stop: &Stop, each: &Arc<F>)
    where
        F: Fn(Connection) -> Result<(), Fatal> + Send + Sync + 'static,
    {
        let Some(slot) = open.take() else {
            return tracing::warn!(limit = MAX_CONNECTIONS, "connection refused: too many are open");
        };
        let connection = match Connection::accept(stream, &self.allow_uid, slot, stop) {
            Ok(connection) => connection,
            Err(error) => return tracing::warn!(%error, "connection refused"),
        };
        let each = Arc::clone(each);
        let run = move || {
            if let Err(fatal) = each(connection) {
                fatal.end();
            }
        };
        if let Err(error) = std::thread::Builder::new().name("connection".into()).spawn(run) {
            tracing::warn!(%error, "connection refused: no thread for it");
        }
    }
}

/// How many connections are open.
#[derive(Debug, Default)]
struct Open(Arc<AtomicUsize>);

/// One of them, until dropped: both threads of a connection hold it.
#[derive(Debug)]
struct Slot(Arc<AtomicUsize>);

impl Open {
    fn take(&self) -> Option<Arc<Slot>> {
        let slot = Slot(Arc::clone(&self.0));
        (self.0.fetch_add(1, Ordering::SeqCst) < MAX_CONNECTIONS).then(|| Arc::new(slot))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
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
    _slot: Arc<Slot>,
}

impl Connection {
    fn accept(stream: UnixStream, allow_uid: &[u32], slot: Arc<Slot>, stop: &Stop) -> io::Result<Self> {
        let credentials = rustix::net::sockopt::socket_peercred(&stream)?;
        let uid = credentials.uid.as_raw();
        if !allow_uid.contains(&uid) {
            return Err(io::Error::other(format!("uid {uid} is not in allow_uid")));
        }
        let peer = format!("uid {uid}, pid {}", credentials.pid.as_raw_nonzero());
        let writer = Writer::start(stream.try_clone()?, Arc::clone(&slot), stop)?;
        Ok(Self { reader: BufReader::new(stream), writer, peer, _slot: slot })
    }

    /// One end of a connection, as the keeper has it, and the other.
    #[cfg(test)]
    pub(crate) fn pair() -> (Self, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (uid, slot) = (rustix::process::geteuid().as_raw(), Open::default().take().unwrap());
        (Self::accept(ours, &[uid], slot, &Stop::default()).unwrap(), theirs)
    }

    /// Waits for the next message; `None` when the peer has gone.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        read_message(&mut self.reader)
    }

    /// The writing half, which other threads may hold. The connection ends when nobody holds it any more.
    pub fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// Who it is, for logs.
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

/// The writing half of a connection: whole frames, in the order in which they are sent, by a thread of its own.
#[derive(Debug, Clone)]
pub struct Writer(Arc<Outbox>);

/// A writing half that does not keep its connection open.
#[derive(Debug, Clone)]
pub struct WeakWriter(Weak<Outbox>);

#[derive(Debug)]
struct Outbox {
    stream: Arc<UnixStream>,
    frames: SyncSender<Frame>,
    waiting_bytes: Arc<AtomicUsize>,
    stop: Stop,
}

/// A frame on its way; the end of the process waits for it.
#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    _work: Work,
}

impl Writer {
    fn start(stream: UnixStream, slot: Arc<Slot>, stop: &Stop) -> io::Result<Self> {
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let (stream, waiting_bytes) = (Arc::new(stream), Arc::new(AtomicUsize::new(0)));
        let (frames, queue) = sync_channel(WAITING_FRAMES);
        let (to, bytes) = (Arc::clone(&stream), Arc::clone(&waiting_bytes));
        let run = move || {
            write_all(&queue, &to, &bytes);
            drop(slot);
        };
        std::thread::Builder::new().name("answers".into()).spawn(run)?;
        Ok(Self(Arc::new(Outbox { stream, frames, waiting_bytes, stop: stop.clone() })))
    }

    /// Sends one message, without waiting for the peer. One for which too much waits already is cut off: it asks again,
    /// and is told everything.
    pub fn send<T: Serialize>(&self, message: &T) -> Result<(), FrameError> {
        let Outbox { stream, frames, waiting_bytes, stop } = &*self.0;
        let bytes = to_frame(message)?;
        let (len, before) = (bytes.len(), waiting_bytes.fetch_add(bytes.len(), Ordering::SeqCst));
        let sent = before + len <= WAITING_BYTES
            && frames.try_send(Frame { bytes, _work: stop.begin_more() }).is_ok();
        if sent {
            return Ok(());
        }
        let _ = stream.shutdown(std::net::Shutdown::Both);
        Err(io::Error::other("the peer does not read its answers, or is gone").into())
    }

    /// The same for those who must not keep the connection open.
    pub fn downgrade(&self) -> WeakWriter {
        WeakWriter(Arc::downgrade(&self.0))
    }
}

impl WeakWriter {
    /// The writing half, while the connection is open.
    pub fn upgrade(&self) -> Option<Writer> {
        self.0.upgrade().map(Writer)
    }
}

/// Writes what comes until nobody can send any more, or until the peer takes no byte for [`WRITE_TIMEOUT`].
fn write_all(queue: &Receiver<Frame>, mut stream: &UnixStream, waiting_bytes: &AtomicUsize) {
    for frame in queue {
        if stream.write_all(&frame.bytes).is_err() {
            break;
        }
        waiting_bytes.fetch_sub(frame.bytes.len(), Ordering::SeqCst);
    }
    let _ = stream.shutdown(std::net::Shutdown::Both);
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
    pub fn on_signal() -> Result<Self, Fatal> {
        let stop = Self::default();
        stop.wait_for_signal()
            .map_err(|source| Fatal::Process { what: "the signal handler cannot be installed", source })?;
        Ok(stop)
    }

    fn wait_for_signal(&self) -> io::Result<()> {
        use signal_hook::{consts, low_level::pipe};
        let (mut read, write) = UnixStream::pair()?;
        pipe::register(consts::SIGTERM, write.try_clone()?)?;
        pipe::register(consts::SIGINT, write)?;
        let waiting = self.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let _ = read.read_exact(&mut [0]);
            waiting.drain(STOP_GRACE);
            tracing::info!("asked to end");
            exit::end(0);
        })?;
        Ok(())
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

    /// Begins work that belongs to other work which is running: not held back while the process is ending.
    fn begin_more(&self) -> Work {
        self.0.lock().running += 1;
        Work(Arc::clone(&self.0))
    }

    /// Waits for this time, or until the process is asked to end: whether it is not.
    pub fn pause(&self, time: Duration) -> bool {
        let state = self.0.lock();
        let waited = self.0.changed.wait_timeout_while(state, time, |s| !s.stopping);
        !waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }

    /// Lets no new work begin, and waits until the running work is done or `grace` has passed.
    fn drain(&self, grace: Duration) {
        let mut state = self.0.lock();
        state.stopping = true;
        self.0.changed.notify_all();
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
    use record::wire::{Blob, FromLog, ToLog, write_message};

    fn listen(folder: &Path, uid: u32) -> Listen {
        Listen { socket: folder.join("s"), allow_uid: vec![uid], socket_gid: None }
    }

    fn own_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn echo(server: Server) {
        std::thread::spawn(move || {
            server.serve(&Stop::default(), |mut connection| {
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
    fn nobody_waits_for_a_peer_that_does_not_read_and_it_is_cut_off() {
        let (connection, mut peer) = Connection::pair();
        let writer = connection.writer();
        let long = FromLog::Leaves { from: 0, leaves: vec![Blob(vec![7; 1024 * 1024])] };
        // Far more than a socket takes: a send that waited would time out.
        let taken = (0..64).take_while(|_| writer.send(&long).is_ok()).count();
        assert!((8..64).contains(&taken), "{taken}");
        assert!(writer.send(&ToLog::Note {}).is_err());
        std::io::copy(&mut peer, &mut std::io::sink()).unwrap();
    }

    #[test]
    fn a_connection_ends_although_others_know_its_writing_half_and_after_its_last_answer() {
        let (connection, mut peer) = Connection::pair();
        let known = connection.writer().downgrade();
        known.upgrade().unwrap().send(&ToLog::Note {}).unwrap();
        drop(connection);
        assert!(known.upgrade().is_none());
        assert_eq!(read_message::<ToLog>(&mut peer).unwrap(), Some(ToLog::Note {}));
        assert_eq!(read_message::<ToLog>(&mut peer).unwrap(), None);
    }

    #[test]
    fn there_is_room_for_so_many_connections_and_again_when_one_has_ended() {
        let open = Open::default();
        let mut slots: Vec<_> = (0..MAX_CONNECTIONS).map(|_| open.take().unwrap()).collect();
        assert!(open.take().is_none() && open.take().is_none());
        slots.pop();
        assert!(open.take().is_some());
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
