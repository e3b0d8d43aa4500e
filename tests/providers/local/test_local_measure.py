"""What is counted is what clients sent, class by class, whatever happens in between."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.actions import DeleteDeployment, SetTraffic
from providers.errors import Temporary
from providers.local import measure
from providers.local.envoy import Statistics
from providers.local.state import Baseline, Deployment, Generation
from providers.measurement import RESET, TIMEOUT, Leg, MeasureQuery
from providers.specs import RequestSettings

NAME = "shop"
QUERY = MeasureQuery(NAME, ("blue", "green"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def total(into: Counter[tuple[str, str, str]], legs: tuple[Leg, ...]) -> None:
    for leg in legs:
        assert sum(leg.classes.values()) == leg.requests
        assert leg.latency is not None
        answered = sum(n for name, n in leg.classes.items() if name not in (TIMEOUT, RESET))
        assert leg.latency.above == leg.requests - answered
        for name, number in leg.classes.items():
            into[leg.deployment, leg.source, name] += number


@pytest.mark.needs("linux", "envoy")
async def test_every_class_is_counted_exactly(local: Any, wait_until: Any) -> None:
    settings = RequestSettings(request_timeout_ms=400)
    await local.build(local.spec("blue"), local.spec("green", request_settings=settings))
    await local.do(SetTraffic(NAME, {"blue": 1000}, {"green": 1000}))
    cursor = (await local.provider.measure(QUERY, None)).cursor
    counted: Counter[tuple[str, str, str]] = Counter()
    latencies = 0

    async def read() -> None:
        nonlocal cursor, latencies
        measurement = await local.provider.measure(QUERY, cursor)
        cursor = measurement.cursor
        latencies += measurement.leg("blue", "live").latency.count
        total(counted, measurement.legs)

    wanted: Counter[tuple[str, str, str]] = Counter()
    for _ in range(3):
        for _ in range(7):
            assert (await local.ask()).status == 200
        wanted.update({("blue", "live", "200"): 7, ("green", "mirror", "200"): 7})
        assert (await local.ask(**{"raise": 1})).status == 500
        wanted.update({("blue", "live", "500"): 1, ("green", "mirror", "500"): 1})
        assert (await local.ask("green", **{"raise": 1})).status == 500
        wanted["green", "direct", "500"] += 1
        await read()
    # Slower than green may be, and not too slow for blue: only the copy times out, after its own time.
    assert (await local.ask(sleep=0.7)).status == 200
    wanted.update({("blue", "live", "200"): 1, ("green", "mirror", TIMEOUT): 1})
    await asyncio.sleep(0.5)  # the model thread of green is busy with it
    assert (await local.ask("green", sleep=0.7)).status == 504
    wanted["green", "direct", TIMEOUT] += 1
    # A client that gives up is nobody's error.
    with contextlib.suppress(Temporary):
        await local.ask("blue", timeout=0.1, sleep=0.3)

    async def complete() -> bool:
        await read()
        return counted == wanted

    await wait_until(complete, f"{wanted} is counted")
    assert latencies == sum(n for (who, source, _), n in counted.items() if (who, source) == ("blue", "live"))
    # The instance ends in the middle of a request: its own class, and the copy's as well.
    await local.do(SetTraffic(NAME, {"blue": 1000}))
    assert (await local.ask("green", exit=1)).status == 503
    wanted["green", "direct", RESET] += 1
    await wait_until(complete, "the reset is counted")


@pytest.mark.needs("linux", "envoy")
async def test_a_name_that_comes_back_inherits_nothing(local: Any, wait_until: Any) -> None:
    await local.build(local.spec("blue"), local.spec("green"), traffic={"blue": 1000})
    cursor = (await local.provider.measure(QUERY, None)).cursor
    for _ in range(9):
        await local.ask("green")
    await local.do(DeleteDeployment(NAME, "green"))
    assert {leg.deployment for leg in (await local.provider.measure(QUERY, cursor)).legs} == {"blue"}
    await local.do(await local.put(local.spec("green")))
    assert (await local.provider.measure(QUERY, cursor)).leg("green", "direct").requests == 0
    for _ in range(4):
        await local.ask("green")
    again = await local.provider.measure(QUERY, cursor)
    leg = again.leg("green", "direct")
    assert (leg.requests, leg.latency.count) == (4, 4)
    assert again.leg("blue", "live").requests == 0


@pytest.mark.needs("linux", "envoy")
async def test_requests_without_a_healthy_instance_are_counted(local: Any, wait_until: Any) -> None:
    await local.build(local.spec("blue"), local.spec("green"))
    await local.do(SetTraffic(NAME, {"blue": 1000}, {"green": 1000}))
    cursor = (await local.provider.measure(QUERY, None)).cursor
    local.down("green.0")

    async def unhealthy() -> bool:
        return local.healthy("green") == 0

    await wait_until(unhealthy, "green is out")
    for _ in range(6):
        assert (await local.ask()).status == 200, "a client never notices what its copy suffers"
    counted = await local.provider.measure(QUERY, cursor)
    assert counted.leg("green", "mirror").classes == {RESET: 6}
    assert counted.leg("blue", "live").classes == {"200": 6}


# Without a proxy: readings as they may come


def deployment(generation: str = "g1") -> Deployment:
    one = Generation(generation, None, None)  # type: ignore[arg-type]
    return Deployment("blue", 1, (one,), baseline=Baseline(generation, "e1", {}))


def reading(counters: dict[str, int], incarnation: str = "e1") -> Statistics:
    names = {"200": "cluster.blue.upstream_rq_200", "log": "leg.rq.cluster.blue.code.200.flags.-"}
    return Statistics(incarnation, {names.get(k, k): v for k, v in counters.items()}, {})


def test_a_counter_that_began_anew_is_read_as_such() -> None:
    first = measure.since(None, reading({"200": 100, "log": 100}), [deployment()], NOW)
    assert first.legs == ()
    second = measure.since(first.cursor, reading({"200": 3, "log": 130}), [deployment()], NOW)
    assert second.leg("blue", "live").classes == {"200": 3}
    lost = measure.since(second.cursor, reading({"200": 9}, "e2"), [deployment()], NOW)
    assert (lost.lost, lost.legs) == (True, ())
    reborn = measure.since(second.cursor, reading({"200": 4, "log": 140}), [deployment("g2")], NOW)
    assert reborn.leg("blue", "live").classes == {"200": 4}


STEPS = st.lists(st.tuples(*[st.integers(0, 5)] * 6), min_size=1, max_size=12)


@given(STEPS, st.booleans(), st.data())
def test_classes_are_never_negative_and_add_up(steps: list[tuple[int, ...]], torn: bool, data: st.DataObject) -> None:
    """Between whole readings come torn ones, in which some counters have not moved yet."""
    cluster, log = "cluster.blue.upstream_", "leg.rq.cluster.blue.code."
    sums: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    handed: Counter[str] = Counter()
    cursor = measure.since(None, reading({}), [deployment()], NOW).cursor
    for fine, own503, refused, unhealthy, slow, late in steps:
        before = dict(sums)
        sums.update({cluster + "rq_200": fine, log + "200.flags.-": fine})
        sums.update({cluster + "rq_503": own503 + refused + unhealthy, log + "503.flags.-": own503})
        sums.update({log + "0.flags.UF": refused, cluster + "cx_none_healthy": unhealthy})
        sums.update({cluster + "rq_504": slow, cluster + "rq_timeout": slow, log + "0.flags.-": slow + late})
        sums.update({cluster + "rq_max_duration_reached": late})
        wanted.update({"200": fine, "503": own503, RESET: refused + unhealthy, TIMEOUT: slow + late})
        readings = [dict(sums)]
        if torn:
            readings.insert(0, {n: v if data.draw(st.booleans()) else before.get(n, 0) for n, v in sums.items()})
        for seen in readings:
            measurement = measure.since(cursor, reading(seen), [deployment()], NOW)
            cursor = measurement.cursor
            for leg in measurement.legs:
                assert all(number > 0 for number in leg.classes.values())
                assert sum(leg.classes.values()) == leg.requests
                handed.update(leg.classes)
    assert all(handed[name] >= number for name, number in wanted.items()), "nothing is missed"
    assert torn or handed == +wanted


def test_a_torn_reading_heals() -> None:
    cluster, log = "cluster.blue.upstream_rq_503", "leg.rq.cluster.blue.code.0.flags.UF"
    cursor = measure.since(None, reading({}), [deployment()], NOW).cursor
    torn = measure.since(cursor, reading({cluster: 1}), [deployment()], NOW)
    assert torn.leg("blue", "live").classes == {"503": 1}
    whole = measure.since(torn.cursor, reading({cluster: 1, log: 1}), [deployment()], NOW)
    assert whole.leg("blue", "live").classes == {RESET: 1}
    later = measure.since(whole.cursor, reading({cluster: 3, log: 2}), [deployment()], NOW)
    assert later.leg("blue", "live").classes == {RESET: 1}, "the one that was called 503 too early is made up for"
    assert replace(later.leg("blue", "live"), latency=None).requests == 1
