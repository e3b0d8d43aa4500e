"""The tables as SQLAlchemy Core knows them, for building statements.

The migrations make them and are the authority on types, keys and constraints; a test compares the two. Times are
microseconds since 1970, UTC.
"""

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

METADATA = MetaData()


def _table(name: str, *columns: str | tuple[str, type[Integer]]) -> Table:
    typed = (Column(column, Text) if isinstance(column, str) else Column(*column) for column in columns)
    return Table(name, METADATA, *typed)


SCHEMA_VERSION = _table("schema_version", ("version", Integer))
STORE = _table("store", "id")
BUNDLES = _table("bundles", "sha256", "body")
WORKERS = _table("workers", "id", "host", "boot_id", ("pid", Integer), "pid_started", ("beat", BigInteger))
ENDPOINTS = _table("endpoints", "identity", "provider", "name", ("epoch", BigInteger), "active_rollout")
ROLLOUTS = _table(
    "rollouts",
    "id",
    ("n", BigInteger),
    "name",
    "endpoint",
    "bundle",
    "phase",
    ("stage", Integer),
    ("epoch", BigInteger),
    "worker",
    ("last_seq", BigInteger),
    "state",
    ("started_at", BigInteger),
    ("updated_at", BigInteger),
)
EVENTS = _table(
    "events",
    "rollout",
    ("seq", BigInteger),
    "id",
    ("v", Integer),
    "kind",
    ("at", BigInteger),
    "actor",
    ("epoch", BigInteger),
    "body",
)
INTENTS = _table("intents", "id", "rollout", ("n", Integer), ("epoch", BigInteger), "state", "body")
COMMANDS = _table(
    "commands",
    "id",
    ("n", BigInteger),
    "rollout",
    "kind",
    "args",
    "actor",
    ("at", BigInteger),
    ("consumed_seq", BigInteger),
    "outcome",
)
MEASUREMENTS = _table(
    "measurements",
    "rollout",
    ("seq", BigInteger),
    ("stage", Integer),
    ("start_at", BigInteger),
    ("end_at", BigInteger),
    "body",
)
EVIDENCE = _table("evidence", "rollout", ("measurement_seq", BigInteger), "cursor", "gates")
