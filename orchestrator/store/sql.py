"""The store that survives: one SQL database, one connection, one thread that uses it.

A commit that began is finished, whatever becomes of who waits for it: a cancelled wait ends only when the transaction
has, so nobody is left with half-known state. An error of the database becomes one sentence. When the connection is lost
in COMMIT itself, the events are looked up by id: they say whether it happened.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from orchestrator.bundle import Bundle
from orchestrator.errors import CommitUnknown, StoreError
from orchestrator.events import Event
from orchestrator.rollout import Rollout
from orchestrator.standing import Command, Intent
from orchestrator.store import dialect, reads, writes
from orchestrator.store.base import Commit, Evidence, Worker
from orchestrator.store.migrate import migrate
from providers.measurement import Measurement

T = TypeVar("T")


class _InDoubt(Exception):
    """COMMIT itself failed."""

    def __init__(self, cause: DBAPIError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class SqlStore:
    """`orchestrator.store.base.Store` on SQLAlchemy Core. Made by `open`.

    Args:
        url: `sqlite:////absolute/path/rollouts.db`.
        inline: work on the event loop instead of a thread; for tests under virtual time.
    """

    def __init__(self, url: str, *, inline: bool = False) -> None:
        self._url = dialect.parse(url)
        self._where = str(self._url.database)
        self._thread = None if inline else ThreadPoolExecutor(1, thread_name_prefix="rollout-store")
        self._engines: tuple[Engine, Engine] | None = None  # of one connection: for reading, for writing
        self._id = ""

    @classmethod
    async def open(cls, url: str, *, token: Callable[[], str], inline: bool = False) -> "SqlStore":
        """Open the database, making it and bringing it to the newest schema where needed.

        Args:
            url: as above.
            token: makes the store's id, the first time.
            inline: as above.

        Raises:
            UsageError: the URL is not one that can be used.
            StoreError: it cannot be opened, is newer than this version, or not one of ours.
        """
        store = cls(url, inline=inline)
        try:
            store._id = await store._run(lambda: store._open(token))
        except BaseException:
            await store.aclose()
            raise
        return store

    @property
    def id(self) -> str:
        """Names this store in the claims that providers keep."""
        return self._id

    async def create(
        self, rollout: Rollout, bundle: Bundle, events: Sequence[Event], *, worker: Worker, provider: str, at_least: int
    ) -> Rollout:
        """See `Store.create`."""
        return await self._write(
            lambda connection: writes.create(connection, rollout, bundle, events, worker, provider, at_least), events
        )

    async def acquire(self, rollout: str, *, worker: Worker, held_by: str | None, at_least: int) -> Rollout:
        """See `Store.acquire`."""
        return await self._write(lambda connection: writes.acquire(connection, rollout, worker, held_by, at_least))

    async def release(self, rollout: Rollout) -> None:
        """See `Store.release`."""
        await self._write(lambda connection: writes.release(connection, rollout))

    async def commit(self, commit: Commit) -> None:
        """See `Store.commit`. Raises CommitUnknown when even the looking up failed: repeat it."""
        await self._write(lambda connection: writes.commit(connection, commit), commit.events)

    async def put_bundle(self, bundle: Bundle) -> None:
        """See `Store.put_bundle`."""
        await self._write(lambda connection: writes.put_bundle(connection, bundle))

    async def bundle(self, sha256: str) -> Bundle:
        """See `Store.bundle`."""
        return await self._read(lambda connection: reads.bundle(connection, sha256))

    async def rollout(self, rollout: str) -> Rollout:
        """See `Store.rollout`."""
        return await self._read(lambda connection: reads.rollout(connection, rollout))

    async def rollouts(
        self, *, active: bool | None = None, endpoint: str | None = None, limit: int = 100
    ) -> Sequence[Rollout]:
        """See `Store.rollouts`."""
        return await self._read(lambda connection: reads.rollouts(connection, active, endpoint, limit))

    async def events(self, rollout: str, *, after: int = 0, limit: int = 100_000) -> Sequence[Event]:
        """See `Store.events`."""
        return await self._read(lambda connection: reads.events(connection, rollout, after, limit))

    async def intents(self, rollout: str) -> Sequence[Intent]:
        """See `Store.intents`."""
        return await self._read(lambda connection: reads.intents(connection, rollout))

    async def measurements(self, rollout: str, *, after: int = 0) -> Sequence[tuple[int, int, Measurement]]:
        """See `Store.measurements`."""
        return await self._read(lambda connection: reads.measurements(connection, rollout, after))

    async def evidence(self, rollout: str) -> Evidence | None:
        """See `Store.evidence`."""
        return await self._read(lambda connection: reads.evidence(connection, rollout))

    async def post(self, command: Command) -> Command:
        """See `Store.post`."""
        return await self._write(lambda connection: writes.post(connection, command))

    async def commands(self, rollout: str, *, pending: bool = True) -> Sequence[Command]:
        """See `Store.commands`."""
        return await self._read(lambda connection: reads.commands(connection, rollout, pending))

    async def put_worker(self, worker: Worker) -> None:
        """See `Store.put_worker`."""
        await self._write(lambda connection: writes.put_worker(connection, worker))

    async def worker(self, worker: str) -> Worker | None:
        """See `Store.worker`."""
        return await self._read(lambda connection: reads.worker(connection, worker))

    async def beat(self, worker: str) -> None:
        """See `Store.beat`."""
        await self._write(lambda connection: writes.beat(connection, worker))

    async def aclose(self) -> None:
        """Finish what is being written and close; closing twice does nothing."""
        engines, self._engines = self._engines, None
        if engines is not None:
            await self._run(engines[0].dispose)
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    def _open(self, token: Callable[[], str]) -> str:
        engine = dialect.engine(self._url)
        try:
            dialect.use_write_ahead_log(engine)
            identity = migrate(engine, token)
        except BaseException:
            engine.dispose()
            raise
        self._engines = (engine, dialect.writing(engine))
        return identity

    async def _read(self, work: Callable[[Connection], T]) -> T:
        reader, _ = self._opened()
        return await self._run(lambda: _reading(reader, work))

    async def _write(self, work: Callable[[Connection], T], events: Sequence[Event] = ()) -> T:
        engines = self._opened()
        return await self._run(lambda: self._writing(*engines, work, events))

    def _opened(self) -> tuple[Engine, Engine]:
        if self._engines is None:
            raise StoreError(f"the store {self._where} is closed")
        return self._engines

    def _writing(self, reader: Engine, writer: Engine, work: Callable[[Connection], T], events: Sequence[Event]) -> T:
        try:
            with writer.connect() as connection:
                transaction = connection.begin()
                try:
                    result = work(connection)
                except BaseException:
                    transaction.rollback()
                    raise
                try:
                    transaction.commit()
                except DBAPIError as error:
                    connection.invalidate(error)  # what a lost connection believes does not count
                    raise _InDoubt(error) from error
                return result
        except _InDoubt as doubt:
            if self._happened(reader, events, doubt.cause):
                return result
            raise dialect.failure(doubt.cause, self._where) from doubt.cause

    def _happened(self, reader: Engine, events: Sequence[Event], cause: DBAPIError) -> bool:
        unknown = CommitUnknown(
            f"{dialect.failure(cause, self._where)}; whether the last change was written is not known: repeat it"
        )
        if not events:
            raise unknown from cause
        try:
            return _reading(reader, lambda connection: reads.known(connection, events))
        except (SQLAlchemyError, sqlite3.Error):
            raise unknown from cause

    async def _run(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            return self._guarded(work)
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)
        cancelled: asyncio.CancelledError | None = None
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            running.exception()  # it is looked at, or asyncio would complain that nobody did
            raise cancelled
        return running.result()

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise dialect.failure(error, self._where) from error


def _reading(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection, connection.begin():
        return work(connection)
