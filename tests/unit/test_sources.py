"""Metrics from elsewhere beside a measurement: what is asked, what is kept, and what is not asked at all."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.gates.spec import External, Gate
from orchestrator.gates.state import GateState
from orchestrator.sources import Metrics, with_samples
from orchestrator.stages import Stage, Target
from providers.errors import Permanent
from providers.measurement import Count, Cursor, Measurement
from providers.metrics.base import Reading, Spec

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Metric:
    form = "counts"

    def __init__(self) -> None:
        self.asked: list[tuple[Spec, Any]] = []
        self.closed = 0

    async def query(self, spec: Spec, since: Mapping[str, Any] | None) -> Reading:
        self.asked.append((spec, since))
        return Reading({"n": len(self.asked)}, None if since is None else Count(1, 10), query="q")

    async def aclose(self) -> None:
        self.closed += 1


def gate(name: str, metric: str = "known", **more: Any) -> Gate:
    return Gate(name, "external", external=External(metric), **{"max": 0.1, **more})


def stage(*gates: Gate) -> Stage:
    return Stage(0, "canary", "canary", 0, Target({}), gates=gates, gated=0, interval=5.0)


def entered(*gates: Gate, source: Any = "live") -> GateState:
    return GateState.begin(gates, 1).enter(0, gates, "green", "blue", source)


def measured(seconds: float = 5.0, *, lost: bool = False) -> Measurement:
    return Measurement(NOW - timedelta(seconds=seconds), NOW, (), Cursor("one", NOW, {"raw": 1}), lost=lost)


def opening(metric: Metric) -> Any:
    def one(name: str, options: Mapping[str, Any]) -> Metric:
        if name != "known":
            raise Permanent(f"Metric {name} is not known: there is known.")
        return metric

    return one


def ask(metric: Metric, measurement: Measurement, sources: Mapping[str, Any], *gates: Gate, **more: Any) -> Measurement:
    async def run() -> Measurement:
        async with Metrics(opening(metric)) as metrics:
            return await with_samples(metrics, measurement, stage(*gates), entered(*gates, **more), "shop", sources)

    return asyncio.run(run())


def test_the_sides_the_window_and_the_marks() -> None:
    metric, both = Metric(), gate("both", max_ratio=2.0, settle=30.0)
    alone = gate("alone")
    first = ask(metric, measured(0), {}, both, alone)
    late = NOW - timedelta(seconds=30)
    assert {spec for spec, _ in metric.asked} == {
        Spec("shop", "green", "live", late, 5.0),
        Spec("shop", "blue", "live", late, 5.0),
        Spec("shop", "green", "live", NOW, 5.0),
    }, "a gate whose figures are late asks about an earlier window, one that does not compare only of the candidate"
    assert [since for _, since in metric.asked] == [None] * 3
    assert metric.closed == 1, "one metric with one set of options is opened once"
    assert first.cursor.raw == {"raw": 1}
    second = ask(metric, measured(), first.cursor.sources, both, alone)
    assert second.samples["both"].candidate == second.samples["both"].stable == Count(1, 10)
    assert second.samples["alone"].stable is None
    given = {spec: {"n": number} for number, (spec, _) in enumerate(metric.asked[:3], 1)}
    assert dict(metric.asked[3:]) == given, "each goes on where it was"


def test_the_mirror_is_asked_for_on_a_shadow_step() -> None:
    metric = Metric()
    ask(metric, measured(0), {}, gate("both", max_ratio=2.0), source="mirror")
    assert [(spec.deployment, spec.source) for spec, _ in metric.asked] == [("green", "mirror"), ("blue", "live")]


def test_what_would_not_be_folded_is_not_asked() -> None:
    metric, one = Metric(), gate("one")
    sources = ask(metric, measured(0), {}, one).cursor.sources
    asked = len(metric.asked)
    for nothing in (measured(lost=True), measured(0)):
        after = ask(metric, nothing, sources, one)
        assert (after.samples, after.cursor.sources) == ({}, sources)
    assert len(metric.asked) == asked


def test_one_that_cannot_be_opened_is_a_problem_of_its_own_gate() -> None:
    metric, known, gone = Metric(), gate("known"), gate("gone", "elsewhere")
    kept = {"gone": {"of": "x", "marks": {"green": {"n": 7}}}}
    after = ask(metric, measured(), kept, known, gone)
    assert after.samples["gone"].problem == "Metric elsewhere is not known: there is known"
    assert after.samples["known"].problem == ""
    assert after.cursor.sources["gone"] == kept["gone"], "it goes on where it was when it is there again"


def test_other_gates_ask_nothing() -> None:
    metric = Metric()
    errors = Gate("errors", "error_rate", max=0.1)
    after = ask(metric, measured(), {}, errors)
    assert (after.samples, after.cursor.sources, metric.asked) == ({}, {}, [])
