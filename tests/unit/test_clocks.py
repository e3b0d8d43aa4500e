"""When a hold ends, and when it is nine o'clock somewhere, also on the days on which the clocks change."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.clocks import next_time, stage_clocks
from orchestrator.stages import Stage, Target
from plans.steps import ApproveStep, Until, WaitStep
from tests.unit.making import stages_of

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def at(until: str, tz: str, now: str) -> datetime:
    found = next_time(Until(until=until, tz=tz), utc(now))
    assert found.tzinfo is UTC
    return found


@pytest.mark.parametrize(
    ("until", "tz", "now", "then"),
    [
        ("09:00", "UTC", "2026-03-02T08:59:59", "2026-03-02T09:00:00"),
        ("09:00", "UTC", "2026-03-02T09:00:00", "2026-03-03T09:00:00"),
        ("09:00", "Asia/Tokyo", "2026-03-01T23:30:00", "2026-03-02T00:00:00"),
        ("23:30", "America/New_York", "2026-12-31T12:00:00", "2027-01-01T04:30:00"),
        # Berlin: 02:00 -> 03:00 on 29 March; 03:00 -> 02:00 on 25 October.
        ("09:00", "Europe/Berlin", "2026-03-28T09:00:00", "2026-03-29T07:00:00"),
        ("02:30", "Europe/Berlin", "2026-03-28T12:00:00", "2026-03-29T01:30:00"),
        ("02:30", "Europe/Berlin", "2026-03-29T01:30:00", "2026-03-30T00:30:00"),
        ("02:30", "Europe/Berlin", "2026-10-25T00:00:00", "2026-10-25T00:30:00"),
        ("02:30", "Europe/Berlin", "2026-10-25T00:30:00", "2026-10-26T01:30:00"),
        ("03:30", "Europe/Berlin", "2026-10-25T00:45:00", "2026-10-25T02:30:00"),
        # New York: 02:00 -> 03:00 on 8 March; 02:00 -> 01:00 on 1 November.
        ("02:30", "America/New_York", "2026-03-08T05:00:00", "2026-03-08T07:30:00"),
        ("01:30", "America/New_York", "2026-11-01T04:00:00", "2026-11-01T05:30:00"),
        ("01:30", "America/New_York", "2026-11-01T05:45:00", "2026-11-02T06:30:00"),
        # Lord Howe: by half an hour, 02:00 -> 02:30 on 4 October; 02:00 -> 01:30 on 5 April.
        ("02:15", "Australia/Lord_Howe", "2026-10-03T12:00:00", "2026-10-03T15:45:00"),
        ("01:45", "Australia/Lord_Howe", "2026-04-04T12:00:00", "2026-04-04T14:45:00"),
        ("01:45", "Australia/Lord_Howe", "2026-04-04T15:00:00", "2026-04-05T15:15:00"),
        # Samoa had no 30 December 2011 at all.
        ("12:00", "Pacific/Apia", "2011-12-29T23:00:00", "2011-12-30T22:00:00"),
    ],
)
def test_the_next_time_of_day(until, tz, now, then):
    assert at(until, tz, now) == utc(then)


@given(
    now=st.datetimes(datetime(2000, 1, 1), datetime(2037, 1, 1)),  # noqa: DTZ001 - made aware below
    minute=st.integers(0, 24 * 60 - 1),
    tz=st.sampled_from(ZONES),
)
def test_it_is_soon_and_the_clock_there_shows_it(now, minute, tz):
    now, zone = now.replace(tzinfo=UTC), ZoneInfo(tz)
    wanted = f"{minute // 60:02}:{minute % 60:02}"
    then = next_time(Until(until=wanted, tz=tz), now)
    assert now < then <= now + timedelta(hours=49)
    if tz != "Pacific/Apia":
        assert then <= now + timedelta(hours=25)
    local = then.astimezone(zone)
    skipped = local.replace(hour=minute // 60, minute=minute % 60, second=0, microsecond=0).astimezone(UTC) == then
    assert f"{local:%H:%M}" == wanted or skipped or tz == "Pacific/Apia", "it was skipped, and comes as much later"


def test_the_clocks_of_each_kind_of_stage():
    seconds = timedelta(seconds=1)
    steps = """
  - deploy: green
  - canary: 10%
    gates: errors
    hold: 10m
  - canary: 20%
    hold: 5m
  - wait: 90s
  - wait: {until: "09:30"}
  - approve: sure?
    timeout: 2h
  - test: green
"""
    clocks = [stage_clocks(stage, NOW) for stage in stages_of(steps)]
    assert clocks == [
        (None, None),
        (NOW + 600 * seconds, NOW + 4200 * seconds),
        (NOW + 300 * seconds, None),
        (NOW + 90 * seconds, None),
        (NOW + 1800 * seconds, None),
        (None, NOW + 7200 * seconds),
        (None, None),
    ]


def test_a_stage_without_a_deadline_has_none():
    stage = Stage(0, "x", "canary", 0, Target({}))
    assert stage_clocks(stage, NOW) == (None, None)
    assert stage_clocks(Stage(0, "x", "wait", 0, WaitStep(wait="0")), NOW) == (NOW, None)
    assert stage_clocks(Stage(0, "x", "approve", 0, ApproveStep(approve="x", timeout="1s")), NOW)[1] == (
        NOW + timedelta(seconds=1)
    )
