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

    Attributes:
        both_bad, only_candidate_bad, only_stable_bad, neither_bad: joined pairs by outcome.
        missing: mirrored requests whose twin, or twins whose copy, could not be found.
    """

    both_bad: int = 0
    only_candidate_bad: int = 0
    only_stable_bad: int = 0
    neither_bad: int = 0
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next measurement begins.

    Attributes:
        incarnation: identifies the data plane's counters; another one means that they began anew.
        at: when the reading was taken.
        raw: the provider's own reading, as JSON.
    """

    incarnation: str
    at: datetime
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What came between `start` and `end`.

    Attributes:
        start, end: of the window, aware UTC; equal when the measurement only sets the first cursor.
        legs: one for each (deployment, source) that exists, also when it got nothing.
        pairs: joined pairs, or None where the provider cannot join.
        cursor: where the next one begins.
        lost: the data plane restarted since the cursor: what it counted is lost, and `legs` are empty.
    """

    start: datetime
    end: datetime
    legs: tuple[Leg, ...]
    cursor: Cursor
    pairs: Pairs | None = None
    lost: bool = False

    def leg(self, deployment: str, source: Source) -> Leg:
        """The leg of this deployment and source; an empty one when there is none."""
        for leg in self.legs:
            if leg.deployment == deployment and leg.source == source:
                return leg
        return Leg(deployment, source, 0, {})


@dataclass(frozen=True, slots=True)
class MeasureQuery:
    """Which legs are wanted.

    Attributes:
        endpoint: its name.
        deployments: whose legs.
    """

    endpoint: str
    deployments: tuple[str, ...]
