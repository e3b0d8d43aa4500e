"""Betting against a tolerance: how much the counts speak for and against a candidate, however often one looks.

Somebody who watches a canary looks every few seconds and stops when he likes what he sees; a p-value is not made for
that. These kernels compute *e-values*: the wealth of a gambler who starts with 1 and bets, poll by poll, against a
null hypothesis. While the null is true his expected wealth never exceeds 1, so that it ever reaches 1/alpha has a
probability of at most alpha (Ville's inequality), at any stopping time.

Each kernel has two sides. "fail" bets against *the candidate is within its tolerance*, "pass" against *it is at or
beyond it*. The bet is spread over a grid of alternatives, "the odds of a bad answer are m times those at the
tolerance"; the wealth is what all of them hold together. Weights that are fixed beforehand keep it what it is: each
alternative's wealth is a non-negative supermartingale under the null, and so is any sum of shares of them that begins
with 1. A fail bet gives an alternative a weight of 1/m, because a small weight costs log(1/weight) of evidence: many
requests where m is small and a request tells little, less than a poll where m is large.

`*_won` are the formulas. `*_increments` checks what it is given and asks them for the log wealth that each alternative
wins in each poll: what `GateState` adds up between two runs of the process. `*_evidence` adds the same increments over
a whole array of polls: what a simulation of thousands of rollouts needs.

Sources: Ramdas, Grunwald, Vovk, Shafer, "Game-theoretic statistics and safe anytime-valid inference" (2023); Turner,
Ly, Grunwald, "Generic E-variables for exact sequential k-sample tests" (2024).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Side = Literal["fail", "pass"]
Floats = NDArray[np.float64]

FAIL_MULTIPLES: tuple[float, ...] = (1.0, *np.geomspace(1.15, 40, 14).tolist())
"""Alternatives of the fail side: odds of a bad answer as multiples of the odds at the tolerance. 1 wins and loses
nothing: it holds what is not bet yet."""
RESERVE = 0.2
"""Share of a fail bet that is not bet at first (`bets.entered`)."""
FAIL_WEIGHTS: tuple[float, ...] = (
    RESERVE,
    *((1 - RESERVE) / np.array(FAIL_MULTIPLES[1:]) / np.sum(1 / np.array(FAIL_MULTIPLES[1:]))).tolist(),
)
"""Share of a fail bet that each alternative begins with."""
PASS_MULTIPLES: tuple[float, ...] = (*np.geomspace(0.9, 0.05, 13).tolist(), 0.0)
"""Alternatives of the pass side; 0 is "never a bad answer"."""
PASS_MULTIPLES_EXACT: tuple[float, ...] = PASS_MULTIPLES[:-1]
"""Alternatives of the pass side where rates are high, so that "never" is not worth a bet."""

STAKES: tuple[float, ...] = tuple(np.geomspace(0.002, 0.95, 16).tolist())
"""Alternatives of the paired bets: the share of the largest stake that cannot ruin the gambler."""

SIGNS: Mapping[Side, float] = {"fail": 1.0, "pass": -1.0}
"""FAIL bets that the candidate's rate is higher, PASS that it is lower."""

_EDGE = 1e-6


def bound_evidence(
    bad: ArrayLike, total: ArrayLike, bound: float, side: Side, multiples: Sequence[float] | None = None
) -> Floats:
    """Running log evidence that a rate is beyond (fail) or within (pass) an absolute bound.

    Args:
        bad, total: counts of each poll, any shape with polls on the last axis; bad <= total.
        bound: the largest tolerated rate, 0 <= bound < 1.
        side: "fail" tests *rate <= bound*, "pass" tests *rate >= bound*.
        multiples: alternatives, as multiples of the bound's odds, all of one weight; None for the standard grid and
            its weights.

    Returns:
        log of the grid's mean wealth after each poll, in the counts' shape.

    Raises:
        ValueError: a count, the bound or a multiple is out of its range.
    """
    return _running(bound_increments(bad, total, bound, side, multiples), side, multiples)


def ratio_evidence(
    bad_candidate: ArrayLike,
    bad_stable: ArrayLike,
    total_candidate: ArrayLike,
    total_stable: ArrayLike,
    ratio: float,
    slack: float,
    side: Side,
    multiples: Sequence[float] | None = None,
) -> Floats:
    """Running log evidence about *candidate's rate <= ratio * stable's rate + slack*, from two unpaired streams.

    Holds for any rates that vary in time, for changing traffic weights and for incidents that hit both sides. For low
    rates (errors); where rates are high `ratio_evidence_exact` wins sooner.

    Args:
        bad_candidate, bad_stable, total_candidate, total_stable: counts of each poll over the same window, polls on
            the last axis.
        ratio, slack: of the tolerance; both >= 0, slack < 1.
        side: "fail" tests that the candidate is within, "pass" that it is at or beyond.
        multiples: alternatives; None for the standard grid.

    Returns:
        log of the grid's mean wealth after each poll, in the counts' shape.

    Raises:
        ValueError: a count, the tolerance or a multiple is out of its range.
    """
    counts = (bad_candidate, bad_stable, total_candidate, total_stable)
    return _running(ratio_increments(*counts, ratio, slack, side, multiples), side, multiples)


def ratio_evidence_exact(
    bad_candidate: ArrayLike,
    bad_stable: ArrayLike,
    total_candidate: ArrayLike,
    total_stable: ArrayLike,
    stable_rate: ArrayLike,
    ratio: float,
    slack: float,
    side: Side,
    multiples: Sequence[float] | None = None,
) -> Floats:
    """As `ratio_evidence`, normalised for Bernoulli counts instead of bounded by Poisson ones: for high rates.

    Args:
        bad_candidate, bad_stable, total_candidate, total_stable: counts of each poll over the same window, polls on
            the last axis.
        stable_rate: a guess of stable's rate in each poll, made from earlier polls only. A bad guess costs power,
            never validity.
        ratio, slack: of the tolerance; with slack > 0 the pass side hardly ever wins.
        side, multiples: as in `ratio_evidence`; the standard pass grid has no 0.

    Returns:
        log of the grid's mean wealth after each poll, in the counts' shape.

    Raises:
        ValueError: a count, the guess, the tolerance or a multiple is out of its range.
    """
    counts = (bad_candidate, bad_stable, total_candidate, total_stable)
    increments = ratio_increments_exact(*counts, stable_rate, ratio, slack, side, multiples)
    return _running(increments, side, multiples)


def paired_evidence(
    both_bad: ArrayLike,
    only_candidate_bad: ArrayLike,
    only_stable_bad: ArrayLike,
    neither_bad: ArrayLike,
    ratio: float,
    slack: float,
    side: Side,
    stakes: Sequence[float] | None = None,
) -> Floats:
    """Running log evidence about *candidate's rate <= ratio * stable's rate + slack*, from pairs of the same request.

    What both sides share, such as a request that nobody can answer, cancels out, so pairs decide with fewer requests
    than two streams do. Each pair is a bet on Z = G - ratio * B - slack, where G and B are 1 when the candidate's and
    stable's answer was bad; the null says that Z is not positive in expectation. With ratio 1 and slack 0 this is a
    sequential McNemar test.

    Args:
        both_bad, only_candidate_bad, only_stable_bad, neither_bad: pairs of each poll by outcome, polls on the last
            axis.
        ratio, slack: of the tolerance; both >= 0, slack < 1.
        side: "fail" tests that the candidate is within, "pass" that it is at or beyond.
        stakes: alternatives, as shares (above 0, below 1) of the largest stake; None for the standard ones.

    Returns:
        log of the mean wealth over the stakes after each poll, in the counts' shape.

    Raises:
        ValueError: a count, the tolerance or a stake is out of its range.

    Source: Waudby-Smith, Ramdas, "Estimating means of bounded random variables by betting" (2024).
    """
    counts = (both_bad, only_candidate_bad, only_stable_bad, neither_bad)
    return _running(paired_increments(*counts, ratio, slack, side, stakes), side, STAKES)


def bound_increments(
    bad: ArrayLike, total: ArrayLike, bound: ArrayLike, side: Side, multiples: Sequence[float] | None = None
) -> Floats:
    """Log wealth that each alternative of `bound_evidence` wins in each poll, alternatives on a new last axis.

    The bound may also be an array in the counts' shape.
    """
    rate = np.asarray(bound, dtype=np.float64)[..., np.newaxis]
    if not np.all((rate >= 0) & (rate < 1)):
        raise ValueError(f"the bound is {bound!r}; it must be a rate from 0 to less than 1")
    grid = _grid(multiples, side, FAIL_MULTIPLES if side == "fail" else PASS_MULTIPLES)
    k, n = _counts((bad,), (total,))
    return bound_won(k, n, rate, grid)


def ratio_increments(
    bad_candidate: ArrayLike,
    bad_stable: ArrayLike,
    total_candidate: ArrayLike,
    total_stable: ArrayLike,
    ratio: ArrayLike,
    slack: ArrayLike,
    side: Side,
    multiples: Sequence[float] | None = None,
) -> Floats:
    """Log wealth that each alternative of `ratio_evidence` wins in each poll, alternatives on a new last axis.

    A poll in which one side got no request says nothing about the other: its increments are 0. Ratio and slack may also
    be arrays in the counts' shape.
    """
    ratio, slack = _tolerance(ratio, slack)
    m = _grid(multiples, side, FAIL_MULTIPLES if side == "fail" else PASS_MULTIPLES)
    k_c, k_s, n_c, n_s = _counts((bad_candidate, bad_stable), (total_candidate, total_stable))
    return ratio_won(k_c, k_s, n_c, n_s, ratio, slack, m)


def ratio_increments_exact(
    bad_candidate: ArrayLike,
    bad_stable: ArrayLike,
    total_candidate: ArrayLike,
    total_stable: ArrayLike,
    stable_rate: ArrayLike,
    ratio: float,
    slack: float,
    side: Side,
    multiples: Sequence[float] | None = None,
) -> Floats:
    """Log wealth that each alternative of `ratio_evidence_exact` wins in each poll, alternatives on a new last axis."""
    _tolerance(ratio, slack)
    m = _grid(multiples, side, FAIL_MULTIPLES if side == "fail" else PASS_MULTIPLES_EXACT)
    k_c, k_s, n_c, n_s = _counts((bad_candidate, bad_stable), (total_candidate, total_stable))
    guess = np.asarray(stable_rate, dtype=np.float64)[..., np.newaxis]
    if not np.all((guess >= 0) & (guess <= 1)):
        raise ValueError("stable_rate must be a rate from 0 to 1")
    return exact_won(k_c, k_s, n_c, n_s, guess, ratio, slack, m, SIGNS[side])


def paired_increments(
    both_bad: ArrayLike,
    only_candidate_bad: ArrayLike,
    only_stable_bad: ArrayLike,
    neither_bad: ArrayLike,
    ratio: ArrayLike,
    slack: ArrayLike,
    side: Side,
    stakes: Sequence[float] | None = None,
) -> Floats:
    """Log wealth that each alternative of `paired_evidence` wins in each poll, alternatives on a new last axis.

    Ratio and slack may also be arrays in the counts' shape.
    """
    ratio, slack = _tolerance(ratio, slack)
    if not np.all(ratio + slack > 0):
        raise ValueError("the tolerance is 0 x + 0, which leaves nothing to bet on; ratio or slack must be above 0")
    if side not in ("fail", "pass"):
        raise ValueError(f'the side is {side!r}; it must be "fail" or "pass"')
    shares = np.asarray(STAKES if stakes is None else stakes, dtype=np.float64)
    if shares.ndim != 1 or not shares.size or not np.all((shares > 0) & (shares < 1)):
        raise ValueError("stakes must be one or more numbers, each above 0 and below 1")
    given = np.broadcast_arrays(
        *(np.asarray(n, dtype=np.float64) for n in (both_bad, only_candidate_bad, only_stable_bad, neither_bad))
    )
    if not all(np.all((n >= 0) & (n < np.inf)) for n in given):
        raise ValueError("pairs must be finite counts, none of them negative")
    both, only_c, only_s, neither = (n[..., np.newaxis] for n in given)
    return paired_won(both, only_c, only_s, neither, ratio, slack, shares, SIGNS[side])


# --- the formulas: counts and tolerances broadcast against an axis of alternatives; nothing is checked --------------


def bound_won(bad: Floats, total: Floats, bound: Floats, multiples: Floats) -> Floats:
    """Log wealth of `bound_evidence`."""
    won: Floats = _times_log(bad, multiples) - total * np.log1p(bound * (multiples - 1))
    return won


def ratio_won(
    k_c: Floats, k_s: Floats, n_c: Floats, n_s: Floats, ratio: Floats, slack: Floats, multiples: Floats
) -> Floats:
    """Log wealth of `ratio_evidence`, from bad ones and totals of candidate and stable."""
    comparable = (n_c > 0) & (n_s > 0)
    n_s = np.where(comparable, n_s, 1.0)
    factor = (ratio * n_c + n_s) / (multiples * ratio * n_c + n_s)
    won = _times_log(k_c, multiples) + (k_c + k_s) * np.log(factor) - n_c * slack * (multiples * factor - 1)
    return np.where(comparable, won, 0.0)


def exact_won(
    k_c: Floats,
    k_s: Floats,
    n_c: Floats,
    n_s: Floats,
    guess: Floats,
    ratio: float,
    slack: float,
    multiples: Floats,
    sign: Floats | float,
) -> Floats:
    """Log wealth of `ratio_evidence_exact`; `sign` says which side, as in SIGNS."""
    comparable = (n_c > 0) & (n_s > 0)
    n_c, n_s = np.where(comparable, n_c, 1.0), np.where(comparable, n_s, 1.0)
    rate_s = np.minimum(np.maximum(guess, _EDGE), 1 - _EDGE)
    odds_c = multiples * _odds(ratio * rate_s + slack)
    rate_c = odds_c / (1 + odds_c)
    pooled = (n_c * (rate_c - slack) + n_s * rate_s) / (n_c * ratio + n_s)
    pooled = np.minimum(np.maximum(pooled, _EDGE * _EDGE), 1 - _EDGE)
    # The normaliser covers the null's edge only; what keeps its inside covered is the direction of the two bets,
    # which clipping may turn round.
    a = sign * np.maximum(sign * (odds_c / _odds(ratio * pooled + slack) - 1), 0.0)
    b = sign * np.minimum(sign * (_odds(rate_s) / _odds(pooled) - 1), 0.0)
    won = _times_log(k_c, 1 + a) + k_s * np.log1p(b) - exact_normaliser(n_c, n_s, a, b, ratio, slack)
    return np.where(comparable, won, 0.0)


def paired_won(
    both: Floats,
    only_c: Floats,
    only_s: Floats,
    neither: Floats,
    ratio: Floats,
    slack: Floats,
    shares: Floats,
    sign: Floats | float,
) -> Floats:
    """Log wealth of `paired_evidence`; `sign` says which side, as in SIGNS."""
    # The stake is largest where the worst outcome for this side would take all of it.
    stake = sign * shares / np.where(np.asarray(sign) > 0, ratio + slack, 1 - slack)
    won: Floats = (
        both * np.log1p(stake * (1 - ratio - slack))
        + only_c * np.log1p(stake * (1 - slack))
        + only_s * np.log1p(-stake * (ratio + slack))
        + neither * np.log1p(-stake * slack)
    )
    return won


def exact_normaliser(n_c: Floats, n_s: Floats, a: Floats, b: Floats, ratio: float, slack: float) -> Floats:
    """max over p of n_c ln(1 + (ratio p + slack) a) + n_s ln(1 + p b), with p and ratio p + slack both in 0..1.

    The function is concave in p, so that its maximum is where its derivative is 0, or at an end.
    """
    end = min(1.0, (1 - slack) / ratio) if ratio > 0 else 1.0

    curvature = ratio * a * b * (n_c + n_s)
    flat = curvature == 0
    slope = n_c * ratio * a + n_s * b * (1 + slack * a)
    # Where the function is almost straight its top lies far outside, at infinity for all that floats can say; at most
    # rounding pushes an argument of a logarithm below 0, where it has its limit, -inf.
    with np.errstate(over="ignore", divide="ignore"):
        inner = np.where(flat, 0.0, np.minimum(np.maximum(-slope / np.where(flat, 1.0, curvature), 0.0), end))
        p = np.stack(np.broadcast_arrays(0.0, end, inner))
        candidate = np.log(np.maximum(1 + (ratio * p + slack) * a, 0.0))
        stable = np.log(np.maximum(1 + p * b, 0.0))
    largest: Floats = np.max(n_c * candidate + n_s * stable, axis=0)
    return largest


def log_mean_exp(logs: ArrayLike, axis: int = -1) -> Floats:
    """log of the mean of exp(logs) along an axis, without overflow; -inf where all are."""
    values = np.asarray(logs, dtype=np.float64)
    top = np.max(values, axis=axis, keepdims=True)
    top = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        mean: Floats = np.log(np.mean(np.exp(values - top), axis=axis)) + np.squeeze(top, axis=axis)
    return mean


def opening(weights: Sequence[float]) -> Floats:
    """Log wealth that alternatives of these weights begin with, so that the mean over them is 1."""
    logs: Floats = np.log(np.asarray(weights) * len(weights))
    return logs


def _running(increments: Floats, side: Side, alternatives: Sequence[float] | None) -> Floats:
    begun = opening(FAIL_WEIGHTS) if side == "fail" and alternatives is None else 0.0
    if increments.ndim < 2:
        return log_mean_exp(begun + increments)
    return log_mean_exp(begun + np.cumsum(increments, axis=-2))


def _times_log(k: Floats, m: Floats) -> Floats:
    """k ln m, where "no bad answer" at the alternative "never a bad answer" wins nothing and loses nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        won: Floats = np.where(k > 0, k * np.log(m), 0.0)
    return won


def _odds(rate: Floats) -> Floats:
    bounded = np.minimum(np.maximum(rate, _EDGE * _EDGE), 1 - _EDGE)
    odds: Floats = bounded / (1 - bounded)
    return odds


def _grid(multiples: Sequence[float] | None, side: Side, standard: Sequence[float]) -> Floats:
    if side not in ("fail", "pass"):
        raise ValueError(f'the side is {side!r}; it must be "fail" or "pass"')
    grid = np.asarray(standard if multiples is None else multiples, dtype=np.float64)
    inside = np.isfinite(grid) & ((grid >= 1) if side == "fail" else (grid >= 0) & (grid <= 1))
    if grid.ndim != 1 or not grid.size or not np.all(inside):
        allowed = "1 or more" if side == "fail" else "from 0 to 1"
        raise ValueError(f"the multiples of the {side} side must be one or more numbers, each {allowed}")
    return grid


def _tolerance(ratio: ArrayLike, slack: ArrayLike) -> tuple[Floats, Floats]:
    """Both, with an axis for the alternatives."""
    rho, delta = (np.asarray(part, dtype=np.float64)[..., np.newaxis] for part in (ratio, slack))
    if not (np.all((rho >= 0) & (rho < np.inf)) and np.all((delta >= 0) & (delta < 1))):
        raise ValueError(
            f"the tolerance is {ratio!r} x + {slack!r}; the ratio must be 0 or more, the slack from 0 to less than 1"
        )
    return rho, delta


def _counts(bad: tuple[ArrayLike, ...], total: tuple[ArrayLike, ...]) -> list[Floats]:
    """All counts in one shape with an axis for the alternatives; each bad must lie within its total."""
    arrays = np.broadcast_arrays(*(np.asarray(count, dtype=np.float64) for count in (*bad, *total)))
    for k, n in zip(arrays[: len(bad)], arrays[len(bad) :], strict=True):
        if not np.all((k >= 0) & (k <= n) & (n < np.inf)):
            raise ValueError("counts must be finite, with 0 <= bad <= total in every poll")
    return [array[..., np.newaxis] for array in arrays]
