"""What is said of a gated step before it runs: needs against clocks, the price of a bad candidate, the sentences."""

import math
import time
from dataclasses import replace

import pytest

from orchestrator.gates.advice import (
    ASSUMED_ERRORS,
    BAD_RATES,
    Conditions,
    advice_for_stage,
    bad_responses,
    undecidable,
)
from orchestrator.gates.resolution import Buckets, requests_to_fail, requests_to_pass
from orchestrator.gates.spec import Gate

ERRORS = Gate("errors", "error_rate", max=0.01, warm_up=0)
COMPARED = Gate("errors", "error_rate", max_ratio=1.5, max_increase=0.005, warm_up=0)
LATENCY = Gate("latency", "latency", max_ratio=1.1, warm_up=0)
SLOW = Gate("slow", "latency", max=500_000, warm_up=0)
CANARY = Conditions(exposure=100, stable=900, hold=600, deadline=4200, traffic=100, candidate="green")
SHADOW = replace(CANARY, exposure=0, mirrored=100, stable=1000)
PROMOTE = replace(CANARY, exposure=1000, stable=0)


def hours(seconds):
    return seconds / 3600


# --- needs -----------------------------------------------------------------------------------------


def test_two_requests_a_minute_and_one_percent():
    """The design's 31 hours and 10 days: 2 requests a minute to the endpoint, of which the candidate gets 10%."""
    found = undecidable(ERRORS, replace(CANARY, traffic=2 / 60, interval=60))
    assert found.clean.requests == pytest.approx(374, rel=0.01)
    assert hours(found.clean.seconds) == pytest.approx(31, abs=0.5)
    assert found.usual.requests == pytest.approx(3000, rel=0.01)
    assert hours(found.usual.seconds) / 24 == pytest.approx(10.4, abs=0.2)
    assert found.in_time is False
    assert found.available == pytest.approx(4200 * 2 / 60 / 10)


def test_needs_are_those_of_the_expected_path():
    found = undecidable(COMPARED, CANARY)
    sides = {"candidate_share": 100, "stable_share": 900}
    assert found.clean.rate == 0.0
    assert found.clean.requests == requests_to_pass(COMPARED, **sides, rate=0.0)
    assert found.usual.rate == ASSUMED_ERRORS
    assert found.usual.requests == requests_to_pass(COMPARED, **sides, rate=ASSUMED_ERRORS)
    measured = undecidable(COMPARED, replace(CANARY, stable_errors=0.02))
    assert measured.usual.requests == requests_to_pass(COMPARED, **sides, rate=0.02)


def test_a_shadow_step_counts_the_mirror_against_all_of_stable():
    found = undecidable(COMPARED, SHADOW)
    assert found.clean.requests == requests_to_pass(COMPARED, candidate_share=100, stable_share=1000, rate=0.0)


@pytest.mark.parametrize(
    ("changes", "gate", "seconds"),
    [
        ({}, {}, 40),  # 372 requests at 10 a second, looked at every 10 s
        ({"interval": 1.0}, {}, 38),
        ({}, {"warm_up": 10}, 50),
        ({}, {"warm_up": 11}, 60),
        ({"warmed": 10}, {"warm_up": 11}, 50),
        ({"warmed": 60}, {"warm_up": 11}, 40),
        ({}, {"settle": 5}, 45),
        ({}, {"min_requests": 500}, 50),
        ({"hold": 38}, {}, 38),  # the end of the hold is looked at as well
        ({"hold": 37}, {}, 40),
    ],
)
def test_clocks(changes, gate, seconds):
    conditions = replace(CANARY, **{"hold": 0.0, **changes})
    assert undecidable(replace(ERRORS, **gate), conditions).clean.seconds == pytest.approx(seconds)


def test_what_the_step_gives():
    gate = replace(ERRORS, warm_up=15)
    assert undecidable(gate, replace(CANARY, deadline=105)).available == pytest.approx((100 - 20) * 10)
    assert undecidable(gate, replace(CANARY, deadline=12)).available == 0
    assert undecidable(gate, replace(CANARY, deadline=None)).available is None
    assert undecidable(gate, replace(CANARY, traffic=None)).available is None


@pytest.mark.parametrize(
    ("deadline", "hold", "in_time", "in_hold"),
    [(600, 300, True, True), (600, 299, True, False), (299, 100, False, False), (None, 0, True, False)],
)
def test_deadline_and_hold(deadline, hold, in_time, in_hold):
    found = undecidable(ERRORS, replace(CANARY, deadline=deadline, hold=hold))  # 2,999 requests: 300 s
    assert found.usual.seconds == 300
    assert (found.in_time, found.in_hold) == (in_time, in_hold)


def test_more_traffic_and_more_time_never_hurt():
    needed = [
        undecidable(ERRORS, replace(CANARY, traffic=traffic)).usual.seconds for traffic in (0.1, 1, 10, 100, 1000)
    ]
    assert needed == sorted(needed, reverse=True)
    decided = [undecidable(ERRORS, replace(CANARY, hold=0, deadline=d)).in_time for d in (10, 100, 290, 300, 1000)]
    assert decided == [False, False, False, True, True]


# --- sentences -------------------------------------------------------------------------------------

UNKNOWN = replace(CANARY, traffic=None)


@pytest.mark.parametrize(
    ("gate", "conditions", "sentence"),
    [
        (ERRORS, CANARY, ""),
        (
            ERRORS,
            replace(CANARY, traffic=20, hold=300, deadline=720),
            (
                "gate errors needs about 3,000 requests to green at 0.5% errors (25m at 20/s and 10%; 3m10s without "
                "any error), and the step gives it 12m: it would end undecided; give it a longer deadline, more "
                "traffic or a wider tolerance"
            ),
        ),
        (
            ERRORS,
            replace(CANARY, traffic=20),
            (
                "gate errors needs about 3,000 requests to green at 0.5% errors (25m at 20/s and 10%; 3m10s without "
                "any error): the step takes longer than its hold of 10m"
            ),
        ),
        (
            ERRORS,
            replace(CANARY, traffic=20, decide="no_fail"),
            (
                "gate errors needs about 3,000 requests to green at 0.5% errors (25m at 20/s and 10%; 3m10s without "
                "any error): the step would go on unproven after its hold of 10m"
            ),
        ),
        (
            ERRORS,
            replace(CANARY, traffic=20, stable_errors=0.0, hold=60),
            (
                "gate errors needs about 370 requests to green without any error (3m10s at 20/s and 10%): the step "
                "takes longer than its hold of 1m"
            ),
        ),
        (
            ERRORS,
            UNKNOWN,
            (
                "gate errors needs about 3,000 requests to green at 0.5% errors (about 370 without any error): at 10% "
                "the endpoint must get 7.1/s to make them within 1h10m"
            ),
        ),
        (
            ERRORS,
            replace(UNKNOWN, deadline=None),
            (
                "gate errors needs about 3,000 requests to green at 0.5% errors (about 370 without any error): at 10% "
                "that is about 30,000 to the endpoint"
            ),
        ),
        (
            replace(ERRORS, max=0.004),
            CANARY,
            (
                "gate errors cannot pass at 0.5% errors, however long the step lasts (about 930 requests suffice "
                "without any error): give it a wider tolerance"
            ),
        ),
        (
            Gate("errors", "error_rate", max_ratio=1.5),
            CANARY,
            "gate errors cannot pass without any error: give it a max_increase above 0%",
        ),
        (
            COMPARED,
            PROMOTE,
            "gate errors only compares with stable, which has no live traffic in this step: it would have no data",
        ),
        (
            replace(ERRORS, source="live"),
            SHADOW,
            "gate errors judges live requests, and green gets none in this step: it would have no data",
        ),
        (
            replace(ERRORS, source="mirror"),
            CANARY,
            "gate errors judges mirrored requests, and green gets none in this step: it would have no data",
        ),
        (
            replace(ERRORS, source="direct"),
            CANARY,
            "gate errors judges direct requests, and how many of them come is not known beforehand",
        ),
        (
            ERRORS,
            replace(CANARY, traffic=0.0),
            (
                "gate errors needs about 3,000 requests to green at 0.5% errors, and the endpoint gets none: it would "
                "have no data"
            ),
        ),
        (
            LATENCY,
            replace(CANARY, traffic=20),
            (
                "gate latency needs about 2,500 requests to green when both sides are equally fast (20m40s at 20/s and "
                "10%): the step takes longer than its hold of 10m"
            ),
        ),
        (
            SLOW,
            replace(PROMOTE, traffic=1, hold=60),
            (
                "gate slow needs about 580 requests to green when 2.5% of its answers take more than 500 ms (9m40s at "
                "1/s and 100%; 1m40s when none of its answers take more than 500 ms): the step takes longer than its "
                "hold of 1m"
            ),
        ),
        (
            replace(LATENCY, max_ratio=1.0),
            CANARY,
            (
                "gate latency cannot pass when both sides are equally fast, however long the step lasts: give it a "
                "wider tolerance"
            ),
        ),
    ],
)
def test_what_the_author_is_told(gate, conditions, sentence):
    assert undecidable(gate, conditions).sentence == sentence


# --- the price of a bad candidate ------------------------------------------------------------------

GUARD = Gate("errors", "error_rate", max=0.02, max_ratio=1.5, max_increase=0.005, blame=True, warm_up=0)


def needed(gate, bad, conditions=CANARY, gates=()):
    shares = {"candidate_share": conditions.exposure, "stable_share": conditions.stable}
    args = {"stages": conditions.stages, "bad_rate": bad, "stable_rate": ASSUMED_ERRORS}
    return requests_to_fail(gates or [gate], gate, **shares, **args)


def test_a_shadow_step_costs_clients_nothing():
    assert [bad_responses([GUARD], SHADOW, bad) for bad in BAD_RATES] == [0.0] * 3
    assert advice_for_stage([GUARD], SHADOW).price == "no client sees an answer of green in this step"


@pytest.mark.parametrize("stages", [1, 4])
@pytest.mark.parametrize("bad", [0.05, 0.1, 1.0])
def test_without_traffic_the_price_is_what_a_fail_takes(bad, stages):
    conditions = replace(UNKNOWN, stages=stages)
    assert bad_responses([GUARD], conditions, bad) == pytest.approx(needed(GUARD, bad, conditions) * bad)


@pytest.mark.parametrize(("warm_up", "settle"), [(0.0, 0.0), (15.0, 3.0)])
@pytest.mark.parametrize("bad", [0.05, 0.1, 1.0])
def test_with_traffic_whole_polls_pass_until_the_fail(bad, warm_up, settle):
    gate = replace(GUARD, warm_up=warm_up, settle=settle)
    polls = math.ceil(needed(gate, bad) / 10 / 10) + math.ceil(warm_up / 10)
    assert bad_responses([gate], CANARY, bad) == pytest.approx((polls * 10 + settle) * 10 * bad)


def test_a_worse_candidate_costs_more_only_where_polls_are_long():
    """Until it is seen, each request counts: the worse it is, the sooner that is."""
    exact = [bad_responses([GUARD], UNKNOWN, bad) for bad in (0.03, 0.05, 0.1, 0.5)]
    assert exact == sorted(exact, reverse=True)
    assert bad_responses([GUARD], replace(CANARY, interval=60), 1.0) == 600


def test_what_the_gates_tolerate_is_paid_until_the_step_ends():
    ends_with_pass = bad_responses([GUARD], CANARY, 0.006)
    assert ends_with_pass == pytest.approx(600 * 10 * 0.006)  # it passes within the hold
    never_decided = bad_responses([GUARD], CANARY, 0.02)
    assert never_decided == pytest.approx(needed_or_deadline(0.02))
    assert bad_responses([GUARD], replace(CANARY, decide="no_fail", hold=60), 0.02) == pytest.approx(60 * 10 * 0.02)
    assert bad_responses([GUARD], replace(CANARY, deadline=None), 0.0125) is None
    assert bad_responses([GUARD], UNKNOWN, 0.006) is None


def needed_or_deadline(bad):
    requests = needed(GUARD, bad)
    seconds = CANARY.deadline if requests is None else min(CANARY.deadline, math.ceil(requests / 100) * 10)
    return seconds * 10 * bad


def test_a_step_without_gates_is_paid_to_its_end():
    assert bad_responses([], CANARY, 0.1) == pytest.approx(600 * 10 * 0.1)
    assert bad_responses([], UNKNOWN, 0.1) is None
    assert bad_responses([], replace(CANARY, traffic=0.0), 0.1) == 0.0


def test_a_pause_bounds_nothing():
    pausing = replace(GUARD, on_fail="pause")
    assert bad_responses([pausing], CANARY, 0.1) is None
    other = replace(ERRORS, name="late", max=0.08)
    both = bad_responses([pausing, other], CANARY, 0.1)
    assert both == pytest.approx(bad_responses([other], CANARY, 0.1))


def test_guards_stop_a_step_without_gates_but_do_not_keep_it():
    held = replace(CANARY, hold=600, deadline=None)
    assert bad_responses([], held, 0.1, [GUARD]) == pytest.approx(bad_responses([GUARD], held, 0.1))
    assert bad_responses([], held, 0.006, [GUARD]) == pytest.approx(600 * 10 * 0.006)
    found = advice_for_stage([], replace(held, traffic=0.1), [GUARD])
    assert (found.needs, found.sentences) == ({}, ())


def test_a_budget_is_a_bound_of_its_own():
    known, unknown = replace(CANARY, budget=50), replace(UNKNOWN, budget=50)
    pausing = replace(GUARD, on_fail="pause")
    assert bad_responses([pausing], unknown, 0.1) == pytest.approx(51)
    assert bad_responses([], unknown, 0.1) == pytest.approx(51)
    assert bad_responses([pausing], known, 0.1) == pytest.approx(60)  # 51 of them, seen at the next whole poll
    assert bad_responses([], known, 1.0) == pytest.approx(100)
    assert bad_responses([GUARD], known, 0.1) == bad_responses([GUARD], CANARY, 0.1) < 50
    assert bad_responses([], unknown, 0.0) is None


def test_latency_gates_dilute_their_group():
    together = [GUARD, LATENCY, SLOW]
    assert bad_responses(together, UNKNOWN, 0.05) == pytest.approx(needed(GUARD, 0.05, gates=together) * 0.05)
    assert bad_responses(together, UNKNOWN, 0.05) > bad_responses([GUARD], UNKNOWN, 0.05)


# --- all of it -------------------------------------------------------------------------------------


def test_advice_for_a_stage():
    gates = [GUARD, replace(LATENCY, max=505_000)]
    conditions = replace(CANARY, traffic=20, buckets=Buckets(2), stable_quantiles={"latency": 410_000}, stages=3)
    found = advice_for_stage(gates, conditions)
    assert list(found.needs) == ["errors", "latency"]
    assert found.risk == tuple((bad, bad_responses(gates, conditions, bad)) for bad in (0.02, 0.1, 1.0))
    assert found.sentences == (
        found.needs["errors"].sentence,
        found.needs["latency"].sentence,
        "gate latency: the histogram has no bound at 505 ms: PASS tests 500 ms, FAIL tests 510 ms",
        "gate latency: of max_ratio 1.1 PASS tests 1.1x and FAIL 1.12x at stable's p95 of 410 ms",
    )
    assert found.price == (
        "bad answers that clients would see in this step: about 110 if green failed 2% of its requests, about 10 "
        "at 10%, about 20 at 100%"
    )


def test_what_pass_really_tests_is_what_is_asked_for():
    """1.1 x 190 ms is 209 ms, and the last bound within that is 200 ms: 1.05x."""
    conditions = replace(CANARY, buckets=Buckets(2), stable_quantiles={"latency": 190_000})
    asked = requests_to_pass(LATENCY, candidate_share=100, stable_share=900, rate=0.0, tested_ratio=200 / 190)
    assert undecidable(LATENCY, conditions).usual.requests == asked
    assert asked > 3 * undecidable(LATENCY, replace(conditions, stable_quantiles=None)).usual.requests
    too_fine = undecidable(replace(LATENCY, max_ratio=1.04), conditions)
    assert too_fine.usual.requests is None


def test_no_bound_is_told_as_such():
    told = advice_for_stage([replace(GUARD, on_fail="pause")], UNKNOWN).price
    assert told == (
        "bad answers that clients would see in this step: without limit if green failed 2% of its requests, without "
        "limit at 10%, without limit at 100%"
    )


def test_a_step_without_stable_hears_nothing_of_comparisons():
    gate = replace(LATENCY, max=500_000)
    found = advice_for_stage([gate], replace(PROMOTE, buckets=Buckets(2)))
    assert not any("max_ratio" in sentence for sentence in found.sentences)
    assert found.needs["latency"].usual.requests == requests_to_pass(
        gate, candidate_share=1000, stable_share=0, rate=0.025
    )


def test_the_advice_of_a_whole_plan_takes_no_time():
    gates = [GUARD, replace(LATENCY, max=500_000, blame=True), replace(LATENCY, name="p50", quantile=0.5), SLOW]
    steps = [
        replace(CANARY, exposure=100 * n, stable=1000 - 100 * n, stages=6, buckets=Buckets(2)) for n in range(1, 7)
    ]

    def whole_plan():
        began = time.process_time()
        for step in steps:
            advice_for_stage(gates, step)
        return time.process_time() - began

    assert min(whole_plan() for _ in range(3)) < 0.3
