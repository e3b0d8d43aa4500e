"""Figures from any HTTP server that answers with JSON: running totals, or a number, each at a dotted path.

What is not there, is a text, is not a number or is old is told in words. Nothing is converted: the text "1.5" is no
number, and neither is `true`.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import BaseModel, Field, field_validator, model_validator

from providers.base import Context
from providers.metrics import counters
from providers.metrics.asked import Asked
from providers.metrics.base import Form, Reading, Spec
from providers.metrics.door import Door, Seconds, Unusable
from providers.metrics.placeholders import checked, filled
from providers.paths import value_at


class Options(Asked):
    """What is asked, and where the figures are in the answer.

    Attributes:
        method, body: of the question; a body is JSON unless the headers say otherwise.
        total, good, bad: paths of running totals: all requests, and either part of them.
        value: path of a number, taken once every `step` seconds.
        at: path of the time of the figures: seconds since 1970, or a text such as 2026-01-31T12:00:00Z.
        stale: age at which figures are too old, seconds.
    """

    method: Literal["GET", "POST"] = "GET"
    body: str | None = None
    at: str | None = None
    stale: Seconds = Field(300.0, gt=0)

    @field_validator("url", "body")
    @classmethod
    def _placeholders(cls, text: str | None) -> str | None:
        return text if text is None else checked(text)

    @field_validator("total", "good", "bad", "value", "at")
    @classmethod
    def _path(cls, text: str | None) -> str | None:
        if text is not None and not all(text.split(".")):
            raise ValueError("write a dotted path such as requests.failed or rows.0.count")
        return text

    @model_validator(mode="after")
    def _fits(self) -> "Options":
        if self.form == "counts" and "step" in self.model_fields_set:
            raise ValueError("step is for value; counters need none")
        if self.at is None and "stale" in self.model_fields_set:
            raise ValueError("stale needs at: without the time of the figures nobody knows how old they are")
        if self.body is not None and self.method == "GET":
            raise ValueError("a body is sent with method POST")
        return self


class HttpMetric:
    """One gate's questions to one server."""

    Options: ClassVar[type[BaseModel]] = Options

    def __init__(self, options: BaseModel, context: Context) -> None:
        assert isinstance(options, Options)
        self._options = options
        self._door = Door(options, context)

    @property
    def form(self) -> Form:
        """Counts where there is a total."""
        return self._options.form

    async def query(self, spec: Spec, since: Mapping[str, Any] | None) -> Reading:
        """See `providers.metrics.base.Metric`. An unusable answer is a reading with a problem, never raised."""
        mark = dict(since or {})
        shown = self._shown(spec)
        try:
            told = await (self._count if self.form == "counts" else self._value)(spec, mark)
        except Unusable as unusable:
            return Reading(mark, problem=str(unusable), query=shown)
        return Reading(told.mark, told.count, told.values, told.nothing, told.problem, shown)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._door.aclose()

    async def _count(self, spec: Spec, mark: dict[str, Any]) -> Reading:
        answer = await self._ask(spec)
        old = self._old(answer, spec)
        if old:
            return Reading(mark, nothing=old)
        part = self._options.part
        paths = {"total": self._options.total, part: getattr(self._options, part)}
        return counters.since(mark, {name: _number(answer, path) for name, path in paths.items()}, part)

    async def _value(self, spec: Spec, mark: dict[str, Any]) -> Reading:
        step = self._options.step
        point = spec.until.timestamp() // step * step
        if not mark:
            return Reading({"at": point})
        if point <= mark["at"]:
            due = datetime.fromtimestamp(point + step, UTC)
            return Reading(mark, nothing=f"the next point is due at {due:%H:%M:%S} UTC")
        answer = await self._ask(spec)
        old = self._old(answer, spec)
        if old:
            return Reading(mark, nothing=old)
        value = _number(answer, self._options.value)
        told = self._time(answer)
        if told is not None and told == mark.get("told"):
            return Reading(mark, nothing="the value is still the one of the last point")
        mark = {"at": point} if told is None else {"at": point, "told": told}
        return Reading(mark, values=((datetime.fromtimestamp(point, UTC), value),))

    async def _ask(self, spec: Spec) -> Any:
        url = filled(self._options.url, spec, lambda name: quote(name, safe=""))
        body = filled(self._options.body or "", spec, lambda name: json.dumps(name)[1:-1])
        headers = {"accept": "application/json", **({"content-type": "application/json"} if body else {})}
        return await self._door.ask(self._options.method, url, body=body, headers=headers)

    def _old(self, answer: Any, spec: Spec) -> str:
        """Why the figures are too old, or "". Raises Unusable when they come from the future."""
        told = self._time(answer)
        if told is None:
            return ""
        age = spec.until.timestamp() - told
        if age < -self._options.stale:
            raise Unusable(f"its figures are of {-age:.0f} s from now; the clocks disagree")
        return f"its figures are {age:.0f} s old" if age >= self._options.stale else ""

    def _time(self, answer: Any) -> float | None:
        path = self._options.at
        if path is None:
            return None
        found = _at(answer, path)
        if not isinstance(found, str):
            return _finite(found, path)
        try:
            when = datetime.fromisoformat(found)
        except ValueError:
            raise Unusable(f"`{path}` is no time: write 2026-01-31T12:00:00Z, or seconds since 1970") from None
        if when.tzinfo is None:
            raise Unusable(f"`{path}` has no time zone: write 2026-01-31T12:00:00Z")
        return when.timestamp()

    def _shown(self, spec: Spec) -> str:
        names = ("total", "good", "bad", "value")
        paths = ", ".join(f"{name} {path}" for name in names if (path := getattr(self._options, name)) is not None)
        url = filled(self._options.url, spec, lambda name: quote(name, safe=""))
        return f"{self._options.method} {url}: {paths}"


def _number(answer: Any, path: str | None) -> float:
    return _finite(_at(answer, path or ""), path or "")


def _finite(found: Any, path: str) -> float:
    """Raises Unusable."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        kind = {bool: "true or false", str: "a text", list: "a list", dict: "an object", type(None): "null"}
        said = f" ({found[:40]!r})" if isinstance(found, str) else ""
        raise Unusable(f"`{path}` is {kind[type(found)]}{said}, and must be a number")
    try:
        number = float(found)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Unusable(f"`{path}` is {number}, and must be a number")
    return number


def _at(answer: Any, path: str) -> Any:
    try:
        return value_at(answer, path)
    except LookupError:
        raise Unusable(f"the answer has no `{path}`") from None
