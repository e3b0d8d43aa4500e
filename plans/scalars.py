"""How each kind of scalar stands in a plan file, for an editor: as a pattern, and as what YAML makes of it unquoted.

The loader reads text and nothing else. An editor reads `100` as a number, `on` as text and `true` as a flag before it
asks a schema, so each kind says here which of these may stand for it. What is said is never stricter than the loader,
and as strict as a pattern can be. In place of any scalar there may be a variable, `${var:NAME}`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import AfterValidator, BeforeValidator, StringConstraints, WithJsonSchema
from pydantic.fields import FieldInfo

from plans import bounds, references, units
from plans.units import Shown, Wanted

Form = dict[str, Any]

VARIABLE = r"\$\{var:[A-Za-z_][A-Za-z0-9_]*\}"
"""What may stand for any scalar, or be a part of it."""
REFERENCE = r"\$\{(?:env:[A-Za-z_][A-Za-z0-9_]*|file:[^}]+)\}"
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_ANY_NUMBER = rf"[-+]?{_NUMBER}(?:[eE][-+]?[0-9]{{1,3}})?"
_POSITIVE = r"(?=[^1-9]*[1-9])"
_ANY_RATE = rf"{_POSITIVE}0*[0-9]?[0-9](?:\.[0-9]+)?\s*%"
_UNITS = "(ms|s|m|h|d)"


@dataclass(frozen=True, slots=True)
class Empty:
    """Part of a type: nothing at all may stand there, too."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From where to where a quantity may go, in its inner form; `above` and `below`: that far, and not quite."""

    low: float | None = None
    above: bool = False
    high: float | None = None
    below: bool = False

    @classmethod
    def among(cls, metadata: Iterable[Any]) -> "Limits":
        """The strictest of those in a type's metadata."""
        found = cls()
        for each in metadata:
            match each:
                case Ge(ge=float() | int() as low) | Gt(gt=float() | int() as low) if (
                    found.low is None or low >= found.low
                ):
                    found = replace(found, low=low, above=isinstance(each, Gt))
                case Le(le=float() | int() as high) | Lt(lt=float() | int() as high) if (
                    found.high is None or high <= found.high
                ):
                    found = replace(found, high=high, below=isinstance(each, Lt))
        return found

    @property
    def positive(self) -> str:
        """A look ahead for a digit that is not zero, where zero is too little."""
        return _POSITIVE if self.above else ""

    def numbers(self) -> Form:
        """The same as keywords for numbers."""
        low, high = "exclusiveMinimum" if self.above else "minimum", "exclusiveMaximum" if self.below else "maximum"
        return {key: value for key, value in ((low, self.low), (high, self.high)) if value is not None}


def flat(metadata: Iterable[Any]) -> Iterator[Any]:
    """What `Annotated` adds to a type, with the constraints in it one by one."""
    for each in metadata:
        if isinstance(each, FieldInfo):
            yield from flat(each.metadata)
        else:
            yield each


def quantity(metadata: Iterable[Any]) -> str | None:
    """What a quantity is called: `duration`, or `positive_duration` where zero is too little; None for other kinds."""
    metadata = tuple(metadata)
    found = next((each for each in metadata if _is_known(each)), None)
    if found is None:
        return None
    empty = "_or_nothing" if Empty() in metadata or _EMPTY_IS_ALL in metadata else ""
    return ("positive_" if Limits.among(metadata).above else "") + FORMS[found][0] + empty


def scalar(kind: type, metadata: Sequence[Any]) -> Form | None:
    """The form of a scalar of this type: its `type`, and what limits each of these types; None when it is no scalar.

    `type` is always a list: of one type alone the YAML language server says "Expected string", and not the message.
    """
    limits = Limits.among(metadata)
    parser = next((each for each in metadata if _is_known(each)), None)
    if parser is not None:
        found = FORMS[parser][1](limits)
    elif kind in _BASES:
        found = _BASES[kind](limits, metadata)
    else:
        return None
    if _EMPTY_IS_ALL in metadata or Empty() in metadata:
        found["type"] = [*found["type"], "null"]
    if "pattern" in found:
        found["pattern"] = f"{found['pattern']}|{VARIABLE}"
        found |= _message(metadata, limits)
    examples = [each.json_schema for each in metadata if isinstance(each, WithJsonSchema) and each.json_schema]
    return _unhelpful_left_out(kind, found) | ({"examples": examples[0]["examples"]} if examples else {})


def _unhelpful_left_out(kind: type, form: Form) -> Form:
    """The same form without what would make an editor offer or name the wrong thing."""
    if kind is str and "boolean" in form["type"]:
        # Among the types, it would have `true` and `false` offered wherever text is asked for.
        other = form | {"type": [each for each in form["type"] if each != "boolean"]}
        return {"if": {"type": ["boolean"]}, "else": other}
    if form.get("maximum") == 0:
        # As a limit, it would be what is complained of where a unit is missing.
        kept = {name: value for name, value in form.items() if name not in ("minimum", "maximum")}
        return {"anyOf": [kept | {"type": [each for each in form["type"] if each != "integer"]}, {"const": 0}]}
    return form


def key(metadata: Sequence[Any]) -> Form:
    """The form of a mapping's key, which an editor always reads as text."""
    found = _text(Limits(), metadata)
    kept = {name: found[name] for name in ("pattern", "minLength", "maxLength", "not") if name in found}
    return kept | _message(metadata, Limits())


def _message(metadata: Iterable[Any], limits: Limits) -> Form:
    """What some editors show instead of naming the keyword that was not met."""
    metadata = tuple(metadata)
    show = next((each.show for each in metadata if isinstance(each, Shown)), str)
    bounds = [f"more than {show(limits.low)}"] if limits.above and limits.low is not None else []
    bounds += [f"less than {show(limits.high)}"] if limits.below and limits.high is not None else []
    more = f" ({' and '.join(bounds)})" if bounds else ""
    wanted = next((each for each in metadata if isinstance(each, Wanted)), None)
    if wanted is not None:
        return {"errorMessage": f"Write {wanted.form}."}
    for each in metadata:
        if each == _NO_REFERENCE:
            return {"patternErrorMessage": "A reference to a secret cannot stand here: write the text itself."}
        if each == _IS_REFERENCE:
            return {"errorMessage": ELSEWHERE}
        if _is_known(each):
            try:
                each.func("?")
            except ValueError as error:
                return {"errorMessage": "This " + str(error).split("` ", 1)[1] + f"{more}."}
    return {}


# --- quantities ---


def _quantity(pattern: str, *more: str) -> Form:
    return {"type": ["string", *more], "pattern": rf"^\s*(?:{pattern})\s*$"}


def _percent(limits: Limits, per_percent: float, fraction: str) -> Form:
    top = round((limits.high or 0) / per_percent)
    whole = rf"0*[0-{top // 10 - 1}]?[0-9]{fraction}" + ("" if limits.below else rf"|0*{top}(?:\.0+)?")
    return _quantity(rf"{limits.positive}(?:{whole})\s*%")


def _duration(limits: Limits) -> Form:
    twice = rf"(?!.*[0-9]{_UNITS}(?![a-z]).*[0-9]\1(?![a-z]))"
    zero = "" if limits.above else "0|"
    found = _quantity(rf"{zero}{limits.positive}{twice}(?:{_NUMBER}{_UNITS})+")
    return found if limits.above else found | {"type": ["string", "integer"], "minimum": 0, "maximum": 0}


def _ratio(limits: Limits) -> Form:
    return _quantity(rf"{limits.positive}{_NUMBER}x?", "number") | limits.numbers()


def _number(limits: Limits) -> Form:
    return _quantity(_ANY_NUMBER, "number") | limits.numbers()


def _bound(_: Limits) -> Form:
    most = {"minimum": -bounds.LARGEST, "maximum": bounds.LARGEST}
    return _quantity(rf"{_ANY_NUMBER}|{_ANY_RATE}", "number") | most


def _increase(_: Limits) -> Form:
    most = {"minimum": 0, "maximum": bounds.LARGEST}
    return _quantity(rf"(?!-[^1-9]*[1-9])(?:{_ANY_NUMBER}|{_ANY_RATE})", "number") | most


def _quantile(_: Limits) -> Form:
    return _quantity(r"p(?:[5-8][0-9](?:\.[0-9]+)?|9[0-8](?:\.[0-9]+)?|99(?:\.[0-8][0-9]*|\.90*)?)")


def _burst(_: Limits) -> Form:
    count = {"minimum": 1, "maximum": 1_000_000}
    return _quantity(rf"{_POSITIVE}(?:[0-9]{{1,12}}|{_NUMBER}\s*/\s*[smh])", "integer") | count


def _error_class(_: Limits) -> Form:
    words = "|".join(map(_any_case, ("timeout", "time-out", "reset")))
    return _quantity(f"[1-5](?:[xX]{{2}}|[0-9]{{2}})|{words}", "integer") | {"minimum": 100, "maximum": 599}


def _any_case(word: str) -> str:
    return "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in word)


def _is_known(each: Any) -> bool:
    return isinstance(each, BeforeValidator) and each in FORMS


def _parser(alias: Any) -> BeforeValidator:
    """What tells a quantity from others of the same inner form: how it is read."""
    return next(each for each in reversed(get_args(alias)) if isinstance(each, BeforeValidator))


FORMS: Mapping[BeforeValidator, tuple[str, Callable[[Limits], Form]]] = {
    _parser(units.Share): ("share", lambda limits: _percent(limits, 10, r"(?:\.[0-9]0*)?")),
    _parser(units.Rate): ("rate", lambda limits: _percent(limits, 0.01, r"(?:\.[0-9]+)?")),
    _parser(units.Duration): ("duration", _duration),
    _parser(units.Latency): ("latency", lambda _: _quantity(rf"{_POSITIVE}{_NUMBER}\s*(?:us|ms|s)")),
    _parser(units.Frequency): ("frequency", lambda _: _quantity(rf"{_POSITIVE}{_NUMBER}\s*/\s*[smh]")),
    _parser(units.Ratio): ("ratio", _ratio),
    _parser(bounds.Number): ("number", _number),
    _parser(bounds.AnyBound): ("bound", _bound),
    _parser(bounds.Increase): ("increase", _increase),
    _parser(units.Quantile): ("quantile", _quantile),
    _parser(units.Burst): ("burst", _burst),
    _parser(units.ErrorClass): ("error_class", _error_class),
}
"""How a quantity is read -> what it is called, and its form."""
_EMPTY_IS_ALL = _parser(units.Promoted)


# --- what has no unit ---


def _integer(limits: Limits, _: Sequence[Any]) -> Form:
    return _quantity(r"[-+]?[0-9]+(?:_[0-9]+)*(?:\.0*)?", "integer") | limits.numbers()


def _flag(*_: Any) -> Form:
    words = "|".join(map(_any_case, ("on", "off", "yes", "no", "true", "false", "t", "f", "y", "n")))
    return _quantity(f"{words}|[01]", "boolean", "integer") | {"minimum": 0, "maximum": 1}


def checks(alias: Any) -> list[AfterValidator]:
    """What a type does with a value that was read."""
    return [each for each in get_args(alias) if isinstance(each, AfterValidator)]


ELSEWHERE = "A secret stands elsewhere: write ${env:NAME} or ${file:path}."
SECRET_HEADER = "".join(map(_any_case, references.SECRET_NAME.pattern))
"""Names of headers whose values are secret."""
(_NOT_RESERVED,) = checks(units.DeploymentName)
_IS_REFERENCE = checks(units.Secret)[-1]
_NO_REFERENCE = AfterValidator(references.no_reference)
_GOOD_REFERENCES = AfterValidator(references.good_references)
NONE_AT_ALL = r"^(?![\s\S]*\$\{(?:env|file):)"
"""Text without a reference."""
ONLY_GOOD = r"^(?![\s\S]*(?:[\x00-\x1f\x7f]|\$\{(?!env:[A-Za-z_][A-Za-z0-9_]*\}|file:[^}]+\}|var:)))"
"""Text in which every reference is one."""


def _text(_: Limits, metadata: Sequence[Any]) -> Form:
    found: Form = {"type": ["string"]}
    pattern = ""
    for each in metadata:
        if isinstance(each, StringConstraints):
            pattern = each.pattern if isinstance(each.pattern, str) else pattern
            found |= {"maxLength": each.max_length} if each.max_length is not None else {}
        elif isinstance(each, MinLen):
            found["minLength"] = each.min_length
        elif isinstance(each, MaxLen):
            found["maxLength"] = each.max_length
        elif each == _NOT_RESERVED:
            found["not"] = {"enum": ["stable", "candidate", "endpoint"]}
        elif each == _NO_REFERENCE:
            pattern = NONE_AT_ALL + pattern.removeprefix("^")
        elif each == _GOOD_REFERENCES:
            pattern = ONLY_GOOD + pattern.removeprefix("^")
        elif each == _IS_REFERENCE:
            pattern = rf"{pattern}[\s\S]*{REFERENCE}"
    # A name such as `42` or `true` is text for the loader, and a number or a flag for the editor.
    for kind, samples in (("number", ("7", "42", "1234567", "0.5")), ("boolean", ("true", "false"))):
        if any(re.search(pattern, sample) for sample in samples):
            found["type"].append(kind)
    return found | ({"pattern": pattern} if pattern else {})


_BASES: Mapping[type, Callable[[Limits, Sequence[Any]], Form]] = {str: _text, int: _integer, bool: _flag}
