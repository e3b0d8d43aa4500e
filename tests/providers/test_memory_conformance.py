"""The memory provider passes the conformance suite, under virtual time, as every kind of endpoint that it can play."""

import asyncio
import inspect
import itertools
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import pytest

from providers.base import Capabilities, Context, Done
from providers.errors import NotFound, ProviderError
from providers.memory import Behaviour, MemoryProvider, World
from providers.memory.state import Running
from providers.specs import DeploymentSpec
from providers.testing import ProviderConformance

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.looptime
class TestMemory(ProviderConformance):
    """A quick endpoint that can do everything, as the local provider's."""

    printed = "started"
    capabilities = Capabilities(paired=True, predictions=True, mirror_limit=1000)
    durations: Mapping[str, float] = MappingProxyType({})

    @staticmethod
    def make_context(home: Path) -> Context:
        numbers = itertools.count()
        return Context(
            home=home,
            clock=lambda: EPOCH + timedelta(seconds=asyncio.get_running_loop().time()),
            token=lambda: f"token-{next(numbers)}",
        )

    @pytest.fixture
    def context(self, tmp_path: Path) -> Context:
        return self.make_context(tmp_path)

    @pytest.fixture
    def provider(self, context: Context) -> MemoryProvider:
        world = World(capabilities=self.capabilities, durations=self.durations)
        world.behave(self.endpoint, "broken", Behaviour(starts=False))
        world.behave(self.endpoint, "red", Behaviour(differs=1.0))
        return MemoryProvider.in_world(world, context)

    @pytest.fixture
    def other(self, provider: MemoryProvider, context: Context) -> MemoryProvider:
        return MemoryProvider.in_world(provider.world, context)

    def broken_deployment(self, name: str) -> DeploymentSpec:
        return self.deployment(name, version="broken")

    def differing_deployment(self, name: str) -> DeploymentSpec:
        return self.deployment(name, version="2")


@pytest.mark.looptime
class TestMemoryAsACloud(TestMemory):
    """A slow endpoint: minutes for a deployment, one thing at a time."""

    patience = 1800.0
    capabilities = Capabilities(concurrent=False, weight_step=10, interval=60.0)
    durations = MappingProxyType({"put_endpoint": 60.0, "put_deployment": 540.0, "scale": 300.0, "set_traffic": 20.0})


@pytest.mark.looptime
class TestMemoryWithoutExtras(TestMemory):
    """An endpoint that cannot mirror, scale or address a deployment."""

    capabilities = Capabilities(mirror_limit=0, scale=False, direct=False)


class Forgetful(MemoryProvider):
    """Keys mean nothing to it."""

    async def begin(self, action, *, key, fence):
        self.world.operations.pop(key, None)
        return await super().begin(action, key=key, fence=fence)


class Unfenced(MemoryProvider):
    """Lets everyone in."""

    async def begin(self, action, *, key, fence):
        if (endpoint := self.world.endpoints.get(action.endpoint)) is not None:
            endpoint.claim = None
        self.world._epochs.clear()
        return await super().begin(action, key=key, fence=fence)


class Lax(MemoryProvider):
    """Obeys whatever it is told about traffic, at once."""

    async def begin(self, action, *, key, fence):
        if action.kind == "set_traffic":
            self.world.meddle(action.endpoint, traffic=action.traffic, mirror=action.mirror)
            action = replace(action, traffic=dict(action.traffic), mirror=dict(action.mirror))
            self.world.operations[key] = Running(key, action, self.world.now(), Done(key))
        return await super().begin(action, key=key, fence=fence)


class Slow(MemoryProvider):
    """Waits within begin."""

    async def begin(self, action, *, key, fence):
        operation = await super().begin(action, key=key, fence=fence)
        await asyncio.sleep(2)
        return operation


class Hasty(MemoryProvider):
    """Says that something is done before it is."""

    kind = ""

    async def poll(self, operation):
        outcome = await super().poll(operation)
        return Done(operation.key) if operation.action.kind == self.kind else outcome


class HastyDeployment(Hasty):
    kind = "put_deployment"


class HastyScale(Hasty):
    kind = "scale"


class HastyTraffic(Hasty):
    kind = "set_traffic"


class HastyDeletion(Hasty):
    kind = "delete_deployment"


class Jealous(MemoryProvider):
    """Knows only what it began itself."""

    async def begin(self, action, *, key, fence):
        self.mine = {*getattr(self, "mine", ()), key}
        return await super().begin(action, key=key, fence=fence)

    async def poll(self, operation):
        if operation.key not in getattr(self, "mine", ()):
            raise NotFound("Never heard of it.")
        return await super().poll(operation)


class Generous(MemoryProvider):
    """Releases anybody's claim."""

    async def release(self, endpoint, fence):
        self.world.meddle(endpoint)
        self.world.endpoints[endpoint].claim = None


class Cumulative(MemoryProvider):
    """Counts from the beginning each time."""

    async def measure(self, query, cursor):
        measurement = await super().measure(query, cursor and replace(cursor, raw={"legs": {}, "pairs": {}}))
        return replace(measurement, start=cursor.at if cursor else measurement.end)


class Draining(MemoryProvider):
    """Forgets what it has told."""

    async def measure(self, query, cursor):
        measurement = await super().measure(query, cursor)
        self.world.endpoint(query.endpoint).counters.legs.clear()
        return measurement


class Mixing(MemoryProvider):
    """Takes mirrored and addressed requests for live ones."""

    async def measure(self, query, cursor):
        measurement = await super().measure(query, cursor)
        return replace(measurement, legs=tuple(replace(leg, source="live") for leg in measurement.legs))


class Blind(MemoryProvider):
    """Says that it can join, and does not."""

    async def measure(self, query, cursor):
        return replace(await super().measure(query, cursor), pairs=None)


class Doubling(MemoryProvider):
    """Tells all pairs each time."""

    async def measure(self, query, cursor):
        whole = cursor and replace(cursor, raw={**cursor.raw, "pairs": {}})
        told = await super().measure(query, whole)
        return replace(await super().measure(query, cursor), pairs=told.pairs)


class Silent(MemoryProvider):
    """Says nothing of copies that it could not join."""

    async def measure(self, query, cursor):
        self.world.behave(query.endpoint, "green", Behaviour(mirror_drops=0.3))
        measurement = await super().measure(query, cursor)
        return replace(measurement, pairs=measurement.pairs and replace(measurement.pairs, missing={}))


class Mistaking(MemoryProvider):
    """Takes the twin for the copy."""

    async def measure(self, query, cursor):
        self.world.behave(query.endpoint, "green", Behaviour(error_rate=0.5))
        measurement = await super().measure(query, cursor)
        pairs = measurement.pairs
        turned = pairs and replace(pairs, classes=tuple((twin, copy, n) for copy, twin, n in pairs.classes))
        return replace(measurement, pairs=turned)


class Renewing(MemoryProvider):
    """Renews a key each time that it is asked, and the other one with it."""

    async def regenerate(self, endpoint, which, *, key):
        await super().regenerate(endpoint, "secondary", key=f"{key}-{self._context.token()}")
        return await super().regenerate(endpoint, which, key=f"{key}-{self._context.token()}")


class Careless(MemoryProvider):
    """Saves no logs, and lets errors of the language out."""

    async def save_logs(self, endpoint, deployment, *, rollout):
        return "nowhere"

    async def observe(self, endpoint):
        state = await super().observe(endpoint)
        return state if state is not None else {}["missing"]


JOINED = "test_every_mirrored_request_is_joined_or_said_to_be_missing"
DEFECTS = [
    (Forgetful, "test_an_old_key_changes_nothing_any_more"),
    (Unfenced, "test_an_older_epoch_is_fenced"),
    (Unfenced, "test_another_store_is_fenced_until_it_steals"),
    (Lax, "test_splits_that_break_a_rule_are_refused"),
    (Lax, "test_a_deployment_that_cannot_start_fails_with_the_reason"),
    (Slow, "test_a_deployment_comes_up_without_traffic"),
    (HastyDeployment, "test_a_deployment_comes_up_without_traffic"),
    (HastyTraffic, "test_traffic_is_split_exactly_as_asked"),
    (HastyScale, "test_instances_are_added_and_taken_away"),
    (HastyDeletion, "test_a_deployment_that_cannot_start_fails_with_the_reason"),
    (Jealous, "test_a_deployment_comes_up_without_traffic"),
    (Generous, "test_another_store_is_fenced_until_it_steals"),
    (Generous, "test_release_lets_another_store_in"),
    (Cumulative, "test_each_request_is_counted_once"),
    (Draining, "test_measuring_has_no_side_effect"),
    (Mixing, "test_each_request_is_counted_once"),
    (Mixing, "test_mirrored_requests_are_counted_apart_from_live_ones"),
    (Blind, JOINED),
    (Silent, JOINED),
    (Mistaking, JOINED),
    (Doubling, JOINED),
    (Doubling, "test_pairs_are_the_same_however_often_they_are_asked_for"),
    (Doubling, "test_there_are_no_pairs_without_a_mirror_or_before_the_cursor"),
    (Renewing, "test_one_key_is_renewed_once_and_the_other_stays"),
    (Careless, "test_logs_outlive_their_deployment_when_saved"),
    (Careless, "test_what_is_not_there_is_none_or_an_error_of_ours"),
]


@pytest.mark.looptime
@pytest.mark.parametrize(("defect", "test"), DEFECTS)
async def test_the_suite_finds_a_defect(tmp_path: Path, defect: type[MemoryProvider], test: str) -> None:
    """A suite that nothing fails proves nothing."""
    suite = TestMemory()
    context = TestMemory.make_context(tmp_path)
    world = World(capabilities=Capabilities(paired=True))
    world.behave(suite.endpoint, "broken", Behaviour(starts=False))
    # By parameter's name, as fixtures are.
    providers = {"provider": defect.in_world(world, context), "other": defect.in_world(world, context)}
    method = getattr(suite, test)
    arguments = {name: providers[name] for name in inspect.signature(method).parameters}
    with pytest.raises((AssertionError, KeyError, ProviderError, pytest.fail.Exception)):
        await method(**arguments)
