"""All bets of all gates that a poll settles, settled in one go.

An array of a hundred bets costs what a single one costs, so the bets of a poll become the rows of one table: twenty
gates with three starts are some 240 purses. Each kernel is asked once, for both sides together; a side's own grid is in
its row, and rows are filled up to one width with alternatives that hold nothing.
"""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from orchestrator.gates import combine, kernels
from orchestrator.gates.bets import LOST, Bet, Counts, Kernel, PairCounts, Purse, entered, kernel_of, tolerance_of
from orchestrator.gates.kernels import Floats, Side
from orchestrator.gates.spec import Gate

_GRIDS: dict[tuple[Kernel, Side], tuple[float, ...]] = {
    ("bound", "fail"): kernels.FAIL_MULTIPLES,
    ("bound", "pass"): kernels.PASS_MULTIPLES,
    ("ratio", "fail"): kernels.FAIL_MULTIPLES,
    ("ratio", "pass"): kernels.PASS_MULTIPLES,
    ("exact", "fail"): kernels.FAIL_MULTIPLES,
    ("exact", "pass"): kernels.PASS_MULTIPLES_EXACT,
    ("paired", "fail"): kernels.STAKES,
    ("paired", "pass"): kernels.STAKES,
}
_WIDTH = max(len(grid) for grid in _GRIDS.values())
_NOTHING: tuple[tuple[float, ...], ...] = tuple((LOST,) * (_WIDTH - n) for n in range(_WIDTH + 1))
"""What fills up a purse of n alternatives."""
# A multiple of 1 and a stake of 0 win nothing, whatever is counted.
_ROWS: dict[Kernel, Floats] = {
    kernel: np.array(
        [
            _GRIDS[kernel, side] + (0.0 if kernel == "paired" else 1.0,) * (_WIDTH - len(_GRIDS[kernel, side]))
            for side in kernels.SIGNS
        ]
    )
    for kernel in ("bound", "ratio", "exact", "paired")
}


class Settlement(NamedTuple):
    """One bet of one gate in one poll.

    Attributes:
        gate, bet, side: which.
        seen: the counts, numbers.
        divisor: stable's index of dispersion, by which all counts are divided.
        purses: all that hold this bet: of every start, or of the stage.
        minutes: by which the reserve of a bet on FAIL goes on entering; 0 where it must wait.
    """

    gate: Gate
    bet: Bet
    side: Side
    seen: Counts | PairCounts
    divisor: float
    purses: tuple[Purse, ...]
    minutes: float = 0.0


def settle_all(settlements: Sequence[Settlement]) -> list[tuple[Purse, ...]]:
    """What the purses of each settlement hold after it, in order.

    Raises:
        ValueError: a count is out of its range.
    """
    if not settlements:
        return []
    alike: dict[Kernel, list[int]] = {}
    for at, one in enumerate(settlements):
        alike.setdefault(kernel_of(one.gate, one.bet), []).append(at)
    won = np.empty((len(settlements), _WIDTH))
    for kernel, places in alike.items():
        won[places] = _won(kernel, [settlements[at] for at in places])
    _excuse(settlements, won)
    purses = [purse for one in settlements for purse in one.purses]
    widths = [len(purse.logs) for purse in purses]
    held = np.array([purse.logs + _NOTHING[len(purse.logs)] for purse in purses])
    each = [len(one.purses) for one in settlements]
    minutes = np.repeat([one.minutes for one in settlements], each)
    entering = minutes > 0
    if entering.any():
        reserved = len(kernels.FAIL_MULTIPLES)
        held[entering, :reserved] = entered(held[entering, :reserved], minutes[entering])
    held += np.repeat(won, each, axis=0)
    np.maximum(held, LOST, out=held)
    top = held.max(axis=1)
    means = np.log(np.exp(held - top[:, np.newaxis]).sum(axis=1) / widths) + top
    after = iter(
        [Purse(tuple(logs[:n]), mean) for logs, n, mean in zip(held.tolist(), widths, means.tolist(), strict=True)]
    )
    return [tuple(islice(after, len(one.purses))) for one in settlements]


def _excuse(settlements: Sequence[Settlement], won: Floats) -> None:
    """A poll in which stable is beyond the bound, too, counts against a blamed bound only as far as against blame."""
    blame = {one.gate.name: at for at, one in enumerate(settlements) if one.bet == "blame" and one.side == "fail"}
    for at, one in enumerate(settlements):
        if one.bet != "bound" or one.side != "fail" or one.gate.name not in blame:
            continue
        _, bad_stable, _, total_stable, *_ = one.seen
        if combine.shared(one.gate.bound_rate, bad_stable, total_stable):
            won[at] = combine.excused(won[at], won[blame[one.gate.name]])


def _won(kernel: Kernel, chosen: Sequence[Settlement]) -> Floats:
    """Log wealth that each alternative wins: (settlements, width)."""
    counts = np.array([one.seen for one in chosen], dtype=np.float64)
    # A NaN is within no range, and so is the smallest and the largest of what has one.
    within = counts.min() >= 0 and counts.max() < np.inf
    if not (within and (kernel == "paired" or np.all(counts[:, :2] <= counts[:, 2:4]))):
        raise ValueError("counts must be finite, with 0 <= bad <= total in every poll")
    counts[:, :4] /= np.array([[one.divisor] for one in chosen])
    first, second, third, fourth = (counts[:, at : at + 1] for at in range(4))
    rate, ratio, slack = np.array([tolerance_of(one.gate, one.bet) for one in chosen]).T[..., np.newaxis]
    sign = np.array([[kernels.SIGNS[one.side]] for one in chosen])
    fail, passing = _ROWS[kernel]
    grid = np.where(sign > 0, fail, passing)
    if kernel == "bound":
        return kernels.bound_won(first, third, rate, grid)
    if kernel == "ratio":
        return kernels.ratio_won(first, second, third, fourth, ratio, slack, grid)
    if kernel == "exact":
        return kernels.exact_won(first, second, third, fourth, counts[:, 4:], 1.0, 0.0, grid, sign)
    return kernels.paired_won(first, second, third, fourth, ratio, slack, grid, sign)
