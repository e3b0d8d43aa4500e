"""What thousands of rollouts say of a plan: shares with their intervals, and figures of the middle and of the worst.

Every share comes from a finite number of rollouts, so it is told with the interval in which the true one lies, 95 times
in a hundred (Wilson, "Probable inference, the law of succession, and statistical inference", 1927).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.simulate import run
from orchestrator.simulate.change import Change
from orchestrator.simulate.fold import REACTIONS
from orchestrator.simulate.run import Ended, Rules

_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many.

    Attributes:
        count, of: rollouts.
    """

    count: int
    of: int

    @property
    def rate(self) -> float:
        """0..1; 0 of none."""
        return self.count / self.of if self.of else 0.0

    @property
    def low(self) -> float:
        """Lower end of the 95% interval."""
        return 0.0 if self.count == 0 else self._end(-1)

    @property
    def high(self) -> float:
        """Upper end of the 95% interval; 1 of none."""
        return 1.0 if self.count == self.of else self._end(+1)

    def _end(self, side: int) -> float:
        n, p = self.of, self.rate
        middle, off = p + _Z * _Z / (2 * n), _Z * math.sqrt(p * (1 - p) / n + _Z * _Z / (4 * n * n))
        return min(1.0, max(0.0, (middle + side * off) / (1 + _Z * _Z / n)))


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over rollouts: the median, and what 95 of 100 stay below."""

    median: float
    p95: float

    @classmethod
    def of(cls, values: NDArray[np.int64] | NDArray[np.float64]) -> "Spread | None":
        """Of these values; None of none. Both are values that occurred."""
        if not len(values):
            return None
        median, p95 = np.quantile(values, [0.5, 0.95], method="inverted_cdf")
        return cls(float(median), float(p95))


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one change.

    Attributes:
        change: what was wrong with the candidate.
        rollouts: how many were simulated.
        caught: a gate failed, or the budget was spent.
        rolled_back: of those caught, the ones that went back at once; the others paused.
        through: it went through the whole plan.
        undecided, no_data: a stage came to its deadline so.
        requests, bad: answers of the candidate that clients got, and would call bad, before it was caught.
        caught_after, through_after: seconds.
        stages: name of the stage -> rollouts that were caught in it.
        gates: name of the gate (or `budget`) -> rollouts that it stopped.
    """

    change: Change
    rollouts: int
    caught: Share
    rolled_back: int
    through: Share
    undecided: Share
    no_data: Share
    requests: Spread | None
    bad: Spread | None
    caught_after: Spread | None
    through_after: Spread | None
    stages: Mapping[str, int]
    gates: Mapping[str, int]


def summed_up(change: Change, ended: Ended, rules: Rules) -> Row:
    """One row of the table."""
    total = len(ended.how)
    caught = (ended.how == run.FAILED) | (ended.how == run.BUDGET)
    through = ended.how == run.THROUGH
    stages = [rules.stretches[number].stage.name for number in ended.stretch[caught]] if rules.stretches else []
    stopped = ["budget" if number < 0 else rules.gates[number].name for number in ended.culprit[caught]]
    back = (ended.how == run.BUDGET) | (caught & (ended.reaction == REACTIONS.index("rollback")))
    return Row(
        change,
        total,
        Share(int(caught.sum()), total),
        int(back.sum()),
        Share(int(through.sum()), total),
        Share(int((ended.how == run.UNDECIDED).sum()), total),
        Share(int((ended.how == run.NO_DATA).sum()), total),
        Spread.of(ended.requests[caught]),
        Spread.of(ended.bad[caught]),
        Spread.of(ended.seconds[caught]),
        Spread.of(ended.seconds[through]),
        _counted(stages),
        _counted(stopped),
    )


def _counted(names: list[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda each: -each[1]))
