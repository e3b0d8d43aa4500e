"""The journal as a file of lines while a rollout runs: `run --events FILE`, one event a line, as `history` writes it.

The lines are read from the store, so that the file is what `history --output ndjson` says, byte for byte. They are
written by a thread of their own: a pipe that nobody reads or a disk that is full may hold up the file, never the
rollout. What cannot be written is told once on stderr.
"""

import asyncio
import os
import queue
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

import click

from orchestrator.cli.following import Follower, rung
from orchestrator.errors import OrchestratorError

PATIENCE = 5.0
"""Seconds that the last lines may take once the rollout has ended."""
AGAIN = 0.5
"""Seconds between attempts to write where there was no room."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where lines go.

    Attributes:
        name: as the user wrote it; `-` is stdout.
        descriptor: open, or None for a named pipe: opening one waits for its reader, which the thread does.
    """

    name: str
    descriptor: int | None


def target(name: str) -> Target:
    """Open FILE for the journal, `-` for stdout. Raises UsageError when it holds something, or cannot be written."""
    try:
        if name == "-":
            return Target("stdout", os.dup(sys.stdout.fileno()) if sys.stdout is not None else _nowhere())
        if _kind(name) == stat.S_IFIFO:
            return Target(name, None)
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY, 0o666)
    except OSError as error:
        raise _usage(f"{name} cannot be written ({error.strerror}): name a file in a folder of yours") from None
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size:
        os.close(descriptor)
        raise _usage(f"{name} exists and is not empty: name another file, or remove it first")
    return Target(name, descriptor)


def _kind(name: str) -> int:
    try:
        return stat.S_IFMT(os.stat(name).st_mode)  # noqa: PTH116 - a path as the user wrote it, and nothing else of it
    except FileNotFoundError:
        return stat.S_IFREG


def _nowhere() -> int:
    return os.open(os.devnull, os.O_WRONLY)


def _usage(message: str) -> click.UsageError:
    return click.UsageError(f"--events: {message}", click.get_current_context(silent=True))


class Recorder:
    """Writes the journal of the rollout that `follower` follows, from its first event on."""

    def __init__(self, to: Target, follower: Follower) -> None:
        self._follower = follower
        self._writer = Writer(to, tell=_tell)
        self._seq = 0
        self._bell = follower.bell()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._go_on(), name="events file")

    async def finish(self) -> None:
        """Write what is left, for some seconds; say so if that was not enough."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._look()
        except OrchestratorError as error:
            _tell(f"the last events could not be read for {self._writer.name}: {error}")
        left = await asyncio.to_thread(self._writer.close, PATIENCE)
        if left and self._follower.id is not None:
            _tell(
                f"{self._writer.name} lacks the last {left} of {self._seq} events: "
                f"rollout history {self._follower.id} --output ndjson has them all"
            )

    async def _go_on(self) -> None:
        while True:
            self._bell.clear()
            try:
                await self._look()
            except OrchestratorError:
                pass  # the store is busy or away: the events are not lost, and the driver says what that means
            await rung(self._bell)

    async def _look(self) -> None:
        from orchestrator.events import EVENT

        if self._follower.id is None:
            return
        for event in await self._follower.app.store.events(self._follower.id, after=self._seq):
            self._writer.put(EVENT.dump_json(event) + b"\n")
            self._seq = event.seq


class Writer:
    """Whole lines to a descriptor, in order, from a thread that may wait as long as it likes.

    Args:
        to: an open descriptor, or the name of a pipe. tell: called once with what went wrong.
    """

    def __init__(self, to: Target, *, tell: Callable[[str], None]) -> None:
        self.name = to.name
        self._descriptor = to.descriptor
        self._tell = tell
        self._told = False
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._put = self._written = 0
        self._thread = threading.Thread(target=self._work, name="events file", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Returns at once."""
        self._put += 1
        self._lines.put(line)

    def close(self, patience: float) -> int:
        """Write what is left; returns how many lines were not written within `patience` seconds."""
        self._closing.set()
        self._lines.put(None)
        self._thread.join(patience)
        return self._put - self._written

    def _work(self) -> None:
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self.name, os.O_WRONLY)  # waits for a reader
            while (line := self._lines.get()) is not None:
                if not self._line(self._descriptor, line):
                    return
                self._written += 1
        except BrokenPipeError:
            self._once(f"nobody reads {self.name} any more: no more events are written there, the rollout goes on")
        except OSError as error:
            self._once(f"{self.name} cannot be written ({error.strerror}): no more events there, the rollout goes on")
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)

    def _line(self, descriptor: int, line: bytes) -> bool:
        """Write one, whole; False when there was no room up to the end. Raises BrokenPipeError."""
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        rest = line
        while True:
            last = self._closing.is_set()
            size = os.fstat(descriptor).st_size if regular else 0
            try:
                written = os.write(descriptor, rest)
            except BrokenPipeError:
                raise
            except OSError as error:
                problem = error.strerror
            else:
                rest = rest[written:]
                if not rest:
                    return True
                if not regular:
                    continue
                # Not all of it had room. A reader of lines must never meet half a one.
                os.ftruncate(descriptor, size)
                rest, problem = line, "no room for a whole line"
            self._once(f"{self.name} cannot be written ({problem}): tried again and again, the rollout goes on")
            if last:
                return False
            self._closing.wait(AGAIN)

    def _once(self, message: str) -> None:
        if not self._told:
            self._told = True
            self._tell(message)


def _tell(message: str) -> None:
    try:
        click.echo(f"rollout: {message}", err=True)
    except OSError:
        pass  # nobody listens there either
