"""When a stage's hold and deadline end: from the moment its target was verified, and again after a pause."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from orchestrator.rollout import Progress, Rollout
from orchestrator.stages import Stage
from plans.steps import ApproveStep, Until, WaitStep


def stage_clocks(
    stage: Stage, now: datetime, progress: Progress | None = None
) -> tuple[datetime | None, datetime | None]:
    """(end of the hold, deadline) for a stage whose target was verified at `now`; None where there is none.

    `progress`: of the stage. What humans have added to its deadline counts; and a time of day is the next one since the
    stage first began, however often it began anew.
    """
    progress = progress or Progress()
    extended = progress.extended
    match stage.work:
        case WaitStep(wait=Until() as until):
            return next_time(until, progress.entered_at or now), None
        case WaitStep(wait=seconds):
            return now + timedelta(seconds=float(seconds)), None  # type: ignore[arg-type]
        case ApproveStep(timeout=timeout):
            return None, now + timedelta(seconds=timeout + extended)
    hold = now + timedelta(seconds=stage.hold) if stage.hold else None
    limited = stage.gates and stage.deadline is not None
    return hold, now + timedelta(seconds=(stage.deadline or 0.0) + extended) if limited else None


def resumed_clocks(
    rollout: Rollout, stages: tuple[Stage, ...], now: datetime, *, restart: bool, extend: float = 0.0
) -> tuple[datetime | None, datetime | None]:
    """(end of the hold, deadline) of a paused rollout's stage that goes on at `now`.

    What a pause froze goes on from there; a time of day is what it was; what paused because its time was over gets all
    of it again, and so does a stage that begins anew. `extend`: seconds that a human adds to the deadline; a stage
    whose time was over then gets just these.
    """
    stage = stages[rollout.stage] if rollout.stage < len(stages) else None
    if stage is None:
        return None, None
    p = rollout.progress
    whole = now + timedelta(seconds=stage.deadline) if stage.deadline is not None else None
    more = timedelta(seconds=extend)
    if restart:
        return None, whole + more if whole is not None else None
    if isinstance(stage.work, WaitStep) and isinstance(stage.work.wait, Until) and p.reached_at is not None:
        return next_time(stage.work.wait, p.reached_at), None
    hold = now + timedelta(seconds=p.hold_left) if p.hold_left is not None else None
    if extend:
        return hold, now + timedelta(seconds=p.deadline_left or 0.0) + more
    if isinstance(stage.work, ApproveStep) and rollout.paused in ("error", "step"):
        return hold, now + timedelta(seconds=stage.work.timeout)
    if rollout.paused in ("undecided", "no_data", "error", "step"):
        return hold, whole if p.reached_at is None or stage.gates else None
    return hold, now + timedelta(seconds=p.deadline_left) if p.deadline_left is not None else None


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
