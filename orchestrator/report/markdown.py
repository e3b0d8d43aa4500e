"""A report as Markdown: to be read as it is in a terminal or a review, and rendered anywhere.

Charts are rows of block characters, with a small table of some polls below them. Everything that is not ours is
escaped: a name with a `|` does not make a column, a line of a log with backticks ends no fence, and a tag is text.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from orchestrator.explain import clause
from orchestrator.gates import wording
from orchestrator.report import axes, charts
from orchestrator.report.axes import Axis
from orchestrator.report.captions import clock, remarks, show_evidence, show_value
from orchestrator.report.charts import Chart, Line
from orchestrator.report.file import MARKER
from orchestrator.report.markup import plain
from orchestrator.report.series import GateStory, Poll
from orchestrator.report.story import Report, StepStory
from orchestrator.report.telling import QUIET, UNTOUCHED, Entry
from orchestrator.views import FiguresView
from plans.units import show_duration, show_latency, show_rate

BLOCKS = "▁▂▃▄▅▆▇█"
COLUMNS = 60
ROWS = 6
"""Polls in the table below a chart."""

_SPECIAL = re.compile(r"([\\`*\[\]~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|\|")
_ENTITIES = {"&": "&amp;", "<": "&lt;", "|": "&#124;"}
_OPENING = re.compile(r"^(#{1,6}|[-+=>]|\d{1,9}[.)])(?=\s|$|[-=])")


def document(report: Report) -> str:
    """The whole file."""
    view = report.view
    journal = code(f"rollout history {view.id} --all")
    blocks = [
        MARKER,
        f"# {text(view.name)}: {view.phase.replace('_', ' ')}",
        text(report.headline),
        *_why(report),
        _table(("", ""), _facts(report)),
        "## Steps",
        _steps(report),
        *(block for step in report.gated for block in _gated(step, report)),
        "## What people did",
        _log(report.people) or UNTOUCHED,
        *(["## Drift", _log(report.drift)] if report.drift else []),
        "## Retries and errors",
        _log(report.troubles) or QUIET,
        "## Appendix: the plan, as it was pinned",
        code(report.plan_path),
        fenced(report.plan, "yaml"),
        "## Appendix: what happened",
        fenced("\n".join(_line(entry) for entry in report.story)),
        f"All times are UTC. This report shows the rollout as of {_full(view.at)}. The journal in full: {journal}",
    ]
    return "\n\n".join(blocks) + "\n"


# --- escaping -------------------------------------------------------------------------------------


def text(given: str) -> str:
    """A text as inline Markdown that shows it, on one line, also in a table's cell."""
    one_line = " ".join(plain(given).split())
    escaped = _SPECIAL.sub(r"\\\1", one_line)
    escaped = _MARKUP.sub(lambda match: _ENTITIES[match[0]], escaped)
    return _OPENING.sub(lambda match: f"{match[0][:-1]}\\{match[0][-1]}", escaped)


def code(given: str) -> str:
    """A text as a code span. One that a table could tear apart, or a span cannot hold, becomes plain text."""
    one_line = " ".join(plain(given).split())
    return text(one_line) if not one_line or "|" in one_line or "`" in one_line else f"`{one_line}`"


def fenced(given: str, language: str = "") -> str:
    """A block of text as it is, in a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", given)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{plain(given).rstrip()}\n{fence}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Cells are Markdown already."""
    rule = ["---:" if column in right else "---" for column in range(len(heads))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rule, *rows))


# --- parts ----------------------------------------------------------------------------------------


def _why(report: Report) -> list[str]:
    first, *log = report.reason.splitlines() or [""]
    blocks = [f"**{'Result' if report.view.phase == 'succeeded' else 'Why'}:** {text(first)}"] if first else []
    if log:
        blocks.append(fenced("\n".join(log)))
    return [*blocks, *(f"> {text(note)}" for note in report.notes)]


def _facts(report: Report) -> list[tuple[str, str]]:
    view = report.view
    rows = [
        ("Rollout", code(view.id)),
        ("Endpoint", f"{text(view.endpoint)} ({text(view.provider)})"),
    ]
    for side in report.sides:
        digest = code(side.digest) if side.digest else "(not in the plan)"
        made_of = text("; ".join(f"{what} {value}" for what, value in side.made_of))
        rows.append((side.role.capitalize(), f"**{text(side.name)}** {digest}{'; ' if made_of else ''}{made_of}"))
    rows += [
        ("Plan", f"{code(view.bundle_sha256)} (sha256 of the plan and its files)"),
        ("Started", f"{_full(view.started_at)} by {text(report.starter)}"),
    ]
    if not view.active:
        rows.append(("Ended", f"{_full(view.updated_at)}, after {_took(view.seconds)}"))
    rows.append(("Traffic now" if view.active else "Traffic", text(_split(view.traffic) or "nothing")))
    if view.mirror:
        rows.append(("Mirror", text(_split(view.mirror))))
    if view.logs:
        rows.append(("Candidate's logs", code(view.logs)))
    rows += [(name, text(value)) for name, value in report.more]
    if report.drivers:
        rows.append(("Driven by", text("; ".join(report.drivers))))
    return rows


def _steps(report: Report) -> str:
    rows = []
    for step in report.steps:
        seen = step.view
        verdicts = ", ".join(f"{gate.view.name} {gate.view.verdict}" for gate in step.gates)
        way = "from here there was no way back" if step.no_return else ""
        traffic = _split(step.traffic) + (f"; mirrored to {_split(step.mirror)}" if step.mirror else "")
        rows.append(
            (
                str(seen.index),
                text(seen.name),
                report.state(step),
                f"{seen.started_at:%H:%M:%S}" if seen.started_at is not None else "",
                _took(step.took) if step.took is not None else "",
                text(traffic),
                "; ".join(text(part) for part in (verdicts, report.why(step), way) if part),
            )
        )
    return _table(("", "Step", "State", "Began", "Took", "Traffic", "Verdict"), rows, frozenset({0}))


def _gated(step: StepStory, report: Report) -> list[str]:
    seen = step.view
    guarded = "Guarded by the gates of the step before: they were only watched for FAIL." if step.guarded else ""
    blocks = [f"## Step {seen.index}: {text(seen.name)} ({seen.state})", *([guarded] if guarded else [])]
    for gate in step.gates:
        blocks += _gate(gate, report)
    return blocks


def _gate(gate: GateStory, report: Report) -> list[str]:
    seen = gate.view
    asks = f"{gate.asks}; alpha {show_rate(gate.alpha)}, beta {show_rate(gate.beta)}" if gate.asks else ""
    blocks = [f"### {text(seen.name)}: {seen.verdict}", f"{text(clause(seen))}."]
    if asks:
        blocks.append(f"It asks for: {text(asks)}.")
    blocks.append(_figures(gate, report))
    blocks += [f"Note: {text(note)}." for note in remarks(seen)]
    if not gate.polls:
        return blocks
    figures = charts.figures_chart(gate, report.names, COLUMNS)
    evidence = charts.evidence_chart(gate, COLUMNS)
    top = max([value for line in figures.lines for _, value in line.points if value is not None] + [0.0])
    top = max([top, *(mark.value for mark in figures.thresholds)]) * 1.05
    blocks += _chart(figures, axes.latencies(top) if gate.latency else axes.rates(top), lambda v: _shown(gate, v))
    blocks += _chart(evidence, evidence.axis, show_evidence)
    return [*blocks, _polls(gate, report)]


def _chart(chart: Chart, axis: Axis, show: Callable[[float], str]) -> list[str]:
    """Title, a row of blocks for each line, and the remarks."""
    width = max(len(line.label) for line in chart.lines)
    rows = [f"{line.label:<{width}}  {_spark(line, axis)}  {_ends(line, show)}".rstrip() for line in chart.lines]
    rows.append(f"{'scale':<{width}}  {show(axis.low)} to {show(axis.high)}")
    for mark in chart.thresholds:
        at = show(mark.value)
        rows.append(mark.label if at in mark.label else f"{mark.label} (at {at})")
    said = f"{chart.shared}. " if chart.shared else ""
    remarks = text(f"{said}{chart.remarks}")
    return [f"**{chart.title}**", fenced("\n".join(rows)), *([remarks] if remarks else [])]


def _figures(gate: GateStory, report: Report) -> str:
    names, seen = report.names, gate.view
    heads = ["", "Requests", gate.bad.capitalize(), "Share"]
    heads += [wording.quantile(gate.quantile)] if gate.latency else []
    rows = [_side(names.candidate, seen.candidate, gate), _side(names.stable, seen.stable, gate)]
    return _table(heads, rows, frozenset(range(1, len(heads))))


def _side(name: str, side: FiguresView | None, gate: GateStory) -> list[str]:
    if side is None:
        return [text(name), "no live traffic", "", "", *([""] if gate.latency else [])]
    cells = [text(name), f"{side.requests:,}", f"{side.bad:,}", show_rate(side.rate) if side.requests else "-"]
    if gate.latency:
        cells.append(f"≤ {show_latency(side.quantile_us)}" if side.quantile_us is not None else "-")
    return cells


def _spark(line: Line, axis: Axis) -> str:
    """A block for each point; a space where nothing is known."""
    places = ["" if value is None else BLOCKS[_block(axis.place(value))] for _, value in line.points]
    return "".join(place or " " for place in places)


def _block(height: float) -> int:
    return min(len(BLOCKS) - 1, round(height * (len(BLOCKS) - 1)))


def _ends(line: Line, show: Callable[[float], str]) -> str:
    """What a line ended with, and how low and how high single polls were."""
    known = [value for _, value in line.points if value is not None]
    if not known:
        return ""
    low = min([*known, *(low for _, low, _ in line.bands)])
    return f"last {show(known[-1])}, from {show(low)} to {show(line.highest)}"


def _shown(gate: GateStory, value: float) -> str:
    return show_value(gate, value).removeprefix("<= ") if value else "0"


def _polls(gate: GateStory, report: Report) -> str:
    """Some polls, evenly chosen, the first and the last among them."""
    last = len(gate.polls) - 1
    chosen = sorted({round(number * last / (ROWS - 1)) for number in range(ROWS)})
    names = report.names
    heads = ("Poll", "At", text(names.candidate), text(names.stable), "For FAIL", "For PASS")
    rows = [_poll(number, gate.polls[number], gate) for number in chosen]
    return _table(heads, rows, frozenset({0, 2, 3, 4, 5}))


def _poll(number: int, poll: Poll, gate: GateStory) -> tuple[str, ...]:
    cells = []
    for side in (poll.candidate, poll.stable):
        if side is None:
            cells.append("-")
        elif side.bad is not None:
            cells.append(f"{side.bad:,} of {side.requests:,}")
        else:
            cells.append(f"{text(show_value(gate, side.value))} ({side.requests:,})")
    mark = "" if poll.counted else " (not counted)"
    at = f"{clock(poll.at)}{mark}"
    return (str(number + 1), at, *cells, show_evidence(poll.fail), show_evidence(poll.passed))


def _log(entries: Sequence[Entry]) -> str:
    rows = [(_at(entry.at), text(entry.who), text(entry.text)) for entry in entries]
    return _table(("When", "Who", "What"), rows) if rows else ""


def _line(entry: Entry) -> str:
    """One line of the journal; further lines of it are indented."""
    if entry.at is None:
        return f"... {entry.text}"
    first, *rest = entry.text.splitlines() or [""]
    indent = "" if entry.chapter else "  "
    return "\n".join([f"{_at(entry.at)}  {indent}{first}", *(f"{'':>23}{more}" for more in rest)])


def _split(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:g}%" for name, share in shares.items())


def _took(seconds: float) -> str:
    return show_duration(seconds if seconds < 10 else round(seconds))


def _at(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at is not None else ""


def _full(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
