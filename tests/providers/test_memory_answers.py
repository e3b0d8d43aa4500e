"""Answers of the simulated cloud differ as ordered, and are told once."""

import asyncio
import itertools
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from providers.actions import Action, PutDeployment, PutEndpoint, SetTraffic
from providers.base import Context, Fence, Operation
from providers.measurement import Comparison, Count, Measurement, MeasureQuery
from providers.memory import Behaviour, MemoryProvider, World
from providers.specs import DeploymentSpec, EndpointSpec

pytestmark = pytest.mark.looptime

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
NEAR, FAR = Comparison("0", absolute=0.1, examples=3), Comparison("0", absolute=2.0)
QUERY = MeasureQuery("shop", ("green", "blue"), {"near": NEAR, "far": FAR})

GOOD = Behaviour()


@pytest.fixture
def provider(tmp_path: Path) -> MemoryProvider:
    numbers = itertools.count()
    context = Context(
        home=tmp_path,
        clock=lambda: EPOCH + timedelta(seconds=asyncio.get_running_loop().time()),
        token=lambda: f"token-{next(numbers)}",
    )
    return MemoryProvider.in_world(World(seed=1), context)


async def build(provider: MemoryProvider, green: Behaviour, blue: Behaviour = GOOD) -> None:
    made = [await provider.resolve(DeploymentSpec(name=name), base="/") for name in ("blue", "green")]
    actions: list[Action] = [PutEndpoint("shop", EndpointSpec(name="shop"))]
    actions += [PutDeployment("shop", one) for one in made]
    actions += [SetTraffic("shop", {"blue": 1000}, {"green": 500})]
    for number, action in enumerate(actions):
        operation = await provider.begin(action, key=f"key-{number}", fence=Fence("store", "rollout", 1))
        while isinstance(await provider.poll(operation), Operation):
            await asyncio.sleep(0.1)
    provider.world.behave("shop", "green", green)
    provider.world.behave("shop", "blue", blue)
    provider.world.traffic("shop", rate=100.0)


async def counted(provider: MemoryProvider, polls: int = 1, seconds: float = 100.0) -> list[Measurement]:
    cursor, found = (await provider.measure(QUERY, None)).cursor, []
    for _ in range(polls):
        await asyncio.sleep(seconds / polls)
        found.append(await provider.measure(QUERY, cursor))
        cursor = found[-1].cursor
    return found


def within(count: float, total: float, share: float) -> bool:
    return abs(count - total * share) <= 4 * math.sqrt(total * share * (1 - share))


async def test_the_ordered_share_differs(provider: MemoryProvider) -> None:
    await build(provider, Behaviour(differs=0.05))
    (measurement,) = await counted(provider)
    near, far = measurement.samples["near"], measurement.samples["far"]
    copies = measurement.leg("green", "mirror").requests
    assert near.candidate is not None
    assert near.candidate.total == copies > 4_000
    assert within(near.candidate.bad, copies, 0.05)
    assert far.candidate == Count(0, copies), "1 is within 2 of 0"
    assert near.examples == ("0: numbers differ by 1 (tolerance 0.1)",) * 3
    assert (near.query, near.nothing, near.problem, near.left_out) == ("0 within 0.1", "", "", {})


async def test_failed_answers_are_left_out_and_told_once(provider: MemoryProvider) -> None:
    await build(provider, Behaviour(differs=0.5, error_rate=0.2), Behaviour(error_rate=0.1))
    found = await counted(provider, polls=7)
    copies = sum(one.leg("green", "mirror").requests for one in found)
    samples = [one.samples["near"] for one in found]
    bad, total = (sum(getattr(one.candidate, name) for one in samples) for name in ("bad", "total"))
    assert within(bad, total, 0.5)
    assert within(total, copies, 0.8 * 0.9)
    left = sum(one.left_out["one of the two was no 2xx"] for one in samples)
    assert left + total == copies


async def test_the_same_answers_never_differ_and_none_is_said(provider: MemoryProvider) -> None:
    await build(provider, Behaviour())
    (measurement,) = await counted(provider)
    near = measurement.samples["near"].candidate
    assert near is not None
    assert near.bad == 0 < near.total
    provider.world.behave("shop", "green", Behaviour(answer=b"{}"))
    provider.world.behave("shop", "blue", Behaviour(answer=b"{}"))
    (measurement,) = await counted(provider)
    assert "neither answer has the path" in measurement.samples["near"].nothing
    alone = await provider.measure(MeasureQuery("shop", ("green",), {"near": NEAR}), measurement.cursor)
    assert alone.samples["near"].nothing.startswith("there is no second deployment")
