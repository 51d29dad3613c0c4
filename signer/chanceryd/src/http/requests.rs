//! Signing requests and repositories.

use super::{
    App, CallerProof, Fail, Reader,
    problem::StrictJson,
    touch::{self, Known},
};
use crate::{
    audit::AppendError,
    auth::{Proof, new_poll_token},
    facts::{Asked, FactFinder},
    refusals::Roll,
    service::Service,
    sign::{Allowed, Approved, Authenticated, SignRequest},
    store::{self, NewPollToken, Rejected, RequestRow, Role},
};
use api::{
    LogPlaces, NewRepository, NewRequest, Problem, RepositoryInfo, Request, RequestState, Scope, Versions,
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use policy::{Ask, PolicySet};
use record::{Leaf, Principal, Repository, RequestId, RoleKeys, Sha256, Time};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Longest wait that a caller may ask for, in seconds.
pub(super) const MAX_WAIT_S: u64 = 30;
/// How long a new request waits for its end when the caller does not say, in seconds.
const DEFAULT_WAIT_S: u64 = 5;
/// How long a request may be read with what its first answer gave: longer than providers let a job run.
const POLL_S: i64 = 86_400;
/// Longest idempotency key.
const MAX_KEY: usize = 128;

/// `?wait=SECONDS&touch=KNOWN`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    wait: Option<u64>,
    touch: Option<Known>,
}

/// `?name=GUN`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Name {
    name: String,
}

/// `POST /v1/requests`: 201 when clients see the tag already, 202 when something is still missing, an error's own status
/// when the request has ended otherwise.
pub(super) async fn create(
    State(service): State<App>,
    CallerProof(proof): CallerProof,
    Query(wait): Query<Wait>,
    headers: HeaderMap,
    StrictJson(body): StrictJson<NewRequest>,
) -> Result<Response, Fail> {
    let key = idempotency_key(&headers)?;
    // From here on the work runs on its own task: a caller that hangs up does not stop it half-way.
    let work = tokio::spawn(admit(service.clone(), proof, key, body));
    let (id, poll) = work.await.map_err(|_| Fail::audit_unavailable("the request was interrupted"))??;
    let mut request = wait_for(&service, &id, wait.wait.unwrap_or(DEFAULT_WAIT_S), wait.touch).await?;
    let replayed = poll.is_none();
    request.poll = poll;
    let status = match request.state {
        RequestState::Published => StatusCode::CREATED,
        // A replay, or a decision that was made anew while the request waited.
        RequestState::Denied | RequestState::Failed => {
            let problem = request.problem.map(|p| Fail::from_problem(p, id));
            return Err(
                problem.unwrap_or_else(|| Fail::audit_unavailable("the request ended without a word"))
            );
        }
        RequestState::Ready | RequestState::Signing | RequestState::Recorded => {
            ends_some_time(&service)?;
            StatusCode::ACCEPTED
        }
    };
    let mut response = (status, [("location", format!("/v1/requests/{id}"))], Json(request)).into_response();
    if replayed {
        response.headers_mut().insert("idempotent-replayed", axum::http::HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// A request, and the bearer that reads it if it is a new one.
type Admitted = (RequestId, Option<String>);

/// Steps 1 to 3 of the pipeline, and the row that waits for the rest.
async fn admit(service: App, proof: Proof, key: String, body: NewRequest) -> Result<Admitted, Fail> {
    let by = proof.principal().clone();
    let fingerprint = fingerprint(&body)?;
    if let Some(before) = service.store.request_by_key(&by, &key).await? {
        return replay(before, fingerprint);
    }
    if let Some(why) = service.health.log_problem() {
        return Err(Fail::audit_unavailable(&why));
    }
    if service.store.waiting_count().await? >= service.waiting_limit {
        let detail = "too many requests wait to be signed: try again later";
        return Err(Fail::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).retryable());
    }
    let now = service.clock.now();
    if let Some(why) = service.log.clock_problem(now) {
        return Err(Fail::clock(&why));
    }
    let id = RequestId::new(now);
    let request = SignRequest { image: body.image, tag: body.tag }; //                       1. parsed
    let caller = proof.kept(now);
    let who = Authenticated::new(proof); //                                                  2. who
    let policy = service.policy.current();
    let ask = facts(&service, &policy, &request, (&id, &by, now)).await?;
    let repository = request.image.repository.clone();
    let roll = Roll::of_callers(&service.log, &service.refusals);
    let decided = Allowed::decide(&who, id.clone(), repository, ask, &policy, &roll, now).await?;
    let allowed = decided.map_err(Fail::denied)?; //                                         3. policy
    keys_answer(&service, &request.image.repository).await?;
    let approved = Approved::without_people(allowed); //                                     4. people
    let image = approved.image_row().ok_or_else(|| Fail::bad("nothing to sign"))?;
    let (poll, secret_sha256) = new_poll_token().map_err(|e| Fail::audit_unavailable(&e))?;
    let row = store::NewRequest {
        id: id.clone(),
        by: by.clone(),
        caller,
        idempotency: (key.clone(), fingerprint),
        image,
        created: now,
        poll: Some(NewPollToken { secret_sha256, expires: now.plus_s(POLL_S), now }),
    };
    match service.log.insert(row).await {
        Ok(()) => {}
        Err(AppendError::Rejected(Rejected::IdempotencyKey)) => {
            let before = service.store.request_by_key(&by, &key).await?;
            let before = before.ok_or_else(|| Fail::audit_unavailable("the request was not stored"))?;
            return replay(before, fingerprint);
        }
        Err(e) => return Err(e.into()),
    }
    service.publisher.wake(approved.repository());
    Ok((id, Some(poll)))
}

/// Whether the key may be used is asked at once: as long as nobody can approve, what needs approvals would wait for ever.
async fn facts(
    service: &Service,
    policy: &PolicySet,
    request: &SignRequest,
    (id, by, now): (&RequestId, &Principal, Time),
) -> Result<Ask, Fail> {
    let SignRequest { image, tag } = request;
    // A repository that policy does not know is refused without asking anybody about it.
    let manifest = match policy.repository(&image.repository) {
        Some(_) => service.registries.manifest(image).await,
        None => policy::Manifest::Absent,
    };
    let (repository, tag, digest) = (&image.repository, tag.clone(), image.digest);
    let asked = Asked { id, by, repository, tag, digest, manifest, now };
    let finder = FactFinder { store: &service.store, keys: &service.keys, policy };
    Ok(Ask::Sign(Box::new(finder.signing(asked).await?)))
}

async fn collection_exists(service: &Service, repository: &Repository) -> Result<bool, Fail> {
    Ok(service.store.collection(repository).await?.newest(Role::Root).is_some())
}

/// Refuses early when a key that will be needed is retired, or its keeper is away: nothing waits for hours without a
/// word.
async fn keys_answer(service: &Service, repository: &Repository) -> Result<(), Fail> {
    let unavailable =
        |detail: String| Fail::new(StatusCode::SERVICE_UNAVAILABLE, "token-unavailable", &detail);
    let roles = match roles_of(service, repository).await? {
        Some(roles) => roles,
        None => service.keys.roles_for(repository).map_err(|p| {
            unavailable(format!("no signing keeper has a {p} key for this repository")).retryable()
        })?,
    };
    for purpose in [record::Purpose::Targets, record::Purpose::Snapshot, record::Purpose::Timestamp] {
        let id = roles.of(purpose);
        let Some((keeper, _)) = service.keys.find(&id) else {
            let detail = format!(
                "no signing keeper presents the key {id}, which is the {purpose} key of this repository: it is retired, or \
                 its keeper's charter has it no more"
            );
            return Err(unavailable(detail));
        };
        if let Some(why) = service.health.keeper_problem(&keeper) {
            let detail = format!("signing keeper {keeper}, which has the {purpose} key: {why}");
            return Err(unavailable(detail).retryable());
        }
    }
    Ok(())
}

/// The keys that a collection's root names, if there is one.
async fn roles_of(service: &Service, repository: &Repository) -> Result<Option<RoleKeys>, Fail> {
    let collection = service.store.collection(repository).await?;
    let Some(root) = collection.newest(Role::Root) else { return Ok(None) };
    Ok(Some(service.store.roles(root).await?))
}

fn replay(before: RequestRow, fingerprint: Sha256) -> Result<Admitted, Fail> {
    if before.fingerprint == Some(fingerprint) {
        Ok((before.id, None))
    } else {
        let detail =
            "this Idempotency-Key was used for another image or tag: use a new key for a new request";
        Err(Fail::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-mismatch", detail))
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<String, Fail> {
    let missing = || Fail::bad("send the header `Idempotency-Key`, 1 to 128 printable ASCII characters");
    let key = headers.get("idempotency-key").and_then(|v| v.to_str().ok()).ok_or_else(missing)?;
    if (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(key.to_owned())
    } else {
        Err(missing())
    }
}

fn fingerprint(body: &NewRequest) -> Result<Sha256, Fail> {
    let bytes = record::canonical::encode(body).map_err(|e| Fail::bad(&e.to_string()))?;
    Ok(Sha256::of(&bytes))
}

/// `GET /v1/requests/{id}?wait=SECONDS&touch=KNOWN`.
pub(super) async fn show(
    State(service): State<App>,
    reader: Reader,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
) -> Result<Json<Request>, Fail> {
    let unknown = || Fail::not_found("there is no such request, or it is somebody else's");
    let id = RequestId::parse(&id).map_err(|_| unknown())?;
    let row = service.store.request(&id).await?.ok_or_else(unknown)?;
    let may_read = match &reader {
        Reader::Caller(proof) => row.by == *proof.principal() || proof.has(Scope::Audit),
        Reader::Of(one) => *one == id,
    };
    if !may_read {
        return Err(unknown());
    }
    let seconds = wait.wait.unwrap_or(0);
    let request = wait_for(&service, &id, seconds, wait.touch).await?;
    if seconds > 0 && !request.state.is_final() {
        ends_some_time(&service)?;
    }
    Ok(Json(request))
}

/// Tells who waits for the end of a request that this daemon will not bring it there.
fn ends_some_time(service: &Service) -> Result<(), Fail> {
    let sealed = service.health.sealed();
    sealed.map_or(Ok(()), |why| Err(Fail::audit_unavailable(&format!("sealed: {why}"))))
}

/// The request as soon as it is final or waits for a touch that the caller does not know of, or as it stands when the time
/// is up or the daemon is sealed.
async fn wait_for(
    service: &Service,
    id: &RequestId,
    seconds: u64,
    known: Option<Known>,
) -> Result<Request, Fail> {
    let until = Instant::now() + Duration::from_secs(seconds.min(MAX_WAIT_S));
    let request = current(service, id).await?;
    if request.state.is_final() {
        return Ok(request);
    }
    let mut looks = service.publisher.watch(&request.repository);
    let mut touches = service.touches.watch();
    loop {
        looks.borrow_and_update();
        touches.borrow_and_update();
        let request = current(service, id).await?;
        let touch = request.touch.as_ref().zip(known).is_some_and(|(touch, known)| known.differs(touch));
        if request.state.is_final() || touch {
            return Ok(request);
        }
        let change = async {
            tokio::select! {
                changed = looks.changed() => changed.is_ok(),
                changed = touches.changed() => changed.is_ok(),
                () = service.health.until_sealed() => false,
            }
        };
        if !timeout_at(until, change).await.unwrap_or(false) {
            return current(service, id).await;
        }
    }
}

async fn current(service: &Service, id: &RequestId) -> Result<Request, Fail> {
    let row = service.store.request(id).await?.ok_or_else(|| Fail::not_found("there is no such request"))?;
    let problem = match (&row.denied, &row.problem) {
        (Some(entry), _) => Some(denial(service, *entry).await?),
        (None, Some(kind)) => Some(failure(kind)),
        (None, None) => None,
    };
    let state = state(service, &row).await?;
    let (touch, blocked) = if state.is_final() {
        (None, None)
    } else {
        (touch::awaited(service, &row).await?, blocked(service, &row.repository).await?)
    };
    Ok(Request {
        id: row.id,
        state,
        repository: row.repository,
        digest: row.digest,
        tag: row.tag,
        by: row.by.to_string(),
        created: row.created,
        log: LogPlaces { denied: row.denied, intent: row.intent, completion: row.completion },
        targets_version: row.targets_version,
        touch,
        blocked,
        problem,
        poll: None,
    })
}

/// What stands in the way of a repository's next files: what its loop met at its last look, or else what the keepers say of
/// its keys.
async fn blocked(service: &Service, repository: &Repository) -> Result<Option<String>, Fail> {
    let met = service.publisher.watch(repository).borrow().clone();
    if met.is_some() {
        return Ok(met);
    }
    let Some(roles) =
        roles_of(service, repository).await?.or_else(|| service.keys.roles_for(repository).ok())
    else {
        return Ok(None);
    };
    let problem = |purpose| {
        let id = roles.of(purpose);
        let (keeper, _) = service.keys.find(&id)?;
        let why = service.health.key_problem(&keeper, &id)?;
        Some(format!("signing keeper {keeper}, which has the {purpose} key: {why}"))
    };
    let purposes = [record::Purpose::Targets, record::Purpose::Snapshot, record::Purpose::Timestamp];
    Ok(purposes.into_iter().find_map(problem))
}

async fn state(service: &Service, row: &RequestRow) -> Result<RequestState, Fail> {
    if row.denied.is_some() {
        return Ok(RequestState::Denied);
    }
    if row.problem.is_some() {
        return Ok(RequestState::Failed);
    }
    let (Some(_), Some(version)) = (row.intent, row.targets_version) else { return Ok(RequestState::Ready) };
    let noted = service.log.noted_size();
    if row.completion.is_none_or(|at| at >= noted) {
        return Ok(RequestState::Signing);
    }
    let published = service.store.published(&row.repository, noted).await?;
    let seen = published.is_some_and(|timestamp| timestamp.targets_version >= version);
    Ok(if seen { RequestState::Published } else { RequestState::Recorded })
}

async fn denial(service: &Service, entry: u64) -> Result<Problem, Fail> {
    let leaf = service.store.leaf(entry).await?.unwrap_or_default();
    let reasons = match Leaf::decode(&leaf) {
        Ok(Leaf::Denial(denial)) => denial.reasons,
        _ => Vec::new(),
    };
    let mut problem =
        Fail::new(StatusCode::FORBIDDEN, "denied", "policy refused this request").into_problem();
    problem.reasons = reasons;
    problem.entry = Some(entry);
    Ok(problem)
}

/// How a request ended that will not be tried again: `unknown`, `failed:CODE` or `refused:CODE`, as the log's outcomes
/// have it.
fn failure(kind: &str) -> Problem {
    let (end, code) = kind.split_once(':').unwrap_or((kind, ""));
    let (problem, happened) = match end {
        "unknown" => ("unknown-outcome", "three tries ended without a word from the token".to_owned()),
        "refused" => (
            "keeper-refused",
            format!("the signing keeper refused three times ({code}), before any key was used"),
        ),
        _ => ("signing-failed", format!("three tries ended without a signature ({code})")),
    };
    let next = "the keeper's log and `chancery doctor` have more; ask again with a new Idempotency-Key when it is mended";
    Fail::new(StatusCode::SERVICE_UNAVAILABLE, problem, &format!("{happened}; {next}")).into_problem()
}

/// `POST /v1/repositories`: 201 when clients can see the new, empty collection.
pub(super) async fn create_repository(
    State(service): State<App>,
    CallerProof(proof): CallerProof,
    StrictJson(body): StrictJson<NewRepository>,
) -> Result<Response, Fail> {
    let repository = body.repository;
    let work = tokio::spawn(make_collection(service.clone(), proof, repository.clone()));
    work.await.map_err(|_| Fail::audit_unavailable("the request was interrupted"))??;
    let info = info(&service, &repository).await?;
    Ok((StatusCode::CREATED, Json(info)).into_response())
}

async fn make_collection(service: App, proof: Proof, repository: Repository) -> Result<(), Fail> {
    if let Some(why) = service.health.log_problem() {
        return Err(Fail::audit_unavailable(&why));
    }
    let now = service.clock.now();
    if let Some(why) = service.log.clock_problem(now) {
        return Err(Fail::clock(&why));
    }
    let who = Authenticated::new(proof);
    let ask = Ask::CreateRepository { collection_exists: collection_exists(&service, &repository).await? };
    let id = RequestId::new(now);
    let roll = Roll::of_callers(&service.log, &service.refusals);
    let decided =
        Allowed::decide(&who, id, repository.clone(), ask, &service.policy.current(), &roll, now).await?;
    let allowed = decided.map_err(Fail::denied)?;
    keys_answer(&service, &repository).await?;
    let made = tokio::select! {
        made = service.publisher.create(Approved::without_people(allowed)) => made,
        () = service.health.until_sealed() => Err("sealed".into()),
    };
    if made.is_err() {
        ends_some_time(&service)?;
    }
    made.map_err(|why| Fail::new(StatusCode::SERVICE_UNAVAILABLE, "token-unavailable", &why).retryable())
}

/// `GET /v1/repositories?name=GUN`.
pub(super) async fn show_repository(
    State(service): State<App>,
    _caller: CallerProof,
    Query(name): Query<Name>,
) -> Result<Json<RepositoryInfo>, Fail> {
    let repository = Repository::parse(&name.name).map_err(|e| Fail::bad(&e.to_string()))?;
    Ok(Json(info(&service, &repository).await?))
}

async fn info(service: &Service, repository: &Repository) -> Result<RepositoryInfo, Fail> {
    let missing =
        || Fail::not_found("this repository has no collection yet: `chancery repo create` makes one");
    let noted = service.log.noted_size();
    let root = service.store.published_root(repository, noted).await?.ok_or_else(missing)?;
    let timestamp = service.store.published(repository, noted).await?;
    let collection = service.store.collection(repository).await?;
    let certificate = match collection.certificate {
        Some(sha256) => service.store.blob(&sha256).await?.unwrap_or_default(),
        None => Vec::new(),
    };
    let version = |role| collection.newest(role).map_or(0, |f| f.version);
    Ok(RepositoryInfo {
        repository: repository.clone(),
        root_sha256: root.file.sha256,
        root_certificate_id: formats::dct::certificate_key_id(&certificate),
        versions: Versions {
            root: root.version,
            targets: timestamp.as_ref().map_or(0, |t| t.targets_version),
            snapshot: version(Role::Snapshot),
            timestamp: timestamp.as_ref().map_or(0, |t| t.version),
        },
        timestamp_expires: timestamp.map(|t| t.expires),
    })
}
