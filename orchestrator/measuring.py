"""Feeding the gates: from a cursor to a judgement, each request once.

What `driver` does with a provider that can count: set the first cursor when a stage's target is verified, then measure,
fold and judge. What comes back is stored in one transaction with the event, so a crash repeats a measurement from the
old cursor or goes on from the new one, and never feeds twice.
"""

from dataclasses import dataclass

from orchestrator.gates.judge import Judgement, judge
from orchestrator.gates.state import GateState
from orchestrator.rollout import Rollout
from orchestrator.stages import Stage, gated_count
from orchestrator.store.base import Evidence
from providers.base import Measures, Provider
from providers.errors import Unsupported
from providers.measurement import Cursor, Measurement, MeasureQuery

A_GAP = 3.0
"""A window longer than this many intervals spans a time when nobody measured."""


@dataclass(frozen=True, slots=True)
class Fed:
    """One measurement, and what it made of the evidence."""

    number: int
    measurement: Measurement
    evidence: Evidence
    judgement: Judgement


async def open_stage(
    provider: Provider,
    rollout: Rollout,
    stages: tuple[Stage, ...],
    stage: Stage,
    evidence: Evidence | None,
    *,
    anew: bool,
) -> Evidence:
    """The evidence at the start of a stage: a fresh cursor, and the gates entered. `anew`: what was learnt before is
    put aside.

    Raises ProviderError when the endpoint cannot be read.
    """
    cursor = (await _measure(provider, rollout, None)).cursor
    if stage.gated is None:
        gates = evidence.gates if evidence is not None else _no_evidence(stages)
        return Evidence(rollout.measurements, cursor, gates)
    if evidence is None or anew or evidence.gates.stages != gated_count(stages):
        gates = _no_evidence(stages)
    else:
        gates = evidence.gates
    if gates.stage == stage.gated:
        return Evidence(rollout.measurements, cursor, gates.restart_pass())
    roles = rollout.roles
    target = stage.work
    served = getattr(target, "traffic", {})
    stable = roles.stable if roles.stable and served.get(roles.stable) else None
    entered = gates.enter(
        stage.gated, stage.gates, roles.candidate or "", stable, "mirror" if stage.mirrored else "live"
    )
    return Evidence(rollout.measurements, cursor, entered)


async def feed(provider: Provider, rollout: Rollout, stage: Stage, evidence: Evidence) -> Fed:
    """Measure since the cursor, fold and judge. Raises ProviderError when the endpoint cannot be read."""
    measurement = await _measure(provider, rollout, evidence.cursor)
    seconds = (measurement.end - measurement.start).total_seconds()
    gates = evidence.gates.fold(measurement, gap=seconds > A_GAP * stage.interval)
    number = rollout.measurements + 1
    return Fed(number, measurement, Evidence(number, measurement.cursor, gates), judge(gates))


def _no_evidence(stages: tuple[Stage, ...]) -> GateState:
    gates = {gate.name: gate for stage in stages for gate in stage.gates}
    return GateState.begin(tuple(gates.values()), max(1, gated_count(stages)))


async def _measure(provider: Provider, rollout: Rollout, cursor: Cursor | None) -> Measurement:
    if not isinstance(provider, Measures):
        raise Unsupported(f"provider {provider.name} cannot measure requests, so no gate can be judged")
    roles = rollout.roles
    deployments = tuple(name for name in (roles.candidate, roles.stable) if name)
    return await provider.measure(MeasureQuery(rollout.endpoint_name, deployments), cursor)
