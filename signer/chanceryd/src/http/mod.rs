//! HTTPS: TLS 1.3 only, a deadline and a limit on everything, and the routes.

mod dct;
mod door;
mod exchange;
mod keepers;
mod log;
mod problem;
mod requests;
mod tokens;
mod touch;

use crate::{
    auth::{AuthError, Bearer, Proof},
    config::Config,
    fatal::Fatal,
    machines::Machines,
    service::Service,
};
use api::{Readiness, Scope};
use axum::{
    Extension, Json, Router,
    extract::{FromRequestParts, Request, State},
    http::{StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use axum_server::{
    Handle,
    tls::TlsInfo,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use door::Door;
pub(crate) use problem::Fail;
use record::{RequestId, Sha256, Time};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tower_http::{
    limit::RequestBodyLimitLayer,
    timeout::{RequestBodyTimeoutLayer, TimeoutLayer},
};

/// Largest request body.
const MAX_BODY: usize = 64 * 1024;
/// For the head of a request, and for the first byte of a connection.
const HEAD: Duration = Duration::from_secs(5);
/// Between two parts of a body.
const BODY: Duration = Duration::from_secs(10);
/// For a whole request; long polls end before it.
const REQUEST: Duration = Duration::from_secs(40);
/// For what runs when the daemon is told to stop.
const DRAIN: Duration = Duration::from_secs(20);
/// Headers in one request.
const MAX_HEADERS: usize = 64;
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;

type App = Arc<Service>;

/// The addresses and the certificate, ready to serve: whoever cannot have them should not begin.
pub(crate) struct Front {
    people: Listener,
    machines: Option<(Listener, Arc<Machines>)>,
    connections: usize,
}

/// One address with what is spoken there.
struct Listener {
    address: SocketAddr,
    socket: std::net::TcpListener,
    tls: RustlsConfig,
}

impl Front {
    /// Reads the certificate and takes the addresses. `machines` judges client certificates, where they are asked for.
    pub(crate) fn open(config: &Config, machines: Option<Arc<Machines>>) -> Result<Self, Fatal> {
        let people = Listener::open(config.listen, tls(config, None)?)?;
        let machines = match (&config.machines, machines) {
            (Some(at), Some(machines)) => {
                Some((Listener::open(at.listen, tls(config, Some(machines.clone()))?)?, machines))
            }
            _ => None,
        };
        Ok(Self { people, machines, connections: config.limits.connections })
    }
}

impl Listener {
    fn open(address: SocketAddr, tls: rustls::ServerConfig) -> Result<Self, Fatal> {
        let taken = |e| unavailable(address, &e);
        let socket = std::net::TcpListener::bind(address).map_err(taken)?;
        socket.set_nonblocking(true).map_err(taken)?;
        Ok(Self { address, socket, tls: RustlsConfig::from_config(Arc::new(tls)) })
    }

    /// Serves until the handle is told to stop.
    async fn serve(
        self,
        routes: Router,
        connections: usize,
        handle: Handle<SocketAddr>,
    ) -> Result<(), Fatal> {
        let broken = |e| unavailable(self.address, &e);
        let door = Door { handle: handle.clone(), connections };
        let mut server = axum_server::from_tcp(self.socket)
            .map_err(broken)?
            .acceptor(RustlsAcceptor::new(self.tls).handshake_timeout(HEAD).acceptor(door))
            .handle(handle)
            .first_request_timeout(HEAD);
        server
            .http_builder()
            .http1()
            .header_read_timeout(HEAD)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES);
        let server = server.http1_only();
        tracing::info!(listen = %self.address, "serving");
        server.serve(routes.into_make_service()).await.map_err(broken)
    }
}

fn unavailable(address: SocketAddr, why: &std::io::Error) -> Fatal {
    Fatal::Unavailable { what: format!("listening on {address}"), why: why.to_string() }
}

/// Serves until SIGTERM or SIGINT, then lets what runs finish.
pub(crate) async fn serve(front: Front, service: App) -> Result<(), Fatal> {
    let (people, machines) = (Handle::new(), Handle::new());
    let watched = [people.clone(), machines.clone()];
    tokio::spawn(async move {
        stop_signal().await;
        tracing::info!("stopping: no new connections, running requests may finish");
        watched.iter().for_each(|handle| handle.graceful_shutdown(Some(DRAIN)));
    });
    let connections = front.connections;
    let for_people = front.people.serve(routes(service.clone()), connections, people);
    let Some((listener, judge)) = front.machines else { return for_people.await };
    let routes = routes(service).layer(Extension(judge));
    tokio::try_join!(for_people, listener.serve(routes, connections, machines)).map(|_| ())
}

fn tls(config: &Config, machines: Option<Arc<Machines>>) -> Result<rustls::ServerConfig, Fatal> {
    let bad = |path: &std::path::Path, why: String| Fatal::Config { path: path.to_owned(), why };
    let certificates = CertificateDer::pem_file_iter(&config.tls_certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| bad(&config.tls_certificate, e.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_file(&config.tls_key).map_err(|e| bad(&config.tls_key, e.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| bad(&config.tls_key, e.to_string()))?;
    let with_certificates = machines.is_some();
    let tls = match machines {
        Some(machines) => tls.with_client_cert_verifier(machines),
        None => tls.with_no_client_auth(),
    };
    let mut tls =
        tls.with_single_cert(certificates, key).map_err(|e| bad(&config.tls_certificate, e.to_string()))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    if with_certificates {
        // A session that is taken up again shows no certificate to the verifier of the handshake.
        tls.send_tls13_tickets = 0;
        tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    }
    Ok(tls)
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        }
        _ => std::future::pending().await,
    }
}

fn routes(service: App) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/v1/auth/exchange", post(exchange::exchange))
        .route("/v1/requests", post(requests::create))
        .route("/v1/requests/{id}", get(requests::show))
        .route("/v1/repositories", post(requests::create_repository).get(requests::show_repository))
        .route("/v1/repositories/touch", get(touch::of_repository))
        .route("/v1/keys", get(keepers::keys))
        .route("/v1/keepers", get(keepers::list))
        .route("/v1/tokens", post(tokens::create).get(tokens::list))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .route("/v1/log/checkpoint", get(log::checkpoint))
        .route("/v1/log/tile/{*path}", get(log::tile))
        .route("/v1/log/set/{index}", get(log::entry_timestamp))
        .route("/v1/log/payload/{sha256}", get(log::payload))
        .route("/v2/", get(dct::ping))
        .route("/v2/{*path}", get(dct::read))
        .fallback(async || Fail::not_found("no such path: see the API reference"))
        .method_not_allowed_fallback(async || {
            Fail::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path has no such method")
        })
        .with_state(service.clone())
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST))
        .layer(RequestBodyTimeoutLayer::new(BODY))
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        .layer(tower_http::catch_panic::CatchPanicLayer::new())
        .layer(middleware::from_fn_with_state(service, tell))
}

/// One line a call, its id in every answer, and the seal where a call met data that cannot be trusted.
async fn tell(State(service): State<App>, request: Request, next: Next) -> Response {
    let call = record::Nonce::random().map(|n| n.to_string()).unwrap_or_default();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (response, seal) = problem::finished(next.run(request).await, &call);
    if let Some(why) = seal {
        service.health.seal(&why);
    }
    tracing::info!(%call, %method, path, status = response.status().as_u16(), "call");
    response
}

async fn ready(State(service): State<App>) -> Response {
    let problems = service.health.problems();
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let readiness = Readiness {
        ready: problems.is_empty(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        log_size: service.log.noted_size(),
        problems,
        alarms: service.health.alarms(),
        heads: service.health.heads.kept(),
    };
    (status, Json(readiness)).into_response()
}

/// A caller with a live token or session.
pub(crate) struct CallerProof(pub Proof);

impl CallerProof {
    /// Lets only callers with a scope go on.
    pub(crate) fn demand(&self, scope: Scope) -> Result<(), Fail> {
        self.demand_one_of(&[scope])
    }

    /// Lets only callers with one of these scopes go on.
    pub(crate) fn demand_one_of(&self, scopes: &[Scope]) -> Result<(), Fail> {
        if scopes.iter().any(|scope| self.0.has(*scope)) {
            return Ok(());
        }
        let scopes: Vec<String> = scopes.iter().map(|s| format!("`{}`", s.as_str())).collect();
        let detail = format!("this needs a token with the scope {}", scopes.join(" or "));
        Err(Fail::new(StatusCode::FORBIDDEN, "scope", &detail))
    }
}

impl FromRequestParts<App> for CallerProof {
    type Rejection = Fail;

    async fn from_request_parts(parts: &mut Parts, service: &App) -> Result<Self, Fail> {
        if let Some(judge) = parts.extensions.get::<Arc<Machines>>() {
            return machine(judge, parts, service).map(Self);
        }
        let now = service.clock.now();
        let found = match bearer(parts) {
            Ok(Bearer::Token(token)) => service.tokens.authenticate(token, now),
            Ok(Bearer::Session(secret)) => session(service, &secret, now).await?,
            Ok(Bearer::Poll(_)) => Err(AuthError::Invalid),
            Err(e) => Err(e),
        };
        found.map(Self).map_err(|e| nobody(service, e))
    }
}

/// Who may read one request.
pub(crate) enum Reader {
    /// A caller.
    Caller(Proof),
    /// Who holds what is good for this request only.
    Of(RequestId),
}

impl FromRequestParts<App> for Reader {
    type Rejection = Fail;

    async fn from_request_parts(parts: &mut Parts, service: &App) -> Result<Self, Fail> {
        let for_machines = parts.extensions.get::<Arc<Machines>>().is_some();
        if let (false, Ok(Bearer::Poll(secret))) = (for_machines, bearer(parts)) {
            let found = service.store.polled(&secret, service.clock.now()).await?;
            return found.map(Self::Of).ok_or_else(|| nobody(service, AuthError::Invalid));
        }
        CallerProof::from_request_parts(parts, service).await.map(|CallerProof(proof)| Self::Caller(proof))
    }
}

/// Who asks where client certificates say it: judged again with every request, since connections live for hours.
fn machine(judge: &Machines, parts: &Parts, service: &Service) -> Result<Proof, Fail> {
    if parts.headers.contains_key(header::AUTHORIZATION) {
        let detail = "this listener knows callers by their client certificate: send no `Authorization` here, or go to the \
                      other listener";
        return Err(Fail::bad(detail));
    }
    let now = service.clock.now();
    let chain = parts.extensions.get::<Arc<TlsInfo>>().map(|tls| tls.peer_certificates.as_slice());
    let chain: Vec<_> = chain.unwrap_or_default().iter().map(|der| CertificateDer::from_slice(der)).collect();
    let since_1970 = Duration::from_millis(u64::try_from(now.unix_ms()).unwrap_or(0));
    match judge.judge(&chain, UnixTime::since_unix_epoch(since_1970)) {
        Ok(machine) => Ok(Proof::of_machine(machine)),
        Err(e) => {
            service.refusals.unknown(now);
            tracing::info!(error = %e, "the client certificate of an open connection is refused");
            Err(Fail::unauthenticated(
                "the client certificate of this connection has ended or was revoked: use a new one",
            ))
        }
    }
}

fn bearer(parts: &Parts) -> Result<Bearer<'_>, AuthError> {
    Bearer::parse(parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()))
}

/// The CI job of a session. One whose issuer was taken out of the configuration is over.
async fn session(service: &App, secret: &Sha256, now: Time) -> Result<Result<Proof, AuthError>, Fail> {
    let found = service.store.session(secret, now).await?;
    let found = found.filter(|job| service.issuers.has(job.ci.issuer.as_str()));
    Ok(found.map(Proof::of_session).ok_or(AuthError::Ended))
}

fn nobody(service: &App, why: AuthError) -> Fail {
    service.refusals.unknown(service.clock.now());
    Fail::unauthenticated(&why.to_string())
}
