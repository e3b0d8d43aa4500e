"""The store without a database: the same promises, but for surviving the process.

For tests, of ours and of others, and for simulation: everything happens inline, so a virtual clock never waits for a
thread. Several handles on the same data stand for several processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orchestrator.bundle import Bundle
from orchestrator.errors import StoreError
from orchestrator.events import Event
from orchestrator.rollout import Rollout
from orchestrator.standing import Command, Intent
from orchestrator.store import rules
from orchestrator.store.base import Commit, Evidence, Worker
from providers.measurement import Measurement


@dataclass(slots=True)
class _Endpoint:
    provider: str
    name: str
    epoch: int = 0
    active: str | None = None


@dataclass(slots=True)
class _Data:
    """Every value in it is frozen, so handing one out gives nothing away."""

    bundles: dict[str, Bundle] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    endpoints: dict[str, _Endpoint] = field(default_factory=dict)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)
    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    intents: dict[str, dict[str, Intent]] = field(default_factory=dict)
    commands: dict[str, Command] = field(default_factory=dict)
    measurements: dict[str, dict[int, tuple[int, int, Measurement]]] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)


class MemoryStore:
    """`orchestrator.store.base.Store` in memory.

    Args:
        id: names it in the claims that providers keep.
    """

    def __init__(self, id: str = "memory") -> None:  # noqa: A002 - the protocol's word
        self._id = id
        self._data = _Data()
        self._closed = False

    def handle(self) -> "MemoryStore":
        """Another handle on the same data, as another process would have."""
        other = MemoryStore(self._id)
        other._data = self._data
        return other

    @property
    def id(self) -> str:
        """Names this store in the claims that providers keep."""
        return self._id

    async def create(
        self, rollout: Rollout, bundle: Bundle, events: Sequence[Event], *, worker: Worker, provider: str, at_least: int
    ) -> Rollout:
        """See `Store.create`."""
        data = self._opened()
        if self._known(events):
            return data.rollouts[rollout.id]
        rules.check_sequence(rollout, events, 0)
        endpoint = data.endpoints.setdefault(rollout.endpoint, _Endpoint(provider, rollout.endpoint_name))
        if endpoint.active is not None:
            raise rules.occupied(endpoint.name, data.rollouts[endpoint.active])
        if rollout.id in data.rollouts:
            raise StoreError(f"there already is a rollout {rollout.id} in this store: choose another id")
        endpoint.epoch = max(endpoint.epoch, at_least) + 1
        stamped, stamped_events = rules.stamp(rollout, events, worker.id, endpoint.epoch)
        endpoint.active = stamped.id if stamped.active else None
        data.workers.setdefault(worker.id, worker)
        data.bundles.setdefault(bundle.sha256, bundle)
        data.rollouts[stamped.id] = stamped
        data.events[stamped.id] = []
        self._append(stamped_events)
        return stamped

    async def acquire(self, rollout: str, *, worker: Worker, held_by: str | None, at_least: int) -> Rollout:
        """See `Store.acquire`."""
        data = self._opened()
        current = self._rollout(rollout)
        endpoint = data.endpoints[current.endpoint]
        if endpoint.active != rollout:
            raise rules.ended(current)
        if current.worker != held_by:
            raise rules.too_late(rollout, data.workers.get(current.worker or ""))
        endpoint.epoch = max(endpoint.epoch, at_least) + 1
        data.workers.setdefault(worker.id, worker)
        taken, _ = rules.stamp(current, (), worker.id, endpoint.epoch)
        data.rollouts[rollout] = taken
        return taken

    async def release(self, rollout: Rollout) -> None:
        """See `Store.release`."""
        current = self._rollout(rollout.id)
        if current.epoch == rollout.epoch:
            self._data.rollouts[rollout.id] = rules.let_go(current)

    async def commit(self, commit: Commit) -> None:
        """See `Store.commit`."""
        data, rollout = self._opened(), commit.rollout
        rules.check_writer(commit)
        current = data.rollouts.get(rollout.id)
        endpoint = data.endpoints.get(rollout.endpoint)
        ours = endpoint is not None and endpoint.epoch == rollout.epoch and endpoint.active == rollout.id
        if current is None or endpoint is None or not ours:
            if self._known(commit.events):
                return
            current = self._rollout(rollout.id)
            if rules.postscript(commit, current):
                self._check(commit, current)
                data.rollouts[rollout.id] = rollout
                self._append(commit.events)
                return
            if endpoint is None or not current.active:
                raise rules.over(current)
            raise rules.lease_lost(rollout.id, data.workers.get(current.worker or ""), endpoint.epoch)
        if commit.events and commit.events[0].seq <= current.last_seq and self._known(commit.events):
            return
        self._check(commit, current)
        # Nothing below can fail: all or nothing.
        if not rollout.active:
            endpoint.active = None
        data.rollouts[rollout.id] = rollout
        self._append(commit.events)
        for intent in commit.intents:
            data.intents.setdefault(rollout.id, {})[intent.key] = intent
        for consumed in commit.consumed:
            command = data.commands[consumed.command]
            data.commands[consumed.command] = replace(command, consumed_seq=consumed.seq, outcome=consumed.outcome)
        if commit.measurement is not None:
            data.measurements.setdefault(rollout.id, {})[commit.measurement[0]] = commit.measurement
        if commit.evidence is not None:
            data.evidence[rollout.id] = commit.evidence

    async def put_bundle(self, bundle: Bundle) -> None:
        """See `Store.put_bundle`."""
        self._opened().bundles.setdefault(bundle.sha256, bundle)

    async def bundle(self, sha256: str) -> Bundle:
        """See `Store.bundle`."""
        found = self._opened().bundles.get(sha256)
        if found is None:
            raise rules.unknown_bundle(sha256)
        return found

    async def rollout(self, rollout: str) -> Rollout:
        """See `Store.rollout`."""
        return self._rollout(rollout)

    async def rollouts(
        self, *, active: bool | None = None, endpoint: str | None = None, limit: int = 100
    ) -> Sequence[Rollout]:
        """See `Store.rollouts`."""
        newest_first = reversed(self._opened().rollouts.values())
        found = [
            rollout
            for rollout in newest_first
            if active in (None, rollout.active) and endpoint in (None, rollout.endpoint)
        ]
        return tuple(found[:limit])

    async def events(self, rollout: str, *, after: int = 0, limit: int = 100_000) -> Sequence[Event]:
        """See `Store.events`."""
        return tuple(event for event in self._opened().events.get(rollout, ()) if event.seq > after)[:limit]

    async def intents(self, rollout: str) -> Sequence[Intent]:
        """See `Store.intents`."""
        return tuple(self._opened().intents.get(rollout, {}).values())

    async def measurements(self, rollout: str, *, after: int = 0) -> Sequence[tuple[int, int, Measurement]]:
        """See `Store.measurements`."""
        kept = self._opened().measurements.get(rollout, {})
        return tuple(kept[seq] for seq in sorted(kept) if seq > after)

    async def evidence(self, rollout: str) -> Evidence | None:
        """See `Store.evidence`."""
        return self._opened().evidence.get(rollout)

    async def post(self, command: Command) -> Command:
        """See `Store.post`."""
        self._rollout(command.rollout)
        commands = self._data.commands
        numbered = replace(command, n=len(commands) + 1, consumed_seq=None, outcome=None)
        return commands.setdefault(command.id, numbered)

    async def commands(self, rollout: str, *, pending: bool = True) -> Sequence[Command]:
        """See `Store.commands`."""
        theirs = [command for command in self._opened().commands.values() if command.rollout == rollout]
        return tuple(command for command in theirs if command.consumed_seq is None or not pending)

    async def put_worker(self, worker: Worker) -> None:
        """See `Store.put_worker`."""
        self._opened().workers[worker.id] = worker

    async def worker(self, worker: str) -> Worker | None:
        """See `Store.worker`."""
        return self._opened().workers.get(worker)

    async def beat(self, worker: str) -> None:
        """See `Store.beat`."""
        workers = self._opened().workers
        if worker not in workers:
            raise rules.unknown_worker(worker)
        workers[worker] = replace(workers[worker], beat=workers[worker].beat + 1)

    async def aclose(self) -> None:
        """Close this handle; the data stays for the others."""
        self._closed = True

    def _opened(self) -> _Data:
        if self._closed:
            raise StoreError(f"the store {self._id} is closed")
        return self._data

    def _rollout(self, rollout: str) -> Rollout:
        found = self._opened().rollouts.get(rollout)
        if found is None:
            raise rules.unknown(rollout)
        return found

    def _known(self, events: Sequence[Event]) -> bool:
        found = [event for event in events if event.id in self._data.places]
        if not found:
            return False
        if len(found) != len(events) or any(self._data.places[e.id] != (e.rollout, e.seq) for e in found):
            raise rules.torn(events[0].rollout)
        return True

    def _append(self, events: Sequence[Event]) -> None:
        for event in events:
            self._data.events[event.rollout].append(event)
            self._data.places[event.id] = (event.rollout, event.seq)

    def _check(self, commit: Commit, current: Rollout) -> None:
        """Everything that the database's constraints would refuse."""
        rollout = commit.rollout
        rules.check_sequence(rollout, commit.events, current.last_seq)
        self._known(commit.events)
        if rollout.worker is not None and rollout.worker not in self._data.workers:
            raise rules.unknown_worker(rollout.worker)
        if rollout.bundle not in self._data.bundles:
            raise rules.unknown_bundle(rollout.bundle)
        if commit.measurement is not None and commit.measurement[0] in self._data.measurements.get(rollout.id, {}):
            raise StoreError(f"measurement {commit.measurement[0]} of rollout {rollout.id} is already kept")
        for consumed in commit.consumed:
            command = self._data.commands.get(consumed.command)
            if command is None or command.rollout != rollout.id or command.consumed_seq is not None:
                raise rules.spent(consumed.command, rollout.id)
