"""Every rule of the comparison, applied to the same traffic with the same tolerances.

Tolerances: at most 1% errors and 500 ms at the 95th percentile; compared with stable at most 1.5 times its errors plus
0.1%, and 1.1 times its 95th and 50th percentile. Each rule takes those that its conditions can express, with settings
as in its own documentation's examples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gate_traffic import BOUNDS_MS, POLLS, Floats, Leg, Pairs, Traffic
from rivals import NEVER, Stops, argo, argo_metric, flagger, kayenta, kayenta_high, kayenta_score

from orchestrator.gates.spec import Gate
from orchestrator.simulate.cells import LONGEST, Cells
from orchestrator.simulate.fold import Fold
from orchestrator.simulate.poll import Counted, Joined, Poll

FAILURE_LIMIT, COUNT = 3, 10
THRESHOLD, ITERATIONS = 5, 10
JUDGED_EVERY = 10
PASSING, MARGINAL = 95.0, 75.0
INCREASES = (1.5, 1.1, 1.1)
"""Kayenta's `allowedIncrease` of errors, p95 and p50."""
_LEVEL: Mapping[str, Any] = {"alpha": 0.05, "beta": 0.05, "warm_up": 0.0}
GATES: tuple[Gate, ...] = (
    Gate("errors", "error_rate", max=0.01, max_ratio=1.5, max_increase=0.001, blame=True, **_LEVEL),
    Gate("p95", "latency", max=500_000, max_ratio=1.1, blame=True, **_LEVEL),
    Gate("p50", "latency", quantile=0.5, max_ratio=1.1, **_LEVEL),
)
PAIRED_GATES: tuple[Gate, ...] = (Gate("errors", "error_rate", max_increase=0.001, **_LEVEL),)


@dataclass(frozen=True, slots=True)
class Minutes:
    """What a monitoring system shows: one value a minute, each (rollouts, polls); latencies in ms."""

    errors: Floats
    p95: Floats
    p50: Floats

    @classmethod
    def of(cls, leg: Leg) -> "Minutes":
        """Of one side."""
        return cls(leg.bad / np.maximum(leg.requests, 1), _quantile(leg, 0.95), _quantile(leg, 0.5))


def engine(traffic: Traffic) -> Stops:
    """This project's gates, in a stage that is held for the hour: the production fold of many rollouts at once."""
    return fold(traffic, GATES)


def paired_engine(traffic: Traffic) -> Stops:
    """The same, for a shadow step that compares errors alone and has the twins joined."""
    return fold(traffic, PAIRED_GATES)


def unpaired_engine(traffic: Traffic) -> Stops:
    """The same without the twins."""
    return fold(Traffic(traffic.candidate, traffic.stable), PAIRED_GATES)


def fold(traffic: Traffic, gates: tuple[Gate, ...]) -> Stops:
    """When the gates of a stage stop each rollout, and when all of them have passed."""
    rows = len(traffic.candidate.requests)
    cells = Cells(np.array([0, *(1000 * BOUNDS_MS).astype(np.int64), LONGEST]))
    evidence = Fold(gates, 1, rows, stable=cells, candidate=cells)
    source: Literal["mirror", "live"] = "live" if traffic.pairs is None else "mirror"
    evidence.enter(0, gates, compared=True, source=source, paired=traffic.pairs is not None)
    failed, passed = np.full(rows, NEVER), np.full(rows, NEVER)
    for poll in range(POLLS):
        joined = None if traffic.pairs is None else _joined(traffic.pairs, poll)
        mine, other = (_counted(leg, poll) for leg in (traffic.candidate, traffic.stable))
        evidence.fold(Poll(60.0, {source: mine}, other, joined))
        failed[(evidence.failed()[0] >= 0) & (failed == NEVER)] = poll
        proven = np.all([evidence.verdicts(track) == 1 for track in evidence.current()], axis=0)
        passed[proven & (passed == NEVER) & (failed == NEVER)] = poll
    return Stops(failed, np.where(failed < NEVER, NEVER, passed))


def argo_bounds(traffic: Traffic) -> Stops:
    """Argo, an analysis step of 10 measurements, on the absolute bounds."""
    return argo([argo_metric(bad, FAILURE_LIMIT, COUNT) for bad in _beyond_bounds(traffic)])


def argo_ratios(traffic: Traffic) -> Stops:
    """Argo, the same, on the comparisons with stable."""
    candidate, stable = Minutes.of(traffic.candidate), Minutes.of(traffic.stable)
    beyond = (
        candidate.errors > 1.5 * stable.errors + 0.001,
        candidate.p95 > 1.1 * stable.p95,
        candidate.p50 > 1.1 * stable.p50,
    )
    return argo([argo_metric(bad, FAILURE_LIMIT, COUNT) for bad in beyond])


def argo_background(traffic: Traffic) -> Stops:
    """Argo, in the background for the hour, on the absolute bounds."""
    stops = argo([argo_metric(bad, FAILURE_LIMIT) for bad in _beyond_bounds(traffic)])
    return Stops(stops.failed, np.where(stops.failed < NEVER, NEVER, POLLS - 1))


def flagger_bounds(traffic: Traffic) -> Stops:
    """Flagger, 10 iterations, threshold 5, on the absolute bounds."""
    errors, slow = _beyond_bounds(traffic)
    return flagger(errors | slow, THRESHOLD, ITERATIONS)


def kayenta_plain(traffic: Traffic) -> Stops:
    """Kayenta, judged every 10 minutes for the hour, on differences of any size."""
    return _kayenta(traffic, (1.0, 1.0, 1.0))


def kayenta_effect(traffic: Traffic) -> Stops:
    """Kayenta, the same, with effect sizes."""
    return _kayenta(traffic, INCREASES)


def argo_pairs(traffic: Traffic) -> Stops:
    """Argo, an analysis step of 10 measurements, on the one comparison of errors that twins are shown by."""
    candidate, stable = Minutes.of(traffic.candidate), Minutes.of(traffic.stable)
    return argo([argo_metric(candidate.errors > stable.errors + 0.001, FAILURE_LIMIT, COUNT)])


RULES: Mapping[str, Callable[[Traffic], Stops]] = {
    "this": engine,
    "Argo": argo_bounds,
    "Argo, ratios": argo_ratios,
    "Argo, background": argo_background,
    "Flagger": flagger_bounds,
    "Kayenta": kayenta_plain,
    "Kayenta, effect": kayenta_effect,
}
ON_TWINS: Mapping[str, Callable[[Traffic], Stops]] = {
    "this, pairs": paired_engine,
    "this, unpaired": unpaired_engine,
    "Argo, ratios": argo_pairs,
}


def _counted(leg: Leg, poll: int) -> Counted:
    above = leg.above[:, poll]
    requests = leg.requests[:, poll]
    whole = np.concatenate([requests[:, np.newaxis], above, np.zeros((len(above), 2), dtype=np.int64)], axis=1)
    return Counted(requests, leg.bad[:, poll], whole[:, :-1] - whole[:, 1:])


def _joined(pairs: Pairs, poll: int) -> Joined:
    outcomes = (pairs.both, pairs.only_candidate, pairs.only_stable, pairs.neither)
    errors = np.stack([outcome[:, poll] for outcome in outcomes], axis=1)
    none, nobody = np.zeros(0, dtype=np.int64), np.zeros(len(errors), dtype=np.int64)
    return Joined(errors, nobody, nobody, row=none, copy=none, copy_most=none, twin=none, twin_most=none)


def _kayenta(traffic: Traffic, increases: tuple[float, float, float]) -> Stops:
    candidate, stable = Minutes.of(traffic.candidate), Minutes.of(traffic.stable)
    ends = np.arange(JUDGED_EVERY, POLLS + 1, JUDGED_EVERY)
    metrics = list(
        zip(
            (candidate.errors, candidate.p95, candidate.p50),
            (stable.errors, stable.p95, stable.p50),
            increases,
            strict=True,
        )
    )
    scores = [
        kayenta_score(
            [kayenta_high(own[:, :end], other[:, :end], allowed_increase=most) for own, other, most in metrics]
        )
        for end in ends
    ]
    return kayenta(np.stack(scores, axis=1), ends - 1, passing=PASSING, marginal=MARGINAL)


def _beyond_bounds(traffic: Traffic) -> tuple[np.ndarray, np.ndarray]:
    minutes = Minutes.of(traffic.candidate)
    return minutes.errors > 0.01, minutes.p95 > 500


def _quantile(leg: Leg, quantile: float) -> Floats:
    """Interpolated within its bucket, as Prometheus' histogram_quantile does."""
    wanted = (1 - quantile) * leg.requests
    upper = np.minimum((leg.above > wanted[..., np.newaxis]).sum(axis=-1), len(BOUNDS_MS) - 1)
    above = np.take_along_axis(leg.above, upper[..., np.newaxis], axis=-1)[..., 0]
    lower = np.maximum(upper - 1, 0)
    before = np.where(upper > 0, np.take_along_axis(leg.above, lower[..., np.newaxis], axis=-1)[..., 0], leg.requests)
    begin = np.where(upper > 0, BOUNDS_MS[lower], 0.0)
    share = np.clip((before - wanted) / np.maximum(before - above, 1), 0, 1)
    figure: Floats = begin + (BOUNDS_MS[upper] - begin) * share
    return figure
