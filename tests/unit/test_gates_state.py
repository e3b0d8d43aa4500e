"""GateState: one poll after the other is the same as all polls at once, and nothing is counted that should not be."""

import json
import math
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from orchestrator.gates import bets
from orchestrator.gates.histogram import baseline, merge
from orchestrator.gates.judge import judge
from orchestrator.gates.kernels import (
    FAIL_WEIGHTS,
    bound_evidence,
    bound_increments,
    log_mean_exp,
    opening,
    ratio_evidence,
    ratio_evidence_exact,
    ratio_increments,
)
from orchestrator.gates.spec import Gate
from orchestrator.gates.spread import by_chance
from orchestrator.gates.state import GateState
from providers.measurement import Cursor, Histogram, Leg, Measurement

BIRTH = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOUNDS = [1000, 1500, 2200, 3300, 5000, 7500, 11000]
STORED = TypeAdapter(GateState)

ERRORS = Gate("errors", "error_rate", max=0.05, max_ratio=1.5, max_increase=0.01, blame=True, warm_up=0)
PLAIN = Gate("plain", "error_rate", max=0.02, warm_up=0)
LATENCY = Gate("latency", "latency", max=5000, max_ratio=1.4, blame=True, warm_up=0, quantile=0.9)
GATES = (ERRORS, PLAIN, LATENCY)


def surely_above(histogram, threshold):
    return sum(n for lower, _, n in histogram.buckets if lower >= threshold) + histogram.above


def maybe_above(histogram, threshold):
    return sum(n for _, upper, n in histogram.buckets if upper > threshold) + histogram.above


def leg(name, source, counts):
    """A leg from (requests in each of the six buckets, time-outs, of the answered ones: 503)."""
    *buckets, timeouts, failed = counts
    answered = sum(buckets)
    failed = min(failed, answered)
    histogram = Histogram(
        tuple((lower, upper, n) for lower, upper, n in zip(BOUNDS, BOUNDS[1:], buckets, strict=False) if n), timeouts
    )
    classes = {"200": answered - failed, "503": failed, "timeout": timeouts}
    return Leg(name, source, answered + timeouts, classes, histogram)


def poll(candidate, stable, at=0.0, seconds=1.0, source="live", **more):
    legs = (leg("green", source, candidate), leg("blue", "live", stable))
    start = BIRTH + timedelta(seconds=at)
    end = start + timedelta(seconds=seconds)
    return Measurement(start, end, legs, Cursor("one", end), **more)


def errors(candidate, stable, **more):
    """A poll of (requests, 503s) on both sides, all of them fast."""
    sides = ((total, 0, 0, 0, 0, 0, 0, bad) for total, bad in (candidate, stable))
    return poll(*sides, **more)


def state(*gates, stages=1, stable="blue", source="live"):
    return GateState.begin(gates, stages).enter(0, gates, "green", stable, source)


def track(found, name):
    return next(track for track in found.tracks if track.gate.name == name)


counts = st.tuples(*[st.integers(0, 40)] * 6, st.integers(0, 6), st.integers(0, 20))
rollouts = st.lists(st.tuples(counts, counts, st.booleans()), min_size=1, max_size=10)


def expected(gate, bet, side, polls):
    """The batch kernels over all polls of a list; (candidate, stable, earlier histograms of stable) each."""
    k_g, k_b, n_g, n_b, rates = [], [], [], [], []
    for green, blue, earlier in polls:
        if gate.metric == "error_rate":
            k_g.append(green.classes["503"] + green.classes["timeout"])
            k_b.append(blue.classes["503"] + blue.classes["timeout"])
            rates.append(0.5)
        elif bet != "relative":
            above = surely_above if side == "fail" else maybe_above
            k_g.append(above(green.latency, gate.max))
            k_b.append(above(blue.latency, gate.max))
            rates.append(0.5)
        else:
            known = baseline(merge(earlier), gate.quantile)
            if known is None:
                continue
            k_g.append((surely_above if side == "fail" else maybe_above)(green.latency, gate.ratio * known.threshold))
            k_b.append(surely_above(blue.latency, known.threshold))
            rates.append(known.rate)
        n_g.append(green.requests)
        n_b.append(blue.requests)
    if not n_g:
        return 0.0
    if bet == "bound":
        rate = gate.max if gate.metric == "error_rate" else 1 - gate.quantile
        if not gate.blame or side == "pass":
            return bound_evidence(k_g, n_g, rate, side)[-1]
        own, worse = bound_increments(k_g, n_g, rate, side), ratio_increments(k_g, k_b, n_g, n_b, 1, 0, side)
        shared = np.array(k_b) > rate * np.array(n_b)
        won = np.where(shared[:, np.newaxis], np.minimum(own, worse), own)
        return log_mean_exp(np.sum(won, axis=0) + opening(FAIL_WEIGHTS))
    if bet == "blame":
        return ratio_evidence(k_g, k_b, n_g, n_b, 1, 0, side)[-1]
    if gate.metric == "error_rate":
        return ratio_evidence(k_g, k_b, n_g, n_b, gate.ratio, gate.increase, side)[-1]
    return ratio_evidence_exact(k_g, k_b, n_g, n_b, rates, 1, 0, side)[-1]


@settings(max_examples=60, deadline=None)
@given(rollouts)
def test_fold_is_the_batch_kernels(rollout):
    """For each gate, side, bet and start; stages begin where the rollout says so; stored and loaded after each poll."""
    stages = 1 + sum(begins for *_, begins in rollout)
    now = state(*GATES, stages=stages)
    seen, starts, recent = [], [0], []
    for green, blue, begins in rollout:
        if begins:
            starts.append(len(seen))
            now = now.enter(len(starts) - 1, GATES, "green", "blue", "live")
        one = poll(green, blue)
        now = STORED.validate_json(STORED.dump_json(now.fold(one)))
        seen.append((*one.legs, tuple(recent)))
        if one.legs[1].latency.buckets:
            recent = [*recent, one.legs[1].latency][-10:]
    for gate in GATES:
        found = track(now, gate.name)
        assert [start.stage for start in found.starts] == list(range(stages))
        for bet in bets.bets_of(gate, compared=True):
            for start, first in zip(found.starts, starts, strict=True):
                wanted = expected(gate, bet, "fail", seen[first:])
                assert start.wealth[bet].log == pytest.approx(wanted, abs=1e-9)
            wanted = expected(gate, bet, "pass", seen[starts[-1] :])
            assert found.passing[bet].log == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(rollouts, st.permutations(GATES))
def test_evidence_of_a_gate_depends_neither_on_its_company_nor_on_its_place(rollout, order):
    together, alone = state(*order), {gate.name: state(gate) for gate in GATES}
    for green, blue, _ in rollout:
        one = poll(green, blue)
        together = together.fold(one)
        alone = {name: single.fold(one) for name, single in alone.items()}
    for name, single in alone.items():
        assert track(together, name) == track(single, name)


@settings(max_examples=20, deadline=None)
@given(rollouts)
def test_how_a_legs_classes_are_split_does_not_matter(rollout):
    whole, split = state(ERRORS), state(ERRORS)
    for green, blue, _ in rollout:
        one = poll(green, blue)
        finer = tuple(
            Leg(
                part.deployment,
                part.source,
                part.requests,
                {
                    "200": part.classes["200"] // 2,
                    "404": part.classes["200"] - part.classes["200"] // 2,
                    "500": part.classes["503"] // 3,
                    "429": part.classes["503"] - part.classes["503"] // 3,
                    "reset": part.classes["timeout"],
                },
                part.latency,
            )
            for part in one.legs
        )
        whole = whole.fold(one)
        split = split.fold(Measurement(one.start, one.end, finer, one.cursor))
    assert split == whole


def test_stored_as_strict_json_and_back_exactly_also_refuted_alternatives():
    now = state(*GATES).fold(poll((9, 1, 0, 2, 0, 1, 1, 3), (50, 9, 3, 1, 1, 0, 1, 2)))
    text = STORED.dump_json(now)
    assert bets.LOST in track(now, "plain").passing["bound"].logs

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    json.loads(text, parse_constant=refuse)
    assert STORED.validate_json(text) == now


def clumped(minutes):
    """What nine in ten series of so many minutes without clusters have as variance over mean, at most."""
    return {2: 2.303, 4: 1.945, 9: 1.632, 24: 1.383}[minutes - 1]


def test_dispersion_divides_by_the_past_of_stable_only():
    gate = Gate("errors", "error_rate", max_ratio=1.5, max_increase=0.01, warm_up=0)
    rng = np.random.default_rng(2)
    now, k_g, k_b, index = state(gate), [], [], []
    for minute in range(25):
        of_blue = int(rng.binomial(60, 0.02)) * int(rng.choice([1, 8]))
        of_green = int(rng.binomial(60, 0.1))
        past = np.array(k_b)
        found = np.var(past, ddof=1) / np.mean(past) if minute >= 3 and past.any() else 1.0
        index.append(found if found > by_chance(max(minute, 2)) else 1.0)
        k_g.append(of_green)
        k_b.append(of_blue)
        now = now.fold(errors((60, of_green), (600, of_blue), at=60 * minute, seconds=60))
    assert max(index) > 2
    d = np.array(index)
    won = ratio_increments(k_g / d, k_b / d, 60 / d, 600 / d, 1.5, 0.01, "fail")
    assert index[3] > 1
    wanted = with_reserve(won, [0.0] * 3 + [1.0] * 22, then=index[3])
    assert track(now, "errors").log_fail("relative", 1) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("minutes", [3, 5, 10, 25])
def test_what_chance_brings_is_not_corrected_for(minutes):
    assert by_chance(minutes) == pytest.approx(clumped(minutes), rel=0.02)


def with_reserve(won, minutes, then=1.0):
    """log wealth after all polls, in plain money: a fifth is held back, and enters by the time that passes. After three
    polls what was won until `then` is divided, in evidence; what was lost is not.
    """
    multiples = np.geomspace(1.15, 40, 14)
    weights = (1 / multiples) / np.sum(1 / multiples)
    reserve, stakes = 0.2, 0.8 * weights
    for number, (poll, passed) in enumerate(zip(won, minutes, strict=True)):
        if number == 3:
            growth = stakes / (0.8 * weights)
            stakes = 0.8 * weights * np.minimum(growth, growth ** (1 / then)) if then > 1 else stakes
        left = 1 / (1 / reserve + passed / (0.2 * 20))
        stakes, reserve = (stakes + (reserve - left) * weights) * np.exp(poll[1:]), left
    return math.log(np.sum(stakes) + reserve)


def test_what_is_remembered_of_stable_teaches_how_its_errors_come_before_anything_is_judged():
    now, usual = GateState.begin((ERRORS, LATENCY), 1), (50, 30, 9, 1, 1, 0, 0, 0)
    for minute in range(5):
        blue = (*usual[:-1], 40 * (minute % 2))
        now = now.remember(poll((0,) * 8, blue, at=60 * minute, seconds=60), "blue")
    assert len(now.baseline) == 5
    now = now.enter(0, (ERRORS, LATENCY), "green", "blue", "live")
    assert track(now, "errors").spread["bound"].index > 10
    assert track(now, "latency").spread["relative"].minutes == 4, "the first had no threshold"
    one = poll((30, 0, 0, 0, 0, 0, 0, 20), usual, at=300, seconds=60)
    taught, untaught = now.fold(one), state(ERRORS, LATENCY).fold(one)
    assert track(taught, "errors").log_fail("bound", 1) < 0.2 * track(untaught, "errors").log_fail("bound", 1)
    known = [track(found, "latency").starts[0].wealth["relative"] for found in (taught, untaught)]
    assert known[0] != known[1]
    # Within a stage its own gates learn by what is folded.
    assert taught.remember(one, "blue").tracks == taught.tracks


def test_what_passed_before_clusters_were_known_has_to_pass_again():
    gate = Gate("errors", "error_rate", max=0.1, warm_up=0, blame=True)
    now, proven, logs = state(gate), [], []
    for minute, of_blue in enumerate((0, 90, 0, 90, 0)):
        now = now.fold(errors((60, 1), (600, of_blue), at=60 * minute, seconds=60))
        proven.append(now.tracks[0].proven)
        logs.append(now.tracks[0].log_pass("bound"))
    assert proven == [(), ("bound",), (), (), ()]
    index = now.tracks[0].spread["bound"].index
    assert index > 20
    assert logs[2] < logs[1] / 5
    off = replace(gate, dispersion=False)
    now = state(off)
    for minute, of_blue in enumerate((0, 90, 0, 90, 0)):
        now = now.fold(errors((60, 1), (600, of_blue), at=60 * minute, seconds=60))
    assert now.tracks[0].proven == ("bound",)


def test_half_of_the_reserve_is_bet_within_twenty_minutes_and_no_wealth_is_made_by_it():
    for step in (1 / 6, 1.0, 20.0):
        logs = np.array(bets.opening(PLAIN, "bound", "fail"))
        for _ in range(round(20 / step)):
            logs = bets.entered(logs, step)
            assert log_mean_exp(logs) == pytest.approx(0.0, abs=1e-12)
        assert np.exp(logs[0]) / len(logs) == pytest.approx(0.1)
    same = bets.entered(np.tile(logs, (2, 1)), [0.0, 1e6])
    assert same[0] == pytest.approx(logs, abs=1e-12)
    assert np.exp(same[1, 0]) < 1e-4


def test_the_reserve_waits_for_the_dispersion_unless_that_is_off():
    for gate in (PLAIN, replace(PLAIN, dispersion=False)):
        now, logs = state(gate), []
        for minute in range(6):
            now = now.fold(errors((60, 1), (600, 9), at=60 * minute, seconds=60))
            logs.append(now.tracks[0].starts[0].wealth["bound"].logs[0])
        if gate.dispersion:
            assert logs[:3] == [logs[0]] * 3
        for earlier, later in pairwise(logs[2:] if gate.dispersion else logs):
            assert later < earlier


def test_a_regression_in_mid_stage_is_caught_sooner_than_by_what_was_bet_at_first():
    gate = Gate("errors", "error_rate", max=0.01, warm_up=0, alpha=0.05)
    now, won = state(gate), []
    for minute in range(60):
        bad = 3 if minute < 40 else 18
        now = now.fold(errors((600, bad), (5400, 27), at=60 * minute, seconds=60))
        won.append(
            bound_evidence([3] * min(minute + 1, 40) + [18] * max(0, minute - 39), [600] * (minute + 1), 0.01, "fail")[
                -1
            ]
        )
        if judge(now).outcome == "failed":
            break
    assert 40 <= minute < 46
    assert won[-1] < math.log(20)


def test_a_poll_without_a_threshold_teaches_no_dispersion():
    """It would be a minute without a slow request, and the others would look like clusters beside it."""
    now = state(Gate("latency", "latency", max_ratio=1.4, warm_up=0, quantile=0.9))
    for minute in range(12):
        now = now.fold(poll((5, 0, 0, 0, 0, 0, 0, 0), (200, 150, 90, 40, 10, 5, 0, 0), at=60 * minute, seconds=60))
    moments = track(now, "latency").spread["relative"]
    assert moments.minutes == 11
    assert moments.bad > 0
    assert moments.index == 1


def test_dispersion_off():
    gate = Gate("errors", "error_rate", max=0.05, warm_up=0, dispersion=False)
    now = state(gate)
    for minute in range(20):
        now = now.fold(errors((10, 1), (600, 60 * (minute % 2)), at=60 * minute, seconds=60))
    wanted = with_reserve(bound_increments([1] * 20, [10] * 20, 0.05, "fail"), [1.0] * 20)
    assert track(now, "errors").log_fail("bound", 1) == pytest.approx(wanted, abs=1e-9)


def test_a_gap_is_fed_once_and_leaves_thresholds_and_dispersion_alone():
    now = state(*GATES)
    for at in range(3):
        now = now.fold(poll((5, 3, 1, 0, 0, 0, 0, 0), (50, 30, 9, 1, 0, 0, 0, 2), at=at))
    one = poll((50, 30, 10, 9, 9, 9, 1, 3), (500, 300, 90, 10, 3, 0, 0, 9), at=3, seconds=600)
    gap, usual = now.fold(one, gap=True), now.fold(one)
    assert gap.baseline == now.baseline
    assert usual.baseline != now.baseline
    for gate in GATES:
        assert track(gap, gate.name).spread == track(now, gate.name).spread
        assert track(usual, gate.name).spread != track(now, gate.name).spread
        assert track(gap, gate.name).starts == track(usual, gate.name).starts
        assert track(gap, gate.name).starts != track(now, gate.name).starts


def test_warm_up_is_counted_in_seconds_with_candidate_traffic_and_once():
    gate = Gate("errors", "error_rate", max=0.05, warm_up=2.5)
    now = state(gate, stages=2)
    quiet = now.fold(errors((0, 0), (50, 0)))
    assert quiet.warmed == 0
    for _ in range(3):
        now = now.fold(errors((10, 10), (50, 0)))
        assert track(now, "errors").candidate.requests == 0
        assert track(now, "errors").log_fail("bound", 2) == 0
    assert track(now, "errors").seen == 30
    now = now.enter(1, (gate,), "green", "blue", "live").fold(errors((10, 10), (50, 0)))
    assert track(now, "errors").candidate.requests == 10
    assert track(now, "errors").log_fail("bound", 2) > 0


def test_stable_teaches_during_the_warm_up():
    now = state(Gate("latency", "latency", max_ratio=1.4, warm_up=1.5))
    now = now.fold(poll((5, 0, 0, 0, 0, 0, 0, 0), (50, 30, 9, 1, 0, 0, 0, 0)))
    assert len(now.baseline) == 1
    assert track(now, "latency").candidate.requests == 0


def test_a_lost_measurement_counts_nothing_and_is_noted():
    before = state(*GATES).fold(errors((9, 1), (90, 1)))
    lost = Measurement(BIRTH, BIRTH + timedelta(seconds=9), (), Cursor("two", BIRTH), lost=True)
    after = before.fold(lost)
    assert after.lost == 1
    for gate in GATES:
        assert track(after, gate.name).starts == track(before, gate.name).starts
        assert track(after, gate.name).candidate == track(before, gate.name).candidate


def test_a_measurement_of_no_length_changes_nothing():
    before = state(*GATES)
    assert before.fold(errors((0, 0), (0, 0), seconds=0)) == before
    assert GateState.begin(GATES, 1).fold(errors((9, 9), (90, 0))) == GateState.begin(GATES, 1)


def test_polls_that_cannot_be_read_are_errors_until_one_can():
    bare = Leg("green", "live", 10, {"200": 10})
    blue = leg("blue", "live", (90, 0, 0, 0, 0, 0, 0, 0))
    one = Measurement(BIRTH, BIRTH + timedelta(seconds=1), (bare, blue), Cursor("one", BIRTH))
    now = state(*GATES).fold(one).fold(one).missed("the proxy does not answer")
    assert track(now, "latency").errors == 3
    assert track(now, "errors").errors == 1
    assert track(now, "errors").error == "the proxy does not answer"
    now = now.fold(errors((10, 0), (90, 0)))
    assert [track(now, gate.name).errors for gate in GATES] == [0, 0, 0]
    broken = Leg("green", "live", 10, {"200": 10, "503": 4}, Histogram())
    now = now.fold(Measurement(BIRTH, BIRTH + timedelta(seconds=1), (broken, blue), Cursor("one", BIRTH)))
    assert "do not add up" in track(now, "errors").error


def test_the_shadow_step_judges_copies_against_live_requests():
    mirrored = Gate("m", "error_rate", max=0.05, warm_up=0, source="mirror")
    auto = Gate("a", "error_rate", max=0.05, warm_up=0)
    live = Leg("green", "live", 7, {"200": 7})
    copy = Leg("green", "mirror", 5, {"200": 5})
    blue = Leg("blue", "live", 90, {"200": 90})
    shadow = Leg("blue", "mirror", 1000, {"503": 1000})
    one = Measurement(BIRTH, BIRTH + timedelta(seconds=1), (live, copy, shadow, blue), Cursor("one", BIRTH))
    for source, wanted in (("mirror", {"m": 5, "a": 5}), ("live", {"m": 5, "a": 7})):
        now = state(mirrored, auto, source=source).fold(one)
        assert {t.gate.name: t.candidate.requests for t in now.tracks} == wanted
        assert {t.stable.requests for t in now.tracks} == {90}
        assert {t.stable.bad for t in now.tracks} == {0}


def test_each_stage_opens_one_start_of_weight_one_in_j():
    gate = Gate("errors", "error_rate", max=0.05, warm_up=0)
    bad, stages = errors((100, 30), (0, 0)), 4
    now = state(gate, stages=stages).fold(bad)
    one = bound_evidence([30], [100], 0.05, "fail")[-1]
    assert now.tracks[0].log_fail("bound", stages) == pytest.approx(math.log((math.exp(one) + 3) / 4))
    again = now.enter(0, (gate,), "green", "blue", "live")
    assert len(again.tracks[0].starts) == 1, "a repeated step opens no second start"
    assert again.tracks[0].log_fail("bound", stages) == now.tracks[0].log_fail("bound", stages)
    now = now.enter(1, (gate,), "green", "blue", "live").fold(bad)
    both = bound_evidence([30, 30], [100, 100], 0.05, "fail")[-1]
    assert now.tracks[0].log_fail("bound", stages) == pytest.approx(
        math.log((math.exp(both) + math.exp(one) + 2) / stages)
    )
    with pytest.raises(ValueError, match="gated stage 5 of a plan that has 4"):
        now.enter(4, (gate,), "green", "blue", "live")


def test_a_regression_in_mid_rollout_is_not_drowned_by_good_hours():
    gate = Gate("errors", "error_rate", max=0.05, warm_up=0, alpha=0.05)
    now = state(gate, stages=2).fold(errors((20_000, 100), (0, 0), seconds=3600))
    now = now.enter(1, (gate,), "green", "blue", "live").fold(errors((200, 60), (0, 0)))
    only_old = now.tracks[0].starts[0].wealth["bound"].log
    assert only_old < math.log(1 / 0.05) < now.tracks[0].log_fail("bound", 2)


def test_pass_begins_anew_with_each_stage_and_after_parking_while_fail_goes_on():
    gate = Gate("errors", "error_rate", max=0.05, warm_up=0)
    now = state(gate, stages=2).fold(errors((200, 0), (90, 0)))
    assert now.tracks[0].proven == ("bound",)
    for next_one in (now.enter(1, (gate,), "green", "blue", "live"), now.restart_pass()):
        found = next_one.tracks[0]
        assert found.proven == ()
        assert found.candidate.requests == 0
        assert found.log_pass("bound") == 0
        assert found.starts[0] == now.tracks[0].starts[0]
        assert found.spread == now.tracks[0].spread


def test_a_proven_term_stays_proven_within_its_stage():
    gate = Gate("errors", "error_rate", max=0.05, warm_up=0)
    now = state(gate).fold(errors((200, 0), (90, 0))).fold(errors((20, 6), (90, 0)))
    assert now.tracks[0].log_pass("bound") < math.log(20)
    assert now.tracks[0].proven == ("bound",)


def test_fewer_than_min_requests_prove_nothing():
    gate = Gate("errors", "error_rate", max=0.3, warm_up=0, min_requests=100)
    now = state(gate).fold(errors((99, 0), (90, 0)))
    assert now.tracks[0].log_pass("bound") > math.log(20)
    assert now.tracks[0].proven == ()
    assert now.fold(errors((1, 0), (9, 0))).tracks[0].proven == ("bound",)


def test_a_shared_incident_is_nobodys_fault_also_after_stable_is_gone():
    gate = Gate("errors", "error_rate", max=0.05, warm_up=0, blame=True)
    now = state(gate, stages=2)
    for _ in range(10):
        now = now.fold(errors((50, 20), (450, 180)))
    plain = bound_evidence([20] * 10, [50] * 10, 0.05, "fail")[-1]
    assert plain > 100
    assert now.tracks[0].log_fail("bound", 2) < 0.5
    gone = now.enter(1, (gate,), "green", None, "live")
    assert gone.tracks[0].log_fail("bound", 2) < 0.5
    good = gone
    for _ in range(10):
        good = good.fold(errors((500, 5), (0, 0)))
    assert good.tracks[0].log_fail("bound", 2) < 0.5
    assert good.tracks[0].starts[0] == now.tracks[0].starts[0], "the old start stands still"
    bad = gone.fold(errors((100, 40), (0, 0)))
    alone = bound_evidence([40], [100], 0.05, "fail")[-1]
    assert bad.tracks[0].log_fail("bound", 2) == pytest.approx(alone - math.log(2), abs=0.01)


def test_relative_bets_stand_still_where_stable_has_no_live_traffic():
    now = state(*GATES, stages=2).fold(poll((9, 1, 0, 2, 0, 1, 1, 3), (50, 9, 3, 1, 1, 0, 1, 2)))
    gone = now.enter(1, GATES, "green", None, "live").fold(errors((100, 90), (100, 0)))
    old, new = track(now, "errors").starts[0].wealth, track(gone, "errors").starts[0].wealth
    assert new["relative"] == old["relative"]
    assert "relative" not in track(gone, "errors").passing
    assert track(gone, "errors").stable.requests == 0
    assert track(gone, "plain").starts[0] != track(now, "plain").starts[0], "a plain bound goes on"


def test_evidence_for_one_tolerance_is_not_carried_to_another():
    now = state(PLAIN, stages=2).fold(errors((100, 30), (90, 0)))
    kept = Gate("plain", "error_rate", max=0.02, warm_up=0, on_fail="pause", alpha=0.05)
    other = Gate("plain", "error_rate", max=0.2, warm_up=0)
    assert len(now.enter(1, (kept,), "green", "blue", "live").tracks[0].starts) == 2
    assert len(now.enter(1, (other,), "green", "blue", "live").tracks[0].starts) == 1


def test_five_gates_and_five_starts_fold_in_milliseconds():
    rng = np.random.default_rng(4)

    def busy(name, requests):
        latencies = rng.lognormal(math.log(15_000), 0.6, requests).astype(int)
        widths = tuple(
            (lower, lower + 500, n)
            for lower in range(0, 200_000, 500)
            if (n := int(np.sum((latencies >= lower) & (latencies < lower + 500))))
        )
        total = sum(n for *_, n in widths)
        return Leg(name, "live", total, {"200": total - 1, "503": 1}, Histogram(widths))

    gates = (*GATES, Gate("p95", "latency", max_ratio=1.1, warm_up=0), Gate("e", "error_rate", max_ratio=2, warm_up=0))
    legs = (busy("green", 60), busy("blue", 540))
    one = Measurement(BIRTH, BIRTH + timedelta(seconds=1), legs, Cursor("one", BIRTH))
    now = GateState.begin(gates, 5)
    for stage in range(5):
        now = now.enter(stage, gates, "green", "blue", "live")
        for _ in range(10):
            now = now.fold(one)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        now.fold(one)
        times.append(time.perf_counter() - began)
    # The best of twenty, and four times what it needs on two slow cores: a guard against another order of growth.
    assert min(times) < 0.015


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"metric": "error_rate"}, "no tolerance"),
        ({"metric": "latency", "max_increase": 0.1}, "max_ratio"),
        ({"metric": "latency", "max": 0}, "above 0"),
        ({"metric": "latency", "max": 9, "quantile": 1.0}, "between 0 and 1"),
        ({"metric": "error_rate", "max": 1.0}, "less than 100%"),
        ({"metric": "error_rate", "max_ratio": 0}, "above 0"),
        ({"metric": "error_rate", "max": 0.1, "alpha": 0}, "alpha and beta"),
        ({"metric": "error_rate", "max": 0.1, "min_requests": -1}, "negative"),
    ],
)
def test_a_gate_that_contradicts_itself(fields, reason):
    with pytest.raises(ValueError, match=f"gate g: .*{reason}"):
        Gate("g", **fields)


def test_what_counts_as_an_error():
    gate = Gate("g", "error_rate", max=0.1)
    counted = ("500", "503", "599", "424", "429", "timeout", "reset")
    assert all(gate.is_error(status) for status in counted)
    assert not any(gate.is_error(status) for status in ("200", "404", "400", "5", "5000", "5xy", "xxx", ""))
    own = Gate("g", "error_rate", max=0.1, codes=("4xx", "reset"))
    assert [own.is_error(status) for status in ("404", "503", "reset", "timeout")] == [True, False, True, False]
