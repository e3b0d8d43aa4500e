"""What was counted on an endpoint between two instants, in one form for every provider.

A measurement is a difference: requests that came *since the cursor*, never a running total, so that each request is
counted by exactly one measurement. The cursor is the provider's own raw reading and means nothing to anybody else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Source = Literal["live", "mirror", "direct"]

TIMEOUT = "timeout"
"""Class of a request that got no answer in time."""
RESET = "reset"
"""Class of a request whose connection failed or was reset before an answer."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Latencies of answered requests, microseconds, in the source's own buckets; never interpolated.

    Attributes:
        buckets: (lower, upper, count), ascending and disjoint; lower <= latency < upper, microseconds. Only non-empty
            buckets need be there.
        above: requests slower than every bound: time-outs and resets, which have no latency.
    """

    buckets: tuple[tuple[int, int, int], ...] = ()
    above: int = 0

    @property
    def count(self) -> int:
        """Requests in all buckets and above them."""
        return sum(n for _, _, n in self.buckets) + self.above


@dataclass(frozen=True, slots=True)
class Leg:
    """The requests that one deployment got from one source.

    Attributes:
        deployment: its name.
        source: live (chosen by weight), mirror (a copy of a live request), direct (addressed by header).
        requests: completed ones, of every status, with those that failed without one.
        classes: status code as text ("200", "503"), `timeout` or `reset` -> requests; disjoint, sums to `requests`.
        latency: their latencies, or None where the provider has no histogram.
    """

    deployment: str
    source: Source
    requests: int
    classes: Mapping[str, int]
    latency: Histogram | None = None


@dataclass(frozen=True, slots=True)
class Pairs:
    """Mirrored requests joined with their live twins.

    Latencies are cut to `digits` significant decimal digits: 1234 stands for 1230 <= latency < 1240 where it is 3.

    Attributes:
        classes: (class of the copy, class of its twin, pairs), as in `Leg.classes`.
        latencies: (latency of the copy, of its twin, pairs), microseconds; None for one without an answer. The same
            pairs as in `classes`.
        missing: why they could not be joined -> mirrored requests: `dropped` (the copy was counted and never seen
            again), `twin` (nothing is known of the live request).
        digits: of the latencies.
    """

    classes: tuple[tuple[str, str, int], ...] = ()
    latencies: tuple[tuple[int | None, int | None, int], ...] = ()
    missing: Mapping[str, int] = field(default_factory=dict)
    digits: int = 3

    @property
    def joined(self) -> int:
        """Mirrored requests whose live twin is known."""
        return sum(n for _, _, n in self.classes)

    @property
    def lost(self) -> int:
        """Mirrored requests that could not be joined."""
        return sum(self.missing.values())


@dataclass(frozen=True, slots=True)
class Count:
    """Bad ones among all; not whole where a source extrapolates. 0 <= bad <= total."""

    bad: float
    total: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What a source beside the data plane's counters says about one gate: compared answers, or a metric from elsewhere.

    Attributes:
        candidate, stable: what was counted of each; None where nothing was, or where values are given instead.
        values: (candidate's value, stable's or None), one for each point in time since the last sample.
        nothing: why there is no figure, as a clause, or "".
        problem: why what came cannot be used, as a clause, or "".
        query: what was asked for, as a person would ask it again; never holds a secret.
        examples: of what was found, redacted.
        left_out: why they could not be counted, as a clause -> how many; not among those of `candidate`.
    """

    candidate: Count | None = None
    stable: Count | None = None
    values: tuple[tuple[float, float | None], ...] = ()
    nothing: str = ""
    problem: str = ""
    query: str = ""
    examples: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next measurement begins.

    Attributes:
        incarnation: identifies the data plane's counters; another one means that they began anew.
        at: when the reading was taken.
        raw: the provider's own reading, as JSON.
        sources: gate -> where its own source goes on, as JSON (`Measurement.samples`).
    """

    incarnation: str
    at: datetime
    raw: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What came between `start` and `end`.

    Attributes:
        start, end: of the window, aware UTC; equal when the measurement only sets the first cursor.
        legs: one for each (deployment, source) that exists, also when it got nothing.
        pairs: joined pairs, or None where the provider cannot join.
        cursor: where the next one begins.
        lost: the data plane restarted since the cursor: what it counted is lost, and `legs` are empty.
        samples: gate -> what its own source says of the same window.
    """

    start: datetime
    end: datetime
    legs: tuple[Leg, ...]
    cursor: Cursor
    pairs: Pairs | None = None
    lost: bool = False
    samples: Mapping[str, Sample] = field(default_factory=dict)

    def leg(self, deployment: str, source: Source) -> Leg:
        """The leg of this deployment and source; an empty one when there is none."""
        for leg in self.legs:
            if leg.deployment == deployment and leg.source == source:
                return leg
        return Leg(deployment, source, 0, {})


@dataclass(frozen=True, slots=True)
class Comparison:
    """When two answers to the same request are the same prediction.

    Numbers are the same when they differ by at most `absolute`, or by at most `relative` times the larger of the two;
    texts, labels and null when they are equal; lists and objects when all that is in them is.

    Attributes:
        path: of the part that is compared, as in `predictions.0.label`; the whole body without one.
        absolute, relative: tolerated between numbers.
        examples: how many differences may be shown, redacted.
    """

    path: str | None = None
    absolute: float = 0.0
    relative: float = 0.0
    examples: int = 0


@dataclass(frozen=True, slots=True)
class MeasureQuery:
    """What is wanted.

    Attributes:
        endpoint: its name.
        deployments: whose legs: the candidate, then stable, where there are both. Pairs are copies of the first joined
            with live requests of the second.
        comparisons: gate -> how its predictions are compared; the answer is in `Measurement.samples`.
    """

    endpoint: str
    deployments: tuple[str, ...]
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
