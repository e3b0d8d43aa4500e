"""Keeps one rollout's picture up to date by reading only what is new from the store.

Whoever drives and whoever watches read the same store in the same way, so both see the same picture; a driver's own
commits only ring the bell sooner.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from orchestrator.app import App, as_it_stands
from orchestrator.events import Event
from orchestrator.rollout import Rollout
from orchestrator.views import POINTS, RolloutView, view
from providers.measurement import Measurement

EVERY = 0.5
"""Seconds between looks at the store; also how often clocks on the screen move."""


class Face(Protocol):
    """Where a rollout is shown as it goes."""

    def show(self, view: RolloutView, events: Sequence[Event]) -> None:
        """The picture, and the journal so far, from where the story is told."""
        ...

    def say(self, message: str) -> None:
        """One line of our own, such as "stopping safely"."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was, the last picture on it. Twice does no harm."""
        ...


class Follower:
    """What is known of a rollout. `rollout` is None until its id is known."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._id: str | None = None
        self._measurements: list[tuple[int, int, Measurement]] = []
        self._bell = asyncio.Event()
        self._since: int | None = None
        self.rollout: Rollout | None = None
        self.events: list[Event] = []

    def ring(self, rollout: Rollout, events: Sequence[Event] = ()) -> None:
        """Something was committed; a driver's watcher. The story is told from the first event that rang."""
        if self._since is None:
            self._since = events[0].seq - 1 if events else rollout.last_seq
        self._id = rollout.id
        self._bell.set()

    def follow(self, rollout: Rollout, *, since: int = 0) -> None:
        """Follow this one; the story is told from the event after `since`."""
        self._id, self._since = rollout.id, since

    async def refresh(self) -> None:
        """Read what is new."""
        if self._id is None:
            return
        store = self._app.store
        # The row last: it may then be newer than the journal that was read, never older than what is shown of it.
        after = self.events[-1].seq if self.events else 0
        self.events += await store.events(self._id, after=after)
        seen = self._measurements[-1][0] if self._measurements else 0
        self._measurements += await store.measurements(self._id, after=seen)
        del self._measurements[:-POINTS]
        self.rollout = await as_it_stands(self._app, await store.rollout(self._id))

    def view(self, now: datetime) -> RolloutView | None:
        """The picture as of the last refresh, with the clocks of now."""
        if self.rollout is None:
            return None
        return view(self.rollout, events=self.events, measurements=self._measurements, now=now)

    async def show(self, face: Face) -> None:
        """Read what is new and show it."""
        await self.refresh()
        seen = self.view(self._app.clock())
        if seen is not None:
            face.show(seen, [event for event in self.events if event.seq > (self._since or 0)])

    async def keep_showing(self, face: Face) -> None:
        """Until cancelled; or until the rollout has ended, which was shown then."""
        while True:
            await self.show(face)
            if self.rollout is not None and not self.rollout.active:
                return
            try:
                await asyncio.wait_for(self._bell.wait(), EVERY)
            except TimeoutError:
                pass
            self._bell.clear()
