"""Answers to one request, joined by Envoy's request id and compared: what the comparing process does with what it gets.

An answer waits for its twin in memory, and nowhere else, for a bounded time and in bounded space; what is pushed out
is counted as left out. Whatever cannot be compared is counted by its reason, so that `same` only ever means that two
bodies were looked at. Pure: time is passed in.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.answers import FAILED, Answers
from providers.measurement import Comparison

WHOLE = "whole"
"""How an instance hands over an answer with its body; LARGE and LOST come without."""

HELD_BYTES = 64 << 20
HELD_COUNT = 20_000
HELD_S = 120.0
MOST_EXAMPLES = 20
_OVERHEAD = 512
_PAIRS = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What one instance answered to one request.

    Attributes:
        id: the request's, the same for a copy and its twin.
        leg: `deployment.generation` of who answered.
        status: the HTTP status.
        how: WHOLE, LARGE or LOST.
        body: empty unless it is WHOLE.
    """

    id: str
    leg: str
    status: int
    how: str
    body: bytes = b""


@dataclass(slots=True)
class Tally:
    """What one comparison found between two legs; it only grows.

    Attributes:
        unknown: reason -> pairs that could not be compared.
        examples: the last differences, redacted.
        told: how many examples there were.
    """

    same: int = 0
    different: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    examples: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_EXAMPLES))
    told: int = 0

    def json(self) -> dict[str, Any]:
        """As it stands in a report."""
        counts = {"same": self.same, "different": self.different, "unknown": dict(self.unknown)}
        return {**counts, "examples": list(self.examples), "told": self.told}


class Joiner:
    """Joins answers and compares them in every way that was asked for.

    Args:
        held_bytes, held_count, held_s: bounds of what waits for a twin.
    """

    def __init__(self, *, held_bytes: int = HELD_BYTES, held_count: int = HELD_COUNT, held_s: float = HELD_S) -> None:
        self._limits = held_bytes, held_count, held_s
        self._specs: dict[str, Comparison] = {}
        self._held: dict[str, tuple[Answer, float]] = {}
        self._bytes = 0
        self._tallies: dict[tuple[str, str], dict[str, Tally]] = {}
        self._left: dict[tuple[str, str], dict[str, int]] = {}
        self._alone: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def ask(self, specs: Mapping[str, Comparison]) -> None:
        """Compare in these ways from now on; key -> comparison. A new key begins at zero."""
        self._specs = dict(specs)

    def take(self, answer: Answer, now: float) -> None:
        """One answer came; `now` in seconds of any clock that never goes back."""
        self._seen[answer.leg] = self._seen.get(answer.leg, 0) + 1
        if not self._specs:
            return
        waiting = self._held.get(answer.id)
        if waiting is None:
            self._held[answer.id] = answer, now
            self._bytes += _weight(answer)
            self.expire(now)
        elif waiting[0].leg != answer.leg:
            self._drop(answer.id)
            # One order for both legs; who is the candidate is known to those who read.
            first, second = sorted((waiting[0], answer), key=lambda one: one.leg)
            self._compare(first, second)

    def expire(self, now: float) -> None:
        """Give up what waits for too long, or is too much."""
        most_bytes, most, longest = self._limits
        while self._held:
            key, (answer, since) = next(iter(self._held.items()))
            if now - since <= longest and len(self._held) <= most and self._bytes <= most_bytes:
                return
            self._drop(key)
            self._alone[answer.leg] = self._alone.get(answer.leg, 0) + 1

    def report(self) -> dict[str, Any]:
        """Every counter, as JSON; it holds nothing of a body but redacted examples.

        `pairs`: "first|second" -> {"left": reason -> pairs, "specs": key -> Tally}. `alone`, `seen`: leg -> answers.
        """
        pairs = {
            "|".join(legs): {
                "left": dict(self._left.get(legs, {})),
                "specs": {key: tally.json() for key, tally in self._tallies.get(legs, {}).items()},
            }
            for legs in self._left.keys() | self._tallies.keys()
        }
        legs = {"alone": dict(self._alone), "seen": dict(self._seen)}
        return {"asked": list(self._specs), "pairs": pairs, **legs, "waiting": len(self._held)}

    def _drop(self, key: str) -> None:
        answer, _ = self._held.pop(key)
        self._bytes -= _weight(answer)

    def _compare(self, first: Answer, second: Answer) -> None:
        legs = first.leg, second.leg
        for table in (self._left, self._tallies):
            if legs not in table and len(table) >= _PAIRS:
                table.pop(next(iter(table)))  # replaced deployments, long gone
        if why := _left_out(first, second):
            left = self._left.setdefault(legs, {})
            left[why] = left.get(why, 0) + 1
            return
        answers, tallies = Answers(first.body, second.body), self._tallies.setdefault(legs, {})
        for key, how in self._specs.items():
            tally, compared = tallies.setdefault(key, Tally()), answers.compare(how)
            if compared.word == "same":
                tally.same += 1
            elif compared.word == "different":
                tally.different += 1
                if how.examples > 0:
                    tally.examples.append(compared.note)
                    tally.told += 1
            else:
                tally.unknown[compared.note] = tally.unknown.get(compared.note, 0) + 1


def _weight(answer: Answer) -> int:
    return len(answer.body) + _OVERHEAD


def _left_out(first: Answer, second: Answer) -> str:
    """Why these two are not compared, or ""."""
    if not (200 <= first.status < 300 and 200 <= second.status < 300):
        return FAILED
    return next((one.how for one in (first, second) if one.how != WHOLE), "")
