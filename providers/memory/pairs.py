"""Mirrored requests of the simulated cloud, joined with their twins: one row each, told once.

The rows stay here and a cursor only counts them, so that it stays small whatever was mirrored. The newest million is
kept; who comes back after more than that is told that the rest was dropped, as by a log that was rotated.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from providers.measurement import RESET, TIMEOUT, Pairs

NO_ANSWER_US = -1
"""Stands for no latency in `Outcome.us`."""
_MOST_ROWS = 1 << 20
_MOST_LATENCIES = 2_000
_DROPPED = 0
_SILENT, _RESET = -1, -2
_NAMES = {_SILENT: TIMEOUT, _RESET: RESET}
_CODES = {name: code for code, name in _NAMES.items()}
_POWERS: NDArray[np.int64] = 10 ** np.arange(18, dtype=np.int64)

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How some requests ended.

    Attributes:
        codes: status codes, or what `code` says of a class without one.
        us: latencies, microseconds; NO_ANSWER_US without an answer.
    """

    codes: Ints
    us: Ints

    @classmethod
    def single(cls, name: str, us: int | None) -> "Outcome":
        """How one request ended, by its class (`Leg.classes`) and latency."""
        return cls(np.array([code(name)]), np.array([NO_ANSWER_US if us is None else us]))


def code(name: str) -> int:
    """The number that stands for a class."""
    return _CODES[name] if name in _CODES else int(name)


@dataclass(slots=True)
class PairLog:
    """The copies that one deployment got, in order.

    Attributes:
        count: how many there were.
    """

    count: int = 0
    _rows: list[Ints] = field(default_factory=list)
    _gone: int = 0
    _names: list[str] = field(default_factory=list)

    def add(self, copies: Outcome, twins: Outcome, dropped: NDArray[np.bool_], by: Iterable[str]) -> None:
        """Note copies, their twins, which copies never got there, and who answered each twin."""
        who = np.array([self._number(name) for name in by], dtype=np.int64)
        codes = np.where(dropped, _DROPPED, copies.codes)
        rows: Ints = np.stack([codes, twins.codes, copies.us, twins.us, who], axis=1)
        if len(rows):
            self._rows.append(rows)
            self.count += len(rows)
        while self._rows and self.count - self._gone - len(self._rows[0]) >= _MOST_ROWS:
            self._gone += len(self._rows.pop(0))

    def since(self, start: int, stable: str) -> Pairs:
        """The pairs after the first `start` copies; those whose twin another deployment answered are left out."""
        if start >= self.count:
            return Pairs()
        rows = np.concatenate(self._rows)[max(start - self._gone, 0) :]
        dropped = max(self._gone - start, 0) + int((rows[:, 0] == _DROPPED).sum())
        rows = rows[(rows[:, 0] != _DROPPED) & (rows[:, 4] == self._number(stable))]
        digits = 3
        latencies = _counted(_cut(rows[:, 2:4], digits))
        if len(latencies) > _MOST_LATENCIES:
            digits = 2
            latencies = _counted(_cut(rows[:, 2:4], digits))
        return Pairs(
            tuple((_name(copy), _name(twin), n) for copy, twin, n in _counted(rows[:, :2])),
            tuple((_us(copy), _us(twin), n) for copy, twin, n in latencies),
            {"dropped": dropped} if dropped else {},
            digits,
        )

    def _number(self, name: str) -> int:
        if name not in self._names:
            self._names.append(name)
        return self._names.index(name)


def _counted(pairs: Ints) -> list[tuple[int, int, int]]:
    values, counts = np.unique(pairs, axis=0, return_counts=True)
    return [(copy, twin, n) for (copy, twin), n in zip(values.tolist(), counts.tolist(), strict=True)]


def _cut(us: Ints, digits: int) -> Ints:
    places = np.searchsorted(_POWERS, us, side="right")
    step: Ints = _POWERS[np.maximum(places - digits, 0)]
    return np.where(us < 0, NO_ANSWER_US, us // step * step)


def _name(number: int) -> str:
    return _NAMES.get(number) or str(number)


def _us(latency: int) -> int | None:
    return None if latency == NO_ANSWER_US else latency
