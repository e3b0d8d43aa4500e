"""Gates that ask a metric from elsewhere, which another distribution offers: whole rollouts in virtual time."""

import asyncio
import sys
from pathlib import Path

import pytest

from providers.memory import Behaviour

pytestmark = pytest.mark.looptime

MODULE = '''
"""Running totals that grow with time, or a value; what the test says it does."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from providers.errors import Temporary
from providers.metrics import counters
from providers.metrics.base import Reading

BORN = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SAYS = {}
CLOSED, ASKED = [], []


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    token: str
    form: str = "counts"


class Scripted:
    Options: ClassVar = Options

    def __init__(self, options, context):
        self.options, self.context = options, context

    @property
    def form(self):
        return self.options.form

    async def query(self, spec, since: Mapping[str, Any] | None):
        says = SAYS[spec.deployment]
        ASKED.append((spec.deployment, spec.source, self.context.resolve(self.options.token)))
        seconds = (spec.until - BORN).total_seconds()
        shown = f"{self.options.token} of {spec.deployment}"
        if isinstance(says, str):
            raise Temporary(says)
        if isinstance(says, Exception):
            raise says
        if self.form == "values":
            mark = {"at": spec.until.isoformat()}
            if since is None or since == mark:
                return Reading(mark, query=shown)
            return Reading(mark, values=((spec.until, says),), query=shown)
        now = {"total": int(100 * seconds), "bad": int(100 * seconds * says)}
        told = counters.since(since, now, "bad")
        return Reading(told.mark, told.count, nothing=told.nothing, problem=told.problem, query=shown)

    async def aclose(self):
        CLOSED.append(self.options.token)
'''

PLAN = """
version: 1
name: shop
provider: WORLD
endpoint: {file: endpoint.yml}
deployments: {blue: {file: blue.yml}, green: {file: green.yml}}
gates:
  errors: {metric: error_rate, max: 20%, interval: 1s, warm_up: 0s}
  refunds: {metric: {scripted: {token: "${env:KEY}"}}, max_ratio: 2, max_increase: 2%, interval: 1s, warm_up: 0s}
steps:
  - deploy: green
  - canary: 10%
    gates: [errors, refunds]
    hold: 20s
    deadline: 10m
  - promote: 100%
"""


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab):
    """One more distribution, installed for the test; it reads a secret of the environment."""
    site = tmp_path / "site"
    info = site / "scripted-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scripted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rollout.metrics]\nscripted = scripted_metric:Scripted\n")
    (site / "scripted_metric.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.delitem(sys.modules, "scripted_metric", raising=False)
    lab.app.settings.environment["KEY"] = "s3cret"
    lab.text = PLAN
    import scripted_metric

    scripted_metric.SAYS.update(blue=0.01, green=0.01)
    yield scripted_metric
    sys.modules.pop("scripted_metric", None)


async def samples(lab, gate: str = "refunds"):
    rollout = lab.seen[-1].rollout
    measured = [measurement for _, _, measurement in await lab.app.store.measurements(rollout)]
    return [measurement.samples[gate] for measurement in measured if gate in measurement.samples]


async def test_a_bad_candidate_is_caught_by_what_only_the_metric_knows(lab, scripted) -> None:
    scripted.SAYS["green"] = 0.3
    rollout = await lab.run()
    assert (rollout.phase, rollout.rollback) == ("rolled_back", "gate")
    assert "refunds" in rollout.reason
    assert {who[:2] for who in scripted.ASKED} == {("green", "live"), ("blue", "live")}
    assert {who[2] for who in scripted.ASKED} == {"s3cret"}, "resolved by the metric, when it asks"
    assert scripted.CLOSED == ["${env:KEY}"]
    assert "s3cret" not in repr(lab.seen)
    told = await samples(lab)
    assert told[0].query == "candidate: ${env:KEY} of green; stable: ${env:KEY} of blue"


async def test_a_good_candidate_passes_and_each_request_is_told_once(lab, scripted) -> None:
    rollout = await lab.run()
    assert rollout.phase == "succeeded"
    told = [sample for sample in await samples(lab) if sample.candidate is not None]
    first, last = lab_window(lab)
    assert sum(sample.candidate.total for sample in told) == int(100 * last) - int(100 * first)
    assert sum(sample.stable.total for sample in told) == sum(sample.candidate.total for sample in told)


def lab_window(lab) -> tuple[float, float]:
    """Seconds since the epoch of the first measurement's start and the last one's end."""
    from tests.engine.conftest import EPOCH

    measured = [event.body for event in lab.seen if event.body.kind == "measured"]
    return (measured[0].start - EPOCH).total_seconds(), (measured[-1].end - EPOCH).total_seconds()


async def test_where_it_goes_on_survives_the_driver(lab, scripted) -> None:
    measured = 0

    def stop(rollout, event) -> None:
        nonlocal measured
        measured += event.body.kind == "measured"
        if measured == 3:
            lab.stop.set()

    lab.on_event.append(stop)
    lab.text = PLAN.replace("hold: 20s", "hold: 30s")
    rollout = await lab.run(leave_exposed=True)
    assert rollout.active
    before = [sample.candidate.total for sample in await samples(lab) if sample.candidate]
    lab.stop, lab.on_event = asyncio.Event(), []
    await asyncio.sleep(7)
    rollout = await lab.resume()
    assert rollout.phase == "succeeded"
    told = [sample for sample in await samples(lab) if sample.candidate is not None]
    first, last = lab_window(lab)
    assert sum(sample.candidate.total for sample in told) <= int(100 * last) - int(100 * first)
    assert len(told) > len(before) > 0
    assert len(scripted.CLOSED) == 2, "each driver closes what it opened"


@pytest.mark.parametrize("down", ["the server is down", KeyError("s3cret")], ids=["down", "a mistake"])
async def test_a_metric_that_is_down_keeps_no_other_gate_from_its_verdict(lab, scripted, down) -> None:
    scripted.SAYS["green"] = down
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.9))
    rollout = await lab.run()
    assert (rollout.phase, rollout.rollback) == ("rolled_back", "gate")
    assert "errors" in rollout.reason
    told = await samples(lab)
    assert told
    assert all(sample.problem.startswith("candidate: ") and sample.candidate is None for sample in told)
    assert "s3cret" not in repr(told)


async def test_a_metric_that_is_down_never_passes(lab, scripted) -> None:
    scripted.SAYS["green"] = "the server is down"
    rollout = await lab.run(exit_on_pause=True)
    assert (rollout.phase, rollout.paused) == ("paused", "error")
    assert "the server is down" in rollout.reason


@pytest.mark.parametrize(("value", "phase"), [(5.0, "succeeded"), (15.0, "rolled_back")])
async def test_values_are_judged_against_their_limit(lab, scripted, value: float, phase: str) -> None:
    gate = (
        '{metric: {scripted: {token: "${env:KEY}", form: values}}, max: 10, min_requests: 5, interval: 1s, warm_up: 0s}'
    )
    lines = [f"  refunds: {gate}" if line.startswith("  refunds") else line for line in PLAN.splitlines()]
    lab.text = "\n".join(lines)
    scripted.SAYS.update(green=value, blue=1.0)
    rollout = await lab.run()
    assert rollout.phase == phase
    if phase == "rolled_back":
        assert "refunds" in rollout.reason
