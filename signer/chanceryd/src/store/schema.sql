-- Format 2. Everything but `request` rows in state ready, idempotency keys, generations and the credentials of CI jobs is a
-- projection of the leaves: the same code fills it when a leaf is committed and when the log is refilled from the keeper's spool.

CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    format INTEGER NOT NULL,
    origin TEXT NOT NULL,
    vkey TEXT NOT NULL,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    note TEXT NOT NULL
) STRICT;

CREATE TABLE leaf (idx INTEGER PRIMARY KEY, hash BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;

-- Hashes of full tiles: (level, idx) is the root of the 256^level leaves from idx * 256^level on; level >= 1.
CREATE TABLE node (level INTEGER NOT NULL, idx INTEGER NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (level, idx)) STRICT, WITHOUT ROWID;

-- Signed payloads and signed files, by their SHA-256. Never deleted.
CREATE TABLE blob (sha256 BLOB PRIMARY KEY, bytes BLOB NOT NULL) STRICT;

-- end_kind `former`: no intent of this log, but the highest one that a former log let reach a key, of a role without a file.
CREATE TABLE intent (
    idx INTEGER PRIMARY KEY,
    keeper TEXT NOT NULL,
    key BLOB NOT NULL,
    payload BLOB NOT NULL,
    repository TEXT NOT NULL,
    purpose TEXT NOT NULL,
    version INTEGER,
    end_leaf INTEGER,
    end_kind TEXT
) STRICT;
CREATE UNIQUE INDEX intent_one_open ON intent (key, payload) WHERE end_leaf IS NULL;
CREATE INDEX intent_open ON intent (keeper) WHERE end_leaf IS NULL;
CREATE INDEX intent_open_in ON intent (repository) WHERE end_leaf IS NULL;
CREATE INDEX intent_signed ON intent (keeper) WHERE end_kind = 'signed';
CREATE INDEX intent_role ON intent (repository, purpose, version);

-- Signed metadata files. targets_version: which targets a snapshot or timestamp leads to. below: SHA-256 of the
-- snapshot that a timestamp names, or of the targets that a snapshot names.
CREATE TABLE file (
    repository TEXT NOT NULL,
    role TEXT NOT NULL,
    version INTEGER NOT NULL,
    payload BLOB NOT NULL,
    sha256 BLOB NOT NULL,
    length INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    intent INTEGER NOT NULL,
    completion INTEGER NOT NULL,
    targets_version INTEGER NOT NULL,
    below BLOB,
    PRIMARY KEY (repository, role, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX file_by_hash ON file (repository, sha256);
CREATE INDEX file_by_payload ON file (repository, payload);

CREATE TABLE certificate (repository TEXT PRIMARY KEY, sha256 BLOB NOT NULL, completion INTEGER NOT NULL) STRICT;

-- What the newest recorded targets file says.
CREATE TABLE tag (repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (repository, tag)) STRICT, WITHOUT ROWID;

-- caller: who asked, as JSON of policy's facts. Null for an API token, which is looked at again, and for rows that a leaf made.
CREATE TABLE request (
    id TEXT PRIMARY KEY,
    principal TEXT NOT NULL,
    caller TEXT,
    idempotency_key TEXT,
    fingerprint BLOB,
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    intent INTEGER,
    retries INTEGER,
    targets_version INTEGER,
    completion INTEGER,
    denied INTEGER,
    problem TEXT
) STRICT;
CREATE UNIQUE INDEX request_idempotency ON request (principal, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX request_waiting ON request (repository, id) WHERE intent IS NULL AND denied IS NULL AND problem IS NULL;
CREATE INDEX request_by_intent ON request (intent);

CREATE TABLE token (
    id TEXT PRIMARY KEY,
    secret_sha256 BLOB NOT NULL,
    scopes TEXT NOT NULL,
    repositories TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    note TEXT NOT NULL,
    created INTEGER NOT NULL,
    revoked INTEGER
) STRICT;

-- The highest generation of its journal that a signing keeper has told. Not a projection: nobody else knows it.
CREATE TABLE generation (keeper TEXT PRIMARY KEY, told INTEGER NOT NULL) STRICT;

CREATE TABLE keeper (name TEXT PRIMARY KEY, record TEXT NOT NULL, leaf INTEGER NOT NULL) STRICT;

-- Tokens of CI issuers that were exchanged, until nobody would accept them any more. Not a projection, and in no backup.
CREATE TABLE used_token (issuer TEXT NOT NULL, token_id TEXT NOT NULL, forgotten_ms INTEGER NOT NULL, PRIMARY KEY (issuer, token_id)) STRICT, WITHOUT ROWID;
CREATE INDEX used_token_forgotten ON used_token (forgotten_ms);

-- What they were exchanged for. ci: the job, as JSON. Not a projection, and in no backup.
CREATE TABLE session (secret_sha256 BLOB PRIMARY KEY, principal TEXT NOT NULL, ci TEXT NOT NULL, expires_ms INTEGER NOT NULL) STRICT;

-- Secrets that are good to read one request. Not a projection, and in no backup.
CREATE TABLE poll_token (secret_sha256 BLOB PRIMARY KEY, request TEXT NOT NULL, expires_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX poll_token_ends ON poll_token (expires_ms);

-- One row (id 1) in a database that was rolled back or restored: it does not know which tokens issued before were used.
CREATE TABLE token_floor (id INTEGER PRIMARY KEY CHECK (id = 1), since_ms INTEGER NOT NULL) STRICT;
