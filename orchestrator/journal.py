"""Writing down what happened to a rollout, one event at a time, before anybody acts on it.

The journal is the only way in which a driver changes its rollout: event, row, intents, consumed command, measurement
and evidence go into one transaction, and only then does the driver, and whoever watches, see them.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from orchestrator import events as ev
from orchestrator import ids
from orchestrator.errors import CommitUnknown
from orchestrator.rollout import Rollout, apply
from orchestrator.standing import Command
from orchestrator.store.base import Commit, Consumed, Evidence, Store
from providers.measurement import Measurement

Watcher = Callable[[Rollout, Sequence[ev.Event]], None]
"""Called after every commit, with the rollout as it then stands."""
LONGEST = 8_000
"""Characters of a reason that are kept."""


class Journal:
    """One rollout, and the store in which it is kept."""

    def __init__(self, rollout: Rollout, store: Store, clock: Callable[[], datetime], watcher: Watcher) -> None:
        self.rollout = rollout
        self._store, self._clock, self._watcher = store, clock, watcher

    async def write(
        self,
        body: ev.Body,
        *,
        command: Command | None = None,
        measurement: tuple[int, int, Measurement] | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        """Write one event with everything that goes with it, then remember it.

        Raises LeaseLost when another driver has the endpoint now, StoreError.
        """
        before = self.rollout
        body = _legible(body)
        event = ev.Event(
            rollout=before.id,
            seq=before.last_seq + 1,
            id=ids.event_id(),
            at=self._clock(),
            actor=command.actor if command is not None else "engine",
            epoch=before.epoch,
            body=body,
        )
        rollout = apply(before, event)
        intents = [intent for key, intent in rollout.intents.items() if before.intents.get(key) != intent]
        if isinstance(body, ev.Ended):
            intents.append(replace(before.intents[body.key], state=body.outcome))
        outcome = "accepted"
        if isinstance(body, ev.Commanded) and not body.accepted:
            outcome = f"refused: {body.reason}"
        consumed = [Consumed(command.id, event.seq, outcome)] if command is not None else []
        commit = Commit(rollout, [event], intents, consumed, measurement, evidence)
        for attempt in range(1, 4):
            try:
                await self._store.commit(commit)
                break
            except CommitUnknown:
                # Committing the same event again is harmless, whether it was written or not.
                if attempt == 3:
                    raise
                await asyncio.sleep(ids.back_off(event.id, attempt))
        self.rollout = rollout
        self._watcher(rollout, [event])


def _legible(body: ev.Body) -> ev.Body:
    """The event with words that any terminal may show: they may stem from a model's log, an answer, or a human."""
    changes: dict[str, str] = {}
    for name in ("reason", "detail"):
        said = getattr(body, name, None)
        if isinstance(said, str):
            changes[name] = _shown(said)
    waiting = getattr(body, "waiting", None)
    if isinstance(body, ev.Waited) and waiting is not None:
        return ev.Waited(replace(waiting, reason=_shown(waiting.reason)))
    return replace(body, **changes) if changes else body  # type: ignore[arg-type]


def _shown(said: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in said[:LONGEST])
