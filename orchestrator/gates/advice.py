"""What the gates of a step can decide, how soon, and what it may cost clients: said before anything runs.

A step whose gates need more requests than it will see waits to its deadline and ends undecided; and each canary step
lets some clients meet a bad candidate before the gates have seen enough. Both can be known beforehand, from the figures
of `resolution` and the step's clocks. All numbers are those of the expected path, around which real rollouts scatter.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.gates import wording
from orchestrator.gates.resolution import (
    Buckets,
    effective,
    effective_sentences,
    requests_to_pass,
    slower_by_chance,
    traffic_to_fail,
)
from orchestrator.gates.spec import Gate, Reaction
from plans.units import show_duration, show_frequency, show_share

ASSUMED_ERRORS = 0.005
"""Error rate of both sides where stable's was not measured."""
BAD_RATES = (0.02, 0.10, 1.0)
"""Error rates of a bad candidate, for which the price is told."""
EXACT = Buckets()
"""Where nothing is known of a provider's histogram, nothing is said of it."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which a gated step measures.

    Attributes:
        exposure, mirrored: the candidate's share of live traffic, and of the mirror; tenths of a percent.
        stable: stable's share of live traffic, tenths of a percent; 0 where there is nothing to compare with.
        hold, deadline, interval: of the step, seconds; deadline None for never.
        stages: J, the gated stages of the plan.
        traffic: requests a second to the endpoint, or None where it is not known.
        stable_errors: stable's measured error rate, or None.
        stable_quantiles: gate -> where stable's quantile stands, microseconds; of the latency gates where it is known.
        buckets: in which the provider counts latencies.
        warmed: seconds in which the candidate's traffic was measured in earlier steps.
        decide: proven: the step goes on when every gate has passed; no_fail: at the end of its hold.
        budget: bad live responses of the candidate after which it is rolled back, or None.
        candidate: its name.
    """

    exposure: int
    mirrored: int = 0
    stable: int = 0
    hold: float = 0.0
    deadline: float | None = None
    interval: float = 10.0
    stages: int = 1
    traffic: float | None = None
    stable_errors: float | None = None
    stable_quantiles: Mapping[str, float] | None = None
    buckets: Buckets = EXACT
    warmed: float = 0.0
    decide: Literal["proven", "no_fail"] = "proven"
    budget: int | None = None
    candidate: str = "the candidate"

    def share(self, gate: Gate) -> int:
        """The candidate's share of the requests that a gate judges, tenths of a percent; 0 also where none can be
        foreseen (direct ones).
        """
        if gate.guards_stable:
            return self.stable
        source = ("mirror" if self.mirrored else "live") if gate.source == "auto" else gate.source
        return {"mirror": self.mirrored, "live": self.exposure, "direct": 0}[source]


@dataclass(frozen=True, slots=True)
class Need:
    """What a PASS takes at one level of bad answers on both sides.

    Attributes:
        rate: the level, 0..1: errors, or for a latency gate answers above its `max`.
        requests: of the candidate, after the warm-up; None when no number of them suffices.
        seconds: from the start of the step's clocks, with warm-up, whole intervals and late figures; None also where
            the traffic is not known.
    """

    rate: float
    requests: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Outlook:
    """Whether one gate can pass.

    Attributes:
        gate: its name.
        clean, usual: what it needs without bad answers, and at the rate that stable has or is taken to have.
        available: candidate requests after the warm-up that the step gives it; None where that is not known.
        in_time, in_hold: it passes, at the usual rate, within the deadline and within the hold; None where not known.
        sentence: what the author of the plan should know; "" when all is well.
    """

    gate: str
    clean: Need
    usual: Need
    available: float | None
    in_time: bool | None
    in_hold: bool | None
    sentence: str


@dataclass(frozen=True, slots=True)
class StageAdvice:
    """All about one step.

    Attributes:
        needs: gate -> its outlook.
        sentences: what the author should know, one thing each.
        risk: (error rate of a bad candidate, bad answers that clients would then see in this step); None where they
            cannot be bounded.
        price: the risk in one sentence.
    """

    needs: Mapping[str, Outlook]
    sentences: tuple[str, ...]
    risk: tuple[tuple[float, float | None], ...]
    price: str


def bad_responses(
    gates: Sequence[Gate], conditions: Conditions, bad_rate: float, guards: Sequence[Gate] = ()
) -> float | None:
    """Bad answers that clients are to expect in one step from a candidate that fails at `bad_rate`.

    Counted until the step is rolled back, or ends: when all gates have passed after all, else at its deadline; after a
    hold where it has no gates. None where that cannot be bounded: the traffic is not known and nothing stops it, or a
    pause, in which the candidate goes on answering, is all that follows. Where the traffic is not known the warm-up is
    left out.

    Args:
        gates: of the step.
        conditions: of the step.
        bad_rate: errors of the candidate, 0..1; stable is at its usual rate.
        guards: gates of an earlier step that go on watching for a FAIL. What they have seen before, which makes them
            slower, is left out.
    """
    c = conditions
    if not c.exposure or c.traffic == 0:
        return 0.0
    watching = (*gates, *guards)
    shares = {gate.name: c.share(gate) for gate in watching}

    def failing(reaction: Reaction) -> tuple[float, float]:
        """Requests to the endpoint, and seconds, until the gates fail that ask for it."""
        group = [gate for gate in watching if gate.on_fail == reaction]
        needed = traffic_to_fail(
            group, shares, stable_share=c.stable, stages=c.stages, bad_rate=bad_rate, stable_rate=_usual(c)
        )
        return (math.inf, math.inf) if needed is None else (needed, _seconds(c, group, needed))

    live = c.exposure / 1000 * bad_rate
    spent = (c.budget + 1) / live if c.budget is not None and bad_rate else math.inf
    requests, stops = failing("rollback")
    requests, stops = min(requests, spent), min(stops, _seconds(c, (), spent))
    if c.traffic is None:
        return None if math.isinf(requests) else requests * live
    exposed = stops
    if stops > c.hold and stops > (end := _end(gates, c, bad_rate)) and failing("pause")[1] > end:
        # A pause would have kept the step from ending, while its gates go on guarding.
        exposed = end
    return None if math.isinf(exposed) else exposed * c.traffic * live


def undecidable(gate: Gate, conditions: Conditions) -> Outlook:
    """Whether a gate can pass within the deadline and the hold of a step, when nothing is wrong with the candidate."""
    c = conditions
    if gate.metric == "external":
        unknown = Need(0.0, None, None)
        return Outlook(gate.name, unknown, unknown, None, None, None, _of_another_source(gate))
    clean, usual = (_need(gate, c, rate) for rate in _rates(gate, c))
    available = in_time = in_hold = None
    if c.traffic is not None:
        limit = math.inf if c.deadline is None else c.deadline
        in_time = usual.seconds is not None and usual.seconds <= limit
        in_hold = usual.seconds is not None and usual.seconds <= c.hold
        if c.deadline is not None:
            polls = _whole(max(0.0, c.deadline - gate.settle) / c.interval, math.floor) * c.interval
            available = max(0.0, polls - _discarded(gate, c)) * c.traffic * c.share(gate) / 1000
    found = Outlook(gate.name, clean, usual, available, in_time, in_hold, "")
    return replace(found, sentence=_sentence(gate, c, found))


def advice_for_stage(gates: Sequence[Gate], conditions: Conditions, guards: Sequence[Gate] = ()) -> StageAdvice:
    """All that can be said of a step beforehand. `guards`: gates of an earlier step that only watch for a FAIL."""
    c = conditions
    needs = {gate.name: undecidable(gate, c) for gate in gates}
    sentences = [outlook.sentence for outlook in needs.values() if outlook.sentence]
    for gate in gates:
        sentences += effective_sentences(gate, c.buckets, _level(gate, c), compared=c.stable > 0)
    risk = tuple((rate, bad_responses(gates, c, rate, guards)) for rate in BAD_RATES)
    return StageAdvice(needs, tuple(sentences), risk, _risk_sentence(c, risk))


# --- clocks ---------------------------------------------------------------------------------------


def _usual(c: Conditions) -> float:
    return ASSUMED_ERRORS if c.stable_errors is None else c.stable_errors


def _rates(gate: Gate, c: Conditions) -> tuple[float, float]:
    """Bad ones where nothing at all is wrong, and usually."""
    match gate.metric:
        case "error_rate":
            return 0.0, _usual(c)
        case "latency":
            return 0.0, (1 - gate.quantile) / 2
        case "slowdown":
            alike = slower_by_chance(gate.ratio)
            return alike, alike
    return 0.0, 0.0


def _level(gate: Gate, c: Conditions) -> float | None:
    return (c.stable_quantiles or {}).get(gate.name)


def _need(gate: Gate, c: Conditions, rate: float, stable_rate: float | None = None) -> Need:
    level = _level(gate, c)
    tested = effective(gate, c.buckets, level) if level is not None else ()
    requests = requests_to_pass(
        gate,
        candidate_share=c.share(gate),
        stable_share=c.stable,
        rate=rate,
        stable_rate=stable_rate,
        tested_ratio=next((term.passes for term in tested if term.term == "relative"), None),
    )
    if requests is None or not c.traffic:
        return Need(rate, requests, None)
    return Need(rate, requests, _seconds(c, (gate,), requests * 1000 / c.share(gate)))


def _seconds(c: Conditions, gates: Iterable[Gate], requests: float) -> float:
    """From the start of the step's clocks until gates have judged so many requests to the endpoint; inf when never."""
    measured = requests / c.traffic if c.traffic else math.inf
    if math.isinf(measured):
        return math.inf
    warm_up = settle = 0.0
    for gate in gates:
        warm_up, settle = max(warm_up, _discarded(gate, c)), max(settle, gate.settle)
    polled = warm_up + _whole(measured / c.interval, math.ceil) * c.interval
    # The end of the hold is looked at, too, whatever the interval.
    return (c.hold if warm_up + measured <= c.hold <= polled else polled) + settle


def _discarded(gate: Gate, c: Conditions) -> float:
    """Seconds that the rest of a gate's warm-up takes: whole intervals."""
    return _whole(max(0.0, gate.warm_up - c.warmed) / c.interval, math.ceil) * c.interval


def _whole(intervals: float, towards: Callable[[float], int]) -> int:
    return towards(round(intervals, 6))


def _end(gates: Sequence[Gate], c: Conditions, bad_rate: float) -> float:
    """Seconds until a step ends that is not rolled back."""
    if not gates or c.decide == "no_fail":
        return c.hold
    end = c.hold
    for gate in sorted(gates, key=lambda gate: gate.metric == "latency"):  # those that most likely never pass first
        rates = (bad_rate, _usual(c)) if gate.metric == "error_rate" else (0.0, 0.0)
        if gate.metric == "external":
            continue  # how soon it passes is not known; it is taken not to be the last
        passed = _need(gate, c, *rates).seconds
        if passed is None:
            return math.inf if c.deadline is None else c.deadline
        end = max(end, passed)
    return end if c.deadline is None else min(end, c.deadline)


# --- sentences ------------------------------------------------------------------------------------


def _sentence(gate: Gate, c: Conditions, found: Outlook) -> str:
    name, usual, clean = f"gate {gate.name}", found.usual, found.clean
    if gate.source == "direct":
        return f"{name} judges direct requests, and how many of them come is not known beforehand"
    if not c.share(gate):
        judged = "mirrored" if gate.source == "mirror" else "live"
        return f"{name} judges {judged} requests, and {c.candidate} gets none in this step: it would have no data"
    if not c.stable and gate.max is None:
        return f"{name} only compares with stable, which has no live traffic in this step: it would have no data"
    judged = "stable" if gate.guards_stable else c.candidate
    level, without = _levels(gate, c, usual.rate)
    if usual.requests is None:
        enough = f" ({_about(clean.requests)} requests suffice {without})" if clean.requests is not None else ""
        return f"{name} cannot pass {level}, however long the step lasts{enough}: give it a wider tolerance"
    if clean.requests is None:
        return f"{name} cannot pass {without}: give it a max_increase above 0%"
    fewer = _about(clean.requests) != _about(usual.requests)
    if gate.relative and not fewer and gate.metric == "latency" and c.stable:
        level = "when both sides are equally fast"
    needs = f"{name} needs {_about(usual.requests)} requests to {judged} {level}"
    share = show_share(c.share(gate))
    if c.traffic is None:
        needs += f" ({_about(clean.requests)} {without})" if fewer else ""
        endpoint = usual.requests * 1000 / c.share(gate)
        left = None if c.deadline is None else c.deadline - _discarded(gate, c) - gate.settle
        if c.deadline is None or left is None or left <= 0:
            return f"{needs}: at {share} that is {_about(endpoint)} to the endpoint"
        limit, rate = show_duration(c.deadline), show_frequency(float(f"{endpoint / left:.2g}"))
        return f"{needs}: at {share} the endpoint must get {rate} to make them within {limit}"
    if usual.seconds is None:
        return f"{needs}, and the endpoint gets none: it would have no data"
    sooner = f"; {show_duration(clean.seconds)} {without}" if fewer and clean.seconds is not None else ""
    needs += f" ({show_duration(usual.seconds)} at {show_frequency(c.traffic)} and {share}{sooner})"
    if c.decide == "no_fail":
        after = f"the step would go on unproven after its hold of {show_duration(c.hold)}"
        return "" if found.in_hold else f"{needs}: {after}"
    if not found.in_time:
        return (
            f"{needs}, and the step gives it {show_duration(c.deadline or 0)}: it would end undecided; give it a "
            "longer deadline, more traffic or a wider tolerance"
        )
    return "" if found.in_hold else f"{needs}: the step takes longer than its hold of {show_duration(c.hold)}"


def _of_another_source(gate: Gate) -> str:
    assert gate.external is not None
    return f"gate {gate.name} judges figures of {gate.external.name}, and how many of them come is not known beforehand"


def _levels(gate: Gate, c: Conditions, rate: float) -> tuple[str, str]:
    """At which level of bad answers, and without any, as clauses."""
    if gate.metric == "error_rate":
        return (f"at {wording.percent(rate)} errors" if rate else "without any error"), "without any error"
    if gate.metric == "slowdown":
        return "when both sides are equally fast", "when both sides are equally fast"
    if gate.metric in ("prediction", "missing_pairs"):
        clean = "when all are answered alike" if gate.metric == "prediction" else "when none is missing"
        return clean, clean
    alike = "when both sides are equally fast" if gate.relative and c.stable else ""
    if gate.max is None:
        return alike, alike
    joined = f"{alike} and " if alike else "when "
    above = f"of its answers take more than {wording.duration(gate.max)}"
    return f"{joined}{wording.percent(rate)} {above}", f"{joined}none {above}"


def _risk_sentence(c: Conditions, risk: Sequence[tuple[float, float | None]]) -> str:
    if not c.exposure:
        return f"no client sees an answer of {c.candidate} in this step"
    (first, fewest), *rest = risk
    told = [f"{_bounded(fewest)} if {c.candidate} failed {wording.percent(first)} of its requests"]
    told += [f"{_bounded(bad)} at {wording.percent(rate)}" for rate, bad in rest]
    return f"bad answers that clients would see in this step: {', '.join(told)}"


def _bounded(bad: float | None) -> str:
    return "without limit" if bad is None else _about(bad)


def _about(count: float) -> str:
    """85_321.7 -> "about 85,000": two significant digits."""
    whole = math.ceil(round(count, 6))
    return f"about {round(whole, min(0, 2 - len(str(whole)))):,}"
