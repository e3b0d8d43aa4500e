import asyncio
import errno
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import OperationalError

from orchestrator.errors import CommitUnknown, StoreError, UsageError
from orchestrator.events import Driven
from orchestrator.store import dialect, migrate
from orchestrator.store.base import Store
from orchestrator.store.sql import SqlStore
from orchestrator.store.tables import METADATA
from tests.engine.store_conformance import Opened, StoreConformance
from tests.engine.store_samples import Story, bundle, evidence, intent, measurement, worker


class _OnSqlite(StoreConformance):
    inline = False

    @pytest.fixture
    async def opened(self, tmp_path: Path) -> AsyncIterator[Opened]:
        handles: list[SqlStore] = []

        async def open_one_more() -> Store:
            url = f"sqlite:///{tmp_path / 'rollouts.db'}"
            handles.append(await SqlStore.open(url, token=lambda: f"token{len(handles)}", inline=self.inline))
            return handles[-1]

        yield open_one_more
        for handle in handles:
            await handle.aclose()


class TestSqliteStore(_OnSqlite):
    """On its thread."""


class TestSqliteStoreInline(_OnSqlite):
    """On the loop."""

    inline = True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "state" / "rollouts.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqlStore]:
    opened = await open_store(path)
    yield opened
    await opened.aclose()


async def open_store(path: Path, token: str = "first", *, inline: bool = False) -> SqlStore:
    return await SqlStore.open(f"sqlite:///{path}", token=lambda: token, inline=inline)


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


# --- the file ---------------------------------------------------------------------------------------------------


async def test_what_was_written_is_there_after_reopening(path: Path) -> None:
    first = await open_store(path)
    story = Story()
    await story.begin(first)
    commit = story.next(Driven("w1", "alpha", 4711, 1), intents=(intent(),), measurement=(1, 1, measurement()))
    await first.commit(replace(commit, evidence=evidence()))
    await first.aclose()
    second = await open_store(path, "second")
    assert second.id == "first"
    assert await second.rollout("r1") == commit.rollout
    assert await second.intents("r1") == (intent(),)
    assert await second.evidence("r1") == evidence()
    assert await second.bundle("b" * 64) == bundle()
    await second.aclose()


async def test_only_its_owner_can_read_it(path: Path, store: SqlStore) -> None:
    await Story().begin(store)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["rollouts.db", "rollouts.db-shm", "rollouts.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)] == [0o700, 0o700]


async def test_acknowledged_means_on_the_disk(store: SqlStore) -> None:
    def pragmas(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

    assert await store._read(pragmas) == ["wal", 2, 1, dialect.BUSY_MS]


async def test_the_tables_are_what_the_migrations_made(path: Path, store: SqlStore) -> None:
    def columns(connection: Connection) -> dict[str, dict[str, str]]:
        inspector = inspect(connection)
        return {
            name: {column["name"]: str(column["type"]) for column in inspector.get_columns(name)}
            for name in inspector.get_table_names()
        }

    declared = {
        name: {column.name: str(column.type) for column in table.columns} for name, table in METADATA.tables.items()
    }
    assert await store._read(columns) == declared


async def test_the_database_itself_refuses_a_second_active_rollout(path: Path, store: SqlStore) -> None:
    await Story("r1").begin(store)
    columns = ", ".join(column.name for column in METADATA.tables["rollouts"].columns if column.name not in ("id", "n"))
    copy = f"INSERT INTO rollouts (id, n, {columns}) SELECT 'r2', 2, {columns} FROM rollouts"
    with raw(path) as other, pytest.raises(sqlite3.IntegrityError, match=r"rollouts\.endpoint"):
        other.execute(copy)


# --- migrations -------------------------------------------------------------------------------------------------

NEXT = """-- A comment; with a semicolon.
ALTER TABLE rollouts ADD COLUMN colour TEXT;
UPDATE rollouts
SET colour = 'blue';
"""


def migrated(path: Path, migrations: dict[int, str]) -> str:
    engine = dialect.engine(dialect.parse(f"sqlite:///{path}"))
    try:
        return migrate.migrate(engine, lambda: "never", migrations)
    finally:
        engine.dispose()


async def test_an_older_database_is_brought_forward_with_what_is_in_it(path: Path) -> None:
    store = await open_store(path)
    await Story().begin(store)
    await store.aclose()
    both = {**migrate.shipped(), 2: NEXT}
    assert [migrated(path, both), migrated(path, both)] == ["first", "first"]
    with raw(path) as other:
        assert other.execute("SELECT id, colour FROM rollouts").fetchall() == [("r1", "blue")]
        assert other.execute("SELECT version FROM schema_version").fetchall() == [(2,)]


async def test_a_newer_database_is_refused(path: Path) -> None:
    await (await open_store(path)).aclose()
    migrated(path, {**migrate.shipped(), 2: NEXT})
    with pytest.raises(StoreError, match=r"newer version of rollout \(its schema is 2, this version knows 1\)"):
        await open_store(path)


async def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    await (await open_store(path)).aclose()
    with pytest.raises(OperationalError):
        migrated(path, {**migrate.shipped(), 2: NEXT, 3: "ALTER TABLE nowhere ADD COLUMN x TEXT;\n"})
    store = await open_store(path)
    assert await store.rollouts() == ()
    await store.aclose()


async def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with raw(path) as other:
        other.execute("CREATE TABLE photos (id)")
    with pytest.raises(StoreError, match="something else"):
        await open_store(path)
    with raw(path) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("photos",)]


# --- errors are sentences ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("rollouts.db", "not a database URL"),
        ("postgresql+psycopg://me@host/db", "names a postgresql database"),
        ("sqlite://", "has to name a file"),
        ("sqlite:///:memory:", "has to name a file"),
        ("sqlite:////tmp/x.db?mode=ro", "without options"),
    ],
)
async def test_a_url_that_cannot_be_used_says_what_to_write(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        await SqlStore.open(url, token=lambda: "t")
    assert "sqlite:////absolute/path" in str(caught.value)


async def test_a_file_that_is_no_database(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("Dear diary, " * 100)
    with pytest.raises(StoreError, match="is not a database"):
        await open_store(path)


async def test_a_directory_that_cannot_be(path: Path) -> None:
    path.parent.parent.write_text("a file where a directory should be")
    with pytest.raises(StoreError, match=r"cannot be opened \(Not a directory\)"):
        await open_store(path)


async def test_a_directory_in_the_files_place(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot be opened \(Is a directory\): name a file"):
        await open_store(path)


async def test_a_file_that_may_not_be_opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patched:
        patched.setattr(dialect.os, "open", refuse)  # whoever runs the tests may be allowed everything
        with pytest.raises(StoreError, match=r"\(Permission denied\): make it and its directory writable"):
            dialect.engine(dialect.parse(f"sqlite:///{path}"))


@pytest.mark.parametrize(
    ("url", "statement", "says"),
    [
        ("file:{path}?mode=ro", "DELETE FROM workers", "is read-only: make"),
        ("file:{path}.d/x", "SELECT 1", "cannot be opened: see"),
    ],
)
async def test_what_the_database_says_becomes_what_to_do(
    path: Path, store: SqlStore, url: str, statement: str, says: str
) -> None:
    with pytest.raises(sqlite3.Error) as caught, closing(sqlite3.connect(url.format(path=path), uri=True)) as other:
        other.execute(statement)
    assert says in str(dialect.failure(caught.value, str(path)))


async def test_a_full_disk(store: SqlStore) -> None:
    def fill(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    await store._read(fill)
    stories = [Story(f"r{n}", endpoint=f"machine:/{n}").begin(store) for n in range(40)]
    with pytest.raises(StoreError, match="the disk is full; make room"):
        await asyncio.gather(*stories)
    await store.rollouts()


async def test_a_lock_that_stays(path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store._read(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout = 50"))
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="is locked: another process"):
            await Story().begin(store)
        assert await store.rollouts() == ()  # reading goes on
    await Story().begin(store)


async def test_a_record_of_another_version(path: Path, store: SqlStore) -> None:
    await Story().begin(store)
    with raw(path) as other:
        other.execute("UPDATE events SET body = replace(body, '\"started\"', '\"teleported\"')")
    with pytest.raises(StoreError, match=r"event 1 of rollout r1 cannot be read.*another version"):
        await store.events("r1")


# --- commits in doubt -------------------------------------------------------------------------------------------


def lose(store: SqlStore, *, after: bool) -> list[str]:
    """The connection is lost in the next COMMIT, before or after it had its effect."""
    database = store._opened()[0].dialect
    commit, lost = database.do_commit, []

    def do_commit(connection: object) -> None:
        if lost:
            return commit(connection)
        lost.append("once")
        if after:
            commit(connection)
        raise sqlite3.OperationalError("disk I/O error")

    database.do_commit = do_commit  # type: ignore[method-assign]
    return lost


async def test_a_commit_that_happened_though_its_answer_was_lost(store: SqlStore) -> None:
    story = Story()
    await story.begin(store)
    lost = lose(store, after=True)
    await store.commit(story.drive())
    assert lost
    assert (await store.rollout("r1")).phase == "running"


async def test_a_commit_that_did_not_happen_can_be_repeated(store: SqlStore) -> None:
    story = Story()
    await story.begin(store)
    commit = story.drive()
    lose(store, after=False)
    with pytest.raises(StoreError) as caught:
        await store.commit(commit)
    assert not isinstance(caught.value, CommitUnknown)
    assert (await store.rollout("r1")).phase == "pending"
    await store.commit(commit)
    assert (await store.rollout("r1")).phase == "running"


async def test_a_commit_of_which_nothing_can_be_found_out(
    path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story()
    await story.begin(store)
    commit = story.drive()
    lose(store, after=True)

    def gone(*_: object) -> bool:
        with closing(sqlite3.connect(path.parent / "nowhere" / "x.db")):
            raise AssertionError("it opened")

    with monkeypatch.context() as patched:
        patched.setattr("orchestrator.store.reads.known", gone)
        with pytest.raises(CommitUnknown, match="repeat it"):
            await store.commit(commit)
    await store.commit(commit)
    assert (await store.rollout("r1")).last_seq == 2


async def test_a_write_without_events_in_doubt_is_unknown(store: SqlStore) -> None:
    lose(store, after=False)
    with pytest.raises(CommitUnknown, match="repeat it"):
        await store.put_worker(worker())
    await store.put_worker(worker())


# --- cancellation -----------------------------------------------------------------------------------------------


async def test_a_cancelled_commit_ends_when_the_transaction_has(path: Path, store: SqlStore) -> None:
    story = Story()
    await story.begin(store)
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(store.commit(story.drive()))
        for _ in range(3):
            await asyncio.sleep(0.02)
            waiting.cancel()
        done, _ = await asyncio.wait({waiting}, timeout=0.1)
        assert not done
        other.execute("COMMIT")
        with pytest.raises(asyncio.CancelledError):
            await waiting
    with raw(path) as other:
        assert other.execute("SELECT phase FROM rollouts").fetchall() == [("running",)]


async def test_closing_finishes_what_is_being_written(path: Path) -> None:
    store = await open_store(path)
    story = Story()
    await story.begin(store)
    writing = asyncio.create_task(store.commit(story.drive()))
    await asyncio.sleep(0)
    await store.aclose()
    await writing
    with raw(path) as other:
        assert other.execute("SELECT phase FROM rollouts").fetchall() == [("running",)]
