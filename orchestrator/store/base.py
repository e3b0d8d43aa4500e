"""The Store protocol: where rollouts are durable, and where it is decided who may change them.

A store is a few reads and one write, `commit`: the rollout's row, its events, intents, consumed commands, measurement
and evidence change together or not at all, and only while the writer's epoch is still the endpoint's. There is an SQL
store and an in-memory twin; both pass `tests/engine/store_conformance.py`, and users may build tests of their own on
the memory store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.bundle import Bundle
from orchestrator.events import Event
from orchestrator.gates.state import GateState
from orchestrator.rollout import Rollout
from orchestrator.standing import Command, Intent
from providers.measurement import Cursor, Measurement


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that drives rollouts.

    Attributes:
        id: unique for ever.
        host, boot_id: which machine, and which run of it.
        pid, pid_started: the process, and its start time as the kernel counts it (a reused pid has another).
        beat: how often it said that it lives; only its change means anything.
    """

    id: str
    host: str
    boot_id: str
    pid: int
    pid_started: str
    beat: int = 0


@dataclass(frozen=True, slots=True)
class Consumed:
    """A command that this commit acts on: the event that did, and the outcome in words."""

    command: str
    seq: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where measuring goes on, and what was learnt so far; replaced whole.

    Attributes:
        measurement_seq: number of the last measurement that is in it.
        cursor: where the next one begins.
        gates: the folded state.
    """

    measurement_seq: int
    cursor: Cursor
    gates: GateState


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything that one decision changes.

    Attributes:
        rollout: as it shall stand; its epoch is compared with the endpoint's. A terminal phase frees the endpoint.
        events: in order, with the next sequence numbers.
        intents: inserted or replaced by key.
        consumed: commands that the events act on.
        measurement: (seq, stage index, measurement) to keep, or None.
        evidence: replaces the rollout's evidence, or None to leave it.
    """

    rollout: Rollout
    events: Sequence[Event]
    intents: Sequence[Intent] = ()
    consumed: Sequence[Consumed] = ()
    measurement: tuple[int, int, Measurement] | None = None
    evidence: Evidence | None = None


class Store(Protocol):
    """Durable rollouts. Raises `orchestrator.errors` only: StoreError, CommitUnknown, LeaseLost, UsageError."""

    @property
    def id(self) -> str:
        """Names this store in the claims that providers keep."""
        ...

    async def create(
        self, rollout: Rollout, bundle: Bundle, events: Sequence[Event], *, worker: Worker, provider: str, at_least: int
    ) -> Rollout:
        """Insert a rollout that owns its endpoint from now on, driven by `worker`, with its first events.

        The endpoint's epoch becomes max(stored, at_least) + 1, and the returned rollout (and its events) carry it.
        Raises UsageError, naming the other rollout, when one is active there.
        """
        ...

    async def acquire(self, rollout: str, *, worker: Worker, held_by: str | None, at_least: int) -> Rollout:
        """Let `worker` drive: compare-and-set on who drives now (`held_by`, a worker id or None), epoch becomes
        max(stored, at_least) + 1.

        Returns the rollout with its new epoch and worker. Raises LeaseLost when somebody else was quicker,
        UnknownRollout.
        """
        ...

    async def release(self, rollout: Rollout) -> None:
        """Nobody drives it any more, when this epoch still does; else nothing."""
        ...

    async def commit(self, commit: Commit) -> None:
        """All or nothing. Raises LeaseLost when the epoch is no longer the endpoint's; then nothing was written.

        Committing the same events (by id) again does nothing, so that a commit in doubt can be repeated.
        """
        ...

    async def put_bundle(self, bundle: Bundle) -> None:
        """Keep it under its sha256; known ones are left alone."""
        ...

    async def bundle(self, sha256: str) -> Bundle:
        """Raises StoreError when there is none."""
        ...

    async def rollout(self, rollout: str) -> Rollout:
        """Raises UnknownRollout."""
        ...

    async def rollouts(
        self, *, active: bool | None = None, endpoint: str | None = None, limit: int = 100
    ) -> Sequence[Rollout]:
        """The newest first."""
        ...

    async def events(self, rollout: str, *, after: int = 0, limit: int = 100_000) -> Sequence[Event]:
        """In order, those with seq > after."""
        ...

    async def intents(self, rollout: str) -> Sequence[Intent]:
        """All that were ever recorded, in the order of their first recording."""
        ...

    async def measurements(self, rollout: str, *, after: int = 0) -> Sequence[tuple[int, int, Measurement]]:
        """(seq, stage index, measurement) in order, those with seq > after."""
        ...

    async def evidence(self, rollout: str) -> Evidence | None:
        """What was learnt so far."""
        ...

    async def post(self, command: Command) -> Command:
        """Leave a command for whoever drives; the same id twice is one command. Raises UnknownRollout."""
        ...

    async def commands(self, rollout: str, *, pending: bool = True) -> Sequence[Command]:
        """In order of `n`; only those that nobody has acted on, unless `pending` is False."""
        ...

    async def put_worker(self, worker: Worker) -> None:
        """Register it, or replace its row."""
        ...

    async def worker(self, worker: str) -> Worker | None:
        """Its row."""
        ...

    async def beat(self, worker: str) -> None:
        """It lives: add one to its beat."""
        ...

    async def aclose(self) -> None:
        """Finish what is being written and close."""
        ...
