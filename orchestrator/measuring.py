"""Feeding the gates: from a cursor to a judgement, each request once.

What `driver` does with a provider that can count: set the first cursor when a stage's target is verified, then measure,
fold and judge. What comes back is stored in one transaction with the event, so a crash repeats a measurement from the
old cursor or goes on from the new one, and never feeds twice. Where the plan has a budget, the candidate's bad live
responses are counted besides, also between two stages and where no gate looks. What metrics from elsewhere say of the
same window comes with it (`sources`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.gates.judge import Judgement, judge
from orchestrator.gates.spec import is_error
from orchestrator.gates.state import GateState
from orchestrator.rollout import Rollout
from orchestrator.sources import Metrics, with_samples
from orchestrator.stages import Stage, gated_count
from orchestrator.standing import Roles
from orchestrator.store.base import Evidence
from providers.base import Measures, Provider
from providers.errors import Unsupported
from providers.measurement import Cursor, Measurement, MeasureQuery

A_GAP = 3.0
"""A window longer than this many intervals spans a time when nobody measured."""


@dataclass(frozen=True, slots=True)
class Fed:
    """One measurement, and what it made of the evidence. `bad`: bad live responses by the candidate in it."""

    number: int
    measurement: Measurement
    evidence: Evidence
    judgement: Judgement
    bad: int


async def before_exposure(provider: Provider, rollout: Rollout, stages: tuple[Stage, ...]) -> Evidence:
    """The evidence before the candidate gets any traffic: a cursor, so that its first bad response is counted.

    Raises ProviderError when the endpoint cannot be read.
    """
    cursor = (await _measure(provider, rollout, None)).cursor
    return Evidence(rollout.measurements, cursor, no_evidence(stages))


async def open_stage(
    provider: Provider,
    metrics: Metrics,
    rollout: Rollout,
    stages: tuple[Stage, ...],
    stage: Stage,
    evidence: Evidence | None,
    *,
    anew: bool,
) -> tuple[Evidence, int]:
    """The evidence at the start of a stage: a fresh cursor, and the gates entered; and the bad live responses by the
    candidate since the last cursor, where there is a budget. `anew`: what was learnt before is put aside.

    Raises ProviderError when the endpoint cannot be read.
    """
    since = evidence.cursor if evidence is not None and stage.budget is not None else None
    measured = await _measure(provider, rollout, since, stage)
    gates = evidence.gates if evidence is not None else no_evidence(stages)
    if stage.gated is not None:
        if anew or gates.stages != gated_count(stages):
            # What stable was before the stage is a fact, not evidence about anybody.
            gates = replace(no_evidence(stages), before=gates.before)
        gates = entered(gates, rollout.roles, stage, checked=not rollout.advisory)
        # What a metric from elsewhere counted before the stage's target was verified is not this stage's evidence.
        measured = await with_samples(metrics, measured, stage, gates, rollout.endpoint_name, {})
    return Evidence(rollout.measurements, measured.cursor, gates), _bad(measured, rollout, stage)


def entered(gates: GateState, roles: Roles, stage: Stage, *, checked: bool = False) -> GateState:
    """The evidence as a gated stage begins, or begins again. `checked`: the split is what the stage asks for, because
    whoever measures has made it so.
    """
    if stage.gated is None:
        raise ValueError(f"{stage.name} has no gates")
    if gates.stage == stage.gated:
        return gates.restart_pass()
    served = getattr(stage.work, "traffic", {})
    stable = roles.stable if roles.stable and served.get(roles.stable) else None
    source: Literal["mirror", "live"] = "mirror" if stage.mirrored else "live"
    named = (roles.candidate or "", stable, source)
    return gates.enter(stage.gated, stage.gates, *named, paired=stage.paired, asked=stage.asked if checked else None)


async def feed(provider: Provider, metrics: Metrics, rollout: Rollout, stage: Stage, evidence: Evidence) -> Fed:
    """Measure since the cursor, fold and judge. Raises ProviderError when the endpoint cannot be read."""
    measurement = await _measure(provider, rollout, evidence.cursor, stage)
    sources = evidence.cursor.sources
    measurement = await with_samples(metrics, measurement, stage, evidence.gates, rollout.endpoint_name, sources)
    seconds = (measurement.end - measurement.start).total_seconds()
    gates, judgement = judged(evidence.gates, stage, [measurement], gap=seconds > A_GAP * stage.interval)
    if stage.remembers and rollout.roles.stable:
        gates = gates.remember(measurement, rollout.roles.stable)
    number = rollout.measurements + 1
    after = Evidence(number, measurement.cursor, gates)
    return Fed(number, measurement, after, judgement, _bad(measurement, rollout, stage))


def judged(
    gates: GateState, stage: Stage, measurements: Iterable[Measurement], *, gap: bool
) -> tuple[GateState, Judgement]:
    """The evidence with these measurements, and what it allows then. `gap`: they span a time when nobody measured."""
    if not (stage.gates or stage.guards):
        return gates, judge(GateState.begin((), 1))
    if not stage.gates:
        # Guards watch a stage that asks for another split than theirs did.
        gates = gates.unchecked()
    for measurement in measurements:
        gates = gates.fold(measurement, gap=gap)
    return gates, judge(gates)


def bad_responses(measurement: Measurement, candidate: str | None) -> int:
    """Bad live responses by the candidate."""
    if measurement.lost or not candidate:
        return 0
    classes = measurement.leg(candidate, "live").classes
    return sum(count for status, count in classes.items() if is_error(status))


def no_evidence(stages: Sequence[Stage]) -> GateState:
    """The evidence before the first stage."""
    gates = {gate.name: gate for stage in stages for gate in stage.gates}
    return GateState.begin(tuple(gates.values()), max(1, gated_count(stages)))


def _bad(measurement: Measurement, rollout: Rollout, stage: Stage) -> int:
    return bad_responses(measurement, rollout.roles.candidate) if stage.budget is not None else 0


async def _measure(
    provider: Provider, rollout: Rollout, cursor: Cursor | None, stage: Stage | None = None
) -> Measurement:
    if not isinstance(provider, Measures):
        raise Unsupported(f"provider {provider.name} cannot measure requests, so no gate can be judged")
    roles = rollout.roles
    deployments = tuple(name for name in (roles.candidate, roles.stable) if name)
    gates = (*stage.gates, *stage.guards) if stage is not None else ()
    comparisons = {gate.name: gate.comparison for gate in gates if gate.comparison is not None}
    return await provider.measure(MeasureQuery(rollout.endpoint_name, deployments, comparisons), cursor)
