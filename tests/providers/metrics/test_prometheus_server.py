"""The metric against a real Prometheus: every request is told once, and what is not known is never a figure."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from providers.metrics import prometheus
from tests.providers.metrics.conftest import SPEC

pytestmark = [pytest.mark.needs("prometheus"), pytest.mark.timeout(90)]


def counting(opened: Any, scraped: Any, name: str, **more: Any) -> Any:
    options = {"total": f"{name}_total", "bad": f"{name}_bad", **more}
    return opened("prometheus", url=scraped.url, **{key: text for key, text in options.items() if text})


async def test_each_request_is_told_once_whenever_it_is_asked(scraped: Any, opened: Any, look: Any) -> None:
    scraped.lines |= {"once_total": "1000", "once_bad": "100"}
    await scraped.sees("once_total == 1000")
    ask = look(counting(opened, scraped, "once"))
    first = await ask()
    assert (first.count, first.nothing, first.problem) == (None, "", "")
    total, bad, told, told_bad, answers = 1000, 100, 0.0, 0.0, 0
    for number in range(1, 21):
        total, bad = total + number * 7, bad + number % 3
        scraped.lines |= {"once_total": str(total), "once_bad": str(bad)}
        await asyncio.sleep(0.17)
        reading = await ask()
        assert (reading.nothing, reading.problem) == ("", "")
        told, told_bad, answers = told + reading.count.total, told_bad + reading.count.bad, answers + 1
    await scraped.sees(f"once_total == {total}")
    reading = await ask()
    assert (told + reading.count.total, told_bad + reading.count.bad) == (total - 1000, bad - 100)
    assert 0 < told < total, "the last ones were not scraped yet when they were asked for"
    assert (await ask()).count.total == 0


async def test_good_ones_count_as_the_rest(scraped: Any, opened: Any, look: Any) -> None:
    scraped.lines |= {'good_total{cluster="green~mirror"}': "10", 'good_good{cluster="green~mirror"}': "10"}
    await scraped.sees("good_total == 10")
    metric = opened(
        "prometheus",
        url=f"{scraped.url}/",
        total='sum(good_total{cluster="{{leg}}"}) # all of them',
        good='sum(good_good{cluster="{{ deployment }}~{{source}}"})',
    )
    ask = look(metric)
    reading = await ask()
    assert reading.query == (
        'good: sum(good_good{cluster="green~mirror"}); total: sum(good_total{cluster="green~mirror"}) # all of them'
    )
    scraped.lines |= {'good_total{cluster="green~mirror"}': "30", 'good_good{cluster="green~mirror"}': "25"}
    await scraped.sees("good_total == 30")
    count = (await ask()).count
    assert (count.bad, count.total) == (5, 20)


async def test_a_counter_that_began_anew_tells_nothing_and_then_goes_on(scraped: Any, opened: Any, look: Any) -> None:
    scraped.lines |= {"reset_total": "1000", "reset_bad": "10"}
    await scraped.sees("reset_total == 1000")
    ask = look(counting(opened, scraped, "reset"))
    await ask()
    scraped.lines |= {"reset_total": "5", "reset_bad": "0"}
    await scraped.sees("reset_total == 5")
    reading = await ask()
    assert reading.count is None
    assert reading.nothing.startswith("the counter total fell from 1000 to 5: it began anew")
    scraped.lines |= {"reset_total": "8", "reset_bad": "1"}
    await scraped.sees("reset_total == 8")
    count = (await ask()).count
    assert (count.bad, count.total) == (1, 3)


async def test_a_reset_is_seen_though_the_counter_is_higher_again(scraped: Any, opened: Any, look: Any) -> None:
    scraped.lines |= {"hidden_total": "100", "hidden_bad": "10"}
    await scraped.sees("hidden_total == 100")
    ask = look(counting(opened, scraped, "hidden"))
    await ask()
    scraped.lines |= {"hidden_total": "20", "hidden_bad": "15"}
    await scraped.sees("hidden_total == 20")
    await asyncio.sleep(1.2)  # one look of the window falls into it
    scraped.lines |= {"hidden_total": "200"}
    await scraped.sees("hidden_total == 200")
    reading = await ask()
    assert reading.count is None
    assert "fell from 100 to 20" in reading.nothing


async def test_a_series_that_went_away_and_came_back(scraped: Any, opened: Any, look: Any) -> None:
    scraped.lines |= {"away_total": "100", "away_bad": "10"}
    await scraped.sees("away_total == 100")
    ask = look(counting(opened, scraped, "away"))
    await ask()
    del scraped.lines["away_bad"]
    await scraped.gone("away_bad")
    reading = await ask()
    assert (reading.count, reading.nothing) == (None, "the query for bad found no series")
    await asyncio.sleep(1.2)
    scraped.lines |= {"away_total": "150", "away_bad": "50"}
    await scraped.sees("away_total == 150 and on() away_bad")
    reading = await ask()
    assert (reading.count, reading.problem) == (None, "")
    assert reading.nothing == "the series of bad was not there all the time, and what came in between is lost"
    scraped.lines |= {"away_total": "160"}
    await scraped.sees("away_total == 160")
    assert (await ask()).count.total == 10


async def test_another_series_is_not_the_same_counter(scraped: Any, opened: Any, look: Any) -> None:
    scraped.lines |= {'other_total{pod="a"}': "10", "other_bad": "0"}
    await scraped.sees("other_total == 10")
    ask = look(counting(opened, scraped, "other"))
    await ask()
    del scraped.lines['other_total{pod="a"}']
    scraped.lines |= {'other_total{pod="b"}': "500"}
    await scraped.sees("other_total == 500")
    await scraped.gone('other_total{pod="a"}')
    reading = await ask()
    assert (reading.count, reading.problem) == (None, "")
    assert "lost" in reading.nothing
    scraped.lines |= {'other_total{pod="b"}': "510"}
    await scraped.sees("other_total == 510")
    assert (await ask()).count.total == 10


@pytest.mark.parametrize(
    ("total", "bad", "kind", "words"),
    [
        ("bad_total", "bad_bad", "problem", "the query for total found several series; add them up, or select one"),
        ("sum(no_such_total)", "bad_bad", "nothing", "the query for total found no series"),
        ("sum(bad_total)", "sum(bad_bad) / 0 * 0", "problem", "bad is nan, and must be a number"),
        ("sum(bad_total) / 0", "bad_bad", "problem", "total is inf, and must be a number"),
        ("-sum(bad_total)", "bad_bad", "problem", "total is -15: a counter is never negative"),
        ("sum(bad_total", "bad_bad", "problem", "the server answered 400: bad_data: 2:2: parse error"),
        ("5", "bad_bad", "problem", "the server answered 400: bad_data: 1:15: parse error: expected"),
    ],
)
async def test_what_is_no_figure(scraped: Any, opened: Any, total: str, bad: str, kind: str, words: str) -> None:
    scraped.lines |= {'bad_total{pod="a"}': "10", 'bad_total{pod="b"}': "5", "bad_bad": "0"}
    await scraped.sees("sum(bad_total) == 15")
    metric = opened("prometheus", url=scraped.url, total=total, bad=bad)
    reading = await metric.query(replace(SPEC, until=datetime.now(UTC)), None)
    assert (reading.count, reading.values, dict(reading.mark)) == (None, (), {})
    assert getattr(reading, kind).startswith(words)
    assert reading.query == f"bad: {bad}; total: {total}"


async def test_more_bad_ones_than_there_are(scraped: Any, opened: Any, look: Any) -> None:
    scraped.lines |= {"more_total": "10", "more_bad": "0"}
    await scraped.sees("more_total == 10")
    ask = look(counting(opened, scraped, "more"))
    await ask()
    scraped.lines |= {"more_total": "11", "more_bad": "9"}
    await scraped.sees("more_total == 11")
    reading = await ask()
    assert (reading.count, reading.problem) == (None, "bad grew by 9 and total by 1: bad must be part of it")
    scraped.lines |= {"more_total": "30"}
    await scraped.sees("more_total == 30")
    assert (await ask()).count.total == 20, "the window goes on from the old mark"


async def test_values_are_points_of_their_own_samples(scraped: Any, opened: Any, look: Any) -> None:
    scraped.lines["value_seconds"] = "1"
    await scraped.sees("value_seconds == 1")
    metric = opened("prometheus", url=scraped.url, value="value_seconds", step="2s")
    assert metric.form == "values"
    ask = look(metric)
    assert (await ask()).values == ()
    seen: list[tuple[datetime, float]] = []
    for value in range(2, 8):
        scraped.lines["value_seconds"] = str(value)
        await asyncio.sleep(1.1)
        reading = await ask()
        assert reading.problem == ""
        assert bool(reading.values) != bool(reading.nothing)
        seen += reading.values
    times = [when for when, _ in seen]
    assert len(times) >= 2
    assert all(when.timestamp() % 2 == 0 for when in times)
    assert times == sorted(set(times)), "each point is told once"
    assert [value for _, value in seen] == sorted(value for _, value in seen)


async def test_a_sample_is_no_new_point_though_prometheus_repeats_it(scraped: Any, opened: Any, look: Any) -> None:
    at = datetime.now(UTC).timestamp() - 100
    scraped.lines["old_seconds"] = f"7 {round(at * 1000)}"
    await scraped.sees("old_seconds == 7")
    ask = look(opened("prometheus", url=scraped.url, value="old_seconds", step="1s"))
    lax = look(opened("prometheus", url=scraped.url, value="old_seconds", step="1s", stale="10m"))
    await ask(), await lax()
    await asyncio.sleep(1.5)
    reading = await ask()
    assert reading.values == ()
    assert "its newest sample is 10" in reading.nothing
    assert {value for _, value in (await lax()).values} == {7}, "it is there for whoever asks for old ones"


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ("nan_seconds / 0 * 0", "nothing", "the value is NaN"),
        ("nan_seconds / 0", "problem", "the value is inf, and must be a number"),
        ("no_such_seconds", "nothing", "the query found no series"),
        ("two_seconds", "problem", "the query for value found several series; add them up, or select one"),
    ],
)
async def test_what_is_no_value(scraped: Any, opened: Any, look: Any, value: str, kind: str, words: str) -> None:
    scraped.lines |= {"nan_seconds": "1", 'two_seconds{pod="a"}': "1", 'two_seconds{pod="b"}': "2"}
    await scraped.sees("nan_seconds == 1")
    ask = look(opened("prometheus", url=scraped.url, value=value, step="1s"))
    await ask()
    await asyncio.sleep(1.1)
    reading = await ask()
    assert reading.values == ()
    assert getattr(reading, kind) == words


async def test_a_long_window_has_a_bounded_number_of_points(scraped: Any, opened: Any) -> None:
    scraped.lines |= {"long_total": "10", "long_bad": "0"}
    await scraped.sees("long_total == 10")
    await asyncio.sleep(1.1)
    now = datetime.now(UTC)
    spec = replace(SPEC, until=now)
    values = opened("prometheus", url=scraped.url, value="long_total", step="1s")
    mark = {"at": round(now.timestamp() - 7 * 86400) * 1000}
    reading = await values.query(spec, mark)
    assert 0 < len(reading.values) < prometheus.MOST_POINTS
    counts = opened("prometheus", url=scraped.url, total="long_total", bad="long_bad")
    first = await counts.query(spec, None)
    reading = await counts.query(spec, {**first.mark, "at": mark["at"]})
    assert reading.nothing.startswith("the series of total was not there all the time")
