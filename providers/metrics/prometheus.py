"""Figures from Prometheus, or from whatever answers its query API: counters, or one value for each point in time.

Counters are looked at from the last look to this one at once, total and part in one query, so that both come from the
same scrapes: the totals at its end are the next mark (see `counters`), and a counter that fell, went away or came back
in between is seen even where it is higher again at the end. A value is asked for at whole multiples of `step`, with the
time of its own sample where Prometheus knows it: one that is older than the point before is no new one, though
Prometheus repeats it for five minutes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import urlencode

from pydantic import BaseModel, Field, field_validator, model_validator

from providers.base import Context
from providers.metrics import counters
from providers.metrics.asked import Asked
from providers.metrics.base import Form, Reading, Spec
from providers.metrics.door import Door, Seconds, Unusable
from providers.metrics.placeholders import checked, filled

SIDE = "rollout_side"
"""Label that tells the parts of one query apart."""
FINEST = 1_000
"""Milliseconds between two looks at a counter within a window."""
MOST_POINTS = 1_000
_SEVERAL = "the query for {} found several series; add them up, or select one"


class Options(Asked):
    """What is asked, in PromQL; `url` is the server's, without `/api/v1`.

    Attributes:
        total, good, bad: counters, as running totals of one series each: all requests, and either part of them.
        value: one number for each point in time, of one series.
        step: between two points, seconds.
        stale: age at which a sample says nothing about its point any more, seconds; a step without it.
    """

    stale: Seconds | None = Field(None, gt=0)

    @field_validator("total", "good", "bad", "value")
    @classmethod
    def _expression(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("is empty; write a PromQL expression")
        return text if text is None else checked(text)

    @model_validator(mode="after")
    def _points(self) -> "Options":
        if self.form == "counts" and self.model_fields_set & {"step", "stale"}:
            raise ValueError("step and stale are for value; counters need neither")
        return self


class PrometheusMetric:
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
        try:
            return await (self._counts if self.form == "counts" else self._values)(spec, mark)
        except Unusable as unusable:
            return Reading(mark, problem=str(unusable), query=self._shown(spec))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._door.aclose()

    # --- counts -----------------------------------------------------------------------------------

    async def _counts(self, spec: Spec, mark: dict[str, Any]) -> Reading:
        part, shown = self._options.part, self._shown(spec)
        until = _ms(spec.until)
        window = until - mark["at"] if mark else 0
        if window < 0 or (mark and not window):
            return Reading(mark, nothing="no time has passed since the last look", query=shown)
        looks = min(MOST_POINTS, max(1, -(-window // FINEST)))
        step = max(1, window // looks)
        whole = {"total": self._options.total, part: getattr(self._options, part)}
        sides = {name: _written(expression or "", spec) for name, expression in whole.items()}
        series = await self._ask(sides, until - step * (looks if mark else 0), until, step)
        # Only those that are there at the end: one that went away meanwhile is not what is counted from now on.
        ends = {name: [one for one in series.get(name, ()) if until in one.points] for name in whole}
        missing = [name for name in whole if not ends[name]]
        if missing:
            return Reading(mark, nothing=f"the query for {' and '.join(missing)} found no series", query=shown)
        several = [name for name in whole if len(ends[name]) > 1]
        if several:
            raise Unusable(_SEVERAL.format(several[0]))
        now: dict[str, Any] = {name: ends[name][0].points[until] for name in whole}
        now |= {"series": {name: dict(ends[name][0].labels) for name in whole}, "at": until}
        impossible = counters.impossible(now, part)
        if mark and not impossible:
            for name in whole:
                broken = _broken(name, mark[name], ends[name][0], looks + 1)
                if broken:
                    return Reading(now, nothing=f"{broken}, and what came in between is lost", query=shown)
        told = counters.since(mark, now, part)
        return Reading(told.mark, told.count, nothing=told.nothing, problem=told.problem, query=shown)

    # --- values -----------------------------------------------------------------------------------

    async def _values(self, spec: Spec, mark: dict[str, Any]) -> Reading:
        shown = self._shown(spec)
        step = round(self._options.step * 1000)
        last = _ms(spec.until) // step * step
        if not mark:
            return Reading({"at": last}, query=shown)
        if last <= mark["at"]:
            due = datetime.fromtimestamp((last + step) / 1000, UTC)
            return Reading(mark, nothing=f"the next point is due at {due:%H:%M:%S} UTC", query=shown)
        first = max(mark["at"] + step, last - (MOST_POINTS - 1) * step)
        expression = _written(self._options.value or "", spec)
        series = await self._ask({"value": expression, "time": f"timestamp({expression})"}, first, last, step)
        found, times = _points_of(series, "value"), _points_of(series, "time")
        stale = step if self._options.stale is None else round(self._options.stale * 1000)
        ages = {at: at - round(1000 * times[at]) for at in found if at in times}
        infinite = [value for value in found.values() if math.isinf(value)]
        if infinite:
            raise Unusable(f"the value is {infinite[0]}, and must be a number")
        fresh = [at for at in sorted(found) if at in ages and ages[at] < max(stale, 1)]
        values = tuple((datetime.fromtimestamp(at / 1000, UTC), found[at]) for at in fresh if not math.isnan(found[at]))
        nothing = ""
        if not found:
            nothing = "the query found no series"
        elif not fresh:
            nothing = f"its newest sample is {min(ages.values(), default=0) / 1000:g} s old"
        elif not values:
            nothing = "the value is NaN"
        return Reading({"at": last}, values=values, nothing=nothing, query=shown)

    # --- asking -----------------------------------------------------------------------------------

    async def _ask(self, sides: Mapping[str, str], start: int, end: int, step: int) -> dict[str, list["_Series"]]:
        """The series of each side, over [start, end] in steps (milliseconds), from one state of the
        server.
        """
        query = " or ".join(f'label_replace({text}, "{SIDE}", "{side}", "", "")' for side, text in sides.items())
        base, _, parameters = self._options.url.partition("?")
        url = f"{base.rstrip('/')}/api/v1/query_range{f'?{parameters}' if parameters else ''}"
        form = {"query": query, "start": _text(start), "end": _text(end), "step": _text(step)}
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        document = await self._door.ask("POST", url, body=urlencode(form), headers=headers, reason=_reason)
        found: dict[str, list[_Series]] = {}
        for one in _parsed(document):
            found.setdefault(one.labels.pop(SIDE, ""), []).append(one)
        return found

    def _shown(self, spec: Spec) -> str:
        if self._options.value is not None:
            return filled(self._options.value, spec, _quoted)
        part = getattr(self._options, self._options.part) or ""
        total = filled(self._options.total or "", spec, _quoted)
        return f"{self._options.part}: {filled(part, spec, _quoted)}; total: {total}"


@dataclass(frozen=True, slots=True)
class _Series:
    """`points`: milliseconds since 1970 -> value."""

    labels: dict[str, str] = field(default_factory=dict)
    points: Mapping[int, float] = field(default_factory=dict)


def _points_of(series: Mapping[str, Sequence[_Series]], side: str) -> dict[int, float]:
    """All points of a side; one series may take another's place. Raises Unusable where two are there at once."""
    points: dict[int, float] = {}
    for one in series.get(side, ()):
        if points.keys() & one.points.keys():
            raise Unusable(_SEVERAL.format("value"))
        points.update(one.points)
    return points


def _broken(name: str, told: float, series: _Series, looks: int) -> str:
    """Why a counter cannot be followed from the last look to this one, or ""."""
    if len(series.points) < looks:
        return f"the series of {name} was not there all the time"
    before = told
    for at in sorted(series.points):
        after = series.points[at]
        if not math.isfinite(after):
            return f"the counter {name} was {after} for a while"
        if after < before:
            return f"the counter {name} fell from {before:.15g} to {after:.15g}: it began anew"
        before = after
    return ""


def _parsed(document: Any) -> list[_Series]:
    """The series of an answer. Raises Unusable."""
    if not isinstance(document, dict) or document.get("status") != "success":
        said = _reason(document) if isinstance(document, dict) else ""
        raise Unusable(f"the answer is none of Prometheus{f': {said}' if said else ''}")
    warnings = document.get("warnings")
    if warnings:
        raise Unusable(f"the answer comes with a warning: {str(_first(warnings))[:200]}")
    try:
        data = document["data"]
        if data["resultType"] != "matrix":
            raise Unusable(f"the answer is a {str(data['resultType'])[:20]}, and a matrix was asked for")
        return [_Series(dict(one["metric"]), _points(one)) for one in data["result"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Unusable("the answer is not made as Prometheus makes it") from None


def _points(series: Mapping[str, Any]) -> dict[int, float]:
    if series.get("histograms"):
        raise Unusable("the query found a histogram, and a number is needed")
    points = {}
    for at, value in series["values"]:
        if not isinstance(value, str):
            raise TypeError
        points[round(float(at) * 1000)] = float(value)
    return points


def _reason(document: Mapping[str, Any]) -> str:
    words = [str(document[key]) for key in ("errorType", "error") if document.get(key)]
    return ": ".join(words)


def _first(warnings: Any) -> Any:
    return warnings[0] if isinstance(warnings, Sequence) and not isinstance(warnings, str) else warnings


def _written(expression: str, spec: Spec) -> str:
    # The line break ends a comment that the expression may end with.
    return f"({filled(expression, spec, _quoted)}\n)"


def _quoted(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')


def _ms(when: datetime) -> int:
    return math.floor(when.timestamp() * 1000)


def _text(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"
