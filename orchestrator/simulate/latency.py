"""How long answers take in a simulation: a log-normal with a given quantile, or what somebody measured.

Gates never interpolate inside a bucket. A simulation has to: it must say how many answers of a candidate that is 7%
slower would have crossed a bound. Inside a measured bucket latencies are taken as spread evenly on a logarithmic scale.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SPREAD = 0.6
"""Standard deviation of log latency where nothing else is known, as in `gates.resolution`."""
_LEAST = 1.0


class Latencies(Protocol):
    """A distribution of latencies, microseconds."""

    def above(self, latency: Any) -> Floats:
        """The share of answers that take at least so long, 0..1, of each."""
        ...

    def quantile(self, level: float) -> float:
        """The latency below which this share of answers lies."""
        ...

    def at(self, normal: Floats) -> Floats:
        """The latencies at these standard normal draws, so that those of two sides can be made to go together."""
        ...


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Latencies whose logarithms are normal.

    Attributes:
        median: microseconds.
        sigma: standard deviation of the logarithm, above 0.
    """

    median: float
    sigma: float = SPREAD

    @classmethod
    def with_p95(cls, p95: float, sigma: float = SPREAD) -> "LogNormal":
        """The one whose p95 is given, microseconds."""
        return cls(p95 / math.exp(sigma * NormalDist().inv_cdf(0.95)), sigma)

    def above(self, latency: Any) -> Floats:
        """As in `Latencies`."""
        x = np.maximum(np.asarray(latency, dtype=np.float64), 1e-9)
        return _normal_above((np.log(x) - math.log(self.median)) / self.sigma)

    def quantile(self, level: float) -> float:
        """As in `Latencies`."""
        return self.median * math.exp(self.sigma * NormalDist().inv_cdf(min(max(level, 1e-15), 1 - 1e-15)))

    def at(self, normal: Floats) -> Floats:
        """As in `Latencies`."""
        latencies: Floats = self.median * np.exp(self.sigma * normal)
        return latencies


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Latencies as a histogram counted them.

    Attributes:
        logs: logarithms of the buckets' bounds, ascending.
        below: the share of answers below each of them, from 0 to 1.
    """

    logs: Floats
    below: Floats

    @classmethod
    def of(cls, buckets: Iterable[tuple[float, float, float]]) -> "Measured":
        """From (lower, upper, count), microseconds.

        Raises:
            ValueError: there is no request in them, or they overlap.
        """
        filled = sorted((max(lower, _LEAST), max(upper, _LEAST), n) for lower, upper, n in buckets if n > 0)
        if not filled:
            raise ValueError("the latency histogram is empty: give buckets with counts, as [lower, upper, count]")
        points, shares, total = [filled[0][0]], [0.0], sum(n for _, _, n in filled)
        seen = 0.0
        for lower, upper, n in filled:
            if lower < points[-1] or upper < lower:
                raise ValueError(
                    f"the latency buckets overlap or run backwards at {lower:g}: give them as [lower, upper, count], "
                    "lower below upper, none over another"
                )
            if lower > points[-1]:
                points.append(lower)
                shares.append(seen / total)
            seen += n
            points.append(max(upper, lower * (1 + 1e-9)))
            shares.append(seen / total)
        return cls(np.log(np.array(points)), np.array(shares))

    def above(self, latency: Any) -> Floats:
        """As in `Latencies`."""
        x = np.log(np.maximum(np.asarray(latency, dtype=np.float64), 1e-9))
        share: Floats = 1 - np.interp(x, self.logs, self.below, left=0.0, right=1.0)
        return share

    def quantile(self, level: float) -> float:
        """As in `Latencies`."""
        return float(np.exp(np.interp(level, self.below, self.logs)))

    def at(self, normal: Floats) -> Floats:
        """As in `Latencies`."""
        latencies: Floats = np.exp(np.interp(1 - _normal_above(normal), self.below, self.logs))
        return latencies


_GRID = np.linspace(-9.0, 9.0, 36_001)
_ABOVE = np.array([0.5 * math.erfc(z / math.sqrt(2)) for z in _GRID])


def _normal_above(z: Floats) -> Floats:
    """The upper tail of the standard normal; numpy has none. Off by less than 1e-8."""
    tail: Floats = np.interp(z, _GRID, _ABOVE)
    return tail
