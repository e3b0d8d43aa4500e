"""How far stable's bad answers come in clusters instead of one by one.

The kernels take requests as independent. Real errors come in bursts, one cause failing many requests, and a burst
would be counted as many proofs. Dividing all counts by stable's index of dispersion takes that back: without it a
false-FAIL level of 5% was measured as 18 to 59% at mean clusters of 2 to 10, with it as 2 to 4%.

The index is Pearson's chi-square over its degrees of freedom, of one-minute counts. With the same traffic in each
minute that is exactly variance over mean; unlike it, traffic that comes and goes is not taken for clusters. It counts
only where chance would bring as much in one minute of ten: an index that is read off a few minutes of errors that come
one by one is above 1 half of the time, and dividing by it would cost requests for nothing.

In the first minutes it is not known. Once it is, what has been won until then is divided as well (`bets.corrected`).
"""

from dataclasses import dataclass
from typing import Any

MINUTES_NEEDED = 3
_MINUTE = 57.0  # seconds; a poll a minute is never exactly one
_NINE_IN_TEN = 1.2815515655  # of a standard normal variable


@dataclass(frozen=True, slots=True)
class Spread:
    """The moments of stable's one-minute counts so far.

    Attributes:
        minutes: closed ones that had requests.
        bad, total: requests in them.
        squares: sum over the minutes of bad^2 / total.
        open_seconds, open_bad, open_total: the minute that is not yet full.
    """

    minutes: int = 0
    bad: float = 0
    total: float = 0
    squares: float = 0.0
    open_seconds: float = 0.0
    open_bad: float = 0
    open_total: float = 0

    @property
    def known(self) -> bool:
        """Whether there are minutes enough to correct by."""
        return self.minutes >= MINUTES_NEEDED

    @property
    def index(self) -> float:
        """By what to divide counts: 1 or more; 1 until it is known."""
        if not self.known or not self.bad:
            return 1.0
        index = (self.squares * self.total / self.bad - self.bad) / (self.minutes - 1)
        return index if index > by_chance(self.minutes) else 1.0

    def add(self, bad: float, total: float, seconds: float) -> "Spread":
        """With one more poll of stable's counts."""
        seconds += self.open_seconds
        bad += self.open_bad
        total += self.open_total
        if seconds < _MINUTE:
            return Spread(self.minutes, self.bad, self.total, self.squares, seconds, bad, total)
        if not total:
            return self.interrupted()
        squares = self.squares + bad * bad / total
        return Spread(self.minutes + 1, self.bad + bad, self.total + total, squares)

    def interrupted(self) -> "Spread":
        """Without the open minute: a part of it was not seen."""
        return Spread(self.minutes, self.bad, self.total, self.squares)


def by_chance(minutes: Any) -> Any:
    """The index that as many minutes without clusters stay below nine times in ten; a number, or an array of them.

    Source: Wilson, Hilferty, "The distribution of chi-square" (1931).
    """
    part = 2 / (9 * (minutes - 1))
    return (1 - part + _NINE_IN_TEN * part**0.5) ** 3
