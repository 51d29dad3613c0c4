//! What a leaf means for the other tables. The same code runs when a leaf is committed and when the log is refilled
//! from the keeper's spool, so that what a client sees is always a function of the log.

use super::{NewLeaf, Rejected, StoreError, adopt, batch::Batch, sessions, signed, tuf::FileRow};
use record::{
    Action, Change, Completion, Denial, Digest, Event, FileRef, Intent, Leaf, Outcome, OutcomeKind,
    Repository, Sha256, Tag,
    wire::{Blob, Child, Extra},
};
use sqlx::SqliteConnection;
use std::borrow::Cow;

/// Intents for one request that may end without a signature before it fails.
const MAX_ATTEMPTS: i64 = 3;

/// The intent that a leaf ends, if it may be appended: each intent ends once, and only one is open for a key and payload.
pub(super) async fn check(
    connection: &mut SqliteConnection,
    batch: &Batch<'_>,
    leaf: &Leaf,
) -> Result<Result<Option<u64>, Rejected>, StoreError> {
    Ok(match leaf {
        // INVARIANT(one-open): completions carry no intent index; they match because there is only one.
        Leaf::Intent(intent) => {
            match batch.open_intent(connection, intent.key.sha256(), intent.digest()).await? {
                Some(_) => Err(Rejected::Open),
                None => Ok(None),
            }
        }
        Leaf::Completion(c) => {
            let open = batch.open_intent(connection, c.key().sha256(), c.digest()).await?;
            open.map(Some).ok_or(Rejected::NoIntent)
        }
        Leaf::Outcome(o) => match batch.is_open(connection, o.intent).await? {
            Some(true) => Ok(Some(o.intent)),
            Some(false) => Err(Rejected::Closed),
            None => Err(Rejected::NoIntent),
        },
        Leaf::Genesis(_) | Leaf::Denial(_) | Leaf::Allowance(_) | Leaf::Event(_) => Ok(None),
    })
}

/// Applies a leaf that was placed at `index`, and that ends the intent that [`check`] has found.
pub(super) async fn apply<'a>(
    connection: &mut SqliteConnection,
    batch: &mut Batch<'a>,
    index: u64,
    ends: Option<u64>,
    new: &'a NewLeaf,
) -> Result<(), StoreError> {
    match (&new.leaf, ends) {
        (Leaf::Genesis(genesis), _) => {
            for keeper in &genesis.keepers {
                batch.put_keeper(connection, index, keeper).await?;
            }
            Ok(())
        }
        (Leaf::Intent(intent), _) => open(connection, batch, index, intent, new.payload.as_deref()).await,
        (Leaf::Completion(completion), Some(intent)) => {
            complete(connection, batch, intent, index, completion).await
        }
        (Leaf::Outcome(outcome), Some(_)) => end(connection, batch, index, outcome).await,
        (leaf @ (Leaf::Completion(_) | Leaf::Outcome(_)), None) => {
            Err(StoreError::Contradiction(format!("leaf {index}, {}, ends nothing", leaf.kind())))
        }
        (Leaf::Denial(denial), _) => deny(connection, index, denial).await,
        (Leaf::Allowance(_), _) => Ok(()),
        (Leaf::Event(event), _) => happen(connection, batch, index, event).await,
    }
}

async fn open<'a>(
    connection: &mut SqliteConnection,
    batch: &mut Batch<'a>,
    index: u64,
    intent: &'a Intent,
    payload: Option<&[u8]>,
) -> Result<(), StoreError> {
    let payload = match payload {
        Some(bytes) => bytes.to_vec(),
        None => rebuild_payload(connection, batch, intent).await?,
    };
    batch.put_blob(payload);
    batch.put_intent(index, intent);
    if let Action::Targets { version, changes, .. } = &intent.action {
        for change in changes {
            start_request(connection, index, *version, intent, change).await?;
        }
    }
    Ok(())
}

async fn start_request(
    connection: &mut SqliteConnection,
    index: u64,
    version: u64,
    intent: &Intent,
    change: &Change,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO request (id, principal, repository, tag, digest, size, media_type, created_ms, attempts, intent, targets_version)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?)
         ON CONFLICT (id) DO UPDATE SET attempts = attempts + 1, intent = excluded.intent, targets_version = excluded.targets_version",
    )
    .bind(change.requested.request.as_str())
    .bind(change.requested.by.as_str())
    .bind(intent.repository.as_str())
    .bind(change.tag.as_str())
    .bind(change.digest.to_string())
    .bind(signed(change.size))
    .bind(&change.media_type)
    .bind(intent.time.unix_ms())
    .bind(signed(index))
    .bind(signed(version))
    .execute(connection)
    .await?;
    Ok(())
}

async fn complete<'a>(
    connection: &mut SqliteConnection,
    batch: &mut Batch<'a>,
    at: u64,
    index: u64,
    completion: &'a Completion,
) -> Result<(), StoreError> {
    let intent = match batch.intent(at) {
        Some(held) => Cow::Borrowed(held),
        None => Cow::Owned(read_intent(connection, batch, at).await?),
    };
    close(connection, batch, at, index, "signed").await?;
    let payload = batch.blob(connection, &intent.payload).await?;
    let extra = seal_extra(connection, batch, &intent).await?;
    batch.put_completion(index, completion);
    let file = formats::assemble(&intent, &extra, &payload, completion.spki(), completion.signature())
        .map_err(|e| StoreError::Contradiction(format!("intent {at} gives no file: {e}")))?;
    match &intent.action {
        Action::RootCertificate { .. } => {
            put_certificate(connection, &intent.repository, &file, index).await?;
        }
        _ => put_file(connection, batch, at, index, &intent, &file).await?,
    }
    batch.put_blob(file);
    Ok(())
}

pub(super) async fn put_certificate(
    connection: &mut SqliteConnection,
    repository: &Repository,
    der: &[u8],
    index: u64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO certificate (repository, sha256, completion) VALUES (?, ?, ?) ON CONFLICT (repository) DO UPDATE SET sha256 = excluded.sha256, completion = excluded.completion")
        .bind(repository.as_str())
        .bind(Sha256::of(der).as_bytes().to_vec())
        .bind(signed(index))
        .execute(connection)
        .await?;
    Ok(())
}

async fn put_file(
    connection: &mut SqliteConnection,
    batch: &mut Batch<'_>,
    at: u64,
    index: u64,
    intent: &Intent,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let repository = &intent.repository;
    let (below, targets_version) = match &intent.action {
        Action::Targets { version, .. } => (None, *version),
        Action::Snapshot { targets: child, .. } | Action::Timestamp { snapshot: child, .. } => {
            (Some(child.sha256), batch.leads_to(connection, repository, &child.sha256).await?)
        }
        Action::Root { .. } | Action::RootCertificate { .. } => (None, 0),
    };
    let Some(version) = intent.action.version() else {
        return Err(StoreError::Contradiction(format!("intent {at} has no version")));
    };
    let row = FileRow {
        role: intent.purpose,
        version,
        payload: intent.payload,
        file: FileRef::of(bytes),
        created: intent.time,
        expires: intent.action.expires(),
        intent: at,
        completion: index,
        targets_version,
        below,
    };
    batch.put_file(repository.clone(), row);
    if let Action::Targets { changes, .. } = &intent.action {
        for change in changes {
            put_tag(connection, repository, &change.tag, &change.digest).await?;
        }
        sqlx::query("UPDATE request SET completion = ? WHERE intent = ?")
            .bind(signed(index))
            .bind(signed(at))
            .execute(connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn put_tag(
    connection: &mut SqliteConnection,
    repository: &Repository,
    tag: &Tag,
    digest: &Digest,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO tag (repository, tag, digest) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest")
        .bind(repository.as_str())
        .bind(tag.as_str())
        .bind(digest.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

async fn end(
    connection: &mut SqliteConnection,
    batch: &mut Batch<'_>,
    index: u64,
    outcome: &Outcome,
) -> Result<(), StoreError> {
    let kind = match outcome.outcome {
        OutcomeKind::Failed => "failed",
        OutcomeKind::Unknown => "unknown",
        OutcomeKind::Void => "void",
    };
    close(connection, batch, outcome.intent, index, kind).await?;
    // A crash's void counts against nobody; one with a code is the keeper's refusal, which may come again.
    let counted = i64::from(outcome.outcome != OutcomeKind::Void || outcome.code.is_some());
    let problem = match &outcome.code {
        Some(code) if outcome.outcome == OutcomeKind::Void => format!("refused:{code}"),
        Some(code) => format!("{kind}:{code}"),
        None => kind.to_owned(),
    };
    sqlx::query(
        "UPDATE request SET intent = NULL, targets_version = NULL, retries = ?1, attempts = attempts - 1 + ?2,
         problem = CASE WHEN ?2 = 1 AND attempts >= ?3 THEN ?4 END WHERE intent = ?1",
    )
    .bind(signed(outcome.intent))
    .bind(counted)
    .bind(MAX_ATTEMPTS)
    .bind(problem)
    .execute(connection)
    .await?;
    Ok(())
}

async fn close(
    connection: &mut SqliteConnection,
    batch: &mut Batch<'_>,
    intent: u64,
    by: u64,
    kind: &'static str,
) -> Result<(), StoreError> {
    if batch.close(connection, intent, by, kind).await? {
        Ok(())
    } else {
        Err(StoreError::Contradiction(format!("leaf {by} closes intent {intent}, which is not open")))
    }
}

async fn deny(connection: &mut SqliteConnection, index: u64, denial: &Denial) -> Result<(), StoreError> {
    let (Some(tag), Some(digest)) = (&denial.tag, &denial.digest) else { return Ok(()) };
    sqlx::query(
        "INSERT INTO request (id, principal, repository, tag, digest, size, media_type, created_ms, denied)
         VALUES (?, ?, ?, ?, ?, 0, '', ?, ?) ON CONFLICT (id) DO UPDATE SET denied = excluded.denied",
    )
    .bind(denial.request.as_str())
    .bind(denial.by.as_str())
    .bind(denial.repository.as_str())
    .bind(tag.as_str())
    .bind(digest.to_string())
    .bind(denial.time.unix_ms())
    .bind(signed(index))
    .execute(connection)
    .await?;
    Ok(())
}

async fn happen(
    connection: &mut SqliteConnection,
    batch: &mut Batch<'_>,
    index: u64,
    event: &Event,
) -> Result<(), StoreError> {
    match event {
        Event::Keeper { keeper, .. } => batch.put_keeper(connection, index, keeper).await,
        Event::TokenCreated { token, secret_sha256, scopes, repositories, expires, note, .. } => {
            sqlx::query("INSERT INTO token (id, secret_sha256, scopes, repositories, expires_ms, note, created) VALUES (?, ?, ?, ?, ?, ?, ?)")
                .bind(token.as_str())
                .bind(secret_sha256.as_bytes().to_vec())
                .bind(to_json(scopes)?)
                .bind(to_json(repositories)?)
                .bind(expires.unix_ms())
                .bind(note)
                .bind(signed(index))
                .execute(connection)
                .await?;
            Ok(())
        }
        Event::TokenRevoked { token, .. } => {
            sqlx::query("UPDATE token SET revoked = ? WHERE id = ? AND revoked IS NULL")
                .bind(signed(index))
                .bind(token.as_str())
                .execute(connection)
                .await?;
            Ok(())
        }
        Event::StoreRolledBack { time, .. } => sessions::refuse_issued_before(connection, *time).await,
        Event::Adopted(adopted) => adopt::put(connection, batch, index, adopted).await,
        Event::AdoptedReservation(reservation) => adopt::reserve(connection, batch, index, reservation).await,
        Event::Started { .. }
        | Event::Stopped { .. }
        | Event::Recovered { .. }
        | Event::Unsealed { .. }
        | Event::SpoolRolledBack { .. }
        | Event::TokenTrouble { .. }
        | Event::TokenWell { .. }
        | Event::PolicyChanged { .. }
        | Event::ClockStepped { .. }
        | Event::RefusalsLimited { .. }
        | Event::RefusalsCounted { .. }
        | Event::WitnessLost { .. }
        | Event::WitnessConflict { .. }
        | Event::WitnessBack { .. }
        | Event::AdoptedPart(_) => Ok(()),
    }
}

async fn read_intent(
    connection: &mut SqliteConnection,
    batch: &Batch<'_>,
    index: u64,
) -> Result<Intent, StoreError> {
    match Leaf::decode(&batch.leaf(connection, index).await?) {
        Ok(Leaf::Intent(intent)) => Ok(intent),
        _ => Err(StoreError::Contradiction(format!("leaf {index} is no intent"))),
    }
}

/// Builds the bytes of an intent again from the log's other leaves, for a refill.
async fn rebuild_payload(
    connection: &mut SqliteConnection,
    batch: &mut Batch<'_>,
    intent: &Intent,
) -> Result<Vec<u8>, StoreError> {
    let extra = match &intent.action {
        Action::Targets { prev, .. } => {
            Extra::Targets { prev: previous(connection, batch, &intent.repository, prev.as_ref()).await? }
        }
        Action::Snapshot { root, targets, .. } => Extra::Snapshot {
            root: child(connection, batch, root).await?,
            targets: child(connection, batch, targets).await?,
        },
        Action::Timestamp { snapshot, .. } => {
            Extra::Timestamp { snapshot: child(connection, batch, snapshot).await? }
        }
        Action::Root { .. } | Action::RootCertificate { .. } => seal_extra(connection, batch, intent).await?,
    };
    let keys = batch.keys(connection).await?;
    formats::build(intent, &extra, keys).map_err(|e| {
        StoreError::Contradiction(format!("an intent for {} gives no bytes: {e}", intent.repository))
    })
}

/// What sealing needs: only root metadata looks beyond its own payload.
async fn seal_extra(
    connection: &mut SqliteConnection,
    batch: &Batch<'_>,
    intent: &Intent,
) -> Result<Extra, StoreError> {
    Ok(match &intent.action {
        Action::Root { certificate, .. } => {
            Extra::Root { certificate: Blob(batch.blob(connection, certificate).await?) }
        }
        _ => Extra::RootCertificate {},
    })
}

async fn previous(
    connection: &mut SqliteConnection,
    batch: &Batch<'_>,
    repository: &Repository,
    payload: Option<&Sha256>,
) -> Result<Option<Blob>, StoreError> {
    let Some(payload) = payload else { return Ok(None) };
    let row = batch.file_by_payload(connection, repository, payload).await?.ok_or_else(|| {
        StoreError::Contradiction(format!("targets of payload {payload} are named in the log and not stored"))
    })?;
    Ok(Some(Blob(batch.blob(connection, &row.file.sha256).await?)))
}

/// A child file for building only: its proof is the keeper's concern.
async fn child(
    connection: &mut SqliteConnection,
    batch: &Batch<'_>,
    file: &FileRef,
) -> Result<Child, StoreError> {
    let bytes = batch.blob(connection, &file.sha256).await?;
    Ok(Child { file: Blob(bytes), index: 0, leaf: Blob(Vec::new()), inclusion: Vec::new() })
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Contradiction(e.to_string()))
}
