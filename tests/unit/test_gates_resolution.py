"""The expected path against the production fold, poll by poll, and what a histogram makes of a tolerance."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.gates.histogram import Tail
from orchestrator.gates.judge import judge
from orchestrator.gates.resolution import (
    LOG_SPREAD,
    Buckets,
    Effective,
    effective,
    effective_sentences,
    finer_than_histogram,
    requests_to_fail,
    requests_to_pass,
    traffic_to_fail,
)
from orchestrator.gates.spec import Gate
from orchestrator.gates.spread import Spread
from orchestrator.gates.state import GateState
from providers.measurement import Cursor, Histogram, Leg, Measurement

BIRTH = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPLIT = {"candidate_share": 100, "stable_share": 900}
TWO = Buckets(2)


def errors(**tolerance):
    return Gate("errors", "error_rate", **{"warm_up": 0, "min_requests": 0, **tolerance})


def latency(**tolerance):
    return Gate("latency", "latency", **{"warm_up": 0, "min_requests": 0, **tolerance})


# --- the expected path, walked poll by poll through the production code -----------------------------

STABLE_P95 = 400_000
BOUND = 500_000


def beyond(ratio):
    """Share of stable's own latencies above this many times its p95."""
    normal = NormalDist()
    return 1 - normal.cdf(normal.inv_cdf(0.95) + math.log(ratio) / LOG_SPREAD)


FINE = 100
"""By what the fold divides all counts here, so that a bad answer can come in hundredths and the path has no steps."""
CLUSTERED = Spread(minutes=11, bad=1, total=1, squares=1 + 10 * FINE)


def walk(gates, *, candidate, stable, requests, kappa=1.1, slow=0.0, stages=1, share=1 / 9, polls=4000):
    """(outcome, candidate requests at it) of a rollout in which nothing happens by chance.

    candidate, stable: error rates; requests: of the candidate in a poll, with 1 / share times as many of stable; kappa:
    of its latency gates; slow: share of both sides' answers above BOUND.
    """
    now = GateState.begin(tuple(gates), stages)
    now = now.enter(0, tuple(gates), "green", "blue" if stable is not None else None, "live")
    clustered = {"bound": CLUSTERED, "relative": CLUSTERED}
    usual = Histogram(((1, STABLE_P95, 95_000), (STABLE_P95, 10**7, 5_000)))
    now = replace(now, tracks=tuple(replace(t, spread=clustered) for t in now.tracks), baseline=(usual,))
    tail = max(slow, beyond(kappa))
    edges = (1, STABLE_P95, round(kappa * STABLE_P95), max(BOUND, round(kappa * STABLE_P95) + 1), 10**7)
    rates = [0.05 - tail, tail - slow, slow]

    def leg(name, poll, n, rate):
        def come(r):
            return round(r * poll * n) - round(r * (poll - 1) * n)

        parts = [come(part) for part in rates]
        counts = zip(pairwise(edges), (n - sum(parts), *parts), strict=True)
        bad = come(rate)
        histogram = Histogram(tuple((lower, upper, k) for (lower, upper), k in counts if k))
        return Leg(name, "live", n, {"200": n - bad, "503": bad}, histogram)

    for poll in range(1, polls + 1):
        legs = [leg("green", poll, round(FINE * requests), candidate)]
        if stable is not None:
            legs.append(leg("blue", poll, round(FINE * requests / share), stable))
        end = BIRTH + timedelta(seconds=poll)
        measured = Measurement(end - timedelta(seconds=1), end, tuple(legs), Cursor("one", end))
        now = now.fold(measured, gap=True)  # which leaves the divisor and the baseline as they are
        outcome = judge(now).outcome
        if outcome in ("passed", "failed"):
            return outcome, poll * requests
    return "open", polls * requests


PASSES = {
    "bound alone": (errors(max=0.01), 0.0, {}),
    "bound alone, with errors": (errors(max=0.02), 0.005, {}),
    "bound with blame": (errors(max=0.01, blame=True), 0.004, {}),
    "increase": (errors(max_increase=0.01), 0.005, {}),
    "ratio and increase": (errors(max_ratio=1.5, max_increase=0.005), 0.005, {}),
    "ratio and increase, no errors": (errors(max_ratio=1.5, max_increase=0.005), 0.0, {}),
    "both terms": (errors(max=0.05, max_ratio=2, max_increase=0.02, blame=True), 0.005, {}),
    "latency bound": (latency(max=BOUND), 0.02, {}),
    "latency bound with blame": (latency(max=BOUND, blame=True), 0.02, {}),
    "latency ratio": (latency(max_ratio=1.2), 0.0, {"kappa": 1.2}),
    "latency, both terms": (latency(max=BOUND, max_ratio=1.2, blame=True), 0.02, {"kappa": 1.2}),
}


@pytest.mark.parametrize("split", [(100, 900), (300, 700)], ids=["9:1", "7:3"])
@pytest.mark.parametrize("name", PASSES)
def test_a_rollout_on_the_expected_path_passes_where_it_was_foretold(name, split):
    gate, rate, more = PASSES[name]
    foretold = requests_to_pass(gate, candidate_share=split[0], stable_share=split[1], rate=rate)
    requests = foretold / 150
    sides = {"slow": rate, "candidate": 0.0, "stable": 0.0} if gate.metric == "latency" else {}
    sides = sides or {"candidate": rate, "stable": rate}
    outcome, seen = walk([gate], **sides, requests=requests, share=split[0] / split[1], **more)
    assert outcome == "passed"
    assert seen == pytest.approx(foretold, rel=0.02)


LATENCY = latency(max=BOUND, max_ratio=1.2, blame=True)
FAILS = {
    "bound alone": ([errors(max=0.01)], 0.1),
    "bound with blame": ([errors(max=0.01, blame=True)], 0.04),
    "comparison": ([errors(max_ratio=1.5, max_increase=0.005)], 0.04),
    "both terms": ([errors(max=0.02, max_ratio=1.5, max_increase=0.005, blame=True)], 0.06),
    "two gates of a group": ([errors(max=0.02, max_ratio=1.5, max_increase=0.005, blame=True), LATENCY], 0.06),
    "of two alphas": ([errors(max=0.02, alpha=0.1), errors(max_increase=0.005, alpha=0.001, blame=True)], 0.08),
}


@pytest.mark.parametrize("stages", [1, 4])
@pytest.mark.parametrize("name", FAILS)
def test_a_bad_candidate_on_the_expected_path_fails_where_it_was_foretold(name, stages):
    gates, bad = FAILS[name]
    gates = [replace(gate, name=f"{gate.name}-{number}") for number, gate in enumerate(gates)]
    foretold = requests_to_fail(gates, gates[0], **SPLIT, stages=stages, bad_rate=bad, stable_rate=0.005)
    outcome, seen = walk(gates, candidate=bad, stable=0.005, requests=foretold / 100, kappa=1.2, stages=stages)
    assert outcome == "failed"
    assert seen == pytest.approx(foretold, rel=0.02)


def test_a_bad_candidate_without_a_stable_side_is_judged_by_its_bound_alone():
    gate = errors(max=0.01, max_ratio=1.5, max_increase=0.005, blame=True)
    foretold = requests_to_fail(
        [gate], gate, candidate_share=1000, stable_share=0, stages=2, bad_rate=0.05, stable_rate=0.005
    )
    outcome, seen = walk([gate], candidate=0.05, stable=None, requests=foretold / 100, stages=2)
    assert outcome == "failed"
    assert seen == pytest.approx(foretold, rel=0.02)


# --- the figures of the design ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tolerance", "rate", "requests"),
    [
        ({"max_increase": 0.001}, 0.005, 86_000),
        ({"max_increase": 0.001}, 0.0, 3_800),
        ({"max_ratio": 1.5, "max_increase": 0.005}, 0.005, 1_600),
        ({"max_ratio": 1.5, "max_increase": 0.005}, 0.0, 770),
        ({"max": 0.01}, 0.005, 3_000),
        ({"max": 0.01}, 0.0, 374),
    ],
)
def test_what_a_tolerance_costs(tolerance, rate, requests):
    assert requests_to_pass(errors(**tolerance), **SPLIT, rate=rate) == pytest.approx(requests, rel=0.025)


def test_min_requests_the_warm_up_and_the_level_count():
    gate = errors(max=0.5, min_requests=100)
    assert requests_to_pass(gate, **SPLIT, rate=0.0) == 100
    assert requests_to_pass(gate, **SPLIT, rate=0.0, discarded=50) == 150
    strict = errors(max=0.01)
    surer = requests_to_pass(strict, **SPLIT, rate=0.0, beta=0.0025)
    assert surer == pytest.approx(requests_to_pass(errors(max=0.01, beta=0.0025), **SPLIT, rate=0.0))
    assert surer == pytest.approx(374 * 2, rel=0.2)  # log(1/beta) is twice as large


def test_more_stages_and_more_gates_need_a_little_more_to_fail():
    gate, other = errors(max=0.01, blame=True), latency(max=BOUND)

    def needed(*gates, stages):
        return requests_to_fail(gates, gate, **SPLIT, stages=stages, bad_rate=0.1, stable_rate=0.005)

    alone = needed(gate, stages=1)
    assert alone < needed(gate, stages=4) < 1.6 * alone
    assert alone < needed(gate, other, stages=1) < 1.4 * alone


def test_a_gate_of_another_reaction_is_not_of_the_group():
    gate, other = errors(max=0.01), latency(max=BOUND, on_fail="pause")
    args = {"stages": 1, "bad_rate": 0.1, "stable_rate": 0.005}
    assert requests_to_fail([gate, other], gate, **SPLIT, **args) == requests_to_fail([gate], gate, **SPLIT, **args)
    assert requests_to_fail([gate, other], other, **SPLIT, **args) is None


@pytest.mark.parametrize(
    ("gate", "sides"),
    [
        (errors(max=0.01), {"rate": 0.01}),
        (errors(max=0.01, blame=True), {"rate": 0.02}),
        (errors(max_ratio=1.0), {"rate": 0.005}),
        (errors(max_ratio=1.5), {"rate": 0.0}),
        (errors(max_increase=0.001), {"rate": 0.01, "stable_rate": 0.005}),
        (errors(max_increase=0.01), {"rate": 0.0, "stable_share": 0}),
        (errors(max=0.01), {"rate": 0.0, "candidate_share": 0}),
        (latency(max=BOUND), {"rate": 0.05}),
        (latency(max_ratio=1.0), {"rate": 0.0}),
        (latency(max_ratio=1.1), {"rate": 0.0, "tested_ratio": 1.0}),
    ],
)
def test_what_never_passes(gate, sides):
    assert requests_to_pass(gate, **{**SPLIT, **sides}) is None


@pytest.mark.parametrize(
    ("gates", "bad", "stable"),
    [
        ([errors(max=0.05)], 0.05, 0.005),
        ([errors(max=0.01, blame=True)], 0.1, 0.1),
        ([errors(max_ratio=2, max_increase=0.02)], 0.02, 0.0),
        ([latency(max=BOUND, max_ratio=1.1)], 1.0, 0.0),
    ],
)
def test_what_never_fails(gates, bad, stable):
    assert requests_to_fail(gates, gates[0], **SPLIT, stages=1, bad_rate=bad, stable_rate=stable) is None


def test_gates_without_requests_cannot_fail_and_do_not_hinder_the_others_much():
    live, mirrored = errors(max=0.01), latency(max=BOUND, source="mirror")
    args = {"stable_share": 900, "stages": 1, "bad_rate": 0.1, "stable_rate": 0.005}
    both = traffic_to_fail([live, mirrored], {"errors": 100, "latency": 0}, **args)
    assert traffic_to_fail([live], {"errors": 100}, **args) < both < math.inf
    assert traffic_to_fail([live], {"errors": 0}, **args) is None
    assert traffic_to_fail([], {}, **args) is None


def at_most(wider, narrower):
    """Whether a wider tolerance needs no more; the bisection is exact to half a thousandth."""
    return narrower is None or (wider is not None and wider <= 1.001 * narrower)


rates = st.sampled_from([0.0, 0.001, 0.005, 0.02])
tolerances = st.tuples(st.floats(0.0005, 0.3), st.floats(0.0005, 0.3)).map(sorted)
splits = st.sampled_from([(10, 990), (100, 900), (500, 500), (100, 1000)])


@settings(max_examples=60, deadline=None)
@given(tolerances, rates, splits, st.booleans())
def test_a_wider_tolerance_never_needs_more_requests(pair, rate, split, blame):
    narrow, wide = pair
    shares = {"candidate_share": split[0], "stable_share": split[1], "rate": rate}

    def needed(gate):
        return requests_to_pass(gate, **shares)

    assert at_most(needed(errors(max=wide, blame=blame)), needed(errors(max=narrow, blame=blame)))
    assert at_most(needed(errors(max_increase=wide)), needed(errors(max_increase=narrow)))
    ratios = 1 + 10 * narrow, 1 + 10 * wide
    assert at_most(needed(latency(max_ratio=ratios[1])), needed(latency(max_ratio=ratios[0])))
    if rate >= 0.001:
        fine, coarse = (errors(max_ratio=ratio, max_increase=0.005) for ratio in ratios)
        assert at_most(needed(coarse), needed(fine))


def test_without_errors_a_wider_ratio_helps_nothing():
    """There is nothing to multiply: all that counts is the increase."""
    narrow, wide = (errors(max_ratio=ratio, max_increase=0.005) for ratio in (1.0, 4.0))
    needed = [requests_to_pass(gate, **SPLIT, rate=0.0) for gate in (narrow, wide)]
    assert needed[0] <= needed[1] < 1.05 * needed[0]


# --- buckets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latency_us", "within", "beyond_it"),
    [
        (1100, 1100, 1100),
        (1210, 1200, 1300),
        (99, 99, 99),
        (99.5, 99, 100),
        (100, 100, 100),
        (101, 100, 110),
        (995, 990, 1000),
        (1001, 1000, 1100),
        (505_000, 500_000, 510_000),
        (7.2, 7, 8),
    ],
)
def test_bounds_of_two_digits(latency_us, within, beyond_it):
    assert (TWO.last_within(latency_us), TWO.first_beyond(latency_us)) == (within, beyond_it)


def bounds():
    """Those of a histogram of two digits."""
    return [n * 10**k for k in range(4) for n in range(10, 100)] + [100_000]


@given(st.integers(100, 90_000).map(float) | st.floats(100, 90_000))
def test_bounds_are_those_the_gates_count_by(threshold):
    edges = bounds()
    each = Histogram(tuple((lower, upper, 1) for lower, upper in pairwise(edges)))
    assert Tail(each).maybe(threshold) == sum(upper > TWO.last_within(threshold) for upper in edges[1:])
    assert Tail(each).surely(threshold) == sum(lower >= TWO.first_beyond(threshold) for lower in edges[:-1])


def test_the_example_of_the_design():
    (found,) = effective(latency(max_ratio=1.1), TWO, 1100)
    assert found == Effective("relative", 1.1, pytest.approx(1.0909, abs=1e-4), pytest.approx(1.1818, abs=1e-4), 1100)
    assert effective_sentences(latency(max_ratio=1.1), TWO, 1100) == (
        "gate latency: of max_ratio 1.1 PASS tests 1.09x and FAIL 1.18x at stable's p95 of 1.1 ms",
    )


def test_the_worst_over_all_levels():
    (found,) = effective(latency(max_ratio=1.1), TWO)
    every = [effective(latency(max_ratio=1.1), TWO, n * 1000.0)[0] for n in range(10, 100)]
    assert found.level is None
    assert found.passes == min(at.passes for at in every) == pytest.approx(100 / 99)
    assert found.fails == max(at.fails for at in every) == pytest.approx(110 / 91)


@pytest.mark.parametrize(
    ("gate", "level", "sentences"),
    [
        (latency(max=500_000), None, ()),
        (
            latency(max=505_000),
            None,
            ("gate latency: the histogram has no bound at 505 ms: PASS tests 500 ms, FAIL tests 510 ms",),
        ),
        (latency(max_ratio=2), 40_000, ()),
        (
            latency(max_ratio=1.5, quantile=0.5),
            None,
            ("gate latency: of max_ratio 1.5 PASS tests 1.37x and FAIL 1.64x where stable's latency is least lucky",),
        ),
        (
            latency(max_ratio=1.05),
            12_000,
            (
                (
                    "gate latency: max_ratio 1.05 is finer than the histogram at stable's p95 of 12 ms: PASS tests 1x, "
                    "which cannot be proved when both sides are alike, and FAIL tests 1.08x; use 1.09 or more"
                ),
            ),
        ),
        (errors(max=0.01), None, ()),
    ],
)
def test_what_is_told_of_a_histogram(gate, level, sentences):
    assert effective_sentences(gate, TWO, level) == sentences


def test_finer_than_the_histogram():
    fine = latency(max_ratio=1.05)
    assert finer_than_histogram(fine, TWO) == (
        "gate latency: max_ratio 1.05 is finer than the histogram where stable's latency is least lucky: PASS tests "
        "1x, which cannot be proved when both sides are alike, and FAIL tests 1.15x; use 1.1 or more"
    )
    assert finer_than_histogram(fine, TWO, 48_000) is None  # 50 ms and 51 ms
    assert finer_than_histogram(fine, Buckets(3)) is None
    assert finer_than_histogram(latency(max_ratio=1.1), TWO) is None
    assert finer_than_histogram(latency(max=505_000), TWO) is None
    assert finer_than_histogram(errors(max_ratio=1.05), TWO) is None


def test_what_is_advised_against_a_fine_ratio_helps():
    for level in range(10, 100):
        assert effective(latency(max_ratio=1.1), TWO, level * 1000)[0].passes > 1


def test_exact_latencies_and_steps_without_stable_are_not_told_about():
    gate = latency(max=505_000, max_ratio=1.05)
    assert effective(gate, Buckets()) == ()
    assert finer_than_histogram(gate, Buckets()) is None
    assert [found.term for found in effective(gate, TWO, compared=False)] == ["bound"]
    assert len(effective_sentences(gate, TWO, compared=False)) == 1
