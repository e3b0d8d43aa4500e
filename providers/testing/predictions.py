"""What is asked of a provider that compares what mirrored requests were answered (`Capabilities.predictions`)."""

import asyncio

from providers.actions import SetTraffic
from providers.base import Measures, Provider
from providers.measurement import Comparison, Cursor, MeasureQuery, Sample
from providers.testing.suite import ALL, Suite, journalled, pytest

GATES = {"exact": Comparison(examples=2), "again": Comparison(absolute=1e-9)}


class Predictions(Suite):
    """Tests of `MeasureQuery.comparisons`."""

    async def test_the_same_answers_are_told_as_the_same(self, provider: Provider, other: Provider) -> None:
        await self.build_compared(provider, "green")
        start = await self.ask(provider, None, "green")
        cursor, told = await self.compare(provider, start, "green", 20)
        assert told == dict.fromkeys(GATES, (0, 20))
        # The same again, from the same cursor, by another process; then nothing more.
        assert (await self.compare(other, start, "green", 0, wanted=20))[1] == told
        assert (await self.compare(other, cursor, "green", 10))[1] == dict.fromkeys(GATES, (0, 10))

    async def test_other_answers_are_told_as_different(self, provider: Provider) -> None:
        await self.build_compared(provider, "red")
        cursor = await self.ask(provider, None, "red")
        _, told = await self.compare(provider, cursor, "red", 20)
        assert told == dict.fromkeys(GATES, (20, 20))

    async def build_compared(self, provider: Provider, candidate: str) -> None:
        """Blue serves, and the candidate gets a copy of every request; skips where they cannot be compared."""
        if self.can(provider, predictions=True).mirror_limit < 1000:
            pytest.skip(f"Provider {provider.name} cannot mirror every request.")
        await self.build(provider, "blue")
        made = self.deployment(candidate) if candidate == "green" else self.differing_deployment(candidate)
        await self.do(provider, await self.put(provider, made))
        await self.do(provider, SetTraffic(self.endpoint, ALL, {candidate: 1000}))

    async def ask(self, provider: Provider, cursor: Cursor | None, candidate: str) -> Cursor:
        """Measure once, and keep the samples in `self.samples`."""
        query = MeasureQuery(self.endpoint, (candidate, "blue"), GATES)
        measures = self.need(provider, Measures)
        measurement = await measures.measure(query, cursor and journalled(Cursor, cursor))
        self.samples: dict[str, Sample] = dict(measurement.samples)
        assert self.samples.keys() == GATES.keys(), "each comparison has its sample"
        for sample in self.samples.values():
            assert sample.query, "a sample says what was asked for"
            assert not sample.problem, sample.problem
        fresh: Cursor = measurement.cursor
        return fresh

    async def compare(
        self, provider: Provider, cursor: Cursor, candidate: str, number: int, *, wanted: int | None = None
    ) -> tuple[Cursor, dict[str, tuple[int, int]]]:
        """Send requests, and measure until `wanted` pairs are told, and once more; gate -> (different, compared)."""
        await self.send(provider, number)
        loop = asyncio.get_running_loop()
        give_up, told = loop.time() + self.counted_within, dict.fromkeys(GATES, (0, 0))
        while True:
            complete = all(total >= (number if wanted is None else wanted) for _, total in told.values())
            await self.settle(1.0)
            cursor = await self.ask(provider, cursor, candidate)
            for gate, sample in self.samples.items():
                assert len(sample.examples) <= GATES[gate].examples, "more examples than were asked for"
                if sample.candidate is not None:
                    bad, total = told[gate]
                    told[gate] = bad + int(sample.candidate.bad), total + int(sample.candidate.total)
            if complete:
                return cursor, told
            assert loop.time() < give_up, f"only {told} were compared within {self.counted_within} s"
