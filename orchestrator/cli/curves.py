"""Green against blue over the last polls: one sparkline a side, for p95 and for the share of errors.

Both sides of a curve share one scale, so that equal heights mean equal values. That of errors begins at zero; that of
p95 a little below the lowest value, because latencies that differ by a tenth would look the same from zero.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from rich.text import Text

from orchestrator.cli.cells import pad, widest
from orchestrator.cli.paint import Paint
from orchestrator.views import Point, RolloutView
from plans.units import show_latency, show_rate

SIDES: tuple[Literal["stable", "candidate"], ...] = ("stable", "candidate")
LEAST_ERRORS = 0.01
"""Top of the scale of errors at least, so that one error in a thousand is no tower."""
TITLE, VALUE = 8, 10
"""Columns for what a curve shows, and for its last value."""


def curves(points: Sequence[Point], view: RolloutView, paint: Paint, width: int, blocks: str) -> list[Text]:
    """Both curves beside each other where there is room, else below each other; nothing before two polls."""
    if len({point.at for point in points}) < 2:
        return []
    half = (width - 4) // 2
    wide = half >= 46
    own = half if wide else width - 2
    latency = _curve("p95", points, view, paint, own, blocks, _p95, show_latency, 0.0)
    errors = _curve("errors", points, view, paint, own, blocks, _rate, show_rate, LEAST_ERRORS)
    if not wide:
        return [Text.assemble("  ", line) for line in (*latency, *errors)]
    rows = []
    for left, right in zip(latency, errors, strict=True):
        left.pad_right(half - left.cell_len)
        rows.append(Text.assemble("  ", left, "  ", right))
    return rows


def _p95(point: Point) -> float | None:
    return point.p95_us


def _rate(point: Point) -> float | None:
    return point.bad / point.requests if point.requests else None


def _curve(
    title: str,
    points: Sequence[Point],
    view: RolloutView,
    paint: Paint,
    width: int,
    blocks: str,
    value: Callable[[Point], float | None],
    show: Callable[[float], str],
    least: float,
) -> list[Text]:
    names = {"stable": view.stable or "stable", "candidate": view.candidate or "candidate"}
    label = widest(list(names.values()))
    room = max(5, width - TITLE - label - 2 - VALUE)
    times = sorted({point.at for point in points})[-room:]
    series = {side: {p.at: value(p) for p in points if p.side == side} for side in SIDES}
    known = [v for side in SIDES for at in times if (v := series[side].get(at)) is not None]
    top = max([least, *known]) or 1.0
    bottom = 0.0 if least else 0.8 * min(known, default=0.0)
    rows = []
    for number, side in enumerate(SIDES):
        values = [series[side].get(at) for at in times]
        spark = "".join(" " if v is None else _block((v - bottom) / (top - bottom), blocks) for v in values)
        latest = next((v for v in reversed(values) if v is not None), None)
        row = Text.assemble((f"{title if not number else '':<{TITLE}}", "bold"))
        row.append(f"{pad(names[side], label)}  ", style=paint.style(names[side]))
        row.append(spark, style=paint.style(names[side]))
        row.append(f"  {show(latest) if latest is not None else '-'}")
        rows.append(row)
    return rows


def _block(height: float, blocks: str) -> str:
    """The block for a height of 0..1."""
    return blocks[max(0, min(len(blocks) - 1, round(height * (len(blocks) - 1))))]
