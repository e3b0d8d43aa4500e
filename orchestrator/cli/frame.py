"""The live view as a picture: pure, from a view to lines of text, so that a test can look at it without a terminal.

Every line is made to fit: on a narrow terminal sentences wrap below themselves, on a low one the least useful parts go
first (the log, then the curves, then steps far from the current one).
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.text import Text

from orchestrator.cli.curves import curves
from orchestrator.cli.paint import Paint
from orchestrator.cli.plain import Story
from orchestrator.events import Event
from orchestrator.explain import clause
from orchestrator.sentences import WAITS, sentence
from orchestrator.views import GateView, RolloutView, StepView
from plans.units import show_duration

LABEL = 10
RECENT = 500
"""Events that the log at the bottom is picked from."""
PHASES = {
    "pending": "cyan",
    "running": "green",
    "paused": "yellow",
    "rolling_back": "yellow",
    "succeeded": "bold green",
    "rolled_back": "bold red",
    "failed": "bold red",
}
STATES = {
    "waiting": "dim",
    "running": "cyan",
    "passed": "green",
    "failed": "red",
    "skipped": "dim",
    "undone": "yellow",
}
VERDICTS = {"PASS": "green", "FAIL": "bold red", "CONTINUE": "yellow", "NO_DATA": "yellow", "ERROR": "red"}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters of a frame: those of Unicode, or of ASCII for terminals that have no others."""

    dot: str = "●"
    branch: str = "├── "
    last: str = "└── "
    trunk: str = "│   "
    states: str = "·◌✔✗–↩"
    verdicts: str = "✔✗?∅!"
    blocks: str = "▁▂▃▄▅▆▇█"
    bar: str = "█▒░"


ASCII = Glyphs("*", "|-- ", "`-- ", "|   ", ".o+x-<", "+x?0!", "_.-=+*%#", "#+.")


def frame(
    view: RolloutView,
    events: Sequence[Event],
    *,
    width: int,
    height: int,
    footer: str,
    colour: bool = True,
    glyphs: Glyphs = Glyphs(),
) -> Text:
    """The whole picture, at most `width` columns and `height` lines.

    Args:
        view: of the rollout. events: the newest last, for the log.
        footer: what the keys do.
        colour: whether sides can be told apart by colour; otherwise by texture.
    """
    paint = Paint.of(view, colour)
    head = _head(view, paint, width, glyphs)
    foot = [Text(), Text(footer, style="dim")] if footer else []
    room = height - len(head) - len(foot)
    steps = _steps(view, width, glyphs, len(view.steps), None)
    drawn = curves(view.points, view, paint, width, glyphs.blocks)
    if drawn:
        drawn = [Text(), *drawn]
    if len(steps) + len(drawn) > room:
        drawn = []
    # Far steps go first, then the wrapped lines of the gates, then the gates.
    for keep, lines_each in [*((keep, None) for keep in range(len(view.steps) - 1, 0, -1)), (1, 1), (1, 0)]:
        if len(steps) <= room:
            break
        steps = _steps(view, width, glyphs, keep, lines_each)
    log = _log(events, room - len(steps) - len(drawn))
    lines = [*head, *steps, *drawn, *log, *foot]
    for line in lines:
        line.truncate(width, overflow="crop" if glyphs is ASCII else "ellipsis")
    return Text("\n").join(lines[: max(height, 1)])


def _head(view: RolloutView, paint: Paint, width: int, glyphs: Glyphs) -> list[Text]:
    phase = Text.assemble((f"{glyphs.dot} {view.phase.replace('_', ' ')}", PHASES[view.phase]))
    phase.append(f"  {show_duration(round(view.seconds))}", style="dim")
    if view.active:
        phase.append(f"  {_driver(view)}", style="dim")
    lines = [
        _labelled("Rollout", Text(view.id, style="bold")),
        _labelled("Endpoint", Text(f"{view.endpoint} ({view.provider})")),
        _labelled("Status", phase),
    ]
    if view.active:
        place = Text.assemble(f"{view.step.index}/{len(view.steps)}  ", (view.step.name, "bold"))
        place.append(f"  {_clocks(view)}", style="dim")
        lines.append(_labelled("Step", place))
    lines.append(_labelled("Traffic", _bar(view, paint, width - LABEL, glyphs)))
    if view.mirror:
        copies = Text("  ").join(_share(name, share, paint) for name, share in view.mirror.items())
        lines.append(_labelled("Mirror", copies.append(" of the live requests, as copies", style="dim")))
    for label, text, style in _reasons(view):
        wrapped = textwrap.wrap(text, max(20, width - LABEL)) or [""]
        shown = wrapped if len(wrapped) <= 3 else [*wrapped[:2], f"{wrapped[2]} ..."]
        lines.append(_labelled(label, Text(shown[0], style=style)))
        lines += [_labelled("", Text(more, style=style)) for more in shown[1:]]
    return [*lines, Text()]


def _labelled(label: str, value: Text) -> Text:
    return Text.assemble((f"{label:<{LABEL}}", "bold"), value)


def _driver(view: RolloutView) -> str:
    if view.driver is None:
        return "nobody drives it"
    return (
        f"driven by {view.driver.pid} on {view.driver.host}" if view.driver.pid else f"driven by {view.driver.worker}"
    )


def _clocks(view: RolloutView) -> str:
    step, parts = view.step, []
    for what, until, left in (
        ("hold", step.hold_until, step.hold_left),
        ("deadline", step.deadline, step.deadline_left),
    ):
        if until is not None:
            seconds = round((until - view.at).total_seconds())
            passed = "held" if what == "hold" else "deadline passed"
            parts.append(f"{what} {show_duration(seconds)} left" if seconds > 0 else passed)
        elif left is not None:
            parts.append(f"{what} stopped at {show_duration(round(left))}")
    return ", ".join(parts)


def _reasons(view: RolloutView) -> list[tuple[str, str, str]]:
    found = []
    if view.phase in ("paused", "rolling_back", "rolled_back", "failed", "succeeded") and view.reason:
        style = "" if view.phase == "succeeded" else "yellow" if view.active else "red"
        found.append(("Result" if view.phase == "succeeded" else "Why", view.reason, style))
    if view.phase == "paused":
        found.append(("Do", f"rollout resume {view.id}, or rollout abort {view.id}", "bold"))
    elif view.approval:
        found.append(("Do", f"rollout approve {view.id}, or rollout abort {view.id}", "bold"))
    if view.waiting is not None and view.active:
        until = view.waiting.until
        left = round((until - view.at).total_seconds()) if until else 0
        clock = f" ({show_duration(left)} left)" if left > 0 and view.waiting.kind != "hold" else ""
        found.append(("Waiting", f"for {WAITS[view.waiting.kind]}: {view.waiting.reason}{clock}", "yellow"))
    return found


def _bar(view: RolloutView, paint: Paint, width: int, glyphs: Glyphs) -> Text:
    names = sorted(view.traffic, key=paint.order)
    shares = [_share(name, view.traffic[name], paint) for name in names] or [Text("none", style="dim")]
    said = Text("  ").join(shares)
    cells = min(40, width - len(said) - 2)
    if cells < 8:
        return said
    counts = {name: max(1, round(cells * view.traffic[name] / 100)) for name in names}
    if names:
        biggest = max(names, key=lambda name: counts[name])
        counts[biggest] += min(cells, round(cells * sum(view.traffic.values()) / 100)) - sum(counts.values())
    bar = Text()
    for name in names:
        bar.append(paint.texture(name, glyphs.bar) * counts[name], style=paint.style(name))
    bar.append("-" * (cells - len(bar)), style="dim")
    return Text.assemble(bar, "  ", said)


def _share(name: str, percent: float, paint: Paint) -> Text:
    return Text(f"{name} {percent:g}%", style=paint.style(name))


def _steps(view: RolloutView, width: int, glyphs: Glyphs, keep: int, lines_each: int | None) -> list[Text]:
    """The tree of steps: at most `keep` around the current one, the rest counted; so many lines a gate, or all."""
    current = view.step.index - 1
    first = max(0, min(current - keep // 2, len(view.steps) - keep))
    shown = view.steps[first : first + keep]
    lines = [Text("Steps", style="bold")]
    if first:
        lines.append(Text(f"{glyphs.branch}{first} before", style="dim"))
    after = len(view.steps) - first - len(shown)
    for number, step in enumerate(shown):
        last = not after and number == len(shown) - 1
        branch, trunk = (glyphs.last, "    ") if last else (glyphs.branch, glyphs.trunk)
        lines += _step(view, step, branch, trunk, width, glyphs, lines_each)
    if after:
        lines.append(Text(f"{glyphs.last}{after} more", style="dim"))
    return lines


def _step(
    view: RolloutView, step: StepView, branch: str, trunk: str, width: int, glyphs: Glyphs, lines_each: int | None
) -> list[Text]:
    mark = glyphs.states[list(STATES).index(step.state)]
    here = step.index == view.step.index and view.active
    name_style = "bold" if here else "dim" if step.state in ("waiting", "skipped") else ""
    row = Text.assemble((branch, "dim"), (f"{mark} ", STATES[step.state]), (step.name, name_style))
    if step.started_at is not None:
        end = step.ended_at or (view.at if view.active else view.updated_at)
        row.append(f"  {_took((end - step.started_at).total_seconds())}", style="dim")
    lines = [row]
    gates = step.gates if here or step.state == "failed" else ()
    for number, gate in enumerate(gates):
        end_of_gates = number == len(gates) - 1
        own = glyphs.last if end_of_gates else glyphs.branch
        below = trunk + ("    " if end_of_gates else glyphs.trunk)
        lines += _gate(gate, trunk + own, below, width, glyphs, step)[:lines_each]
    if step.state == "failed" and step.reason and not gates and step.reason != view.reason:
        wrapped = textwrap.wrap(step.reason, max(20, width - len(trunk) - 2))[:3]
        lines += [Text.assemble((trunk, "dim"), (f"  {part}", "red")) for part in wrapped]
    return lines


def _gate(gate: GateView, branch: str, trunk: str, width: int, glyphs: Glyphs, step: StepView) -> list[Text]:
    style = VERDICTS[gate.verdict]
    mark = glyphs.verdicts[list(VERDICTS).index(gate.verdict)]
    names = max(len(each.name) for each in step.gates)
    lead = f"{gate.name:<{names}}  {gate.verdict:<8}  "
    room = width - len(branch) - 2 - len(lead)
    if room >= 30:
        wrapped, margin = textwrap.wrap(clause(gate), room), " " * (len(lead) + 2)
    else:
        # Too narrow to stand beside it: below it.
        wrapped, margin = ["", *textwrap.wrap(clause(gate), max(20, width - len(trunk) - 2))], "  "
    first = Text.assemble(
        (branch, "dim"), (f"{mark} ", style), f"{gate.name:<{names}}  ", (f"{gate.verdict:<8}  ", style)
    )
    first.append(wrapped[0] if wrapped else "")
    return [first, *(Text.assemble((trunk, "dim"), margin, (part, "dim")) for part in wrapped[1:])]


def _log(events: Sequence[Event], room: int) -> list[Text]:
    rows = min(4, room - 1)
    if rows < 1:
        return []
    story = Story()
    told = [event for event in events[-RECENT:] if story.tells(event)][-rows:]
    lines = [Text()] if told else []
    for event in told:
        said = sentence(event).splitlines()[0]
        lines.append(Text(f"{_clock(event.at)}  {said}", style="dim"))
    return lines


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%H:%M:%S")


def _took(seconds: float) -> str:
    return show_duration(seconds if seconds < 10 else round(seconds))
