"""What each field does of the gates that judge mirrored pairs, guard stable, or ask a metric from elsewhere."""

import math
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest

from providers.memory import Behaviour
from tests.engine import field_effects
from tests.engine.field_effects import Before, Lab, Ran, behaving, ends, fast, judged, unreadable, verdict, when

pytestmark = pytest.mark.looptime

METRICS = ("slowdown", "missing_pairs", "prediction", "external")
WRITTEN = {"external": "{told: {}}"}
"""How a metric is written, where it is not its own word."""
MAX = {"slowdown": "max_ratio: 2"} | dict.fromkeys(METRICS[1:], "max: 10%")
"""A tolerance that a candidate like blue is well within; green gets about 100 copies a second."""
TIGHT = {"slowdown": "max_ratio: 1"} | dict.fromkeys(METRICS[1:], "max: 0.001%")
"""One that nobody could prove, and that nobody breaks."""
WELL = dict.fromkeys(METRICS, 0.0)
ILL = WELL | {"slowdown": 10.0} | dict.fromkeys(METRICS[1:], 0.3)
"""How ill a candidate is that is beyond every tolerance here: times as slow, or the share of what is bad."""
TELLS = '''
"""Counts a hundred requests a second of everybody, or tells a value; what the test says it does."""

from datetime import datetime
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from providers.errors import Temporary
from providers.measurement import Count
from providers.metrics.base import Reading

BAD, ASKED = {}, []


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    form: str = "counts"
    times: float = 1.0


class Told:
    Options: ClassVar = Options

    def __init__(self, options, context):
        self.options = options

    @property
    def form(self):
        return self.options.form

    async def query(self, spec, since: Any):
        ASKED.append((spec.deployment, spec.source))
        bad = BAD[spec.deployment]
        if bad is None:
            return Reading(dict(since or {}), nothing="nobody came", query="told")
        now = spec.until.isoformat()
        if since is None or not since:
            return Reading({"at": now}, query="told")
        if self.form == "values":
            return Reading({"at": now}, values=((spec.until, bad * self.options.times),), query="told")
        total = round(100 * (spec.until - datetime.fromisoformat(since["at"])).total_seconds())
        return Reading({"at": now}, Count(bad=round(total * bad * self.options.times), total=total), query="told")

    async def aclose(self):
        pass
'''


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A metric that another distribution offers, installed for the test."""
    site = tmp_path / "site"
    info = site / "told-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: told\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rollout.metrics]\ntold = told_metric:Told\n")
    (site / "told_metric.py").write_text(TELLS)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.delitem(sys.modules, "told_metric", raising=False)
    import told_metric

    told_metric.BAD.update(blue=0.0, green=0.0)
    return told_metric


async def run_each(lab: Lab, plan: str, *fields: str, before: Before | None = None) -> list[Ran]:
    """In clouds that join mirrored requests with their twins."""

    async def joining(made: Lab) -> None:
        made.cloud.capabilities = replace(made.cloud.capabilities, paired=True)
        done = before(made) if before is not None else None
        if done is not None:
            await done

    return await field_effects.run_each(lab, plan, *fields, before=joining)


def gate(metric: str, *lines: str, step: str = "shadow: 50%", **more: str) -> str:
    """A plan with one gate of that metric, and one step that it judges."""
    return judged(WRITTEN.get(metric, metric), *lines, step=step, **more)


def acting(metric: str, ill: float, name: str = "green") -> Before:
    """A deployment is so ill in what the metric looks at, and well in everything else."""

    def before(lab: Lab) -> None:
        share: dict[str, object] = {
            "slowdown": {"latency_us": round(5_000 * max(ill, 1))},
            "missing_pairs": {"mirror_drops": ill},
            "prediction": {"differs": ill},
        }.get(metric, {})
        lab.cloud.behave("shop", name, Behaviour(**share))
        sys.modules["told_metric"].BAD[name] = ill if metric == "external" else 0.0

    return before


# --- what is judged ---


async def test_metric_is_what_is_looked_at(lab) -> None:
    """Each of them stops what is ill in that, and only that."""
    plan = gate("slowdown", *fast()).replace("    metric: slowdown\n", "")
    fields = [f"metric: {WRITTEN.get(metric, metric)}\n    {MAX[metric]}" for metric in METRICS]
    for ill in METRICS:
        ran = await run_each(lab, plan, *fields, before=acting(ill, ILL[ill]))
        expected = ["rolled_back: gate" if metric == ill else "succeeded" for metric in METRICS]
        assert ends(ran) == expected, ill


@pytest.mark.parametrize("metric", METRICS[1:])
async def test_max_is_an_absolute_bound(lab, metric) -> None:
    strict, mild = await run_each(
        lab, gate(metric, *fast()), "max: 10%", "max: 60%", before=acting(metric, ILL[metric])
    )
    assert ends([strict, mild]) == ["rolled_back: gate", "succeeded"]
    assert "beyond the bound of 10%" in strict.rollout.reason


async def test_max_ratio_of_a_slowdown_is_how_much_longer_the_typical_request_may_take(lab) -> None:
    """Not the slowest ones: the second candidate takes ten times as long for a third of them."""
    plan = gate("slowdown", *fast())
    strict, mild = await run_each(lab, plan, "max_ratio: 2", "max_ratio: 20", before=acting("slowdown", 10))
    assert ends([strict, mild]) == ["rolled_back: gate", "succeeded"]
    assert "may take more than 2x as long" in strict.rollout.reason
    tail = behaving(latency_us=5_000, sigma=1.2, likeness=0.0)
    (wide,) = await run_each(lab, plan, "max_ratio: 2", before=tail)
    assert wide.end == "succeeded"


NUMBERS = {"blue": b'{"label": "a", "score": [100.0]}', "green": b'{"label": "a", "score": [100.5]}'}


async def answering(lab: Lab) -> None:
    """All answers differ by a half of a hundred, in one of two fields."""
    for name, answer in NUMBERS.items():
        lab.cloud.behave("shop", name, Behaviour(answer=answer))


async def test_tolerance_is_how_far_apart_numbers_count_as_the_same(lab) -> None:
    fields = ("", "tolerance: 0", "tolerance: 0.4", "tolerance: 0.6")
    ran = await run_each(lab, gate("prediction", *fast("max: 10%")), *fields, before=answering)
    assert ends(ran) == [*["rolled_back: gate"] * 3, "succeeded"]


@pytest.mark.parametrize(
    ("strict", "mild"),
    [("absolute: 0.4", "absolute: 0.6"), ("relative: 0.004", "relative: 0.006")],
    ids=["absolute", "relative"],
)
async def test_either_part_of_a_tolerance_is_enough(lab, strict, mild) -> None:
    fields = [f"tolerance: {{{strict}}}", f"tolerance: {{{mild}}}"]
    ran = await run_each(lab, gate("prediction", *fast("max: 10%")), *fields, before=answering)
    assert ends(ran) == ["rolled_back: gate", "succeeded"]


async def test_path_is_the_part_that_is_compared(lab) -> None:
    plan = gate("prediction", *fast("max: 10%"))
    ran = await run_each(lab, plan, "path: label", "path: score.0", "path: score", before=answering)
    assert ends(ran) == ["succeeded", "rolled_back: gate", "rolled_back: gate"]


async def test_examples_is_how_many_differing_answers_are_shown(lab) -> None:
    plan = gate("prediction", *fast("max: 10%"))
    default, none, one = await run_each(lab, plan, "", "examples: 0", "examples: 1", before=answering)
    shown = [[note for note in verdict(ran).notes if note.startswith("for example: ")] for ran in (default, none, one)]
    assert [len(notes) for notes in shown] == [0, 0, 1]
    assert "100" not in shown[2][0]  # what was answered is nobody's business


# --- stable itself ---


def hurt(metric: str) -> Before:
    """Blue becomes ill when it is mirrored."""
    ill: dict[str, object] = {"error_rate": {"error_rate": 0.3}, "latency": {"latency_us": 50_000}}[metric]

    def before(lab: Lab) -> None:
        when(lab, "stage_entered", lambda: lab.cloud.behave("shop", "blue", Behaviour(**ill)), name="shadow 50%")

    return before


RELATIVE = {"error_rate": "max_increase: 5%", "latency": "max_ratio: 2"}


@pytest.mark.parametrize("metric", RELATIVE)
async def test_guard_compares_stable_with_itself_before_the_step(lab, metric) -> None:
    """A candidate that is ill is not its business; a stable that suffers is."""
    plan = gate(metric, *fast(RELATIVE[metric]))
    ill = {"error_rate": {"error_rate": 0.3}, "latency": {"latency_us": 50_000}}[metric]
    alone, guarded = await run_each(lab, plan, "", "guard: stable", before=hurt(metric))
    assert ends([alone, guarded]) == ["succeeded", "rolled_back: gate"]
    assert "blue" in guarded.rollout.reason
    alone, guarded = await run_each(lab, plan, "", "guard: stable", before=behaving(**ill))
    assert ends([alone, guarded]) == ["rolled_back: gate", "succeeded"]


# --- from elsewhere ---


async def worse_than_blue(lab: Lab) -> None:
    acting("external", 0.05, "blue")(lab)
    acting("external", 0.15)(lab)


async def test_max_ratio_from_elsewhere_is_how_many_times_what_stable_has(lab, told) -> None:
    plan = gate("external", *fast("max_increase: 0.5%"), step="canary: 50%")
    ran = await run_each(lab, plan, "max_ratio: 1", "max_ratio: 8", before=worse_than_blue)
    assert ends(ran) == ["rolled_back: gate", "succeeded"]
    assert "beyond the tolerance of 1x + 0.5%" in ran[0].rollout.reason
    assert set(told.ASKED) == {("green", "live"), ("blue", "live")}


async def test_max_increase_from_elsewhere_is_what_comes_on_top_of_it(lab) -> None:
    plan = gate("external", *fast())
    ran = await run_each(lab, plan, "max_increase: 2%", "max_increase: 30%", before=worse_than_blue)
    assert ends(ran) == ["rolled_back: gate", "succeeded"]
    assert "beyond the tolerance of 1x + 2%" in ran[0].rollout.reason


async def test_bounds_of_values_are_numbers(lab) -> None:
    """Green has 15 of what blue has 5 of."""
    values = "metric: {told: {form: values, times: 100}}"
    plan = gate("external", *fast("min_requests: 5")).replace("metric: {told: {}}", values)
    fields = ("max: 12", "max: 20", "max_ratio: 2", "max_ratio: 4", "max_increase: 5", "max_increase: 20")
    ran = await run_each(lab, plan, *fields, before=worse_than_blue)
    assert ends(ran) == ["rolled_back: gate", "succeeded"] * 3


async def test_blame_of_a_metric_from_elsewhere(lab) -> None:
    """Without a word it is off where nothing is compared, because stable is not asked then."""

    async def both_ill(made: Lab) -> None:
        acting("external", 0.3, "blue")(made)
        acting("external", 0.3)(made)

    plan = gate("external", *fast("max: 10%"), deadline="6s")
    default, on, off = await run_each(lab, plan, "", "blame: on", "blame: off", before=both_ill)
    assert ends([default, on, off]) == ["rolled_back: gate", "paused: undecided", "rolled_back: gate"]
    relative = gate("external", *fast("max: 10%", "max_increase: 10%"), deadline="6s")
    default, off = await run_each(lab, relative, "", "blame: off", before=both_ill)
    assert ends([default, off]) == ["paused: undecided", "rolled_back: gate"]


async def test_source_is_which_requests_a_metric_is_asked_about(lab, told) -> None:
    asked = {}
    for step in ("shadow: 50%", "canary: 50%"):
        for field in ("", "source: auto", "source: live", "source: mirror", "source: direct"):
            told.ASKED.clear()
            (ran,) = await run_each(lab, gate("external", *fast("max: 10%"), step=step), field)
            assert ran.end == "succeeded"
            ((_, asked[step, field]),) = set(told.ASKED)
    assert list(asked.values()) == [
        *("mirror", "mirror", "live", "mirror", "direct"),
        *("live", "live", "live", "mirror", "direct"),
    ]


# --- how much is asked for ---


@pytest.mark.parametrize("metric", METRICS)
async def test_min_requests_come_before_pass(lab, metric) -> None:
    few, many = await run_each(lab, gate(metric, *fast(MAX[metric])), "min_requests: 50", "min_requests: 1000")
    assert ends([few, many]) == ["succeeded", "succeeded"]
    assert few.seconds("shadow 50%") < 4
    assert 9 < many.seconds("shadow 50%") < 13
    assert 50 <= verdict(few).candidate.requests < 1000 <= verdict(many).candidate.requests


@pytest.mark.parametrize("metric", METRICS)
async def test_warm_up_is_discarded_at_the_candidates_birth_and_only_there(lab, metric) -> None:
    """Its first five seconds are bad."""

    def before(made: Lab) -> None:
        acting(metric, ILL[metric])(made)
        made.on_event.append(
            lambda rollout, event: (
                made.cloud.later(5.0, lambda: acting(metric, WELL[metric])(made))
                if event.body.kind == "reached" and rollout.record.name == "shadow 40%"
                else None
            )
        )

    plan = gate(metric, MAX[metric], "interval: 1s", step="shadow: [40%, 50%]")
    none, some = await run_each(lab, plan, "warm_up: 0s", "warm_up: 6s", before=before)
    assert ends([none, some]) == ["rolled_back: gate", "succeeded"]
    assert some.seconds("shadow 40%") > 7
    assert some.seconds("shadow 50%") < 5
    assert "warming up, 3 s left" in some.of("measured")[2].body.judgement.sentence


@pytest.mark.parametrize("metric", METRICS)
async def test_interval_is_the_time_between_measurements(lab, metric) -> None:
    plan = gate(metric, MAX[metric], "warm_up: 0s", hold="20s", deadline="1m")
    often, seldom, providers = await run_each(lab, plan, "interval: 2s", "interval: 5s", "")
    assert [len(ran.of("measured")) for ran in (often, seldom, providers)] == [10, 4, 2]


@pytest.mark.parametrize("metric", METRICS)
async def test_settle_holds_back_the_clocks_of_the_stage(lab, metric) -> None:
    at_once, late = await run_each(lab, gate(metric, *fast(MAX[metric]), hold="3s"), "settle: 0s", "settle: 20s")
    waits = []
    for ran in (at_once, late):
        split, (reached,) = ran.of("ended", "shadow 50%")[0].at, ran.of("reached", "shadow 50%")
        assert reached.body.hold_until - reached.at == timedelta(seconds=3)
        waits.append((reached.at - split).total_seconds())
    assert waits == pytest.approx([0, 20], abs=0.1)


@pytest.mark.parametrize("metric", METRICS)
async def test_alpha_is_how_sure_a_fail_must_be(lab, metric) -> None:
    beyond = acting(metric, 2.1 if metric == "slowdown" else 0.17)
    plan = gate(metric, *fast(MAX[metric]), deadline="5s")
    bold, shy = await run_each(lab, plan, "alpha: 20%", "alpha: 0.000001%", before=beyond)
    assert ends([bold, shy]) == ["rolled_back: gate", "paused: undecided"]
    assert -math.log(0.2) <= verdict(bold).log_evidence_fail < -math.log(1e-8)
    assert verdict(shy).log_evidence_fail < -math.log(1e-8)


@pytest.mark.parametrize("metric", METRICS)
async def test_beta_is_how_sure_a_pass_must_be(lab, metric) -> None:
    near = "max_ratio: 1.05" if metric == "slowdown" else "max: 3%"
    plan = gate(metric, *fast(near), deadline="5s")
    bold, shy = await run_each(lab, plan, "beta: 20%", "beta: 0.000001%")
    assert ends([bold, shy]) == ["succeeded", "paused: undecided"]
    assert -math.log(0.2) <= verdict(bold).log_evidence_pass < -math.log(1e-8)
    assert verdict(shy).log_evidence_pass < -math.log(1e-8)


@pytest.mark.parametrize("metric", METRICS)
async def test_dispersion_makes_what_comes_in_clusters_count_less(lab, metric) -> None:
    """Green is ill in every other minute; after ten minutes it becomes much worse."""
    ill, worse = (1.48, 20.0) if metric == "slowdown" else (0.08, 0.9)
    lab.rate = 20.0

    def before(made: Lab) -> None:
        acting(metric, WELL[metric])(made)
        for minute in range(10):
            now = acting(metric, ill if minute % 2 else WELL[metric])
            made.cloud.later(60.0 * minute + 5, lambda now=now: now(made))
        when(made, "stage_entered", lambda: acting(metric, worse)(made), name="shadow 50%")

    plan = gate(metric, MAX[metric], "warm_up: 0s", "interval: 10s", step="shadow: 45%", hold="10m10s", deadline="11m")
    plan += "  - shadow: 50%\n    gates: it\n    interval: 1s\n"
    default, off = await run_each(lab, plan, "", "dispersion: off", before=before)
    assert ends([default, off]) == ["rolled_back: gate"] * 2
    assert off.seconds("shadow 50%") < 5 < default.seconds("shadow 50%")
    assert "corrected for clustered errors: counts divided by " in "; ".join(verdict(default).notes)
    assert "clustered" not in "; ".join(verdict(off).notes)


# --- what follows ---


@pytest.mark.parametrize("metric", METRICS)
async def test_on_fail_of_a_gate(lab, metric) -> None:
    fields = ("", "on_fail: rollback", "on_fail: pause")
    ran = await run_each(lab, gate(metric, *fast(MAX[metric])), *fields, before=acting(metric, ILL[metric]))
    assert ends(ran) == ["rolled_back: gate", "rolled_back: gate", "paused: gate"]


@pytest.mark.parametrize("metric", METRICS)
async def test_on_no_data_of_a_gate(lab, told, metric) -> None:
    lab.rate = 0.0
    told.BAD["green"] = None
    fields = ("", "on_no_data: rollback", "on_no_data: pause")
    ran = await run_each(lab, gate(metric, *fast(MAX[metric]), deadline="5s"), *fields)
    assert ends(ran) == ["paused: no_data", "rolled_back: no_data", "paused: no_data"]


@pytest.mark.parametrize("metric", METRICS)
async def test_on_undecided_of_a_gate(lab, metric) -> None:
    fields = ("", "on_undecided: rollback", "on_undecided: pause")
    ran = await run_each(lab, gate(metric, *fast(TIGHT[metric]), deadline="5s"), *fields)
    assert ends(ran) == ["paused: undecided", "rolled_back: undecided", "paused: undecided"]


@pytest.mark.parametrize("metric", METRICS)
async def test_on_error_of_a_gate(lab, metric) -> None:
    fields = ("", "on_error: rollback", "on_error: pause")
    ran = await run_each(lab, gate(metric, *fast(MAX[metric])), *fields, before=unreadable)
    assert ends(ran) == ["paused: error", "rolled_back: error", "paused: error"]
