"""One picture of a rollout for every face: the live view, plain lines, `--output json`, and whatever comes later.

Built purely from the stored rollout, its journal and its measurements, so that two faces cannot tell different stories,
and a face in another process tells the same as the one that drives. Inside, shares are tenths of a percent; here, where
people read, they are percent.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any, Literal

from orchestrator.events import Driven, Event, Measured, Released, StageEntered
from orchestrator.gates.histogram import quantile_bound
from orchestrator.gates.judge import Judgement, Verdict, VerdictName
from orchestrator.gates.spec import is_error
from orchestrator.lifecycle import Phase
from orchestrator.rollout import Rollout, StageState
from orchestrator.standing import Waiting
from providers.measurement import Leg, Measurement

POINTS = 120
"""Polls that a view keeps for its curves."""


@dataclass(frozen=True, slots=True)
class FiguresView:
    """One side of a gate in this stage: requests, bad ones, bad / requests (0..1); of a latency gate also its quantile.

    The quantile is in microseconds.
    """

    requests: int | float
    bad: int | float
    rate: float
    quantile_us: int | None = None


@dataclass(frozen=True, slots=True)
class GateView:
    """What a gate said last. Evidence is a natural logarithm; None where it is not finite."""

    name: str
    verdict: VerdictName
    reason: str
    candidate: FiguresView
    stable: FiguresView | None
    log_evidence_fail: float | None
    log_evidence_pass: float | None
    unproven: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepView:
    """A compiled stage, counted from 1, with what its gates said last."""

    index: int
    name: str
    state: StageState
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str | None = None
    gates: tuple[GateView, ...] = ()


@dataclass(frozen=True, slots=True)
class CurrentStep:
    """Where the rollout is, or where it stopped.

    Attributes:
        index, name, state: as in StepView.
        started_at, reached_at: when it began, and when its target was verified.
        hold_until, deadline: its clocks while they run.
        hold_left, deadline_left: seconds that remain, while a pause has stopped the clocks.
    """

    index: int
    name: str
    state: StageState
    started_at: datetime | None = None
    reached_at: datetime | None = None
    hold_until: datetime | None = None
    deadline: datetime | None = None
    hold_left: float | None = None
    deadline_left: float | None = None


@dataclass(frozen=True, slots=True)
class DriverView:
    """The process that drives."""

    worker: str
    host: str | None
    pid: int | None
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Point:
    """What one poll saw of one side.

    Attributes:
        at: end of the poll. step: counted from 1.
        side: candidate or stable.
        requests, bad: counts. p95_us: bucket bound, None without an answered request.
    """

    at: datetime
    step: int
    side: Literal["candidate", "stable"]
    requests: int
    bad: int
    p95_us: int | None


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout as every face shows it.

    Attributes:
        id, name, bundle_sha256, phase, waiting, reason: as in Rollout.
        step, steps: where it is, and all stages.
        traffic, mirror: deployment -> percent, only non-zero ones, as the rollout last made them.
        gates: of the current stage; of the last one that had any, once the rollout has ended.
        epoch, started_at, updated_at: as in Rollout.
        endpoint, provider, candidate, stable: who and where.
        driver: who drives now, or None.
        paused, paused_until: cause of a pause, and when it rolls back by itself.
        rollback: cause of a rollback. parked: the candidate is out of traffic while it is paused.
        no_return: stable is being, or was, deleted. logs: where the candidate's logs were kept.
        approval: the current step waits for a human's word.
        set_aside: gates of the current step that a human set aside.
        bad_responses: live ones by the candidate so far, counted where the plan has a budget.
        advisory: it only measures and judges what another tool does.
        at: when this picture was taken. points: the last polls, for curves; not part of the JSON.
    """

    id: str
    name: str
    bundle_sha256: str
    phase: Phase
    waiting: Waiting | None
    reason: str | None
    step: CurrentStep
    steps: tuple[StepView, ...]
    traffic: Mapping[str, float]
    mirror: Mapping[str, float]
    gates: tuple[GateView, ...]
    epoch: int
    started_at: datetime
    updated_at: datetime
    endpoint: str
    provider: str
    candidate: str | None
    stable: str | None
    driver: DriverView | None
    paused: str | None
    paused_until: datetime | None
    rollback: str | None
    parked: bool
    no_return: bool
    logs: str | None
    approval: bool
    set_aside: tuple[str, ...]
    bad_responses: int
    advisory: bool
    at: datetime
    points: tuple[Point, ...] = ()

    @property
    def active(self) -> bool:
        """Whether it still owns its endpoint."""
        return self.phase in ("pending", "running", "paused", "rolling_back")

    @property
    def seconds(self) -> float:
        """How long it has run: until now, or until its end."""
        return max(0.0, ((self.at if self.active else self.updated_at) - self.started_at).total_seconds())


def view(
    rollout: Rollout,
    *,
    events: Sequence[Event] = (),
    measurements: Sequence[tuple[int, int, Measurement]] = (),
    now: datetime,
) -> RolloutView:
    """The picture of a rollout now.

    Args:
        rollout: as stored.
        events: its journal; without it there is no driver, and no gates of stages that have ended.
        measurements: (seq, stage index, measurement), for the curves.
        now: aware UTC.
    """
    said = _said(events)
    last = min(rollout.stage, len(rollout.stages) - 1)
    if rollout.progress.judgement is not None:
        said[last] = rollout.progress.judgement
    steps = tuple(
        StepView(
            index + 1,
            record.name,
            record.state,
            record.started_at,
            record.ended_at,
            record.reason,
            gates=_gates(said.get(index)),
        )
        for index, record in enumerate(rollout.stages)
    )
    shown = last
    if not rollout.active and shown not in said:
        shown = max(said, default=last)
    progress, waiting = rollout.progress, rollout.waiting
    current = steps[last] if steps else StepView(0, "nothing", "waiting")
    return RolloutView(
        id=rollout.id,
        name=rollout.name,
        bundle_sha256=rollout.bundle,
        phase=rollout.phase,
        waiting=waiting,
        reason=rollout.reason,
        step=CurrentStep(
            current.index,
            current.name,
            current.state,
            current.started_at,
            progress.reached_at,
            progress.hold_until,
            progress.deadline,
            progress.hold_left,
            progress.deadline_left,
        ),
        steps=steps,
        traffic=percents(rollout.expected.traffic),
        mirror=percents(rollout.expected.mirror),
        gates=_gates(said.get(shown)),
        epoch=rollout.epoch,
        started_at=rollout.started_at,
        updated_at=rollout.updated_at,
        endpoint=rollout.endpoint_name,
        provider=rollout.provider,
        candidate=rollout.roles.candidate,
        stable=rollout.roles.stable,
        driver=_driver(rollout, events),
        paused=rollout.paused,
        paused_until=rollout.paused_until,
        rollback=rollout.rollback,
        parked=rollout.parked,
        no_return=rollout.no_return,
        logs=rollout.logs or None,
        approval=waiting is not None and waiting.kind == "approval",
        set_aside=progress.despite,
        bad_responses=rollout.spent,
        advisory=rollout.advisory,
        at=now,
        points=_points(rollout, measurements),
    )


def percents(shares: Mapping[str, int]) -> dict[str, float]:
    """Tenths of a percent -> percent, whole numbers as such, only non-zero ones."""
    return {name: part / 10 if part % 10 else part // 10 for name, part in sorted(shares.items()) if part}


def as_json(value: Any) -> Any:
    """A view, or any value made of dataclasses, as JSON's own types: times in ISO 8601, null for what is no number.

    What is not known is null, except `quantile_us`, which only latency gates have; curves are left out.
    """
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value) if field.name != "points"}
        return {name: as_json(given) for name, given in named.items() if not (name == "quantile_us" and given is None)}
    if isinstance(value, Mapping):
        return {str(name): as_json(given) for name, given in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(given) for given in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _said(events: Sequence[Event]) -> dict[int, Judgement]:
    """Stage index -> the last judgement in it."""
    stage, said = 0, {}
    for event in events:
        match event.body:
            case StageEntered(stage=entered):
                stage = entered
            case Measured(judgement=judgement):
                said[stage] = judgement
    return said


def _gates(judgement: Judgement | None) -> tuple[GateView, ...]:
    return tuple(_gate(verdict) for verdict in judgement.verdicts) if judgement is not None else ()


def _gate(verdict: Verdict) -> GateView:
    def figures(side: Any) -> FiguresView:
        return FiguresView(side.requests, side.bad, side.rate, side.quantile_us)

    def finite(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return GateView(
        name=verdict.gate,
        verdict=verdict.verdict,
        reason=verdict.sentence,
        candidate=figures(verdict.candidate),
        stable=figures(verdict.stable) if verdict.stable is not None else None,
        log_evidence_fail=finite(verdict.log_evidence_fail),
        log_evidence_pass=finite(verdict.log_evidence_pass),
        unproven=verdict.unproven,
        notes=verdict.notes,
    )


def _driver(rollout: Rollout, events: Sequence[Event]) -> DriverView | None:
    if rollout.worker is None:
        return None
    for event in reversed(events):
        match event.body:
            case Driven(worker=worker, host=host, pid=pid) if worker == rollout.worker:
                return DriverView(worker, host, pid, event.at)
            case Released():
                break
    return DriverView(rollout.worker, None, None, None)


def _points(rollout: Rollout, measurements: Sequence[tuple[int, int, Measurement]]) -> tuple[Point, ...]:
    points = []
    for _, stage, measurement in measurements[-POINTS:]:
        if measurement.lost or measurement.end <= measurement.start:
            continue
        for side, name in (("stable", rollout.roles.stable), ("candidate", rollout.roles.candidate)):
            # A candidate has live traffic or a mirror, never both.
            legs = [leg for leg in measurement.legs if leg.deployment == name and leg.source != "direct"]
            leg = next((leg for leg in legs if leg.requests), None)
            if leg is not None:
                points.append(_point(measurement, stage, "stable" if side == "stable" else "candidate", leg))
    return tuple(points)


def _point(measurement: Measurement, stage: int, side: Literal["candidate", "stable"], leg: Leg) -> Point:
    # A gate's own `codes` decide its verdict; a curve shows what is an error unless told otherwise.
    bad = sum(count for status, count in leg.classes.items() if is_error(status))
    p95 = quantile_bound(leg.latency, 0.95) if leg.latency is not None else None
    return Point(measurement.end, stage + 1, side, leg.requests, bad, p95)
