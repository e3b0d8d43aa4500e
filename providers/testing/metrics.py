"""The conformance suite of metrics: what every metric must do, as tests that its author runs on it.

`providers.metrics.base` says it in words. What a metric says decides rollouts, so most of it is about what must never
be told: a request twice, a figure for nothing, a guess while the source is down.

    pytest.register_assert_rewrite("providers.testing")   # in conftest.py

    class TestMine(MetricConformance):
        @pytest.fixture
        def metric(self, ...): ...
"""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from providers.errors import ProviderError
from providers.measurement import Count
from providers.metrics.base import Metric, Reading, Spec
from providers.testing.suite import pytest

__all__ = ["MetricConformance"]


class MetricConformance:
    """Subclass it with a name that pytest collects, and run it once for each form that the metric has.

    Fixtures to give:
        metric: an open metric, closed afterwards, of a source where `deployment` has counted something before.

    Hooks to override: everything from `later` to `down`; only `count` or `tell`, by the metric's form.

    Attributes:
        endpoint, deployment: whom it is asked about.
        secret: a text that its options only refer to, or None where it has none; it must never be shown.
    """

    endpoint: str = "conformance"
    deployment: str = "green"
    secret: str | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Raises ImportError when pytest is not installed; the module alone can be imported without it."""
        super().__init_subclass__(**kwargs)
        if pytest is None:
            raise ImportError("The conformance suite runs under pytest: install pytest and pytest-asyncio.")

    async def later(self) -> datetime:
        """Let so much time pass that what was counted can be asked for, and the next point is due; returns now."""
        raise NotImplementedError("later: wait, and return the present, aware UTC.")

    async def count(self, total: int, bad: int) -> None:
        """Let the source count so many more requests of the deployment, so many of them bad."""
        raise NotImplementedError("count: let the source count requests.")

    async def tell(self, value: float) -> None:
        """Let the source have this value from now on."""
        raise NotImplementedError("tell: let the source have another value.")

    async def down(self, *, down: bool) -> None:
        """Let the source be out of reach, or there again with what it had."""
        raise NotImplementedError("down: take the source away, and bring it back.")

    # --- words ------------------------------------------------------------------------------------

    async def ask(self, metric: Metric, since: Mapping[str, Any] | None, until: datetime) -> Reading:
        """One answer, which keeps the contract whatever it says."""
        mark = None if since is None else json.loads(json.dumps(dict(since)))
        try:
            reading = await metric.query(Spec(self.endpoint, self.deployment, "live", until, 10.0), mark)
        except ProviderError as error:
            reading = Reading(mark or {}, problem=str(error), query="raised")
        assert isinstance(reading, Reading)
        assert json.loads(json.dumps(dict(reading.mark))) == dict(reading.mark), "the mark is stored as JSON"
        assert reading.query, "whoever reads of it wants to ask again"
        assert self.secret is None or self.secret not in repr(reading), "a reading is stored and shown"
        if reading.problem or reading.nothing:
            assert reading.count is None, "what is no figure is not told beside words"
        if reading.problem:
            assert reading.values == ()
            assert dict(reading.mark) == (mark or {}), "after a problem the next query begins where this one did"
        if reading.count is not None:
            assert 0 <= reading.count.bad <= reading.count.total < math.inf
        for when, value in reading.values:
            assert when.tzinfo is not None
            assert when <= until
            assert math.isfinite(value)
        return reading

    async def begun(self, metric: Metric) -> Mapping[str, Any]:
        """The first mark."""
        reading = await self.ask(metric, None, await self.later())
        assert (reading.nothing, reading.problem) == ("", "")
        assert reading.mark, "the first answer sets a mark"
        return reading.mark

    # --- the contract -----------------------------------------------------------------------------

    def test_a_form_and_strict_options(self, metric: Metric) -> None:
        assert metric.form in ("counts", "values")
        with pytest.raises(ValidationError) as refused:
            type(metric).Options.model_validate({"no_such_option_anywhere": 1})
        assert any(error["type"] == "extra_forbidden" for error in refused.value.errors()), "a typing error is refused"

    async def test_the_first_answer_tells_nothing(self, metric: Metric) -> None:
        reading = await self.ask(metric, None, await self.later())
        assert reading.count is None
        assert reading.values == ()

    async def test_each_request_is_told_once(self, metric: Metric) -> None:
        if metric.form != "counts":
            pytest.skip("it tells values")
        mark = await self.begun(metric)
        told: list[Count | None] = []
        for total, bad in ((7, 2), (1, 0), (12, 12)):
            await self.count(total, bad)
            reading = await self.ask(metric, mark, await self.later())
            told.append(reading.count)
            mark = reading.mark
        assert told == [Count(2, 7), Count(0, 1), Count(12, 12)]
        reading = await self.ask(metric, mark, await self.later())
        assert reading.count in (None, Count(0, 0))

    async def test_asking_changes_nothing(self, metric: Metric) -> None:
        if metric.form != "counts":
            pytest.skip("it tells values")
        mark = await self.begun(metric)
        await self.count(9, 3)
        until = await self.later()
        first, again = await self.ask(metric, mark, until), await self.ask(metric, mark, until)
        assert first.count == again.count == Count(3, 9), "after a crash the same question is asked again"

    async def test_each_point_is_told_once(self, metric: Metric) -> None:
        if metric.form != "values":
            pytest.skip("it tells counts")
        mark = await self.begun(metric)
        points: list[tuple[datetime, float]] = []
        for value in (3.0, 4.0, 5.0):
            await self.tell(value)
            reading = await self.ask(metric, mark, await self.later())
            assert reading.values, reading.nothing or reading.problem
            points += reading.values
            mark = reading.mark
        times = [when for when, _ in points]
        assert times == sorted(set(times)), "oldest first, and none twice"
        assert points[-1][1] == 5.0

    async def test_while_it_is_down_nothing_is_told_and_nothing_is_lost(self, metric: Metric) -> None:
        mark = await self.begun(metric)
        if metric.form == "counts":
            await self.count(5, 1)
        await self.down(down=True)
        try:
            reading = await self.ask(metric, mark, await self.later())
            assert reading.nothing or reading.problem, "no answer is no good news"
            assert reading.count is None
            assert reading.values == ()
        finally:
            await self.down(down=False)
        if metric.form == "counts":
            after = await self.ask(metric, reading.mark, await self.later())
            assert after.count == Count(1, 5)
