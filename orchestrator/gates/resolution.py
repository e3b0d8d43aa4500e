"""How fine a difference a gate can tell: in requests, and in the buckets of a histogram.

*In requests.* A tolerance is easily written and may need more requests than a step will ever see. How many is known
beforehand, on the *expected path*: where both sides answer at steady rates and nothing happens by chance, each
alternative of a bet wins the same in every request, so that its log wealth after n requests is n times what one
request wins, and it makes no difference how they are split into polls. One call of the production kernels therefore
says it all. The wealth of a term is convex in n, so once above 1 it only grows, and where it reaches a level is found
by bisection. What the bets of a gate and the gates of a step add up to is asked of `Track` and `judge` themselves.
Real rollouts scatter around it: in simulations about a third needed more, and one in ten half as many again or more.

What is accepted: counts are not divided for clustered errors (see `spread`), which makes every number larger by
stable's index of dispersion. What a latency comparison needs depends on the shape of the latencies; both sides are
taken to be the same log-normal, with the spread that the gates were measured with.

*In buckets.* A histogram knows its bounds and nothing between them, and a gate does not guess (see `histogram`): PASS
counts what lies above the last bound at or below the tolerance, FAIL above the first one at or beyond it. Whoever
writes `max_ratio: 1.10` is judged by two other numbers, and where the one for PASS is 1, no candidate that is as fast
as stable can pass.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from orchestrator.gates import bets, wording
from orchestrator.gates.bets import Bet, Counts, Purse, Wealth
from orchestrator.gates.judge import judge
from orchestrator.gates.kernels import Side, log_mean_exp
from orchestrator.gates.spec import Gate, TermName
from orchestrator.gates.state import GateState
from orchestrator.gates.track import Track

LOG_SPREAD = 0.6
"""Standard deviation of log latency, as in the measurements that the design cites."""

_SCALE = 10**9  # requests that the increments of one are taken from, because counts are whole
_NEVER = 1e11  # requests to the endpoint that nobody waits for
_DECADE = 1000  # microseconds by which the levels that stand for all others are scaled; their bounds are whole


# --- in requests ----------------------------------------------------------------------------------


def requests_to_pass(
    gate: Gate,
    *,
    candidate_share: int,
    stable_share: int,
    rate: float,
    stable_rate: float | None = None,
    beta: float | None = None,
    tested_ratio: float | None = None,
    discarded: float = 0.0,
) -> float | None:
    """Candidate requests until every term of a gate has passed along the expected path; None when that never happens.

    Args:
        gate: any.
        candidate_share, stable_share: of the endpoint's traffic, tenths of a percent; only their ratio matters. A
            stable_share of 0 leaves the absolute bound alone.
        rate, stable_rate: bad answers of both sides, 0..1; stable's is the candidate's when it is not given. For a
            latency gate those above its `max`; its comparison takes both sides to be alike. Pairs are not counted on:
            with them it is rarely more.
        beta: instead of the gate's.
        tested_ratio: what PASS tests in place of a latency gate's ratio, where the histogram is coarser.
        discarded: candidate requests that the warm-up takes.
    """
    if candidate_share <= 0:
        return None
    gate = gate if beta is None else replace(gate, beta=beta)
    sides = _Sides(candidate_share, stable_share, rate, rate if stable_rate is None else stable_rate, tested_ratio)
    track = _entered((gate,), 1, stable_share).tracks[0]
    live = [term for term in gate.terms if term == "bound" or stable_share]
    if not live:
        return None
    won = {bet: _won(gate, bet, "pass", sides) for bet in track.passing or {}}
    wanted = -math.log(gate.beta)
    needed = 0.0
    for term in live:

        def proven(requests: float, term: TermName = term) -> bool:
            return replace(track, passing=_after(gate, "pass", won, requests)).log_pass(term) >= wanted

        fastest = max(max(logs) for bet, logs in won.items() if bets.TERM_OF[bet] == term)
        crossing = _first(proven, wanted, fastest)
        if crossing is None:
            return None
        needed = max(needed, crossing)
    return discarded + max(needed * candidate_share / 1000, float(gate.min_requests))


def requests_to_fail(
    gates: Sequence[Gate],
    gate: Gate,
    *,
    candidate_share: int,
    stable_share: int,
    stages: int,
    bad_rate: float,
    stable_rate: float,
) -> float | None:
    """Candidate requests until the group of a gate fails along the expected path; None when it never does.

    It is the first start of this stage: evidence of earlier stages is left out, and counts as the 1 it begins with.

    Args:
        gates: of the step.
        gate: one of them; its group are those with the same `on_fail`.
        candidate_share, stable_share: of the endpoint's traffic, tenths of a percent.
        stages: J, the gated stages of the plan.
        bad_rate, stable_rate: error rates of the two sides. Errors are taken to be as fast as other answers: latency
            gates see two sides that are alike.
    """
    group = [other for other in gates if other.on_fail == gate.on_fail]
    shares = {other.name: candidate_share for other in group}
    crossing = traffic_to_fail(
        group, shares, stable_share=stable_share, stages=stages, bad_rate=bad_rate, stable_rate=stable_rate
    )
    return None if crossing is None else crossing * candidate_share / 1000


def traffic_to_fail(
    group: Sequence[Gate],
    shares: Mapping[str, int],
    *,
    stable_share: int,
    stages: int,
    bad_rate: float,
    stable_rate: float,
) -> float | None:
    """As `requests_to_fail`, in requests to the endpoint, for gates that judge different requests of the candidate.

    Args:
        group: gates of one `on_fail`.
        shares: gate -> the candidate's share of what it judges, tenths of a percent.
        stable_share, stages, bad_rate, stable_rate: as there.
    """
    if not group:
        return None
    state = _entered(tuple(group), stages, stable_share)
    won: dict[str, dict[Bet, list[float]]] = {}
    fastest = 0.0
    for track in state.tracks:
        gate = track.gate
        rates = (bad_rate, stable_rate) if gate.metric == "error_rate" else (0.0, 0.0)
        sides = _Sides(shares[gate.name], stable_share, *rates)
        won[gate.name] = {bet: _won(gate, bet, "fail", sides) for bet in track.starts[0].wealth}
        for term in gate.terms:
            # A blamed bound grows no faster than the slower of its two bets.
            own = [max(logs) for bet, logs in won[gate.name].items() if bets.TERM_OF[bet] == term]
            fastest = max(fastest, min(own, default=0.0))

    def failed(requests: float) -> bool:
        tracks = tuple(
            _standing(track, _after(track.gate, "fail", won[track.gate.name], requests)) for track in state.tracks
        )
        return judge(replace(state, tracks=tracks)).outcome == "failed"

    wanted = -math.log(max(gate.alpha for gate in group))
    # An alternative of a large weight begins nearer to its end.
    most = max(max(bets.opening(t.gate, bet, "fail")) for t in state.tracks for bet in won[t.gate.name])
    return _first(failed, max(wanted - most, wanted / 100), fastest)


def slower_by_chance(ratio: float) -> float:
    """How many of the pairs of two sides that are alike have a copy that took more than `ratio` times as long, 0..1.

    Copy and twin are taken to be independent; what they share makes it fewer.
    """
    return 1 - NormalDist().cdf(math.log(ratio) / (math.sqrt(2) * LOG_SPREAD))


@dataclass(frozen=True, slots=True)
class _Sides:
    """What each request to the endpoint brings, and how both sides answer.

    Attributes:
        candidate, stable: their shares of the requests, tenths of a percent.
        bad_candidate, bad_stable: rates of bad answers.
        tested_ratio: what is tested in place of a latency gate's ratio, or None.
    """

    candidate: int
    stable: int
    bad_candidate: float
    bad_stable: float
    tested_ratio: float | None = None


def _rates(gate: Gate, bet: Bet, sides: _Sides) -> tuple[float, float, float]:
    """Bad rates of candidate and stable as a bet counts them, and what to expect of stable."""
    if gate.metric == "error_rate" or bet != "relative":
        return sides.bad_candidate, sides.bad_stable, 0.0
    normal = NormalDist()
    ratio = gate.ratio if sides.tested_ratio is None else sides.tested_ratio
    beyond = 1 - normal.cdf(normal.inv_cdf(gate.quantile) + math.log(ratio) / LOG_SPREAD) if ratio > 0 else 1.0
    return beyond, 1 - gate.quantile, 1 - gate.quantile


def _won(gate: Gate, bet: Bet, side: Side, sides: _Sides) -> list[float]:
    """Log wealth that each alternative wins in one request to the endpoint."""
    candidate, stable, expected = _rates(gate, bet, sides)
    total_candidate, total_stable = sides.candidate * _SCALE, sides.stable * _SCALE
    bad_candidate, bad_stable = round(candidate * total_candidate), round(stable * total_stable)
    seen = Counts(bad_candidate, bad_stable, total_candidate, total_stable, expected)
    won: list[float] = bets.settle(gate, bet, side, seen, 1000.0 * _SCALE).tolist()
    return won


def _after(gate: Gate, side: Side, won: Mapping[Bet, list[float]], requests: float) -> Wealth:
    """What bets hold after so many requests, with the reserve of FAIL still held back."""
    after = {
        bet: [begun + requests * log for begun, log in zip(bets.opening(gate, bet, side), logs, strict=True)]
        for bet, logs in won.items()
    }
    return {bet: Purse(tuple(logs), float(log_mean_exp(logs))) for bet, logs in after.items()}


def _entered(gates: tuple[Gate, ...], stages: int, stable_share: int) -> GateState:
    return GateState.begin(gates, stages).enter(0, gates, "candidate", "stable" if stable_share else None, "live")


def _standing(track: Track, wealth: Wealth) -> Track:
    return replace(track, starts=(replace(track.starts[0], wealth=wealth),), passing=None)


def _first(reached: Callable[[float], bool], wanted: float, fastest: float) -> float | None:
    """The first number of requests, to half a thousandth, at which evidence is reached that is not reached before an
    alternative that wins `fastest` a request has won `wanted`; None when that is never.
    """
    if fastest * _NEVER <= wanted:
        return None
    low = wanted / fastest
    high = 2 * low
    while not reached(high):
        low, high = high, 2 * high
        if high > _NEVER:
            return None
    while high - low > 0.0005 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


# --- in buckets -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Buckets:
    """The bounds between which a provider counts latencies.

    Attributes:
        digits: significant decimal digits of a bound: with 2 they are 1.0, 1.1, ... 9.9 times each power of ten
            microseconds, from 10 us on; None where latencies are exact, so that nothing is to be said.
    """

    digits: int | None = None

    def last_within(self, latency: float) -> float:
        """The last bound <= a latency, both microseconds."""
        width = self._width(latency)
        return latency if width is None else float(math.floor(latency) // width * width)

    def first_beyond(self, latency: float) -> float:
        """The first bound >= a latency, both microseconds."""
        width = self._width(latency)
        return latency if width is None else float(-(-math.ceil(latency) // width) * width)

    def _width(self, latency: float) -> int | None:
        """Of the bucket that holds a latency, microseconds."""
        if self.digits is None:
            return None
        # From the number's own digits, because a logarithm is not exact at powers of ten.
        return int(10 ** max(0, len(str(math.floor(latency))) - self.digits))


@dataclass(frozen=True, slots=True)
class Effective:
    """What the two verdicts of a term test in place of its tolerance.

    Attributes:
        term: the absolute bound or the comparison.
        asked: the tolerance as written: microseconds for a bound, multiples of stable's quantile for a comparison.
        passes, fails: what PASS and what FAIL test, in the same unit; passes <= asked <= fails.
        level: stable's quantile for which this holds, microseconds, on a bound; None for a bound, and for the worst
            over all levels (the smallest `passes`, the largest `fails`).
    """

    term: TermName
    asked: float
    passes: float
    fails: float
    level: float | None = None


def effective(
    gate: Gate, buckets: Buckets, stable_quantile_us: float | None = None, *, compared: bool = True
) -> tuple[Effective, ...]:
    """What the terms of a latency gate really test, in the gate's order; () for other gates and for exact latencies.

    Args:
        gate: any.
        buckets: the provider's.
        stable_quantile_us: where stable's quantile stands, microseconds; None when it is not known, for the worst case
            over a decade of levels.
        compared: there is a stable side; without it the comparison is left out.
    """
    if gate.metric != "latency" or buckets.digits is None:
        return ()
    tested = []
    if gate.max is not None:
        tested.append(Effective("bound", gate.max, buckets.last_within(gate.max), buckets.first_beyond(gate.max)))
    if gate.relative and compared:
        tested.append(_compared(gate.ratio, buckets, buckets.digits, stable_quantile_us))
    return tuple(tested)


def finer_than_histogram(gate: Gate, buckets: Buckets, stable_quantile_us: float | None = None) -> str | None:
    """One sentence when a comparison is finer than the buckets, so that PASS would ask for no difference at all.

    Args as of `effective`. None when there is nothing to warn of.
    """
    for tested in effective(gate, buckets, stable_quantile_us):
        if tested.term == "bound" or tested.passes > 1 or tested.asked <= 1:
            continue
        return (
            f"gate {gate.name}: max_ratio {tested.asked:.4g} is finer than the histogram {_where(gate, tested)}: PASS "
            f"tests {_times(tested.passes)}, which cannot be proved when both sides are alike, and FAIL tests "
            f"{_times(tested.fails)}; use {_coarse_enough(buckets, tested.level):g} or more"
        )
    return None


def effective_sentences(
    gate: Gate, buckets: Buckets, stable_quantile_us: float | None = None, *, compared: bool = True
) -> tuple[str, ...]:
    """`effective` for people: one sentence for each term whose verdicts test something else than what is written.

    Args as of `effective`. A comparison that is too fine is told as `finer_than_histogram` tells it.
    """
    sentences = []
    for tested in effective(gate, buckets, stable_quantile_us, compared=compared):
        if tested.passes == tested.fails:
            continue
        if tested.term == "bound":
            sentences.append(
                f"gate {gate.name}: the histogram has no bound at {wording.duration(tested.asked)}: PASS tests "
                f"{wording.duration(tested.passes)}, FAIL tests {wording.duration(tested.fails)}"
            )
            continue
        finer = finer_than_histogram(gate, buckets, stable_quantile_us)
        sentences.append(
            finer
            or f"gate {gate.name}: of max_ratio {tested.asked:.4g} PASS tests {_times(tested.passes)} and FAIL "
            f"{_times(tested.fails)} {_where(gate, tested)}"
        )
    return tuple(sentences)


def _compared(ratio: float, buckets: Buckets, digits: int, stable_quantile_us: float | None) -> Effective:
    if stable_quantile_us is not None:
        level = max(1.0, buckets.first_beyond(stable_quantile_us))
        passes, fails = _around(ratio, buckets, level)
        return Effective("relative", ratio, passes, fails, level)
    levels = [float(n * _DECADE) for n in range(10 ** (digits - 1), 10**digits)]
    both = [_around(ratio, buckets, level) for level in levels]
    return Effective("relative", ratio, min(passes for passes, _ in both), max(fails for _, fails in both))


def _around(ratio: float, buckets: Buckets, level: float) -> tuple[float, float]:
    asked = round(ratio * level, 6)
    return buckets.last_within(asked) / level, buckets.first_beyond(asked) / level


def _coarse_enough(buckets: Buckets, level: float | None) -> float:
    """The smallest max_ratio, in hundredths, that lets PASS test more than 1x at a level, or at all of them."""
    assert buckets.digits is not None
    # Buckets are widest, for their level, where a decade begins.
    start = level if level is not None else float(_DECADE * 10 ** (buckets.digits - 1))
    return math.ceil(100 * buckets.first_beyond(start + 0.5) / start) / 100


def _where(gate: Gate, tested: Effective) -> str:
    if tested.level is None:
        return "where stable's latency is least lucky"
    return f"at stable's {wording.quantile(gate.quantile)} of {wording.duration(tested.level)}"


def _times(ratio: float) -> str:
    return f"{ratio:.3g}x"
