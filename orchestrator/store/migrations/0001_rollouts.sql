-- The first schema. Statements end with a semicolon at the end of a line; nothing else does.
-- Times are microseconds since 1970 in UTC; columns named body, state, args, cursor and gates hold JSON.
-- What is queried or compared is a column; all else stays in the JSON, so that a new field needs no migration.

CREATE TABLE store (
    id TEXT PRIMARY KEY
);

CREATE TABLE bundles (
    sha256 TEXT PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    pid INTEGER NOT NULL,
    pid_started TEXT NOT NULL,
    beat BIGINT NOT NULL
);

-- active_rollout refers to rollouts, which refer to endpoints: a circle cannot be declared portably, so this half is
-- kept by the transactions that write it.
CREATE TABLE endpoints (
    identity TEXT PRIMARY KEY,
    provider TEXT NOT NULL,
    name TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    active_rollout TEXT UNIQUE
);

CREATE TABLE rollouts (
    id TEXT PRIMARY KEY,
    n BIGINT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    endpoint TEXT NOT NULL REFERENCES endpoints (identity),
    bundle TEXT NOT NULL REFERENCES bundles (sha256),
    phase TEXT NOT NULL CHECK (
        phase IN ('pending', 'running', 'paused', 'rolling_back', 'succeeded', 'rolled_back', 'failed')
    ),
    stage INTEGER NOT NULL,
    epoch BIGINT NOT NULL,
    worker TEXT REFERENCES workers (id),
    last_seq BIGINT NOT NULL,
    state TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE UNIQUE INDEX one_active ON rollouts (endpoint) WHERE phase IN ('pending', 'running', 'paused', 'rolling_back');

CREATE INDEX rollouts_of_endpoint ON rollouts (endpoint, n);

CREATE TABLE events (
    rollout TEXT NOT NULL REFERENCES rollouts (id),
    seq BIGINT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    v INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (rollout, seq)
);

CREATE TABLE intents (
    id TEXT PRIMARY KEY,
    rollout TEXT NOT NULL REFERENCES rollouts (id),
    n INTEGER NOT NULL,
    epoch BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'begun', 'done', 'failed', 'superseded')),
    body TEXT NOT NULL,
    UNIQUE (rollout, n)
);

CREATE TABLE commands (
    id TEXT PRIMARY KEY,
    n BIGINT NOT NULL UNIQUE,
    rollout TEXT NOT NULL REFERENCES rollouts (id),
    kind TEXT NOT NULL CHECK (kind IN ('abort', 'pause', 'resume', 'approve')),
    args TEXT NOT NULL,
    actor TEXT NOT NULL,
    at BIGINT NOT NULL,
    consumed_seq BIGINT,
    outcome TEXT
);

CREATE INDEX commands_pending ON commands (rollout, n) WHERE consumed_seq IS NULL;

CREATE TABLE measurements (
    rollout TEXT NOT NULL REFERENCES rollouts (id),
    seq BIGINT NOT NULL,
    stage INTEGER NOT NULL,
    start_at BIGINT NOT NULL,
    end_at BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (rollout, seq)
);

CREATE TABLE evidence (
    rollout TEXT PRIMARY KEY REFERENCES rollouts (id),
    measurement_seq BIGINT NOT NULL,
    cursor TEXT NOT NULL,
    gates TEXT NOT NULL
);
