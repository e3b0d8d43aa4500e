"""A recording from an earlier rollout: the measurements that its store keeps, and what its journal says of them.

The journal knows what the measurements do not: in which step each was made, when that step's clocks began, and how it
really ended. Polls that could not be read, and the time that humans gave or took, are in no measurement: they are told
as notes, because a replay goes on as if they had not been.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from orchestrator.app import App
from orchestrator.backtest.recording import Happened, Recording, Window, renamed
from orchestrator.errors import Refused
from orchestrator.events import (
    Event,
    Finished,
    Measured,
    MeasureFailed,
    Paused,
    Reached,
    Resumed,
    RollbackBegan,
    StageEntered,
)
from orchestrator.report.gather import compiled_again
from orchestrator.rollout import Rollout
from orchestrator.stages import Stage
from orchestrator.standing import Roles
from plans.units import show_duration
from providers.measurement import Measurement

Kept = Sequence[tuple[int, int, Measurement]]
"""(number, stage, measurement), as the store has them."""


async def kept(app: App, rollout: Rollout, roles: Roles, stages: Sequence[Stage]) -> Recording:
    """What was measured of a rollout.

    Args:
        rollout: the earlier one. roles, stages: of the plan that is replayed; its names are used.

    Raises Refused when nothing was measured, or the rollout has no candidate; StoreError.
    """
    candidate = rollout.roles.candidate
    measurements = [each for each in await app.store.measurements(rollout.id) if each[2].end > each[2].start]
    if candidate is None or not measurements:
        raise Refused(
            f"nothing was measured in {rollout.id}, so there is nothing to replay: it had no gated step, or ended "
            "before one; `rollout list` shows others"
        )
    events = await app.store.events(rollout.id)
    were, _ = await compiled_again(app, rollout, await app.store.bundle(rollout.bundle))
    return recording_of(rollout, events, measurements, were, roles, stages)


def recording_of(
    rollout: Rollout,
    events: Sequence[Event],
    measurements: Kept,
    were: Sequence[Stage],
    roles: Roles,
    stages: Sequence[Stage],
) -> Recording:
    """The same, from what was read.

    Args:
        measurements: not empty. were: the stages that it was carried out with; none where they are not known.
        roles, stages: of the plan that is replayed.
    """
    there = rollout.roles
    names = {there.candidate or "": roles.candidate or ""}
    if there.stable and roles.stable:
        names[there.stable] = roles.stable
    traffic = _traffic(measurements, were, there.candidate or "")
    reached = dict(_reached(events, were))
    windows = tuple(
        Window(
            number=number,
            measurement=replace(measurement, legs=renamed(measurement, names)),
            mirrored=traffic[stage].mirrored,
            live=traffic[stage].live,
            between=traffic[stage].between,
            reached=reached.get(number),
            step=rollout.stages[stage].name,
        )
        for number, stage, measurement in measurements
    )
    return Recording(
        source=rollout.id,
        windows=windows,
        candidate=there.candidate or "",
        stable=there.stable,
        unlike=_unlike(were, stages),
        notes=tuple(_notes(rollout, events, roles)),
        happened=_happened(rollout, events),
    )


@dataclass(frozen=True, slots=True)
class _Traffic:
    mirrored: bool
    live: bool
    between: bool


def _traffic(measurements: Kept, were: Sequence[Stage], candidate: str) -> dict[int, _Traffic]:
    """Stage -> what the candidate got in it: as it was planned, else as it was counted."""
    found = {}
    for index in {stage for _, stage, _ in measurements}:
        if index < len(were):
            stage = were[index]
            mirrored = bool(stage.mirrored)
            found[index] = _Traffic(mirrored, bool(stage.exposure) and not mirrored, not stage.gates)
        else:
            counted = [measurement for _, stage, measurement in measurements if stage == index]
            live = any(measurement.leg(candidate, "live").requests for measurement in counted)
            mirrored = any(measurement.leg(candidate, "mirror").requests for measurement in counted) and not live
            found[index] = _Traffic(mirrored, live, False)
    return found


def _reached(events: Iterable[Event], were: Sequence[Stage]) -> Iterable[tuple[int, datetime]]:
    """Number of a stage's first measurement -> when the stage's clocks began."""
    at, stage = None, 0
    for event in events:
        match event.body:
            case StageEntered(stage=stage):
                at = None
            case Reached(hold_until=until):
                # The clocks began a moment before the event was written.
                held = were[stage].hold if stage < len(were) else 0.0
                at = until - timedelta(seconds=held) if until is not None and held else event.at
            case Measured(measurement=number) if at is not None:
                yield number, at
                at = None


def _happened(rollout: Rollout, events: Sequence[Event]) -> Happened:
    number = 0
    for event in events:
        match event.body:
            case Measured(measurement=measurement):
                number = measurement
            case Paused(reason=reason) | RollbackBegan(reason=reason) | Finished(reason=reason):
                return Happened(rollout.id, rollout.phase, reason, event.at, number)
    return Happened(rollout.id, rollout.phase, rollout.reason or "", None, number)


def _unlike(were: Sequence[Stage], stages: Sequence[Stage]) -> Mapping[str, str]:
    """Gates of the plan whose namesakes asked a source of their own for something else."""
    asked = {gate.name: (gate.comparison, gate.external) for stage in were for gate in stage.gates}
    found = {}
    for gate in (gate for stage in stages for gate in stage.gates):
        wanted = (gate.comparison, gate.external)
        if gate.metric in ("prediction", "external") and asked.get(gate.name, wanted) != wanted:
            found[gate.name] = "what was recorded for it asked for something else"
    return found


def _notes(rollout: Rollout, events: Sequence[Event], roles: Roles) -> Iterable[str]:
    for role in ("candidate", "stable"):
        theirs, ours = getattr(rollout.roles, role), getattr(roles, role)
        if theirs and ours and theirs != ours:
            yield f"the recording's {theirs} stands for {ours}, the plan's {role}"
    failed = sum(1 for event in events if isinstance(event.body, MeasureFailed))
    if failed:
        polls = f"{failed} polls" if failed > 1 else "1 poll"
        yield f"{polls} of the recording could not be read, and the replay goes on as if they had not been made"
    paused = [event.at for event in events if isinstance(event.body, Paused)]
    resumed = [event.at for event in events if isinstance(event.body, Resumed)]
    if paused and resumed:
        seconds = sum((until - at).total_seconds() for at, until in zip(paused, resumed, strict=False))
        yield (
            f"the recorded rollout was paused for {show_duration(max(0.0, seconds))} in all; the replay judges what "
            "was measured then like the rest"
        )
