"""What a gate saw poll by poll: the figures of both sides, the tolerance as it stood, and how far the evidence was.

The journal has the evidence after each poll, the measurements have the counts. Joined by number they are the curves of
a report. Nothing is judged again: what the engine decided is in the journal, and a report that recomputed it could
contradict it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from orchestrator.events import Measured
from orchestrator.gates import wording
from orchestrator.gates.histogram import quantile_bound
from orchestrator.gates.judge import Verdict
from orchestrator.gates.reading import Reading, Sides
from orchestrator.gates.spec import DEFAULT_CODES, Gate, is_error
from orchestrator.standing import Roles
from orchestrator.views import GateView
from providers.measurement import Histogram, Leg, Measurement, Source

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Seen:
    """One side in one poll.

    Attributes:
        requests: counted.
        bad: of an error rate, how many were errors; None of a latency.
        value: what the gate looks at: a rate (0..1), or a quantile's bucket bound (microseconds); None without an
            answered request.
    """

    requests: float
    bad: float | None
    value: float | None


@dataclass(frozen=True, slots=True)
class Poll:
    """One poll, as one gate saw it.

    Attributes:
        at: its end. seconds: from the step's first poll's beginning to `at`.
        candidate, stable: what was counted; None where there was nothing to read.
        fail, passed: log evidence for FAIL and for PASS after it, in multiples of log(1/alpha) and log(1/beta): at 1
            the threshold is reached; may be -inf.
        tolerated: what the comparison with stable allows, as stable was in the step so far; unit as of `Seen.value`.
        counted: whether it is part of the evidence (the warm-up is not). lost: the data plane had restarted.
    """

    at: datetime
    seconds: float
    candidate: Seen | None
    stable: Seen | None
    fail: float
    passed: float
    tolerated: float | None
    counted: bool = True
    lost: bool = False


@dataclass(frozen=True, slots=True)
class GateStory:
    """A gate in one step.

    Attributes:
        view: what it said last.
        gate: as it was compiled; None where the plan could not be compiled here.
        latency: whether it judges a latency, by `quantile`; else a rate of bad ones.
        alpha, beta: its levels.
        terms: tolerances in its group (the gates that ask for the same reaction), which fail on their mean; 0 where
            that is not known.
        polls: of the step, in order.
    """

    view: GateView
    gate: Gate | None
    latency: bool
    quantile: float
    alpha: float
    beta: float
    terms: int
    polls: tuple[Poll, ...]

    @property
    def bound(self) -> float | None:
        """Its absolute bound: a rate, or microseconds."""
        if self.gate is None or "bound" not in self.gate.terms:
            return None
        return self.gate.max if self.latency else self.gate.bound_rate

    @property
    def bad(self) -> str:
        """What it calls the ones that count against the candidate: "errors", "slow"."""
        return wording.bad_ones(
            self.gate.metric if self.gate is not None else "latency" if self.latency else "error_rate"
        )

    @property
    def alone(self) -> float | None:
        """What it needs to fail its group without the others, as a multiple of log(1/alpha)."""
        return 1 + math.log(self.terms) / math.log(1 / self.alpha) if self.terms > 1 else None

    @property
    def asks(self) -> str:
        """`bound of 5% and tolerance of 2x + 2%`; empty where it is not known."""
        return " and ".join(wording.tolerance(self.gate, term) for term in self.gate.terms) if self.gate else ""


@dataclass(frozen=True, slots=True)
class Levels:
    """What is known of a gate without its compiled form: from the plan alone."""

    latency: bool
    quantile: float
    alpha: float
    beta: float


def gate_story(
    view: GateView,
    gate: Gate | None,
    levels: Levels,
    together: Sequence[Gate],
    measured: Sequence[tuple[Measured, Measurement | None]],
    roles: Roles,
) -> GateStory:
    """The story of one gate in one step.

    Args:
        view: its last word. gate: as compiled, or None.
        levels: from the plan.
        together: the gates that were judged with it.
        measured: the step's polls, each with what was counted, if that is known.
        roles: who is who.
    """
    levels = Levels(gate.metric == "latency", gate.quantile, gate.alpha, gate.beta) if gate is not None else levels
    began = measured[0][0].start if measured else None
    polls = []
    for event, measurement in measured:
        verdict = next((each for each in event.judgement.verdicts if each.gate == view.name), None)
        if verdict is not None and began is not None:
            seconds = (event.end - began).total_seconds()
            polls.append(_poll(event, measurement, verdict, gate, levels, seconds, roles))
    group = [each for each in together if gate is not None and each.on_fail == gate.on_fail]
    return GateStory(
        view=view,
        gate=gate,
        latency=levels.latency,
        quantile=levels.quantile,
        alpha=levels.alpha,
        beta=levels.beta,
        terms=sum(len(each.terms) for each in group),
        polls=tuple(polls),
    )


def thinned(items: Sequence[Item], when: Callable[[Item], float], most: int) -> list[list[Item]]:
    """At most `most` groups of neighbours: one an item where they are few, else one for each equal part of the time.

    Nothing is dropped here: whoever draws shows how low and how high each group went. Parts without an item are
    left out.
    """
    if len(items) <= most:
        return [[item] for item in items]
    first, last = when(items[0]), when(items[-1])
    width = (last - first) / most or 1.0
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(min(most - 1, int((when(item) - first) / width)), []).append(item)
    return [groups[number] for number in sorted(groups)]


def _poll(
    event: Measured,
    measurement: Measurement | None,
    verdict: Verdict,
    gate: Gate | None,
    levels: Levels,
    seconds: float,
    roles: Roles,
) -> Poll:
    usable = measurement is not None and not event.lost and measurement.end > measurement.start
    candidate = stable = None
    if usable and measurement is not None:
        if gate is not None and gate.metric not in ("error_rate", "latency"):
            candidate, stable = _read(measurement, gate, roles)
        elif gate is not None and gate.guards_stable:
            candidate = _seen(measurement.leg(roles.stable or "", "live"), gate, levels)
        else:
            candidate = _seen(_candidate(measurement, roles.candidate or "", gate), gate, levels)
            if roles.stable and verdict.stable is not None:
                stable = _seen(measurement.leg(roles.stable, "live"), gate, levels)
    return Poll(
        at=event.end,
        seconds=seconds,
        candidate=candidate,
        stable=stable,
        fail=verdict.log_evidence_fail / -math.log(levels.alpha),
        passed=verdict.log_evidence_pass / -math.log(levels.beta),
        tolerated=_tolerated(verdict, gate),
        counted=verdict.candidate.requests > 0,
        lost=event.lost,
    )


def _candidate(measurement: Measurement, name: str, gate: Gate | None) -> Leg:
    """The leg that the gate judges; a candidate has live traffic or a mirror, never both."""
    if gate is not None and gate.source != "auto":
        return measurement.leg(name, gate.source)
    sources: tuple[Source, ...] = ("live", "mirror")
    legs = [measurement.leg(name, source) for source in sources]
    return max(legs, key=lambda leg: leg.requests)


def _seen(leg: Leg, gate: Gate | None, levels: Levels) -> Seen:
    if levels.latency:
        latencies = leg.latency
        value = quantile_bound(latencies, levels.quantile) if latencies is not None else None
        return Seen(latencies.count if latencies is not None else 0, None, value)
    codes = gate.codes if gate is not None else DEFAULT_CODES
    bad = sum(count for status, count in leg.classes.items() if is_error(status, codes))
    return Seen(leg.requests, bad, bad / leg.requests if leg.requests else None)


def _read(measurement: Measurement, gate: Gate, roles: Roles) -> tuple[Seen | None, Seen | None]:
    """What a gate of pairs or samples saw in one poll, as it counted it."""
    sides = Sides(roles.candidate or "", "mirror" if gate.mirrors else "live", roles.stable)
    own, other = Reading(measurement, sides, Histogram()).seen(gate)
    shown = [Seen(total, bad, bad / total) if total else None for total, bad in (own, other)]
    return shown[0] or Seen(0, 0, None), shown[1]


def _tolerated(verdict: Verdict, gate: Gate | None) -> float | None:
    stable = verdict.stable
    if gate is None or not gate.relative or gate.valued or stable is None or not stable.requests:
        return None
    if gate.metric == "latency":
        return gate.ratio * stable.quantile_us if stable.quantile_us is not None else None
    return gate.ratio * stable.rate + gate.increase


def by_number(measurements: Sequence[tuple[int, int, Measurement]]) -> Mapping[int, Measurement]:
    """Number -> measurement, from the store's (number, stage, measurement)."""
    return {number: measurement for number, _, measurement in measurements}
