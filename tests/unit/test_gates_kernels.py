"""The kernels: known values, validity by enumeration, and numbers that stay numbers."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.gates import kernels
from orchestrator.gates.kernels import (
    bound_evidence,
    bound_increments,
    exact_normaliser,
    log_mean_exp,
    paired_evidence,
    ratio_evidence,
    ratio_evidence_exact,
    ratio_increments,
    ratio_increments_exact,
)


def binomial(n: int, p: float) -> np.ndarray:
    """Probabilities of 0..n bad ones."""
    return np.array([math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])


def test_bound_vector():
    assert bound_evidence([3], [100], 0.01, "fail", [2])[0] == pytest.approx(1.0844084563630272, abs=1e-9)


def test_ratio_vector():
    found = ratio_evidence([12], [27], [600], [5400], 1.5, 0.001, "fail", [2])[0]
    assert found == pytest.approx(2.6600418543629614, abs=1e-9)


def test_exact_ratio_vector():
    found = ratio_evidence_exact([12], [270], [600], [5400], 0.05, 1, 0, "pass")[0]
    assert found == pytest.approx(5.280669430482842, abs=1e-9)


def test_pairs_vector():
    found = paired_evidence([3], [10], [1], [586], 1, 0.001, "fail")[0]
    assert found == pytest.approx(1.8002742576999295, abs=1e-9)


def test_pairs_are_what_each_pair_is_worth():
    ratio, slack, counts = 1.5, 0.02, (2, 5, 3, 90)
    worth = [1 - ratio - slack, 1 - slack, -ratio - slack, -slack]
    for side, sign, limit in (("fail", 1, 1 / (ratio + slack)), ("pass", -1, 1 / (1 - slack))):
        stakes = limit * np.geomspace(0.002, 0.95, 16)
        wealth = [
            math.prod((1 + sign * stake * z) ** n for z, n in zip(worth, counts, strict=True)) for stake in stakes
        ]
        found = paired_evidence(*([n] for n in counts), ratio, slack, side)[0]
        assert found == pytest.approx(math.log(np.mean(wealth)), abs=1e-9)


def test_with_ratio_one_and_no_slack_pairs_that_agree_say_nothing():
    """As McNemar has it."""
    few = paired_evidence([0, 0], [3, 4], [1, 2], [10, 0], 1, 0, "fail")
    assert few == pytest.approx(paired_evidence([9, 70], [3, 4], [1, 2], [0, 600], 1, 0, "fail"), abs=1e-12)


def test_pairs_see_a_difference_that_two_streams_cannot():
    """Both fail the same tenth of the requests, and the candidate one in a hundred more."""
    polls = 20
    paired = paired_evidence([60] * polls, [6] * polls, [0] * polls, [534] * polls, 1, 0.001, "fail")
    streams = ratio_evidence([66] * polls, [60] * polls, [600] * polls, [600] * polls, 1, 0.001, "fail")
    assert paired[-1] > 50
    assert streams[-1] < math.log(20)


def test_bound_is_the_likelihood_ratio_it_claims_to_be():
    x, m, bad, n = 0.03, 4.0, 7, 90
    odds = m * x / (1 - x)
    q = odds / (1 + odds)
    wanted = bad * math.log(q / x) + (n - bad) * math.log((1 - q) / (1 - x))
    assert bound_evidence([bad], [n], x, "fail", [m])[0] == pytest.approx(wanted, abs=1e-12)


def test_the_ratio_kernel_at_the_edge_expects_just_under_one():
    p_b = 0.05
    p_g = 1.5 * p_b + 0.01
    k_g, k_b = np.meshgrid(np.arange(41), np.arange(61), indexing="ij")
    log_e = ratio_increments(k_g, k_b, 40, 60, 1.5, 0.01, "fail", [2])[..., 0]
    expected = np.sum(np.outer(binomial(40, p_g), binomial(60, p_b)) * np.exp(log_e))
    assert expected == pytest.approx(0.976, abs=5e-4)


@pytest.mark.parametrize("bound", [0.0, 0.001, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("side", ["fail", "pass"])
def test_bound_never_expects_a_gain_under_its_null(bound, side):
    n = 30
    log_e = log_mean_exp(bound_increments(np.arange(n + 1), n, bound, side))
    nulls = np.linspace(0, bound, 12) if side == "fail" else np.linspace(bound, 1, 12)
    for p in nulls:
        assert np.sum(binomial(n, p) * np.exp(log_e)) <= 1 + 1e-9


def edges(ratio, slack, side):
    """(candidate's rate, stable's rate) at the null's edge, inside it and beyond the edge's end."""
    for p_b in np.linspace(0, 1, 11):
        edge = ratio * p_b + slack
        if side == "fail":
            yield from ((min(1.0, edge) * share, p_b) for share in (1.0, 0.7, 0.0))
        elif edge <= 1:
            yield from ((edge + (1 - edge) * share, p_b) for share in (0.0, 0.4, 1.0))


@pytest.mark.parametrize("side", ["fail", "pass"])
@pytest.mark.parametrize(("ratio", "slack"), [(1, 0), (1.5, 0.01), (2, 0.02), (0.5, 0.3), (3, 0), (0, 0.1)])
@pytest.mark.parametrize(("n_g", "n_b"), [(9, 21), (1, 12), (15, 2)])
def test_ratio_never_expects_a_gain_under_its_null(side, ratio, slack, n_g, n_b):
    k_g, k_b = np.meshgrid(np.arange(n_g + 1), np.arange(n_b + 1), indexing="ij")
    e_values = [np.exp(log_mean_exp(ratio_increments(k_g, k_b, n_g, n_b, ratio, slack, side)))]
    # A wrong guess of stable's rate must cost power only.
    e_values += [
        np.exp(log_mean_exp(ratio_increments_exact(k_g, k_b, n_g, n_b, guess, ratio, slack, side, multiples)))
        for guess in (0.0, 0.001, 0.05, 0.6, 1.0)
        for multiples in (None, [1.0, 1.3, 40.0] if side == "fail" else [1.0, 0.5, 0.0])
    ]
    for p_g, p_b in edges(ratio, slack, side):
        likelihood = np.outer(binomial(n_g, p_g), binomial(n_b, p_b))
        for e_value in e_values:
            assert np.sum(likelihood * e_value) <= 1 + 1e-9


def test_the_exact_normaliser_is_the_maximum():
    p = np.linspace(0, 1, 20_001)
    rng = np.random.default_rng(7)
    for _ in range(200):
        ratio, slack = rng.uniform(0.2, 3), rng.choice([0.0, rng.uniform(0, 0.5)])
        n_g, n_b = rng.integers(1, 500, 2).astype(float)
        a, b = rng.uniform(-0.99, 20), rng.uniform(-0.99, 20)
        inside = p[(p <= 1) & (ratio * p + slack <= 1)]
        brute = np.max(n_g * np.log1p((ratio * inside + slack) * a) + n_b * np.log1p(inside * b))
        found = float(exact_normaliser(n_g, n_b, np.array(a), np.array(b), ratio, slack))
        # No grid point is higher, and the nearest is as good as its distance from the top allows.
        assert brute <= found + 1e-9
        assert found - brute <= 0.05 + 1e-3 * abs(found)


def test_never_a_bad_answer_wins_until_there_is_one():
    running = bound_evidence([0, 0, 1, 0], [10, 10, 10, 10], 0.1, "pass", [0])
    assert running[:2] == pytest.approx([-10 * math.log(0.9), -20 * math.log(0.9)])
    assert list(running[2:]) == [-math.inf, -math.inf]
    running = ratio_evidence([0, 1, 0], [2, 0, 0], [10] * 3, [90] * 3, 1.5, 0.01, "pass", [0])
    assert running[0] == pytest.approx(2 * math.log(105 / 90) + 0.1)
    assert list(running[1:]) == [-math.inf, -math.inf]
    assert np.isfinite(ratio_evidence([0, 1, 0], [2, 0, 0], [10] * 3, [90] * 3, 1.5, 0.01, "pass")).all()


def test_polls_without_requests_win_nothing():
    quiet = np.zeros(5)
    for side in ("fail", "pass"):
        assert bound_evidence(quiet, quiet, 0.01, side) == pytest.approx(quiet, abs=1e-12)
        for evidence in (ratio_evidence, lambda *a: ratio_evidence_exact(*a[:4], 0.05, *a[4:])):
            assert evidence(quiet, quiet, quiet, quiet, 1.0, 0.0, side) == pytest.approx(quiet, abs=1e-12)
            assert evidence(quiet + 3, quiet, quiet + 9, quiet, 1.0, 0.0, side) == pytest.approx(quiet, abs=1e-12)
            assert evidence(quiet, quiet + 3, quiet, quiet + 9, 1.0, 0.0, side) == pytest.approx(quiet, abs=1e-12)


@pytest.mark.parametrize("side", ["fail", "pass"])
def test_a_billion_requests_a_poll_and_a_hundred_thousand_polls(side):
    polls = 100_000
    n, k = np.full(polls, 10**9), np.full(polls, 10**8)
    assert np.isfinite(bound_evidence(k, n, 0.01, side, [1.15, 40] if side == "fail" else [0.9, 0.05])).all()
    assert np.isfinite(ratio_evidence(k, k, n, n, 1.5, 0.001, side, [2] if side == "fail" else [0.5])).all()
    exact = ratio_evidence_exact(k, k, n, n, 0.1, 1, 0, side, [2] if side == "fail" else [0.5])
    assert np.isfinite(exact).all()
    assert not np.isnan(bound_evidence(k, n, 0.01, side)).any()


polls = st.lists(
    st.tuples(st.integers(0, 10**9), st.floats(0, 1), st.integers(0, 10**9), st.floats(0, 1)), min_size=1, max_size=8
)


@settings(max_examples=150, deadline=None)
@given(
    polls=polls,
    bound=st.one_of(st.just(0.0), st.floats(0, 0.999)),
    ratio=st.floats(0, 10),
    slack=st.one_of(st.just(0.0), st.floats(0, 0.99)),
    guess=st.floats(0, 1),
    side=st.sampled_from(["fail", "pass"]),
)
@example(polls=[(1, 0.0, 2, 0.0)], bound=0.0, ratio=2.2250738585072014e-308, slack=0.0, guess=0.0, side="fail")
def test_never_nan(polls, bound, ratio, slack, guess, side):
    n_g, share_g, n_b, share_b = (np.array(column) for column in zip(*polls, strict=True))
    k_g, k_b = np.floor(n_g * share_g), np.floor(n_b * share_b)
    for found in (
        bound_evidence(k_g, n_g, bound, side),
        ratio_evidence(k_g, k_b, n_g, n_b, ratio, slack, side),
        ratio_evidence_exact(k_g, k_b, n_g, n_b, guess, ratio, slack, side),
    ):
        assert found.shape == n_g.shape
        assert not np.isnan(found).any()
        assert not np.isposinf(found).any()


def test_any_leading_axes_and_the_same_increments():
    rng = np.random.default_rng(3)
    n_g, n_b = rng.integers(0, 50, (2, 3, 7)), rng.integers(0, 400, (2, 3, 7))
    k_g, k_b = rng.binomial(n_g, 0.1), rng.binomial(n_b, 0.1)
    guess = rng.uniform(0.01, 0.2, (2, 3, 7))
    running = ratio_evidence_exact(k_g, k_b, n_g, n_b, guess, 1, 0, "fail")
    assert running.shape == (2, 3, 7)
    alone = ratio_evidence_exact(k_g[1, 2], k_b[1, 2], n_g[1, 2], n_b[1, 2], guess[1, 2], 1, 0, "fail")
    assert running[1, 2] == pytest.approx(alone, abs=1e-12)
    added = np.cumsum(ratio_increments_exact(k_g, k_b, n_g, n_b, guess, 1, 0, "fail"), axis=-2)
    added = added + kernels.opening(kernels.FAIL_WEIGHTS)
    assert running == pytest.approx(log_mean_exp(added), abs=1e-12)


def test_dividing_counts_divides_each_alternatives_evidence():
    """What makes the correction for clusters valid: it is the same bet, tempered."""
    args = (12, 40, 100, 900)
    for found, whole in (
        (bound_increments(6, 50, 0.05, "fail"), bound_increments(12, 100, 0.05, "fail")),
        (
            ratio_increments(*(v / 2 for v in args), 1.5, 0.01, "fail"),
            ratio_increments(*args, 1.5, 0.01, "fail"),
        ),
        (
            ratio_increments_exact(*(v / 2 for v in args), 0.05, 1, 0, "fail"),
            ratio_increments_exact(*args, 0.05, 1, 0, "fail"),
        ),
    ):
        assert found == pytest.approx(whole / 2, abs=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bound_evidence([5], [4], 0.1, "fail"),
        lambda: bound_evidence([-1], [4], 0.1, "fail"),
        lambda: bound_evidence([math.nan], [4], 0.1, "fail"),
        lambda: bound_evidence([1], [math.inf], 0.1, "fail"),
        lambda: bound_evidence([1], [4], 1.0, "fail"),
        lambda: bound_evidence([1], [4], math.nan, "fail"),
        lambda: bound_evidence([1], [4], 0.1, "maybe"),
        lambda: bound_evidence([1], [4], 0.1, "fail", [0.5]),
        lambda: bound_evidence([1], [4], 0.1, "pass", [1.5]),
        lambda: bound_evidence([1], [4], 0.1, "pass", []),
        lambda: ratio_evidence([1], [1], [4], [4], -1, 0, "fail"),
        lambda: ratio_evidence([1], [1], [4], [4], 1, 1, "fail"),
        lambda: ratio_evidence_exact([1], [1], [4], [4], 1.5, 1, 0, "fail"),
        lambda: paired_evidence([-1], [1], [4], [4], 1, 0, "fail"),
        lambda: paired_evidence([1], [math.inf], [4], [4], 1, 0, "fail"),
        lambda: paired_evidence([1], [1], [4], [4], 0, 0, "fail"),
        lambda: paired_evidence([1], [1], [4], [4], 1, 1, "fail"),
        lambda: paired_evidence([1], [1], [4], [4], 1, 0, "maybe"),
        lambda: paired_evidence([1], [1], [4], [4], 1, 0, "fail", [1.0]),
        lambda: paired_evidence([1], [1], [4], [4], 1, 0, "fail", []),
    ],
)
def test_what_would_break_the_error_level_is_refused(call):
    with pytest.raises(ValueError, match="must"):
        call()


def test_the_grids():
    assert pytest.approx([1, *np.geomspace(1.15, 40, 14)]) == kernels.FAIL_MULTIPLES
    assert sum(kernels.FAIL_WEIGHTS) == pytest.approx(1, abs=1e-12)
    assert kernels.FAIL_WEIGHTS[0] == kernels.RESERVE
    assert kernels.FAIL_WEIGHTS[1] / kernels.FAIL_WEIGHTS[-1] == pytest.approx(40 / 1.15)
    assert pytest.approx([*np.geomspace(0.9, 0.05, 13), 0]) == kernels.PASS_MULTIPLES
    assert kernels.PASS_MULTIPLES[:-1] == kernels.PASS_MULTIPLES_EXACT
    assert pytest.approx(np.geomspace(0.002, 0.95, 16)) == kernels.STAKES


def test_false_alarms_stay_below_alpha_however_often_one_looks():
    """At the edge of the tolerance, looking after each of 60 polls."""
    rng = np.random.default_rng(11)
    rollouts, alpha = 1500, 0.05
    n_g, n_b, p_b = 60, 540, 0.02
    shape = (rollouts, 60)
    cases = {
        "bound": bound_evidence(rng.binomial(n_g, 0.03, shape), np.full(shape, n_g), 0.03, "fail"),
        "bound pass": bound_evidence(rng.binomial(n_g, 0.03, shape), np.full(shape, n_g), 0.03, "pass"),
        "ratio": ratio_evidence(
            rng.binomial(n_g, 1.5 * p_b + 0.01, shape), rng.binomial(n_b, p_b, shape), n_g, n_b, 1.5, 0.01, "fail"
        ),
        "ratio pass": ratio_evidence(
            rng.binomial(n_g, 1.5 * p_b + 0.01, shape), rng.binomial(n_b, p_b, shape), n_g, n_b, 1.5, 0.01, "pass"
        ),
        "exact": ratio_evidence_exact(
            rng.binomial(n_g, 0.05, shape), rng.binomial(n_b, 0.05, shape), n_g, n_b, 0.05, 1, 0, "fail"
        ),
        "exact pass": ratio_evidence_exact(
            rng.binomial(n_g, 0.05, shape), rng.binomial(n_b, 0.05, shape), n_g, n_b, 0.05, 1, 0, "pass"
        ),
    }
    for name, running in cases.items():
        alarms = np.mean(np.max(running, axis=-1) >= math.log(1 / alpha))
        # Three standard errors of the simulation on top of the promise.
        assert alarms <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / rollouts), name
        assert alarms > 0, f"{name}: a test that never fires proves nothing"
