"""What one poll counts in many rollouts at once: the arrays that stand for a `Measurement` of each.

The first axis is always the rollout. Whoever wants to try the engine on traffic of his own (a benchmark, a replay)
makes these; `traffic` makes them from a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.gates.kernels import Side
from providers.measurement import Source

Ints = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """One deployment's requests from one source.

    Attributes:
        requests, errors: (rollouts,).
        latency: (rollouts, columns of its cells); None where no gate asks.
    """

    requests: Ints
    errors: Ints
    latency: Ints | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Copies joined with their live twins.

    Attributes:
        errors: (rollouts, 4) pairs by outcome: both bad, only the copy, only the twin, neither.
        lost: (rollouts,) copies without a known twin.
        different: (rollouts,) pairs with another answer.
        row: (pairs,) the rollout of each pair; empty where no gate looks at their latencies.
        copy, twin: (pairs,) the least that each latency may have been, microseconds.
        copy_most, twin_most: (pairs,) what each was below: some digits of a latency are cut away.
    """

    errors: Ints
    lost: Ints
    different: Ints
    row: Ints
    copy: Ints
    copy_most: Ints
    twin: Ints
    twin_most: Ints

    def beyond(self, above: Any, below: Any, side: Side) -> Ints:
        """Pairs of each rollout by whether the copy took more than `above`, and the twin more than `below`.

        Args:
            above, below: microseconds, (rollouts,) or one for all.
            side: each takes the reading that makes its own claim harder, as in `gates.reading`.

        Returns:
            (rollouts, 4): both, only the copy, only the twin, neither.
        """
        limit, floor = self._each(above), self._each(below)
        if side == "fail":
            worse, bad = self.copy >= limit, self.twin_most > floor
        else:
            worse, bad = self.copy_most > limit, self.twin >= floor
        place = 3 - 2 * bad.astype(np.int64) - worse.astype(np.int64)
        # Both bad 0, only the copy 2, only the twin 1, neither 3: put into the order of the table.
        table = np.bincount(self.row * 4 + place, minlength=4 * self.rows).reshape(self.rows, 4)
        counts: Ints = table[:, [0, 2, 1, 3]]
        return counts

    def slower(self, ratio: float, side: Side) -> Ints:
        """(rollouts,) pairs whose copy took more than `ratio` times as long as its twin."""
        if side == "fail":
            longer = self.copy >= ratio * self.twin_most.astype(np.float64)
        else:
            longer = self.copy_most > ratio * self.twin.astype(np.float64)
        return np.bincount(self.row[longer], minlength=self.rows)

    @property
    def rows(self) -> int:
        """How many rollouts."""
        return len(self.lost)

    @property
    def pairs(self) -> Ints:
        """(rollouts,) joined ones."""
        counts: Ints = self.errors.sum(axis=1)
        return counts

    def _each(self, latency: Any) -> Any:
        return latency if np.ndim(latency) == 0 else np.asarray(latency)[self.row]


@dataclass(frozen=True, slots=True, eq=False)
class Poll:
    """One measurement of each rollout.

    Attributes:
        seconds: that it covers.
        candidate: source -> what the candidate got; a source that is not there gave nothing.
        stable: its live requests; None where it has no live traffic.
        joined: pairs, where the provider can join.
    """

    seconds: float
    candidate: Mapping[Source, Counted] = field(default_factory=dict)
    stable: Counted | None = None
    joined: Joined | None = None
