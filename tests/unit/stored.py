"""Rollouts in a store, for tests of what is found there: as if they had been run."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator import events as ev
from orchestrator import ids
from orchestrator.lifecycle import Phase
from orchestrator.rollout import apply
from orchestrator.settings import from_environment
from orchestrator.standing import Roles, Snapshot, Split
from orchestrator.store.base import Commit, Worker
from orchestrator.store.sql import SqlStore
from tests.unit.making import bundle

BEGAN = datetime(2024, 11, 20, 9, 0, tzinfo=UTC)
ENDS: dict[Phase, tuple[ev.Body, ...]] = {
    "running": (),
    "paused": (ev.Paused("asked", "lunch", None),),
    "succeeded": (ev.Finished("succeeded", "green serves"),),
    "rolled_back": (ev.RollbackBegan("gate", "errors"), ev.Finished("rolled_back", "errors")),
    "failed": (ev.Finished("failed", "blue stands"),),
}


def put(*rollouts: tuple[str, str, str, Phase], advisory: bool = False) -> None:
    """Keep these in the store of the environment: (id, name, endpoint, phase), each begun an hour after the last."""
    asyncio.run(_put(rollouts, {"advisory": True} if advisory else {}))


async def _put(rollouts: tuple[tuple[str, str, str, Phase], ...], options: Mapping[str, Any]) -> None:
    store = await SqlStore.open(from_environment().store, token=ids.token)
    worker = Worker("w1", "elsewhere", "boot", 4711, "99")
    for number, (rollout, name, endpoint, phase) in enumerate(rollouts):
        at = BEGAN + timedelta(hours=number)
        roles = Roles("green", "blue", Split({"blue": 1000}))
        started = ev.Started(
            name,
            "/plan.yml",
            "memory",
            f"memory:default/{endpoint}",
            endpoint,
            "0" * 64,
            roles,
            ("deploy green",),
            Snapshot(),
            options,
        )
        first = ev.Event(rollout, 1, f"{rollout}.1", at, "ada", 0, started)
        pinned = bundle("  - deploy: green\n")
        row = await store.create(apply(None, first), pinned, [first], worker=worker, provider="memory", at_least=0)
        events = []
        for body in (ev.Driven(worker.id, worker.host, worker.pid, row.epoch), *ENDS[phase]):
            seq = row.last_seq + 1
            event = ev.Event(rollout, seq, f"{rollout}.{seq}", at + timedelta(seconds=seq), "engine", row.epoch, body)
            row = apply(row, event)
            events.append(event)
        await store.commit(Commit(row, tuple(events)))
    await store.aclose()
