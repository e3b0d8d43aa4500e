"""When a stage's hold and deadline end, counted from the moment its target was verified."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from orchestrator.stages import Stage
from plans.model import ApproveStep, Until, WaitStep


def stage_clocks(stage: Stage, now: datetime) -> tuple[datetime | None, datetime | None]:
    """(end of the hold, deadline) for a stage whose target was verified at `now`; None where there is none."""
    match stage.work:
        case WaitStep(wait=Until() as until):
            return next_time(until, now), None
        case WaitStep(wait=seconds):
            return now + timedelta(seconds=float(seconds)), None  # type: ignore[arg-type]
        case ApproveStep(timeout=timeout):
            return None, now + timedelta(seconds=timeout)
    hold = now + timedelta(seconds=stage.hold) if stage.hold else None
    deadline = now + timedelta(seconds=stage.deadline) if stage.gates and stage.deadline is not None else None
    return hold, deadline


def next_time(until: Until, now: datetime) -> datetime:
    """The next instant at which it is that time of day there; the first of two when clocks go back, the next valid one
    when they go forward.
    """
    zone = ZoneInfo(until.tz)
    hour, minute = (int(part) for part in until.until.split(":"))
    day = now.astimezone(zone).date()
    for ahead in range(3):
        local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone) + timedelta(days=ahead)
        instant = local.astimezone(now.tzinfo)
        if instant > now:
            return instant
    raise AssertionError("a day is never longer than two days")
