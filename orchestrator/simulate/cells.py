"""Latencies of thousands of rollouts in few columns: only those bounds of a histogram that a gate can ask for.

A provider counts in hundreds of buckets, and a gate looks at three or four bounds of them. Neighbouring buckets that no
gate can tell apart are therefore one *cell*. A cell is still a bucket between two bounds of the provider's, so that the
real engine, given the same cells, counts exactly the same.

Where a comparison's threshold will be is known but for chance: near stable's quantile. All bounds are kept where ten
polls may put it; where only its first polls may, one in a few.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.gates.spec import Gate
from orchestrator.gates.state import BASELINE_POLLS
from orchestrator.simulate.latency import Latencies

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LONGEST = 10**9
"""Microseconds; nobody waits longer for an answer."""
DIGITS = 2
"""Of bounds, where a provider says nothing of them."""
_SURE = 6.0  # standard deviations of a count that no simulation of this size leaves
_NEVER = 1e-9
_STEP = 1.08


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Buckets between these bounds, and one more column for requests without an answer.

    Attributes:
        edges: ascending, microseconds; cell i holds edges[i] <= latency < edges[i + 1].
    """

    edges: Ints

    def __len__(self) -> int:
        """How many columns a count has, the one without an answer included."""
        return len(self.edges)

    @property
    def upper(self) -> Ints:
        """The upper bound of each cell."""
        return self.edges[1:]

    def surely(self, threshold: Any) -> Ints:
        """First column of what is surely above a threshold (microseconds; a number or an array)."""
        column: Ints = np.searchsorted(self.edges[:-1], threshold, side="left")
        return column

    def maybe(self, threshold: Any) -> Ints:
        """First column of what may be above a threshold."""
        column: Ints = np.searchsorted(self.edges[1:], threshold, side="right")
        return column

    def shares(self, latencies: Latencies, factor: float = 1.0) -> Floats:
        """The probability of each column; that of the last, without an answer, is 0."""
        above = latencies.above(self.edges[:-1] / factor)
        above[0] = 1.0
        inside = above - np.append(above[1:], 0.0)
        return np.append(np.maximum(inside, 0.0), 0.0)


def bounds(digits: int | None) -> Ints:
    """Every bound of a provider with so many significant decimal digits, microseconds, from 0 on."""
    digits = DIGITS if digits is None else digits
    first = [*range(10**digits)]
    more = [10**power * step for power in range(1, 9 - digits + 1) for step in range(10 ** (digits - 1), 10**digits)]
    return np.array(sorted({*first, *more, LONGEST}), dtype=np.int64)


def stable_cells(
    gates: Iterable[Gate], latencies: Latencies, fewest: float, digits: int | None, swing: float = 0.0
) -> Cells:
    """Cells of stable's requests.

    Args:
        gates: of the whole plan.
        latencies: of stable.
        fewest: requests that the thresholds of a comparison are taken from at least: those of one poll.
        digits: of the provider's bounds.
        swing: by which part latencies rise and fall in time, 0..1.
    """
    every = bounds(digits)
    chosen = {0, LONGEST}
    for gate in _timed(gates):
        if gate.max is not None:
            chosen |= _around(every, np.array([gate.max]))
        if gate.relative:
            fine, coarse = (_window(gate.quantile, latencies, n, swing) for n in (BASELINE_POLLS * fewest, fewest))
            near = every[(every >= fine[0]) & (every <= fine[1])]
            far = every[(every >= coarse[0]) & (every <= coarse[1])]
            chosen |= set(near.tolist()) | _thinned(far)
            chosen |= _around(every, np.array([*fine, *coarse]))
    return Cells(np.array(sorted(chosen), dtype=np.int64))


def candidate_cells(gates: Iterable[Gate], stable: Cells, digits: int | None, also: float | None = None) -> Cells:
    """Cells of the candidate's requests: what gates compare with every threshold that stable's cells can give.

    Args:
        gates: of the whole plan.
        stable: stable's.
        digits: of the provider's bounds.
        also: one more latency that is counted above, microseconds.
    """
    every = bounds(digits)
    chosen = {0, LONGEST}
    for gate in _timed(gates):
        if gate.max is not None:
            chosen |= _around(every, np.array([gate.max]))
        if gate.relative:
            chosen |= _around(every, np.round(gate.ratio * stable.upper, 6))
    if also is not None:
        chosen |= _around(every, np.array([also]))
    return Cells(np.array(sorted(chosen), dtype=np.int64))


def _timed(gates: Iterable[Gate]) -> list[Gate]:
    return [gate for gate in gates if gate.metric == "latency"]


def _window(quantile: float, latencies: Latencies, requests: float, swing: float) -> tuple[float, float]:
    """Between which latencies the bound nearest the quantile of so many requests lies, surely."""
    tail, n = 1 - quantile, max(requests, 1.0)
    off = _SURE * float(np.sqrt(tail * quantile / n)) + _SURE / n
    # That k of n lie above a bound which a share p exceeds has a probability of at most (e n p / k)^k; half as many as
    # the quantile leaves above it may be left by its nearest bound.
    k = max(1.0, float(np.floor(tail * n / 2)))
    rare = max(_NEVER, tail - off, k / (np.e * n) * _NEVER ** (1 / k))
    least = latencies.quantile(max(_NEVER, quantile - off))
    most = latencies.quantile(1 - rare)
    return least * (1 - swing), most * (1 + swing)


def _thinned(ascending: Ints) -> set[int]:
    """Of these bounds every one that is so many times the one kept before it."""
    kept: list[int] = []
    for bound in ascending.tolist():
        if not kept or bound >= _STEP * kept[-1]:
            kept.append(bound)
    return set(kept)


def _around(every: Ints, latencies: Floats) -> set[int]:
    """The last bound <= each latency, and the first >= it."""
    within = np.searchsorted(every, latencies, side="right") - 1
    beyond = np.searchsorted(every, latencies, side="left")
    found = np.concatenate([within, np.minimum(beyond, len(every) - 1)])
    return set(every[np.clip(found, 0, len(every) - 1)].tolist())
