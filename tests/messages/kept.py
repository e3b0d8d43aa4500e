"""What the store, the lease and the settings say: about databases, about other drivers, about the journal itself."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from orchestrator.store import dialect, reads
from orchestrator.store.sql import SqlStore
from tests.engine.store_samples import Story
from tests.messages.bench import Bench, direct, real, shop
from tests.messages.entry import Message

TRY_AGAIN = 3
SQLITE = "«write sqlite:////absolute/path/rollouts.db, or unset it»"


def database(*statements: str) -> Callable[[Bench], None]:
    """The command lines' store is there, and somebody did this to it."""

    def arrange(bench: Bench) -> None:
        bench.do("list")
        with closing(sqlite3.connect(bench.home / "rollouts.db")) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return arrange


def url(text: str) -> Callable[..., Any]:
    """A store that was named so."""
    return shop("list", lambda b: b.env("ROLLOUT_STORE", text.replace("FOLDER", str(b.folder))))


def stored(play: Callable[[SqlStore, Story], Any]) -> Callable[..., Any]:
    """Played with a store of one rollout, r1, which its driver has begun."""

    async def run(bench: Bench) -> Any:
        store = await SqlStore.open(f"sqlite:///{bench.folder}/rollouts.db", token=lambda: "s", inline=True)
        try:
            story = Story()
            await story.begin(store)
            return await play(store, story)
        finally:
            await store.aclose()

    return real(run)


def said(code: str, text: str = "oh") -> sqlite3.Error:
    """An error of SQLite's with that name, which no test can have it raise."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorname = code
    return error


def of_sqlite(code: str, marked: str) -> Message:
    """One of the meanings of SQLite's errors."""
    cause = direct(lambda: dialect.failure(said(code), "rollouts.db"))
    return Message("store.dialect.failure", f"SQLite says {code}", cause, f"the store rollouts.db {marked}", TRY_AGAIN)


def without_log(bench: Bench) -> None:
    """SQLite falls back to another journal."""
    engine = dialect.engine(dialect.parse(f"sqlite:///{bench.folder}/rollouts.db"))
    bench.patch(dialect, "_journal_mode", lambda _: "delete")
    try:
        dialect.use_write_ahead_log(engine)
    finally:
        engine.dispose()


def foreign(bench: Bench) -> None:
    """A database of photos."""
    with closing(sqlite3.connect(bench.folder / "photos.db")) as other:
        other.execute("CREATE TABLE photos (id INTEGER)")
    bench.env("ROLLOUT_STORE", f"sqlite:///{bench.folder}/photos.db")


async def in_doubt(store: SqlStore, story: Story) -> Any:
    """Neither the commit nor the look whether it happened gets an answer."""

    def lost(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    writer, known = store._opened()[0].dialect, reads.known
    writer.do_commit = lost  # type: ignore[method-assign]
    reads.known = lost  # type: ignore[assignment]
    try:
        await store.commit(story.drive())
    finally:
        reads.known = known


DATABASES = [
    Message(
        "store.dialect.parse",
        "ROLLOUT_STORE is a path",
        url("rollouts.db"),
        f"ROLLOUT_STORE is not a database URL: {SQLITE}",
    ),
    Message(
        "store.dialect.parse",
        "ROLLOUT_STORE names another kind of database",
        url("postgresql+psycopg://me@host/db"),
        f"ROLLOUT_STORE names a postgresql database, which this version cannot use: {SQLITE}",
    ),
    Message(
        "store.dialect.parse",
        "ROLLOUT_STORE names no file",
        url("sqlite://"),
        f"ROLLOUT_STORE has to name a file, without options: {SQLITE}",
    ),
    Message(
        "store.dialect.engine",
        "the store's folder is a file",
        url("sqlite:///FOLDER/plan.yml/rollouts.db"),
        "the store <folder>/plan.yml/rollouts.db cannot be opened (Not a directory): «name a file in a directory in "
        "ROLLOUT_STORE»",
        TRY_AGAIN,
    ),
    Message(
        "store.dialect.use_write_ahead_log",
        "the file system cannot keep a write-ahead log",
        direct(without_log),
        "the store <folder>/rollouts.db cannot keep a write-ahead log here: «put it on a local disk»",
        TRY_AGAIN,
    ),
    Message(
        "store.migrate.migrate",
        "a newer version has used the store",
        shop("list", database("UPDATE schema_version SET version = 99")),
        "the store <home>/rollouts.db was used by a newer version of rollout (its schema is 99, this version knows "
        "1): «use "
        "that version, or name another store in ROLLOUT_STORE»",
        TRY_AGAIN,
    ),
    Message(
        "store.migrate._version",
        "ROLLOUT_STORE names somebody else's database",
        shop("list", foreign),
        "the store <folder>/photos.db is a database of something else (it has a table photos): «name another file in "
        "ROLLOUT_STORE»",
        TRY_AGAIN,
        "changed: photos.db",
    ),
    Message(
        "store.dialect.failure",
        "ROLLOUT_STORE names a file that is no database",
        shop(
            "list",
            lambda b: (
                b.write("diary.db", "Dear diary, " * 100),
                b.env("ROLLOUT_STORE", f"sqlite:///{b.folder}/diary.db"),
            ),
        ),
        "the store <folder>/diary.db is not a database: «name another file in ROLLOUT_STORE, or move this one away»",
        TRY_AGAIN,
    ),
    Message(
        "store.rows.load",
        "a record of the store is damaged, or of another version",
        shop(
            "history",
            lambda b: (
                b.served(),
                database("UPDATE events SET body = replace(body, '\"started\"', '\"teleported\"')")(b),
            ),
        ),
        "the store's record of event 1 of rollout <id> cannot be read at its beginning (Input tag 'teleported' found "
        "using 'kind' does not match any of the expected tags: 'started', 'driven', 'released', 'stage_entered', "
        "'intended', 'begun', 'retried', 'ended', 'reached', 'measured', 'measure_failed', 'task_tried', "
        "'task_ended', 'approved', 'leaving', 'stage_ended', 'waited', 'paused', 'parked', 'resumed', 'extended', "
        "'commanded', 'adopted', 'rollback_began', 'logs_saved', 'notified', 'finished'): it was damaged, or written "
        "by another version; «use the version that wrote it»",
        TRY_AGAIN,
    ),
    of_sqlite("SQLITE_BUSY", "is locked: another process has been writing to it for more than 5 s; «try again»"),
    of_sqlite("SQLITE_LOCKED", "is locked by another connection; «try again»"),
    of_sqlite("SQLITE_FULL", "cannot grow: the disk is full; «make room and try again»"),
    of_sqlite("SQLITE_CORRUPT", "is damaged: «move it away, restore a copy, or begin with a new one»"),
    of_sqlite("SQLITE_READONLY_DIRECTORY", "is read-only: «make the file and its directory writable for this user»"),
    of_sqlite(
        "SQLITE_PERM", "may not be opened by this user: «change its owner or mode, or name another in ROLLOUT_STORE»"
    ),
    of_sqlite(
        "SQLITE_AUTH", "may not be opened by this user: «change its owner or mode, or name another in ROLLOUT_STORE»"
    ),
    of_sqlite(
        "SQLITE_CANTOPEN", "cannot be opened: «see that its directory is there and that this user may write to it»"
    ),
    of_sqlite("SQLITE_IOERR_FSYNC", "cannot be read or written: the disk reports an error; «look at the system's log»"),
    of_sqlite("SQLITE_MISUSE", "failed (oh): «try again, and if it stays so run `rollout doctor`»"),
    Message(
        "store.sql._happened",
        "the connection is lost in the middle of a commit, and stays so",
        stored(in_doubt),
        "the store <folder>/rollouts.db failed (disk I/O error): «try again, and if it stays so run `rollout doctor`»; "
        "‹whether the last change was written is not known›: «repeat it»",
        TRY_AGAIN,
    ),
]


SETTINGS = [
    Message(
        "settings._home",
        "ROLLOUT_HOME is a file",
        shop("list", lambda b: b.env("ROLLOUT_HOME", str(b.folder / "plan.yml"))),
        "ROLLOUT_HOME is <folder>/plan.yml, which is not a directory: «name a directory, or unset it»",
    ),
    Message(
        "settings._home",
        "ROLLOUT_HOME is a user's home, and there is no such user",
        shop("list", lambda b: b.env("ROLLOUT_HOME", "~nobody-of-that-name/x")),
        "ROLLOUT_HOME is ~nobody-of-that-name/x, which cannot be looked at: «name another directory»",
    ),
]

ENTRIES = [*DATABASES, *SETTINGS]
