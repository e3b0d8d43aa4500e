"""Keeps one rollout's picture up to date by reading only what is new from the store.

Whoever drives and whoever watches read the same store in the same way, so both see the same picture; a driver's own
commits only ring the bell sooner. Faces are shown in a thread: a terminal or a pipe that stands still (a laptop asleep
at the other end of ssh, `| less`) must hold up nobody's guard.
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
    """Where a rollout is shown as it goes. `show` is called in a thread, everything else by the event loop."""

    def show(self, view: RolloutView | None, events: Sequence[Event], since: int) -> None:
        """The picture, None while nothing is known; the journal so far; the story is told from the event after `since`.

        May take as long as the terminal does.
        """
        ...

    def say(self, message: str) -> None:
        """One line of our own, such as "stopping safely", with the next `show`. Returns at once."""
        ...

    def suspend(self) -> None:
        """Leave the terminal as it was for a while; the next `show` begins anew."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was, the last picture on it. Twice does no harm, nor a terminal that is gone."""
        ...


class Follower:
    """What is known of a rollout. `rollout` is None until its id is known."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._id: str | None = None
        self._measurements: list[tuple[int, int, Measurement]] = []
        self._bells: list[asyncio.Event] = []
        self._since: int | None = None
        self.rollout: Rollout | None = None
        self.events: list[Event] = []

    @property
    def id(self) -> str | None:
        """The rollout's id, once it is known."""
        return self._id

    @property
    def app(self) -> App:
        """The application whose store is read."""
        return self._app

    def ring(self, rollout: Rollout, events: Sequence[Event] = ()) -> None:
        """Something was committed; a driver's watcher. The story is told from the first event that rang."""
        if self._since is None:
            self._since = events[0].seq - 1 if events else rollout.last_seq
        self._id = rollout.id
        self.wake()

    def follow(self, rollout: Rollout, *, since: int = 0) -> None:
        """Follow this one; the story is told from the event after `since`."""
        self._id, self._since = rollout.id, since

    def bell(self) -> asyncio.Event:
        """An event of one's own that is set whenever there may be something new."""
        bell = asyncio.Event()
        self._bells.append(bell)
        return bell

    def wake(self) -> None:
        """Look again at once."""
        for bell in self._bells:
            bell.set()

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
        picture = self.view(self._app.clock())
        await asyncio.to_thread(face.show, picture, tuple(self.events), self._since or 0)

    async def keep_showing(self, face: Face) -> None:
        """Until cancelled; or until the rollout has ended, which was shown then."""
        bell = self.bell()
        while True:
            bell.clear()
            await self.show(face)
            if self.rollout is not None and not self.rollout.active:
                return
            await rung(bell)


async def rung(bell: asyncio.Event) -> None:
    """Wait for the bell, or until it is time to look anyway."""
    try:
        # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the bell.
        async with asyncio.timeout(EVERY):
            await bell.wait()
    except TimeoutError:
        pass
