"""The stages of a plan as a simulation sees them: stretches of time in which requests are measured.

When a stage measures, when its hold is over and when it is given up is `holding`'s business; the same clocks are laid
out here beforehand, because in a simulation nothing is ever late. What takes no time here, and what is left out, is
told by `left_out`, never silently.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.gates.spec import Gate
from orchestrator.stages import Stage, Target, gated_count
from plans.steps import WaitStep

_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stage of a plan that lasts, and in which requests count.

    Attributes:
        stage: as compiled.
        exposure, mirrored, stable: the candidate's share of live traffic and of the mirror, stable's of live traffic;
            0..1.
        lasts: seconds after which it is over without gates; None for a gated one.
    """

    stage: Stage
    exposure: float
    mirrored: float
    stable: float
    lasts: float | None

    @property
    def source(self) -> str:
        """Where the candidate's requests come from where a gate says auto."""
        return "mirror" if self.mirrored else "live"

    @property
    def gates(self) -> tuple[Gate, ...]:
        """That judge it, or guard it."""
        return self.stage.gates or self.stage.guards

    @property
    def idle(self) -> bool:
        """Only time passes in it: the candidate gets no request, and nobody measures."""
        return not (self.gates or self.exposure or self.mirrored)

    def polls(self) -> Iterator[tuple[float, float]]:
        """(begin, end) of each poll, seconds since its clocks began, as `holding.due` asks for them."""
        held, last = self.stage.hold, 0.0
        end = self.lasts if self.lasts is not None else self.stage.deadline
        while True:
            at = last + self.stage.interval
            if self.stage.gates and last < held < at:
                # The end of the hold is looked at with the evidence of the whole hold.
                at = held
            if end is not None and at > end + _LEAST:
                if self.lasts is not None and last < end - _LEAST:
                    yield last, end
                return
            yield last, at
            last = at


def course(stages: Sequence[Stage], stable: str | None) -> tuple[Stretch, ...]:
    """The stretches of a plan, in order; stages that take no time in a simulation are left out."""
    found = []
    for stage in stages:
        target = stage.work if isinstance(stage.work, Target) else stage.standing
        split = target.traffic if target is not None else {}
        lasts = None if stage.gates else _lasts(stage)
        if not stage.gates and not lasts:
            continue
        served = split.get(stable or "", 0)
        found.append(Stretch(stage, stage.exposure / 1000, stage.mirrored / 1000, served / 1000, lasts))
    return tuple(found)


def gates_of(stages: Sequence[Stage]) -> tuple[Gate, ...]:
    """Every gate of the plan, each once."""
    return tuple({gate.name: gate for stage in stages for gate in stage.gates}.values())


def starts(stages: Sequence[Stage]) -> int:
    """J, the gated stages of the plan; at least 1."""
    return max(1, gated_count(stages))


def assumed(gates: Sequence[Gate]) -> tuple[str, ...]:
    """The gates of which nothing is simulated: they are taken to be fine."""
    return tuple(gate.name for gate in gates if gate.metric == "external" or gate.guards_stable)


def left_out(stages: Sequence[Stage], *, paired: bool) -> tuple[str, ...]:
    """What a simulation of these stages does not do, as sentences."""
    found = []
    gates = gates_of(stages)
    for gate in gates:
        if gate.name in assumed(gates):
            what = "its source is not simulated" if gate.metric == "external" else "what a mirror does to stable is not"
            found.append(f"gate {gate.name} is taken to be fine: {what}")
        elif gate.mirrors and not paired:
            found.append(
                f"gate {gate.name} has no data: this provider does not join mirrored requests with their twins"
            )
    timeless = [
        stage.name
        for stage in stages
        if not stage.gates and stage.kind in ("deploy", "scale", "test", "approve", "webhook", "load", "bootstrap")
    ]
    if timeless:
        found.append(f"these take no time: {', '.join(timeless)}")
    if any(stage.kind == "wait" and _lasts(stage) is None for stage in stages):
        found.append("a wait until a time of day takes no time")
    return tuple(found)


def _lasts(stage: Stage) -> float | None:
    """Seconds that an ungated stage takes, as far as the plan says."""
    if isinstance(stage.work, WaitStep):
        return float(stage.work.wait) if isinstance(stage.work.wait, int | float) else None
    return stage.hold or None
