"""What one gate bets on one poll: from two legs of a measurement to the log wealth that each alternative wins.

A gate makes up to three bets on each of its two sides. `bound` is on its absolute bound. `relative` is on its
comparison with stable. `blame` excuses an absolute bound: it is on the candidate being worse than stable at all, so
that an incident that hits both is nobody's fault.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.gates import kernels
from orchestrator.gates.histogram import Baseline, maybe_above, surely_above
from orchestrator.gates.kernels import Side
from orchestrator.gates.spec import Gate, TermName
from providers.measurement import Histogram, Leg

Bet = Literal["bound", "blame", "relative"]
Logs = tuple[float | None, ...]
"""Log wealth of each alternative; None is -inf, an alternative that was refuted, which JSON has no number for."""
Wealth = Mapping[Bet, Logs]

TERM_OF: Mapping[Bet, TermName] = {"bound": "bound", "blame": "bound", "relative": "relative"}


@dataclass(frozen=True, slots=True)
class Counts:
    """What one bet is settled by.

    Attributes:
        bad_candidate, bad_stable, total_candidate, total_stable: requests of the poll; stable's are 0 where nothing is
            compared.
        expected: stable's rate as its past lets one guess it, 0..1 (latency comparisons only).
    """

    bad_candidate: int
    bad_stable: int
    total_candidate: int
    total_stable: int
    expected: float = 0.0


def bets_of(gate: Gate, *, compared: bool) -> tuple[Bet, ...]:
    """The bets a gate makes, with or without a stable side to compare with."""
    bets: tuple[Bet, ...] = ("bound",) if gate.max is not None else ()
    if compared and gate.max is not None and gate.blame:
        bets = (*bets, "blame")
    return (*bets, "relative") if compared and gate.relative else bets


def alternatives(gate: Gate, bet: Bet, side: Side) -> Sequence[float]:
    """The grid that a bet is spread over."""
    if side == "fail":
        return kernels.FAIL_MULTIPLES
    return kernels.PASS_MULTIPLES_EXACT if _exact(gate, bet) else kernels.PASS_MULTIPLES


def begun(gate: Gate, bets: Sequence[Bet], side: Side) -> Wealth:
    """Wealth 1 on every alternative of these bets."""
    return {bet: (0.0,) * len(alternatives(gate, bet, side)) for bet in bets}


def won(logs: Logs, increments: Sequence[float]) -> Logs:
    """Log wealth after one more poll."""
    return tuple(
        None if old is None or new == float("-inf") else old + new for old, new in zip(logs, increments, strict=True)
    )


def log_wealth(logs: Logs) -> float:
    """log of the mean wealth over the alternatives."""
    return float(kernels.log_mean_exp([float("-inf") if value is None else value for value in logs]))


def total(gate: Gate, leg: Leg) -> int:
    """Requests of a leg that a gate judges: for a latency those in its histogram, the unanswered ones included."""
    if gate.metric == "error_rate":
        return leg.requests
    return leg.latency.count if leg.latency is not None else 0


def bad(gate: Gate, term: TermName, side: Side, leg: Leg, known: Baseline | None, *, stable: bool) -> int:
    """Bad requests of a leg, as a term counts them on a side.

    Args:
        gate, term, side: whose reading.
        leg: what was counted.
        known: of stable's past; without it the relative term of a latency gate counts nothing.
        stable: whether it is stable's leg.
    """
    if gate.metric == "error_rate":
        return sum(n for status, n in leg.classes.items() if gate.is_error(status))
    latencies = leg.latency or Histogram()
    if term == "bound":
        assert gate.max is not None
        return surely_above(latencies, gate.max) if side == "fail" else maybe_above(latencies, gate.max)
    if known is None:
        return 0
    if stable:
        # The threshold is one of stable's own bounds, so that both readings agree unless its buckets changed meanwhile.
        return maybe_above(latencies, known.threshold) if side == "fail" else surely_above(latencies, known.threshold)
    threshold = round(gate.ratio * known.threshold, 6)  # 1.1 * 3000 must meet the bound at 3300
    return surely_above(latencies, threshold) if side == "fail" else maybe_above(latencies, threshold)


def counts(gate: Gate, bet: Bet, side: Side, candidate: Leg, stable: Leg | None, known: Baseline | None) -> Counts:
    """What settles a bet in this poll; all zero where a latency comparison has no baseline yet."""
    term = TERM_OF[bet]
    if _exact(gate, bet) and known is None:
        return Counts(0, 0, 0, 0)
    of_candidate = bad(gate, term, side, candidate, known, stable=False)
    expected = known.rate if known is not None else 0.0
    if stable is None:
        return Counts(of_candidate, 0, total(gate, candidate), 0, expected)
    of_stable = bad(gate, term, side, stable, known, stable=True)
    return Counts(of_candidate, of_stable, total(gate, candidate), total(gate, stable), expected)


def settle(gate: Gate, bet: Bet, side: Side, seen: Counts, index: float) -> list[float]:
    """Log wealth won by each alternative; `index` is stable's index of dispersion, by which all counts are divided."""
    k_c, k_s = seen.bad_candidate / index, seen.bad_stable / index
    n_c, n_s = seen.total_candidate / index, seen.total_stable / index
    if bet == "bound":
        assert gate.max is not None
        rate = gate.max if gate.metric == "error_rate" else 1 - gate.quantile
        increments = kernels.bound_increments(k_c, n_c, rate, side)
    elif bet == "blame":
        increments = kernels.ratio_increments(k_c, k_s, n_c, n_s, 1.0, 0.0, side)
    elif _exact(gate, bet):
        increments = kernels.ratio_increments_exact(k_c, k_s, n_c, n_s, seen.expected, 1.0, 0.0, side)
    else:
        increments = kernels.ratio_increments(k_c, k_s, n_c, n_s, gate.ratio, gate.increase, side)
    return [float(value) for value in increments]


def _exact(gate: Gate, bet: Bet) -> bool:
    return bet == "relative" and gate.metric == "latency"
