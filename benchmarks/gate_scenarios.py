"""What the comparison is about: the situations, and what a rule did in them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from gate_traffic import BOUNDS_MS, POLLS, Floats, Ints, Scenario, Traffic, simulate
from rivals import NEVER, Stops

SLOW_MS = 500.0
BLOCK = 250

HARMLESS: Sequence[Scenario] = (
    Scenario("nothing changed", 6, harmful=False),
    Scenario("nothing changed", 60, harmful=False),
    Scenario("nothing changed", 600, harmful=False),
    Scenario("errors 0.5 -> 0.6%, 5% slower", 600, harmful=False, errors=0.006, p50=1.05, p95=1.05),
    Scenario("errors at the tolerance, 0.85%", 60, harmful=False, errors=0.0085),
    Scenario("errors at the tolerance, 0.85%", 600, harmful=False, errors=0.0085),
    Scenario("latency at the tolerance, 10% slower", 600, harmful=False, p50=1.1, p95=1.1),
    Scenario("drift: errors of both threefold in an hour", 600, harmful=False, drift=3.0),
    Scenario("incident of both, minutes 20 to 30", 600, harmful=False, incident=(20, 30)),
    Scenario("errors in clusters of 2", 600, harmful=False, cluster=2.0),
    Scenario("errors in clusters of 5", 60, harmful=False, cluster=5.0),
    Scenario("errors in clusters of 5", 600, harmful=False, cluster=5.0),
)
HARMFUL: Sequence[Scenario] = (
    Scenario("errors 0.5 -> 30%", 6, harmful=True, errors=0.3),
    Scenario("errors 0.5 -> 10%", 6, harmful=True, errors=0.1),
    Scenario("errors 0.5 -> 10%", 60, harmful=True, errors=0.1),
    Scenario("errors 0.5 -> 2%", 60, harmful=True, errors=0.02),
    Scenario("errors 0.5 -> 10%", 600, harmful=True, errors=0.1),
    Scenario("errors 0.5 -> 2%", 600, harmful=True, errors=0.02),
    Scenario("errors 0.5 -> 1.2%", 600, harmful=True, errors=0.012),
    Scenario("20% slower", 600, harmful=True, p50=1.2, p95=1.2),
    Scenario("p50 doubled, p95 the same", 600, harmful=True, p50=2.0),
    Scenario("errors 0.5 -> 2% with drift", 600, harmful=True, errors=0.02, drift=3.0),
    Scenario("errors 0.5 -> 2% in clusters of 5", 600, harmful=True, errors=0.02, cluster=5.0),
    Scenario("errors 0.5 -> 10% from minute 20 on", 60, harmful=True, errors=0.1, since=20),
    Scenario("errors 0.5 -> 2% from minute 20 on", 600, harmful=True, errors=0.02, since=20),
    Scenario("20% slower from minute 20 on", 600, harmful=True, p50=1.2, p95=1.2, since=20),
)
MIRRORED: Sequence[Scenario] = (
    Scenario("nothing changed", 600, harmful=False, pairs=True),
    Scenario("errors 0.5 -> 1%", 600, harmful=True, errors=0.01, pairs=True),
    Scenario("errors 0.5 -> 2%", 60, harmful=True, errors=0.02, pairs=True),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rule did with the rollouts of a scenario.

    Attributes:
        stopped: the share that it stopped, 0..1; where the candidate turns bad later, only stops from then on.
        early: the share stopped before there was anything to stop.
        requests, bad: (median, 95th percentile) of the candidate's requests and bad answers until the stop, from the
            minute on in which it turns bad, among those stopped.
        promoted: the share let through within the hour.
        minutes: median minutes until that; nan where none was.
    """

    stopped: float
    early: float
    requests: tuple[float, float]
    bad: tuple[float, float]
    promoted: float
    minutes: float


def blocks(scenario: Scenario, seed: int, rollouts: int) -> Iterator[Traffic]:
    """Its traffic, always the same for a seed, not more at once than memory likes."""
    for begin in range(0, rollouts, BLOCK):
        rng = np.random.default_rng((seed, *scenario.name.encode(), scenario.per_minute, begin))
        yield simulate(scenario, min(BLOCK, rollouts - begin), rng)


def wrong(scenario: Scenario, traffic: Traffic) -> Ints:
    """The candidate's bad answers, as its users would count them: slow ones where only its latency is bad."""
    if scenario.errors == scenario.stable_errors:
        return traffic.candidate.above[..., int(np.searchsorted(BOUNDS_MS, SLOW_MS))]
    return traffic.candidate.bad


def outcome(scenario: Scenario, requests: Ints, bad: Ints, stops: Stops) -> Outcome:
    """Of one rule in one scenario; requests to the candidate and bad answers by rollout and poll."""
    late = np.arange(POLLS) >= scenario.since
    caught = (stops.failed < NEVER) & (stops.failed >= scenario.since)
    at = stops.failed[caught]
    passed = stops.passed[stops.passed < NEVER]
    return Outcome(
        float(caught.mean()),
        float((stops.failed < scenario.since).mean()),
        _middle_and_worst(np.cumsum(requests * late, axis=1)[caught, at]),
        _middle_and_worst(np.cumsum(bad * late, axis=1)[caught, at]),
        len(passed) / len(stops.passed),
        float(np.median(passed) + 1) if len(passed) else float("nan"),
    )


def fewest_requests(scenario: Scenario, level: float) -> float:
    """Requests to the candidate that any rule with this share of false aborts needs on average to stop this one surely.

    Wald's bound, log(1/level) over the information in a request: the smallest Kullback-Leibler divergence between what
    happens and anything that is within the tolerance, with nine requests to stable for each to the candidate. It is a
    bound for a rule that knows beforehand what it looks for.

    Source: Wald, "Sequential Analysis" (1947), A.4.
    """
    rates = np.linspace(1e-6, 0.05, 200_001)
    within = np.minimum(1.5 * rates + 0.001, 0.01 if scenario.stable_errors < 0.01 else 1.0)
    information = _divergence(scenario.errors, within) + 9 * _divergence(scenario.stable_errors, rates)
    return float(np.log(1 / level) / information.min())


def _divergence(p: float, q: Floats) -> Floats:
    return np.asarray(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


def _middle_and_worst(values: Ints) -> tuple[float, float]:
    if not len(values):
        return float("nan"), float("nan")
    return float(np.median(values)), float(np.quantile(values, 0.95))
