//! A trust server that serves fixed files over plain HTTP/1.1 on the loopback interface, one request a connection.

use crate::collection::{Collection, Files};
use base64::{Engine, engine::general_purpose::STANDARD};
use formats::dct::SignedFile;
use record::Purpose;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

pub(crate) struct Server {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `files` as the collection `gun`, under the names by which clients ask.
    pub(crate) fn start(gun: &str, files: &Files) -> Self {
        Self::serve(pages(gun, files))
    }

    /// Serves the snapshot and timestamp keys of a collection that has no files yet.
    pub(crate) fn with_keys(collection: &Collection) -> Self {
        let page = |purpose: Purpose| {
            let key = STANDARD.encode(collection.key(purpose).spki.der());
            let body = format!(r#"{{"keytype":"ecdsa","keyval":{{"public":"{key}","private":null}}}}"#);
            (format!("/v2/{}/_trust/tuf/{purpose}.key", collection.gun), body.into_bytes())
        };
        Self::serve(BTreeMap::from([ping(), page(Purpose::Snapshot), page(Purpose::Timestamp)]))
    }

    fn serve(pages: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                // A client that hangs up early is its own affair.
                let _ = connection.and_then(|c| answer(c, &pages));
            }
        });
        Self { address, ended, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it has ended.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// What clients ask first, to see whether this is a trust server.
fn ping() -> (String, Vec<u8>) {
    ("/v2/".to_owned(), b"{}".to_vec())
}

/// The files under the names by which clients ask: for all but root and timestamp, the hash in the file above.
fn pages(gun: &str, files: &Files) -> BTreeMap<String, Vec<u8>> {
    let page = |name: String, bytes: &[u8]| (format!("/v2/{gun}/_trust/tuf/{name}.json"), bytes.to_vec());
    let named = |file: &[u8], name: &str| SignedFile::parse(file).unwrap().meta().unwrap()[name].sha256;
    let by_hash =
        |above: &[u8], name: &str, bytes: &[u8]| page(format!("{name}.{}", named(above, name)), bytes);
    BTreeMap::from([
        ping(),
        page("root".into(), &files.root),
        page("timestamp".into(), &files.timestamp),
        by_hash(&files.snapshot, "root", &files.root),
        by_hash(&files.timestamp, "snapshot", &files.snapshot),
        by_hash(&files.snapshot, "targets", &files.targets),
    ])
}

fn answer(connection: TcpStream, pages: &BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match pages.get(path) {
        Some(body) => ("200 OK", body.as_slice()),
        None => ("404 Not Found", b"{\"errors\":[{\"code\":\"METADATA_NOT_FOUND\"}]}".as_slice()),
    };
    let mut connection = reader.into_inner();
    write!(connection, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    connection.write_all(body)
}
