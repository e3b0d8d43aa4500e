"""This project's gates over thousands of rollouts at once, by the production kernels.

`GateState.fold` and `judge` follow one rollout; this does the same to all of them on arrays, which a test holds it to.
What the research varies (`gates.py --tried`) is a `Policy`: how a stake is spread over alternatives and over time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from gate_traffic import BOUNDS_MS, POLLS, Floats, Ints, Leg, Traffic
from numpy.typing import NDArray

from orchestrator.gates import kernels
from orchestrator.gates.kernels import Side

BASELINE_POLLS = 10
SIDES: tuple[Side, Side] = ("fail", "pass")
FAIL_GRID = tuple(m for m in kernels.FAIL_MULTIPLES if m > 1)
FIRST_GUESS = 3
"""Of the plug-in, before anything is seen: the alternative 2.6 times the tolerance."""
_Z90 = NormalDist().inv_cdf(0.9)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A gate of the benchmark, in the plan's words.

    Attributes:
        metric, quantile: as in a plan; the quantile of a latency gate.
        max: a rate, or milliseconds; None for no absolute bound.
        max_ratio, max_increase: compared with stable.
    """

    metric: Literal["error_rate", "latency"]
    max_ratio: float
    quantile: float = 0.95
    max: float | None = None
    max_increase: float = 0.0


GATES: tuple[Tolerance, ...] = (
    Tolerance("error_rate", 1.5, max=0.01, max_increase=0.001),
    Tolerance("latency", 1.1, 0.95, max=500),
    Tolerance("latency", 1.1, 0.5),
)
ALPHA = BETA = 0.05
MIN_REQUESTS = 100


@dataclass(frozen=True, slots=True)
class Policy:
    """How a stake is spread.

    Attributes:
        tilt: a FAIL alternative of multiple m is weighed by m ** -tilt; 0 for all alike.
        pass_tilt: a PASS alternative is weighed by (m + 0.05) ** pass_tilt.
        reserve: the share of a FAIL stake that enters bit by bit after the start.
        pace: polls after which half of the reserve has entered.
        minutes: of stable that have to be known before counts are divided by its index of dispersion, and before the
            reserve begins to enter.
        beyond_chance: the index counts only where it is beyond the 90% quantile of what chance alone makes of it.
        fail_grid, pass_grid: alternatives, None for the kernels' own.
        before: what counts are divided by until the index is known.
        foreknown: the index is known from the beginning, from another hour of the same stable.
        corrected: once the index is known, what was won until then is divided as well, and what has passed has to pass
            once more.
        excuses: a poll in which stable is beyond a bound, too, counts against it only as far as against blame.
        eager: the reserve enters from the second poll on, whether the index is known or not.
        plug_in: bet all on the alternative that would have won most so far.
        error_weight: of a term of errors in its group, where one of latencies has 1.
    """

    tilt: float = 0.0
    pass_tilt: float = 0.0
    reserve: float = 0.0
    pace: float = 20.0
    minutes: int = 10
    beyond_chance: bool = False
    before: float = 1.0
    foreknown: bool = False
    corrected: bool = False
    excuses: bool = False
    eager: bool = False
    plug_in: bool = False
    fail_grid: tuple[float, ...] | None = None
    pass_grid: tuple[float, ...] | None = None
    error_weight: float = 1.0


PLAIN = Policy()
"""Alternatives alike, all of the stake at the start, ten minutes to know the dispersion: where the research began."""
PRODUCTION = Policy(tilt=1, minutes=3, beyond_chance=True, reserve=0.2, corrected=True, excuses=True)
"""What `GateState` does; tests/unit/test_bench_gates.py holds it to that."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """When each rollout was decided: the poll, from 0; POLLS where it never was.

    Attributes:
        failed, passed: each as if the other could not end the rollout.
    """

    failed: Ints
    passed: Ints


def decide(
    traffic: Traffic, policy: Policy = PRODUCTION, gates: Sequence[Tolerance] = GATES, alpha: float = ALPHA
) -> Decisions:
    """When the group of all gates fails, and when all of them have passed."""
    fails: list[Floats] = []
    weights: list[float] = []
    passed = np.ones(traffic.candidate.requests.shape, dtype=bool)
    enough = np.cumsum(traffic.candidate.requests, axis=1) >= MIN_REQUESTS
    for gate in gates:
        for term in _terms(gate, traffic, policy):
            fails.append(term.fail)
            weights.append(policy.error_weight if gate.metric == "error_rate" else 1.0)
            proven = (term.passing >= -np.log(BETA)) & enough
            anew = np.logical_or.accumulate(proven & (np.arange(POLLS) >= term.again), axis=1)
            before = np.logical_or.accumulate(proven, axis=1) & (np.arange(POLLS) < term.again)
            passed &= before | anew
    group = _log_sum(np.stack(fails, axis=-1), np.array(weights) / sum(weights))
    return Decisions(first(group >= -np.log(alpha)), first(passed))


def first(hit: NDArray[np.bool_]) -> Ints:
    """The first poll, from 0, where it is true; POLLS where it never is."""
    return np.where(hit.any(axis=1), hit.argmax(axis=1), POLLS)


@dataclass(frozen=True, slots=True)
class _Term:
    """Evidence about one term of a gate.

    Attributes:
        fail, passing: log E of both sides, (rollouts, polls).
        again: (rollouts, 1) the poll from which on it has to pass, whatever was before.
    """

    fail: Floats
    passing: Floats
    again: Ints


def _terms(gate: Tolerance, traffic: Traffic, policy: Policy) -> Iterator[_Term]:
    if gate.max is not None:
        yield _bound(gate, gate.max, traffic, policy)
    yield _relative_errors(gate, traffic, policy) if gate.metric == "error_rate" else _relative(gate, traffic, policy)


def _bound(gate: Tolerance, bound: float, traffic: Traffic, policy: Policy) -> _Term:
    """The absolute bound, excused where the candidate is no worse than stable."""
    n_c, n_s = traffic.candidate.requests, traffic.stable.requests
    if gate.metric == "error_rate":
        rate, bad_c, bad_s = bound, traffic.candidate.bad, traffic.stable.bad
    else:
        at = int(np.searchsorted(BOUNDS_MS, bound))
        rate, bad_c, bad_s = 1 - gate.quantile, traffic.candidate.above[..., at], traffic.stable.above[..., at]
    spread = _spread(bad_s, n_s, policy)
    counts = (bad_c / spread.index, bad_s / spread.index, n_c / spread.index, n_s / spread.index)
    own, worse = (
        {
            "fail": kernels.bound_increments(counts[0], counts[2], rate, "fail", _grid(policy, "fail")),
            "pass": kernels.bound_increments(counts[0], counts[2], rate, "pass", _grid(policy, "pass")),
        },
        {side: kernels.ratio_increments(*counts, 1.0, 0.0, side, _grid(policy, side)) for side in SIDES},
    )
    if policy.excuses:
        incident = (bad_s > rate * n_s)[..., np.newaxis]
        own["fail"] = np.where(incident, np.minimum(own["fail"], worse["fail"]), own["fail"])
    fail = np.minimum(*(_run(won["fail"], "fail", policy, spread) for won in (own, worse)))
    passing = np.stack([_run(won["pass"], "pass", policy, spread) for won in (own, worse)], axis=-1)
    return _Term(fail, kernels.log_mean_exp(passing), spread.again(policy))


def _relative_errors(gate: Tolerance, traffic: Traffic, policy: Policy) -> _Term:
    spread = _spread(traffic.stable.bad, traffic.stable.requests, policy)
    index = spread.index
    bad_c, bad_s = traffic.candidate.bad / index, traffic.stable.bad / index
    n_c, n_s = traffic.candidate.requests / index, traffic.stable.requests / index
    evidence = []
    for side in SIDES:
        tolerance = (gate.max_ratio, gate.max_increase)
        won = kernels.ratio_increments(bad_c, bad_s, n_c, n_s, *tolerance, side, _grid(policy, side))
        evidence.append(_run(won, side, policy, spread))
    return _Term(evidence[0], evidence[1], spread.again(policy))


def _relative(gate: Tolerance, traffic: Traffic, policy: Policy) -> _Term:
    """A latency compared with stable's bucket bound nearest its quantile over the polls before."""
    candidate, stable = traffic.candidate, traffic.stable
    at, expected = _thresholds(stable, gate.quantile)
    known = np.arange(POLLS) > 0
    bad_s = np.where(known, np.take_along_axis(stable.above, at[..., np.newaxis], axis=-1)[..., 0], 0)
    n_c, n_s = np.where(known, candidate.requests, 0), np.where(known, stable.requests, 0)
    spread = _spread(bad_s, stable.requests, policy, known)
    index = spread.index
    slowest = np.round(gate.max_ratio * BOUNDS_MS, 6)
    evidence = []
    for side in SIDES:
        meets = np.searchsorted(BOUNDS_MS, slowest, side="left" if side == "fail" else "right")
        meets = np.minimum(meets if side == "fail" else meets - 1, len(BOUNDS_MS) - 1)
        bad_c = np.where(known, np.take_along_axis(candidate.above, meets[at][..., np.newaxis], axis=-1)[..., 0], 0)
        counts = (bad_c / index, bad_s / index, n_c / index, n_s / index)
        grid = _grid(policy, side)
        grid = tuple(m for m in grid if m > 0) if grid is not None else None
        won = kernels.ratio_increments_exact(*counts, expected, 1.0, 0.0, side, grid)
        evidence.append(_run(won, side, policy, spread))
    return _Term(evidence[0], evidence[1], spread.again(policy))


def _thresholds(stable: Leg, quantile: float) -> tuple[Ints, Floats]:
    """Which bound is nearest stable's quantile over the polls before, and the rate to expect above it."""
    above = np.concatenate([np.zeros_like(stable.above[:, :1]), np.cumsum(stable.above, axis=1)], axis=1)
    total = np.concatenate([np.zeros_like(stable.requests[:, :1]), np.cumsum(stable.requests, axis=1)], axis=1)
    ends = np.arange(POLLS)
    begins = np.maximum(ends - BASELINE_POLLS, 0)
    recent, n = above[:, ends] - above[:, begins], total[:, ends] - total[:, begins]
    distance = np.abs(1 - recent / np.maximum(n, 1)[..., np.newaxis] - quantile)
    at = distance.argmin(axis=-1)
    beyond = np.take_along_axis(recent, at[..., np.newaxis], axis=-1)[..., 0]
    return at, (beyond + 1) / (n + 1 / (1 - quantile))


@dataclass(frozen=True, slots=True)
class _Spread:
    """Stable's index of dispersion and whether it is known, from the polls before each, (rollouts, polls)."""

    index: Floats
    known: NDArray[np.bool_]

    def again(self, policy: Policy) -> Ints:
        """(rollouts, 1) the poll in which it becomes known that there are clusters; 0 where that is never news."""
        if not policy.corrected:
            return np.zeros((len(self.known), 1), dtype=np.int64)
        at = self.known.argmax(axis=1)
        news = np.take_along_axis(self.index, at[:, np.newaxis], axis=1) > 1
        return np.where(news & (at[:, np.newaxis] > 0), at[:, np.newaxis] - 1, 0)

    def corrected(self, won: Floats, policy: Policy) -> Floats:
        """What alternatives win in each poll, so that what they have won until the index is known is divided by it."""
        again = self.again(policy)[:, 0]
        rows = np.flatnonzero(again)
        so_far = np.cumsum(won, axis=1)[rows, again[rows]]
        index = self.index[rows, again[rows] + 1][:, np.newaxis]
        after = won.copy()
        after[rows, again[rows]] += np.where(so_far > 0, so_far / index - np.maximum(so_far, 0.0), 0.0)
        return after


def _spread(bad: Ints, requests: Ints, policy: Policy, counted: NDArray[np.bool_] | bool = True) -> _Spread:
    """As in gates/spread.py."""
    requests = np.where(counted, requests, 0)
    minutes = np.cumsum(requests > 0, axis=1)
    sums, totals = np.cumsum(bad, axis=1), np.cumsum(requests, axis=1)
    squares = np.cumsum(bad * bad / np.maximum(requests, 1), axis=1)
    freedom = np.maximum(minutes - 1, 1)
    index = (squares * totals / np.maximum(sums, 1) - sums) / freedom
    if policy.beyond_chance:
        # Wilson and Hilferty's cube root turns chi-square over its degrees of freedom into a normal.
        index = np.where(index > (1 - 2 / (9 * freedom) + _Z90 * np.sqrt(2 / (9 * freedom))) ** 3, index, 1.0)
    known = minutes >= policy.minutes
    index = np.where(known, np.maximum(1.0, index), policy.before)
    if policy.foreknown:
        return _Spread(np.broadcast_to(np.roll(index[:, -1:], 1, axis=0), index.shape), np.ones_like(known))
    start = np.full((len(bad), 1), policy.before)
    known = np.concatenate([start < 0, known[:, :-1]], axis=1)
    return _Spread(np.concatenate([start, index[:, :-1]], axis=1), known)


def _grid(policy: Policy, side: Side) -> tuple[float, ...] | None:
    return (policy.fail_grid or FAIL_GRID) if side == "fail" else policy.pass_grid


def _run(increments: Floats, side: Side, policy: Policy, spread: _Spread) -> Floats:
    """Log wealth after each poll.

    Args:
        increments: what each alternative wins in each poll, alternatives on the last axis.
        side, policy: how the stake is spread.
        spread: of the term; some of the reserve enters in polls in which it is known.
    """
    increments = spread.corrected(increments, policy)
    size = increments.shape[-1]
    if side == "pass":
        standard = kernels.PASS_MULTIPLES if size == len(kernels.PASS_MULTIPLES) else kernels.PASS_MULTIPLES_EXACT
        weights = (np.array((policy.pass_grid or standard)[:size]) + 0.05) ** policy.pass_tilt
        return _log_sum(np.cumsum(increments, axis=1), weights / weights.sum())
    weights = np.array(policy.fail_grid or FAIL_GRID) ** -policy.tilt
    weights /= weights.sum()
    if policy.plug_in:
        so_far = np.cumsum(increments, axis=1) - increments
        best = np.where(np.arange(increments.shape[1]) > 0, so_far.argmax(axis=-1), FIRST_GUESS)
        return np.cumsum(np.take_along_axis(increments, best[..., np.newaxis], axis=-1)[..., 0], axis=1)
    if not policy.reserve:
        return _log_sum(np.cumsum(increments, axis=1), weights)
    left = np.full((len(increments), 1), policy.reserve)
    logs = np.log((1 - left) * weights)
    wealth = np.empty(increments.shape[:2])
    for poll in range(increments.shape[1]):
        entering = np.full_like(left, poll > 0, dtype=bool) if policy.eager else spread.known[:, poll, np.newaxis]
        if entering.any():
            after = np.where(entering, 1 / (1 / left + 1 / (policy.reserve * policy.pace)), left)
            with np.errstate(divide="ignore"):
                logs = np.logaddexp(logs, np.log((left - after) * weights))
            left = after
        logs = logs + increments[:, poll]
        wealth[:, poll] = np.logaddexp(_log_sum(logs, np.ones(size)), np.log(left[:, 0]))
    return wealth


def _log_sum(logs: Floats, weights: Floats) -> Floats:
    """log of the weighted sum of exp(logs) over the last axis."""
    top = np.maximum(logs.max(axis=-1, keepdims=True), -700.0)
    total = np.sum(np.exp(logs - top) * weights, axis=-1)
    log: Floats = np.log(np.maximum(total, 1e-300)) + top[..., 0]
    return log
