//! The witness over plain HTTP/1.1: a deadline and a limit on everything, since whoever reaches it may ask.

use super::{Answer, Lines, Witness};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use record::{Clock, SystemClock};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tlog::MAX_REQUEST_LEN;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Connections at once; more wait in the system's queue.
const CONNECTIONS: usize = 64;
/// For the head of a request, and between two requests on one connection.
const HEAD: Duration = Duration::from_secs(10);
/// For a body.
const BODY: Duration = Duration::from_secs(10);
/// For a connection: also one that never stops asking, or never reads its answers, ends.
const CONNECTION: Duration = Duration::from_secs(60);
/// For what runs when the witness is told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
#[derive(Clone)]
struct Desk {
    witness: Arc<Witness>,
    lines: Arc<Lines>,
    /// A write failed: the witness must end.
    broken: mpsc::Sender<String>,
    stop: watch::Receiver<bool>,
}

/// Serves until `stop` is done or a write has failed. An error is that write.
pub(crate) async fn serve(
    witness: Witness,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    lines: Lines,
) -> Result<(), String> {
    let (send_broken, mut broken) = mpsc::channel(1);
    let (send_stop, stopped) = watch::channel(false);
    let lines = Arc::new(lines);
    let desk = Desk { witness: Arc::new(witness), lines: lines.clone(), broken: send_broken, stop: stopped };
    let (room, mut connections) = (Arc::new(Semaphore::new(CONNECTIONS)), JoinSet::new());
    tokio::pin!(stop);
    let end = loop {
        tokio::select! {
            biased;
            () = &mut stop => break Ok(()),
            Some(why) = broken.recv() => break Err(why),
            Some(_ended) = connections.join_next() => {}
            Some((stream, permit)) = accept(&listener, room.clone()) => {
                connections.spawn(converse(stream, permit, desk.clone()));
            }
        }
    };
    let _none = send_stop.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN, drained).await.is_err() {
        lines.say("some connections did not end and are cut off".into());
        connections.shutdown().await;
    }
    drop(desk);
    if let Some(lines) = Arc::into_inner(lines) {
        lines.finish();
    }
    end
}

/// The next connection, when there is room for it.
async fn accept(listener: &TcpListener, room: Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = room.acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, permit)),
            // Out of descriptors, or the caller has gone: neither lasts.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(stream: TcpStream, _permit: OwnedSemaphorePermit, desk: Desk) {
    let mut stop = desk.stop.clone();
    let answer = service_fn(move |request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(to_http(desk.answer(request).await)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    let over = async {
        tokio::select! { _ = stop.wait_for(|stop| *stop) => {}, () = sleep(CONNECTION) => {} }
    };
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = over => connection.as_mut().graceful_shutdown(),
    }
    // Whatever it was doing, it has had its time.
    let _ended = timeout(DRAIN, connection).await;
}

impl Desk {
    async fn answer(self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let path = path.strip_prefix('/').unwrap_or(path).to_owned();
        if path == "add-checkpoint" {
            return match *request.method() {
                Method::POST => self.add_checkpoint(request).await,
                _ => Answer::refused(405, "add-checkpoint is a POST".into()),
            };
        }
        match (path.strip_suffix("/checkpoint"), request.method()) {
            (Some(hash), &Method::GET | &Method::HEAD) => self.witness.checkpoint(hash),
            (Some(_), _) => Answer::refused(405, "a checkpoint is read with GET".into()),
            (None, _) => Answer::refused(
                404,
                "here are POST /add-checkpoint and GET /<hex SHA-256 of an origin>/checkpoint".into(),
            ),
        }
    }

    async fn add_checkpoint(self, request: Request<Incoming>) -> Answer {
        let body = Limited::new(request.into_body(), MAX_REQUEST_LEN).collect();
        let body = match timeout(BODY, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return Answer::refused(413, format!("a body has at most {MAX_REQUEST_LEN} bytes")),
            Err(_) => return Answer::refused(408, "the body did not come in time".into()),
        };
        let time_s = u64::try_from(SystemClock.now().unix_s()).unwrap_or_default();
        let witness = self.witness.clone();
        let done = tokio::task::spawn_blocking(move || witness.add_checkpoint(&body, time_s)).await;
        match done {
            Ok(Ok(answer)) => {
                if let Some(line) = &answer.said {
                    self.lines.say(line.clone());
                }
                answer
            }
            Ok(Err(fault)) => self.end(fault.to_string()),
            Err(error) => self.end(error.to_string()),
        }
    }

    fn end(&self, why: String) -> Answer {
        // A full or closed channel is a witness that ends already.
        let _ending = self.broken.try_send(why);
        Answer::refused(500, "this witness cannot keep what it has seen, and ends".into())
    }
}

fn to_http(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
