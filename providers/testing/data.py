"""What is asked of what a provider may do besides: keys, requests, logs and measurements."""

import asyncio
from collections.abc import Mapping

from providers.actions import DeleteDeployment, SetTraffic
from providers.base import HasKeys, HasLogs, Invokes, Measures, Provider
from providers.measurement import Cursor, Leg, Measurement, MeasureQuery, Source
from providers.testing.suite import ALL, Suite, journalled, pytest


class DataPlane(Suite):
    """Tests of `HasKeys`, `Invokes`, `HasLogs` and `Measures`."""

    # Keys, requests, logs

    async def test_one_key_is_renewed_once_and_the_other_stays(self, provider: Provider, other: Provider) -> None:
        holder, second = self.need(provider, HasKeys), self.need(other, HasKeys)
        await self.build(provider)
        keys = await holder.keys(self.endpoint)
        assert keys.primary != keys.secondary
        assert keys.primary not in repr(keys)
        assert keys.secondary not in repr(keys)
        renewed = await holder.regenerate(self.endpoint, "primary", key="renew-1")
        assert renewed.primary not in (keys.primary, keys.secondary)
        assert renewed.secondary == keys.secondary
        assert await second.regenerate(self.endpoint, "primary", key="renew-1") == renewed
        again = await second.regenerate(self.endpoint, "secondary", key="renew-2")
        assert again.primary == renewed.primary
        assert again.secondary != renewed.secondary
        assert await holder.keys(self.endpoint) == again

    async def test_requests_reach_the_deployment_they_are_meant_for(self, provider: Provider) -> None:
        invoker = self.need(provider, Invokes)
        direct = self.can(provider).direct
        await self.build(provider, "blue", "green", traffic=ALL)
        for asked, answers in ((None, "blue"), *((("green", "green"), ("blue", "blue")) if direct else ())):
            response = await invoker.invoke(self.endpoint, self.request, deployment=asked, timeout=self.timeout)
            assert (response.status, response.deployment) == (200, answers)
            assert response.seconds > 0
        if direct:
            wrong = await invoker.invoke(self.endpoint, self.request, deployment="missing", timeout=self.timeout)
            assert wrong.status == 404

    async def test_logs_outlive_their_deployment_when_saved(self, provider: Provider, other: Provider) -> None:
        keeper = self.need(provider, HasLogs)
        await self.build(provider, "blue")
        if self.printed is not None:
            for instance in (None, 0):
                assert self.printed in await keeper.logs(self.endpoint, "blue", instance=instance, tail=100)
        assert len((await keeper.logs(self.endpoint, "blue", instance=None, tail=1)).splitlines()) <= 1
        assert await keeper.save_logs(self.endpoint, "blue", rollout="rollout-1")
        await self.do(provider, DeleteDeployment(self.endpoint, "blue"))
        text = await self.need(other, HasLogs).logs(self.endpoint, "blue", instance=None, tail=100)
        assert self.printed is None or self.printed in text

    # Measurements

    async def test_the_first_measurement_only_sets_the_cursor(self, provider: Provider) -> None:
        await self.build(provider, "blue", traffic=ALL)
        await self.send(provider, 3)
        first = await self.measure(provider, None)
        assert first.start == first.end == first.cursor.at
        assert first.start.tzinfo is not None
        assert sum(leg.requests for leg in first.legs) == 0
        assert not first.lost

    async def test_each_request_is_counted_once(self, provider: Provider, other: Provider) -> None:
        direct = self.can(provider).direct
        await self.build(provider, "blue", "green", traffic=ALL)
        cursor = await self.mark(provider)
        wanted: dict[tuple[str, Source], int] = {("blue", "live"): 0}
        counted: dict[tuple[str, Source], int] = {}
        for live, addressed, who in ((20, 6, provider), (10, 3, other)):
            await self.send(provider, live)
            wanted["blue", "live"] += live
            if direct:
                await self.send(provider, addressed, deployment="green")
                wanted["green", "direct"] = wanted.get(("green", "direct"), 0) + addressed
            cursor = await self.count(who, cursor, counted, wanted)
        assert counted == wanted

    async def test_measuring_has_no_side_effect(self, provider: Provider, other: Provider) -> None:
        await self.build(provider, "blue", traffic=ALL)
        cursor = await self.mark(provider)
        await self.send(provider, 10)
        counted: dict[tuple[str, Source], int] = {}
        await self.count(provider, cursor, counted, {("blue", "live"): 10})
        for who in (provider, other):
            assert (await self.measure(who, cursor)).leg("blue", "live").requests == 10

    async def test_mirrored_requests_are_counted_apart_from_live_ones(self, provider: Provider) -> None:
        limit = self.can(provider).mirror_limit
        if not limit:
            pytest.skip(f"Provider {provider.name} cannot mirror.")
        await self.build(provider, "blue", "green")
        await self.do(provider, SetTraffic(self.endpoint, ALL, {"green": limit}))
        cursor = await self.mark(provider)
        # With a half mirrored, none or all of 60 come once in 10^18 runs.
        await self.send(provider, 60)
        counted: dict[tuple[str, Source], int] = {}
        await self.count(provider, cursor, counted, {("blue", "live"): 60, ("green", "mirror"): 1})
        assert counted.pop(("blue", "live")) == 60
        assert 0 < counted.pop(("green", "mirror")) <= (60 if limit == 1000 else 59)
        assert not counted

    async def measure(self, provider: Provider, cursor: Cursor | None) -> Measurement:
        """Measure blue and green, and check that the measurement is consistent in itself."""
        query = MeasureQuery(self.endpoint, ("blue", "green"))
        measurement: Measurement = await self.need(provider, Measures).measure(
            query, cursor and journalled(Cursor, cursor)
        )
        assert measurement.cursor.at == measurement.end
        assert cursor is None or cursor.at == measurement.start <= measurement.end
        for leg in measurement.legs:
            assert sum(leg.classes.values()) == leg.requests >= 0, f"the classes of {leg} do not sum to its requests"
            edges = [
                edge for lower, upper, _ in (leg.latency.buckets if leg.latency else ()) for edge in (lower, upper)
            ]
            assert edges == sorted(edges), f"the buckets of {leg} are not ascending and disjoint"
        return measurement

    async def mark(self, provider: Provider) -> Cursor:
        """A first cursor."""
        return (await self.measure(provider, None)).cursor

    async def count(
        self,
        provider: Provider,
        cursor: Cursor,
        counted: dict[tuple[str, Source], int],
        wanted: Mapping[tuple[str, Source], int],
    ) -> Cursor:
        """Add up measurements until everything wanted is there, and once more, so that what is counted twice shows."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self.counted_within
        while True:
            complete = all(counted.get(leg, 0) >= number for leg, number in wanted.items())
            await self.settle(1.0)
            measurement = await self.measure(provider, cursor)
            assert not measurement.lost, "the data plane restarted, though nobody asked"
            for leg in measurement.legs:
                tally(counted, leg)
            cursor = measurement.cursor
            if complete:
                return cursor
            assert loop.time() < give_up, (
                f"of {dict(wanted)} only {counted} were counted within {self.counted_within} s"
            )


def tally(counted: dict[tuple[str, Source], int], leg: Leg) -> None:
    """Add a leg's requests to those counted so far; legs without any leave nothing."""
    if leg.requests:
        counted[leg.deployment, leg.source] = counted.get((leg.deployment, leg.source), 0) + leg.requests
