"""Requests of the simulated cloud: how many there were, who answered them and how, without one of them being sent.

The n-th request of an endpoint has its fate (split, mirror, outcome, latency) from a generator seeded with the
endpoint's name and n alone, so it is the same whoever looks, and whenever: two polls count together exactly what one
poll over both windows would have counted. Arrivals are evenly spaced; what is random is who gets a request and what
becomes of it. A minute of 200 requests a second, looked at every second, costs some 40 ms.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from providers.measurement import TIMEOUT, Histogram, Leg, Pairs, Source

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
        starts: whether it becomes healthy.
        start_seconds: time until it is healthy, or has failed; None for the world's duration of `put_deployment`.
        exit_reason: why it cannot start.
        prints: what each instance prints when it starts; `{deployment}` and `{instance}` are filled in.
        answer: body of a good response.
    """

    error_rate: float = 0.0
    error_status: int = 500
    timeouts: float = 0.0
    latency_us: int = 5_000
    sigma: float = 0.25
    starts: bool = True
    start_seconds: float | None = None
    exit_reason: str = "exited 3 times: RuntimeError: init() failed"
    prints: tuple[str, ...] = ("{deployment} instance {instance} started",)
    answer: bytes = b"[0.0]"

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
    pairs: dict[str, list[int]] = field(default_factory=dict)

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
        return {"legs": legs, "pairs": {name: list(counts) for name, counts in self.pairs.items()}}

    def since(self, raw: Mapping[str, Any], deployments: tuple[str, ...]) -> tuple[tuple[Leg, ...], Pairs]:
        """Legs and pairs of what came after that reading."""
        legs = tuple(
            counter.since(raw["legs"].get(f"{deployment}~{source}", {}), deployment, source)
            for (deployment, source), counter in self.legs.items()
            if deployment in deployments
        )
        total = [0, 0, 0, 0]
        for name in deployments:
            before = raw["pairs"].get(name, [0, 0, 0, 0])
            total = [t + n - b for t, n, b in zip(total, self.pairs.get(name, [0, 0, 0, 0]), before, strict=True)]
        return legs, Pairs(*total)


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
    """The fate of some requests: uniform draws (split, mirror, live outcome, mirror outcome) and normal ones (live
    latency, mirror latency).
    """

    uniform: NDArray[np.float64]
    normal: NDArray[np.float64]


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
            yield Draws(draws.uniform[first:last], draws.normal[first:last])

    def _block(self, block: int) -> Draws:
        if self._kept is None or self._kept[0] != block:
            generator = np.random.default_rng([self._seed, block])
            self._kept = (block, Draws(generator.random((_BLOCK, 4)), generator.standard_normal((_BLOCK, 2))))
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
    bad = np.zeros(len(chosen), dtype=bool)
    for place, name in enumerate(route.traffic):
        mine = chosen == place
        bad[mine] = serve(
            counters.of(name, "live"), route.behaviours[name], draws.uniform[mine, 2], draws.normal[mine, 0]
        )
    for name, share in route.mirror.items():
        copied = draws.uniform[:, 1] < share / 1000
        worse = serve(
            counters.of(name, "mirror"), route.behaviours[name], draws.uniform[copied, 3], draws.normal[copied, 1]
        )
        table = counters.pairs.setdefault(name, [0, 0, 0, 0])
        twins = bad[copied]
        for place, pairs in enumerate((worse & twins, worse & ~twins, ~worse & twins, ~worse & ~twins)):
            table[place] += int(pairs.sum())


def serve(
    counter: Counter, behaviour: Behaviour | None, uniform: NDArray[np.float64], normal: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Count one deployment's requests; returns which of them ended badly. Without a behaviour there is no healthy
    instance: 503.
    """
    if behaviour is None:
        counter.add("503", np.full(len(uniform), _NO_HOST_US, dtype=np.int64), len(uniform))
        return np.ones(len(uniform), dtype=bool)
    silent = uniform < behaviour.timeouts
    wrong = ~silent & (uniform < behaviour.timeouts + behaviour.error_rate)
    good = ~silent & ~wrong
    latencies = behaviour.latencies(normal)
    counter.add(TIMEOUT, None, int(silent.sum()))
    counter.add(str(behaviour.error_status), latencies[wrong], int(wrong.sum()))
    counter.add("200", latencies[good], int(good.sum()))
    return silent | wrong
