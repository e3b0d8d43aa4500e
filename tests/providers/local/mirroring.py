"""Measurements of mirrored requests, added up as a rollout does: the cursor goes through JSON each time."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from providers.actions import SetTraffic
from providers.measurement import Cursor, Measurement, MeasureQuery

NAME = "shop"
QUERY = MeasureQuery(NAME, ("green", "blue"))
CURSORS = TypeAdapter(Cursor)


@dataclass
class Told:
    """What measurements told, added up.

    Attributes:
        classes: (copy, twin) -> pairs.
        missing: reason -> copies.
        copies: of the counters.
    """

    classes: Counter[tuple[str, str]] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    latencies: list[tuple[int | None, int | None, int]] = field(default_factory=list)

    def add(self, measurement: Measurement) -> None:
        assert measurement.pairs is not None
        for copy, twin, n in measurement.pairs.classes:
            self.classes[copy, twin] += n
        assert sum(n for _, _, n in measurement.pairs.latencies) == measurement.pairs.joined
        assert all(n > 0 for n in measurement.pairs.missing.values())
        self.missing.update(measurement.pairs.missing)
        self.copies.update(measurement.leg("green", "mirror").classes)
        self.latencies += measurement.pairs.latencies

    @property
    def of_copies(self) -> Counter[str]:
        """Joined pairs by the class of the copy."""
        found: Counter[str] = Counter()
        for (copy, _), n in self.classes.items():
            found[copy] += n
        return found

    @property
    def accounted(self) -> int:
        return self.classes.total() + self.missing.total()


class Measuring:
    """Measures again and again, each time with the cursor as another process reads it."""

    def __init__(self, local: Any, query: MeasureQuery = QUERY) -> None:
        self.local, self.query, self.told = local, query, Told()
        self.cursor: bytes | None = None
        self.largest = 0

    async def poll(self, provider: Any = None) -> Measurement:
        cursor = None if self.cursor is None else CURSORS.validate_json(self.cursor)
        measurement: Measurement = await (provider or self.local.provider).measure(self.query, cursor)
        self.cursor = CURSORS.dump_json(measurement.cursor)
        self.largest = max(self.largest, len(self.cursor))
        if cursor is None or measurement.lost:
            assert measurement.pairs is None
        else:
            self.told.add(measurement)
        return measurement

    async def told_all(self, wait_until: Any, copies: int | None = None) -> None:
        """Poll until every copy that was counted, and as many as there should be, is joined or missing."""

        async def told() -> bool:
            await self.poll()
            counted = self.told.copies.total()
            return self.told.accounted == counted and counted == (counted if copies is None else copies)

        await wait_until(told, f"all of {copies or ''} copies are told")


async def mirrored(local: Any, /, share: int = 1000, **green: Any) -> Measuring:
    await local.build(local.spec("blue"), local.spec("green", **green))
    await local.do(SetTraffic(NAME, {"blue": 1000}, {"green": share}))
    measuring = Measuring(local)
    await measuring.poll()
    return measuring
