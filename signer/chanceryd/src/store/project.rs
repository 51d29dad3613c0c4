//! What a leaf means for the other tables. The same code runs when a leaf is committed and when the log is refilled
//! from the keeper's spool, so that what a client sees is always a function of the log.

use super::{NewLeaf, Rejected, StoreError, adopt, checked, rows, signed, tuf, tuf::FileRow, unsigned};
use record::{
    Action, Change, Completion, Denial, Digest, Event, FileRef, Intent, KeeperRecord, Leaf, Outcome,
    OutcomeKind, PayloadDigest, Repository, Sha256, Tag,
    wire::{Blob, Child, Extra},
};
use sqlx::{Row, SqliteConnection};

/// Intents for one request that may end without a signature before it fails.
const MAX_ATTEMPTS: i64 = 3;

/// Whether a leaf may be appended: each intent ends once, and only one intent is open for a key and payload.
pub(super) async fn check(
    connection: &mut SqliteConnection,
    leaf: &Leaf,
) -> Result<Result<(), Rejected>, StoreError> {
    Ok(match leaf {
        // INVARIANT(one-open): completions carry no intent index; they match because there is only one.
        Leaf::Intent(intent) => match open_intent(connection, intent.key.sha256(), intent.digest()).await? {
            Some(_) => Err(Rejected::Open),
            None => Ok(()),
        },
        Leaf::Completion(c) => {
            open_intent(connection, c.key().sha256(), c.digest()).await?.map(|_| ()).ok_or(Rejected::NoIntent)
        }
        Leaf::Outcome(o) => {
            let sql = "SELECT end_leaf IS NULL FROM intent WHERE idx = ?";
            let open: Option<bool> =
                sqlx::query_scalar(sql).bind(signed(o.intent)).fetch_optional(connection).await?;
            open.ok_or(Rejected::NoIntent).and_then(|open| if open { Ok(()) } else { Err(Rejected::Closed) })
        }
        Leaf::Genesis(_) | Leaf::Denial(_) | Leaf::Event(_) => Ok(()),
    })
}

/// The keys that keepers have presented, read once a transaction and again after a leaf that changes them.
#[derive(Default)]
pub(super) struct Presented(Option<formats::Keys>);

impl Presented {
    async fn keys(&mut self, connection: &mut SqliteConnection) -> Result<&formats::Keys, StoreError> {
        match &mut self.0 {
            Some(keys) => Ok(keys),
            none => Ok(none.insert(all_keys(connection).await?)),
        }
    }
}

/// Applies a leaf that was placed at `index`.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    presented: &mut Presented,
    index: u64,
    new: &NewLeaf,
) -> Result<(), StoreError> {
    if matches!(new.leaf, Leaf::Genesis(_) | Leaf::Event(Event::Keeper { .. })) {
        *presented = Presented::default();
    }
    match &new.leaf {
        Leaf::Genesis(genesis) => {
            for keeper in &genesis.keepers {
                put_keeper(connection, index, keeper).await?;
            }
            Ok(())
        }
        Leaf::Intent(intent) => open(connection, presented, index, intent, new.payload.as_deref()).await,
        Leaf::Completion(completion) => complete(connection, index, completion).await,
        Leaf::Outcome(outcome) => end(connection, index, outcome).await,
        Leaf::Denial(denial) => deny(connection, index, denial).await,
        Leaf::Event(event) => happen(connection, index, event).await,
    }
}

async fn open_intent(
    connection: &mut SqliteConnection,
    key: Sha256,
    payload: PayloadDigest,
) -> Result<Option<u64>, StoreError> {
    let index: Option<i64> =
        sqlx::query_scalar("SELECT idx FROM intent WHERE key = ? AND payload = ? AND end_leaf IS NULL")
            .bind(key.as_bytes().to_vec())
            .bind(payload.as_bytes().to_vec())
            .fetch_optional(connection)
            .await?;
    Ok(index.map(unsigned))
}

async fn open(
    connection: &mut SqliteConnection,
    presented: &mut Presented,
    index: u64,
    intent: &Intent,
    payload: Option<&[u8]>,
) -> Result<(), StoreError> {
    let payload = match payload {
        Some(bytes) => bytes.to_vec(),
        None => rebuild_payload(connection, presented, intent).await?,
    };
    put_blob(connection, &payload).await?;
    sqlx::query("INSERT INTO intent (idx, keeper, key, payload, repository, purpose, version) VALUES (?, ?, ?, ?, ?, ?, ?)")
        .bind(signed(index))
        .bind(intent.keeper.as_str())
        .bind(intent.key.sha256().as_bytes().to_vec())
        .bind(intent.digest().as_bytes().to_vec())
        .bind(intent.repository.as_str())
        .bind(intent.purpose.as_str())
        .bind(intent.action.version().map(signed))
        .execute(&mut *connection)
        .await?;
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

async fn complete(
    connection: &mut SqliteConnection,
    index: u64,
    completion: &Completion,
) -> Result<(), StoreError> {
    let contradiction = || StoreError::Contradiction(format!("completion {index} has no open intent"));
    let at = open_intent(connection, completion.key().sha256(), completion.digest())
        .await?
        .ok_or_else(contradiction)?;
    let intent = read_intent(connection, at).await?;
    close(connection, at, index, "signed").await?;
    let payload = read_blob(connection, &intent.payload).await?;
    let extra = seal_extra(connection, &intent).await?;
    let file = formats::seal(&intent, &extra, &payload, completion.spki(), completion.signature())
        .map_err(|e| StoreError::Contradiction(format!("intent {at} gives no file: {e}")))?;
    put_blob(connection, &file).await?;
    match &intent.action {
        Action::RootCertificate { .. } => put_certificate(connection, &intent.repository, &file, index).await,
        _ => put_file(connection, at, index, &intent, &file).await,
    }
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
    at: u64,
    index: u64,
    intent: &Intent,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let (below, targets_version) = match &intent.action {
        Action::Targets { version, .. } => (None, *version),
        Action::Snapshot { targets: child, .. } | Action::Timestamp { snapshot: child, .. } => {
            (Some(child.sha256), leads_to(connection, &intent.repository, &child.sha256).await?)
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
    tuf::insert_file(connection, &intent.repository, &row).await?;
    if let Action::Targets { changes, .. } = &intent.action {
        for change in changes {
            put_tag(connection, &intent.repository, &change.tag, &change.digest).await?;
        }
        sqlx::query("UPDATE request SET completion = ? WHERE intent = ?")
            .bind(signed(index))
            .bind(signed(at))
            .execute(connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn leads_to(
    connection: &mut SqliteConnection,
    repository: &Repository,
    sha256: &Sha256,
) -> Result<u64, StoreError> {
    let version: Option<i64> =
        sqlx::query_scalar("SELECT targets_version FROM file WHERE repository = ? AND sha256 = ?")
            .bind(repository.as_str())
            .bind(sha256.as_bytes().to_vec())
            .fetch_optional(connection)
            .await?;
    version.map(unsigned).ok_or_else(|| {
        StoreError::Contradiction(format!("a signed file names {sha256}, which is not stored"))
    })
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

async fn end(connection: &mut SqliteConnection, index: u64, outcome: &Outcome) -> Result<(), StoreError> {
    let kind = match outcome.outcome {
        OutcomeKind::Failed => "failed",
        OutcomeKind::Unknown => "unknown",
        OutcomeKind::Void => "void",
    };
    close(connection, outcome.intent, index, kind).await?;
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
    intent: u64,
    by: u64,
    kind: &str,
) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE intent SET end_leaf = ?, end_kind = ? WHERE idx = ? AND end_leaf IS NULL")
        .bind(signed(by))
        .bind(kind)
        .bind(signed(intent))
        .execute(connection)
        .await?;
    if done.rows_affected() == 1 {
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

async fn happen(connection: &mut SqliteConnection, index: u64, event: &Event) -> Result<(), StoreError> {
    match event {
        Event::Keeper { keeper, .. } => put_keeper(connection, index, keeper).await,
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
        Event::Adopted(adopted) => adopt::put(connection, index, adopted).await,
        Event::Started { .. }
        | Event::Stopped { .. }
        | Event::Recovered { .. }
        | Event::Unsealed { .. }
        | Event::StoreRolledBack { .. }
        | Event::SpoolRolledBack { .. }
        | Event::TokenTrouble { .. }
        | Event::TokenWell { .. }
        | Event::ClockStepped { .. }
        | Event::RefusalsLimited { .. }
        | Event::RefusalsCounted { .. }
        | Event::WitnessLost { .. }
        | Event::WitnessConflict { .. }
        | Event::WitnessBack { .. }
        | Event::AdoptedPart(_) => Ok(()),
    }
}

async fn put_keeper(
    connection: &mut SqliteConnection,
    index: u64,
    keeper: &KeeperRecord,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO keeper (name, record, leaf) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET record = excluded.record, leaf = excluded.leaf")
        .bind(keeper.name.as_str())
        .bind(to_json(keeper)?)
        .bind(signed(index))
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn put_blob(connection: &mut SqliteConnection, bytes: &[u8]) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO blob (sha256, bytes) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(Sha256::of(bytes).as_bytes().to_vec())
        .bind(bytes)
        .execute(connection)
        .await?;
    Ok(())
}

async fn read_blob(connection: &mut SqliteConnection, sha256: &Sha256) -> Result<Vec<u8>, StoreError> {
    let bytes: Option<Vec<u8>> = sqlx::query_scalar("SELECT bytes FROM blob WHERE sha256 = ?")
        .bind(sha256.as_bytes().to_vec())
        .fetch_optional(connection)
        .await?;
    checked::blob(sha256, bytes)?.ok_or_else(|| {
        StoreError::Contradiction(format!("bytes {sha256} are named in the log and not stored"))
    })
}

async fn read_intent(connection: &mut SqliteConnection, index: u64) -> Result<Intent, StoreError> {
    let sql = "SELECT idx, hash, bytes FROM leaf WHERE idx = ?";
    let row = sqlx::query(sql).bind(signed(index)).fetch_one(connection).await?;
    let (.., bytes) = checked::leaf_row(&row)?;
    match Leaf::decode(&bytes) {
        Ok(Leaf::Intent(intent)) => Ok(intent),
        _ => Err(StoreError::Contradiction(format!("leaf {index} is no intent"))),
    }
}

/// Builds the bytes of an intent again from the log's other leaves, for a refill.
async fn rebuild_payload(
    connection: &mut SqliteConnection,
    presented: &mut Presented,
    intent: &Intent,
) -> Result<Vec<u8>, StoreError> {
    let extra = match &intent.action {
        Action::Targets { prev, .. } => {
            Extra::Targets { prev: previous(connection, &intent.repository, prev.as_ref()).await? }
        }
        Action::Snapshot { root, targets, .. } => Extra::Snapshot {
            root: child(connection, root).await?,
            targets: child(connection, targets).await?,
        },
        Action::Timestamp { snapshot, .. } => {
            Extra::Timestamp { snapshot: child(connection, snapshot).await? }
        }
        Action::Root { .. } | Action::RootCertificate { .. } => seal_extra(connection, intent).await?,
    };
    let keys = presented.keys(connection).await?;
    formats::build(intent, &extra, keys).map_err(|e| {
        StoreError::Contradiction(format!("an intent for {} gives no bytes: {e}", intent.repository))
    })
}

/// What sealing needs: only root metadata looks beyond its own payload.
async fn seal_extra(connection: &mut SqliteConnection, intent: &Intent) -> Result<Extra, StoreError> {
    Ok(match &intent.action {
        Action::Root { certificate, .. } => {
            Extra::Root { certificate: Blob(read_blob(connection, certificate).await?) }
        }
        _ => Extra::RootCertificate {},
    })
}

async fn previous(
    connection: &mut SqliteConnection,
    repository: &Repository,
    payload: Option<&Sha256>,
) -> Result<Option<Blob>, StoreError> {
    let Some(payload) = payload else { return Ok(None) };
    let row = tuf::file_by_payload(connection, repository, payload).await?.ok_or_else(|| {
        StoreError::Contradiction(format!("targets of payload {payload} are named in the log and not stored"))
    })?;
    Ok(Some(Blob(read_blob(connection, &row.file.sha256).await?)))
}

/// A child file for building only: its proof is the keeper's concern.
async fn child(connection: &mut SqliteConnection, file: &FileRef) -> Result<Child, StoreError> {
    let bytes = read_blob(connection, &file.sha256).await?;
    Ok(Child { file: Blob(bytes), index: 0, leaf: Blob(Vec::new()), inclusion: Vec::new() })
}

async fn all_keys(connection: &mut SqliteConnection) -> Result<formats::Keys, StoreError> {
    let rows = sqlx::query("SELECT record FROM keeper").fetch_all(connection).await?;
    let mut spkis = Vec::new();
    for row in rows {
        let keeper: KeeperRecord = rows::json(row.try_get(0)?)?;
        spkis.extend(keeper.keys.into_iter().map(|k| k.spki));
    }
    Ok(spkis.into_iter().collect())
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Contradiction(e.to_string()))
}
