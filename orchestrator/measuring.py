"""Feeding the gates: from a cursor to a judgement, each request once.

What `driver` does with a provider that can count: set the first cursor when a stage's target is verified, then measure,
fold and judge. What comes back is stored in one transaction with the event, so a crash repeats a measurement from the
old cursor or goes on from the new one, and never feeds twice. Where the plan has a budget, the candidate's bad live
responses are counted besides, also between two stages and where no gate looks.
"""

from dataclasses import dataclass

from orchestrator.gates.judge import Judgement, judge
from orchestrator.gates.spec import is_error
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
    return Evidence(rollout.measurements, cursor, _no_evidence(stages))


async def open_stage(
    provider: Provider,
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
    measured = await _measure(provider, rollout, since)
    cursor, bad = measured.cursor, _bad(measured, rollout, stage)
    if stage.gated is None:
        gates = evidence.gates if evidence is not None else _no_evidence(stages)
        return Evidence(rollout.measurements, cursor, gates), bad
    if evidence is None or anew or evidence.gates.stages != gated_count(stages):
        gates = _no_evidence(stages)
    else:
        gates = evidence.gates
    if gates.stage == stage.gated:
        return Evidence(rollout.measurements, cursor, gates.restart_pass()), bad
    roles = rollout.roles
    target = stage.work
    served = getattr(target, "traffic", {})
    stable = roles.stable if roles.stable and served.get(roles.stable) else None
    entered = gates.enter(
        stage.gated, stage.gates, roles.candidate or "", stable, "mirror" if stage.mirrored else "live"
    )
    return Evidence(rollout.measurements, cursor, entered), bad


async def feed(provider: Provider, rollout: Rollout, stage: Stage, evidence: Evidence) -> Fed:
    """Measure since the cursor, fold and judge. Raises ProviderError when the endpoint cannot be read."""
    measurement = await _measure(provider, rollout, evidence.cursor)
    gates = evidence.gates
    if stage.gates or stage.guards:
        seconds = (measurement.end - measurement.start).total_seconds()
        gates = gates.fold(measurement, gap=seconds > A_GAP * stage.interval)
        judgement = judge(gates)
    else:
        judgement = judge(GateState.begin((), 1))
    number = rollout.measurements + 1
    after = Evidence(number, measurement.cursor, gates)
    return Fed(number, measurement, after, judgement, _bad(measurement, rollout, stage))


def _bad(measurement: Measurement, rollout: Rollout, stage: Stage) -> int:
    if stage.budget is None or measurement.lost or not rollout.roles.candidate:
        return 0
    classes = measurement.leg(rollout.roles.candidate, "live").classes
    return sum(count for status, count in classes.items() if is_error(status))


def _no_evidence(stages: tuple[Stage, ...]) -> GateState:
    gates = {gate.name: gate for stage in stages for gate in stage.gates}
    return GateState.begin(tuple(gates.values()), max(1, gated_count(stages)))


async def _measure(provider: Provider, rollout: Rollout, cursor: Cursor | None) -> Measurement:
    if not isinstance(provider, Measures):
        raise Unsupported(f"provider {provider.name} cannot measure requests, so no gate can be judged")
    roles = rollout.roles
    deployments = tuple(name for name in (roles.candidate, roles.stable) if name)
    return await provider.measure(MeasureQuery(rollout.endpoint_name, deployments), cursor)
