"""What a gate bets on one poll: from counts to the log wealth that each alternative wins.

A gate makes up to five bets on each of its two sides. `bound` is on its absolute bound. `relative` is on its
comparison with stable. `blame` excuses an absolute bound: it is on the candidate being worse than stable at all, so
that an incident that hits both is nobody's fault. Where mirrored requests are joined with their live twins the last two
have a sister each, `paired` and `paired_blame`, of the same hypothesis: pairs see the smaller difference, the legs also
see what could not be joined.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from orchestrator.gates import kernels
from orchestrator.gates.kernels import Floats, Side
from orchestrator.gates.spec import Gate, TermName

Bet = Literal["bound", "blame", "relative", "paired_blame", "paired"]
Kernel = Literal["bound", "ratio", "exact", "paired"]

TERM_OF: Mapping[Bet, TermName] = {
    "bound": "bound",
    "blame": "bound",
    "paired_blame": "bound",
    "relative": "relative",
    "paired": "relative",
}
LOST = -1e300
"""Log wealth of an alternative that was refuted for good; finite, because JSON has no infinity."""


RESERVE_MINUTES = 20.0
"""Minutes within which half of the reserve has been bet."""

_OPENING: tuple[float, ...] = tuple(kernels.opening(kernels.FAIL_WEIGHTS).tolist())
_LOG_WEIGHTS = np.log(kernels.FAIL_WEIGHTS[1:])


@dataclass(frozen=True, slots=True)
class Purse:
    """What one bet has won so far.

    Attributes:
        logs: log wealth of each alternative, times how many there are.
        log: log of their mean, which is what they hold together.
    """

    logs: tuple[float, ...]
    log: float = 0.0


Wealth = Mapping[Bet, Purse]


class Counts(NamedTuple):
    """What one bet is settled by: two streams.

    Attributes:
        bad_candidate, bad_stable, total_candidate, total_stable: requests of the poll; stable's are 0 where nothing is
            compared. Numbers, or arrays of one shape.
        expected: stable's rate as its past lets one guess it, 0..1 (latency comparisons only).
    """

    bad_candidate: ArrayLike
    bad_stable: ArrayLike
    total_candidate: ArrayLike
    total_stable: ArrayLike
    expected: ArrayLike = 0.0


class PairCounts(NamedTuple):
    """What one bet is settled by: pairs by outcome, numbers or arrays of one shape."""

    both_bad: ArrayLike
    only_candidate_bad: ArrayLike
    only_stable_bad: ArrayLike
    neither_bad: ArrayLike


def bets_of(gate: Gate, *, compared: bool, paired: bool = False) -> tuple[Bet, ...]:
    """The bets a gate makes.

    Args:
        gate: any.
        compared: there is a stable side.
        paired: its mirrored requests are joined with their twins.
    """
    joined = paired and gate.metric in ("error_rate", "latency") and not gate.guards_stable
    bets: tuple[Bet, ...] = ("bound",) if "bound" in gate.terms else ()
    if compared and gate.max is not None and gate.blame:
        bets = (*bets, "blame", "paired_blame") if joined else (*bets, "blame")
    if compared and gate.relative:
        bets = (*bets, "relative", "paired") if joined else (*bets, "relative")
    return bets


def kernel_of(gate: Gate, bet: Bet) -> Kernel:
    """Which statistic settles a bet."""
    if bet in ("paired", "paired_blame"):
        return "paired"
    if bet == "bound" or gate.valued:
        return "bound"
    return "exact" if bet == "relative" and gate.metric == "latency" else "ratio"


def alternatives(gate: Gate, bet: Bet, side: Side) -> Sequence[float]:
    """The grid that a bet is spread over."""
    kernel = kernel_of(gate, bet)
    if kernel == "paired":
        return kernels.STAKES
    if side == "fail":
        return kernels.FAIL_MULTIPLES
    return kernels.PASS_MULTIPLES_EXACT if kernel == "exact" else kernels.PASS_MULTIPLES


def opening(gate: Gate, bet: Bet, side: Side) -> tuple[float, ...]:
    """Log wealth that each alternative of a bet begins with; their mean is 1."""
    if side == "fail" and kernel_of(gate, bet) != "paired":
        return _OPENING
    return (0.0,) * len(alternatives(gate, bet, side))


def begun(gate: Gate, bets: Iterable[Bet], side: Side) -> Wealth:
    """Wealth 1 on each of these bets."""
    return {bet: Purse(opening(gate, bet, side)) for bet in bets}


def entered(logs: Floats, minutes: ArrayLike) -> Floats:
    """Fail bets on multiples, after a part of the reserve was bet: what one should do before each poll.

    A regression that begins in mid-stage has to win back what the bets lost while all was well. What was held back lost
    nothing: half of it enters within RESERVE_MINUTES, the rest ever more slowly, R -> 1 / (1/R + minutes / (RESERVE *
    RESERVE_MINUTES)). That keeps the bet valid: time alone says how much moves, and no wealth is made by moving it.

    Args:
        logs: log wealth of each alternative, the reserve first; alternatives on the last axis.
        minutes: that passed since the last poll, in the shape of the rest; 0 where nothing is to enter.
    """
    n = logs.shape[-1]
    held = np.exp(logs[..., 0]) / n
    left = 1 / (1 / held + np.asarray(minutes) / (kernels.RESERVE * RESERVE_MINUTES))
    # Where nothing enters its logarithm is -inf, and nothing changes.
    with np.errstate(divide="ignore"):
        entering = np.log(np.maximum(held - left, 0.0) * n / (1 - kernels.RESERVE))[..., np.newaxis] + _LOG_WEIGHTS
    after = np.empty_like(logs)
    after[..., 0] = np.log(left * n)
    # As logaddexp, in a third of its time: simulations do little else.
    bet = logs[..., 1:]
    apart = np.abs(bet - entering)
    after[..., 1:] = np.maximum(bet, entering) + np.log(1 + np.exp(-apart))
    return after


def corrected(gate: Gate, bet: Bet, side: Side, logs: ArrayLike, index: ArrayLike) -> Floats:
    """Log wealth as if all counts so far had been divided, once it is known by how much they should have been.

    Dividing counts divides what they won; what they lost is left as it is, so that no alternative gains by it, and the
    bet stays as valid as it was. The reserve has not entered yet.

    Args:
        gate, bet, side: which.
        logs: of the alternatives, on the last axis.
        index: of dispersion, in the shape of the rest; 1 changes nothing.
    """
    begun = np.asarray(opening(gate, bet, side))
    won = np.asarray(logs) - begun
    after: Floats = begun + np.minimum(won, won / np.asarray(index)[..., np.newaxis])
    return after


def tolerance_of(gate: Gate, bet: Bet) -> tuple[float, float, float]:
    """(bound of the rate, ratio, slack) that a bet is about; what its kernel has no use for is neutral."""
    if kernel_of(gate, bet) == "bound":
        return gate.bound_rate, 1.0, 0.0
    if bet in ("blame", "paired_blame") or gate.metric == "latency":
        # A latency's ratio is in the threshold that its bad answers are counted by.
        return 0.0, 1.0, 0.0
    return 0.0, gate.ratio, gate.increase


def settle(gate: Gate, bet: Bet, side: Side, seen: Counts | PairCounts, index: ArrayLike = 1.0) -> Floats:
    """Log wealth won by each alternative: the counts' shape with the alternatives on a new last axis.

    Args:
        gate, bet, side: which.
        seen: the counts, numbers or arrays.
        index: stable's index of dispersion, by which all counts are divided; a number, or in the counts' shape.
    """
    kernel, (rate, ratio, slack) = kernel_of(gate, bet), tolerance_of(gate, bet)
    first, second, third, fourth = (np.asarray(column) / index for column in seen[:4])
    if kernel == "bound":
        return kernels.bound_increments(first, third, rate, side)
    if kernel == "ratio":
        return kernels.ratio_increments(first, second, third, fourth, ratio, slack, side)
    if isinstance(seen, Counts):
        return kernels.ratio_increments_exact(first, second, third, fourth, seen.expected, ratio, slack, side)
    return kernels.paired_increments(first, second, third, fourth, ratio, slack, side)
