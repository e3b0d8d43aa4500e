"""Synthetic traffic with an open loop: requests are sent when they are due, however slowly the endpoint answers.

A closed loop waits for answers, so an endpoint that becomes slow gets fewer requests, and its figures look better than
what clients would see. Here what could not be sent in time is counted and left out, and the rate that was achieved is
said beside the one that was asked for. Whatever is kept is bounded: counts, and latencies in buckets.

Heavy imports are fine here: the command imports this module when it runs.
"""

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field

from orchestrator.gates.histogram import quantile_bound
from providers.base import Invokes, Request, Response
from providers.errors import Permanent, ProviderError
from providers.measurement import Histogram

LATE = 1.0
"""Seconds after which a request that is due is left out, rather than sent in a burst."""
GRACE = 1.0
"""Seconds that answers under way are still waited for after Ctrl-C."""
TICK = 0.1
"""Seconds after which Ctrl-C is noticed."""
NAMES = 50
"""Deployments that are counted apart; whoever answers says the name, so there may be any number."""
_STEP = math.log(1.01)


@dataclass(frozen=True, slots=True)
class Order:
    """What shall be sent.

    Attributes:
        rate: requests a second. seconds: for how long, or None. count: how many at most, or None.
        at_once: requests that may wait for their answer at a time. timeout: seconds that one waits.
        deployment: asked directly, or None for the endpoint's split.
    """

    rate: float
    seconds: float | None
    count: int | None
    at_once: int
    timeout: float
    deployment: str | None


class Latencies:
    """A histogram in steps of one percent, whatever the range."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one."""
        self._buckets[math.ceil(math.log(max(seconds * 1e6, 1.0)) / _STEP)] += 1

    def quantile(self, quantile: float) -> int | None:
        """Microseconds, at most one percent too many; None while there is none."""
        bounds = tuple((round(math.exp((k - 1) * _STEP)), round(math.exp(k * _STEP)), n) for k, n in self._sorted())
        return quantile_bound(Histogram(bounds), quantile)

    def _sorted(self) -> list[tuple[int, int]]:
        return sorted(self._buckets.items())


@dataclass(slots=True)
class Tally:
    """What was sent so far, and what came of it.

    Attributes:
        due: requests that should have been sent. sent: those that were.
        full: left out because `at_once` were waiting. late: left out because this process was too slow.
        under_way: sent, and not answered yet. cut_off: given up at the end, unanswered.
        statuses: status -> answers. unanswered: time-outs and broken connections; `problem`: the last one, in words.
        answers, bad: deployment -> answers by it, and those without 2xx.
        elapsed: seconds of sending so far. owed: seconds that what was due takes at the rate that was asked for.
        broken: why it makes no sense to go on, or None.
    """

    due: int = 0
    sent: int = 0
    full: int = 0
    late: int = 0
    under_way: int = 0
    cut_off: int = 0
    unanswered: int = 0
    problem: str | None = None
    statuses: Counter[int] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    latencies: Latencies = field(default_factory=Latencies)
    elapsed: float = 0.0
    owed: float = 0.0
    broken: str | None = None

    @property
    def rate(self) -> float:
        """Requests that were sent a second."""
        return self.sent / (max(self.elapsed, self.owed) or math.inf)

    @property
    def good(self) -> int:
        """Answers with 2xx."""
        return sum(count for status, count in self.statuses.items() if _good(status))

    @property
    def failed(self) -> int:
        """Requests without an answer with 2xx; those that were cut off do not count."""
        return sum(self.statuses.values()) - self.good + self.unanswered

    def count(self, response: Response) -> None:
        """One answer."""
        self.statuses[response.status] += 1
        self.latencies.add(response.seconds)
        who = response.deployment or "unknown"
        if who not in self.answers and len(self.answers) >= NAMES:
            who = "others"
        self.answers[who] += 1
        self.bad[who] += not _good(response.status)


def _good(status: int) -> bool:
    return 200 <= status < 300


async def send(
    provider: Invokes, endpoint: str, request: Request, order: Order, tally: Tally, stop: asyncio.Event
) -> None:
    """Send until the order is fulfilled or `stop` is set, then wait for the answers; `tally` is kept up to date."""
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[None]] = set()
    faults: list[BaseException] = []

    async def one() -> None:
        try:
            response = await provider.invoke(endpoint, request, deployment=order.deployment, timeout=order.timeout)
            tally.count(response)
        except Permanent as error:
            tally.unanswered += 1
            tally.broken = str(error)
        except ProviderError as error:
            tally.unanswered += 1
            tally.problem = str(error)

    def ended(task: asyncio.Task[None]) -> None:
        under_way.discard(task)
        tally.under_way = len(under_way)
        if not task.cancelled() and (fault := task.exception()) is not None:
            faults.append(fault)
            stop.set()

    began = loop.time()
    try:
        while order.count is None or tally.sent < order.count:
            due = tally.due / order.rate
            over = order.seconds is not None and due >= order.seconds
            await _until(began + (order.seconds if over and order.seconds else due), began, stop, tally)
            if over or stop.is_set() or tally.broken is not None:
                break
            late = LATE if order.seconds is None or tally.elapsed <= order.seconds else TICK
            if (behind := tally.elapsed - due - late) > 0:
                left = math.inf if order.seconds is None else order.seconds * order.rate - tally.due
                skipped = max(1, int(min(behind * order.rate, left)))
                tally.due += skipped
                tally.late += skipped
                continue
            tally.due += 1
            tally.owed = tally.due / order.rate
            if len(under_way) >= order.at_once:
                tally.full += 1
            else:
                task = loop.create_task(one())
                under_way.add(task)
                task.add_done_callback(ended)
                tally.sent += 1
                tally.under_way = len(under_way)
        await _answers(under_way, stop)
    finally:
        tally.cut_off = len(under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
    if faults:
        raise faults[0]


async def _until(when: float, began: float, stop: asyncio.Event, tally: Tally) -> None:
    """Sleep until then, or until there is nothing more to send."""
    loop = asyncio.get_running_loop()
    left = when - loop.time()
    while True:
        await asyncio.sleep(min(max(left, 0.0), TICK))
        tally.elapsed = loop.time() - began
        left = when - loop.time()
        if left <= 0 or stop.is_set() or tally.broken is not None:
            return


async def _answers(under_way: set[asyncio.Task[None]], stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    patience: float | None = None
    while under_way and (patience is None or loop.time() < patience):
        await asyncio.wait(under_way, timeout=TICK)
        if stop.is_set() and patience is None:
            patience = loop.time() + GRACE
