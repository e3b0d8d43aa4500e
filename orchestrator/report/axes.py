"""Where the ticks of an axis go, and what stands beside them: numbers that a person would have chosen.

An axis that is labelled 0, 3.71, 7.42 makes a chart unreadable, and one without a unit makes it worthless. Durations
have steps of their own, because nobody counts time in tens of minutes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from plans.units import show_duration

_DURATIONS = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(minutes * 60.0 for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * 3600.0 for hours in (1, 2, 3, 6, 12)),
    *(days * 86400.0 for days in (1, 2, 5, 7, 14, 30, 60, 90, 180, 365)),
)
_UNITS = (("us", 1.0), ("ms", 1e3), ("s", 1e6), ("min", 6e7))
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from `low` to `high`, with its ticks as (value, label)."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Where a value is: 0 at `low`, 1 at `high`; what lies outside is put on the edge."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def rates(top: float) -> Axis:
    """Of shares, from zero; `top` is 0..1. At least one percent high, so that one error in a thousand is no tower."""
    return _from_zero(max(0.01, top) * 100, 100, "%")


def latencies(top: float) -> Axis:
    """Of latencies, from zero; `top` in microseconds. The unit is the largest of which the top has at least one."""
    top = max(1.0, top)
    name, size = next(((name, size) for name, size in reversed(_UNITS) if top >= size), _UNITS[0])
    return _from_zero(top / size, 1 / size, f" {name}")


def times(longest: float) -> Axis:
    """Of seconds since something began."""
    longest = max(0.1, longest)
    step = next((step for step in _DURATIONS if longest / step <= 6), _DURATIONS[-1])
    count = int(longest / step + 1e-9)
    return Axis(0.0, longest, tuple((number * step, show_duration(number * step)) for number in range(count + 1)))


def evidence(values: Sequence[float], *, lowest: float, highest: float) -> Axis:
    """Of evidence in multiples of what is needed: always with 0 and 1, never below `lowest` or above `highest`."""
    finite = [value for value in values if math.isfinite(value)]
    high = min(highest, max(1.15, *finite, 0.0) if finite else 1.15)
    low = max(lowest, min(-0.1, *finite, 0.0) if finite else -0.1)
    if any(value == -math.inf for value in values):
        low = lowest
    step = 0.5 if high - low > 1.5 else 0.25
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(low, high, tuple((number * step, f"{number * step * 100:g}%") for number in range(first, last + 1)))


def _from_zero(top: float, scale: float, unit: str) -> Axis:
    """From 0 to a round number not below `top`, in a unit of which the axis' own value is `scale` times as much."""
    power = 10.0 ** math.floor(math.log10(top / 4))
    step = next(each * power for each in _STEPS if math.ceil(top / (each * power) - 1e-9) <= 5)
    count = max(1, math.ceil(top / step - 1e-9))
    ticks = tuple((number * step / scale, f"{number * step:.6g}{unit}") for number in range(count + 1))
    return Axis(0.0, count * step / scale, ticks)
