"""Requests of the simulated cloud: how many there were, who answered them and how, without one of them being sent.

The n-th request of an endpoint has its fate (split, mirror, outcome, latency) from a generator seeded with the
endpoint's name and n alone, so it is the same whoever looks, and whenever: two polls count together exactly what one
poll over both windows would have counted. Arrivals are evenly spaced; what is random is who gets a request and what
becomes of it. A minute of 200 requests a second, looked at every second, costs some 40 ms.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from providers.measurement import RESET, TIMEOUT, Histogram, Leg, Pairs, Source
from providers.memory.answered import AnswerLog
from providers.memory.pairs import NO_ANSWER_US, Outcome, PairLog, code

SOURCES: tuple[Source, ...] = ("live", "mirror", "direct")

# Two significant digits, as Envoy's histograms have; up to 1000 s.
_BOUNDS: NDArray[np.int64] = np.array(
    [*range(100), *(10**power * step for power in range(1, 8) for step in range(10, 100)), 10**9], dtype=np.int64
)
_BLOCK = 1024
_NO_HOST_US = 100


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a deployment acts once it is there, and whether it comes up at all.

    Attributes:
        error_rate: share of requests that end with `error_status`, 0..1.
        error_status: what they end with.
        timeouts: share of requests that get no answer in time, 0..1.
        latency_us: median of the latency, microseconds.
        sigma: of the logarithm of the latency (lognormal: p95 is the median times exp(1.645 sigma)).
        shared_error_rate: share of requests that are bad for every deployment that has such a rate: with the same rate
            on both sides a copy fails when its twin does, and only then. Adds to `error_rate`.
        mirror_drops: share of copies that never reach an instance, 0..1.
        kept_away: share of its live requests that something in front of it answers, so that nobody counts them, 0..1.
        likeness: correlation of the latency of a copy with its twin's, as normal draws, -1..1.
        starts: whether it becomes healthy.
        start_seconds: time until it is healthy, or has failed; None for the world's duration of `put_deployment`.
        exit_reason: why it cannot start.
        prints: what each instance prints when it starts; `{deployment}` and `{instance}` are filled in.
        answer: body of a good response.
        differs: share of good responses that are `other_answer` instead, 0..1.
        other_answer: their body.
    """

    error_rate: float = 0.0
    error_status: int = 500
    timeouts: float = 0.0
    latency_us: int = 5_000
    sigma: float = 0.25
    shared_error_rate: float = 0.0
    mirror_drops: float = 0.0
    kept_away: float = 0.0
    likeness: float = 0.7
    starts: bool = True
    start_seconds: float | None = None
    exit_reason: str = "exited 3 times: RuntimeError: init() failed"
    prints: tuple[str, ...] = ("{deployment} instance {instance} started",)
    answer: bytes = b"[0.0]"
    differs: float = 0.0
    other_answer: bytes = b"[1.0]"

    def latencies(self, normals: NDArray[np.float64]) -> NDArray[np.int64]:
        """Microseconds, at least 1, of requests with these standard normal draws."""
        latencies: NDArray[np.float64] = np.maximum(self.latency_us * np.exp(self.sigma * normals), 1)
        return latencies.astype(np.int64)


@dataclass(slots=True)
class Counter:
    """What one deployment got from one source since the counters began; it only grows."""

    classes: dict[str, int] = field(default_factory=dict)
    buckets: dict[int, int] = field(default_factory=dict)
    above: int = 0

    def add(self, name: str, latencies_us: NDArray[np.int64] | None, count: int) -> None:
        """Count requests of one class; without latencies they had no answer."""
        if count == 0:
            return
        self.classes[name] = self.classes.get(name, 0) + count
        if latencies_us is None:
            self.above += count
            return
        places, counts = np.unique(np.searchsorted(_BOUNDS, latencies_us, side="right") - 1, return_counts=True)
        for place, n in zip(places.tolist(), counts.tolist(), strict=True):
            self.buckets[place] = self.buckets.get(place, 0) + n

    def raw(self) -> dict[str, Any]:
        """The reading, as JSON, for a cursor."""
        return {
            "classes": dict(self.classes),
            "buckets": {str(k): n for k, n in self.buckets.items()},
            "above": self.above,
        }

    def since(self, raw: Mapping[str, Any], deployment: str, source: Source) -> Leg:
        """The leg of what came after that reading; an empty mapping is the beginning."""
        classes = {k: n - raw.get("classes", {}).get(k, 0) for k, n in self.classes.items()}
        classes = {k: n for k, n in classes.items() if n}
        before = raw.get("buckets", {})
        buckets = ((k, n - before.get(str(k), 0)) for k, n in sorted(self.buckets.items()))
        histogram = Histogram(
            tuple((int(_BOUNDS[k]), int(_BOUNDS[min(k + 1, len(_BOUNDS) - 1)]), n) for k, n in buckets if n),
            self.above - raw.get("above", 0),
        )
        return Leg(deployment, source, sum(classes.values()), classes, histogram)


@dataclass(slots=True)
class Counters:
    """Everything that an endpoint's data plane has counted since it was started."""

    incarnation: str
    legs: dict[tuple[str, Source], Counter] = field(default_factory=dict)
    pairs: dict[str, PairLog] = field(default_factory=dict)
    answers: dict[str, AnswerLog] = field(default_factory=dict)

    def of(self, deployment: str, source: Source) -> Counter:
        """The counter of this deployment and source, made when it is not there."""
        return self.legs.setdefault((deployment, source), Counter())

    def appear(self, deployment: str) -> None:
        """Make the deployment's counters: it has legs from now on, though nothing came."""
        for source in SOURCES:
            self.of(deployment, source)

    def raw(self) -> dict[str, Any]:
        """The reading, as JSON, for a cursor."""
        legs = {f"{deployment}~{source}": counter.raw() for (deployment, source), counter in self.legs.items()}
        pairs = {name: log.count for name, log in self.pairs.items()}
        return {"legs": legs, "pairs": pairs, "answers": {name: log.raw() for name, log in self.answers.items()}}

    def since(self, raw: Mapping[str, Any], deployments: tuple[str, ...]) -> tuple[tuple[Leg, ...], Pairs]:
        """Legs of what came after that reading, and pairs of the first deployment's copies with twins of the second."""
        legs = tuple(
            counter.since(raw["legs"].get(f"{deployment}~{source}", {}), deployment, source)
            for (deployment, source), counter in self.legs.items()
            if deployment in deployments
        )
        if len(deployments) < 2 or deployments[0] not in self.pairs:
            return legs, Pairs()
        candidate, stable = deployments[:2]
        return legs, self.pairs[candidate].since(raw["pairs"].get(candidate, 0), stable)


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests go at one moment.

    Attributes:
        traffic, mirror: deployment -> share, tenths of a percent.
        behaviours: of every deployment named there; None where none of its instances answers.
    """

    traffic: Mapping[str, int]
    mirror: Mapping[str, int]
    behaviours: Mapping[str, Behaviour | None]


@dataclass(frozen=True, slots=True)
class Draws:
    """The fate of some requests.

    Attributes:
        uniform: split, mirror, live outcome, mirror outcome; from 0 to 1.
        normal: live latency, and what is the copy's own in its latency; standard normal.
        more: outcome that both legs share, dropped copy; from 0 to 1.
        answers: whether live and copy are answered otherwise; from 0 to 1.
    """

    uniform: NDArray[np.float64]
    normal: NDArray[np.float64]
    more: NDArray[np.float64]
    answers: NDArray[np.float64]

    def of(self, which: NDArray[np.bool_] | slice) -> "Draws":
        """Of some of them."""
        return Draws(self.uniform[which], self.normal[which], self.more[which], self.answers[which])


class Stream:
    """The requests of one endpoint, in order; `name` and `seed` decide everything that will ever happen to them."""

    def __init__(self, seed: int, name: str) -> None:
        self._seed = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big")
        self._next = 0
        self._kept: tuple[int, Draws] | None = None

    def take(self, count: int) -> Iterator[Draws]:
        """The next `count` requests, in pieces."""
        end = self._next + count
        while self._next < end:
            block, first = divmod(self._next, _BLOCK)
            last = min(_BLOCK, first + end - self._next)
            draws = self._block(block)
            self._next += last - first
            yield draws.of(slice(first, last))

    def _block(self, block: int) -> Draws:
        if self._kept is None or self._kept[0] != block:
            generator = np.random.default_rng([self._seed, block])
            uniform, normal = generator.random((_BLOCK, 4)), generator.standard_normal((_BLOCK, 2))
            more, answers = generator.random((_BLOCK, 2)), generator.random((_BLOCK, 2))
            self._kept = (block, Draws(uniform, normal, more, answers))
        return self._kept[1]


@dataclass(slots=True)
class Load:
    """A steady load of clients: `rate` requests a second since `origin`, of which `counted` are in the counters."""

    rate: float
    origin: datetime
    counted: int = 0

    def due(self, until: datetime) -> int:
        """Requests that came up to that instant and are not counted yet; marks them as counted."""
        # A billionth of a request: an interval in floating point may fall just short of a whole number of them.
        total = int((until - self.origin).total_seconds() * self.rate + 1e-9)
        due, self.counted = max(total - self.counted, 0), max(total, self.counted)
        return due


def count(counters: Counters, draws: Draws, route: Route) -> None:
    """Send these requests along the route and count what became of them. Requests that no deployment has weight for are
    answered 404 by nobody.
    """
    edges = np.cumsum(list(route.traffic.values()))
    if not len(edges) or edges[-1] == 0:
        return
    chosen = np.searchsorted(edges, draws.uniform[:, 0] * edges[-1], side="right")
    twins = Outcome(np.zeros(len(chosen), dtype=np.int64), np.zeros(len(chosen), dtype=np.int64))
    names = list(route.traffic)
    for place, name in enumerate(names):
        behaviour = route.behaviours[name]
        mine = chosen == place
        if behaviour is not None and behaviour.kept_away:
            mine &= draws.more[:, 1] >= behaviour.kept_away
        part = draws.of(mine)
        served = serve(counters.of(name, "live"), behaviour, part.uniform[:, 2], part.normal[:, 0], part.more[:, 0])
        twins.codes[mine], twins.us[mine] = served.codes, served.us
    by = np.array(names)[chosen]
    for name, share in route.mirror.items():
        copied = draws.uniform[:, 1] < share / 1000
        mirror(counters, name, route, draws.of(copied), Outcome(twins.codes[copied], twins.us[copied]), by[copied])


def mirror(counters: Counters, name: str, route: Route, draws: Draws, twins: Outcome, by: Iterable[str]) -> None:
    """Send copies of these requests to a deployment, and join them with how their twins ended.

    Args:
        counters: to count them in.
        name: of the deployment.
        route: that it is on.
        draws: of these requests alone.
        twins: how the live ones ended.
        by: the deployment that answered each of them.
    """
    behaviour, counter = route.behaviours[name], counters.of(name, "mirror")
    dropped = draws.more[:, 1] < (1.0 if behaviour is None else behaviour.mirror_drops)
    alike = 0.0 if behaviour is None else behaviour.likeness
    # Of unit variance whatever the likeness, so that it changes nobody's latencies.
    normal = alike * draws.normal[:, 0] + np.sqrt(1 - alike**2) * draws.normal[:, 1]
    copies = Outcome(np.zeros(len(dropped), dtype=np.int64), np.full(len(dropped), NO_ANSWER_US, dtype=np.int64))
    if behaviour is None:
        serve(counter, None, draws.uniform[:, 3], normal, draws.more[:, 0])
    else:
        counter.add(RESET, None, int(dropped.sum()))
        there = ~dropped
        served = serve(counter, behaviour, draws.uniform[there, 3], normal[there], draws.more[there, 0])
        copies.codes[there], copies.us[there] = served.codes, served.us
    counters.pairs.setdefault(name, PairLog()).add(copies, twins, dropped, by)
    came = ~dropped
    who = np.array(list(by))[came]
    answered = Outcome(copies.codes[came], copies.us[came]), Outcome(twins.codes[came], twins.us[came])
    note_answers(counters.answers.setdefault(name, AnswerLog()), name, route, draws.of(came), *answered, who)


def note_answers(
    log: AnswerLog, name: str, route: Route, draws: Draws, copies: Outcome, twins: Outcome, by: Iterable[str]
) -> None:
    """Note what copies that arrived and their twins were answered; the arguments are those of `mirror`."""
    behaviour, who = route.behaviours[name], np.array(list(by))
    good = (copies.codes // 100 == 2) & (twins.codes // 100 == 2)
    for stable in route.traffic:
        twin, here = route.behaviours[stable], who == stable
        if behaviour is None or twin is None or not here.any():
            continue
        log.add(
            stable,
            good[here],
            (behaviour.answer, behaviour.other_answer, draws.answers[here, 1] < behaviour.differs),
            (twin.answer, twin.other_answer, draws.answers[here, 0] < twin.differs),
        )


def serve(
    counter: Counter,
    behaviour: Behaviour | None,
    uniform: NDArray[np.float64],
    normal: NDArray[np.float64],
    shared: NDArray[np.float64],
) -> Outcome:
    """Count one deployment's requests; returns how they ended. Without a behaviour no instance is healthy: 503."""
    if behaviour is None:
        latencies: NDArray[np.int64] = np.full(len(uniform), _NO_HOST_US, dtype=np.int64)
        counter.add("503", latencies, len(uniform))
        return Outcome(np.full(len(uniform), 503, dtype=np.int64), latencies)
    silent = uniform < behaviour.timeouts
    wrong = ~silent & ((uniform < behaviour.timeouts + behaviour.error_rate) | (shared < behaviour.shared_error_rate))
    good = ~silent & ~wrong
    latencies = behaviour.latencies(normal)
    counter.add(TIMEOUT, None, int(silent.sum()))
    counter.add(str(behaviour.error_status), latencies[wrong], int(wrong.sum()))
    counter.add("200", latencies[good], int(good.sum()))
    codes = np.select([silent, wrong], [code(TIMEOUT), behaviour.error_status], 200)
    return Outcome(codes.astype(np.int64), np.where(silent, NO_ANSWER_US, latencies))
