"""What is asked of what a provider may do besides: keys, requests, logs and measurements."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

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

    # Pairs

    async def test_every_mirrored_request_is_joined_or_said_to_be_missing(
        self, provider: Provider, other: Provider
    ) -> None:
        await self.build_mirrored(provider)
        cursor, totals = await self.mark(provider), PairTotals()
        sent = 0
        for who in (provider, other, provider):
            await self.send(who, 20)
            sent += 20
            cursor = await self.join(who, cursor, totals)
        # Whatever is still under way, or not yet sure to be lost, is told in the end, and once.
        await self.settle_pairs(other, cursor, totals, sent)
        assert totals.live == sent
        assert totals.joined + totals.lost == totals.copies > 0
        assert totals.joined > 0, "nothing was joined"
        assert totals.joined_classes == totals.copied_classes, "pairs and counters disagree about how copies ended"
        assert {twin for _, twin in totals.pairs} == {"200"}, "pairs disagree with what the clients saw"

    async def test_pairs_are_the_same_however_often_they_are_asked_for(
        self, provider: Provider, other: Provider
    ) -> None:
        await self.build_mirrored(provider)
        start = await self.mark(provider)
        cursor, often = start, PairTotals()
        for _ in range(5):
            await self.send(provider, 6)
            cursor = await self.join(provider, cursor, often)
        await self.settle_pairs(provider, cursor, often, 30)
        for who in (provider, other):
            once = PairTotals()
            await self.settle_pairs(who, start, once, 30)
            assert (once.pairs, once.missing) == (often.pairs, often.missing)

    async def test_there_are_no_pairs_without_a_mirror_or_before_the_cursor(self, provider: Provider) -> None:
        await self.build_mirrored(provider)
        cursor, counted = await self.mark(provider), PairTotals()
        await self.send(provider, 10)
        await self.settle_pairs(provider, cursor, PairTotals(), 10)
        cursor = await self.mark(provider)
        await self.do(provider, SetTraffic(self.endpoint, ALL))
        await self.send(provider, 10)
        await self.settle_pairs(provider, cursor, counted, 10)
        assert (counted.joined, counted.lost, counted.copies) == (0, 0, 0)

    async def build_mirrored(self, provider: Provider) -> None:
        """Blue serves, and green gets copies of as many requests as can be; skips where they cannot be joined."""
        limit = self.can(provider, paired=True).mirror_limit
        if not limit:
            pytest.skip(f"Provider {provider.name} cannot mirror.")
        await self.build(provider, "blue", "green")
        await self.do(provider, SetTraffic(self.endpoint, ALL, {"green": limit}))

    async def join(self, provider: Provider, cursor: Cursor, totals: "PairTotals") -> Cursor:
        """Measure green against blue once, and add what it told."""
        measurement = await self.measure(provider, cursor, ("green", "blue"))
        assert measurement.pairs is not None, "the provider says that it can join, and tells no pairs"
        assert not measurement.lost, "the data plane restarted, though nobody asked"
        totals.add(measurement)
        return measurement.cursor

    async def settle_pairs(self, provider: Provider, cursor: Cursor, totals: "PairTotals", live: int) -> None:
        """Join until all live requests are counted and every copy is told, and once more, so that doubles show."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self.counted_within
        complete = False
        while True:
            complete, before = totals.live >= live and totals.joined + totals.lost >= totals.copies, complete
            if complete and before:
                return
            await self.settle(1.0)
            cursor = await self.join(provider, cursor, totals)
            assert loop.time() < give_up, (
                f"not every copy was joined or missing within {self.counted_within} s: {totals}"
            )

    async def measure(
        self, provider: Provider, cursor: Cursor | None, deployments: tuple[str, ...] = ("blue", "green")
    ) -> Measurement:
        """Measure blue and green, and check that the measurement is consistent in itself."""
        query = MeasureQuery(self.endpoint, deployments)
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
        if (pairs := measurement.pairs) is not None:
            assert all(n > 0 for *_, n in (*pairs.classes, *pairs.latencies)), f"{pairs} counts what did not come"
            assert all(n > 0 for n in pairs.missing.values()), f"{pairs} misses what did not come"
            assert sum(n for _, _, n in pairs.latencies) == pairs.joined, f"{pairs} has other latencies than classes"
            nothing = cursor is None or measurement.lost
            assert not nothing or pairs.joined + pairs.lost == 0, "a measurement without a beginning tells pairs"
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


@dataclass(slots=True)
class PairTotals:
    """What measurements told of green's copies and blue's live requests, added up.

    Attributes:
        pairs: (class of the copy, of its twin) -> pairs.
        missing: reason -> copies.
        copied_classes: class -> copies that the counters know of.
        live: live requests that they know of.
    """

    pairs: dict[tuple[str, str], int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    copied_classes: dict[str, int] = field(default_factory=dict)
    live: int = 0

    def add(self, measurement: Measurement) -> None:
        """Add one measurement."""
        assert measurement.pairs is not None
        for copy, twin, n in measurement.pairs.classes:
            self.pairs[copy, twin] = self.pairs.get((copy, twin), 0) + n
        for into, more in (
            (self.missing, measurement.pairs.missing),
            (self.copied_classes, measurement.leg("green", "mirror").classes),
        ):
            for name, n in more.items():
                into[name] = into.get(name, 0) + n
        self.live += measurement.leg("blue", "live").requests

    @property
    def joined(self) -> int:
        """All pairs."""
        return sum(self.pairs.values())

    @property
    def lost(self) -> int:
        """All copies that are missing."""
        return sum(self.missing.values())

    @property
    def copies(self) -> int:
        """All copies that the counters know of."""
        return sum(self.copied_classes.values())

    @property
    def joined_classes(self) -> dict[str, int]:
        """Pairs by the class of the copy."""
        found: dict[str, int] = {}
        for (copy, _), n in self.pairs.items():
            found[copy] = found.get(copy, 0) + n
        return found


def tally(counted: dict[tuple[str, Source], int], leg: Leg) -> None:
    """Add a leg's requests to those counted so far; legs without any leave nothing."""
    if leg.requests:
        counted[leg.deployment, leg.source] = counted.get((leg.deployment, leg.source), 0) + leg.requests
