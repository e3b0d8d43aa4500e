"""All that depends on which database it is: how it is opened, how a transaction begins, what its errors mean.

SQLite: write-ahead log, so that readers and the one writer do not wait for each other; synchronous=FULL, because NORMAL
can lose an acknowledged intent when the power fails; transactions that write begin IMMEDIATE, because one that reads
first and writes later can be refused in its middle.
"""

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from orchestrator.errors import StoreError, UsageError

BUSY_MS = 5000
"""How long a transaction waits for another process's."""
_BEGIN = "rollout_begin"
_WRITE = "write sqlite:////absolute/path/rollouts.db, or unset it"


def parse(url: str) -> URL:
    """Raises UsageError when it is not the URL of a SQLite file."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UsageError(f"ROLLOUT_STORE is not a database URL: {_WRITE}") from error
    if parsed.get_backend_name() != "sqlite":
        kind = parsed.get_backend_name()
        raise UsageError(f"ROLLOUT_STORE names a {kind} database, which this version cannot use: {_WRITE}")
    if not parsed.database or parsed.database == ":memory:" or parsed.query:
        raise UsageError(f"ROLLOUT_STORE has to name a file, without options: {_WRITE}")
    return parsed.set(drivername="sqlite+pysqlite")


def engine(url: URL) -> Engine:
    """An engine of one connection. Makes the file, and the directories above it that are missing, for their owner only.

    Raises StoreError when they cannot be made.
    """
    path = Path(url.database or "")
    try:
        _make_directory(path.parent)
        # SQLite gives the -wal and -shm files beside it the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"the store {path} cannot be opened ({error.strerror}): {_remedy(error)}") from error
    made = create_engine(
        url, poolclass=QueuePool, pool_size=1, max_overflow=0, connect_args={"check_same_thread": False}
    )
    event.listen(made, "connect", _on_connect)
    event.listen(made, "begin", _on_begin)
    return made


def writing(base: Engine) -> Engine:
    """The same connection, whose transactions take the write lock at once."""
    return base.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})


def migrating(base: Engine) -> Engine:
    """The same connection, whose transactions keep everybody else from writing, and from migrating."""
    return base.execution_options(**{_BEGIN: "BEGIN EXCLUSIVE"})


def upsert(table: Table) -> Insert:
    """An INSERT that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return insert(table)


def use_write_ahead_log(base: Engine) -> None:
    """The file remembers it, so this changes something only the first time. Raises StoreError."""
    with base.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        cursor = raw.cursor()
        try:
            mode = _journal_mode(cursor)
        finally:
            cursor.close()
    if mode != "wal":
        raise StoreError(f"the store {base.url.database} cannot keep a write-ahead log here: put it on a local disk")


def _journal_mode(cursor: Any) -> str:
    # Changing the mode does not wait for a lock as all else does, and another process may be opening the new file.
    for tries_left in range(99, -1, -1):
        try:
            return str(cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if not _code(error).startswith("SQLITE_BUSY") or not tries_left:
                raise
            cursor.execute("BEGIN IMMEDIATE")  # waits until the other one is done
            cursor.execute("ROLLBACK")
    raise AssertionError("unreachable")


def failure(error: SQLAlchemyError | sqlite3.Error, where: str) -> StoreError:
    """What it means, and what to do, in one sentence."""
    original = error.orig if isinstance(error, DBAPIError) else error
    code = _code(original)
    for prefix, meaning in _MEANINGS.items():
        if code.startswith(prefix):
            return StoreError(f"the store {where} {meaning}")
    said = str(original).splitlines()[0] if str(original) else type(original).__name__
    return StoreError(f"the store {where} failed ({said}): try again, and if it stays so run `rollout doctor`")


_MEANINGS = {
    "SQLITE_BUSY": f"is locked: another process has been writing to it for more than {BUSY_MS // 1000} s; try again",
    "SQLITE_LOCKED": "is locked by another connection; try again",
    "SQLITE_FULL": "cannot grow: the disk is full; make room and try again",
    "SQLITE_NOTADB": "is not a database: name another file in ROLLOUT_STORE, or move this one away",
    "SQLITE_CORRUPT": "is damaged: move it away, restore a copy, or begin with a new one",
    "SQLITE_READONLY": "is read-only: make the file and its directory writable for this user",
    "SQLITE_PERM": "may not be opened by this user: change its owner or mode, or name another in ROLLOUT_STORE",
    "SQLITE_AUTH": "may not be opened by this user: change its owner or mode, or name another in ROLLOUT_STORE",
    "SQLITE_CANTOPEN": "cannot be opened: see that its directory is there and that this user may write to it",
    "SQLITE_IOERR": "cannot be read or written: the disk reports an error; look at the system's log",
}


def _code(error: BaseException | None) -> str:
    return getattr(error, "sqlite_errorname", None) or ""


def _remedy(error: OSError) -> str:
    if isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError):
        return "name a file in a directory in ROLLOUT_STORE"
    if isinstance(error, PermissionError):
        return "make it and its directory writable for this user, or name another in ROLLOUT_STORE"
    return "see that its directory can be written to and has room"


def _make_directory(directory: Path) -> None:
    missing = [parent for parent in (directory, *directory.parents) if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(mode=0o700, exist_ok=True)


def _on_connect(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute(
        "PRAGMA wal_autocheckpoint = 4000"
    )  # pages: a commit writes about ten, the default would be 100 commits
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))
