//! The issuer's HTTP server: a discovery document and a key set, on a port of this host.

use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// The path of the discovery document.
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
/// The path of the key set.
pub const KEYS: &str = "/keys";

/// What is answered on a path.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 200 with this JSON.
    Json(Value),
    /// 200 with this many spaces: more than anybody should read.
    Spaces(usize),
    /// 302 to this URL.
    Redirect(String),
    /// Nothing: the connection is closed.
    Nothing,
}

/// A server that runs until it is dropped or stopped, and counts what it is asked.
#[derive(Debug)]
pub struct IssuerServer {
    address: SocketAddr,
    state: Arc<State>,
    runs: bool,
}

#[derive(Debug, Default)]
struct State {
    answers: Mutex<BTreeMap<String, Answer>>,
    asked: Mutex<BTreeMap<String, u64>>,
    ends: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl IssuerServer {
    /// Serves the discovery document and these keys.
    pub fn start(keys: &[Value]) -> Self {
        let mut server = Self { address: ([127, 0, 0, 1], 0).into(), state: Arc::default(), runs: false };
        server.resume();
        let (issuer, keys_url) = (server.url(), format!("{}{KEYS}", server.url()));
        server.answer(DISCOVERY, Answer::Json(json!({"issuer": issuer, "jwks_uri": keys_url})));
        server.publish(keys);
        server
    }

    /// Its URL, which is the issuer's name.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts these keys in the place of those that it has.
    pub fn publish(&self, keys: &[Value]) {
        self.answer(KEYS, Answer::Json(json!({"keys": keys})));
    }

    /// Changes what is answered on a path.
    pub fn answer(&self, path: &str, answer: Answer) {
        lock(&self.state.answers).insert(path.to_owned(), answer);
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> u64 {
        lock(&self.state.asked).get(path).copied().unwrap_or(0)
    }

    /// Nobody listens on its port any more.
    pub fn stop(&mut self) {
        if std::mem::take(&mut self.runs) {
            self.state.ends.store(true, Ordering::SeqCst);
            // The thread waits for one more connection; it closes its port when it ends.
            drop(TcpStream::connect(self.address));
            while TcpStream::connect(self.address).is_ok() {
                thread::yield_now();
            }
        }
    }

    /// Serves again on the same port.
    pub fn resume(&mut self) {
        self.state.ends.store(false, Ordering::SeqCst);
        let listener = TcpListener::bind(self.address).unwrap();
        self.address = listener.local_addr().unwrap();
        let state = self.state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if state.ends.load(Ordering::SeqCst) {
                    return;
                }
                let state = state.clone();
                thread::spawn(move || stream.map(|stream| serve(&stream, &state)));
            }
        });
        self.runs = true;
    }
}

impl Drop for IssuerServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One request, one answer.
fn serve(mut stream: &TcpStream, state: &State) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    *lock(&state.asked).entry(path.clone()).or_default() += 1;
    let answer = lock(&state.answers).get(&path).cloned();
    let (status, head, body) = match answer {
        Some(Answer::Json(value)) => ("200 OK", String::new(), value.to_string()),
        Some(Answer::Spaces(count)) => ("200 OK", String::new(), " ".repeat(count)),
        Some(Answer::Redirect(to)) => ("302 Found", format!("Location: {to}\r\n"), String::new()),
        Some(Answer::Nothing) => return Ok(()),
        None => ("404 Not Found", String::new(), String::new()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{head}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
