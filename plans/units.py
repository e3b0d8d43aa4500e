"""Quantities and words as people write them, and as the code holds them.

YAML would read `17:00` as 1020 and `on` as true, so every scalar arrives here as text and is read by the type of its
field. Numbers that arrive as numbers are already in the inner form (a plan that was stored and is read back).

| written | inner form |
|---|---|
| share of traffic, `10%`, `0.5%` | int, tenths of a percent, 0..1000 |
| rate, `2%`, `0.05%` | float, 0..1 |
| duration, `30s`, `10m`, `1h30m`, `2d` | float, seconds |
| latency, `250ms`, `1.5s`, `800us` | int, microseconds |
| frequency, `200/s`, `30/m` | float, per second |
| flag, `on`, `true`, `yes` | bool |
| one thing or a list of it | tuple |
| reference to a secret, `${env:NAME}`, `${file:path}` | as written: the value is looked up when it is sent |
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from plans import references
from plans.errors import problem, quoted, raise_all, refuse

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_DURATION = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_DURATION_PART = re.compile(_NUMBER + r"(ms|s|m|h|d)")
_LATENCY = re.compile(_NUMBER + r"\s*(us|ms|s)")
_MICROSECONDS = {"us": 1, "ms": 1000, "s": 1_000_000}
_PERCENT = re.compile(_NUMBER + r"\s*%")
_FREQUENCY = re.compile(_NUMBER + r"\s*/\s*(s|m|h)")
_SECONDS_OF = {"s": 1, "m": 60, "h": 3600}
_RATIO = re.compile(_NUMBER + r"x?")
_QUANTILE = re.compile(r"p([0-9]{2}(?:\.[0-9]+)?)")
_LONGEST = 366 * 86400.0
_LONGEST_TEXT = 40  # bounds what the patterns above have to look at
_SLOWEST = 3600 * 1_000_000
_RAREST, _MOST_OFTEN = 1 / 3600, 1_000_000.0


def _fit(pattern: re.Pattern[str], value: str, otherwise: str) -> re.Match[str]:
    match = pattern.fullmatch(value.strip()) if len(value) <= _LONGEST_TEXT else None
    if match is None:
        raise ValueError(f"{quoted(value)} is not {otherwise}")
    return match


def parse_share(value: object) -> object:
    """`10%` -> 100. Raises ValueError when it is not a percentage of at most one decimal between 0% and 100%."""
    if not isinstance(value, str):
        return value
    match = _fit(_PERCENT, value, "a share of traffic: write a percentage such as 10% or 0.5%")
    tenths = Decimal(match[1]) * 10
    if tenths > 1000:
        raise ValueError(f"{quoted(value)} is more than 100%")
    if tenths != int(tenths):
        raise ValueError(f"{quoted(value)} is too fine: shares of traffic go in steps of 0.1%")
    return int(tenths)


def parse_rate(value: object) -> object:
    """`2%` -> 0.02. Raises ValueError when it is not a percentage between 0% and 100%."""
    if not isinstance(value, str):
        return value
    match = _fit(_PERCENT, value, "a rate: write a percentage such as 2% or 0.05%")
    rate = float(Decimal(match[1]) / 100)
    if rate > 1:
        raise ValueError(f"{quoted(value)} is more than 100%")
    return rate


def parse_duration(value: object) -> object:
    """`1h30m` -> 5400.0. Raises ValueError when it is not a duration, or is longer than a year."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text == "0":
        return 0.0
    parts = _DURATION_PART.findall(text) if len(value) <= _LONGEST_TEXT else []
    units = [unit for _, unit in parts]
    if not parts or "".join(n + unit for n, unit in parts) != text or len(set(units)) != len(units):
        raise ValueError(f"{quoted(value)} is not a duration: write 30s, 10m, 1h30m or 2d")
    seconds = float(sum(Decimal(n) * _DURATION[unit] for n, unit in parts))
    if seconds > _LONGEST:
        raise ValueError(f"{quoted(value)} is longer than a year")
    return seconds


def parse_latency(value: object) -> object:
    """`250ms` -> 250000. Raises ValueError when it is not a latency, or is zero."""
    if not isinstance(value, str):
        return value
    match = _fit(_LATENCY, value, "a latency: write 250ms, 1.5s or 800us")
    microseconds = round(Decimal(match[1]) * _MICROSECONDS[match[2]])
    if not 0 < microseconds <= _SLOWEST:
        raise ValueError(f"{quoted(value)} is out of range: a latency is more than 0 and at most 3600s")
    return microseconds


def parse_frequency(value: object) -> object:
    """`200/s` -> 200.0. Raises ValueError when it is not a frequency, or out of range."""
    if not isinstance(value, str):
        return value
    match = _fit(_FREQUENCY, value, "a frequency: write 200/s, 30/m or 600/h")
    per_second = float(Decimal(match[1]) / _SECONDS_OF[match[2]])
    if not _RAREST <= per_second <= _MOST_OFTEN:
        raise ValueError(f"{quoted(value)} is out of range: a frequency is from 1/h to 1000000/s")
    return per_second


def parse_ratio(value: object) -> object:
    """`1.5` -> 1.5; also `1.5x`. Raises ValueError when it is not a number of 0 or more."""
    if not isinstance(value, str):
        return value
    return float(_fit(_RATIO, value, "a ratio: write a number such as 1.5")[1])


def parse_quantile(value: object) -> object:
    """`p99.9` -> 0.999. Raises ValueError outside p50..p99.9."""
    if not isinstance(value, str):
        return value
    otherwise = "a quantile: write p50, p95, p99 or any up to p99.9"
    match = _fit(_QUANTILE, value, otherwise)
    if not 50 <= float(match[1]) <= 99.9:
        raise ValueError(f"{quoted(value)} is not {otherwise}")
    return round(float(match[1]) / 100, 6)


def _plain(number: float, digits: int) -> str:
    """A positive number with so many significant digits, never in the form 1e+03."""
    text = f"{Decimal(f'{number:.{digits}g}'):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def show_share(tenths: int) -> str:
    """100 -> `10%`."""
    return f"{tenths / 10:g}%"


def show_split(split: Mapping[str, int], *, empty: str = "nothing") -> str:
    """{"blue": 900, "green": 100} -> `blue 90%, green 10%`; `empty` without any share."""
    return ", ".join(f"{name} {show_share(share)}" for name, share in sorted(split.items()) if share) or empty


def show_rate(rate: float) -> str:
    """0.0214 -> `2.1%`: two significant digits, and never `0%` for what is not zero."""
    percent = rate * 100
    return f"{_plain(percent, 2) if percent < 10 else _plain(round(percent, 1), 4)}%"


def show_duration(seconds: float) -> str:
    """5400.0 -> `1h30m`: the two largest units; below ten seconds one decimal, below one second milliseconds."""
    if 0 < seconds < 1:
        return "1s" if seconds >= 0.9995 else f"{max(1, round(seconds * 1000))}ms"
    if seconds < 9.95 and seconds != int(seconds):
        return f"{round(seconds, 1):g}s"
    left, parts = round(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"


def show_latency(microseconds: float) -> str:
    """41_000 -> `41 ms`: three significant digits."""
    if microseconds < 999.5:
        return f"{microseconds:.0f} us"
    if microseconds < 999_500:
        return f"{_plain(microseconds / 1000, 3)} ms"
    return f"{_plain(microseconds / 1_000_000, 3 if microseconds < 999_500_000 else 4)} s"


def show_quantile(quantile: float) -> str:
    """0.95 -> `p95`."""
    return f"p{quantile * 100:g}"


def show_frequency(per_second: float) -> str:
    """200.0 -> `200/s`."""
    return f"{_plain(per_second, 4)}/s"


def show_ratio(ratio: float) -> str:
    """1.1 -> `1.1`."""
    return _plain(ratio, 6)


# What is shown is rounded for a reader; what is written is exact, so that it is the same when it is read again.


def _exact(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def write_rate(rate: float) -> str:
    """0.0005 -> `0.05%`."""
    return f"{_exact(Decimal(repr(rate)) * 100)}%"


def write_duration(seconds: float) -> str:
    """5400.5 -> `1h30m0.5s`; below one second in milliseconds where that is whole."""
    left = Decimal(repr(seconds))
    if 0 < left < 1 and left * 1000 == int(left * 1000):
        return f"{int(left * 1000)}ms"
    parts = []
    for unit in ("d", "h", "m"):
        count, left = divmod(left, _DURATION[unit])
        parts += [f"{int(count)}{unit}"] if count else []
    return "".join([*parts, f"{_exact(left)}s" if left else ""]) or "0s"


def write_latency(microseconds: int) -> str:
    """250_000 -> `250ms`: in the largest unit of which there is one."""
    unit = next((unit for unit in ("s", "ms") if microseconds >= _MICROSECONDS[unit]), "us")
    return f"{_exact(Decimal(microseconds) / _MICROSECONDS[unit])}{unit}"


def write_frequency(per_second: float) -> str:
    """0.5 -> `0.5/s`, 1/60 -> `1/m`: the shortest that is exact."""
    ways = [f"{_exact(Decimal(repr(per_second)))}/s"]
    ways += [f"{_exact(Decimal(f'{per_second * s:.15g}'))}/{unit}" for unit, s in _SECONDS_OF.items()]
    return min((way for way in ways if parse_frequency(way) == per_second), key=len)


def write_ratio(ratio: float) -> str:
    """1.1 -> `1.1`."""
    return _exact(Decimal(repr(ratio)))


def write_quantile(quantile: float) -> str:
    """0.999 -> `p99.9`."""
    return f"p{_exact(Decimal(repr(quantile)) * 100)}"


@dataclass(frozen=True, slots=True)
class Shown:
    """Part of a type: how its inner form is shown, so that a message about a limit speaks as the user does, and how it
    is written into a plan.
    """

    show: Callable[[float], str]
    write: Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Part of a type with a pattern: what a person is told who did not meet it."""

    form: str


def _text(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


Share = Annotated[
    int,
    BeforeValidator(parse_share),
    Field(ge=0, le=1000),
    Shown(lambda v: show_share(int(v)), show_share),
    _text(r"^\d+(\.\d0*)?\s*%$", "10%"),
]
Rate = Annotated[
    float,
    BeforeValidator(parse_rate),
    Field(ge=0, le=1),
    Shown(show_rate, write_rate),
    _text(r"^\d+(\.\d+)?\s*%$", "2%"),
]
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(ge=0, le=_LONGEST),
    Shown(show_duration, write_duration),
    _text(r"^(0|(\d+(\.\d+)?(ms|s|m|h|d))+)$", "10m"),
]
Latency = Annotated[
    int,
    BeforeValidator(parse_latency),
    Field(gt=0, le=_SLOWEST),
    Shown(show_latency, write_latency),
    _text(r"^\d+(\.\d+)?\s*(us|ms|s)$", "250ms"),
]
Frequency = Annotated[
    float,
    BeforeValidator(parse_frequency),
    Field(ge=_RAREST, le=_MOST_OFTEN),
    Shown(show_frequency, write_frequency),
    _text(r"^\d+(\.\d+)?\s*/\s*(s|m|h)$", "200/s"),
]
Ratio = Annotated[float, BeforeValidator(parse_ratio), Field(ge=0, le=1000), Shown(show_ratio, write_ratio)]
Quantile = Annotated[
    float,
    BeforeValidator(parse_quantile),
    Field(ge=0.5, le=0.999),
    Shown(show_quantile, write_quantile),
    _text(r"^p\d{2}(\.\d+)?$", "p95"),
]


# --- words ---


def one_or_many(value: object) -> object:
    """`x` -> [`x`]; a list stays one."""
    return [value] if isinstance(value, str | int) else value


def _flag(value: object) -> object:
    words = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def _error_class(value: object) -> object:
    if not isinstance(value, str):
        return value
    code = value.strip().lower()
    if code in ("timeout", "time-out"):
        return "timeout"
    if not re.fullmatch(r"[1-5]xx|[1-5][0-9][0-9]|reset", code):
        raise ValueError(f"{quoted(value)} is no class of errors: write 5xx, 429, timeout or reset")
    return code


def parse_load(value: object) -> object:
    """`500` -> 500 requests, `200/s` -> 200.0 a second. Raises ValueError when it is neither."""
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"[0-9]{1,12}", value):
        if not 1 <= int(value) <= 1_000_000:
            raise ValueError(f"{quoted(value)} is out of range: a count is from 1 to 1000000")
        return int(value)
    if "/" not in value:
        raise ValueError(f"{quoted(value)} is neither a count such as 500 nor a frequency such as 200/s")
    return parse_frequency(value)


def _not_nothing(shares: tuple[int, ...]) -> tuple[int, ...]:
    message = "0% is no traffic at all; write more, such as 1%, or remove it"
    raise_all(problem("no_share", message, i) for i, share in enumerate(shares) if share == 0)
    return shares


def _partial_and_growing(shares: tuple[int, ...]) -> tuple[int, ...]:
    for i, share in enumerate(shares):
        if share == 1000:
            raise_all([problem("whole", "a canary of 100% is what `promote` is for; write `promote: 100%`", i)])
        if i and share <= shares[i - 1]:
            message = f"{show_share(share)} after {show_share(shares[i - 1])}: a canary only grows; sort the list"
            raise_all([problem("shrinks", message, i)])
    return shares


def _not_reserved(name: str) -> str:
    if name in ("stable", "candidate", "endpoint"):
        refuse("reserved", f"`{name}` is a word of the plan language; give the deployment another name, such as blue")
    return name


def _is_reference(text: str) -> str:
    if not references.has_reference(text):
        refuse("plain_secret", "a secret in plain text would be stored and shown; write ${env:NAME} or ${file:path}")
    return text


Flag = Annotated[bool, BeforeValidator(_flag)]
Names = Annotated[tuple[str, ...], BeforeValidator(one_or_many)]
ErrorClass = Annotated[str, BeforeValidator(_error_class), Shown(str, str)]
ErrorClasses = Annotated[tuple[ErrorClass, ...], BeforeValidator(one_or_many), Field(min_length=1)]
Shares = Annotated[tuple[Share, ...], BeforeValidator(one_or_many), Field(min_length=1), AfterValidator(_not_nothing)]
GrowingShares = Annotated[Shares, AfterValidator(_partial_and_growing)]
Promoted = Annotated[Annotated[Share, Field(gt=0)], BeforeValidator(lambda v: 1000 if v is None else v)]
Burst = Annotated[Annotated[int, Field(ge=1, le=1_000_000)] | Frequency, BeforeValidator(parse_load)]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{quoted(name)} is no time zone: write a name such as Europe/Berlin, or UTC") from None
    return name


Slug = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
    Wanted("1 to 63 lower-case letters, digits and dashes, from a letter or digit to a letter or digit"),
]
Name = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]$"),
    Wanted("3 to 32 letters, digits and dashes, from a letter to a letter or digit"),
]
VarName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"),
    Wanted("1 to 64 letters, digits and underscores, not beginning with a digit"),
]
VarValue = Annotated[str, StringConstraints(max_length=10_000)]
DeploymentName = Annotated[Name, AfterValidator(_not_reserved)]
TimeOfDay = Annotated[
    str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$"), Wanted("a time of day such as 09:00")
]
Zone = Annotated[str, AfterValidator(_known_zone)]
UrlPath = Annotated[
    str,
    StringConstraints(pattern=r"^/[\x21-\x7e]*$"),
    Wanted("a path from / on, without spaces"),
    AfterValidator(references.no_reference),
]
Body = Annotated[str, AfterValidator(references.no_reference)]
Text = Annotated[str, Field(min_length=1), AfterValidator(references.no_reference)]
Url = Annotated[
    str,
    StringConstraints(pattern=r"^(https?://\S+|\$\{(env|file):[^}]+\}\S*)$"),
    Wanted("a URL that begins with https:// or http://, or a reference such as ${env:HOOK_URL}"),
    AfterValidator(references.good_references),
    AfterValidator(references.no_plain_password),
]
_HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"), Wanted("the name of an HTTP header")
]
Headers = Annotated[
    dict[_HeaderName, Annotated[str, AfterValidator(references.good_references)]],
    AfterValidator(references.no_plain_secrets),
]
Secret = Annotated[str, AfterValidator(references.good_references), AfterValidator(_is_reference)]
