"""A rollout's story as plain values: what a report tells, before it becomes Markdown or HTML.

Built from the stored rollout, its pinned bundle, its journal and its measurements, and nothing else: both faces tell
the same, and the same rollout always gives the same report. What the engine decided is repeated, never decided again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator import rollout as rollouts
from orchestrator.bundle import Bundle
from orchestrator.events import Adopted, Driven, Event, Measured, Reached, StageEnded, StageEntered, Started
from orchestrator.explain import RESULT
from orchestrator.gates.spec import Gate
from orchestrator.report import telling
from orchestrator.report.captions import Names
from orchestrator.report.series import GateStory, Levels, by_number, gate_story
from orchestrator.report.sides import Side, names, sides
from orchestrator.report.telling import Entry
from orchestrator.rollout import Rollout
from orchestrator.sentences import strip
from orchestrator.stages import Stage
from orchestrator.views import GateView, RolloutView, StepView, percents, view
from plans.units import show_duration
from providers.measurement import Measurement


@dataclass(frozen=True, slots=True)
class Material:
    """What a report is made of.

    Attributes:
        rollout: as it stands. bundle: pinned.
        stages: compiled, or empty. why_not: why they are empty, as a clause.
        events: the whole journal. measurements: (number, stage index, measurement), all of them.
    """

    rollout: Rollout
    bundle: Bundle
    stages: tuple[Stage, ...]
    why_not: str
    events: Sequence[Event]
    measurements: Sequence[tuple[int, int, Measurement]]


@dataclass(frozen=True, slots=True)
class StepStory:
    """A compiled stage.

    Attributes:
        view: its state, times and reason.
        took: seconds, or None where it has not begun.
        traffic, mirror: deployment -> percent, as verified when it was in place; empty where it never was.
        no_return: from here there was no way back.
        guarded: its gates were only watched for FAIL.
        gates: what was measured.
    """

    view: StepView
    took: float | None
    traffic: Mapping[str, float]
    mirror: Mapping[str, float]
    no_return: bool
    guarded: bool
    gates: tuple[GateStory, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a report tells.

    Attributes:
        view: the rollout as every face shows it.
        headline: one sentence: what happened. reason: why, or "".
        names: of the two sides, with their colours. sides: candidate and stable.
        starter: who started it. drivers: processes that drove it, in order.
        plan_path, plan: where the plan was read from, and its pinned text.
        more: what else was agreed on, as (what, value): the plan's variables, its budget.
        steps: in order.
        people, drift, troubles, story: lists of what happened.
        notes: what one should know to read it rightly.
        advisory: it only measured, and changed nothing.
    """

    view: RolloutView
    headline: str
    reason: str
    names: Names
    sides: tuple[Side, ...]
    starter: str
    drivers: tuple[str, ...]
    plan_path: str
    plan: str
    more: tuple[tuple[str, str], ...]
    steps: tuple[StepStory, ...]
    people: tuple[Entry, ...]
    drift: tuple[Entry, ...]
    troubles: tuple[Entry, ...]
    story: tuple[Entry, ...]
    notes: tuple[str, ...]
    advisory: bool

    def state(self, step: StepStory) -> str:
        """A step's state in words: one that an ended rollout did not come to waits for nothing."""
        return "not reached" if step.view.state == "waiting" and not self.view.active else step.view.state

    def why(self, step: StepStory) -> str:
        """What is to be said of a step's end besides its verdicts, and was not said at the top."""
        reason = step.view.reason or ""
        said = reason in ("", "done") or strip(reason) in self.reason
        return "" if said else telling.shortened(reason)

    @property
    def gated(self) -> tuple[StepStory, ...]:
        """The steps in which something was measured."""
        return tuple(step for step in self.steps if step.gates)

    @property
    def charts(self) -> int:
        """How many gates there are to draw."""
        return sum(len(step.gates) for step in self.steps)


def tell(material: Material, now: datetime) -> Report:
    """The report of a rollout as it stands at `now` (aware UTC)."""
    rollout, bundle, events = material.rollout, material.bundle, material.events
    seen = view(rollout, events=events, now=now)
    replayed = _replayed(events)
    measured = _measured(events, by_number(material.measurements))
    steps = tuple(_step(step, material, replayed, measured.get(step.index - 1, ()), seen) for step in seen.steps)
    return Report(
        view=seen,
        headline=_headline(seen, rollout),
        reason=_reason(seen),
        names=names(seen),
        sides=sides(rollout, bundle, events),
        starter=rollout.starter,
        drivers=tuple(
            dict.fromkeys(
                f"process {event.body.pid} on {event.body.host}" for event in events if isinstance(event.body, Driven)
            )
        ),
        plan_path=rollout.plan_path,
        plan=bundle.files.get("", ""),
        more=_more(rollout, bundle),
        steps=steps,
        people=telling.people(events),
        drift=telling.drift(events),
        troubles=telling.troubles(events),
        story=telling.story(events),
        notes=_notes(material, seen),
        advisory=rollout.advisory,
    )


@dataclass(frozen=True, slots=True)
class _Replayed:
    """What only the journal knows of a stage: the split that was in place, and where the way back ended."""

    traffic: Mapping[int, Mapping[str, float]]
    mirror: Mapping[int, Mapping[str, float]]
    no_return: int | None


def _replayed(events: Sequence[Event]) -> _Replayed:
    traffic: dict[int, Mapping[str, float]] = {}
    mirror: dict[int, Mapping[str, float]] = {}
    no_return = None
    state: Rollout | None = None
    for event in events:
        before = state
        state = rollouts.apply(state, event)
        if before is None:
            continue
        if state.no_return and not before.no_return:
            no_return = before.stage
        # At its end a shadow step has cleared its mirror; what counts is what was in place while it was measured.
        if isinstance(event.body, Reached) or (isinstance(event.body, StageEnded) and before.stage not in traffic):
            traffic[before.stage] = percents(before.expected.traffic)
            mirror[before.stage] = percents(before.expected.mirror)
    return _Replayed(traffic, mirror, no_return)


_Polls = Sequence[tuple[Measured, Measurement | None]]


def _measured(events: Sequence[Event], counted: Mapping[int, Measurement]) -> Mapping[int, _Polls]:
    """Stage index -> its polls, each with what was counted."""
    stage, found = 0, dict[int, list[tuple[Measured, Measurement | None]]]()
    for event in events:
        match event.body:
            case StageEntered(stage=entered):
                stage = entered
            case Measured() as body:
                found.setdefault(stage, []).append((body, counted.get(body.measurement)))
    return found


def _step(step: StepView, material: Material, replayed: _Replayed, polls: _Polls, seen: RolloutView) -> StepStory:
    index = step.index - 1
    stage = material.stages[index] if index < len(material.stages) else None
    together = (stage.gates or stage.guards) if stage is not None else ()
    end = step.ended_at or (seen.at if seen.active else seen.updated_at)
    return StepStory(
        view=step,
        took=max(0.0, (end - step.started_at).total_seconds()) if step.started_at is not None else None,
        traffic=replayed.traffic.get(index, {}),
        mirror=replayed.mirror.get(index, {}),
        no_return=index == replayed.no_return,
        guarded=stage is not None and not stage.gates and bool(stage.guards),
        gates=tuple(_gate(gate, together, material, polls) for gate in step.gates),
    )


def _gate(shown: GateView, together: Sequence[Gate], material: Material, polls: _Polls) -> GateStory:
    gate = next((each for each in together if each.name == shown.name), None)
    plan = material.bundle.plan
    written = plan.gates.get(shown.name)
    levels = Levels(
        latency=shown.candidate.quantile_us is not None or getattr(written, "metric", "") == "latency",
        quantile=getattr(written, "quantile", 0.95),
        alpha=(written.alpha if written is not None else None) or plan.alpha,
        beta=(written.beta if written is not None else None) or plan.beta,
    )
    return gate_story(shown, gate, levels, together, polls, material.rollout.roles)


def _headline(seen: RolloutView, rollout: Rollout) -> str:
    roles = rollout.roles
    who = f" of {roles.candidate}" if roles.candidate else ""
    over = f" over {roles.stable}" if roles.candidate and roles.stable else ""
    took = show_duration(seen.seconds if seen.seconds < 10 else round(seen.seconds))
    clock = f"It began {took} ago." if seen.active else f"It took {took}."
    return f"The rollout{who}{over} on endpoint {seen.endpoint} ({seen.provider}) {RESULT[seen.phase]}. {clock}"


def _reason(seen: RolloutView) -> str:
    if seen.reason:
        return telling.shortened(strip(seen.reason))
    if seen.waiting is not None and seen.active:
        return f"It waits: {strip(seen.waiting.reason)}"
    return ""


def _more(rollout: Rollout, bundle: Bundle) -> tuple[tuple[str, str], ...]:
    more = []
    if bundle.vars:
        more.append(("Variables", ", ".join(f"{name}={value}" for name, value in sorted(bundle.vars.items()))))
    if bundle.plan.budget is not None:
        most, spent = bundle.plan.budget.bad_responses, rollout.spent
        more.append(("Budget", f"{spent:,} of {most:,} bad responses by {rollout.roles.candidate} to clients"))
    return tuple(more)


def _notes(material: Material, seen: RolloutView) -> tuple[str, ...]:
    notes = []
    if seen.active:
        notes.append("It has not ended: this is how it stood when this report was made.")
    if material.rollout.advisory:
        notes.append("It was advisory: it measured and judged, and changed nothing.")
    for event in material.events:
        match event.body:
            case Started(notes=noted):
                notes += [f"{strip(note)}." for note in noted]
            case Adopted():
                notes.append(
                    "The plan was edited while it ran, and adopted: the text and the tolerances here are the last ones."
                )
    if material.why_not and any(step.gates for step in seen.steps):
        notes.append(f"The tolerances are not drawn, because the plan cannot be compiled here: {material.why_not}.")
    counted = {number for number, _, _ in material.measurements}
    missing = [e.body for e in material.events if isinstance(e.body, Measured) and e.body.measurement not in counted]
    if missing:
        notes.append(f"The counts of {len(missing):,} polls are not in the store any more; their evidence is.")
    return tuple(dict.fromkeys(notes))
