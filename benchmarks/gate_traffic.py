"""The traffic that `gates.py` shows to every rule: the same requests for all of them.

A scenario says what stable and the candidate do, minute by minute; from a seed it becomes counts. One poll is one
minute. Each side gets a Poisson number of requests, the candidate a tenth of all. Latencies are lognormal and counted
in buckets of 10 ms, as a proxy counts them; errors are independent of them, one by one or in clusters.
"""

from dataclasses import dataclass
from math import erf, log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

POLLS = 60
SHARE = 0.1
BOUNDS_MS: Floats = np.arange(100.0, 1001.0, 10.0)
"""Upper bounds of the buckets; the last bucket, above 1 s, has none."""
STABLE_P95_MS, SIGMA = 402.0, 0.6
_Z95 = NormalDist().inv_cdf(0.95)
STABLE_P50_MS = STABLE_P95_MS / np.exp(_Z95 * SIGMA)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens.

    Attributes:
        name: for the report.
        per_minute: the candidate's requests to expect in a minute; stable gets nine times as many.
        harmful: whether the candidate is beyond a tolerance, so that it should be stopped.
        errors, stable_errors: rates of bad answers.
        p50, p95: the candidate's latencies as multiples of stable's.
        since: the minute in which the candidate turns bad, from 0; it is as good as stable before.
        incident: first and last minute in which both sides have ten times the errors and 1.5 times the latency.
        drift: by what stable's and the candidate's error rates have grown after an hour.
        cluster: mean number of errors that come together.
        pairs: the candidate's requests are mirrored, so that each has a twin at stable.
        shared_errors: with pairs, the share of stable's errors that are the request's fault: both answer it badly.
    """

    name: str
    per_minute: int
    harmful: bool
    errors: float = 0.005
    stable_errors: float = 0.005
    p50: float = 1.0
    p95: float = 1.0
    since: int = 0
    incident: tuple[int, int] | None = None
    drift: float = 1.0
    cluster: float = 1.0
    pairs: bool = False
    shared_errors: float = 0.8


@dataclass(frozen=True, slots=True)
class Leg:
    """One side of many rollouts.

    Attributes:
        requests, bad: shape (rollouts, polls).
        above: requests slower than each of BOUNDS_MS, shape (rollouts, polls, bounds).
    """

    requests: Ints
    bad: Ints
    above: Ints


@dataclass(frozen=True, slots=True)
class Pairs:
    """Joined twins by outcome, each of shape (rollouts, polls)."""

    both: Ints
    only_candidate: Ints
    only_stable: Ints
    neither: Ints


@dataclass(frozen=True, slots=True)
class Traffic:
    """What many rollouts of one scenario saw."""

    candidate: Leg
    stable: Leg
    pairs: Pairs | None = None


def simulate(scenario: Scenario, rollouts: int, rng: np.random.Generator) -> Traffic:
    """The counts of many rollouts of a scenario."""
    minutes = np.arange(POLLS)
    turned = minutes >= scenario.since
    stable_errors = scenario.stable_errors * scenario.drift ** (minutes / (POLLS - 1))
    errors = np.where(turned, scenario.errors, scenario.stable_errors) * scenario.drift ** (minutes / (POLLS - 1))
    slow = np.ones(POLLS)
    if scenario.incident is not None:
        first, last = scenario.incident
        during = (minutes >= first) & (minutes <= last)
        errors, stable_errors = (
            np.where(during, 10 * errors, errors),
            np.where(during, 10 * stable_errors, stable_errors),
        )
        slow = np.where(during, 1.5, 1.0)
    p50, p95 = np.where(turned, scenario.p50, 1.0), np.where(turned, scenario.p95, 1.0)
    n = scenario.per_minute
    stable = _leg(rng, rollouts, n * (1 - SHARE) / SHARE, stable_errors, slow, slow, scenario.cluster)
    candidate = _leg(rng, rollouts, n, errors, slow * p50, slow * p95, scenario.cluster)
    if not scenario.pairs:
        return Traffic(candidate, stable)
    pairs = _pairs(rng, candidate.requests, errors, stable_errors, scenario.shared_errors)
    mirrored = Leg(candidate.requests, pairs.both + pairs.only_candidate, candidate.above)
    return Traffic(mirrored, stable, pairs)


def _leg(
    rng: np.random.Generator, rollouts: int, per_minute: float, errors: Floats, p50: Floats, p95: Floats, cluster: float
) -> Leg:
    shape = (rollouts, POLLS, len(BOUNDS_MS) + 1)
    shares = np.array([_shares(a * STABLE_P50_MS, b * STABLE_P95_MS) for a, b in zip(p50, p95, strict=True)])
    buckets = rng.poisson(np.broadcast_to(per_minute * shares, shape))
    at_least = np.cumsum(buckets[..., ::-1], axis=-1)[..., ::-1]
    requests = at_least[..., 0]
    return Leg(requests, _bad(rng, requests, errors, cluster), at_least[..., 1:].copy())


def _shares(p50: float, p95: float) -> Floats:
    """The probability of each bucket."""
    sigma = log(p95 / p50) / _Z95
    below = [0.5 * (1 + erf(log(bound / p50) / sigma / sqrt(2))) for bound in BOUNDS_MS]
    return np.diff(np.array([0.0, *below, 1.0]))


def _bad(rng: np.random.Generator, requests: Ints, rate: Floats, cluster: float) -> Ints:
    if cluster <= 1:
        return rng.binomial(requests, np.broadcast_to(rate, requests.shape))
    causes = rng.poisson(requests * rate / cluster)
    more = rng.negative_binomial(np.maximum(causes, 1), 1 / cluster)
    return np.minimum(causes + np.where(causes > 0, more, 0), requests)


def _pairs(rng: np.random.Generator, requests: Ints, errors: Floats, stable_errors: Floats, shared: float) -> Pairs:
    """Twins: a share of stable's errors is the request's own, the rest befalls each side by itself."""
    both = np.minimum(shared * stable_errors, errors)
    outcomes = np.stack([both, errors - both, stable_errors - both, 1 - errors - stable_errors + both], axis=-1)
    drawn = rng.multinomial(requests, np.broadcast_to(outcomes, (*requests.shape, 4)))
    return Pairs(*(drawn[..., i] for i in range(4)))
