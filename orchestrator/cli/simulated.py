"""A simulation on the screen, as JSON and as a picture; and its progress, on a terminal's stderr only."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import click

from orchestrator.cli.cells import cut
from orchestrator.gates import wording
from orchestrator.preview import Preview
from orchestrator.simulate.study import RESOLUTION, Kind, Result, Smallest
from orchestrator.simulate.summary import Row, Share, Spread
from plans.units import show_duration

if TYPE_CHECKING:
    from rich import progress

NAME = 34
"""Columns for what is wrong with a candidate."""


class Told:
    """A bar that fills while rollouts end; nothing where stderr is no terminal."""

    def __init__(self, rows: int, rollouts: int) -> None:
        self._bar: progress.Progress | None = None
        self._total = rows * rollouts
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("rollouts", total=self._total)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def of(self, name: str) -> Callable[[int], None]:
        """Who is told of the rollouts of this row."""
        if self._bar is not None:
            self._bar.update(self._task, description=f"{cut(name, NAME, '…'):<{NAME}}")
        return self.told

    def searching(self, kind: Kind) -> None:
        """The search for the smallest regression of a kind begins: how long it takes is not known."""
        if self._bar is not None:
            text = f"smallest regression of {kind} caught"
            self._bar.update(self._task, description=f"{text:<{NAME}}", total=None)

    def told(self, count: int) -> None:
        """So many more have ended."""
        if self._bar is not None:
            self._bar.advance(self._task, count)


def show(found: Preview, result: Result, where: tuple[Path, int] | None) -> None:
    """The table, the smallest regressions, and what to know besides."""
    click.echo(f"{_title(found)}\n  {_traffic(result)}\n  {_how_many(result)}\n")
    harmless = [row for row in result.rows if row.change.harmless]
    harmful = [row for row in result.rows if not row.change.harmless]
    blocks = [("within every tolerance: to be stopped is a false alarm", harmless), ("to be caught", harmful)]
    table = [(heading, rows, [_cells(row) for row in rows]) for heading, rows in blocks if rows]
    heads = ("", "STOPPED", "THROUGH", "UNDECIDED", "STOPPED AFTER", "REQUESTS", "BAD", "THROUGH AFTER")
    every = [heads, *(cells for _, _, rows in table for cells in rows)]
    widths = [max(len(cells[column]) for cells in every) for column in range(len(heads))]
    if table:
        click.echo(_line(heads, widths))
    for heading, _, rows in table:
        click.echo(heading)
        for cells in rows:
            click.echo(_line(cells, widths))
    if result.rows:
        click.echo(
            "\nShares with their 95% intervals; figures as median / what 95 of 100 stay below. REQUESTS and BAD are\n"
            "answers of the candidate that clients got before it was stopped."
        )
    for sentence in (*_searches(result), *_notes(found, result)):
        click.echo(sentence)
    if where is not None:
        click.echo(f"the picture is in {where[0]} ({max(1, round(where[1] / 1000))} kB)")
    if not result.complete:
        click.echo(_broken_off(result), err=True)


def shown_json(found: Preview, result: Result) -> dict[str, Any]:
    """The same, for programs: shares are 0 to 1, durations seconds, latency in multiples."""
    base = result.study.baseline
    return {
        "plan": found.bundle.path,
        "name": found.bundle.name,
        "bundle_sha256": found.bundle.sha256,
        "provider": found.bundle.plan.provider.name,
        "complete": result.complete,
        "seed": result.study.seed,
        "rollouts": result.rollouts,
        "paired": result.study.rules.joins,
        "baseline": {
            "requests_per_second": base.rate,
            "errors": base.errors,
            "p95_us": round(base.latencies.quantile(0.95)),
            "clusters": base.clusters,
            "drift": base.drift,
            "sources": {figure.name: figure.source for figure in result.figures},
        },
        "rows": [_row_json(row) for row in result.rows],
        "smallest": [_smallest_json(each) for each in result.smallest],
        "notes": list(_notes(found, result)),
    }


def drawn(file: Path, form: str, found: Preview, result: Result, *, force: bool) -> tuple[Path, int]:
    """Draw the table into a file; returns it with its size in bytes. Raises UsageError when it cannot be written."""
    from orchestrator import ids
    from orchestrator.report import file as files
    from orchestrator.simulate.picture import picture

    said = [_traffic(result), _how_many(result), *_searches(result)]
    kind: Literal["svg", "html"] = "svg" if form == "svg" else "html"
    text = picture(_title(found), said, result.rows, kind)
    return file, files.write(file, text, force=force, token=ids.event_id())


# --- words ----------------------------------------------------------------------------------------


def _title(found: Preview) -> str:
    return f"{found.bundle.name} on simulated traffic ({found.bundle.plan.provider.name})"


def _traffic(result: Result) -> str:
    return ", ".join(f"{each.name} {each.shown} ({each.source})" for each in result.figures)


def _how_many(result: Result) -> str:
    pairs = "mirrored requests are joined with their twins" if result.study.rules.joins else "no pairs are joined"
    return f"{result.rollouts:,} rollouts a row, seed {result.study.seed}; {pairs}"


def _searches(result: Result) -> Iterator[str]:
    if result.smallest:
        within = f"to within {wording.percent(RESOLUTION - 1)}"
        yield f"Smallest regression caught nine times in ten, {within}: {'; '.join(map(_found, result.smallest))}."


def _found(each: Smallest) -> str:
    if each.caught is None:
        return f"none of {each.kind}"
    size, share = each.caught
    shown = f"errors +{wording.percent(size)}" if each.kind == "errors" else f"latency x{size:.3g}"
    return f"{shown} (stopped {share.count} of {share.of})" + ("" if each.missed else ", or less")


def _notes(found: Preview, result: Result) -> Iterator[str]:
    """What the result does not say by itself."""
    if any(row.caught.count > row.rolled_back for row in result.rows):
        yield "note: some stops are pauses (`on_fail: pause`): the candidate keeps its traffic until somebody decides"
    spent = [row for row in result.rows if row.change.harmless and row.gates.get("budget")]
    if spent:
        most = max(spent, key=lambda row: row.gates["budget"])
        share = Share(most.gates["budget"], most.rollouts)
        yield (
            f"note: the budget of bad responses, not a gate, stopped {_percent(share)} of {most.change.name}: so many "
            "answers have that many errors by themselves, so raise it"
        )
    answers = {stage.on_undecided for stage in found.stages if stage.gates}
    if any(row.undecided.count for row in result.rows):
        yield f"note: undecided at a step's deadline means: {' or '.join(sorted(answers))}"
    if any(row.no_data.count for row in result.rows):
        most = max(result.rows, key=lambda row: row.no_data.count)
        yield f"note: {most.no_data.count} of {most.rollouts} rollouts ({most.change.name}) had a gate without data"
    slow = result.study.view.slow
    if slow is not None and any(row.change.latency != 1 for row in result.rows):
        yield f"note: where the latency changes, an answer that takes more than {wording.duration(slow)} is bad, too"
    for sentence in result.caveats:
        yield f"note: {sentence}"


def _broken_off(result: Result) -> str:
    done = [row for row in result.rows if row.rollouts == result.rollouts]
    part = "".join(
        f", and {row.rollouts:,} of {result.rollouts:,} rollouts of {row.change.name}"
        for row in result.rows
        if row.rollouts < result.rollouts
    )
    searched = f"; {len(result.smallest)} smallest regressions were found" if len(done) == result.asked else ""
    return f"rollout: interrupted: {len(done)} of {result.asked} rows were simulated{part}{searched}"


# --- cells ----------------------------------------------------------------------------------------


def _cells(row: Row) -> tuple[str, ...]:
    undecided = Share(row.undecided.count + row.no_data.count, row.rollouts)
    return (
        f"  {cut(row.change.name, NAME, '…')}",
        _share(row.caught),
        _percent(row.through),
        _percent(undecided),
        _times(row.caught_after),
        _counts(row.requests),
        _counts(row.bad),
        _times(row.through_after),
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        f"{cell:<{width}}" if not at else f"{cell:>{width}}"
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()


def _share(share: Share) -> str:
    return f"{_percent(share)} ({100 * share.low:.1f}-{100 * share.high:.1f}%)"


def _percent(share: Share) -> str:
    return f"{100 * share.rate:.1f}%"


def _times(spread: Spread | None) -> str:
    return f"{show_duration(round(spread.median))} / {show_duration(round(spread.p95))}" if spread is not None else "-"


def _counts(spread: Spread | None) -> str:
    return f"{spread.median:,.0f} / {spread.p95:,.0f}" if spread is not None else "-"


# --- JSON -----------------------------------------------------------------------------------------


def _row_json(row: Row) -> dict[str, Any]:
    change = row.change
    return {
        "name": change.name,
        "change": {
            "errors": change.errors,
            "latency": change.latency,
            "answers": change.answers,
            "missing": change.missing,
            "incident": change.incident,
            "begins": change.begins,
        },
        "harmless": change.harmless,
        "rollouts": row.rollouts,
        "stopped": _share_json(row.caught),
        "rolled_back": row.rolled_back,
        "through": _share_json(row.through),
        "undecided": _share_json(row.undecided),
        "no_data": _share_json(row.no_data),
        "requests": _spread_json(row.requests),
        "bad_responses": _spread_json(row.bad),
        "stopped_after": _spread_json(row.caught_after),
        "through_after": _spread_json(row.through_after),
        "stopped_in": [{"stage": name, "rollouts": count} for name, count in row.stages.items()],
        "stopped_by": [{"gate": name, "rollouts": count} for name, count in row.gates.items()],
    }


def _share_json(share: Share) -> dict[str, Any]:
    return {"count": share.count, "share": share.rate, "low": share.low, "high": share.high}


def _spread_json(spread: Spread | None) -> dict[str, Any] | None:
    return {"median": spread.median, "p95": spread.p95} if spread is not None else None


def _smallest_json(each: Smallest) -> dict[str, Any]:
    def told(tried: tuple[float, Share] | None) -> dict[str, Any] | None:
        return {"size": tried[0], "stopped": _share_json(tried[1])} if tried is not None else None

    return {"kind": each.kind, "caught": told(each.caught), "missed": told(each.missed), "resolution": RESOLUTION}
