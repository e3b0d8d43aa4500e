"""How others decide, each rule small enough to be held against its own documentation (tests/unit/test_rivals.py).

All of them see one figure per metric and minute. What differs is when figures make an end:

- **Argo Rollouts** compares each measurement with a fixed condition and counts. A metric fails when more measurements
  failed than `failureLimit` allows; after `count` of them, without that, it is successful; without a `count` it goes on
  until the rollout ends. More than `consecutiveErrorLimit` measurements in a row that could not be taken are an error.
  Source: argoproj/argo-rollouts, docs/features/analysis.md and `assessMetricStatus`,
  `assessMetricFailureInconclusiveOrError` in analysis/analysis.go. (The page says "after three failed measurements" of
  `failureLimit: 3`; code and its test fail on the fourth, and so does this.)
- **Flagger** checks all metrics at every interval. A failed check halts the advance and adds to a counter that no good
  check resets; once the counter has reached `threshold`, the next run rolls back. `iterations` good checks promote.
  Source: fluxcd/flagger, docs/gitbook/usage/deployment-strategies.md and `advanceCanary` in
  pkg/controller/scheduler.go.
- **Kayenta**'s NetflixACAJudge compares the minutes of both sides by a Mann-Whitney test: a metric is High when the
  lower end of the 98% confidence interval of the shift is above a quarter of its Hodges-Lehmann estimate, and, where
  an effect size is asked, the ratio of means is at least `allowedIncrease`. The score is the share of metrics that
  pass.
  Source: spinnaker/kayenta, docs/canary-config.md, NetflixACAJudge.scala, MannWhitneyClassifier.scala,
  WeightedSumScorer.scala, ThresholdScoreClassifier.scala and MannWhitney.scala, which follows R's wilcox.test.

Shapes: measurements are (rollouts, polls); an answer is the poll, from 0, or NEVER.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEVER = 1_000_000
ARGO_CONSECUTIVE_ERRORS = 4
"""Argo's default of `consecutiveErrorLimit`."""
KAYENTA_TOLERANCE, KAYENTA_CONFIDENCE = 0.25, 0.98
"""What NetflixACAJudge gives its classifier."""


@dataclass(frozen=True, slots=True)
class Stops:
    """When a rule stops each rollout, and when it lets it through: the poll, from 0, or NEVER. At most one of them."""

    failed: Ints
    passed: Ints


def argo_metric(
    failed: Booleans,
    failure_limit: int,
    count: int | None = None,
    *,
    unmeasured: Booleans | None = None,
    consecutive_error_limit: int = ARGO_CONSECUTIVE_ERRORS,
) -> Stops:
    """One metric of an AnalysisRun.

    Args:
        failed: the measurement did not meet the condition.
        failure_limit: failed measurements that are allowed.
        count: measurements that end it; None for a background analysis.
        unmeasured: the measurement could not be taken; it counts neither as failed nor towards `count`.
        consecutive_error_limit: such measurements in a row that are allowed.
    """
    errors = np.zeros_like(failed) if unmeasured is None else unmeasured
    too_many = np.cumsum(failed & ~errors, axis=1) > failure_limit
    stopped = first(too_many | (_in_a_row(errors) > consecutive_error_limit))
    if count is None:
        return Stops(stopped, np.full(len(failed), NEVER))
    done = first(np.cumsum(~errors, axis=1) >= count)
    return Stops(np.where(stopped <= done, stopped, NEVER), np.where(stopped <= done, NEVER, done))


def argo(metrics: list[Stops]) -> Stops:
    """An AnalysisRun: it fails with its first metric that does, and is successful when all are."""
    failed = np.min([metric.failed for metric in metrics], axis=0)
    passed = np.max([metric.passed for metric in metrics], axis=0)
    return Stops(np.where(failed <= passed, failed, NEVER), np.where(failed <= passed, NEVER, passed))


def flagger(failed_check: Booleans, threshold: int, iterations: int) -> Stops:
    """A Canary's analysis.

    Args:
        failed_check: at least one metric of the run was outside its range.
        threshold: failed checks that roll back, at the run after the last of them.
        iterations: good checks that promote.
    """
    reached = first(np.cumsum(failed_check, axis=1) >= threshold)
    promoted = first(np.cumsum(~failed_check, axis=1) >= iterations)
    stopped = np.where(reached < promoted, reached + 1, NEVER)
    stopped = np.where(stopped < failed_check.shape[1], stopped, NEVER)
    return Stops(stopped, np.where(promoted < reached, promoted, NEVER))


@dataclass(frozen=True, slots=True)
class Shift:
    """By how much the experiment lies above the control: estimate and ends of its confidence interval, (rollouts,)."""

    lower: Floats
    estimate: Floats
    upper: Floats


def mann_whitney(experiment: Floats, control: Floats, confidence: float) -> Shift:
    """Hodges-Lehmann estimate of a shift and its interval, by the normal approximation with ties and continuity.

    R and Kayenta search the shift at which the statistic meets the quantile. The statistic only changes where the shift
    meets a difference of two values, so that the answer is one of the sorted differences.
    """
    rows, n, m = len(experiment), experiment.shape[1], control.shape[1]
    differences = (experiment[:, :, np.newaxis] - control[:, np.newaxis, :]).reshape(rows, n * m)
    differences.sort(axis=1)
    ties = _ties(experiment) + _ties(control)
    spread = np.sqrt(n * m / 12 * (n + m + 1 - ties / ((n + m) * (n + m - 1))))
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * spread
    above = np.ceil(n * m / 2 + 0.5 + reach).astype(np.int64)
    at = np.clip(n * m - above, 0, n * m - 1)[:, np.newaxis]
    lower = np.take_along_axis(differences, at, axis=1)[:, 0]
    upper = np.take_along_axis(differences, n * m - 1 - at, axis=1)[:, 0]
    return Shift(lower, np.median(differences, axis=1), upper)


def kayenta_high(
    experiment: Floats,
    control: Floats,
    *,
    allowed_increase: float = 1.0,
    tolerance: float = KAYENTA_TOLERANCE,
    confidence: float = KAYENTA_CONFIDENCE,
) -> Booleans:
    """Whether a metric is High, direction "increase".

    Args:
        experiment, control: one value a minute, (rollouts, minutes).
        allowed_increase: of the effect size, as a ratio of means; 1 for the judge without one.
        tolerance: share of the estimate that the lower end has to exceed.
        confidence: of the interval, two-sided.
    """
    shift = mann_whitney(experiment, control, confidence)
    means = experiment.mean(axis=1), control.mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = means[0] / means[1]
    # Where a mean is 0 the effect size cannot be computed, and is then not asked for.
    large = (means[0] == 0) | (means[1] == 0) | (ratio >= allowed_increase)
    high: Booleans = (shift.lower > tolerance * np.abs(shift.estimate)) & large
    return high


def kayenta_score(high: list[Booleans]) -> Floats:
    """Percent of the metrics that pass, all in one group of weight 100."""
    score: Floats = 100 * np.mean([~metric for metric in high], axis=0)
    return score


def kayenta(scores: Floats, at: Ints, *, passing: float, marginal: float) -> Stops:
    """A canary stage that judges all minutes so far at each interval: it ends at the first score below `marginal`; the
    last one has to reach `passing`.

    Args:
        scores: (rollouts, judgements).
        at: the poll of each judgement.
        passing, marginal: of the score, 0..100.
    """
    bad = scores < marginal
    bad[:, -1] |= scores[:, -1] < passing
    failed = first(bad)
    stopped = np.where(failed < len(at), at[np.minimum(failed, len(at) - 1)], NEVER)
    return Stops(stopped, np.where(stopped < NEVER, NEVER, at[-1]))


def first(hit: Booleans) -> Ints:
    """The first poll where it is true, or NEVER."""
    return np.where(hit.any(axis=1), hit.argmax(axis=1), NEVER)


def _in_a_row(flags: Booleans) -> Ints:
    """How many true ones end at each place."""
    places = np.arange(1, flags.shape[1] + 1)
    return places - np.maximum.accumulate(np.where(flags, 0, places), axis=1)


def _ties(values: Floats) -> Floats:
    """Sum of t^3 - t over each row's groups of equal values."""
    ordered = np.sort(values, axis=1)
    change = np.concatenate([np.ones((len(values), 1), dtype=bool), ordered[:, 1:] != ordered[:, :-1]], axis=1)
    group = np.cumsum(change, axis=1) - 1
    sizes = np.zeros(values.shape)
    np.add.at(sizes, (np.arange(len(values))[:, np.newaxis], group), 1.0)
    ties: Floats = np.sum(sizes**3 - sizes, axis=1)
    return ties
