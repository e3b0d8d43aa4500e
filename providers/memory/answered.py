"""What copies and their twins were answered in the simulated cloud: which bodies met, and how often.

Few different bodies ever meet, so they are counted by body, and compared only when somebody asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from providers import answers
from providers.measurement import Comparison, Count, Sample

Meeting = tuple[str, bytes, bytes] | tuple[str, None, None]
"""Who answered the twin, the copy's answer and the twin's; no bodies where one of both failed."""


@dataclass(slots=True)
class AnswerLog:
    """The joined pairs of one mirrored deployment; a meeting keeps its place, and its count only grows."""

    counts: dict[Meeting, int] = field(default_factory=dict)

    def add(
        self,
        stable: str,
        good: NDArray[np.bool_],
        copies: tuple[bytes, bytes, NDArray[np.bool_]],
        twins: tuple[bytes, bytes, NDArray[np.bool_]],
    ) -> None:
        """Count pairs whose twin `stable` answered.

        Args:
            stable: its name.
            good: whether both legs answered with 2xx.
            copies, twins: the usual answer, the other one, and which pairs got the other one.
        """
        self._count((stable, None, None), int((~good).sum()))
        for place in (0, 1):
            for twin_place in (0, 1):
                here = good & (copies[2] == bool(place)) & (twins[2] == bool(twin_place))
                self._count((stable, copies[place], twins[twin_place]), int(here.sum()))  # type: ignore[arg-type]

    def raw(self) -> list[int]:
        """The reading, as JSON, for a cursor."""
        return list(self.counts.values())

    def since(self, raw: list[int], stable: str, how: Comparison) -> Sample:
        """What came after that reading, with twins of `stable`."""
        bad = total = 0
        left_out: dict[str, int] = {}
        examples: list[str] = []
        for place, ((by, copy, twin), count) in enumerate(self.counts.items()):
            new = count - (raw[place] if place < len(raw) else 0)
            if by != stable or not new:
                continue
            reason = answers.FAILED
            if copy is not None and twin is not None:
                compared = answers.compare(copy, twin, how)
                reason = compared.note
                if compared.word != "unknown":
                    total += new
                    if compared.word == "different":
                        bad += new
                        examples += [compared.note] * min(new, how.examples)
                    continue
            left_out[answers.WHY[reason]] = left_out.get(answers.WHY[reason], 0) + new
        return Sample(
            candidate=Count(bad, total),
            nothing="" if total else answers.none_compared(left_out),
            query=answers.described(how),
            examples=tuple(examples[: how.examples]),
            left_out=left_out,
        )

    def _count(self, meeting: Meeting, number: int) -> None:
        if number:
            self.counts[meeting] = self.counts.get(meeting, 0) + number


def samples(
    logs: Mapping[str, AnswerLog], raw: Mapping[str, Any] | None, two: tuple[str, ...], asked: Mapping[str, Comparison]
) -> dict[str, Sample]:
    """A sample for each comparison.

    Args:
        logs: mirrored deployment -> its pairs.
        raw: the reading of an earlier cursor; None only sets the first one.
        two: the candidate, then stable.
        asked: gate -> comparison.
    """
    found: dict[str, Sample] = {}
    for gate, how in asked.items():
        if len(two) < 2:
            found[gate] = Sample(nothing=answers.NO_SECOND, query=answers.described(how))
        elif raw is None:
            found[gate] = Sample(query=answers.described(how))
        else:
            found[gate] = logs.get(two[0], AnswerLog()).since(raw.get(two[0], []), two[1], how)
    return found
