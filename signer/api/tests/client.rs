//! The client against a real TLS server that answers what each test says.
#![expect(clippy::unwrap_used, reason = "test code")]

use api::{Client, ClientError, IdempotencyKey, MAX_DOCUMENT, NewRequest, RequestState, Secret, Trust};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, mpsc},
};

const TOKEN: &str = "chy_abc123_0123456789abcdef";

/// One server on a fresh port; it gives its answers in order, one a connection, and keeps what it was asked.
struct Server {
    url: String,
    trust: Trust,
    asked: mpsc::Receiver<String>,
    _dir: tempfile::TempDir,
}

struct Identity {
    ca_pem: String,
    config: rustls::ServerConfig,
}

fn identity(versions: &[&'static rustls::SupportedProtocolVersion]) -> Identity {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    Identity { ca_pem, config }
}

fn serve(answers: Vec<String>) -> Server {
    serve_with(identity(&[&rustls::version::TLS13]), answers)
}

fn serve_with(identity: Identity, answers: Vec<String>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, identity.ca_pem).unwrap();
    let (told, asked) = mpsc::channel();
    let config = Arc::new(identity.config);
    std::thread::spawn(move || {
        for answer in answers {
            let (socket, _) = listener.accept().unwrap();
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let stream = rustls::StreamOwned::new(session, socket);
            if let Ok(text) = exchange(stream, &answer) {
                let _ = told.send(text);
            }
        }
    });
    Server { url, trust: Trust::CaFile(ca), asked, _dir: dir }
}

fn exchange(
    stream: rustls::StreamOwned<rustls::ServerConnection, std::net::TcpStream>,
    answer: &str,
) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = head
        .lines()
        .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
        .map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let stream = reader.get_mut();
    stream.write_all(answer.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(head + &String::from_utf8(body).unwrap())
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Date: Mon, 23 Nov 2026 10:20:30 GMT\r\nConnection: close\r\n\r\n{body}"
    )
}

fn json(status: &str, body: &str) -> String {
    answer(status, "application/json", body)
}

fn problem(status: &str, code: &str, retryable: bool) -> String {
    let number = &status[..3];
    let body = format!(
        r#"{{"type":"urn:chancery:problem:{code}","code":"{code}","title":"No","status":{number},"detail":"because","retryable":{retryable}}}"#
    );
    answer(status, "application/problem+json", &body)
}

impl Server {
    fn client(&self) -> Client {
        Client::new(&self.url, &self.trust, Some(Secret::new(TOKEN).unwrap())).unwrap()
    }
}

fn request_json(state: &str) -> String {
    format!(
        r#"{{"id":"0190a7d2-0000-7000-8000-000000000000","state":"{state}","repository":"r.example/a","digest":"sha256:{}","tag":"v1","by":"token:abc","created":"2026-11-23T10:20:30.000Z","log":{{}}}}"#,
        "ab".repeat(32)
    )
}

fn new_request() -> NewRequest {
    NewRequest {
        image: format!("r.example/a@sha256:{}", "ab".repeat(32)).parse().unwrap(),
        tag: "v1".parse().unwrap(),
    }
}

#[tokio::test]
async fn a_request_carries_its_token_and_its_idempotency_key() {
    let server = serve(vec![json("202 Accepted", &request_json("ready"))]);
    let key: IdempotencyKey = "job-17".parse().unwrap();
    let made = server.client().sign(&new_request(), &key).await.unwrap();
    assert_eq!(made.state, RequestState::Ready);
    let asked = server.asked.recv().unwrap();
    assert!(asked.starts_with("POST /v1/requests?touch=none HTTP/1.1\r\n"), "{asked}");
    let lower = asked.to_ascii_lowercase();
    assert!(lower.contains("idempotency-key: job-17\r\n"), "{asked}");
    assert!(lower.contains(&format!("authorization: bearer {TOKEN}\r\n")), "{asked}");
    assert!(asked.ends_with(r#","tag":"v1"}"#), "{asked}");
}

#[tokio::test]
async fn a_long_poll_never_asks_for_more_than_thirty_seconds() {
    let server = serve(vec![json("200 OK", &request_json("published"))]);
    let id = "0190a7d2-0000-7000-8000-000000000000".parse().unwrap();
    assert!(server.client().request(&id, 3600).await.unwrap().state.is_final());
    assert!(server.asked.recv().unwrap().starts_with(&format!("GET /v1/requests/{id}?wait=30 ")));
}

#[tokio::test]
async fn a_problem_keeps_its_words_and_gives_its_exit_code() {
    for (status, code, retryable, exit) in [
        ("403 Forbidden", "denied", false, 3),
        ("401 Unauthorized", "unauthenticated", false, 4),
        ("403 Forbidden", "forbidden", false, 4),
        ("404 Not Found", "not-found", false, 5),
        ("409 Conflict", "exists", false, 6),
        ("422 Unprocessable", "idempotency-mismatch", false, 6),
        ("503 Unavailable", "audit-unavailable", true, 9),
        ("503 Unavailable", "keeper-refused", false, 8),
        ("409 Conflict", "timestamp-refused", false, 6),
        ("400 Bad Request", "bad-request", false, 2),
        ("500 Oops", "internal", false, 1),
    ] {
        let server = serve(vec![problem(status, code, retryable)]);
        let error = server.client().keys().await.unwrap_err();
        assert_eq!(error.exit_code(), exit, "{status} {code}");
        assert_eq!(error.is_temporary(), retryable);
        assert!(matches!(error, ClientError::Problem(p) if p.code == code && p.detail == "because"));
    }
}

#[tokio::test]
async fn a_page_of_a_proxy_is_no_problem_document() {
    let server = serve(vec![answer("502 Bad Gateway", "text/html", "<h1>no</h1>")]);
    let error = server.client().keys().await.unwrap_err();
    assert!(matches!(error, ClientError::Status { status: 502, .. }) && error.is_temporary());
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let there = "HTTP/1.1 307 Go\r\nLocation: https://localhost:1/\r\nContent-Length: 0\r\n\r\n";
    let server = serve(vec![there.to_owned()]);
    let error = server.client().keys().await.unwrap_err();
    assert!(matches!(error, ClientError::Status { status: 307, .. }), "{error:?}");
}

#[tokio::test]
async fn a_body_above_its_limit_is_not_read_on() {
    let server = serve(vec![json("200 OK", &" ".repeat(MAX_DOCUMENT + 1))]);
    let error = server.client().keys().await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { limit: MAX_DOCUMENT, .. }), "{error:?}");
}

#[tokio::test]
async fn a_document_with_unknown_members_is_refused() {
    let server = serve(vec![json("200 OK", r#"{"keys":[],"more":1}"#)]);
    assert!(matches!(server.client().keys().await.unwrap_err(), ClientError::Shape { .. }));
}

#[tokio::test]
async fn a_server_that_is_not_ready_still_says_why() {
    let body = r#"{"ready":false,"version":"1","log_size":7,"problems":["keeper away"]}"#;
    let server = serve(vec![json("503 Service Unavailable", body)]);
    let probe = server.client().readyz().await.unwrap();
    assert_eq!(probe.readiness.problems, ["keeper away"]);
    assert_eq!(probe.date.unwrap().to_string(), "2026-11-23T10:20:30.000Z");
}

#[tokio::test]
async fn a_file_that_the_log_does_not_have_is_none() {
    let server = serve(vec![
        answer("404 Not Found", "text/plain", ""),
        answer("200 OK", "application/octet-stream", "tile"),
    ]);
    assert_eq!(server.client().log_file("tile/0/000.p/5").await.unwrap(), None);
    assert_eq!(server.client().log_file("tile/0/000").await.unwrap().unwrap(), b"tile");
    server.asked.recv().unwrap();
    assert!(server.asked.recv().unwrap().starts_with("GET /v1/log/tile/0/000 "));
}

#[tokio::test]
async fn only_the_named_ca_is_believed() {
    let server = serve(vec![json("200 OK", r#"{"keys":[]}"#)]);
    let stranger = serve(Vec::new());
    let client = Client::new(&server.url, &stranger.trust, None).unwrap();
    let error = client.keys().await.unwrap_err();
    assert!(matches!(error, ClientError::Tls { .. }), "{error:?}");
    assert_eq!(error.exit_code(), 78);
}

#[tokio::test]
async fn tls_below_1_3_is_refused() {
    let server = serve_with(identity(&[&rustls::version::TLS12]), vec![json("200 OK", r#"{"keys":[]}"#)]);
    let error = server.client().keys().await.unwrap_err();
    assert!(matches!(error, ClientError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_ends_in_the_handshake_is_temporary() {
    let server = serve(vec![]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || drop(listener.accept()));
    let client = Client::new(&url, &server.trust, None).unwrap();
    let error = client.keys().await.unwrap_err();
    assert!(error.is_temporary() && matches!(error, ClientError::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_away_is_temporary() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = serve(Vec::new());
    let client = Client::new(&format!("https://{closed}"), &server.trust, None).unwrap();
    let error = client.keys().await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }) && error.exit_code() == 9, "{error:?}");
}

#[test]
fn a_token_is_never_shown() {
    let secret = Secret::new(&format!(" {TOKEN}\n")).unwrap();
    assert_eq!(secret.token_id().unwrap().as_str(), "abc123");
    let client = Client::new("https://localhost", &Trust::System, Some(secret)).unwrap();
    assert!(!format!("{client:?}").contains("0123456789abcdef"));
    let error = Secret::new("hunter2-not-a-token").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn a_base_url_is_https_and_nothing_but_a_place() {
    for bad in [
        "http://h.example",
        "h.example",
        "https://u@h.example",
        "https://u:p@h.example",
        "https://h.example?x",
        "https://h.example#x",
        "",
    ] {
        let error = Client::new(bad, &Trust::System, None).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{bad}");
    }
    let client = Client::new("https://h.example/sub/", &Trust::System, None).unwrap();
    assert_eq!(client.base(), "https://h.example/sub");
}

#[test]
fn idempotency_keys_are_short_plain_words() {
    assert!("a".repeat(128).parse::<IdempotencyKey>().is_ok());
    for bad in ["", "a b", "a\n", "ä", &"a".repeat(129)] {
        assert!(bad.parse::<IdempotencyKey>().is_err(), "{bad}");
    }
    assert_ne!(IdempotencyKey::random().unwrap(), IdempotencyKey::random().unwrap());
}
