"""The types of the plan language in the words of those who write plans: what may stand in a field, and its default.

Walks pydantic's models. A type that nobody gave words to is an error, so that a new field cannot slip into the
reference as an internal name.
"""

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import plan_examples as said
from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen, MinLen
from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from plans import units
from plans.gates import EXTERNAL, KINDS
from plans.steps import STEPS

READ_BY: Mapping[str, str] = {
    "parse_share": "share",
    "parse_rate": "rate",
    "parse_duration": "duration",
    "parse_latency": "latency",
    "parse_frequency": "frequency",
    "parse_ratio": "ratio",
    "parse_quantile": "quantile",
    "parse_number": "number",
    "parse_bound": "rate or number",
    "parse_increase": "rate or number",
    "parse_load": "count or frequency",
    "flag": "flag",
    "error_class": "class of errors",
}
"""Function that reads a value -> what people call such a value; each is explained under "How values are written"."""

FORMS: Mapping[str, tuple[str, str]] = {
    "share": ("of traffic: a percentage with at most one decimal", "`10%`, `0.5%`"),
    "rate": ("a percentage", "`2%`, `0.05%`"),
    "duration": ("one or more of `ms`, `s`, `m`, `h`, `d`, the largest first; at most a year", "`30s`, `10m`, `1h30m`"),
    "latency": ("a number with `us`, `ms` or `s`; at most an hour", "`250ms`, `1.5s`, `800us`"),
    "frequency": ("a number per `s`, `m` or `h`", "`200/s`, `30/m`, `600/h`"),
    "ratio": ("a number, with or without an `x`", "`1.5`, `1.10x`"),
    "number": ("a number", "`0.001`, `250`, `-2.5`, `1e-6`"),
    "rate or number": ("a percentage for counts, a number for values", "`1%`, `250`, `-2.5`"),
    "quantile": ("from `p50` to `p99.9`", "`p50`, `p95`, `p99.9`"),
    "count or frequency": ("a whole number of requests, or how many a second", "`500`, `200/s`"),
    "flag": ("yes or no", "`on`, `off`, `true`, `false`, `yes`, `no`"),
    "class of errors": ("a status, a class of statuses, or `timeout`, `reset`", "`5xx`, `429`, `timeout`, `reset`"),
}
"""What people call a value -> how it is written, examples (which a test reads back)."""


TITLES: Mapping[str, str] = {EXTERNAL: "A metric from elsewhere"}
"""Headings of steps and gates that are not their own word."""


def _wanted(annotation: Any) -> str:
    found = [m.form for m in getattr(annotation, "__metadata__", ()) if isinstance(m, units.Wanted)]
    return found[0] if found else ""


NAMES: Mapping[str, str] = {
    _wanted(units.Slug): "name",
    _wanted(units.Name): "deployment's name",
    _wanted(units.VarName): "variable's name",
    _wanted(units.TimeOfDay): "time of day",
    _wanted(units.UrlPath): "path",
    _wanted(units.Url): "URL",
    "a dotted path such as predictions.0.label": "dotted path",
}
"""Long forms of the models' own, in short."""

CHECKED_BY: Mapping[str, str] = {"is_reference": "[reference](#how-values-are-written)", "known_zone": "time zone"}
"""The same for types that are told by the function that checks them."""


def fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """A model's fields by the names that people write."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def words(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """What may be written, in the user's words, with its range. Raises ValueError where there are no words."""
    if get_origin(annotation) is Annotated:
        inner, *own = get_args(annotation)
        return words(inner, (*own, *metadata))
    readers = [_name(m) for m in metadata if isinstance(m, BeforeValidator)]
    known = next((READ_BY[reader] for reader in readers if reader in READ_BY), None)
    if known is not None:
        return f"[{known}](#how-values-are-written){_range(metadata, annotation)}"
    checks = [_name(m) for m in metadata if isinstance(m, AfterValidator)]
    if checked := next((CHECKED_BY[check] for check in checks if check in CHECKED_BY), None):
        return checked
    if form := next((m.form for m in metadata if isinstance(m, units.Wanted)), None):
        return NAMES.get(form, form)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        for section, models in (("step", STEPS), ("gate", KINDS)):
            if {_bare(each) for each in arguments} == set(models.values()):
                return f"[{section}](#{section}s)"
        return " or ".join(dict.fromkeys(words(each) for each in arguments if each is not type(None)))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return _several(annotation, readers) + _count(metadata)
    if origin is dict:
        key, value = map(words, arguments)
        return "mapping" if value == "anything" else f"mapping of {key} to {value}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return link(annotation)
    plain = {str: "text", int: "whole number", float: "number", bool: "flag", Any: "anything"}
    if annotation not in plain:
        raise ValueError(f"there are no words for {annotation!r}: add them to docs/generate.py")
    return plain[annotation] + _range(metadata, annotation)


def _name(validator: BeforeValidator | AfterValidator) -> str:
    return str(getattr(validator.func, "__name__", "")).lstrip("_")


def _several(annotation: Any, readers: list[str]) -> str:
    entry = "name" if annotation == tuple[str, ...] else words(get_args(annotation)[0])
    if "one_or_many" in readers:
        return f"{entry}, or a list of such"
    return f"list of {entry}s" if entry.isalpha() else f"list of: {entry}"


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def link(model: type[BaseModel]) -> str:
    """A link to the section of a model. Raises KeyError where it has none."""
    name = next((name for name, its in (*STEPS.items(), *KINDS.items()) if its is model), None)
    if name is not None:
        title = TITLES.get(name, name)
        return f"[{title}](#{anchor(title)})"
    heading = said.SECTIONS[model.__name__][0]
    return f"[{heading[0].lower() + heading[1:]}](#{anchor(heading)})"


def anchor(heading: str) -> str:
    """What a heading is linked by, as code hosts and MyST make it."""
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _range(metadata: tuple[Any, ...], annotation: Any) -> str:
    """`, more than 0, at most 5m`; the last word on each side counts."""
    show = next((m.show for m in metadata if isinstance(m, units.Shown)), None)

    def shown(value: Any) -> str:
        if value == 0:
            return "0"
        return show(value) if show else f"{value:,}" if annotation is int else f"{value:g}"

    found: dict[str, str] = {}
    for m in _bounds(metadata):
        match m:
            case Gt(gt=value):
                found["low"] = f"more than {shown(value)}"
            case Ge(ge=value) if value != 0:
                found["low"] = f"at least {shown(value)}"
            case Lt(lt=value):
                found["high"] = f"less than {shown(value)}"
            case Le(le=value):
                found["high"] = f"at most {shown(value)}"
    said_already = {"at most 100%", "at most 366d", "at most 3600 s", "more than 0", "at least p50", "at most p99.9"}
    texts = [found[side] for side in ("low", "high") if side in found]
    return "".join(f", {text}" for text in texts if text not in said_already and "e+" not in text)


def _bounds(metadata: tuple[Any, ...]) -> Iterator[Any]:
    for m in metadata:
        if isinstance(m, FieldInfo):
            yield from m.metadata
        else:
            yield m


def _count(metadata: tuple[Any, ...]) -> str:
    for m in _bounds(metadata):
        least = m.min_length if isinstance(m, MinLen | Len) else None
        most = m.max_length if isinstance(m, MaxLen | Len) else None
        if least and least > 1:
            return f"; at least {least}" + (f", at most {most}" if most else "")
    return ""


def default(field: FieldInfo) -> str:
    """The default as it would be written; empty for none."""
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    if value is None or value in ((), {}):
        return ""
    return f"`{_written(value, field.annotation, tuple(field.metadata))}`"


def _written(value: Any, annotation: Any, metadata: tuple[Any, ...]) -> str:
    if get_origin(annotation) is Annotated:
        inner, *own = get_args(annotation)
        return _written(value, inner, (*own, *metadata))
    show = next((m.show for m in metadata if isinstance(m, units.Shown)), None)
    if isinstance(value, bool):
        return "on" if value else "off"
    if show is not None:
        return str(show(value)).replace(" ", "")
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, BaseModel):
        own = fields(type(value))
        got = {n: getattr(value, _attribute(type(value), n)) for n in own}
        texts = [f"{n}: {_written(v, own[n].annotation, tuple(own[n].metadata))}" for n, v in got.items() if v]
        if not texts:
            return _written(next(iter(got.values())), float, ())
        return texts[0].partition(": ")[2] if list(got) == ["name"] else "{" + ", ".join(texts) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _attribute(model: type[BaseModel], written: str) -> str:
    return next(name for name, field in model.model_fields.items() if (field.alias or name) == written)
