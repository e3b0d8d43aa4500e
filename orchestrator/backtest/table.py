"""A recording from a CSV file: counts and histograms of each minute, as a monitoring system can export them.

    minute,deployment,source,requests,errors,le_100ms,le_250ms,le_inf
    2026-11-22T17:00Z,blue,live,5400,27,3100,5210,5400
    2026-11-22T17:00Z,green,live,600,3,350,580,600

Strangers write these files, so every line is checked before anything is judged, and what is wrong with the first bad
one is said with its number. A file that is only nearly right is refused: a count that was guessed would look like
evidence. `docs/backtest.md` describes the columns.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.backtest.columns import Columns, Row, Unusable, columns_of
from orchestrator.backtest.recording import Recording, Window, renamed
from orchestrator.errors import Refused
from orchestrator.standing import Roles
from providers.measurement import RESET, TIMEOUT, Cursor, Histogram, Leg, Measurement

MOST_ROWS = 250_000
"""Two deployments for four weeks, live and mirrored, minute by minute, and some."""
LARGEST = 200_000_000
"""Bytes."""
SLOWEST = 3_600_000_000
"""Microseconds: the upper bound of what was answered and is above the last column."""


def read(path: Path, roles: Roles, *, candidate: str | None, stable: str | None, gaps: bool) -> Recording:
    """A file of counts.

    Args:
        path: of the file. roles: of the plan.
        candidate, stable: what they are called in the file; as in the plan without them.
        gaps: nobody minds windows that are missing; nothing is known of them.

    Raises Refused, with the line, for a file that cannot be used.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise Refused(f"{path}: larger than {LARGEST // 1_000_000} MB; cut it to the time of one rollout")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise Refused(f"{path}: cannot be read ({error.strerror}); name a CSV file or a rollout with --from") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Refused(f"{path}:{line}: is not UTF-8 text; save it as CSV in UTF-8") from error
    try:
        return recording_of(text, path.name, roles, candidate=candidate, stable=stable, gaps=gaps)
    except Unusable as error:
        raise Refused(f"{path}{f':{error.line}' if error.line else ''}: {error}") from error


def recording_of(
    text: str, name: str, roles: Roles, *, candidate: str | None, stable: str | None, gaps: bool
) -> Recording:
    """The same, of the file's text. Raises Unusable."""
    columns, rows = _rows(text)
    candidate = candidate or roles.candidate or ""
    stable = (stable or roles.stable) if roles.stable else None
    names = {candidate: roles.candidate or ""}
    if stable is not None:
        if stable == candidate:
            raise Unusable(f"{stable} cannot be both the candidate and stable; say --candidate NAME --stable NAME")
        names[stable] = roles.stable or ""
    there = {row.deployment for row in rows}
    for role, wanted in (("candidate", candidate), ("stable", stable)):
        if wanted is not None and wanted not in there:
            has = ", ".join(sorted(there)[:5])
            raise Unusable(f"no row is about {wanted}, the {role}, but about {has}; say --{role} NAME")
    windows: list[Window] = []
    holes = 0
    for group in _groups(rows):
        measurement = _measurement(group, columns, names)
        if windows and measurement.start > windows[-1].measurement.end:
            holes += _hole(windows[-1].measurement.end, group[0], gaps=gaps)
        sources = {row.source for row in group if row.deployment == candidate}
        windows.append(Window(len(windows) + 1, measurement, "mirror" in sources, "live" in sources))
    if not any(window.mirrored or window.live for window in windows):
        raise Unusable(f"{candidate} has only direct requests; a plan's steps need rows with source live or mirror")
    notes = (
        [f"the recording lacks windows in {holes} place{'s' * (holes > 1)}; its clocks stand still there"]
        if holes
        else []
    )
    notes += [f"{name} calls the {role} {was}" for role, was in _called(roles, candidate, stable)]
    return Recording(name, tuple(windows), candidate, stable, bool(columns.statuses), notes=tuple(notes))


def _called(roles: Roles, candidate: str, stable: str | None) -> Iterator[tuple[str, str]]:
    if candidate != roles.candidate:
        yield f"candidate {roles.candidate}", candidate
    if stable is not None and roles.stable is not None and stable != roles.stable:
        yield f"stable deployment {roles.stable}", stable


def _rows(text: str) -> tuple[Columns, list[Row]]:
    """Header and rows, each checked for itself. Raises Unusable."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: Columns | None = None
    rows: list[Row] = []
    try:
        for cells in reader:
            if not cells or cells == [""]:
                continue
            if columns is None:
                columns = columns_of(cells, reader.line_num)
                continue
            if len(rows) >= MOST_ROWS:
                raise Unusable(f"more than {MOST_ROWS:,} rows; cut it to the time of one rollout", reader.line_num)
            rows.append(columns.row(cells, reader.line_num))
    except csv.Error as error:
        raise Unusable(
            f"is not CSV ({error}); write commas between values, and quotes in pairs", reader.line_num
        ) from error
    if columns is None:
        raise Unusable("is empty; its first line must name the columns: minute,deployment,source,requests,errors")
    if not rows:
        raise Unusable("has no rows below its header; write one for each minute, deployment and source")
    return columns, rows


def _groups(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows of each window, in the order of time. Raises Unusable where they are not in order, or overlap."""
    group: list[Row] = []
    for row in rows:
        if group and (row.start, row.end) != (group[0].start, group[0].end):
            if row.start < group[0].start:
                raise Unusable(f"begins at {_at(row.start)}, before the row above it; sort the rows by time", row.line)
            if row.start < group[0].end:
                raise Unusable(
                    f"begins at {_at(row.start)}, while the window of line {group[0].line} lasts until "
                    f"{_at(group[0].end)}; windows must not overlap",
                    row.line,
                )
            yield group
            group = []
        for other in group:
            if (other.deployment, other.source) == (row.deployment, row.source):
                raise Unusable(
                    f"{row.deployment} ({row.source}) has this window in line {other.line} already; write one row for "
                    "each window, deployment and source",
                    row.line,
                )
        group.append(row)
    yield group


def _hole(end: datetime, row: Row, *, gaps: bool) -> int:
    """1 for a hole that nobody minds. Raises Unusable for one that nobody has spoken of."""
    if not gaps:
        raise Unusable(
            f"nothing is recorded between {_at(end)} and {_at(row.start)}; write rows with 0 requests if there were "
            "none, or say --gaps if nobody counted",
            row.line,
        )
    return 1


def _measurement(group: Sequence[Row], columns: Columns, names: Mapping[str, str]) -> Measurement:
    legs = tuple(_leg(row, columns) for row in group)
    whole = Measurement(group[0].start, group[0].end, legs, Cursor("csv", group[0].end))
    return Measurement(whole.start, whole.end, renamed(whole, names), whole.cursor)


def _leg(row: Row, columns: Columns) -> Leg:
    if columns.statuses:
        classes = {status: count for status, count in zip(columns.statuses, row.statuses, strict=True) if count}
    else:
        # Only gates that count the usual errors are judged by these: see `Recording.classes`.
        classes = {"200": row.requests - row.errors, "500": row.errors}
    return Leg(row.deployment, row.source, row.requests, classes, _latency(row, columns, classes))


def _latency(row: Row, columns: Columns, classes: Mapping[str, int]) -> Histogram | None:
    """Cumulative counts as buckets. What was answered above the last bound is slower than it, and nothing more is
    known; what got no answer is slower than anything.
    """
    if row.buckets is None:
        return None
    silent = sum(classes.get(each, 0) for each in (TIMEOUT, RESET))
    answered = row.answered if row.answered is not None else row.requests - silent
    buckets, lower, below = [], 0, 0
    for upper, count in zip((*columns.bounds, SLOWEST), (*row.buckets, answered), strict=True):
        if count > below:
            buckets.append((lower, upper, count - below))
        lower, below = upper, count
    return Histogram(tuple(buckets), row.requests - answered)


def _at(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
