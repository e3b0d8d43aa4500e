"""`gates.spread` of many rollouts at once: how far stable's bad answers come in clusters."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.gates.spread import _MINUTE as A_MINUTE
from orchestrator.gates.spread import MINUTES_NEEDED, by_chance

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Spreads:
    """The attributes of `Spread`, each (rollouts,)."""

    minutes: Floats
    bad: Floats
    total: Floats
    squares: Floats
    open_seconds: Floats
    open_bad: Floats
    open_total: Floats

    @classmethod
    def begin(cls, rows: int) -> "Spreads":
        """Nothing seen yet."""
        return cls(*(np.zeros(rows) for _ in range(7)))

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether there are minutes enough to correct by."""
        found: NDArray[np.bool_] = self.minutes >= MINUTES_NEEDED
        return found

    @property
    def index(self) -> Floats:
        """By what to divide counts, of each rollout: 1 or more; 1 until it is known."""
        known = self.known & (self.bad > 0)
        minutes = np.maximum(self.minutes, MINUTES_NEEDED)
        index = (self.squares * self.total / np.where(known, self.bad, 1.0) - self.bad) / (minutes - 1)
        beyond: Floats = np.where(known & (index > by_chance(minutes)), index, 1.0)
        return beyond

    def add(self, bad: Floats, total: Floats, seconds: float) -> "Spreads":
        """With one more poll of stable's counts."""
        open_seconds, open_bad, open_total = self.open_seconds + seconds, self.open_bad + bad, self.open_total + total
        full = open_seconds >= A_MINUTE
        if not full.any():
            return Spreads(self.minutes, self.bad, self.total, self.squares, open_seconds, open_bad, open_total)
        closed = full & (open_total > 0)
        return Spreads(
            self.minutes + closed,
            self.bad + np.where(closed, open_bad, 0.0),
            self.total + np.where(closed, open_total, 0.0),
            self.squares + np.where(closed, open_bad * open_bad / np.maximum(open_total, 1.0), 0.0),
            np.where(full, 0.0, open_seconds),
            np.where(full, 0.0, open_bad),
            np.where(full, 0.0, open_total),
        )

    def take(self, rows: Any) -> "Spreads":
        """Those of these rollouts."""
        return Spreads(*(getattr(self, each.name)[rows] for each in fields(self)))

    @classmethod
    def together(cls, parts: Sequence["Spreads"]) -> "Spreads":
        """All of them."""
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))
