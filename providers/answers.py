"""Whether two answers to the same request are the same prediction, said without repeating what is in them.

A copy of a live request is only worth its cost when somebody looks at what came back. Bodies may hold what nobody but
the client may see, so all that leaves this module is one of three words, and a note that names a place, kinds, sizes
and the distance of two numbers, never a text. What cannot be compared is `unknown`, with the reason, and never `same`.

Pure and without dependencies, because processes of their own import it. Nothing that a model may answer makes it raise,
recurse without bound or take longer than a few passes over the bodies.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from providers.measurement import Comparison
from providers.paths import value_at

Word = Literal["same", "different", "unknown"]

NO_PATH = "path"
"""Reason: neither answer has what the path names."""
UNREADABLE = "unreadable"
"""Reason: the answers are nested too deeply to be read."""

FAILED, LARGE, LOST, ALONE = "failed", "large", "lost", "alone"
"""More reasons, of those who hand over bodies; `WHY` says each in words."""
WHY: Mapping[str, str] = {
    FAILED: "one of the two was no 2xx",
    LARGE: "one of the two is larger than 256 KiB",
    LOST: "an instance could not hand its answer over in time",
    ALONE: "only one of the two answers came",
    NO_PATH: "neither answer has the path",
    UNREADABLE: "they are nested too deeply",
}
"""Reason -> why a pair was left out, as a clause."""
NO_SECOND = "there is no second deployment whose answers it could be compared with"

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_EXACT = 2**53
_LARGEST = 1e300
_MISSING = object()
_NOT_JSON = object()
_TOO_DEEP = object()
_LONGEST_PATH = 200


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of it.

    Attributes:
        word: same, different, or unknown: it could not be compared.
        note: of a difference, where and how they differ, redacted; of an unknown one, the reason.
    """

    word: Word
    note: str = ""


_SAME = Compared("same")


class Answers:
    """Two bodies; they are parsed at most once, however many gates ask.

    Args:
        one, other: the bodies; which is whose makes no difference.
    """

    def __init__(self, one: bytes, other: bytes) -> None:
        self._one, self._other = one, other
        self._parsed: tuple[Any, Any] | None = None

    def compare(self, how: Comparison) -> Compared:
        """By this tolerance and at this path; `Comparison` says when two values are the same.

        Bodies that are no JSON are compared byte by byte. A path that only one of them has makes them different.
        """
        if how.path is None and self._one == self._other:
            return _SAME
        if self._parsed is None:
            one = _parse(self._one)
            self._parsed = one, one if self._one == self._other else _parse(self._other)
        one, other = self._parsed
        if one is _TOO_DEEP or other is _TOO_DEEP:
            return Compared("unknown", UNREADABLE)
        if how.path is not None:
            one, other = _at(one, how.path), _at(other, how.path)
            if one is _MISSING and other is _MISSING:
                return Compared("unknown", NO_PATH)
            if one is _MISSING or other is _MISSING:
                return Compared("different", _told(how, (), "only one of the answers has it"))
            if one is other:
                return _SAME
        elif one is _NOT_JSON and other is _NOT_JSON:
            sizes = f"{len(self._one)} and {len(self._other)} bytes"
            return Compared("different", f"the bodies differ: {sizes}, neither of them JSON")
        elif one is _NOT_JSON or other is _NOT_JSON:
            return Compared("different", "only one of the answers is JSON")
        note = _difference(one, other, how)
        return _SAME if note is None else Compared("different", note)


def compare(one: bytes, other: bytes, how: Comparison) -> Compared:
    """Two bodies by one comparison."""
    return Answers(one, other).compare(how)


def described(how: Comparison) -> str:
    """What is compared, as a person would say it: "predictions.0 within 1e-06 or 0.1%"."""
    tolerance = _tolerance(how)
    return f"{how.path or 'the whole answer'} {f'within {tolerance}' if tolerance else 'exactly equal'}"


def none_compared(left_out: Mapping[str, int]) -> str:
    """What is to be said when every pair was left out, as a clause; "" when there was none at all."""
    why = "; ".join(f"{count} because {reason}" for reason, count in left_out.items())
    return f"none of {sum(left_out.values())} pairs could be compared: {why}" if left_out else ""


def same_number(one: float, other: float, how: Comparison) -> bool:
    """Whether two numbers are within the tolerance; integers of any size are compared exactly.

    A tolerance is meant as written: 0.4 and 0.3 are within 0.1, though as binary fractions they are not. NaN is NaN's
    equal here, and an infinity only its own.
    """
    if one == other or (one != one and other != other):  # noqa: PLR0124  (NaN)
        return True
    if not how.absolute and not how.relative:
        return False
    if _infinite(one) or _infinite(other):
        return False
    if abs(one) > _EXACT or abs(other) > _EXACT:
        exact_one, exact_other = Fraction(one), Fraction(other)
        apart, larger = abs(exact_one - exact_other), max(abs(exact_one), abs(exact_other))
        return apart <= how.absolute or apart <= Fraction(min(how.relative, _LARGEST)) * larger
    distance, size = abs(one - other), max(abs(one), abs(other))
    rounding = math.ulp(size)
    return (how.absolute > 0 and distance <= how.absolute + rounding) or (
        how.relative > 0 and distance <= how.relative * size + rounding
    )


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        return _TOO_DEEP
    except ValueError:
        return _NOT_JSON


def _at(document: Any, path: str) -> Any:
    if document is _NOT_JSON:
        return _MISSING
    try:
        return value_at(document, path)
    except LookupError:
        return _MISSING


def _difference(one: Any, other: Any, how: Comparison) -> str | None:
    """The first difference in document order, or None. A stack of our own, so that depth costs no recursion."""
    stack: list[tuple[Any, Any, tuple[str, ...]]] = [(one, other, ())]
    while stack:
        one, other, place = stack.pop()
        if _is_number(one) and _is_number(other):
            if not same_number(one, other, how):
                return _told(how, place, f"numbers differ{_apart(one, other)} (tolerance {_tolerance(how) or '0'})")
        elif type(one) is not type(other):
            return _told(how, place, f"{_kind(one)} and {_kind(other)}")
        elif isinstance(one, list):
            if len(one) != len(other):
                return _told(how, place, f"lists of {len(one)} and {len(other)} items")
            stack.extend((one[index], other[index], (*place[:8], str(index))) for index in range(len(one) - 1, -1, -1))
        elif isinstance(one, dict):
            if one.keys() != other.keys():
                return _told(how, place, f"objects of {len(one)} and {len(other)} fields, not the same ones")
            stack.extend((one[key], other[key], (*place[:8], _shown(key))) for key in reversed(one))
        elif one != other:
            return _told(how, place, "texts differ" if isinstance(one, str) else "true and false")
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _infinite(value: float) -> bool:
    return value in {math.inf, -math.inf} or value != value  # noqa: PLR0124  (NaN)


def _apart(one: float, other: float) -> str:
    try:
        distance = abs(float(one - other))
    except OverflowError:
        return " by more than 1e+308"
    return f" by {distance:.3g}" if math.isfinite(distance) else ""


def _tolerance(how: Comparison) -> str:
    parts = [f"{how.absolute:g}"] if how.absolute else []
    parts += [f"{how.relative * 100:g}%"] if how.relative else []
    return " or ".join(parts)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if _is_number(value):
        return "a number"
    return "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def _shown(key: str) -> str:
    """A field's name; what looks like data in the place of a name is not shown."""
    return key if _PLAIN_KEY.fullmatch(key) else "*"


def _told(how: Comparison, place: tuple[str, ...], what: str) -> str:
    where = ".".join((*((how.path,) if how.path else ()), *place))
    return f"{where[:_LONGEST_PATH] or 'the answer'}: {what}"
