"""The live view as a picture: pure, from a view to lines of text, so that a test can look at it without a terminal.

Every line is made to fit: on a narrow terminal sentences wrap below themselves, on a low one the least useful parts go
first (the log, then the curves, then steps far from the current one). Where even that is not enough, see `small`.
"""

from collections.abc import Sequence
from datetime import datetime

from rich.cells import cell_len
from rich.text import Text

from orchestrator.cli.cells import legible, pad, widest, wrapped
from orchestrator.cli.curves import curves
from orchestrator.cli.paint import ASCII, PHASES, STATES, UNICODE, VERDICTS, Glyphs, Paint
from orchestrator.cli.plain import Story
from orchestrator.cli.small import bar, clocks, gate_mark, reasons, small
from orchestrator.events import Event
from orchestrator.explain import clause
from orchestrator.sentences import sentence
from orchestrator.views import GateView, RolloutView, StepView
from plans.units import show_duration

__all__ = ["ASCII", "Glyphs", "frame"]

LABEL = 10
NARROW = 40
"""Columns below which labels, a tree and curves only take room."""
RECENT = 500
"""Events that the log at the bottom is picked from."""


def frame(
    view: RolloutView,
    events: Sequence[Event],
    *,
    width: int,
    height: int,
    footer: str,
    colour: bool = True,
    glyphs: Glyphs = UNICODE,
) -> Text:
    """The whole picture, at most `width` columns and `height` lines.

    Args:
        view: of the rollout. events: the newest last, for the log.
        footer: what the keys do, or what came of one; one that is too long is wrapped while there is room.
        colour: whether sides can be told apart by colour; otherwise by texture.
    """
    paint = Paint.of(view, colour)
    said = [footer] if cell_len(footer) <= width else wrapped(footer, width)[:3]
    foot = [Text(line, style="dim") for line in said if line]
    lines = None
    if width >= NARROW:
        lines = _roomy(view, events, paint, glyphs, width, height, foot)
    if lines is None:
        lines = small(view, paint, glyphs, width=width, height=height, foot=foot)
    ascii_only = glyphs is ASCII
    for line in lines:
        legible(line, ascii_only=ascii_only)
        line.truncate(width, overflow="crop" if ascii_only else "ellipsis")
    picture = Text("\n", no_wrap=True, overflow="crop").join(lines[: max(height, 1)])
    picture.no_wrap, picture.overflow = True, "crop"
    return picture


def _roomy(
    view: RolloutView,
    events: Sequence[Event],
    paint: Paint,
    glyphs: Glyphs,
    width: int,
    height: int,
    foot: list[Text],
) -> list[Text] | None:
    """Everything, as far as there is room; None where what matters does not fit."""
    foot = [Text(), *foot] if foot else []
    least = len(_steps(view, width, glyphs, 1, 1))
    heads = (_head(view, paint, width, glyphs, lines_each) for lines_each in (3, 1))
    head = next((head for head in heads if len(head) + least + len(foot) <= height), None)
    if head is None:
        return None
    room = height - len(head) - len(foot)
    steps = _steps(view, width, glyphs, len(view.steps), None)
    drawn = curves(view.points, view, paint, width, glyphs.blocks)
    if drawn:
        drawn = [Text(), *drawn]
    if len(steps) + len(drawn) > room:
        drawn = []
    # Far steps go first, then the wrapped lines of the gates.
    for keep, lines_each in [*((keep, None) for keep in range(len(view.steps) - 1, 0, -1)), (1, 3), (1, 2), (1, 1)]:
        if len(steps) <= room:
            break
        steps = _steps(view, width, glyphs, keep, lines_each)
    log = _log(events, room - len(steps) - len(drawn))
    return [*head, *steps, *drawn, *log, *foot]


def _head(view: RolloutView, paint: Paint, width: int, glyphs: Glyphs, lines_each: int) -> list[Text]:
    phase = Text.assemble((f"{glyphs.dot} {view.phase.replace('_', ' ')}", PHASES[view.phase]))
    phase.append(f"  {show_duration(round(view.seconds))}", style="dim")
    if view.advisory:
        phase.append("  advisory: changes nothing", style="dim")
    if view.active:
        phase.append(f"  {_driver(view)}", style="dim")
    lines = [
        _labelled("Rollout", Text(view.id, style="bold")),
        _labelled("Endpoint", Text(f"{view.endpoint} ({view.provider})")),
        _labelled("Status", phase),
    ]
    if view.active:
        place = Text.assemble(f"{view.step.index}/{len(view.steps)}  ", (view.step.name, "bold"))
        place.append(f"  {clocks(view)}", style="dim")
        lines.append(_labelled("Step", place))
    lines.append(_labelled("Traffic", bar(view, paint, width - LABEL, glyphs)))
    if view.mirror:
        copies = Text("  ").join(paint.share(name, share) for name, share in view.mirror.items())
        lines.append(_labelled("Mirror", copies.append(" of the live requests, as copies", style="dim")))
    for label, text, style in reasons(view):
        shown = _first(wrapped(text, width - LABEL), lines_each) or [""]
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
        lines += _gate(gate, trunk + own, below, width, glyphs, step, lines_each)
    if step.state == "failed" and step.reason and not gates and step.reason != view.reason:
        parts = _first(wrapped(step.reason, width - len(trunk) - 2), lines_each or 3)
        lines += [Text.assemble((trunk, "dim"), (f"  {part}", "red")) for part in parts]
    return lines


def _gate(
    gate: GateView, branch: str, trunk: str, width: int, glyphs: Glyphs, step: StepView, lines_each: int | None
) -> list[Text]:
    style = VERDICTS[gate.verdict]
    mark = gate_mark(gate, glyphs)
    name = pad(gate.name, widest([each.name for each in step.gates]))
    lead = f"{name}  {gate.verdict:<8}  "
    room = width - len(branch) - 2 - cell_len(lead)
    if room >= 30:
        parts, margin = wrapped(clause(gate), room), " " * (cell_len(lead) + 2)
    else:
        # Too narrow to stand beside it: below it.
        parts, margin = ["", *wrapped(clause(gate), width - len(trunk) - 2)], "  "
    parts = _first(parts, lines_each)
    first = Text.assemble((branch, "dim"), (f"{mark} ", style), f"{name}  ", (f"{gate.verdict:<8}  ", style))
    first.append(parts[0] if parts else "")
    return [first, *(Text.assemble((trunk, "dim"), margin, (part, "dim")) for part in parts[1:])]


def _first(parts: list[str], most: int | None) -> list[str]:
    """So many lines at most; the last one says that there are more."""
    if most is None or len(parts) <= most:
        return parts
    return [*parts[: most - 1], f"{parts[most - 1]} ..."]


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
