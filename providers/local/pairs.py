"""Lines of Envoy's log of mirrored requests -> pairs: how a copy ended, and how its live twin did.

Each leg of a mirrored request writes one line when it ends, the live one and its copy in any order, and up to half a
second later it is in the file. A pair is told by the measurement that reads its second line. Halves whose other half
may still come are carried in the cursor, for as long as the deployment that is waited for may take to answer.

What cannot be joined is said, in two ways that count every lost copy once:

    twin      the copy is in the log, and the live line never came, or says only that the client went away
    dropped   Envoy's counters know of more copies than the log does: no healthy instance was there for it (such a copy
              writes no line), or its line was lost

The counters are read before the log, and the log lags, so they are compared as of an earlier reading: the copies
counted *then* with the lines whose requests had ended *by then*, when every such line is surely in the file. Nothing
that may still come is called dropped, at the price that it is told one measurement later. What was told is never taken
back; a line that comes too late after all makes the next increment smaller (as in `measure`).

The class of a leg, by status and flags, is the one that `measure` makes of the counters (see its table). A leg without
status and flags either took as long as its deployment may, or its client went away.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.local.xds import SUFFIXES
from providers.measurement import RESET, TIMEOUT, Pairs

LATE_S = 2.0
"""After which a line is in the file: Envoy writes every 0.5 s."""
PATIENCE_S = 4.0
"""How long a half is waited for beyond the time-out of its deployment: connecting takes up to 2 s, writing the rest."""
MOST_HALVES = 5_000
"""Carried for each side; of more, the oldest are given up."""
MOST_LATENCIES = 2_000
"""Different pairs of latencies that are told with three digits; of more, two digits are."""
_ANSWERED = "-"
_ABANDONED = ""
_ELSEWHERE = "*"
_LONGEST_ID = 64
_LAST = 1e11
_NEARLY = 0.9
"""Envoy's timers run on the loop's time, some milliseconds behind."""

Half = tuple[str, int | None, float]
"""Class ("" where the client went away, "*" for a twin that neither side answered), latency in microseconds, when the
request ended."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two deployments.

    Attributes:
        name: its own.
        generation: whose requests count.
        born: when that was made, seconds since 1970.
        timeout_s: for one request.
    """

    name: str
    generation: str
    born: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Sides:
    """Whose requests are joined.

    Attributes:
        candidate: gets the copies.
        stable: answers their twins.
        longest_s: the longest time-out of any deployment that may answer a twin.
    """

    candidate: Side
    stable: Side
    longest_s: float

    @property
    def generations(self) -> str:
        """Both, as text."""
        return " ".join(f"{side.name}~{side.generation}" for side in (self.candidate, self.stable))

    @property
    def born(self) -> float:
        """Requests from before are of other generations."""
        return max(self.candidate.born, self.stable.born)


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known besides the lines.

    Attributes:
        before, now: when the counters were read the last time, and this time, seconds since 1970.
        copies: how many more copies they have than the last time.
        gap: whether some of the lines may have been read before.
    """

    before: float
    now: float
    copies: int
    gap: bool = False


@dataclass(slots=True)
class Joining:
    """What is carried from one measurement to the next.

    Attributes:
        of: the generations of both sides; of others nothing is carried.
        since: requests that ended before are nobody's, seconds since 1970.
        live, copies: id -> the half that waits for its other half.
        counted: copies that the counters know of.
        check: (when they were read, copies they knew of then, lines of copies that had ended by then).
        after: lines of copies that ended after that.
        dropped: copies that were told as dropped.
    """

    of: str = ""
    since: float = 0.0
    live: dict[str, Half] = field(default_factory=dict)
    copies: dict[str, Half] = field(default_factory=dict)
    counted: int = 0
    check: tuple[float, int, int] = (0.0, 0, 0)
    after: int = 0
    dropped: int = 0

    def json(self) -> dict[str, Any]:
        """For a cursor."""
        return {
            "of": self.of,
            "since": self.since,
            "live": _written(self.live),
            "copies": _written(self.copies),
            "counts": [self.counted, *self.check, self.after, self.dropped],
        }

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "Joining":
        """From a cursor."""
        counted, at, then, lines, after, dropped = raw["counts"]
        live, copies = (_halves(raw[name]) for name in ("live", "copies"))
        return cls(raw["of"], raw["since"], live, copies, counted, (at, then, lines), after, dropped)


def first(lines: Iterable[bytes], sides: Sides, began: float) -> Joining:
    """Where joining begins: nothing is told of what ended before; live requests whose copies are under way are known.

    Args:
        lines: the last ones of the log.
        sides: whose.
        began: before the counters were read, so that a copy that ended meanwhile is not called dropped.
    """
    joining = Joining(sides.generations, began, check=(began, 0, 0))
    _join(joining, lines, sides)
    _given_up(joining, sides, began)
    return joining


def since(joining: Joining, lines: Iterable[bytes], sides: Sides, reading: Reading) -> Pairs:
    """The pairs that these lines complete; `joining` becomes what is to be carried on."""
    if joining.of != sides.generations:
        # One of them appeared, or another one took its name, since the cursor: all of it came since then.
        joining.of, joining.counted, joining.check = sides.generations, 0, (reading.before, 0, 0)
        joining.after = joining.dropped = 0
        joining.live.clear()
        joining.copies.clear()
    if reading.gap:
        joining.since = max(joining.since, reading.before)
    joined, twinless = _join(joining, lines, sides)
    twinless += _given_up(joining, sides, reading.now)
    joining.counted += reading.copies
    dropped = _dropped(joining, reading.now)
    return told(joined, {name: n for name, n in (("dropped", dropped), ("twin", twinless)) if n})


def told(joined: Iterable[tuple[Half, Half]], missing: Mapping[str, int]) -> Pairs:
    """Pairs of (copy, twin) as they are reported, with as many digits as keep the report short."""
    classes: Counter[tuple[str, str]] = Counter()
    exact: Counter[tuple[int | None, int | None]] = Counter()
    for copy, twin in joined:
        classes[copy[0], twin[0]] += 1
        exact[copy[1], twin[1]] += 1
    digits = 3
    latencies = _cut(exact, digits)
    if len(latencies) > MOST_LATENCIES:
        digits = 2
        latencies = _cut(exact, digits)
    return Pairs(
        tuple((copy, twin, n) for (copy, twin), n in sorted(classes.items())),
        tuple((copy, twin, n) for (copy, twin), n in sorted(latencies.items(), key=_by_latency)),
        missing,
        digits,
    )


def cut(us: int, digits: int) -> int:
    """A latency with that many significant digits, cut, never rounded up."""
    step: int = 10 ** max(len(str(us)) - digits, 0)
    return us // step * step


def _cut(exact: Mapping[tuple[int | None, int | None], int], digits: int) -> Counter[tuple[int | None, int | None]]:
    found: Counter[tuple[int | None, int | None]] = Counter()
    for (copy, twin), n in exact.items():
        found[None if copy is None else cut(copy, digits), None if twin is None else cut(twin, digits)] += n
    return found


def _by_latency(item: tuple[tuple[int | None, int | None], int]) -> tuple[int, int]:
    (copy, twin), _ = item
    return -1 if copy is None else copy, -1 if twin is None else twin


def _join(joining: Joining, lines: Iterable[bytes], sides: Sides) -> tuple[list[tuple[Half, Half]], int]:
    """Take the lines in: (copy, twin) of each pair, and how many copies have a twin that says nothing."""
    joined: list[tuple[Half, Half]] = []
    twinless = checked = after = 0
    mirror, stable = sides.candidate.name + SUFFIXES["mirror"], sides.stable.name
    live, copies, born, ended = joining.live, joining.copies, sides.born, joining.check[0]
    for line in lines:
        entry = _entry(line)
        if entry is None or entry[2] < born:
            continue
        identity, cluster, start, end, status, flags, us = entry
        if cluster == mirror:
            half = _half(status, flags, us, start, end, sides.candidate.timeout_s)
            twin = live.pop(identity, None)
            if end < joining.since or half[0] == _ABANDONED:
                continue  # the counters do not have it either
            if end <= ended:
                checked += 1
            else:
                after += 1
            if twin is None:
                copies[identity] = half
                continue
        elif SUFFIXES["mirror"][0] not in cluster:
            twin = _half(status, flags, us, start, end, sides.stable.timeout_s)
            if cluster != stable:
                twin = (_ELSEWHERE, None, end)
            waiting = copies.pop(identity, None)
            if waiting is None:
                live[identity] = twin
                continue
            half = waiting
        else:
            continue
        if twin[0] == _ABANDONED:
            twinless += 1
        elif twin[0] != _ELSEWHERE:
            joined.append((half, twin))
    at, counted, known = joining.check
    joining.check, joining.after = (at, counted, known + checked), joining.after + after
    return joined, twinless


def _given_up(joining: Joining, sides: Sides, now: float) -> int:
    """Forget halves whose other half cannot come any more; how many of them were copies."""
    _forget(joining.live, now - sides.candidate.timeout_s - PATIENCE_S)
    return _forget(joining.copies, now - sides.longest_s - PATIENCE_S)


def _forget(halves: dict[str, Half], before: float) -> int:
    # By their end, as a copy may begin only when its request's body is whole. In order of their coming; of live ones
    # nothing is told, so that it does not matter which are forgotten.
    late = [identity for identity, (_, _, end) in halves.items() if end < before]
    for identity in late:
        del halves[identity]
    surplus = list(halves)[: max(len(halves) - MOST_HALVES, 0)]
    for identity in surplus:
        del halves[identity]
    return len(late) + len(surplus)


def _dropped(joining: Joining, now: float) -> int:
    """Copies without a line that were not told before, as of the last reading whose lines are all here."""
    at, counted, lines = joining.check
    if now - at < LATE_S:
        return 0
    fresh = max(counted - lines - joining.dropped, 0)
    joining.dropped += fresh
    joining.check, joining.after = (now, joining.counted, lines + joining.after), 0
    return fresh


def _half(status: int, flags: str, us: int | None, start: float, end: float, timeout_s: float) -> Half:
    if flags != _ANSWERED:
        return RESET, None, end
    if status:
        return str(status), us, end
    return TIMEOUT if end - start >= timeout_s * _NEARLY else _ABANDONED, None, end


def _entry(line: bytes) -> tuple[str, str, float, float, int, str, int | None] | None:
    """A line's fields; None for one that is no line of ours: what it told is missed by the counters then."""
    try:
        raw = json.loads(line)
        identity, cluster, status, flags, us = (raw[name] for name in ("id", "cluster", "status", "flags", "us"))
        start, end = float(raw["at"]), float(raw["end"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    sound = (
        (isinstance(identity, str) and 0 < len(identity) <= _LONGEST_ID)
        and (isinstance(cluster, str) and isinstance(flags, str))
        and (type(status) is int and 0 <= status < 1000)
        and (us is None or (type(us) is int and us >= 0))
        and (0 < start < _LAST and 0 < end < _LAST)
    )
    return (identity, cluster, start, end, status, flags, us) if sound else None


def _written(halves: Mapping[str, Half]) -> list[list[Any]]:
    return [[identity, name, us, round(end, 3)] for identity, (name, us, end) in halves.items()]


def _halves(raw: Iterable[list[Any]]) -> dict[str, Half]:
    return {identity: (name, us, end) for identity, name, us, end in raw}
