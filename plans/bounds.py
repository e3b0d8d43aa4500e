"""Plain numbers, and bounds that are a rate or a number, whichever the figures are that they bound.

Only a metric from elsewhere has such bounds: whether it counts bad ones among all, or tells one value for each point in
time, is known to the metric and not to the plan. So a bound remembers how it was written, and whoever knows the metric
tells whether it fits.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from plans.errors import quoted, refuse
from plans.units import Shown, parse_rate, show_rate, write_rate

_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?")
_LONGEST_TEXT = 40
LARGEST = 1e15
"""Of numbers, on both sides of zero: what is beyond is a mistake, and infinity."""


def parse_number(value: object) -> object:
    """`1e-6` -> 0.000001. Raises ValueError when it is no number."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if len(value) > _LONGEST_TEXT or not _NUMBER.fullmatch(text):
        raise ValueError(f"{quoted(value)} is not a number: write one such as 0.001 or 250")
    return float(text)


def write_number(number: float) -> str:
    """0.000001 -> `0.000001`, 1e+300 -> `1e+300`: exact, and plain where that is short."""
    plain = f"{Decimal(repr(number)):f}"
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return plain if len(plain) <= 20 else repr(number)


def show_number(number: float) -> str:
    """0.25 -> `0.25`: six significant digits."""
    return f"{number:g}"


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit for figures from elsewhere.

    Attributes:
        value: a rate as 0..1, or a number in the figures' own unit.
        rate: whether it was written as a percentage, for counts; a number is for values.
    """

    value: float
    rate: bool

    def __str__(self) -> str:
        return show_rate(self.value) if self.rate else show_number(self.value)


def parse_bound(value: object) -> object:
    """`1%` -> Bound(0.01, rate=True), `250` -> Bound(250.0, rate=False). Raises ValueError when it is neither."""
    if isinstance(value, Bound):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Bound(float(value), rate=False)
    if isinstance(value, str) and value.strip().endswith("%"):
        rate = parse_rate(value)
        assert isinstance(rate, float)
        return Bound(rate, rate=True)
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not _NUMBER.fullmatch(value.strip()):
        found = quoted(value) if isinstance(value, str) else "this"
        raise ValueError(f"{found} is not a bound: write a rate such as 1%, or a number such as 250")
    return Bound(float(value), rate=False)


def parse_increase(value: object) -> object:
    """The same for what comes on top of something. Raises ValueError also when it is less than 0."""
    bound = parse_bound(value)
    if isinstance(bound, Bound) and bound.value < 0:
        raise ValueError(f"`{bound}` is out of range: an increase is at least 0")
    return bound


def write_bound(bound: Bound) -> str:
    """Bound(0.01, rate=True) -> `1%`."""
    return write_rate(bound.value) if bound.rate else write_number(bound.value)


def _possible(bound: Bound) -> Bound:
    if not abs(bound.value) <= LARGEST:
        refuse("out_of_range", f"`{bound}` is out of range: a number is at most {show_number(LARGEST)}")
    if bound.rate and not 0 < bound.value < 1:
        refuse("out_of_range", f"`{bound}` is out of range: a rate must be more than 0% and less than 100%")
    return bound


_WRITTEN = (
    AfterValidator(_possible),
    PlainSerializer(write_bound, return_type=str),
    Shown(str, write_bound),
)
Number = Annotated[
    float, BeforeValidator(parse_number), Field(ge=-LARGEST, le=LARGEST), Shown(show_number, write_number)
]
AnyBound = Annotated[Bound, BeforeValidator(parse_bound), *_WRITTEN]
Increase = Annotated[Bound, BeforeValidator(parse_increase), *_WRITTEN]
