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
        _count(counts, histogram, 1)
    return _of(counts, above)


def moved(window: Histogram, newest: Histogram, oldest: Histogram | None) -> Histogram:
    """A window of histograms, added up, one step later: with the newest, without the oldest, exactly."""
    counts: dict[tuple[int, int], int] = {}
    _count(counts, window, 1)
    _count(counts, newest, 1)
    if oldest is None:
        return _of(counts, window.above + newest.above)
    _count(counts, oldest, -1)
    return _of({bounds: n for bounds, n in counts.items() if n}, window.above + newest.above - oldest.above)


def _count(counts: dict[tuple[int, int], int], histogram: Histogram, times: int) -> None:
    if not counts:
        counts.update({(lower, upper): times * n for lower, upper, n in histogram.buckets})
        return
    for lower, upper, n in histogram.buckets:
        bounds = lower, upper
        counts[bounds] = counts.get(bounds, 0) + times * n


def _of(counts: dict[tuple[int, int], int], above: int) -> Histogram:
    return Histogram(tuple([(*bounds, counts[bounds]) for bounds in sorted(counts)]), above)


class Tail:
    """How many requests lie above any threshold: added up once, asked by every gate.

    Args:
        histogram: buckets ascending and disjoint.
    """

    def __init__(self, histogram: Histogram) -> None:
        columns: tuple[tuple[int, ...], ...] = tuple(zip(*histogram.buckets, strict=True)) or ((), (), ())
        self._lower, self._upper, counts = columns
        self._below = list(accumulate(counts, initial=0))
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

    def baseline(self, quantile: float) -> Baseline | None:
        """The bucket bound nearest the quantile, and how much to expect above it; None without any latency.

        The expectation is drawn towards 1 - quantile by the weight of one exceedance, so that a handful of requests
        does not promise 0.
        """
        below, total = self._below, self.total
        if not below[-1]:
            return None
        # The nearest is one of the two bounds around the quantile; an empty bucket's is not a bound of any request.
        beyond = bisect_left(below, min(quantile * total, below[-1]), lo=1)
        within = bisect_left(below, below[beyond - 1], lo=1)
        near = [at for at in (within, beyond) if below[at]]
        best = min(near, key=lambda at: (abs(below[at] / total - quantile), at))
        return Baseline(self._upper[best - 1], (total - below[best] + 1) / (total + 1 / (1 - quantile)))


def quantile_bound(histogram: Histogram, quantile: float) -> int | None:
    """`Tail.bound`, where only one is wanted."""
    return Tail(histogram).bound(quantile)


def baseline(recent: Histogram, quantile: float) -> Baseline | None:
    """`Tail.baseline`, where only one is wanted."""
    return Tail(recent).baseline(quantile)
