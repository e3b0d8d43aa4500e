"""What the columns of a CSV recording are called, and what a single row may hold.

The names say units and kinds, so that nobody has to guess: `le_250ms` is cumulative as Prometheus's `le` is, a time
says its zone, a count is a whole number.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import cast, get_args

from plans.units import parse_latency
from providers.measurement import RESET, TIMEOUT, Source

A_MINUTE = timedelta(minutes=1)
FIXED = ("minute", "start", "end", "deployment", "source", "requests", "errors")
KNOWN = "minute (or start and end), deployment, source, requests, errors (or status_<code>), le_<latency>, le_inf"
SOURCES: tuple[str, ...] = get_args(Source)
MOST = 10**12
"""No window has more requests."""


class Unusable(ValueError):
    """The file cannot be used as it is. `line`: where, 0 for the file as a whole."""

    def __init__(self, problem: str, line: int = 0) -> None:
        super().__init__(problem)
        self.line = line


@dataclass(frozen=True, slots=True)
class Row:
    """One row, checked for itself.

    Attributes:
        line: in the file, from 1.
        start, end: of its window, aware UTC.
        deployment, source: whose requests.
        requests: all of them. errors: how many were; statuses: of each status column; one of the two is meant.
        buckets: cumulative counts, one for each bound, or None where nothing is known of latencies.
        answered: the count of le_inf, None without that column.
    """

    line: int
    start: datetime
    end: datetime
    deployment: str
    source: Source
    requests: int
    errors: int
    statuses: tuple[int, ...]
    buckets: tuple[int, ...] | None
    answered: int | None


@dataclass(frozen=True, slots=True)
class Columns:
    """A header that makes sense.

    Attributes:
        at: name -> place.
        statuses: classes that have a column: "200", "503", `timeout`, `reset`; none where there is `errors`.
        bounds: of the latency columns, ascending, microseconds. named: what these columns are called.
        width: how many columns there are.
    """

    at: Mapping[str, int]
    statuses: tuple[str, ...]
    bounds: tuple[int, ...]
    named: tuple[str, ...]
    width: int

    def row(self, cells: Sequence[str], line: int) -> Row:
        """A row of the file. Raises Unusable."""
        if len(cells) != self.width:
            raise Unusable(
                f"has {_values(len(cells))}, and the header has {self.width}; write one for each column", line
            )
        start, end = self._window(cells, line)
        deployment, source = (cells[self.at[name]].strip() for name in ("deployment", "source"))
        if not deployment:
            raise Unusable("names no deployment; write whose requests they are", line)
        if source not in SOURCES:
            raise Unusable(f"source is {_quoted(source)}; write {' or '.join(SOURCES)}", line)
        requests = self._count(cells, "requests", line)
        statuses = tuple(self._count(cells, f"status_{status}", line) for status in self.statuses)
        errors = self._count(cells, "errors", line) if not self.statuses else 0
        if errors > requests:
            raise Unusable(f"has more errors ({errors:,}) than requests ({requests:,}); correct the row", line)
        if self.statuses and sum(statuses) != requests:
            raise Unusable(
                f"has {requests:,} requests, and its status columns add up to {sum(statuses):,}; give every status "
                "a column",
                line,
            )
        buckets, answered = self._latencies(cells, requests, line)
        return Row(line, start, end, deployment, cast(Source, source), requests, errors, statuses, buckets, answered)

    def _window(self, cells: Sequence[str], line: int) -> tuple[datetime, datetime]:
        if "minute" in self.at:
            start = _instant(cells[self.at["minute"]], "minute", line)
            return start, start + A_MINUTE
        start, end = (_instant(cells[self.at[name]], name, line) for name in ("start", "end"))
        if end <= start:
            raise Unusable(
                f"ends at {cells[self.at['end']].strip()}, which is not after its start; write the end of the window",
                line,
            )
        return start, end

    def _count(self, cells: Sequence[str], name: str, line: int) -> int:
        text = cells[self.at[name]].strip()
        if not re.fullmatch(r"[0-9]{1,13}", text, re.ASCII) or int(text) > MOST:
            raise Unusable(f"{name} is {_quoted(text)}; write a whole number from 0 on", line)
        return int(text)

    def _latencies(self, cells: Sequence[str], requests: int, line: int) -> tuple[tuple[int, ...] | None, int | None]:
        """Cumulative counts, and that of le_inf; None and None where all of them are left empty."""
        named = [*self.named, *(["le_inf"] if "le_inf" in self.at else [])]
        if not self.named or all(not cells[self.at[name]].strip() for name in named):
            return None, None
        counts = [self._count(cells, name, line) for name in named]
        for (before, below), (name, count) in pairwise(zip(named, counts, strict=True)):
            if count < below:
                raise Unusable(
                    f"{name} is {count:,}, less than {before} with {below:,}; the columns are cumulative, as "
                    "Prometheus's le is",
                    line,
                )
        if counts[-1] > requests:
            raise Unusable(f"{named[-1]} is {counts[-1]:,}, more than its {requests:,} requests; correct the row", line)
        if "le_inf" in self.at:
            return tuple(counts[:-1]), counts[-1]
        silent = sum(self._count(cells, f"status_{c}", line) for c in (TIMEOUT, RESET) if c in self.statuses)
        if counts[-1] > requests - silent:
            most, last = requests - silent, named[-1]
            raise Unusable(f"{last} is {counts[-1]:,}, and only {most:,} requests got an answer; correct the row", line)
        return tuple(counts), None


def columns_of(cells: Sequence[str], line: int) -> Columns:
    """What a header names. Raises Unusable."""
    names = [cell.strip() for cell in cells]
    at: dict[str, int] = {}
    statuses, bounds = [], {}
    for place, name in enumerate(names):
        if name in at:
            raise Unusable(f"names the column {name} twice; take one of them out", line)
        at[name] = place
        if name.startswith("status_"):
            statuses.append(_status(name, line))
        elif name.startswith("le_") and name != "le_inf":
            bounds[name] = _bound(name, line)
        elif name not in FIXED and name != "le_inf":
            raise Unusable(f"has a column {_quoted(name)}, which means nothing here; there are {KNOWN}", line)
    _complete(at, statuses, bounds, line)
    return Columns(at, tuple(statuses), tuple(bounds.values()), tuple(bounds), len(names))


def _complete(at: Mapping[str, int], statuses: Sequence[str], bounds: Mapping[str, int], line: int) -> None:
    for name in ("deployment", "source", "requests"):
        if name not in at:
            raise Unusable(f"has no column {name}; there are {KNOWN}", line)
    if "minute" in at and ("start" in at or "end" in at):
        raise Unusable("has minute beside start or end; give either minute, or start and end", line)
    if "minute" not in at and not ("start" in at and "end" in at):
        raise Unusable("does not say when; give a column minute, or start and end", line)
    if ("errors" in at) == bool(statuses):
        has = "has both" if statuses else "has neither"
        raise Unusable(f"needs errors or status_<code> columns, and not both: it {has}", line)
    values = list(bounds.values())
    if sorted(set(values)) != values:
        raise Unusable("has latency columns that do not ascend; order them from the fastest to the slowest", line)
    if "le_inf" in at and not (bounds and all(at[name] < at["le_inf"] for name in bounds)):
        raise Unusable("has le_inf, which belongs after other le_<latency> columns", line)


def _status(name: str, line: int) -> str:
    status = name.removeprefix("status_")
    if status in (TIMEOUT, RESET) or re.fullmatch("[1-5][0-9][0-9]", status, re.ASCII):
        return status
    raise Unusable(
        f"has a column {_quoted(name)}; write status_ and one code, as in status_503, or status_timeout, status_reset; "
        "where only the number of errors is known, a column errors",
        line,
    )


def _bound(name: str, line: int) -> int:
    try:
        return cast(int, parse_latency(name.removeprefix("le_")))
    except ValueError as error:
        raise Unusable(f"column {_quoted(name)}: {error}, as in le_250ms", line) from None


def _instant(text: str, name: str, line: int) -> datetime:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Unusable(f"{name} is {_quoted(text)}; write a time such as 2026-11-22T17:00:00Z", line) from None
    if found.tzinfo is None:
        raise Unusable(f"{name} is {_quoted(text)}, without a zone; write 2026-11-22T17:00:00Z for UTC", line)
    if not 1970 <= found.year < 9999:
        raise Unusable(f"{name} is {_quoted(text)}; write a time since 1970", line)
    return found.astimezone(UTC)


def _values(count: int) -> str:
    return f"{count} value{'' if count == 1 else 's'}"


def _quoted(text: str) -> str:
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    return f"`{''.join(c if c.isprintable() else '?' for c in shown)}`"
