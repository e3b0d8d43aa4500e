"""Stable's latencies in the polls before, of many rollouts: from them a comparison takes its threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.gates.state import BASELINE_POLLS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """`histogram.Baseline` of many rollouts.

    Attributes:
        there: (rollouts,) whether there is one.
        cell: stable's cell of which the upper bound is the threshold.
        rate: the share of requests to expect above it.
    """

    there: NDArray[np.bool_]
    cell: Ints
    rate: Floats


@dataclass(slots=True, eq=False)
class Recent:
    """The last polls in which stable answered anything, of each rollout.

    Attributes:
        ring: (rollouts, polls, columns). next: (rollouts,) where the next one goes. whole: (rollouts, columns) their
            sum.
    """

    ring: NDArray[np.int32]
    next: Ints
    whole: Ints

    @classmethod
    def begin(cls, rows: int, columns: int) -> "Recent":
        """None yet."""
        return cls(
            np.zeros((rows, BASELINE_POLLS, columns), dtype=np.int32),
            np.zeros(rows, dtype=np.int64),
            np.zeros((rows, columns), dtype=np.int64),
        )

    def add(self, counts: Ints) -> None:
        """One more poll; one without an answer is left out."""
        answered = counts[:, :-1].any(axis=1)
        if answered.all():
            rows: Any = np.arange(len(counts))
        else:
            rows, counts = np.flatnonzero(answered), counts[answered]
        place = self.next[rows]
        self.whole[rows] += counts - self.ring[rows, place]
        self.ring[rows, place] = counts
        self.next[rows] = (place + 1) % BASELINE_POLLS

    def known(self, quantile: float) -> Known:
        """What they say of a quantile."""
        buckets = self.whole[:, :-1]
        total = self.whole.sum(axis=1)
        below = np.cumsum(buckets, axis=1)
        distance = np.abs(below / np.maximum(total, 1)[:, np.newaxis] - quantile)
        distance[buckets == 0] = np.inf
        cell = np.argmin(distance, axis=1)
        beyond = total - np.take_along_axis(below, cell[:, np.newaxis], axis=1)[:, 0]
        return Known(np.asarray(buckets.any(axis=1)), cell, (beyond + 1) / (total + 1 / (1 - quantile)))

    def take(self, rows: Any) -> "Recent":
        """These rollouts alone, on their own."""
        return Recent(self.ring[rows].copy(), self.next[rows].copy(), self.whole[rows].copy())

    @classmethod
    def together(cls, parts: Sequence["Recent"]) -> "Recent":
        """All of them."""
        return cls(
            np.concatenate([part.ring for part in parts]),
            np.concatenate([part.next for part in parts]),
            np.concatenate([part.whole for part in parts]),
        )
