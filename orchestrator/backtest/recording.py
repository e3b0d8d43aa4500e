"""What was recorded, in one form wherever it comes from: windows of time, each with what was counted in it.

A window says besides where the candidate's requests came from, because copies prove nothing about live traffic: a
shadow step is judged by mirrored windows only, and every other step by live ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from providers.measurement import Leg, Measurement


@dataclass(frozen=True, slots=True)
class Window:
    """One measurement of a recording.

    Attributes:
        number: of the measurement, from 1; of the window, where nobody counted them.
        measurement: what was counted; deployments have the names of the plan.
        mirrored, live: whether the candidate got copies then, and whether it answered clients.
        between: it was measured between two gated steps, where gates only guarded.
        reached: when the step whose first measurement it is was at its target, where that is known.
        step: that it was measured in, or "".
    """

    number: int
    measurement: Measurement
    mirrored: bool
    live: bool
    between: bool = False
    reached: datetime | None = None
    step: str = ""


@dataclass(frozen=True, slots=True)
class Happened:
    """How the recorded rollout really went.

    Attributes:
        rollout: its id. phase: as it stands. reason: why it stopped, or stands so.
        at: when it stopped for the first time (a rollback, a pause or its end), None where it goes on.
        measurement: the last one before that.
    """

    rollout: str
    phase: str
    reason: str
    at: datetime | None
    measurement: int


@dataclass(frozen=True, slots=True)
class Recording:
    """All of it.

    Attributes:
        source: what people call it: a rollout's id, or a file's name.
        windows: in the order of time, without overlaps.
        candidate, stable: what they are called there.
        classes: whether the status of each answer is known, not only whether it was an error.
        unlike: gate -> why what was recorded for a gate of that name is about something else, as a clause.
        notes: what its reader should know, one thing each.
        happened: of an earlier rollout.
    """

    source: str
    windows: tuple[Window, ...]
    candidate: str
    stable: str | None
    classes: bool = True
    unlike: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    happened: Happened | None = None

    @property
    def usual(self) -> float:
        """Seconds of a usual window; 0 without any."""
        return _typical(self.windows)

    @property
    def usual_by_step(self) -> Mapping[str, float]:
        """The same of each recorded step."""
        steps: dict[str, list[Window]] = {}
        for window in self.windows:
            steps.setdefault(window.step, []).append(window)
        return {step: _typical(windows) for step, windows in steps.items()}


def renamed(measurement: Measurement, names: Mapping[str, str]) -> tuple[Leg, ...]:
    """The legs of the deployments in `names` (theirs -> ours), under our names; others are left out."""
    return tuple(
        Leg(names[leg.deployment], leg.source, leg.requests, leg.classes, leg.latency)
        for leg in measurement.legs
        if leg.deployment in names
    )


def _typical(windows: Sequence[Window]) -> float:
    lengths = [(each.measurement.end - each.measurement.start).total_seconds() for each in windows]
    return median(lengths) if lengths else 0.0
