"""From two looks at running totals to what came in between, or to why that cannot be told.

The totals themselves are the mark, so what is told adds up to exactly what was counted, whenever the looks were and
however late the source was. A total that fell has begun anew; what it counted in between is lost, and is never guessed.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from providers.measurement import Count
from providers.metrics.base import Reading

Part = Literal["good", "bad"]
"""Which of the requests are counted beside all of them."""


def since(mark: Mapping[str, Any] | None, now: Mapping[str, Any], part: Part) -> Reading:
    """What came since a mark.

    Args:
        mark: the last look, or None for the first one.
        now: this look: `total` and the part's name -> running totals; `series`, whatever else must be the same for both
            to be looks at the same counters.

    Returns:
        A reading with its count; with `nothing` and a new mark where counters began anew or are other ones; with
        `problem` and the old mark where figures contradict each other.
    """
    wrong = impossible(now, part)
    if wrong:
        return Reading(mark or {}, problem=wrong)
    if not mark:
        return Reading(now)
    if mark.get("series") != now.get("series"):
        return Reading(now, nothing="its counters are not those of the last look: what came in between is lost")
    for name in ("total", part):
        before, after = float(mark[name]), float(now[name])
        if after < before:
            fell = f"the counter {name} fell from {before:.15g} to {after:.15g}"
            return Reading(now, nothing=f"{fell}: it began anew, and what came in between is lost")
    total, some = float(now["total"]) - float(mark["total"]), float(now[part]) - float(mark[part])
    if some > total:
        return Reading(mark, problem=f"{part} grew by {some:.15g} and total by {total:.15g}: {part} must be part of it")
    return Reading(now, Count(some if part == "bad" else total - some, total))


def impossible(now: Mapping[str, Any], part: Part) -> str:
    """Why totals cannot be looks at counters, as a clause, or ""."""
    for name in ("total", part):
        if not math.isfinite(now[name]):
            return f"{name} is {now[name]}, and must be a number"
        if now[name] < 0:
            return f"{name} is {now[name]:.15g}: a counter is never negative"
    return ""
