"""The live view where there is little room: what matters most, in this order, and more of it as long as lines are left.

Phase, step, traffic, gates with their verdicts, footer: a terminal of 20 x 5 still shows all five. It also holds what
both layouts of the picture are made of.
"""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from orchestrator.cli.cells import cut, end_of, pad, widest, wrapped
from orchestrator.cli.paint import PHASES, STATES, VERDICTS, Glyphs, Paint
from orchestrator.explain import clause
from orchestrator.sentences import WAITS
from orchestrator.views import GateView, RolloutView
from plans.units import show_duration

ORDER = ("id", "status", "step", "traffic", "why", "gates", "steps", "foot")
"""From top to bottom, which is another order than that of importance."""
WORST = tuple(reversed(("PASS", "CONTINUE", "NO_DATA", "ERROR", "FAIL")))


def small(
    view: RolloutView, paint: Paint, glyphs: Glyphs, *, width: int, height: int, foot: Sequence[Text]
) -> list[Text]:
    """At most `height` lines, each made to fit `width` columns but for the last cut."""
    chosen: dict[str, list[Text]] = {}

    def take(part: str, lines: list[Text]) -> None:
        room = height - sum(len(taken) for name, taken in chosen.items() if name != part)
        if lines and len(lines) <= room:
            chosen[part] = lines

    take("status", [_status(view, glyphs)])
    take("step", [_place(view, width, glyphs)] if view.active else [])
    take("traffic", [_traffic(view, paint, width, glyphs)])
    take("gates", [_verdicts(view.gates, width, glyphs)] if view.gates else [])
    take("foot", list(foot[:1]))
    told = _told(view, width)
    take("why", told[:1])
    take("gates", [_gate(gate, view.gates, width, glyphs) for gate in view.gates])
    take("foot", list(foot))
    for number in range(2, len(told) + 1):
        take("why", told[:number])
    take("id", [Text(view.id, style="bold")])
    take("steps", _steps(view, glyphs))
    return [line for part in ORDER for line in chosen.get(part, [])]


def _status(view: RolloutView, glyphs: Glyphs) -> Text:
    status = Text(f"{glyphs.dot} {view.phase.replace('_', ' ')}", style=PHASES[view.phase])
    return Text.assemble(status, (f"  {show_duration(round(view.seconds))}", "dim"))


def _place(view: RolloutView, width: int, glyphs: Glyphs) -> Text:
    count = f"{view.step.index}/{len(view.steps)} "
    place = Text.assemble(count, (cut(view.step.name, width - len(count), glyphs.cut), "bold"))
    return place.append(f"  {clocks(view)}", style="dim")


def _traffic(view: RolloutView, paint: Paint, width: int, glyphs: Glyphs) -> Text:
    """Shares before names: of names that are too long the ends, of shares all."""
    parts = [(name, view.traffic[name], False) for name in sorted(view.traffic, key=paint.order)]
    parts += [(name, share, True) for name, share in view.mirror.items()]
    if not parts:
        return Text("no traffic", style="dim")
    for longest in (32, 12, 8, 5, 3, 1):
        said = Text("  ")
        said = said.join(
            paint.share(name, share, shown=("mirror " if copied else "") + end_of(name, longest, glyphs.cut))
            for name, share, copied in parts
        )
        if said.cell_len <= width:
            break
    return said


def _verdicts(gates: Sequence[GateView], width: int, glyphs: Glyphs) -> Text:
    """All on one line, the worst first: in words where they fit, else with marks alone."""
    ranked = sorted(gates, key=lambda gate: WORST.index(gate.verdict))
    for form, between in (("{mark} {name} {verdict}", "  "), ("{mark} {name}", "  "), ("{mark}{name}", " ")):
        said = Text(between).join(
            Text(
                form.format(mark=gate_mark(gate, glyphs), name=gate.name, verdict=gate.verdict),
                style=VERDICTS[gate.verdict],
            )
            for gate in ranked
        )
        if said.cell_len <= width:
            break
    return said


def _gate(gate: GateView, gates: Sequence[GateView], width: int, glyphs: Glyphs) -> Text:
    name = pad(gate.name, min(widest([each.name for each in gates]), max(4, width - 11)))
    line = Text.assemble(
        (f"{gate_mark(gate, glyphs)} ", VERDICTS[gate.verdict]),
        f"{cut(name, max(4, width - 11), glyphs.cut)} ",
        (gate.verdict, VERDICTS[gate.verdict]),
    )
    room = width - line.cell_len - 2
    return line.append(f"  {cut(clause(gate), room, glyphs.cut)}", style="dim") if room >= 12 else line


def _told(view: RolloutView, width: int) -> list[Text]:
    return [Text(part, style=style) for _, text, style in reasons(view) for part in wrapped(text, width)]


def _steps(view: RolloutView, glyphs: Glyphs) -> list[Text]:
    return [
        Text.assemble((f"{glyphs.states[list(STATES).index(step.state)]} ", STATES[step.state]), step.name)
        for step in view.steps
    ]


# --- what both layouts are made of ----------------------------------------------------------------


def gate_mark(gate: GateView, glyphs: Glyphs) -> str:
    """The one character that tells a gate's verdict."""
    return glyphs.verdicts[list(VERDICTS).index(gate.verdict)]


def clocks(view: RolloutView) -> str:
    """What remains of the step's hold and deadline."""
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


def reasons(view: RolloutView) -> list[tuple[str, str, str]]:
    """(label, sentence, style): why it stands as it does, and what a human can do about it."""
    found = []
    if view.phase in ("paused", "rolling_back", "rolled_back", "failed", "succeeded") and view.reason:
        style = "" if view.phase == "succeeded" else "yellow" if view.active else "red"
        limit = round((view.paused_until - view.at).total_seconds()) if view.paused_until else 0
        clock = f" (rolls back by itself in {show_duration(limit)})" if view.phase == "paused" and limit > 0 else ""
        found.append(("Result" if view.phase == "succeeded" else "Why", f"{view.reason}{clock}", style))
    if view.phase == "paused" and view.paused == "drift":
        undo = f"rollout resume {view.id} --take-back to undo it, or --keep-theirs to leave it so and end"
        found.append(("Do", undo, "bold"))
    elif view.phase == "paused":
        found.append(("Do", f"rollout resume {view.id}, or rollout abort {view.id}", "bold"))
    elif view.approval:
        found.append(("Do", f"rollout approve {view.id}, or rollout abort {view.id}", "bold"))
    if view.waiting is not None and view.active and view.waiting.kind != "human":
        until = view.waiting.until
        left = round((until - view.at).total_seconds()) if until else 0
        clock = f" ({show_duration(left)} left)" if left > 0 and view.waiting.kind != "hold" else ""
        found.append(("Waiting", f"for {WAITS[view.waiting.kind]}: {view.waiting.reason}{clock}", "yellow"))
    return found


def bar(view: RolloutView, paint: Paint, width: int, glyphs: Glyphs) -> Text:
    """Who gets which part of the live traffic, as a bar where there is room for one, and in figures."""
    names = sorted(view.traffic, key=paint.order)
    said = Text("  ").join([paint.share(name, view.traffic[name]) for name in names] or [Text("none", style="dim")])
    cells = min(40, width - cell_len(said.plain) - 2)
    if cells < 8:
        return said
    counts = {name: max(1, round(cells * view.traffic[name] / 100)) for name in names}
    if names:
        biggest = max(names, key=lambda name: counts[name])
        counts[biggest] += min(cells, round(cells * sum(view.traffic.values()) / 100)) - sum(counts.values())
    drawn = Text()
    for name in names:
        drawn.append(paint.texture(name, glyphs.bar) * counts[name], style=paint.style(name))
    drawn.append("-" * (cells - len(drawn)), style="dim")
    return Text.assemble(drawn, "  ", said)
