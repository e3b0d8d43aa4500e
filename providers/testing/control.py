"""What is asked of every provider's control plane: endpoints, deployments, traffic, and who may change them."""

import asyncio
from dataclasses import replace
from typing import Any

from providers.actions import DeleteDeployment, DeleteEndpoint, PutEndpoint, Scale, SetTraffic
from providers.base import Claim, Done, Failed, HasKeys, HasLogs, Invokes, Measures, Provider
from providers.errors import Fenced, NotFound, ProviderError
from providers.measurement import MeasureQuery
from providers.testing.suite import ALL, OURS, THEIRS, Suite, pytest


class ControlPlane(Suite):
    """Tests of `Provider`."""

    # Endpoints and deployments

    async def test_what_is_not_there_is_none_or_an_error_of_ours(self, provider: Provider) -> None:
        assert await provider.observe(self.endpoint) is None
        actions = (
            await self.put(provider, self.deployment("blue")),
            Scale(self.endpoint, "blue", 2),
            SetTraffic(self.endpoint, ALL),
        )
        for action in actions:
            with pytest.raises(NotFound):
                await provider.begin(action, key=self.key(), fence=OURS)
        for call in self.reads(provider):
            with pytest.raises(ProviderError):
                await call
        await provider.release(self.endpoint, OURS)

    def reads(self, provider: Provider) -> list[Any]:
        """Every reading call that the provider has, of something that is not there."""
        calls: list[Any] = []
        if isinstance(provider, Measures):
            calls.append(provider.measure(MeasureQuery(self.endpoint, ("blue",)), None))
        if isinstance(provider, Invokes):
            calls.append(provider.invoke(self.endpoint, self.request, deployment=None, timeout=self.timeout))
        if isinstance(provider, HasKeys):
            calls.append(provider.keys(self.endpoint))
        if isinstance(provider, HasLogs):
            calls.append(provider.logs(self.endpoint, "blue", instance=None, tail=10))
        return calls

    async def test_processes_agree_on_identity_and_capabilities(self, provider: Provider, other: Provider) -> None:
        assert provider.identity(self.endpoint) == other.identity(self.endpoint)
        assert provider.identity(self.endpoint) != provider.identity(f"{self.endpoint}x")
        await self.build(provider)
        assert other.capabilities(await self.seen(other)) == provider.capabilities(self.endpoint_spec())

    async def test_an_endpoint_is_created_empty_and_put_again_without_harm(
        self, provider: Provider, other: Provider
    ) -> None:
        await self.build(provider)
        state = await self.seen(other)
        assert (dict(state.deployments), dict(state.traffic), dict(state.mirror), state.busy) == ({}, {}, {}, None)
        assert state.claim == Claim(OURS.store, OURS.rollout, OURS.epoch)
        assert state.url
        await self.build(provider, "blue", traffic=ALL)
        await self.do(provider, PutEndpoint(self.endpoint, self.endpoint_spec()))
        assert (await self.seen(provider)).traffic == ALL

    async def test_a_deployment_comes_up_without_traffic(self, provider: Provider, other: Provider) -> None:
        await self.build(provider)
        action = await self.put(provider, self.deployment("blue"))
        loop = asyncio.get_running_loop()
        started = loop.time()
        operation = await provider.begin(action, key=self.key(), fence=OURS)
        assert loop.time() - started < 1.0, "begin has to return soon, and leave the waiting to poll"
        assert isinstance(await self.end(other, operation), Done)
        state = await self.seen(other)
        blue = state.deployments["blue"]
        assert (blue.healthy, blue.desired, blue.digest, blue.problem) == (1, 1, action.deployment.digest, None)
        assert blue.born.tzinfo is not None
        assert (dict(state.traffic), dict(state.mirror)) == ({}, {})

    async def test_the_same_key_is_the_same_operation(self, provider: Provider, other: Provider) -> None:
        await self.build(provider)
        action = await self.put(provider, self.deployment("blue"))
        first = await provider.begin(action, key="once", fence=OURS)
        second = await other.begin(action, key="once", fence=OURS)
        assert (first.key, first.action) == (second.key, second.action)
        assert isinstance(await self.end(other, first), Done)
        born = (await self.seen(provider)).deployments["blue"].born
        assert isinstance(await self.end(provider, second), Done)
        assert isinstance(await self.end(other, await other.begin(action, key="once", fence=OURS)), Done)
        assert (await self.seen(provider)).deployments["blue"].born == born

    async def test_an_old_key_changes_nothing_any_more(self, provider: Provider, other: Provider) -> None:
        await self.build(provider, "blue", "green")
        to_blue, to_green = SetTraffic(self.endpoint, ALL), SetTraffic(self.endpoint, {"green": 1000})
        await self.do(provider, to_blue, key="to-blue")
        await self.do(provider, to_green, key="to-green")
        await self.do(other, to_blue, key="to-blue")
        assert (await self.seen(provider)).traffic == {"green": 1000}

    async def test_the_same_digest_is_adopted_and_another_needs_replace(
        self, provider: Provider, other: Provider
    ) -> None:
        await self.build(provider, "blue")
        before = (await self.seen(provider)).deployments["blue"]
        await self.do(other, await self.put(other, self.deployment("blue")))
        assert (await self.seen(provider)).deployments["blue"] == before
        changed = await self.put(provider, self.deployment("blue", version="2"))
        assert changed.deployment.digest != before.digest
        await self.refused(provider, changed)
        assert (await self.seen(provider)).deployments["blue"].digest == before.digest
        await self.do(provider, replace(changed, replace=True))
        after = (await self.seen(provider)).deployments["blue"]
        assert (after.digest, after.healthy) == (changed.deployment.digest, 1)
        assert after.born > before.born

    async def test_a_deployment_that_cannot_start_fails_with_the_reason(self, provider: Provider) -> None:
        await self.build(provider, "blue", traffic=ALL)
        action = await self.put(provider, self.broken_deployment("broken"))
        outcome = await self.end(provider, await provider.begin(action, key=self.key(), fence=OURS))
        assert isinstance(outcome, Failed)
        assert outcome.reason
        broken = (await self.seen(provider)).deployments["broken"]
        assert broken.healthy == 0
        assert broken.problem
        await self.refused(provider, SetTraffic(self.endpoint, {"blue": 900, "broken": 100}))
        await self.do(provider, DeleteDeployment(self.endpoint, "broken"))
        assert set((await self.seen(provider)).deployments) == {"blue"}

    async def test_instances_are_added_and_taken_away(self, provider: Provider) -> None:
        self.can(provider, scale=True)
        await self.build(provider, "blue", traffic=ALL)
        for number in (3, 1):
            await self.do(provider, Scale(self.endpoint, "blue", number))
            state = await self.seen(provider)
            assert (state.deployments["blue"].healthy, state.deployments["blue"].desired) == (number, number)
            assert state.traffic == ALL
        with pytest.raises(NotFound):
            await provider.begin(Scale(self.endpoint, "green", 2), key=self.key(), fence=OURS)

    async def test_what_has_traffic_is_not_deleted(self, provider: Provider) -> None:
        await self.build(provider, "blue", "green", traffic={"blue": 900, "green": 100})
        await self.refused(provider, DeleteDeployment(self.endpoint, "green"))
        await self.do(provider, SetTraffic(self.endpoint, ALL))
        await self.do(provider, DeleteDeployment(self.endpoint, "green"))
        assert set((await self.seen(provider)).deployments) == {"blue"}

    async def test_deleting_what_is_gone_is_done(self, provider: Provider, other: Provider) -> None:
        await self.do(provider, DeleteEndpoint(self.endpoint))
        await self.build(provider, "blue")
        await self.do(provider, DeleteDeployment(self.endpoint, "green"))
        operation = await provider.begin(DeleteDeployment(self.endpoint, "blue"), key=self.key(), fence=OURS)
        assert isinstance(await self.end(other, operation), Done)
        await self.do(provider, DeleteEndpoint(self.endpoint))
        assert await other.observe(self.endpoint) is None
        assert isinstance(await self.end(other, operation), Done)

    async def test_an_endpoint_goes_with_all_that_is_on_it(self, provider: Provider) -> None:
        await self.build(provider, "blue", "green", traffic=ALL)
        await self.do(provider, DeleteEndpoint(self.endpoint))
        assert await provider.observe(self.endpoint) is None

    # Traffic

    async def test_traffic_is_split_exactly_as_asked(self, provider: Provider, other: Provider) -> None:
        await self.build(provider, "blue", "green")
        for split in ({"blue": 900, "green": 100}, {"blue": 500, "green": 500}, {"green": 1000}, {}):
            await self.do(provider, SetTraffic(self.endpoint, {"blue": 0, **split}))
            state = await self.seen(other)
            assert (dict(state.traffic), dict(state.mirror)) == (split, {})

    async def test_a_mirror_is_set_and_cleared_in_one_call(self, provider: Provider) -> None:
        limit = self.can(provider, atomic_shift=True).mirror_limit
        if not limit:
            pytest.skip(f"Provider {provider.name} cannot mirror.")
        await self.build(provider, "blue", "green")
        await self.do(provider, SetTraffic(self.endpoint, ALL, {"green": limit}))
        assert ((state := await self.seen(provider)).traffic, state.mirror) == (ALL, {"green": limit})
        await self.refused(provider, DeleteDeployment(self.endpoint, "green"))
        await self.do(provider, SetTraffic(self.endpoint, {"blue": 900, "green": 100}))
        assert ((state := await self.seen(provider)).traffic, dict(state.mirror)) == ({"blue": 900, "green": 100}, {})

    async def test_splits_that_break_a_rule_are_refused(self, provider: Provider) -> None:
        can = self.can(provider)
        await self.build(provider, "blue", "green", "red", traffic=ALL)
        splits: list[tuple[dict[str, int], dict[str, int]]] = [
            ({"blue": 900}, {}),
            ({"blue": 900, "green": 200}, {}),
            ({"blue": 1100, "green": -100}, {}),
            ({"missing": 1000}, {}),
            (ALL, {"missing": 100}),
            (ALL, {"green": can.mirror_limit + 100}),
            (ALL, {"green": -100}),
        ]
        if can.mirror_targets < 2:
            splits.append((ALL, {"green": 100, "red": 100}))
        if can.live_xor_mirror:
            splits.append(({"blue": 900, "green": 100}, {"green": 100}))
        for traffic, mirror in splits:
            await self.refused(provider, SetTraffic(self.endpoint, traffic, mirror))

    # Who drives

    async def test_an_older_epoch_is_fenced(self, provider: Provider, other: Provider) -> None:
        await self.build(provider, "blue")
        newer = replace(OURS, epoch=2)
        await self.do(other, SetTraffic(self.endpoint, ALL), fence=newer)
        for late in (OURS, replace(OURS, steal=True)):
            with pytest.raises(Fenced):
                await provider.begin(SetTraffic(self.endpoint, {}), key=self.key(), fence=late)
        await provider.release(self.endpoint, OURS)
        state = await self.seen(provider)
        assert (state.claim, state.traffic) == (Claim(newer.store, newer.rollout, 2), ALL)

    async def test_another_store_is_fenced_until_it_steals(self, provider: Provider, other: Provider) -> None:
        await self.build(provider, "blue")
        action = SetTraffic(self.endpoint, ALL)
        with pytest.raises(Fenced):
            await other.begin(action, key=self.key(), fence=THEIRS)
        await other.release(self.endpoint, THEIRS)
        assert (await self.seen(other)).claim == Claim(OURS.store, OURS.rollout, OURS.epoch)
        await self.do(other, action, fence=replace(THEIRS, steal=True))
        assert (await self.seen(provider)).claim == Claim(THEIRS.store, THEIRS.rollout, THEIRS.epoch)
        with pytest.raises(Fenced):
            await provider.begin(SetTraffic(self.endpoint, {}), key=self.key(), fence=replace(OURS, epoch=9))
        assert (await self.seen(provider)).traffic == ALL

    async def test_release_lets_another_store_in(self, provider: Provider, other: Provider) -> None:
        await self.build(provider, "blue")
        await provider.release(self.endpoint, OURS)
        assert (await self.seen(other)).claim is None
        await self.do(other, SetTraffic(self.endpoint, ALL), fence=THEIRS)
        await provider.release(self.endpoint, OURS)
        assert (await self.seen(provider)).claim == Claim(THEIRS.store, THEIRS.rollout, THEIRS.epoch)
