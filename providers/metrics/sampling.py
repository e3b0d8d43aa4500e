"""The readings of candidate and stable, joined into what one gate is told about one window.

All questions are asked at once, under one deadline, and one metric that is down keeps nobody else waiting longer than
that. Counts are told of both sides over the same window or not at all: where one side has none, the other's wait for
the next window. Values belong to points in time and are paired by those.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from providers.errors import ProviderError
from providers.measurement import Sample
from providers.metrics.base import Form, Metric, Reading, Spec
from providers.metrics.placeholders import SUFFIXES

PATIENCE = 30.0
"""Seconds for all answers, at most."""
FIRST = "it was looked at for the first time, and is counted from here"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for one gate.

    Attributes:
        metric: who is asked.
        of: tells this question from every other one; a mark is only good for the question that it came from.
        candidate: what is asked of the candidate.
        stable: of stable; None where the gate does not compare.
    """

    metric: Metric
    of: str
    candidate: Spec
    stable: Spec | None = None


async def sampled(
    questions: Mapping[str, Question], sources: Mapping[str, Any], *, patience: float = PATIENCE
) -> tuple[dict[str, Sample], dict[str, Any]]:
    """Ask everything at once.

    Args:
        questions: by gate.
        sources: by gate, where each goes on (`Cursor.sources`); a gate without one begins here.
        patience: seconds after which what has not answered is a problem.

    Returns:
        By gate, what came; and where each goes on. Never raises because of a metric.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    asked = {name: _Asked(question, sources.get(name)) for name, question in questions.items()}
    answers = await asyncio.gather(*(one.answer(until, patience) for one in asked.values()))
    samples: dict[str, Sample] = {}
    after: dict[str, Any] = {}
    for name, (candidate, stable) in zip(asked, answers, strict=True):
        one = asked[name]
        samples[name] = joined(one.question.metric.form, candidate, stable)
        after[name] = one.source(candidate, stable)
    return samples, after


def joined(form: Form, candidate: Reading, stable: Reading | None) -> Sample:
    """One sample of two readings of the same window; stable None where the gate does not compare. Pure."""
    sides = {"candidate": candidate, **({"stable": stable} if stable is not None else {})}
    problem = _told({name: reading.problem for name, reading in sides.items()}, "; ")
    if problem:
        asked = {name: reading.query if reading.problem else "" for name, reading in sides.items()}
        return Sample(problem=problem, query=_told(asked, "; "))
    query = _told({name: reading.query for name, reading in sides.items()}, "; ")
    if form == "values":
        others = dict(stable.values) if stable is not None else {}
        values = tuple((value, others.get(when)) for when, value in candidate.values)
        # A stable side without a point is only worth a word where the candidate has one.
        silent = [name for name, reading in sides.items() if not reading.values and (values or name == "candidate")]
        nothing = _told({name: sides[name].nothing if name in silent else "" for name in sides}, "; ")
        return Sample(values=values, nothing=nothing or ("" if values else FIRST), query=query)
    if any(reading.count is None for reading in sides.values()):
        silence = {name: "" if reading.count else reading.nothing or FIRST for name, reading in sides.items()}
        return Sample(nothing=_told(silence, "; "), query=query)
    return Sample(candidate.count, stable.count if stable is not None else None, query=query)


class _Asked:
    """One gate's question, with the marks from before."""

    def __init__(self, question: Question, source: Any) -> None:
        self.question = question
        known = source if isinstance(source, Mapping) and source.get("of") == question.of else {}
        self._marks: Mapping[str, Mapping[str, Any]] = known.get("marks", {})

    async def answer(self, until: float, patience: float) -> tuple[Reading, Reading | None]:
        candidate, stable = self.question.candidate, self.question.stable
        if stable is None:
            return await self._one(candidate, until, patience), None
        both = await asyncio.gather(self._one(candidate, until, patience), self._one(stable, until, patience))
        return both[0], both[1]

    def source(self, candidate: Reading, stable: Reading | None) -> dict[str, Any]:
        """Where this gate goes on.

        A side whose figures could not be told because the other one had none keeps its mark, unless the other one's
        counters began anew: then its own count from there, too.
        """
        sides = {_leg(self.question.candidate): candidate}
        if self.question.stable is not None and stable is not None:
            sides[_leg(self.question.stable)] = stable
        stay = any(reading.problem for reading in sides.values())
        if self.question.metric.form == "counts":
            stay = stay or any(
                reading.count is None and not self._moved(leg, reading) for leg, reading in sides.items()
            )
        marks = {leg: self._marks.get(leg, {}) if stay else dict(reading.mark) for leg, reading in sides.items()}
        return {"of": self.question.of, "marks": {leg: mark for leg, mark in marks.items() if mark}}

    def _moved(self, leg: str, reading: Reading) -> bool:
        return bool(reading.mark) and dict(reading.mark) != dict(self._marks.get(leg, {}))

    async def _one(self, spec: Spec, until: float, patience: float) -> Reading:
        mark = self._marks.get(_leg(spec))
        try:
            async with asyncio.timeout_at(until):
                reading: Any = await self.question.metric.query(spec, mark)
        except TimeoutError:
            return Reading(mark or {}, problem=f"it did not answer within {patience:g} s")
        except ProviderError as error:
            return Reading(mark or {}, problem=str(error).rstrip("."))
        except Exception as error:  # noqa: BLE001 - a stranger's mistake is this gate's problem, not the rollout's
            return Reading(mark or {}, problem=f"it failed by a mistake of its own ({type(error).__name__})")
        return (
            reading if isinstance(reading, Reading) else Reading(mark or {}, problem="what it answered is no reading")
        )


def _leg(spec: Spec) -> str:
    return spec.deployment + SUFFIXES[spec.source]


def _told(clauses: Mapping[str, str], between: str) -> str:
    """The clauses, each with whom it is about; one alone where both sides say the same."""
    said = {name: clause for name, clause in clauses.items() if clause}
    if len(set(said.values())) == 1 and len(said) == len(clauses):
        return next(iter(said.values()))
    return between.join(f"{name}: {clause}" for name, clause in said.items())
