"""Counting above a threshold in somebody else's buckets, without pretending to know what is inside a bucket.

A request in the bucket that holds the threshold may be on either side. Interpolating would invent it; instead each
side of a gate takes the reading that makes its own claim harder: FAIL counts only what is surely above, PASS all that
may be.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from providers.measurement import Histogram


@dataclass(frozen=True, slots=True)
class Baseline:
    """What stable's recent latencies say about the next ones.

    Attributes:
        threshold: its bucket bound nearest the quantile, microseconds.
        rate: the share of requests to expect above it, 0..1.
    """

    threshold: int
    rate: float


def merge(histograms: Iterable[Histogram]) -> Histogram:
    """All of them in one, bucket by bucket."""
    counts: dict[tuple[int, int], int] = {}
    above = 0
    for histogram in histograms:
        above += histogram.above
        for lower, upper, n in histogram.buckets:
            counts[lower, upper] = counts.get((lower, upper), 0) + n
    return Histogram(tuple((lower, upper, n) for (lower, upper), n in sorted(counts.items())), above)


class Tail:
    """How many requests lie above any threshold: added up once, asked by every gate.

    Args:
        histogram: buckets ascending and disjoint.
    """

    def __init__(self, histogram: Histogram) -> None:
        self._lower = [lower for lower, _, _ in histogram.buckets]
        self._upper = [upper for _, upper, _ in histogram.buckets]
        self._below = list(accumulate((n for _, _, n in histogram.buckets), initial=0))
        self.total = self._below[-1] + histogram.above
        """All requests, with those that got no answer."""

    def surely(self, threshold: float) -> int:
        """Requests above the first bound >= threshold (microseconds), with those that got no answer."""
        return self.total - self._below[bisect_left(self._lower, threshold)]

    def maybe(self, threshold: float) -> int:
        """Requests above the last bound <= threshold (microseconds), with those that got no answer."""
        return self.total - self._below[bisect_right(self._upper, threshold)]

    def bound(self, quantile: float) -> int | None:
        """The upper bound (microseconds) of the bucket with the quantile; None where it got no answer, or none came."""
        if not self.total:
            return None
        at = bisect_left(self._below, max(quantile * self.total, 1), lo=1)
        return self._upper[at - 1] if at <= len(self._upper) else None


def quantile_bound(histogram: Histogram, quantile: float) -> int | None:
    """`Tail.bound`, where only one is wanted."""
    return Tail(histogram).bound(quantile)


def baseline(recent: Histogram, quantile: float) -> Baseline | None:
    """Stable's bucket bound nearest its quantile, and how much to expect above it; None without any latency.

    The expectation is drawn towards 1 - quantile by the weight of one exceedance, so that a handful of requests does
    not promise 0.
    """
    total = recent.count
    best: tuple[float, int, int] | None = None
    below = 0
    for _, upper, n in recent.buckets:
        below += n
        distance = abs(below / total - quantile) if total else 1.0
        if n and (best is None or distance < best[0]):
            best = (distance, upper, total - below)
    if best is None:
        return None
    return Baseline(best[1], (best[2] + 1) / (total + 1 / (1 - quantile)))
