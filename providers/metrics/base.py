"""The protocol of a metric from elsewhere: asked after every poll what came since the last answer.

A metric answers for one deployment and one window at a time, in one of two forms. *Counts* are bad ones among all; a
gate treats them like errors among requests. *Values* are one number for each point in time, and are the coarse form. Of
each point a gate only sees whether it lies beyond the limit (`max`; or `max_ratio` times stable's value at the same
time, plus `max_increase`), and it tests whether more than half of the points do (kernel T1 with x = 1/2). By how much a
point missed, and how many requests lay behind it, is not known to it: with one gate in one stage, a p95 by the minute
takes about 10 minutes in a row beyond the limit to FAIL at alpha = 1%, and about 6 within it to PASS at beta = 5%; and
a candidate that is too slow in four minutes of ten is within the tolerance. Points must not share samples, or one is
told twice.

What comes back decides rollouts, so the contract is strict: each request is told once (`mark` says where the next query
begins), an empty answer is `nothing` and one that makes no sense is `problem`, each in words, and neither is ever a
good figure.

To offer one, write a class like this, and name it in the entry point group `rollout.metrics`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel

from providers.base import Context
from providers.measurement import Count, Source

Form = Literal["counts", "values"]


@dataclass(frozen=True, slots=True)
class Spec:
    """What is asked.

    Attributes:
        endpoint, deployment: of whom.
        source: which of its requests the gate judges: live, mirror or direct.
        until: end of the window, aware UTC; it begins where the last answer's `mark` says.
        interval: seconds between two queries.
    """

    endpoint: str
    deployment: str
    source: Source
    until: datetime
    interval: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What is answered.

    Attributes:
        mark: where the next query begins, as JSON; it is stored.
        count: what came since the last mark; None in the first answer, which only sets a mark.
        values: (when, value) of the points since the last mark, oldest first; finite.
        nothing: why there is no figure, as a clause ("the query found no series"), or "". The mark then is the old one
            where the next answer will make up for it, and a new one where what came in between is lost.
        problem: why what came cannot be used, as a clause, or "". The mark then is the old one.
        query: what was asked, as a person would ask it again; without secrets.
    """

    mark: Mapping[str, Any] = field(default_factory=dict)
    count: Count | None = None
    values: tuple[tuple[datetime, float], ...] = ()
    nothing: str = ""
    problem: str = ""
    query: str = ""


class Metric(Protocol):
    """A source of figures. Raises `providers.errors` only; Temporary and Permanent both count as a problem."""

    Options: ClassVar[type[BaseModel]]
    """What a plan may say inside `metric: {name: {...}}`; it refuses unknown fields."""

    def __init__(self, options: BaseModel, context: Context) -> None: ...

    @property
    def form(self) -> Form:
        """Which of the two forms these options ask for."""
        ...

    async def query(self, spec: Spec, since: Mapping[str, Any] | None) -> Reading:
        """The figures of one deployment since a mark; None only sets the first one. No side effect."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...
