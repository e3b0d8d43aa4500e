"""Which rollouts `rollout list` shows: filters that combine, and the sentence that says why nothing is left.

An empty list is no answer for somebody who mistyped a name, so every filter can tell what it would have found. Heavy
imports are fine here: the command imports this module when it runs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator.app import App
from orchestrator.rollout import Rollout
from plans.errors import did_you_mean, listed
from plans.units import parse_duration

FIRST_LOOK = 200
"""Rollouts that are read at first; four times as many each time when that was not enough."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition.

    Attributes:
        given: as it was typed. fits: whether a rollout is meant.
        of: the value of a rollout that it looks at. values: what such values are called.
        wanted: the name that was typed, where it is one.
    """

    given: str
    fits: Callable[[Rollout], bool]
    of: Callable[[Rollout], str]
    values: str
    wanted: str = ""


def filters(
    *, active: bool, phases: Sequence[str], endpoint: str | None, name: str | None, since: datetime | None, given: str
) -> tuple[Filter, ...]:
    """The conditions that were typed; `given` is how `since` was."""
    found = []
    if active:
        found.append(Filter("--active", lambda rollout: rollout.active, lambda rollout: rollout.phase, "phases"))
    if phases:
        typed = " ".join(f"--phase {phase}" for phase in phases)
        found.append(Filter(typed, lambda rollout: rollout.phase in phases, lambda rollout: rollout.phase, "phases"))
    if endpoint is not None:
        by_endpoint = Filter(
            f"--endpoint {endpoint}",
            lambda rollout: rollout.endpoint_name == endpoint,
            lambda rollout: rollout.endpoint_name,
            "endpoints",
            endpoint,
        )
        found.append(by_endpoint)
    if name is not None:
        found.append(
            Filter(f"--name {name}", lambda rollout: rollout.name == name, lambda rollout: rollout.name, "names", name)
        )
    if since is not None:
        found.append(
            Filter(
                f"--since {given}",
                lambda rollout: rollout.started_at >= since,
                lambda rollout: f"{rollout.started_at.astimezone():%Y-%m-%d %H:%M}",
                "beginnings",
            )
        )
    return tuple(found)


def moment(text: str, now: datetime) -> datetime:
    """`2d` -> two days before now, `2026-11-22` -> when that day began here; also with a time of day.

    Raises ValueError when it is neither, or has not come yet.
    """
    try:
        seconds: Any = parse_duration(text)
        return now - timedelta(seconds=seconds)
    except ValueError as error:
        if "longer" in str(error):
            raise ValueError(f"{error}; write a date such as 2026-11-22") from None
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"`{text[:40]}` is neither a duration such as 2d or 12h nor a date such as 2026-11-22"
        ) from None
    # A time without a zone is one of the clock on this wall.
    at = at.astimezone()
    if at > now:
        raise ValueError(f"`{text[:40]}` has not come yet")
    return at


async def newest(app: App, wanted: Iterable[Filter], limit: int) -> tuple[list[Rollout], int]:
    """(the newest that fit every filter, at most `limit`; how many rollouts were looked at), the newest first."""
    conditions = tuple(wanted)
    look = FIRST_LOOK if conditions else limit
    while True:
        known = await app.store.rollouts(limit=look)
        found = [rollout for rollout in known if all(each.fits(rollout) for each in conditions)]
        if len(found) >= limit or len(known) < look or not conditions:
            return found[:limit], len(known)
        look *= 4


async def nothing(app: App, wanted: Sequence[Filter], looked_at: int) -> str:
    """Why no rollout is left, in one sentence."""
    if not looked_at:
        return "there is no rollout yet: rollout run plan.yml starts one"
    known = await app.store.rollouts(limit=looked_at)
    fitting = {each: sum(map(each.fits, known)) for each in wanted}
    empty = next((each for each, count in fitting.items() if not count), None)
    if empty is None:
        alone = ", ".join(f"{each.given} fits {count}" for each, count in fitting.items())
        return f"no rollout fits all of these together; of {len(known)}, {alone}"
    if empty.given == "--active":
        return "no rollout is active"
    there = list(dict.fromkeys(map(empty.of, known)))
    if empty.given.startswith("--since"):
        return f"{empty.given} excludes every rollout; the newest began at {there[0]}"
    meant = did_you_mean(empty.wanted, there) if empty.wanted else None
    return f"{empty.given} excludes every rollout; {meant or f'their {empty.values}: {listed(there)}'}"
