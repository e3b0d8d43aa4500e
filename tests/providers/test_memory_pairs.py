"""Pairs of the simulated cloud: joined as ordered, told once, and the counters' own."""

import asyncio
import itertools
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from providers.actions import Action, PutDeployment, PutEndpoint, SetTraffic
from providers.base import Capabilities, Context, Fence, Operation
from providers.measurement import Measurement, MeasureQuery, Pairs
from providers.memory import Behaviour, MemoryProvider, World
from providers.specs import DeploymentSpec, EndpointSpec

pytestmark = pytest.mark.looptime

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
PAIRS = MeasureQuery("shop", ("green", "blue"))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    numbers = itertools.count()
    return Context(
        home=tmp_path,
        clock=lambda: EPOCH + timedelta(seconds=asyncio.get_running_loop().time()),
        token=lambda: f"token-{next(numbers)}",
    )


async def build(provider: MemoryProvider) -> None:
    blue, green = [await provider.resolve(DeploymentSpec(name=name), base="/") for name in ("blue", "green")]
    actions: list[Action] = [PutEndpoint("shop", EndpointSpec(name="shop")), PutDeployment("shop", blue)]
    actions += [PutDeployment("shop", green), SetTraffic("shop", {"blue": 1000}, {"green": 500})]
    for number, action in enumerate(actions):
        operation = await provider.begin(action, key=f"key-{number}", fence=Fence("store", "rollout", 1))
        while isinstance(await provider.poll(operation), Operation):
            await asyncio.sleep(0.1)


def within(count: int, total: int, share: float) -> bool:
    """Whether a binomial count is within 4 sigma."""
    return abs(count - total * share) <= 4 * math.sqrt(total * share * (1 - share))


def spread(pairs: Pairs) -> tuple[float, float, float]:
    """Mean and deviation of the logarithm of the copies' latencies, and its correlation with their twins'."""
    rows = np.array([(copy, twin) for copy, twin, n in pairs.latencies for _ in range(n) if copy and twin])
    logs = np.log(rows)
    return float(logs[:, 0].mean()), float(logs[:, 0].std()), float(np.corrcoef(logs.T)[0, 1])


async def mirrored(context, behaviour: Behaviour, blue: Behaviour, seconds: float = 100, seed: int = 1) -> Measurement:
    world = World(seed=seed, capabilities=Capabilities(paired=True))
    provider = MemoryProvider.in_world(world, context)
    await build(provider)
    world.behave("shop", "green", behaviour)
    world.behave("shop", "blue", blue)
    world.traffic("shop", rate=100.0)
    first = await provider.measure(PAIRS, None)
    await asyncio.sleep(seconds)
    return await provider.measure(PAIRS, first.cursor)


@pytest.mark.parametrize("likeness", [0.0, 0.7, 1.0])
async def test_a_copy_is_about_as_slow_as_its_twin(context, likeness: float) -> None:
    green = Behaviour(latency_us=10_000, sigma=0.4, likeness=likeness)
    pairs = (await mirrored(context, green, Behaviour(sigma=0.2))).pairs
    mean, deviation, correlation = spread(pairs)
    n = pairs.joined
    assert n > 4_000
    assert mean == pytest.approx(math.log(10_000), abs=4 * 0.4 / math.sqrt(n) + 0.005)
    assert deviation == pytest.approx(0.4, abs=4 * 0.4 / math.sqrt(2 * n))
    assert correlation == pytest.approx(likeness, abs=0.05)
    assert all(len(str(us).rstrip("0")) <= pairs.digits for copy, twin, _ in pairs.latencies for us in (copy, twin))


async def test_a_request_that_nobody_can_answer_fails_on_both_sides(context) -> None:
    both = Behaviour(shared_error_rate=0.1)
    measurement = await mirrored(context, both, both)
    classes = {(copy, twin): n for copy, twin, n in measurement.pairs.classes}
    assert set(classes) == {("200", "200"), ("500", "500")}
    assert within(classes["500", "500"], measurement.pairs.joined, 0.1)
    alone = await mirrored(context, Behaviour(shared_error_rate=0.1, error_rate=0.05), Behaviour())
    assert {twin for _, twin, _ in alone.pairs.classes} == {"200"}
    assert within(alone.leg("green", "mirror").classes["500"], alone.leg("green", "mirror").requests, 0.145)


async def test_copies_get_lost_and_time_out_where_it_was_ordered(context) -> None:
    measurement = await mirrored(context, Behaviour(mirror_drops=0.2, timeouts=0.1, error_rate=0.1), Behaviour())
    leg, pairs = measurement.leg("green", "mirror"), measurement.pairs
    assert pairs.missing == {"dropped": leg.classes["reset"]}
    assert within(pairs.lost, leg.requests, 0.2)
    assert {copy: n for copy, _, n in pairs.classes} == {k: n for k, n in leg.classes.items() if k != "reset"}
    assert sum(n for copy, _, n in pairs.latencies if copy is None) == leg.classes["timeout"]
    assert pairs.joined + pairs.lost == leg.requests


async def test_pairs_are_told_once_and_bounded(context, monkeypatch) -> None:
    world = World(capabilities=Capabilities(paired=True))
    provider = MemoryProvider.in_world(world, context)
    await build(provider)
    world.traffic("shop", rate=50.0)
    start = cursor = (await provider.measure(PAIRS, None)).cursor
    joined = 0
    for _ in range(10):
        await asyncio.sleep(3)
        measurement = await provider.measure(PAIRS, cursor)
        cursor, joined = measurement.cursor, joined + measurement.pairs.joined
    whole = await provider.measure(PAIRS, start)
    assert joined == whole.pairs.joined == whole.leg("green", "mirror").requests > 500
    assert not (await provider.measure(PAIRS, cursor)).pairs.joined
    monkeypatch.setattr("providers.memory.pairs._MOST_ROWS", 100)
    await asyncio.sleep(1)
    late = await provider.measure(PAIRS, start)
    assert late.pairs.missing["dropped"] > 400
    assert late.pairs.joined + late.pairs.lost == late.leg("green", "mirror").requests
    world.meddle("shop", healthy={"green": 0})
    after = await provider.measure(PAIRS, late.cursor)
    await asyncio.sleep(2)
    dead = await provider.measure(PAIRS, after.cursor)
    assert (dead.pairs.joined, dead.pairs.lost) == (0, dead.leg("green", "mirror").requests)
    assert dead.pairs.lost > 0


async def test_a_restarted_data_plane_joins_nothing_of_before(context) -> None:
    world = World(capabilities=Capabilities(paired=True))
    provider = MemoryProvider.in_world(world, context)
    await build(provider)
    world.traffic("shop", rate=50.0)
    start = await provider.measure(PAIRS, None)
    await asyncio.sleep(5)
    world.restart_data_plane("shop")
    lost = await provider.measure(PAIRS, start.cursor)
    assert (lost.lost, lost.pairs) == (True, None)
    await asyncio.sleep(5)
    after = await provider.measure(PAIRS, lost.cursor)
    assert after.pairs.joined == after.leg("green", "mirror").requests > 0
