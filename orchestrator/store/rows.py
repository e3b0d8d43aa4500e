"""Values to rows and back.

Everything that is not queried is JSON made by pydantic from the dataclasses themselves, so no type is translated
twice. Evidence holds logarithms that may be minus infinity: they are written as the constants `Infinity` and
`-Infinity`, which pydantic reads back exactly (its default would write null).
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from sqlalchemy import Row

from orchestrator.bundle import BUNDLE, Bundle
from orchestrator.errors import StoreError
from orchestrator.events import BODY, Event
from orchestrator.gates.state import GateState
from orchestrator.rollout import Rollout
from orchestrator.standing import Command, Intent
from orchestrator.store.base import Evidence, Worker
from providers.measurement import Cursor, Measurement

T = TypeVar("T")
Values = dict[str, Any]

ROLLOUT: TypeAdapter[Rollout] = TypeAdapter(Rollout)
INTENT: TypeAdapter[Intent] = TypeAdapter(Intent)
MEASUREMENT: TypeAdapter[Measurement] = TypeAdapter(Measurement)
CURSOR: TypeAdapter[Cursor] = TypeAdapter(Cursor)
GATES: TypeAdapter[GateState] = TypeAdapter(GateState)
ARGS: TypeAdapter[Mapping[str, Any]] = TypeAdapter(Mapping[str, Any])

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def dump(value: object) -> str:
    """JSON text of a value made of dataclasses, models, mappings and tuples."""
    return to_json(value, inf_nan_mode="constants").decode()


def load(adapter: TypeAdapter[T], text: str, what: str) -> T:
    """The value again. Raises StoreError, naming `what`, when this version cannot read it."""
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "its beginning"
        raise StoreError(
            f"the store's record of {what} cannot be read at {where} ({first['msg']}): "
            "it was damaged, or written by another version; use the version that wrote it"
        ) from error


def micros(at: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (at - _EPOCH) // _MICROSECOND


def instant(microseconds: int) -> datetime:
    """The aware UTC time again."""
    return _EPOCH + microseconds * _MICROSECOND


def rollout_values(rollout: Rollout) -> Values:
    """Columns of `rollouts` that change."""
    return {
        "bundle": rollout.bundle,
        "phase": rollout.phase,
        "stage": rollout.stage,
        "epoch": rollout.epoch,
        "worker": rollout.worker,
        "last_seq": rollout.last_seq,
        "state": dump(rollout),
        "updated_at": micros(rollout.updated_at),
    }


def new_rollout_values(rollout: Rollout) -> Values:
    """A row of `rollouts`, without its number."""
    return {
        "id": rollout.id,
        "name": rollout.name,
        "endpoint": rollout.endpoint,
        "started_at": micros(rollout.started_at),
        **rollout_values(rollout),
    }


def intent_values(rollout: str, intent: Intent) -> Values:
    """A row of `intents`, without its number."""
    return {
        "id": intent.key,
        "rollout": rollout,
        "epoch": intent.epoch,
        "state": intent.state,
        "body": dump(intent),
    }


def event_values(event: Event) -> Values:
    """A row of `events`."""
    return {
        "rollout": event.rollout,
        "seq": event.seq,
        "id": event.id,
        "v": event.v,
        "kind": event.body.kind,
        "at": micros(event.at),
        "actor": event.actor,
        "epoch": event.epoch,
        "body": dump(event.body),
    }


def event_of(row: Row[Any]) -> Event:
    """An event again. Raises StoreError."""
    return Event(
        rollout=row.rollout,
        seq=row.seq,
        id=row.id,
        at=instant(row.at),
        actor=row.actor,
        epoch=row.epoch,
        body=load(BODY, row.body, f"event {row.seq} of rollout {row.rollout}"),
        v=row.v,
    )


def worker_values(worker: Worker) -> Values:
    """A row of `workers`."""
    return {
        "id": worker.id,
        "host": worker.host,
        "boot_id": worker.boot_id,
        "pid": worker.pid,
        "pid_started": worker.pid_started,
        "beat": worker.beat,
    }


def worker_of(row: Row[Any]) -> Worker:
    """A worker again."""
    return Worker(
        id=row.id, host=row.host, boot_id=row.boot_id, pid=row.pid, pid_started=row.pid_started, beat=row.beat
    )


def command_values(command: Command) -> Values:
    """A row of `commands`, without its number."""
    return {
        "id": command.id,
        "rollout": command.rollout,
        "kind": command.kind,
        "args": dump(dict(command.args)),
        "actor": command.actor,
        "at": micros(command.at),
        "consumed_seq": None,
        "outcome": None,
    }


def command_of(row: Row[Any]) -> Command:
    """A command again. Raises StoreError."""
    return Command(
        id=row.id,
        rollout=row.rollout,
        kind=row.kind,
        actor=row.actor,
        at=instant(row.at),
        args=load(ARGS, row.args, f"command {row.id}"),
        n=row.n,
        consumed_seq=row.consumed_seq,
        outcome=row.outcome,
    )


def measurement_values(rollout: str, seq: int, stage: int, measurement: Measurement) -> Values:
    """A row of `measurements`."""
    return {
        "rollout": rollout,
        "seq": seq,
        "stage": stage,
        "start_at": micros(measurement.start),
        "end_at": micros(measurement.end),
        "body": dump(measurement),
    }


def evidence_values(rollout: str, evidence: Evidence) -> Values:
    """A row of `evidence`."""
    return {
        "rollout": rollout,
        "measurement_seq": evidence.measurement_seq,
        "cursor": dump(evidence.cursor),
        "gates": dump(evidence.gates),
    }


def evidence_of(row: Row[Any]) -> Evidence:
    """Evidence again. Raises StoreError."""
    what = f"the evidence of rollout {row.rollout}"
    return Evidence(row.measurement_seq, load(CURSOR, row.cursor, what), load(GATES, row.gates, what))


def bundle_of(text: str, sha256: str) -> Bundle:
    """A bundle again. Raises StoreError."""
    return load(BUNDLE, text, f"bundle {sha256[:12]}")
