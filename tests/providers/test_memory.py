"""The simulated cloud: its traffic, the faults that can be ordered, and what it refuses. What every provider does is in
the conformance suite.
"""

import asyncio
import itertools
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from providers.actions import DeleteDeployment, DeleteEndpoint, PutDeployment, PutEndpoint, Scale, SetTraffic
from providers.base import Capabilities, Claim, Context, Done, Failed, Fence, Operation, Request
from providers.errors import Conflict, Fenced, NotFound, Permanent, Temporary, Unsupported
from providers.measurement import MeasureQuery
from providers.memory import Behaviour, MemoryProvider, World, named_world
from providers.specs import DeploymentSpec, EndpointSpec

pytestmark = pytest.mark.looptime

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
FENCE = Fence("store", "rollout", 1)
QUERY = MeasureQuery("shop", ("blue", "green"))
BLUE = {"blue": 1000}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    numbers = itertools.count()
    return Context(
        home=tmp_path,
        clock=lambda: EPOCH + timedelta(seconds=asyncio.get_running_loop().time()),
        token=lambda: f"token-{next(numbers)}",
    )


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def provider(world: World, context: Context) -> MemoryProvider:
    return MemoryProvider.in_world(world, context)


async def finish(provider: MemoryProvider, operation: Operation) -> Done | Failed:
    while isinstance(outcome := await provider.poll(operation), Operation):
        await asyncio.sleep(outcome.retry_after or 0.01)
    return outcome


async def do(provider: MemoryProvider, action, key: str | None = None) -> Done | Failed:
    key = key or f"key-{len(provider.world.operations)}"
    return await finish(provider, await provider.begin(action, key=key, fence=FENCE))


async def put(provider: MemoryProvider, name: str, *, version: str = "1", instances: int = 1) -> PutDeployment:
    spec = DeploymentSpec(name=name, environment_variables={"V": version}, instance_count=instances)
    return PutDeployment("shop", await provider.resolve(spec, base="/"))


async def build(
    provider: MemoryProvider, traffic: dict[str, int] | None = None, mirror: dict[str, int] | None = None
) -> None:
    await do(provider, PutEndpoint("shop", EndpointSpec(name="shop")))
    for name in ("blue", "green"):
        await do(provider, await put(provider, name))
    await do(provider, SetTraffic("shop", BLUE if traffic is None else traffic, mirror or {}))


def within(count: int, total: int, share: float) -> bool:
    """Whether a binomial count is within 4 sigma."""
    return abs(count - total * share) <= 4 * math.sqrt(total * share * (1 - share))


async def test_load_is_split_mirrored_and_counted(provider, world) -> None:
    await build(provider, {"blue": 900, "green": 100})
    world.traffic("shop", rate=200.0)
    world.behave("shop", "green", Behaviour(error_rate=0.1, timeouts=0.05, latency_us=20_000, sigma=0.5))
    first = await provider.measure(QUERY, None)
    await asyncio.sleep(100)
    split = await provider.measure(QUERY, first.cursor)
    blue, green = split.leg("blue", "live"), split.leg("green", "live")
    assert blue.requests + green.requests == 20_000
    assert within(green.requests, 20_000, 0.1)
    assert blue.classes == {"200": blue.requests}
    assert within(green.classes["500"], green.requests, 0.1)
    assert within(green.classes["timeout"], green.requests, 0.05)
    assert sum(green.classes.values()) == green.requests == green.latency.count
    assert green.latency.above == green.classes["timeout"]
    slower = sum(n for lower, _, n in green.latency.buckets if lower >= 20_000)
    assert within(slower, green.requests - green.latency.above, 0.5)
    await do(provider, SetTraffic("shop", BLUE, {"green": 250}))
    second = await provider.measure(QUERY, None)
    await asyncio.sleep(50)
    mirrored = await provider.measure(QUERY, second.cursor)
    assert mirrored.leg("blue", "live").requests == 10_000
    assert mirrored.leg("green", "live").requests == 0
    assert within(mirrored.leg("green", "mirror").requests, 10_000, 0.25)
    assert {(leg.deployment, leg.source) for leg in mirrored.legs} == set(
        itertools.product(("blue", "green"), ("live", "mirror", "direct"))
    )


async def test_live_and_mirrored_shares_are_drawn_independently(context) -> None:
    """With the same draw for both, all or none of a deployment's requests would be mirrored."""
    world = World(capabilities=Capabilities(live_xor_mirror=False, mirror_targets=2, paired=True))
    provider = MemoryProvider.in_world(world, context)
    await build(provider, {"blue": 500, "green": 500}, {"green": 500})
    world.traffic("shop", rate=100.0)
    world.behave("shop", "green", Behaviour(error_rate=1.0))
    first = await provider.measure(QUERY, None)
    await asyncio.sleep(100)
    blue = await provider.measure(MeasureQuery("shop", ("green", "blue")), first.cursor)
    green = await provider.measure(MeasureQuery("shop", ("green", "green")), first.cursor)
    # The copy always fails, its twin when green served it: in half of the pairs.
    assert [key[:2] for key in blue.pairs.classes] == [("500", "200")]
    assert [key[:2] for key in green.pairs.classes] == [("500", "500")]
    copies = blue.leg("green", "mirror").requests
    assert blue.pairs.joined + green.pairs.joined == copies
    assert within(blue.pairs.joined, copies, 0.5)
    assert blue.pairs.joined > 2000
    assert blue.pairs.missing == green.pairs.missing == {}


@pytest.mark.parametrize("steps", [1, 7, 300])
async def test_requests_are_the_same_whoever_looks_and_how_often(context, steps: int) -> None:
    totals = []
    for parts in (1, steps):
        world = World(seed=3)
        provider = MemoryProvider.in_world(world, context)
        world.behave("shop", "green", Behaviour(error_rate=0.2))
        await build(provider, {"blue": 700, "green": 300})
        world.traffic("shop", rate=33.0)
        cursor = (await provider.measure(QUERY, None)).cursor
        total: dict[str, int] = {}
        for _ in range(parts):
            await asyncio.sleep(60 / parts)
            measurement = await provider.measure(QUERY, cursor)
            cursor = measurement.cursor
            for name, number in measurement.leg("green", "live").classes.items():
                total[name] = total.get(name, 0) + number
        totals.append(total)
    assert totals[0] == totals[1]
    assert totals[0]["500"] > 0


def test_the_seed_does_not_depend_on_the_process() -> None:
    code = "from providers.memory.traffic import Stream; print([*Stream(1, 'shop').take(1)][0].uniform.tolist())"
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1


async def test_load_stops_and_changes_where_it_was_ordered(provider, world) -> None:
    world.traffic("shop", rate=100.0)
    await build(provider)
    start = await provider.measure(QUERY, None)
    await asyncio.sleep(10)
    world.traffic("shop", rate=10.0)
    await asyncio.sleep(10)
    world.traffic("shop", rate=0.0)
    await asyncio.sleep(10)
    assert (await provider.measure(QUERY, start.cursor)).leg("blue", "live").requests == 1100


async def test_a_dead_deployment_answers_503(provider, world) -> None:
    await build(provider)
    world.traffic("shop", rate=100.0)
    world.meddle("shop", healthy={"blue": 0})
    start = await provider.measure(QUERY, None)
    await asyncio.sleep(1)
    assert (await provider.measure(QUERY, start.cursor)).leg("blue", "live").classes == {"503": 100}
    assert (await provider.invoke("shop", Request(), deployment=None, timeout=1.0)).status == 503


async def test_a_restarted_data_plane_loses_what_it_counted(provider, world) -> None:
    await build(provider)
    world.traffic("shop", rate=100.0)
    start = await provider.measure(QUERY, None)
    await asyncio.sleep(5)
    world.restart_data_plane("shop")
    lost = await provider.measure(QUERY, start.cursor)
    assert (lost.lost, lost.legs) == (True, ())
    assert lost.cursor.incarnation != start.cursor.incarnation
    await asyncio.sleep(5)
    after = await provider.measure(QUERY, lost.cursor)
    assert (after.lost, after.leg("blue", "live").requests) == (False, 500)


async def test_counts_of_a_deleted_deployment_are_still_there(provider, world) -> None:
    await build(provider, {"green": 1000})
    world.traffic("shop", rate=100.0)
    start = await provider.measure(QUERY, None)
    await asyncio.sleep(5)
    await do(provider, SetTraffic("shop", BLUE))
    await do(provider, DeleteDeployment("shop", "green"))
    after = await provider.measure(QUERY, start.cursor)
    assert after.leg("green", "live").requests == 520  # 0.2 s more, until the traffic was changed


async def test_operations_take_their_time(context) -> None:
    world = World(durations={"put_deployment": 30.0})
    provider = MemoryProvider.in_world(world, context)
    await do(provider, PutEndpoint("shop", EndpointSpec(name="shop")))
    operation = await provider.begin(await put(provider, "blue", instances=2), key="k", fence=FENCE)
    assert (operation.progress, operation.retry_after) == ("creating deployment blue", 30.0)
    await asyncio.sleep(29.9)
    blue = (await provider.observe("shop")).deployments["blue"]
    assert (blue.healthy, blue.desired) == (0, 2)
    await asyncio.sleep(0.1)
    assert await provider.poll(operation) == Done("k")
    assert (await provider.observe("shop")).deployments["blue"].healthy == 2


async def test_traffic_is_the_old_one_until_its_operation_has_ended(provider) -> None:
    await build(provider)
    operation = await provider.begin(SetTraffic("shop", {"green": 1000}), key="k", fence=FENCE)
    assert (await provider.observe("shop")).traffic == BLUE
    with pytest.raises(Conflict, match="busy changing the traffic"):
        await provider.begin(SetTraffic("shop", BLUE), key="k2", fence=FENCE)
    with pytest.raises(Conflict, match="traffic of green is just being changed"):
        await provider.begin(DeleteDeployment("shop", "green"), key="k3", fence=FENCE)
    assert await finish(provider, operation) == Done("k")
    assert (await provider.observe("shop")).traffic == {"green": 1000}


async def test_effects_tell_what_was_done_once(provider, world) -> None:
    await build(provider)
    for _ in range(2):
        await do(provider, SetTraffic("shop", {"green": 1000}), key="shift")
    await do(provider, SetTraffic("shop", {"green": 1000}), key="shift-again")
    await do(provider, DeleteDeployment("shop", "red"), key="nothing")
    assert [e.key for e in world.effects if e.kind == "set_traffic"] == ["key-3", "shift"]
    assert not [e for e in world.effects if e.key == "nothing"]
    with pytest.raises(Permanent, match="Key shift stands for changing the traffic"):
        await do(provider, DeleteDeployment("shop", "blue"), key="shift")


async def test_an_error_before_the_effect_and_one_after_it(provider, world) -> None:
    await build(provider)
    action = SetTraffic("shop", {"green": 1000})
    world.fail_next("begin", times=2)
    for _ in range(2):
        with pytest.raises(Temporary, match="begin failed by order"):
            await provider.begin(action, key="k", fence=FENCE)
    assert "k" not in world.operations
    world.fail_next("set_traffic", Temporary("The answer was lost."), after_effect=True)
    with pytest.raises(Temporary, match="answer was lost"):
        await provider.begin(action, key="k", fence=FENCE)
    assert await do(provider, action, key="k") == Done("k")
    assert len([e for e in world.effects if e.key == "k"]) == 1
    for call in ("observe", "measure", "poll"):
        world.fail_next(call, Temporary)
    with pytest.raises(Temporary):
        await provider.observe("shop")
    with pytest.raises(Temporary):
        await provider.measure(QUERY, None)
    with pytest.raises(ValueError, match="no call obserf"):
        world.fail_next("obserf")


async def test_slow_calls_stale_readings_and_spoiled_operations(provider, world, looptime) -> None:
    await build(provider)
    before = float(looptime)
    world.delay("observe", 7.0)
    await provider.observe("shop")
    await provider.observe("shop")
    assert float(looptime) - before == pytest.approx(7.0)
    world.stale(5.0)
    await do(provider, SetTraffic("shop", {"green": 1000}))
    assert (await provider.observe("shop")).traffic == BLUE
    await asyncio.sleep(5)
    assert (await provider.observe("shop")).traffic == {"green": 1000}
    world.spoil("scale", "No quota is left.", permanent=False)
    assert await do(provider, Scale("shop", "blue", 3), key="k") == Failed("k", "No quota is left.", permanent=False)
    assert await do(provider, Scale("shop", "blue", 3), key="k2") == Done("k2")


async def test_somebody_else_changes_things(provider, world) -> None:
    await build(provider)
    claim = Claim("other-store", "r", 7)
    world.meddle("shop", traffic={"green": 1000}, mirror={"blue": 100}, instances={"blue": 4}, digests={"green": "d"})
    world.later(3.0, lambda: world.meddle("shop", remove=["blue"], mirror={}, claim=claim))
    state = await provider.observe("shop")
    assert (state.traffic, state.mirror, state.deployments["green"].digest) == ({"green": 1000}, {"blue": 100}, "d")
    assert (state.deployments["blue"].healthy, state.deployments["blue"].desired) == (4, 4)
    await asyncio.sleep(3)
    state = await provider.observe("shop")
    assert (set(state.deployments), state.mirror, state.claim) == ({"green"}, {}, claim)
    with pytest.raises(Fenced, match=r"claimed by rollout r of store other-store"):
        await provider.begin(SetTraffic("shop", {}), key="k", fence=FENCE)


async def test_an_old_epoch_stays_out_after_release(provider) -> None:
    await build(provider)
    newer = Fence("store", "rollout-2", 2)
    await provider.begin(SetTraffic("shop", BLUE), key="k", fence=newer)
    await provider.release("shop", newer)
    with pytest.raises(Fenced, match="driven with epoch 2, so epoch 1"):
        await provider.begin(SetTraffic("shop", {}), key="k2", fence=FENCE)


async def test_a_starting_deployment_can_be_deleted_and_cannot_get_traffic(provider) -> None:
    await build(provider)
    starting = await provider.begin(await put(provider, "red"), key="k", fence=FENCE)
    with pytest.raises(Conflict, match="red has no healthy instance"):
        await provider.begin(SetTraffic("shop", {"red": 1000}), key="k2", fence=FENCE)
    await do(provider, SetTraffic("shop", {"green": 1000}))
    deleting = await provider.begin(DeleteDeployment("shop", "red"), key="k3", fence=FENCE)
    assert await provider.poll(starting) == Failed(
        "k", "It was put to an end by deleting deployment red.", permanent=False
    )
    assert await finish(provider, deleting) == Done("k3")
    going = await provider.begin(DeleteDeployment("shop", "blue"), key="k4", fence=FENCE)
    with pytest.raises(Conflict, match="blue is being deleted"):
        await provider.begin(SetTraffic("shop", BLUE), key="k5", fence=FENCE)
    assert await finish(provider, going) == Done("k4")
    await asyncio.sleep(60)
    assert set((await provider.observe("shop")).deployments) == {"green"}


async def test_one_thing_at_a_time_where_the_endpoint_is_so(context) -> None:
    provider = MemoryProvider.in_world(World(capabilities=Capabilities(concurrent=False, atomic_shift=False)), context)
    await build(provider)
    operation = await provider.begin(await put(provider, "red"), key="k", fence=FENCE)
    assert (await provider.observe("shop")).busy == "creating deployment red"
    with pytest.raises(Conflict, match="busy creating deployment red"):
        await provider.begin(SetTraffic("shop", {}), key="k2", fence=FENCE)
    await finish(provider, operation)
    with pytest.raises(Unsupported, match="in one step"):
        await provider.begin(SetTraffic("shop", {"green": 1000}, {"blue": 100}), key="k3", fence=FENCE)


async def test_behaviour_decides_how_a_deployment_starts(provider, world) -> None:
    await do(provider, PutEndpoint("shop", EndpointSpec(name="shop")))
    world.behave("shop", "blue", Behaviour(starts=False, start_seconds=40.0, exit_reason="init() raised ImportError"))
    begun = provider.world.now()
    outcome = await do(provider, await put(provider, "blue"), key="k")
    assert outcome == Failed("k", "Deployment blue cannot start: init() raised ImportError.")
    assert (provider.world.now() - begun).total_seconds() == pytest.approx(40.0)
    assert "init() raised ImportError" in await provider.logs("shop", "blue", instance=0, tail=1)
    world.behave("shop", "blue", Behaviour())
    assert await do(provider, await put(provider, "blue"), key="k2") == Done("k2")
    assert (await provider.observe("shop")).deployments["blue"].problem is None


async def test_invoke_waits_as_long_as_the_deployment_takes(provider, world, looptime) -> None:
    await build(provider)
    world.behave("shop", "green", Behaviour(latency_us=300_000, sigma=0.0, answer=b"[1.5]"))
    before = float(looptime)
    response = await provider.invoke("shop", Request(), deployment="green", timeout=1.0)
    assert (response.status, response.body, response.seconds) == (200, b"[1.5]", 0.3)
    assert float(looptime) - before == pytest.approx(0.3)
    start = await provider.measure(QUERY, None)
    with pytest.raises(Temporary, match=r"green of endpoint shop did not answer within 0.1 s"):
        await provider.invoke("shop", Request(), deployment="green", timeout=0.1)
    assert (await provider.measure(QUERY, start.cursor)).leg("green", "direct").classes == {"timeout": 1}
    await do(provider, SetTraffic("shop", {}))
    assert (await provider.invoke("shop", Request(), deployment=None, timeout=1.0)).status == 404


async def test_an_endpoint_made_again_starts_from_nothing(provider, world) -> None:
    await build(provider)
    world.traffic("shop", rate=100.0)
    start = await provider.measure(QUERY, None)
    await do(provider, DeleteEndpoint("shop"))
    with pytest.raises(NotFound):
        await provider.keys("shop")
    await asyncio.sleep(100)
    await build(provider)
    again = await provider.measure(QUERY, start.cursor)
    assert again.lost
    await asyncio.sleep(1)
    assert (await provider.measure(QUERY, again.cursor)).leg("blue", "live").requests == 100


async def test_plans_share_a_world_by_its_name(context) -> None:
    options = MemoryProvider.Options.model_validate({"world": "test-shared", "rate": "50", "durations": {"scale": "9"}})
    one = MemoryProvider(options, context)
    two = MemoryProvider(MemoryProvider.Options.model_validate({"world": "test-shared"}), context)
    assert one.world is two.world is named_world("test-shared")
    assert named_world("test-nowhere") is None
    await build(one)
    start = await one.measure(QUERY, None)
    await asyncio.sleep(10)
    assert (await two.measure(QUERY, start.cursor)).leg("blue", "live").requests == 500


async def test_what_is_resolved_depends_on_paths_and_is_listed(provider) -> None:
    spec = DeploymentSpec(
        name="blue", environment="azureml:env@latest", instance_type="Standard_DS3_v2", instance_count=3
    )
    resolved = await provider.resolve(spec, base="/plans")
    assert (resolved.base, resolved.versions) == ("/plans", {"azureml:env@latest": "azureml:env:1"})
    assert resolved.ignored == ("environment", "instance_type")
    digests = set()
    for path in ("m1", "m2"):
        model = DeploymentSpec.model_validate({"name": "blue", "model": {"path": path}})
        pinned = await provider.resolve(model, base="/plans")
        assert pinned.model.path == f"/plans/{path}"
        digests.add(pinned.digest)
    assert len(digests) == 2


def test_a_wrong_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="fly is no kind of operation"):
        World(durations={"fly": 1.0})
