"""Tells webhooks what happens to a rollout, beside it: nothing here can block or change the rollout.

Other systems hear of a rollout in few words (`plans.model.NOTIFY_EVENTS`), not in the journal's many. Each webhook has
a queue and a task of its own, so that it hears in order, and one that hangs delays no other. What became of a delivery
is journalled by the driver, so the journal alone says what a driver that died did not deliver: the next one catches up,
with the same body under the same Idempotency-Key. A webhook hears at least once of all that was not given up.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator import events as ev
from orchestrator import ids
from orchestrator.rollout import Rollout, apply
from orchestrator.tasks.result import TaskResult
from orchestrator.tasks.webhook import Message, host_of, send
from orchestrator.views import as_json, percents
from plans.model import Notification
from plans.units import show_duration
from providers.errors import ProviderError
from providers.http import Http

TIMEOUT = 10.0
"""Seconds for one try."""
RETRIES = 5
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before the first retry, from which they double: a receiver that is being restarted is back by the last."""
MOST_WAITING = 1000
"""Notifications that wait for one webhook; beyond that the oldest is given up."""

Target = Notification
"""A webhook, as the plan says it; known to the journal by its place in the plan's list."""
Delivery = ev.Notified
"""What became of one notification: what the driver writes down."""
Sender = Callable[[Message], Awaitable[TaskResult]]
"""Sends a message once, within its timeout."""


def names_of(event: ev.Event) -> str | None:
    """What webhooks call this event, or None when they do not hear of it."""
    match event.body:
        case ev.Started():
            return "started"
        case ev.StageEnded(outcome="passed"):
            return "step_passed"
        case ev.Waited(waiting=waiting) if waiting is not None and waiting.kind == "approval":
            return "waiting_for_approval"
        case ev.Paused():
            return "paused"
        case ev.Resumed():
            return "resumed"
        case ev.RollbackBegan():
            return "rolling_back"
        case ev.Finished(phase=phase):
            return phase
    return None


def facts(rollout: Rollout, event: ev.Event) -> dict[str, Any]:
    """The body of a notification; `rollout` is as the event left it.

    `step` is the step that has passed, else the current one, None between two. `traffic`: deployment -> percent, as the
    rollout last made it. `at`: ISO 8601 in UTC. `id`: of the event, the same for every webhook.
    """
    body, record = event.body, rollout.record
    step = record.name if record is not None and record.state != "waiting" else None
    reason = getattr(body, "reason", None)
    if isinstance(body, ev.StageEnded):
        step = rollout.stages[body.stage].name
    if isinstance(body, ev.Waited) and body.waiting is not None:
        reason = body.waiting.reason
    told = {
        "event": names_of(event),
        "rollout": rollout.id,
        "name": rollout.name,
        "endpoint": rollout.endpoint_name,
        "phase": rollout.phase,
        "step": step,
        "candidate": rollout.roles.candidate,
        "stable": rollout.roles.stable,
        "traffic": percents(rollout.expected.traffic),
        "reason": reason,
        "at": as_json(event.at),
        "seq": event.seq,
        "id": event.id,
    }
    return {name: _legible(value) if isinstance(value, str) else value for name, value in told.items()}


def undelivered(events: Sequence[ev.Event], targets: Sequence[Target]) -> list[tuple[ev.Event, int]]:
    """What a journal shows no delivery of, in order: the event, and the place of the webhook that did not hear of it.

    One that was given up counts as dealt with. Nothing from before an edited plan was adopted is found: its list of
    webhooks may be another one, and what was told to whom can no longer be known.
    """
    since = max((event.seq for event in events if isinstance(event.body, ev.Adopted)), default=0)
    dealt_with = {(event.body.seq, event.body.target) for event in events if isinstance(event.body, ev.Notified)}
    return [
        (event, place)
        for event in events
        if event.seq > since
        for place, target in enumerate(targets)
        if names_of(event) in target.events and (event.seq, place) not in dealt_with
    ]


@dataclass(frozen=True, slots=True)
class _Notice:
    """One event on its way to one webhook."""

    seq: int
    name: str
    key: str
    body: bytes


@dataclass(slots=True, eq=False)
class _Lane:
    """The way to one webhook: what waits, and what is being sent."""

    place: int
    target: Target
    host: str
    waiting: deque[_Notice] = field(default_factory=deque)
    current: _Notice | None = None
    attempts: int = 0
    said: str = ""
    newest: int = 0
    task: asyncio.Task[None] | None = None

    @property
    def unfinished(self) -> list[_Notice]:
        """In order, with what is being sent."""
        return [*([self.current] if self.current is not None else []), *self.waiting]


class Notifier:
    """Tells one rollout's webhooks, in tasks of the driver's event loop.

    Args:
        targets: the plan's webhooks.
        resolve: a text with references to secrets -> the text with their values; raises ProviderError.
        send: sends a message once; over HTTP, unless a test gives another.
    """

    def __init__(self, targets: Sequence[Target], *, resolve: Callable[[str], str], send: Sender | None = None) -> None:
        self._targets, self._resolve = targets, resolve
        self._http = Http(connections=2 * max(1, len(targets)))
        self._send = send or self._over_http
        self._lanes = [_Lane(place, target, _known_host(place, target.url)) for place, target in enumerate(targets)]
        self._results: list[Delivery] = []

    def catch_up(self, journal: Sequence[ev.Event]) -> None:
        """Queue what no driver has delivered yet; to be called with the whole journal, before the first `tell`."""
        left: dict[int, set[int]] = {}
        for event, place in undelivered(journal, self._targets):
            left.setdefault(event.seq, set()).add(place)
        rollout: Rollout | None = None
        for event in journal[: max(left, default=0)]:
            rollout = apply(rollout, event)
            if event.seq in left:
                self._queue(rollout, event, left[event.seq])

    def tell(self, rollout: Rollout, events: Sequence[ev.Event]) -> None:
        """Queue what these events have to tell, and return at once; called after each commit, with the rollout as it
        then stands.
        """
        for event in events:
            self._queue(rollout, event, range(len(self._lanes)))

    def take_results(self) -> list[Delivery]:
        """The deliveries that ended, well or not, since the last call."""
        results, self._results = self._results, []
        return results

    async def drain(self, seconds: float, *, give_up: bool = True) -> list[Delivery]:
        """Go on delivering until nothing is left, for that long at most; returns what `take_results` would.

        What is left then is given up and reported as such; with `give_up` False it stays undelivered in the journal,
        for the next driver to catch up with.
        """
        busy = [lane.task for lane in self._lanes if lane.task is not None and not lane.task.done()]
        if busy:
            await asyncio.wait(busy, timeout=seconds)
        await self._stop()
        for lane in self._lanes:
            for notice in lane.unfinished if give_up else ():
                attempts = lane.attempts if notice is lane.current else 0
                last = f"; the last try: {lane.said}" if attempts and lane.said else ""
                why = f"given up: not done {show_duration(seconds)} after the driver had finished{last}"
                self._report(lane, notice, ok=False, detail=why, attempts=attempts)
            lane.current = None
            lane.waiting.clear()
        return self.take_results()

    async def aclose(self) -> None:
        """Stop at once and close every connection. What was not delivered stays so in the journal."""
        await self._stop()
        await self._http.aclose()

    async def _stop(self) -> None:
        tasks = [lane.task for lane in self._lanes if lane.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _queue(self, rollout: Rollout, event: ev.Event, places: Collection[int]) -> None:
        name = names_of(event)
        wanted = [lane for lane in self._lanes if lane.place in places and name in lane.target.events]
        if name is None or not wanted:
            return
        body = json.dumps(facts(rollout, event)).encode()
        for lane in wanted:
            if event.seq <= lane.newest:
                continue
            lane.newest = event.seq
            lane.waiting.append(_Notice(event.seq, name, f"{rollout.id}.{event.seq}.{lane.place}", body))
            if len(lane.waiting) > MOST_WAITING:
                why = f"given up: more than {MOST_WAITING} notifications waited for this webhook"
                self._report(lane, lane.waiting.popleft(), ok=False, detail=why, attempts=0)
            if lane.task is None or lane.task.done():
                lane.task = asyncio.get_running_loop().create_task(self._deliver_all(lane))

    def _report(self, lane: _Lane, notice: _Notice, *, ok: bool, detail: str, attempts: int) -> None:
        self._results.append(Delivery(notice.seq, lane.place, lane.host, ok, _legible(detail), attempts))

    async def _deliver_all(self, lane: _Lane) -> None:
        while lane.waiting:
            notice = lane.waiting.popleft()
            lane.current, lane.attempts, lane.said = notice, 0, ""
            try:
                result = await self._deliver(lane, notice)
            except Exception as error:  # noqa: BLE001 - a mistake of our own costs this notification, never the others
                # The error's words are not repeated: they may hold the address.
                result = TaskResult(False, f"stopped by an error of its own ({type(error).__name__})")
            lane.current = None
            self._report(lane, notice, ok=result.ok, detail=result.detail, attempts=lane.attempts)

    async def _deliver(self, lane: _Lane, notice: _Notice) -> TaskResult:
        try:
            message = self._message(lane.target, notice)
        except ProviderError as error:
            return TaskResult(False, str(error))
        lane.host = _known_host(lane.place, message.url)
        while True:
            lane.attempts += 1
            result = await self._send(message)
            lane.said = result.detail
            if result.ok or not result.retry or lane.attempts > RETRIES:
                return result
            await asyncio.sleep(ids.back_off(message.key, lane.attempts, first=FIRST_WAIT, most=LONGEST_WAIT))

    def _message(self, target: Target, notice: _Notice) -> Message:
        """With the values of the secrets as they are now. Raises ProviderError, which names a reference only."""
        return Message(
            url=self._resolve(target.url),
            body=notice.body,
            key=notice.key,
            secret=self._resolve(target.secret) if target.secret is not None else None,
            headers={"x-rollout-event": notice.name},
            timeout=TIMEOUT,
        )

    async def _over_http(self, message: Message) -> TaskResult:
        return await send(message, self._http)


def _known_host(place: int, url: str) -> str:
    """The host, for people; where it is not known, because it is a secret or no host at all, the place in the plan."""
    host = host_of(url)
    return f"notify[{place}]" if host is None or "$" in host else host


def _legible(text: str) -> str:
    """Words that a terminal may show, wherever they come from."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
