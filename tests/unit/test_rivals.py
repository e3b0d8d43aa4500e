"""Each rival rule of benchmarks/rivals.py against what its own documentation, source and tests say of it."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def rivals(monkeypatch_module: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch_module.syspath_prepend(BENCHMARKS)
    return importlib.import_module("rivals")


@pytest.fixture(scope="module")
def monkeypatch_module() -> "pytest.MonkeyPatch":
    with pytest.MonkeyPatch.context() as patch:
        yield patch
    sys.modules.pop("rivals", None)


def bits(text: str) -> np.ndarray:
    """One rollout; x is a bad measurement, - a good one."""
    return np.array([[letter == "x" for letter in text]])


# --- Argo Rollouts: analysis.go, analysis_test.go, docs/features/analysis.md ------------------------


@pytest.mark.parametrize(
    ("measurements", "limit", "failed", "why"),
    [
        ("xxx", 2, 2, "TestAssessMetricStatusFailureLimit: 3 failed of failureLimit 2 is Failed"),
        ("xxx", 3, None, "and of failureLimit 3 it is not"),
        ("x", 0, 0, "the default of failureLimit is 0: no failure is tolerated"),
        ("-x-x-x-x--", 3, 7, "failures need not follow each other"),
    ],
)
def test_argo_fails_when_more_measurements_failed_than_the_limit(
    rivals: ModuleType, measurements: str, limit: int, failed: int | None, why: str
) -> None:
    stops = rivals.argo_metric(bits(measurements), limit)
    assert stops.failed[0] == (rivals.NEVER if failed is None else failed), why


def test_argo_is_successful_at_its_count_and_looks_no_further(rivals: ModuleType) -> None:
    stops = rivals.argo_metric(bits("-xx--xxxxx"), 2, 5)
    assert (stops.failed[0], stops.passed[0]) == (rivals.NEVER, 4)
    # "interval: 60s, count: 5" of the page: five good measurements are the whole analysis.
    assert rivals.argo_metric(bits("-----"), 0, 5).passed[0] == 4


def test_argo_without_a_count_never_ends_by_itself(rivals: ModuleType) -> None:
    assert rivals.argo_metric(bits("-" * 60), 3).passed[0] == rivals.NEVER


def test_argo_errors_are_no_failures_unless_they_follow_each_other(rivals: ModuleType) -> None:
    none, good = bits("-" * 12), rivals.argo_metric
    assert good(none, 0, 5, unmeasured=bits("xxxx-xxxx---")).failed[0] == rivals.NEVER  # 4 in a row are allowed
    assert good(none, 0, 5, unmeasured=bits("xxxxx-------")).failed[0] == 4  # consecutiveErrors (5) > limit (4)
    assert good(none, 0, 5, unmeasured=bits("xx----------")).passed[0] == 6  # and count for nothing
    assert good(none, 0, 5, unmeasured=bits("xx----------"), consecutive_error_limit=1).failed[0] == 1


def test_argo_run_fails_with_one_metric_and_needs_all_to_succeed(rivals: ModuleType) -> None:
    fine, bad = rivals.argo_metric(bits("-----"), 0, 3), rivals.argo_metric(bits("---x-"), 0, 5)
    assert rivals.argo([fine, bad]).failed[0] == 3
    slow = rivals.argo_metric(bits("-----"), 0, 5)
    assert rivals.argo([fine, slow]).passed[0] == 4


# --- Flagger: deployment-strategies.md, scheduler.go ------------------------------------------------


def test_flagger_times_of_its_page(rivals: ModuleType) -> None:
    """`interval * iterations` to promote, `interval * threshold` to roll back, counted from the first check."""
    assert rivals.flagger(bits("-" * 20), 2, 10).passed[0] + 1 == 10
    # The first check is at the end of the first interval; the rollback comes `threshold` intervals after it.
    assert rivals.flagger(bits("x" * 20), 10, 10).failed[0] == 10


def test_flagger_counts_failed_checks_without_forgetting(rivals: ModuleType) -> None:
    stops = rivals.flagger(bits("x-x-x-----"), 3, 10)
    assert (stops.failed[0], stops.passed[0]) == (5, rivals.NEVER)


def test_flagger_halts_at_a_failed_check(rivals: ModuleType) -> None:
    assert rivals.flagger(bits("--xx---"), 5, 5).passed[0] == 6


# --- Kayenta: MannWhitneyFooTest, ClassifierSuite, canary-config.md, ScorerSuite ---------------------


def values(*numbers: float) -> np.ndarray:
    return np.array([numbers])


def test_mann_whitney_interval_of_kayentas_own_test(rivals: ModuleType) -> None:
    shift = rivals.mann_whitney(values(10, 20, 30, 40), values(1, 2, 3, 4), 0.95)
    assert (shift.lower[0], shift.estimate[0], shift.upper[0]) == (6.0, 22.5, 39.0)


def test_mann_whitney_interval_meets_its_statistic(rivals: ModuleType) -> None:
    """The ends are where R's z, with ties and continuity, crosses the quantile: just within it is not yet reached."""
    rng = np.random.default_rng(3)
    x, y = np.round(rng.normal(1, 1, 25), 1), np.round(rng.normal(0, 1, 30), 1)
    shift = rivals.mann_whitney(x[np.newaxis], y[np.newaxis], 0.98)

    def z(at: float) -> float:
        pooled = np.concatenate([x - at, y])
        order = np.searchsorted(np.sort(pooled), pooled, "left") + np.searchsorted(np.sort(pooled), pooled, "right")
        ranks = (order + 1) / 2
        _, ties = np.unique(pooled, return_counts=True)
        n, m = len(x), len(y)
        difference = ranks[:n].sum() - n * (n + 1) / 2 - n * m / 2
        spread = np.sqrt(n * m / 12 * (n + m + 1 - np.sum(ties**3 - ties) / ((n + m) * (n + m - 1))))
        return float((difference - np.sign(difference) * 0.5) / spread)

    assert z(shift.lower[0] - 1e-6) >= 2.3263 > z(shift.lower[0] + 1e-6)
    assert z(shift.upper[0] - 1e-6) > -2.3263 >= z(shift.upper[0] + 1e-6)


def test_kayenta_effect_size_of_its_own_tests(rivals: ModuleType) -> None:
    own = {"tolerance": 0.1, "confidence": 0.95}
    experiment, control = values(20, 22, 21, 25, 30), values(1, 2.2, 1.1, 2.5, 3)
    assert rivals.kayenta_high(experiment, control, allowed_increase=1.2, **own)[0]
    # "This example makes the metric fail when the metric has increased 10%": here it has twelvefold.
    ratio = experiment.mean() / control.mean()
    assert rivals.kayenta_high(experiment, control, allowed_increase=ratio, **own)[0]
    assert not rivals.kayenta_high(experiment, control, allowed_increase=ratio + 0.1, **own)[0]


@pytest.mark.parametrize(
    ("experiment", "control"),
    [
        (values(1, 1, 1), values(1, 1)),  # tied observations
        (values(1, 2, 3, 4, 5), values(5, 4, 3, 2, 1)),  # identical populations
        (values(0, 1, 1, 1, 1), values(1, 1, 1, 1, 1)),
        (values(10, 12.2, 10.1, 12.5, 23), values(20, 22, 21, 25, 30)),  # lower
    ],
)
def test_kayenta_passes_what_its_own_tests_pass(
    rivals: ModuleType, experiment: np.ndarray, control: np.ndarray
) -> None:
    assert not rivals.kayenta_high(experiment, control, tolerance=0.1, confidence=0.95)[0]


def test_kayenta_asks_for_no_effect_size_where_it_cannot_be_computed(rivals: ModuleType) -> None:
    many, none = values(*range(1, 21)), values(*[0.0] * 20)
    assert rivals.kayenta_high(many, none, allowed_increase=1e9)[0]


def test_kayenta_score_is_the_share_that_passes_and_ends_the_canary_below_marginal(rivals: ModuleType) -> None:
    high, fine = np.array([True]), np.array([False])
    assert rivals.kayenta_score([high, fine, fine])[0] == pytest.approx(66.67, abs=0.01)
    at = np.array([9, 19, 29])

    def ends(*scores: float) -> tuple[int, int]:
        stops = rivals.kayenta(np.array([scores]), at, passing=95, marginal=75)
        return int(stops.failed[0]), int(stops.passed[0])

    assert ends(100, 66.7, 100) == (19, rivals.NEVER)
    assert ends(80, 80, 100) == (rivals.NEVER, 29)  # marginal goes on
    assert ends(100, 100, 80) == (29, rivals.NEVER)  # but does not end well
