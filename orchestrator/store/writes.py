"""Every change to the tables, as functions of an open transaction that holds the write lock; the caller commits.

The statements are built once: building them costs more than carrying them out.
"""

from collections.abc import Sequence

from sqlalchemy import BindParameter, Connection, ScalarSelect, Table, bindparam, func, select
from sqlalchemy.dialects.sqlite import Insert

from orchestrator.bundle import Bundle
from orchestrator.events import Event
from orchestrator.rollout import Rollout
from orchestrator.standing import Command
from orchestrator.store import reads, rows, rules
from orchestrator.store.base import Commit, Worker
from orchestrator.store.dialect import upsert
from orchestrator.store.tables import (
    BUNDLES,
    COMMANDS,
    ENDPOINTS,
    EVENTS,
    EVIDENCE,
    INTENTS,
    MEASUREMENTS,
    ROLLOUTS,
    WORKERS,
)


def _next(table: Table) -> ScalarSelect[int]:
    return select(func.coalesce(func.max(table.c.n), 0) + 1).scalar_subquery()


def _put(table: Table, **computed: ScalarSelect[int]) -> Insert:
    """Insert a row by parameters named like its columns, or leave the one with the same key alone."""
    return upsert(table).values(
        {column.name: computed.get(column.name, bindparam(column.name)) for column in table.columns}
    )


def _replace(table: Table, *keep: str, **computed: ScalarSelect[int]) -> Insert:
    """Insert a row by parameters, or replace all but `keep` in the one with the same key, which is the first column."""
    put = _put(table, **computed)
    first, *rest = table.columns
    changes = {column.name: put.excluded[column.name] for column in rest if column.name not in keep}
    return put.on_conflict_do_update(index_elements=[first], set_=changes)


_KEY: BindParameter[str] = bindparam("key")  # of the row in question; the other parameters are named like columns
_OURS = (
    select(ROLLOUTS.c.last_seq)
    .join(ENDPOINTS, ENDPOINTS.c.identity == ROLLOUTS.c.endpoint)
    .where(
        ENDPOINTS.c.identity == bindparam("endpoint"),
        ENDPOINTS.c.epoch == bindparam("epoch"),
        ENDPOINTS.c.active_rollout == _KEY,
        ROLLOUTS.c.id == _KEY,
    )
    .with_for_update()
)
_ENDPOINT = select(ENDPOINTS).where(ENDPOINTS.c.identity == _KEY).with_for_update()
_ENDPOINT_OF = (
    select(ENDPOINTS).join(ROLLOUTS, ENDPOINTS.c.identity == ROLLOUTS.c.endpoint).where(ROLLOUTS.c.id == _KEY)
)
_FIRST_SEEN = upsert(ENDPOINTS).on_conflict_do_nothing()
_SET_ENDPOINT = ENDPOINTS.update().where(ENDPOINTS.c.identity == _KEY)
_NEW_ROLLOUT = _put(ROLLOUTS, n=_next(ROLLOUTS))
_SET_ROLLOUT = ROLLOUTS.update().where(ROLLOUTS.c.id == _KEY)
_NEW_EVENTS = EVENTS.insert()
_PUT_INTENT = _replace(
    INTENTS,
    "rollout",
    "n",
    n=select(func.coalesce(func.max(INTENTS.c.n), 0) + 1)
    .where(INTENTS.c.rollout == bindparam("rollout"))
    .scalar_subquery(),
)
_SPEND = COMMANDS.update().where(
    COMMANDS.c.id == _KEY, COMMANDS.c.rollout == bindparam("whose"), COMMANDS.c.consumed_seq.is_(None)
)
_NEW_COMMAND = _put(COMMANDS, n=_next(COMMANDS)).on_conflict_do_nothing(index_elements=[COMMANDS.c.id])
_COMMAND = select(COMMANDS).where(COMMANDS.c.id == _KEY)
_NEW_MEASUREMENT = MEASUREMENTS.insert()
_PUT_EVIDENCE = _replace(EVIDENCE)
_NEW_BUNDLE = _put(BUNDLES).on_conflict_do_nothing()
_PUT_WORKER = _replace(WORKERS)
_NEW_WORKER = _put(WORKERS).on_conflict_do_nothing()
_BEAT = WORKERS.update().where(WORKERS.c.id == _KEY).values(beat=WORKERS.c.beat + 1)


def create(
    connection: Connection,
    rollout: Rollout,
    bundle: Bundle,
    events: Sequence[Event],
    worker: Worker,
    provider: str,
    at_least: int,
) -> Rollout:
    """See `Store.create`."""
    if reads.known(connection, events):
        return reads.rollout(connection, rollout.id)
    rules.check_sequence(rollout, events, 0)
    named = {"provider": provider, "name": rollout.endpoint_name}
    connection.execute(_FIRST_SEEN, {"identity": rollout.endpoint, "epoch": 0, **named})
    endpoint = connection.execute(_ENDPOINT, {"key": rollout.endpoint}).one()
    if endpoint.active_rollout is not None:
        raise rules.occupied(endpoint.name, reads.rollout(connection, endpoint.active_rollout))
    epoch = max(endpoint.epoch, at_least) + 1
    stamped, stamped_events = rules.stamp(rollout, events, worker.id, epoch)
    connection.execute(_NEW_WORKER, rows.worker_values(worker))
    put_bundle(connection, bundle)
    connection.execute(_NEW_ROLLOUT, rows.new_rollout_values(stamped))
    active = stamped.id if stamped.active else None
    connection.execute(_SET_ENDPOINT, {"key": stamped.endpoint, "epoch": epoch, "active_rollout": active, **named})
    connection.execute(_NEW_EVENTS, [rows.event_values(event) for event in stamped_events])
    return stamped


def acquire(connection: Connection, rollout: str, worker: Worker, held_by: str | None, at_least: int) -> Rollout:
    """See `Store.acquire`."""
    endpoint = connection.execute(_ENDPOINT_OF.with_for_update(), {"key": rollout}).one_or_none()
    current = reads.rollout(connection, rollout)
    if endpoint is None or endpoint.active_rollout != rollout:
        raise rules.ended(current)
    if current.worker != held_by:
        raise rules.too_late(rollout, reads.worker(connection, current.worker))
    connection.execute(_NEW_WORKER, rows.worker_values(worker))
    taken, _ = rules.stamp(current, (), worker.id, max(endpoint.epoch, at_least) + 1)
    connection.execute(_SET_ENDPOINT, {"key": current.endpoint, "epoch": taken.epoch})
    connection.execute(_SET_ROLLOUT, {"key": rollout, **rows.rollout_values(taken)})
    return taken


def release(connection: Connection, rollout: Rollout) -> None:
    """See `Store.release`."""
    current = reads.rollout(connection, rollout.id)
    if current.epoch == rollout.epoch and current.worker is not None:
        connection.execute(_SET_ROLLOUT, {"key": rollout.id, **rows.rollout_values(rules.let_go(current))})


def commit(connection: Connection, commit: Commit) -> None:
    """See `Store.commit`."""
    rollout = commit.rollout
    rules.check_writer(commit)
    fence = {"key": rollout.id, "endpoint": rollout.endpoint, "epoch": rollout.epoch}
    last_seq = connection.execute(_OURS, fence).scalar_one_or_none()
    # Being fenced, or behind, may only mean that this is the repetition of a commit that was in doubt.
    behind = last_seq is None or (commit.events and commit.events[0].seq <= last_seq)
    if behind and commit.events and reads.known(connection, commit.events):
        return
    late = last_seq is None
    if last_seq is None:
        current = reads.rollout(connection, rollout.id)
        if not rules.postscript(commit, current):
            raise _not_ours(connection, rollout)
        last_seq = current.last_seq
    rules.check_sequence(rollout, commit.events, last_seq)
    if not rollout.active and not late:
        connection.execute(_SET_ENDPOINT, {"key": rollout.endpoint, "active_rollout": None})
    connection.execute(_SET_ROLLOUT, {"key": rollout.id, **rows.rollout_values(rollout)})
    if commit.events:
        connection.execute(_NEW_EVENTS, [rows.event_values(event) for event in commit.events])
    for intent in commit.intents:
        connection.execute(_PUT_INTENT, rows.intent_values(rollout.id, intent))
    for consumed in commit.consumed:
        outcome = {"consumed_seq": consumed.seq, "outcome": consumed.outcome}
        spent = connection.execute(_SPEND, {"key": consumed.command, "whose": rollout.id, **outcome})
        if spent.rowcount != 1:
            raise rules.spent(consumed.command, rollout.id)
    if commit.measurement is not None:
        connection.execute(_NEW_MEASUREMENT, rows.measurement_values(rollout.id, *commit.measurement))
    if commit.evidence is not None:
        connection.execute(_PUT_EVIDENCE, rows.evidence_values(rollout.id, commit.evidence))


def put_bundle(connection: Connection, bundle: Bundle) -> None:
    """See `Store.put_bundle`."""
    connection.execute(_NEW_BUNDLE, {"sha256": bundle.sha256, "body": rows.dump(bundle)})


def post(connection: Connection, command: Command) -> Command:
    """See `Store.post`."""
    reads.rollout(connection, command.rollout)
    connection.execute(_NEW_COMMAND, rows.command_values(command))
    return rows.command_of(connection.execute(_COMMAND, {"key": command.id}).one())


def put_worker(connection: Connection, worker: Worker) -> None:
    """See `Store.put_worker`."""
    connection.execute(_PUT_WORKER, rows.worker_values(worker))


def beat(connection: Connection, worker: str) -> None:
    """See `Store.beat`."""
    if connection.execute(_BEAT, {"key": worker}).rowcount != 1:
        raise rules.unknown_worker(worker)


def _not_ours(connection: Connection, rollout: Rollout) -> Exception:
    current = reads.rollout(connection, rollout.id)
    if not current.active:
        return rules.over(current)
    endpoint = connection.execute(_ENDPOINT, {"key": current.endpoint}).one()
    return rules.lease_lost(rollout.id, reads.worker(connection, current.worker), endpoint.epoch)
