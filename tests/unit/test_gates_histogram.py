"""Counting in buckets, the baseline behind a latency comparison, and the dispersion of stable's errors."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gates.histogram import Tail, baseline, merge, moved, quantile_bound
from orchestrator.gates.spread import Spread
from providers.measurement import Histogram

SAMPLE = Histogram(((1000, 1100, 50), (1100, 1200, 30), (1500, 1700, 15), (4000, 4300, 4)), above=1)


def test_each_side_counts_what_makes_its_claim_harder():
    assert Tail(SAMPLE).surely(1600) == 5
    assert Tail(SAMPLE).maybe(1600) == 20
    # On a bound there is nothing to guess.
    for threshold, above in ((1100, 50), (1200, 20), (1500, 20), (1700, 5), (4300, 1), (10**9, 1), (0, 100)):
        assert Tail(SAMPLE).surely(threshold) == Tail(SAMPLE).maybe(threshold) == above


@given(
    st.lists(st.integers(0, 999), max_size=60),
    st.floats(0, 1100, allow_nan=False),
    st.lists(st.integers(1, 998), unique=True, max_size=12),
)
def test_the_truth_lies_between_the_two_sides(latencies, threshold, cuts):
    bounds = [0, *sorted(cuts), 1000]
    buckets = tuple(
        (lower, upper, n)
        for lower, upper in pairwise(bounds)
        if (n := sum(lower <= value < upper for value in latencies))
    )
    histogram = Histogram(buckets, above=2)
    true = sum(value >= threshold for value in latencies) + 2
    assert Tail(histogram).surely(threshold) <= true <= Tail(histogram).maybe(threshold)


def test_merge():
    merged = merge((SAMPLE, Histogram(((900, 1000, 1), (1500, 1700, 2)), above=3), Histogram()))
    assert merged.buckets == ((900, 1000, 1), (1000, 1100, 50), (1100, 1200, 30), (1500, 1700, 17), (4000, 4300, 4))
    assert merged.above == 4
    assert merge(()) == Histogram()


def test_a_quantile_is_the_bound_it_lies_below():
    assert quantile_bound(SAMPLE, 0.5) == 1100
    assert quantile_bound(SAMPLE, 0.51) == 1200
    assert quantile_bound(SAMPLE, 0.95) == 1700
    assert quantile_bound(SAMPLE, 0.995) is None, "that request got no answer"
    assert quantile_bound(Histogram(), 0.95) is None


def test_the_baseline_is_the_bound_nearest_the_quantile():
    found = baseline(SAMPLE, 0.95)
    assert found is not None
    assert found.threshold == 1700
    assert found.rate == pytest.approx((5 + 1) / (100 + 20))
    assert baseline(SAMPLE, 0.75).threshold == 1200
    assert baseline(Histogram(), 0.95) is None
    assert baseline(Histogram(above=3), 0.95) is None
    assert baseline(Histogram(((10, 12, 1),)), 0.95).threshold == 12


buckets = st.lists(st.integers(0, 9), min_size=6, max_size=6).map(
    lambda counts: Histogram(tuple((10 * at, 10 * at + 10, n) for at, n in enumerate(counts, 1) if n), counts[0] % 3)
)


@given(st.lists(buckets, min_size=1, max_size=9), st.integers(1, 4))
def test_a_window_that_moves_is_what_is_in_it_added_up(polls, length):
    window, held = Histogram(), ()
    for newest in polls:
        window = moved(window, newest, held[0] if len(held) == length else None)
        held = (*held, newest)[-length:]
        assert window == merge(held)


@given(buckets, st.sampled_from([0.5, 0.75, 0.9, 0.95, 0.999]))
def test_the_baseline_is_no_further_from_the_quantile_than_any_other_bound(histogram, quantile):
    found, below = baseline(histogram, quantile), 0
    distances = {}
    for _, upper, n in histogram.buckets:
        below += n
        distances[upper] = abs(below / histogram.count - quantile)
    if not distances:
        assert found is None
        return
    assert found.threshold == min(distances, key=lambda upper: (distances[upper], upper))
    above = sum(n for _, upper, n in histogram.buckets if upper > found.threshold) + histogram.above
    assert found.rate == pytest.approx((above + 1) / (histogram.count + 1 / (1 - quantile)))


def test_with_even_traffic_the_index_is_variance_over_mean():
    errors = [0, 9, 0, 1, 14, 0, 0, 2, 0, 30, 1, 0]
    spread = Spread()
    for bad in errors:
        spread = spread.add(bad, 600, 60)
    assert spread.known
    assert spread.index == pytest.approx(np.var(errors, ddof=1) / np.mean(errors))


def test_traffic_that_comes_and_goes_is_not_taken_for_clusters():
    rng = np.random.default_rng(5)
    totals = rng.integers(100, 5000, 400)
    spread = Spread()
    for total in totals:
        spread = spread.add(int(rng.binomial(total, 0.05)), int(total), 60)
    assert spread.index < 1.2
    errors = rng.binomial(totals, 0.05)
    assert np.var(errors) / np.mean(errors) > 5, "which plain variance over mean would"


def test_short_polls_make_minutes_and_a_broken_minute_does_not_count():
    spread = Spread()
    for _ in range(599):
        spread = spread.add(1, 10, 1.0)
    assert spread.minutes == 10
    assert (spread.bad, spread.total) == (10 * 57, 10 * 570)
    assert spread.interrupted().open_total == 0
    assert spread.interrupted().minutes == 10
    assert Spread().add(0, 0, 600).minutes == 0, "a minute without requests says nothing"
    assert not Spread(minutes=2, bad=90, total=900, squares=1e6).known
    assert Spread(minutes=2, bad=90, total=900, squares=1e6).index == 1
    assert Spread(minutes=3, bad=90, total=900, squares=1e6).index > 1


def test_too_regular_errors_do_not_make_evidence_louder():
    spread = Spread()
    for _ in range(20):
        spread = spread.add(5, 100, 60)
    assert spread.index == 1
