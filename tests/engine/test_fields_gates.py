"""What each field of each gate does: plans that differ in that field alone go differently, in virtual time."""

import asyncio
import math
from datetime import timedelta

import pytest

from providers.base import Request
from providers.memory import Behaviour
from providers.memory.provider import MemoryProvider
from tests.engine.field_effects import (
    TOP,
    Before,
    Lab,
    behaving,
    ends,
    fast,
    judged,
    run_each,
    unreadable,
    verdict,
    when,
)

pytestmark = pytest.mark.looptime

METRICS = ("error_rate", "latency")
MAX = {"error_rate": "max: 10%", "latency": "max: 20ms"}
"""A tolerance that blue and a candidate like it are well within; green gets about 100 requests a second."""
TIGHT = {"error_rate": "max: 0.001%", "latency": "max: 7.5ms"}
"""One that nobody could prove, and that nobody breaks."""
ILL = {"error_rate": {"error_rate": 0.3}, "latency": {"latency_us": 50_000}}
"""How a candidate acts that is beyond every tolerance here."""


def both(**each: object) -> Before:
    """Blue and green act so."""

    def before(lab: Lab) -> None:
        for name in ("blue", "green"):
            lab.cloud.behave("shop", name, Behaviour(**each))

    return before


# --- what is judged, and against what ---


async def test_metric_is_what_is_looked_at(lab) -> None:
    """The tolerance is told in the metric's own unit, so it differs as well."""
    plan = judged("error_rate", *fast()).replace("    metric: error_rate\n", "")
    fields = [f"metric: {metric}\n    {MAX[metric]}" for metric in METRICS]
    errors = await run_each(lab, plan, *fields, before=behaving(**ILL["error_rate"]))
    slow = await run_each(lab, plan, *fields, before=behaving(**ILL["latency"]))
    assert ends([*errors, *slow]) == ["rolled_back: gate", "succeeded", "succeeded", "rolled_back: gate"]


@pytest.mark.parametrize(("metric", "tolerant"), [("error_rate", "max: 60%"), ("latency", "max: 200ms")], ids=METRICS)
async def test_max_is_an_absolute_bound(lab, metric, tolerant) -> None:
    strict, mild = await run_each(lab, judged(metric, *fast()), MAX[metric], tolerant, before=behaving(**ILL[metric]))
    assert ends([strict, mild]) == ["rolled_back: gate", "succeeded"]
    bound = {"error_rate": "bound of 10%", "latency": "bound of 20 ms"}[metric]
    assert f"beyond the {bound} and worse than blue" in strict.rollout.reason


async def worse_than_blue(lab: Lab) -> None:
    lab.cloud.behave("shop", "blue", Behaviour(error_rate=0.05))
    lab.cloud.behave("shop", "green", Behaviour(error_rate=0.15, latency_us=10_000))


@pytest.mark.parametrize(
    ("metric", "strict", "mild", "tolerance"),
    [
        ("error_rate", "max_increase: 0.5%\n    max_ratio: 1", "max_increase: 0.5%\n    max_ratio: 8", "1x + 0.5%"),
        ("latency", "max_ratio: 1.5", "max_ratio: 3", "1.5x"),
    ],
    ids=METRICS,
)
async def test_max_ratio_is_how_many_times_what_stable_has(lab, metric, strict, mild, tolerance) -> None:
    ran = await run_each(lab, judged(metric, *fast()), strict, mild, before=worse_than_blue)
    assert ends(ran) == ["rolled_back: gate", "succeeded"]
    assert f"beyond the tolerance of {tolerance}" in ran[0].rollout.reason


async def test_max_increase_is_what_comes_on_top_of_it(lab) -> None:
    plan = judged("error_rate", *fast("max_ratio: 1"))
    ran = await run_each(lab, plan, "max_increase: 2%", "max_increase: 30%", before=worse_than_blue)
    assert ends(ran) == ["rolled_back: gate", "succeeded"]
    assert "beyond the tolerance of 1x + 2%" in ran[0].rollout.reason


async def test_without_max_ratio_it_is_one(lab) -> None:
    plan = judged("error_rate", *fast("max_increase: 2%"))
    ran = await run_each(lab, plan, "", "max_ratio: 1", "max_ratio: 9", before=worse_than_blue)
    assert ends(ran) == ["rolled_back: gate", "rolled_back: gate", "succeeded"]


async def test_quantile_is_how_slow_the_slowest_may_be(lab) -> None:
    """Half of the requests take 5 ms, and of a hundred one takes more than 50."""
    plan = judged("latency", *fast("max: 20ms"))
    tail = behaving(latency_us=5_000, sigma=1.0)
    p50, default, p99 = await run_each(lab, plan, "quantile: p50", "", "quantile: p99", before=tail)
    assert (p50.end, p99.end) == ("succeeded", "rolled_back: gate")
    assert "p50 <= " in verdict(p50).sentence
    assert "p95 <= " in verdict(default).sentence
    assert "p99 <= " in p99.rollout.reason


async def test_codes_are_what_counts_as_an_error(lab) -> None:
    plan = judged("error_rate", *fast("max: 10%"))
    missing = behaving(error_rate=0.5, error_status=404)
    default, own, by_class = await run_each(lab, plan, "", "codes: [404]", "codes: [4xx, timeout]", before=missing)
    assert ends([default, own, by_class]) == ["succeeded", "rolled_back: gate", "rolled_back: gate"]
    timeouts = behaving(timeouts=0.5)
    default, own = await run_each(lab, plan, "", "codes: [404]", before=timeouts)
    assert ends([default, own]) == ["rolled_back: gate", "succeeded"]


@pytest.mark.parametrize("metric", METRICS)
async def test_blame_excuses_what_stable_suffers_as_well(lab, metric) -> None:
    plan = judged(metric, *fast(MAX[metric]), deadline="6s")
    default, on, off = await run_each(lab, plan, "", "blame: on", "blame: off", before=both(**ILL[metric]))
    assert off.end == "rolled_back: gate"
    assert default.end == on.end == "paused: undecided"
    assert "and worse than blue" not in off.rollout.reason


@pytest.mark.parametrize("metric", METRICS)
async def test_source_is_which_of_the_candidates_requests_are_judged(lab, metric) -> None:
    """A shadow step has only mirrored ones, a canary only live ones."""
    for step, good, bad in (("shadow: 50%", "mirror", "live"), ("canary: 50%", "live", "mirror")):
        plan = judged(metric, *fast(MAX[metric]), step=step, deadline="5s")
        fields = ("", "source: auto", "source: live", "source: mirror", "source: direct")
        ran = dict(zip(fields, await run_each(lab, plan, *fields), strict=True))
        assert ran[""].end == ran["source: auto"].end == ran[f"source: {good}"].end == "succeeded"
        for other in (bad, "direct"):
            assert ran[f"source: {other}"].end == "paused: no_data"
            assert f"no {other} requests since the step began" in ran[f"source: {other}"].rollout.reason


@pytest.mark.parametrize("metric", METRICS)
async def test_source_direct_is_what_is_addressed_by_name(lab, metric) -> None:
    asking = []

    def before(made: Lab) -> None:
        async def ask() -> None:
            provider = MemoryProvider.in_world(made.cloud, made.context())
            while True:
                await provider.invoke("shop", Request(), deployment="green", timeout=30)

        when(made, "stage_entered", lambda: asking.append(asyncio.create_task(ask())), name="canary 50%")

    plan = judged(metric, *fast("max: 20%" if metric == "error_rate" else "max: 20ms"))
    live, direct = await run_each(lab, plan, "source: live", "source: direct", before=before)
    for task in asking:
        task.cancel()
    assert ends([live, direct]) == ["succeeded", "succeeded"]
    # Of 200 a second green gets a hundred; one after the other, 5 ms each, some two hundred are asked by name.
    assert 180 < verdict(live).candidate.requests < 220
    assert 350 < verdict(direct).candidate.requests < 420


# --- how much is asked for ---


@pytest.mark.parametrize("metric", METRICS)
async def test_min_requests_come_before_pass(lab, metric) -> None:
    plan = judged(metric, *fast(MAX[metric]))
    few, many = await run_each(lab, plan, "min_requests: 50", "min_requests: 1000")
    assert ends([few, many]) == ["succeeded", "succeeded"]
    assert few.seconds("canary 50%") < 3
    assert 9 < many.seconds("canary 50%") < 12
    assert 50 <= verdict(few).candidate.requests < 1000 <= verdict(many).candidate.requests


@pytest.mark.parametrize("metric", METRICS)
async def test_warm_up_is_discarded_at_the_candidates_birth_and_only_there(lab, metric) -> None:
    """Its first five seconds are bad."""

    def before(made: Lab) -> None:
        made.cloud.behave("shop", "green", Behaviour(**ILL[metric]))
        made.on_event.append(
            lambda rollout, event: (
                made.cloud.later(5.0, lambda: made.cloud.behave("shop", "green", Behaviour()))
                if event.body.kind == "reached" and rollout.record.name == "canary 50%"
                else None
            )
        )

    plan = judged(metric, MAX[metric], "interval: 1s", step="canary: [50%, 60%]")
    none, some = await run_each(lab, plan, "warm_up: 0s", "warm_up: 6s", before=before)
    assert ends([none, some]) == ["rolled_back: gate", "succeeded"]
    assert some.seconds("canary 50%") > 7
    assert some.seconds("canary 60%") < 4
    assert "warming up, 3 s left" in some.of("measured")[2].body.judgement.sentence
    assert verdict(some).candidate.bad == 0


@pytest.mark.parametrize("metric", METRICS)
async def test_interval_is_the_time_between_measurements(lab, metric) -> None:
    plan = judged(metric, MAX[metric], "warm_up: 0s", hold="20s", deadline="1m")
    often, seldom, providers = await run_each(lab, plan, "interval: 2s", "interval: 5s", "")
    assert [len(ran.of("measured")) for ran in (often, seldom, providers)] == [10, 4, 2]


async def test_of_several_gates_the_smallest_interval_counts_and_a_steps_own_before_all(lab) -> None:
    gates = "gates:\n  a: {metric: error_rate, max: 10%, warm_up: 0s, interval: 4s}\n"
    gates += "  b: {metric: error_rate, max: 9%, warm_up: 0s, interval: 2s}\n"
    plan = f"{TOP}{gates}steps:\n  - deploy: green\n  - canary: 50%\n    gates: [a, b]\n    hold: 20s\n    FIELD\n"
    smallest, own = await run_each(lab, plan, "", "interval: 10s")
    assert [len(ran.of("measured")) for ran in (smallest, own)] == [10, 2]


@pytest.mark.parametrize("metric", METRICS)
async def test_settle_holds_back_the_clocks_of_the_stage(lab, metric) -> None:
    plan = judged(metric, *fast(MAX[metric]), hold="3s")
    at_once, late = await run_each(lab, plan, "settle: 0s", "settle: 20s")
    waits = []
    for ran in (at_once, late):
        split, (reached,) = ran.of("ended", "canary 50%")[0].at, ran.of("reached", "canary 50%")
        assert reached.body.hold_until - reached.at == timedelta(seconds=3)
        waits.append((reached.at - split).total_seconds())
        # What came before the clocks began is no evidence.
        assert ran.of("measured")[0].body.start == reached.at
    assert waits == pytest.approx([0, 20], abs=0.1)
    told = [event.body.waiting for event in late.of("waited") if event.body.waiting]
    assert [each.reason for each in told if each.kind == "settle"] == ["the figures are 20s late"]


@pytest.mark.parametrize("metric", METRICS)
async def test_alpha_is_how_sure_a_fail_must_be(lab, metric) -> None:
    beyond = {"error_rate": {"error_rate": 0.14}, "latency": {"latency_us": 14_000}}[metric]
    plan = judged(metric, *fast(MAX[metric], "blame: off"), deadline="5s")
    bold, shy = await run_each(lab, plan, "alpha: 20%", "alpha: 0.000001%", before=behaving(**beyond))
    assert ends([bold, shy]) == ["rolled_back: gate", "paused: undecided"]
    assert -math.log(0.2) <= verdict(bold).log_evidence_fail < -math.log(1e-8)
    assert verdict(shy).log_evidence_fail < -math.log(1e-8)


@pytest.mark.parametrize("metric", METRICS)
async def test_beta_is_how_sure_a_pass_must_be(lab, metric) -> None:
    plan = judged(metric, *fast(MAX[metric]), deadline="5s").replace("max: 10%", "max: 3%")
    plan = plan.replace("max: 20ms", "max: 9ms")
    bold, shy = await run_each(lab, plan, "beta: 20%", "beta: 0.000001%")
    assert ends([bold, shy]) == ["succeeded", "paused: undecided"]
    assert -math.log(0.2) <= verdict(bold).log_evidence_pass < -math.log(1e-8)
    assert verdict(shy).log_evidence_pass < -math.log(1e-8)


@pytest.mark.parametrize("metric", METRICS)
async def test_dispersion_makes_clustered_errors_count_less(lab, metric) -> None:
    """Both are ill in every other minute, from one cause each; after ten minutes green becomes much worse."""
    ill = {"error_rate": {"error_rate": 0.08}, "latency": {"latency_us": 5_000, "sigma": 0.9}}[metric]
    worse = {"error_rate": {"error_rate": 0.9}, "latency": {"latency_us": 100_000}}[metric]
    lab.rate = 20.0

    def before(made: Lab) -> None:
        for minute in range(10):
            now = ill if minute % 2 else {}
            made.cloud.later(60.0 * minute + 5, lambda now=now: both(**now)(made))
        when(made, "stage_entered", lambda: behaving(**worse)(made), name="canary 60%")

    tolerance = "max_ratio: 1\n    max_increase: 10%" if metric == "error_rate" else "max_ratio: 2"
    plan = judged(metric, tolerance, "warm_up: 0s", "interval: 10s", hold="10m10s", deadline="11m")
    # What is corrected is not proven within these ten minutes.
    plan += "    decide: no_fail\n  - canary: 60%\n    gates: it\n    interval: 1s\n"
    default, off = await run_each(lab, plan, "", "dispersion: off", before=before)
    assert ends([default, off]) == ["rolled_back: gate"] * 2
    assert off.seconds("canary 60%") < 5 < default.seconds("canary 60%")
    assert "corrected for clustered errors: counts divided by " in "; ".join(verdict(default).notes)
    assert verdict(off).notes == ()


# --- what follows ---


@pytest.mark.parametrize("metric", METRICS)
async def test_on_fail_of_a_gate(lab, metric) -> None:
    plan = judged(metric, *fast(MAX[metric]))
    default, back, paused = await run_each(
        lab, plan, "", "on_fail: rollback", "on_fail: pause", before=behaving(**ILL[metric])
    )
    assert ends([default, back, paused]) == ["rolled_back: gate", "rolled_back: gate", "paused: gate"]


@pytest.mark.parametrize("metric", METRICS)
async def test_on_no_data_of_a_gate(lab, metric) -> None:
    lab.rate = 0.0
    plan = judged(metric, *fast(MAX[metric]), deadline="5s")
    default, back, paused = await run_each(lab, plan, "", "on_no_data: rollback", "on_no_data: pause")
    assert ends([default, back, paused]) == ["paused: no_data", "rolled_back: no_data", "paused: no_data"]


@pytest.mark.parametrize("metric", METRICS)
async def test_on_undecided_of_a_gate(lab, metric) -> None:
    plan = judged(metric, *fast(TIGHT[metric]), deadline="5s")
    default, back, paused = await run_each(lab, plan, "", "on_undecided: rollback", "on_undecided: pause")
    assert ends([default, back, paused]) == ["paused: undecided", "rolled_back: undecided", "paused: undecided"]


@pytest.mark.parametrize("metric", METRICS)
async def test_on_error_of_a_gate(lab, metric) -> None:
    plan = judged(metric, *fast(MAX[metric]))
    default, back, paused = await run_each(lab, plan, "", "on_error: rollback", "on_error: pause", before=unreadable)
    assert ends([default, back, paused]) == ["paused: error", "rolled_back: error", "paused: error"]


async def nothing_comes(lab: Lab) -> None:
    lab.cloud.default_rate = 0.0


CAUSES = {
    "on_fail": ("gate", MAX["error_rate"], behaving(**ILL["error_rate"])),
    "on_no_data": ("no_data", MAX["error_rate"], nothing_comes),
    "on_undecided": ("undecided", TIGHT["error_rate"], None),
    "on_error": ("error", MAX["error_rate"], unreadable),
}
"""What is inherited -> what happened, with which tolerance, and why."""


@pytest.mark.parametrize("field", CAUSES)
@pytest.mark.parametrize(
    ("top", "step", "gate", "end"),
    [
        ("rollback", "", "", "rolled_back"),
        ("pause", "", "", "paused"),
        ("rollback", "pause", "", "paused"),
        ("pause", "rollback", "", "rolled_back"),
        ("rollback", "rollback", "pause", "paused"),
        ("pause", "pause", "rollback", "rolled_back"),
        ("", "rollback", "pause", "paused"),
    ],
)
async def test_a_gates_own_word_counts_before_its_steps_and_that_before_the_plans(
    lab, field, top, step, gate, end
) -> None:
    cause, tolerance, before = CAUSES[field]
    said = [f"{field}: {answer}" if answer else "" for answer in (top, step, gate)]
    plan = judged("error_rate", *fast(tolerance), deadline="5s", top=said[0]) + f"    {said[1]}\n"
    (ran,) = await run_each(lab, plan, said[2], before=before)
    assert ran.end == f"{end}: {cause}"


@pytest.mark.parametrize(("field", "evidence"), [("alpha", "log_evidence_fail"), ("beta", "log_evidence_pass")])
async def test_a_gates_own_alpha_and_beta_count_before_the_plans(lab, field, evidence) -> None:
    acts = behaving(error_rate=0.14) if field == "alpha" else None
    decided = "rolled_back: gate" if field == "alpha" else "succeeded"
    tolerance = fast("max: 10%" if field == "alpha" else "max: 3%", "blame: off")
    found = {}
    for top in ("", f"{field}: 20%", f"{field}: 0.000001%"):
        plan = judged("error_rate", *tolerance, deadline="5s", top=top)
        for gate in ("", f"{field}: 20%", f"{field}: 0.000001%"):
            (ran,) = await run_each(lab, plan, gate, before=acts)
            found[top, gate] = ran.end
            assert getattr(verdict(ran), evidence) > 0
    sure, unsure = f"{field}: 0.000001%", f"{field}: 20%"
    assert {found["", unsure], found[unsure, ""], found[unsure, unsure], found[sure, unsure]} == {decided}
    assert {found["", sure], found[sure, ""], found[sure, sure], found[unsure, sure]} == {"paused: undecided"}


async def test_gates_fail_in_groups_that_ask_for_the_same(lab) -> None:
    """Of a gate that pauses and one that rolls back, each does its own."""
    gates = "gates:\n  slow: {metric: latency, max: 20ms, warm_up: 0s, interval: 1s, on_fail: pause}\n"
    gates += "  errors: {metric: error_rate, max: 10%, warm_up: 0s, interval: 1s, on_fail: rollback}\n"
    plan = f"{TOP}{gates}steps:\n  - deploy: green\n  - canary: 50%\n    gates: [slow, errors]\n"
    (slow,) = await run_each(lab, plan, "", before=behaving(**ILL["latency"]))
    (errors,) = await run_each(lab, plan, "", before=behaving(**ILL["error_rate"]))
    (all_of_it,) = await run_each(lab, plan, "", before=behaving(**ILL["error_rate"], **ILL["latency"]))
    assert ends([slow, errors, all_of_it]) == ["paused: gate", "rolled_back: gate", "rolled_back: gate"]
