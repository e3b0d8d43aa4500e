"""Properties of the fold, for every kind of gate: it is the batch, order within a poll is nothing, worse is never
better, and numbers stay numbers.
"""

import json
import math
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from orchestrator.gates import bets
from orchestrator.gates.histogram import baseline, merge
from orchestrator.gates.judge import judge
from orchestrator.gates.kernels import (
    bound_evidence,
    bound_increments,
    log_mean_exp,
    paired_evidence,
    paired_increments,
    ratio_evidence,
    ratio_increments,
    ratio_increments_exact,
)
from orchestrator.gates.spec import External, Gate
from orchestrator.gates.state import GateState
from providers.measurement import Comparison, Count, Cursor, Histogram, Leg, Measurement, Pairs, Sample

BIRTH = datetime(2026, 3, 1, 12, tzinfo=UTC)
STORED = TypeAdapter(GateState)
PLAIN = {"warm_up": 0, "min_requests": 0}

ERRORS = Gate("errors", "error_rate", max=0.05, max_ratio=1.5, max_increase=0.02, blame=True, **PLAIN)
LATENCY = Gate("latency", "latency", max=5000, max_ratio=1.4, blame=True, quantile=0.9, **PLAIN)
SLOWER = Gate("slower", "slowdown", max_ratio=1.25, **PLAIN)
MISSING = Gate("missing", "missing_pairs", max=0.1, **PLAIN)
ANSWERS = Gate("answers", "prediction", max=0.02, comparison=Comparison(examples=3), **PLAIN)
QUALITY = Gate("quality", "external", max=0.1, max_ratio=2, external=External("shop"), **PLAIN)
QUEUE = Gate("queue", "external", max=7, max_ratio=1.5, external=External("shop", form="values"), **PLAIN)
GATES = (ERRORS, LATENCY, SLOWER, MISSING, ANSWERS, QUALITY, QUEUE)

CLASSES = st.sampled_from(["200", "404", "503", "timeout"])
MICROS = st.none() | st.integers(900, 12_000)
ROWS = st.lists(st.tuples(CLASSES, CLASSES, MICROS, MICROS, st.integers(1, 12)), max_size=6)
COUNTS = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda pair: Count(float(min(pair)), float(max(pair))))
VALUES = st.lists(st.tuples(st.integers(0, 12), st.none() | st.integers(0, 12)), max_size=4)
POLLS = st.tuples(ROWS, st.integers(0, 5), st.integers(0, 40), COUNTS, COUNTS, COUNTS, VALUES)


def histogram(latencies):
    """Counts of latencies in buckets of 500 us."""
    counts, above = {}, 0
    for latency, n in latencies:
        if latency is None:
            above += n
        else:
            counts[latency // 500 * 500] = counts.get(latency // 500 * 500, 0) + n
    return Histogram(tuple((lower, lower + 500, n) for lower, n in sorted(counts.items())), above)


def leg(name, source, answers):
    """A leg of (class, latency, requests)."""
    classes = {}
    for status, _, n in answers:
        classes[status] = classes.get(status, 0) + n
    return Leg(name, source, sum(classes.values()), classes, histogram((us, n) for _, us, n in answers))


def measured(drawn, at=0):
    """A second of a shadow step: pairs, copies that were lost, live requests that were not mirrored, samples."""
    rows, lost, others, different, mine, other, values = drawn
    cut = [
        None if us is None else us // 10 ** max(0, len(str(us)) - 2) * 10 ** max(0, len(str(us)) - 2)
        for row in rows
        for us in row[2:4]
    ]
    pairs = Pairs(
        tuple((copy, twin, n) for copy, twin, _, _, n in rows),
        tuple((cut[2 * i], cut[2 * i + 1], row[4]) for i, row in enumerate(rows)),
        {"dropped": lost} if lost else {},
        digits=2,
    )
    copies = [(copy, us, n) for copy, _, us, _, n in rows] + ([("200", 3000, lost)] if lost else [])
    twins = [(twin, us, n) for _, twin, _, us, n in rows] + ([("200", 2500, others)] if others else [])
    start = BIRTH + timedelta(seconds=at)
    samples = {
        "answers": Sample(different, examples=("a != b",)),
        "quality": Sample(mine, other),
        "queue": Sample(values=tuple((float(a), None if b is None else float(b)) for a, b in values)),
    }
    end = start + timedelta(seconds=1)
    legs = (leg("green", "mirror", copies), leg("blue", "live", twins))
    return Measurement(start, end, legs, Cursor("one", end), pairs, samples=samples)


def state(*gates, stages=1, source="mirror"):
    return GateState.begin(gates, stages).enter(0, gates, "green", "blue", source, paired=source == "mirror")


def track(found, name):
    return next(track for track in found.tracks if track.gate.name == name)


def bad(status):
    return status in ("503", "timeout")


def above(counted, threshold, *, surely):
    inside = sum(n for lower, upper, n in counted.buckets if (lower >= threshold if surely else upper > threshold))
    return inside + counted.above


def table(measurement, gate, bet, side, known):
    """(both, only the copy, only the twin, neither) as one reads it off by hand."""
    pairs, counts = measurement.pairs, [0, 0, 0, 0]
    for (copy, twin, n), (slow, usual, _) in zip(pairs.classes, pairs.latencies, strict=True):
        if gate.metric == "error_rate":
            worse, base = bad(copy), bad(twin)
        else:
            below = gate.max if bet == "paired_blame" else known.threshold
            limit = gate.max if bet == "paired_blame" else round(gate.ratio * below, 6)
            most = [math.inf if us is None else us + 10 ** max(0, len(str(us)) - 2) for us in (slow, usual)]
            least = [math.inf if us is None else us for us in (slow, usual)]
            if side == "fail":
                worse, base = least[0] >= limit, most[1] > below
            else:
                worse, base = most[0] > limit, least[1] >= below
        counts[(0 if base else 1) if worse else (2 if base else 3)] += n
    if side == "pass":
        counts[1] += pairs.lost
    return counts


def by_hand(gate, bet, side, polls):
    """The batch kernels over all polls; one that says nothing is left out."""
    if bet in ("paired", "paired_blame"):
        tables = [
            table(one, gate, bet, side, known)
            for one, known in polls
            if not (gate.metric == "latency" and bet == "paired" and known is None)
        ]
        tolerance = (gate.ratio, gate.increase) if gate.metric == "error_rate" and bet == "paired" else (1.0, 0.0)
        return paired_evidence(*np.array(tables).T, *tolerance, side)[-1] if tables else 0.0
    k_g, n_g, k_b, n_b = [], [], [], []
    for one, _ in polls:
        pairs, sample = one.pairs, one.samples.get(gate.name)
        if gate.metric == "slowdown":
            told = [(c, t, n) for c, t, n in pairs.latencies if not (c is None and t is None)]
            slow = 0
            for c, t, n in told:
                if t is None:
                    continue
                most = math.inf if c is None else c + 10 ** max(0, len(str(c)) - 2)
                least = math.inf if c is None else c
                wide = t + 10 ** max(0, len(str(t)) - 2)
                slow += n if (least >= gate.ratio * wide if side == "fail" else most > gate.ratio * t) else 0
            extra = pairs.lost if side == "pass" else 0
            counts = (slow + extra, sum(n for *_, n in told) + extra, 0, 0)
        elif gate.metric == "missing_pairs":
            silent = sum(n for copy, _, n in pairs.classes if copy == "timeout")
            counts = (silent + pairs.lost, pairs.joined + pairs.lost, 0, 0)
        elif gate.valued:
            ratio, slack = (1.0, 0.0) if bet == "blame" else (gate.ratio, gate.increase)
            told = [(a, b) for a, b in sample.values if bet == "bound" or b is not None]
            counts = (sum(a > (gate.max if bet == "bound" else ratio * b + slack) for a, b in told), len(told), 0, 0)
        else:
            other = sample.stable or Count(0, 0)
            counts = (sample.candidate.bad, sample.candidate.total, other.bad, other.total)
        for into, value in zip((k_g, n_g, k_b, n_b), counts, strict=True):
            into.append(value)
    if bet == "relative" and not gate.valued:
        return ratio_evidence(k_g, k_b, n_g, n_b, gate.ratio, gate.increase, side)[-1]
    if gate.valued and side == "fail":
        # Nothing is to be learnt of points in time before the reserve enters: it does so at once, second by second.
        logs = np.array(bets.opening(gate, bet, side))
        for won in bound_increments(k_g, n_g, gate.bound_rate, side):
            logs = bets.entered(logs, 1 / 60) + won
        return float(log_mean_exp(logs))
    return bound_evidence(k_g, n_g, gate.bound_rate, side)[-1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(POLLS, st.booleans()), min_size=1, max_size=6))
def test_fold_is_the_batch_kernels_with_pairs_and_samples_too(rollout):
    """Stored and loaded after each poll. What legs alone settle is tested in `test_gates_state`."""
    stages = 1 + sum(begins for _, begins in rollout)
    now, seen, starts, recent = state(*GATES, stages=stages), [], [0], []
    for at, (drawn, begins) in enumerate(rollout):
        if begins:
            starts.append(len(seen))
            now = now.enter(len(starts) - 1, GATES, "green", "blue", "mirror", paired=True)
        one = measured(drawn, at)
        now = STORED.validate_json(STORED.dump_json(now.fold(one)))
        known = baseline(merge(recent), 0.9) if recent else None
        seen.append((one, known))
        if one.legs[1].latency.buckets:
            recent = [*recent, one.legs[1].latency][-10:]
    for gate in GATES:
        found = track(now, gate.name)
        for bet in bets.bets_of(gate, compared=True, paired=True):
            if gate.metric in ("error_rate", "latency") and bet not in ("paired", "paired_blame"):
                continue
            # Where a gate has nothing to judge in a poll none of its bets is settled.
            told = [(number, *poll) for number, poll in enumerate(seen) if _judged(gate, poll[0])]
            for start, first in zip(found.starts, starts, strict=True):
                polls = [(one, known) for number, one, known in told if number >= first]
                wanted = by_hand(gate, bet, "fail", polls) if polls else 0.0
                assert start.wealth[bet].log == pytest.approx(wanted, abs=1e-9), (gate.name, bet)
            polls = [(one, known) for number, one, known in told if number >= starts[-1]]
            wanted = by_hand(gate, bet, "pass", polls) if polls else 0.0
            assert found.passing[bet].log == pytest.approx(wanted, abs=1e-9), (gate.name, bet)


def _judged(gate, one):
    if gate.metric in ("error_rate", "latency"):
        return one.legs[0].requests > 0
    if gate.metric == "slowdown":
        return any(not (c is None and t is None) for c, t, _ in one.pairs.latencies)
    if gate.metric == "missing_pairs":
        return one.pairs.joined + one.pairs.lost > 0
    if gate.valued:
        return len(one.samples[gate.name].values) > 0
    return one.samples[gate.name].candidate.total > 0


# --- order within a poll --------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(POLLS, min_size=1, max_size=4), st.permutations(GATES), st.randoms(use_true_random=False))
def test_order_within_a_poll_changes_nothing(polls, order, random):
    """Of legs, classes, pairs, missing ones and gates; and equal rows of pairs may come as one or as several."""
    straight, mixed = state(*GATES), state(*order)
    for at, drawn in enumerate(polls):
        one = measured(drawn, at)
        straight = straight.fold(one)
        together = list(zip(one.pairs.classes, one.pairs.latencies, strict=True))
        split = [((c, t, 1), (a, b, 1)) for (c, t, n), (a, b, _) in together for _ in range(n)]
        random.shuffle(split)
        pairs = replace(
            one.pairs,
            classes=tuple(row for row, _ in split),
            latencies=tuple(row for _, row in random.sample(split, len(split))),
        )
        legs = [
            replace(each, classes=dict(random.sample(list(each.classes.items()), len(each.classes))))
            for each in one.legs
        ]
        random.shuffle(legs)
        samples = dict(random.sample(list(one.samples.items()), len(one.samples)))
        mixed = mixed.fold(replace(one, legs=tuple(legs), pairs=pairs, samples=samples))
    for gate in GATES:
        assert track(mixed, gate.name) == track(straight, gate.name)
    told = {verdict.gate: verdict for verdict in judge(straight).verdicts}
    assert {verdict.gate: verdict for verdict in judge(mixed).verdicts} == told


# --- worse is never better ------------------------------------------------------------------------

RATES = st.tuples(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1))


@settings(max_examples=150, deadline=None)
@given(RATES, st.sampled_from([(1.0, 0.0), (1.5, 0.01), (2.0, 0.2), (0.5, 0.1)]), st.floats(0.01, 0.9))
def test_one_more_bad_answer_never_speaks_for_the_candidate(drawn, tolerance, bound):
    """E_fail of each kernel does not fall, and E_pass does not rise; of two streams with a bound of its own, too."""
    n_g, n_b, part_g, part_b = drawn
    k_g, k_b = int(part_g * (n_g - 1)), int(part_b * n_b)
    more = np.array([k_g, k_g + 1])
    found = {
        "bound": lambda side: bound_increments(more, n_g, bound, side),
        "ratio": lambda side: ratio_increments(more, k_b, n_g, n_b, *tolerance, side),
        "exact": lambda side: ratio_increments_exact(more, k_b, n_g, n_b, bound, 1, 0, side),
    }
    for name, increments in found.items():
        # Each alternative, and so whatever is mixed of them.
        assert np.all(np.diff(increments("fail"), axis=0) >= -1e-12), name
        with np.errstate(invalid="ignore"):
            fewer, worse = increments("pass")
        assert np.all(worse <= fewer + 1e-12), name


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(*[st.integers(0, 20)] * 4),
    st.sampled_from([(1.0, 0.0), (1.5, 0.01), (2.0, 0.2), (0.5, 0.1)]),
    st.sampled_from([(3, 1), (2, 0)]),
)
def test_one_more_pair_in_which_the_copy_is_bad_never_speaks_for_the_candidate(counts, tolerance, change):
    """A pair that turns from neither to only the copy, or from only the twin to both."""
    before, after = np.array(counts), np.array(counts)
    before[change[0]] += 1
    after[change[1]] += 1
    for side, sign in (("fail", 1), ("pass", -1)):
        gain = paired_increments(*after, *tolerance, side) - paired_increments(*before, *tolerance, side)
        assert np.all(sign * gain >= -1e-12)


def test_one_more_bad_answer_of_stable_may_speak_against_the_candidate_only_where_its_guess_was_clipped():
    """Not a law of T2 with slack, nor of the exact one: that stable got worse is never held against the candidate."""
    k_b = np.arange(31)
    for side, sign in (("fail", -1), ("pass", 1)):
        for won in (
            ratio_increments(5, k_b, 20, 30, 1.5, 0.01, side),
            ratio_increments_exact(5, k_b, 20, 30, 0.2, 1, 0, side),
        ):
            finite = won[:, np.isfinite(won[0])]
            assert np.all(sign * np.diff(finite, axis=0) >= -1e-12)


# --- numbers stay numbers -------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "outcome"), [(0.015, "passed"), (0.03, "failed")])
def test_a_thousand_million_requests_a_poll(rate, outcome):
    gates = (
        Gate("errors", "error_rate", max=0.02, max_ratio=1.2, max_increase=0.001, blame=True, **PLAIN),
        Gate("latency", "latency", max=5000, max_ratio=1.1, quantile=0.95, **PLAIN),
    )
    now, n = GateState.begin(gates, 1).enter(0, gates, "green", "blue", "live"), 10**9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for at in range(30):
            slow = int(n * rate)
            shape = Histogram(((1000, 1500, n // 2), (1500, 2000, n // 2 - slow), (9000, 9500, slow)))
            usual = Histogram(((1000, 1500, n // 2), (1500, 2000, n // 2 - n // 50), (9000, 9500, n // 50)))
            legs = (
                Leg("green", "live", n, {"200": n - slow, "503": slow}, shape),
                Leg("blue", "live", n, {"200": n - n // 60, "503": n // 60}, usual),
            )
            start = BIRTH + timedelta(seconds=60 * at)
            end = start + timedelta(seconds=60)
            now = STORED.validate_json(STORED.dump_json(now.fold(Measurement(start, end, legs, Cursor("one", end)))))
        found = judge(now)
    assert found.outcome == outcome
    for each in now.tracks:
        purses = [*each.passing.values(), *(purse for start in each.starts for purse in start.wealth.values())]
        assert all(math.isfinite(log) for purse in purses for log in (*purse.logs, purse.log))


@pytest.mark.parametrize(("rate", "sign"), [(0.02, -1), (0.07, 1)])
def test_a_hundred_thousand_polls(rate, sign):
    """Eleven days of a poll every ten seconds, each of a hundred requests."""
    polls, rng = 100_000, np.random.default_rng(5)
    k = rng.binomial(100, rate, polls)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fail = bound_evidence(k, np.full(polls, 100), 0.05, "fail")
        passing = bound_evidence(k, np.full(polls, 100), 0.05, "pass")
        both = ratio_evidence(k, rng.binomial(900, 0.05, polls), 100, 900, 1.0, 0.001, "fail")
    assert np.isfinite(fail).all()
    assert np.isfinite(passing).all()
    assert np.isfinite(both).all()
    assert (fail[-1] > 1e4) == (sign > 0)
    assert (passing[-1] > 1e3) == (sign < 0)
    assert (both[-1] > 1e3) == (sign > 0)


def test_a_fold_of_many_polls_is_their_sum():
    """What is added up poll by poll in Python's floats does not drift from what numpy adds at once."""
    gate, polls = Gate("errors", "error_rate", max=0.05, dispersion=False, **PLAIN), 3000
    now, rng = GateState.begin((gate,), 1).enter(0, (gate,), "green", None, "live"), np.random.default_rng(6)
    k = rng.binomial(100, 0.06, polls)
    for at, bad_ones in enumerate(k.tolist()):
        start = BIRTH + timedelta(seconds=at)
        one = Leg("green", "live", 100, {"200": 100 - bad_ones, "503": bad_ones})
        end = start + timedelta(seconds=1)
        now = now.fold(Measurement(start, end, (one,), Cursor("one", end)))
    logs = np.sum(bound_increments(k, np.full(polls, 100), 0.05, "pass"), axis=0)
    finite = np.maximum(logs, bets.LOST)
    assert now.tracks[0].passing["bound"].logs == pytest.approx(finite, rel=1e-11, abs=1e-9)
    assert now.tracks[0].passing["bound"].log == pytest.approx(float(log_mean_exp(finite)), rel=1e-11)


# --- stored ---------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.lists(POLLS, min_size=1, max_size=3))
def test_stored_as_strict_json_with_pairs_samples_and_polls_from_before(polls):
    guard = Gate("guard", "latency", max_ratio=1.2, guards_stable=True, **PLAIN)
    gates = (*GATES, guard)
    now = GateState.begin(gates, 2)
    for at, drawn in enumerate(polls):
        now = now.remember(measured(drawn, at), "blue")
    now = now.enter(0, gates, "green", "blue", "mirror", paired=True, asked=0.1)
    for at, drawn in enumerate(polls):
        now = now.fold(measured(drawn, at + 10))
    text = STORED.dump_json(now)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    json.loads(text, parse_constant=refuse)
    loaded = STORED.validate_json(text)
    assert loaded == now
    one = measured(polls[0], 99)
    assert loaded.fold(one) == now.fold(one)
    assert judge(loaded) == judge(now)
