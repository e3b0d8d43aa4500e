"""What is asked of the tables, as functions of an open transaction."""

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, select

from orchestrator.bundle import Bundle
from orchestrator.events import Event
from orchestrator.lifecycle import ACTIVE
from orchestrator.rollout import Rollout
from orchestrator.standing import Command, Intent
from orchestrator.store import rows, rules
from orchestrator.store.base import Evidence, Worker
from orchestrator.store.tables import BUNDLES, COMMANDS, EVENTS, EVIDENCE, INTENTS, MEASUREMENTS, ROLLOUTS, WORKERS
from providers.measurement import Measurement

# What a driver asks again and again is built once.
_ROLLOUT = select(ROLLOUTS.c.state).where(ROLLOUTS.c.id == bindparam("rollout"))
_COMMANDS = select(COMMANDS).where(COMMANDS.c.rollout == bindparam("rollout")).order_by(COMMANDS.c.n)
_PENDING = _COMMANDS.where(COMMANDS.c.consumed_seq.is_(None))


def rollout(connection: Connection, rollout: str) -> Rollout:
    """Raises UnknownRollout."""
    state = connection.execute(_ROLLOUT, {"rollout": rollout}).scalar_one_or_none()
    if state is None:
        raise rules.unknown(rollout)
    return rows.load(rows.ROLLOUT, state, f"rollout {rollout}")


def rollouts(connection: Connection, active: bool | None, endpoint: str | None, limit: int) -> tuple[Rollout, ...]:
    """The newest first."""
    query = select(ROLLOUTS.c.id, ROLLOUTS.c.state).order_by(ROLLOUTS.c.n.desc()).limit(limit)
    if active is not None:
        phases = sorted(ACTIVE)
        query = query.where(ROLLOUTS.c.phase.in_(phases) if active else ROLLOUTS.c.phase.not_in(phases))
    if endpoint is not None:
        query = query.where(ROLLOUTS.c.endpoint == endpoint)
    return tuple(rows.load(rows.ROLLOUT, row.state, f"rollout {row.id}") for row in connection.execute(query))


def events(connection: Connection, rollout: str, after: int, limit: int) -> tuple[Event, ...]:
    """In order, those with seq > after."""
    query = select(EVENTS).where(EVENTS.c.rollout == rollout, EVENTS.c.seq > after).order_by(EVENTS.c.seq).limit(limit)
    return tuple(rows.event_of(row) for row in connection.execute(query))


def intents(connection: Connection, rollout: str) -> tuple[Intent, ...]:
    """In the order of their first recording."""
    query = select(INTENTS.c.id, INTENTS.c.body).where(INTENTS.c.rollout == rollout).order_by(INTENTS.c.n)
    return tuple(rows.load(rows.INTENT, row.body, f"intent {row.id}") for row in connection.execute(query))


def measurements(connection: Connection, rollout: str, after: int) -> tuple[tuple[int, int, Measurement], ...]:
    """(seq, stage index, measurement) in order, those with seq > after."""
    query = (
        select(MEASUREMENTS)
        .where(MEASUREMENTS.c.rollout == rollout, MEASUREMENTS.c.seq > after)
        .order_by(MEASUREMENTS.c.seq)
    )
    found = connection.execute(query)
    what = f"a measurement of rollout {rollout}"
    return tuple((row.seq, row.stage, rows.load(rows.MEASUREMENT, row.body, what)) for row in found)


def evidence(connection: Connection, rollout: str) -> Evidence | None:
    """What was learnt so far."""
    row = connection.execute(select(EVIDENCE).where(EVIDENCE.c.rollout == rollout)).one_or_none()
    return None if row is None else rows.evidence_of(row)


def commands(connection: Connection, rollout: str, pending: bool) -> tuple[Command, ...]:
    """In order of `n`."""
    query = _PENDING if pending else _COMMANDS
    return tuple(rows.command_of(row) for row in connection.execute(query, {"rollout": rollout}))


def bundle(connection: Connection, sha256: str) -> Bundle:
    """Raises StoreError."""
    body = connection.execute(select(BUNDLES.c.body).where(BUNDLES.c.sha256 == sha256)).scalar_one_or_none()
    if body is None:
        raise rules.unknown_bundle(sha256)
    return rows.bundle_of(body, sha256)


def worker(connection: Connection, worker: str | None) -> Worker | None:
    """Its row."""
    row = connection.execute(select(WORKERS).where(WORKERS.c.id == worker)).one_or_none()
    return None if row is None else rows.worker_of(row)


def known(connection: Connection, events: Iterable[Event]) -> bool:
    """Whether these very events are stored. Raises StoreError when only some of them are."""
    wanted = {event.id: event for event in events}
    query = select(EVENTS.c.id, EVENTS.c.rollout, EVENTS.c.seq).where(EVENTS.c.id.in_(list(wanted)))
    found = list(connection.execute(query))
    if not found:
        return False
    for row in found:
        event = wanted[row.id]
        if len(found) != len(wanted) or (row.rollout, row.seq) != (event.rollout, event.seq):
            raise rules.torn(event.rollout)
    return True
