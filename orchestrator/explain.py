"""A rollout in plain sentences: what it does, why it waits or ended, what was measured, what is next, what to type.

A status that says `running` for an hour is the commonest complaint about tools of this kind; here every state has a
reason and a next step.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from orchestrator.events import Commanded, Event, Parked, Released, Retried
from orchestrator.sentences import WAITS, sentence, strip
from orchestrator.views import GateView, RolloutView, StepView
from plans.units import show_duration

RESULT = {
    "pending": "has not begun",
    "running": "is running",
    "paused": "is paused: it makes no progress, and needs a human",
    "rolling_back": "is rolling back",
    "succeeded": "succeeded",
    "rolled_back": "was rolled back",
    "failed": "failed, and needs a human",
}


def explain(view: RolloutView, events: Sequence[Event] = ()) -> str:
    """Some short paragraphs of plain sentences, wide lines unwrapped."""
    parts = [_what(view), _why(view, events), _stands(view), _measured(view), _next(view), _do(view)]
    return "\n\n".join(part for part in parts if part)


def commands(view: RolloutView) -> list[tuple[str, str]]:
    """What a human can type now: (command, what it does), the most useful first."""
    ref = view.id
    if view.phase in ("pending", "running"):
        found = [("approve", "agree, so that it goes on")] if view.approval else []
        if view.driver is None:
            found.append(("resume", "drive it on from here"))
        found += [("watch", "see it live"), ("pause", "stop making progress, keep guarding")]
        if not view.no_return:
            found.append(("abort", f"give {view.stable or 'stable'} its traffic back and end it"))
        return [(f"rollout {name} {ref}", why) for name, why in found]
    if view.phase == "paused":
        if view.paused == "drift":
            return [
                (f"rollout resume {ref} --take-back", "undo what somebody else changed, and go on"),
                (f"rollout resume {ref} --keep-theirs", "leave everything as it was found, and end it"),
                (f"rollout abort {ref}", "roll back"),
            ]
        anew = " from the beginning of the step" if view.parked else ""
        return [
            (f"rollout resume {ref}", f"go on{anew}"),
            *_past_a_gate(view),
            (f"rollout abort {ref}", "roll back"),
            (f"rollout history {ref}", "read how it came to this"),
        ]
    if view.phase == "rolling_back":
        back = [(f"rollout resume {ref}", "drive the rollback to its end")] if view.driver is None else []
        return [*back, (f"rollout watch {ref}", "see it live")]
    ended = [(f"rollout history {ref}", "read the whole story")]
    if view.phase == "rolled_back" and view.logs and view.candidate:
        logs = f"rollout endpoint logs {view.endpoint} --deployment {view.candidate}"
        ended.append((logs, "read what the candidate printed"))
    return [*ended, (f"rollout endpoint show {view.endpoint}", "see what stands now")]


def serving(traffic: Mapping[str, float]) -> str:
    """`blue 90%, green 10%`, from percent."""
    return ", ".join(f"{name} {percent:g}%" for name, percent in traffic.items()) or "nothing"


def _past_a_gate(view: RolloutView) -> list[tuple[str, str]]:
    """What gets a rollout on whose gates stopped it."""
    if view.paused not in ("gate", "undecided", "no_data"):
        return []
    found = []
    if view.paused != "gate":
        found.append((f"rollout resume {view.id} --extend 1h", "give the step an hour more"))
    for gate in view.gates:
        if gate.verdict != "PASS" and gate.name not in view.set_aside:
            aside = f'rollout approve {view.id} --despite-gate {gate.name} --reason "..."'
            found.append((aside, f"go on although {gate.name} has not passed"))
    return found


def _what(view: RolloutView) -> str:
    place = f" at step {view.step.index} of {len(view.steps)}, {view.step.name}"
    began = f"It began {_ago(view.started_at, view.at)}"
    if not view.active:
        return f"{view.id} {RESULT[view.phase]} after {show_duration(view.seconds)}."
    if view.driver is None:
        who = "nobody drives it now"
    elif view.driver.pid is None:
        who = f"{view.driver.worker} drives it"
    else:
        who = f"process {view.driver.pid} on {view.driver.host} drives it"
    advisory = " It is advisory: it judges what another tool does, and changes nothing." if view.advisory else ""
    return f"{view.id} {RESULT[view.phase]}{place}. {began}; {who}.{advisory}"


def _why(view: RolloutView, events: Sequence[Event]) -> str:
    lines = []
    if view.phase == "paused" and view.reason:
        lines.append(f"Why it is paused: {_stop(view.reason)}")
        if view.parked:
            parked = next((event for event in reversed(events) if isinstance(event.body, Parked)), None)
            lines.append(_capital(_stop(sentence(parked))) if parked else "The candidate is out of traffic meanwhile.")
        if view.paused_until is not None and view.driver is not None:
            lines.append(f"If nobody acts, it rolls back by itself {_in(view.paused_until, view.at)}.")
    elif view.phase in ("rolling_back", "rolled_back", "failed", "succeeded") and view.reason:
        lines.append(f"{'Result' if view.phase == 'succeeded' else 'Why'}: {_stop(view.reason)}")
        stopped = next((step for step in view.steps if step.state == "failed" and step.reason), None)
        if stopped is not None and strip(stopped.reason or "") not in view.reason:
            lines.append(f"It was stopped by step {stopped.index}, {stopped.name}: {_stop(stopped.reason or '')}")
    elif view.waiting is not None:
        until = f" ({_in(view.waiting.until, view.at)} at the latest)" if view.waiting.until else ""
        lines.append(f"It waits for {WAITS[view.waiting.kind]}: {strip(view.waiting.reason)}{until}.")
    if view.active and view.driver is None and view.phase != "paused":
        left = next((event for event in reversed(events) if isinstance(event.body, Released)), None)
        lines.append(_capital(_stop(sentence(left))) if left else "Nobody drives it.")
    recent = events[-20:]
    if view.active and (retry := next((event for event in reversed(recent) if isinstance(event.body, Retried)), None)):
        lines.append(f"Lately, {_ago(retry.at, view.at)}: {_stop(sentence(retry))}")
    asked = [event for event in events if isinstance(event.body, Commanded) and not event.body.accepted]
    if asked:
        lines.append(_capital(_stop(sentence(asked[-1]))))
    return "\n".join(lines)


def _stands(view: RolloutView) -> str:
    mirror = f"; {serving(view.mirror)} of it is mirrored" if view.mirror else ""
    lines = [f"Endpoint {view.endpoint} ({view.provider}): traffic {serving(view.traffic)}{mirror}."]
    if view.logs:
        lines.append(f"The logs of {view.candidate or 'the candidate'} were kept in {view.logs}.")
    return "\n".join(lines)


def _measured(view: RolloutView) -> str:
    shown = [step for step in view.steps if step.gates and (step.index == view.step.index or not view.active)]
    blocks = [_block(step) for step in shown]
    return "\n".join(["What was measured:", *blocks]) if blocks else ""


def _block(step: StepView) -> str:
    lines = [f"  {step.name}"]
    width = max(len(gate.name) for gate in step.gates)
    lines += [f"    {gate.name:<{width}}  {gate.verdict:<8}  {clause(gate)}" for gate in step.gates]
    return "\n".join(lines)


def clause(gate: GateView) -> str:
    """A gate's sentence without the verdict at its end, for where the verdict stands beside it."""
    return gate.reason.removesuffix(f" -> {gate.verdict}")


def _next(view: RolloutView) -> str:
    if view.phase == "paused":
        guarded = (
            "" if view.parked or view.driver is None else "; its gates go on guarding, and a FAIL still rolls it back"
        )
        return f"What happens next: nothing, it stays where it is{guarded}."
    if view.phase == "rolling_back":
        stable = view.stable or "stable"
        return f"What happens next: {stable} gets its traffic back, and the candidate is removed; its logs are kept."
    if view.phase not in ("pending", "running"):
        return ""
    following = next((step for step in view.steps if step.index > view.step.index and step.state == "waiting"), None)
    then = f"step {following.index}, {following.name}" if following else "it is done"
    step, conditions = view.step, []
    if step.hold_until is not None and step.hold_until > view.at:
        conditions.append(f"the hold has passed ({_in(step.hold_until, view.at)})")
    if open_gates := [gate.name for gate in view.gates if gate.verdict != "PASS"]:
        conditions.append(f"{' and '.join(open_gates)} {'passes' if len(open_gates) == 1 else 'pass'}")
    if view.approval:
        conditions.append("somebody approves")
    lines = [f"What happens next: {'when ' + ' and '.join(conditions) + ', ' if conditions else ''}{then}."]
    if view.gates and not view.no_return:
        lines.append("A gate that fails stops the step at once.")
    if step.deadline is not None:
        lines.append(f"The step is given up {_in(step.deadline, view.at)}.")
    return " ".join(lines)


def _do(view: RolloutView) -> str:
    found = commands(view)
    width = max(len(command) for command, _ in found)
    return "\n".join(["What you can do:", *[f"  {command:<{width}}  {why}" for command, why in found]])


def _ago(then: datetime, now: datetime) -> str:
    seconds = max(0.0, (now - then).total_seconds())
    return f"{show_duration(round(seconds))} ago" if seconds >= 1 else "just now"


def _in(then: datetime, now: datetime) -> str:
    seconds = (then - now).total_seconds()
    return f"in {show_duration(round(seconds))}" if seconds >= 1 else "at any moment"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _stop(text: str) -> str:
    """With a full stop; or with the lines of a log at its end, indented."""
    first, *log = strip(text).splitlines() or [""]
    return "\n".join([first, *(f"    {line}" for line in log)]) if log else f"{first}."
