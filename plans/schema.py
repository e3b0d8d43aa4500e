"""The JSON Schema of a plan file, so that an editor completes, explains and checks a plan while it is written.

It is made from the models, field by field, so that it cannot fall behind them. Only what a schema can say is in it:
names that lead nowhere, steps in a wrong order, a deadline shorter than its hold are for `rollout validate`. It never
refuses a plan that the loader takes.

Its keywords mean the same in draft 7, which some editors go by whatever is declared. A step is told by its key through
`if` and `then`, not through `oneOf` alone, so that a mistake in it is shown at its place. What must be there besides
the key stands apart, because `defaults` may give it.
"""

import json
import re
from collections.abc import Callable, Iterable
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Gt, Lt, MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator, Tag
from pydantic.fields import FieldInfo

from plans import units
from plans.answers import Consequence
from plans.conditions import CONDITIONS, measures
from plans.external import Metric
from plans.gates import GATES, KINDS, Tolerance
from plans.model import FileRef, Plan, ProviderRef
from plans.scalars import (
    ELSEWHERE,
    NONE_AT_ALL,
    ONLY_GOOD,
    REFERENCE,
    SECRET_HEADER,
    VARIABLE,
    Empty,
    Form,
    checks,
    flat,
    key,
    quantity,
    scalar,
)
from plans.steps import STEPS
from plans.units import Shown

ID = "urn:rollout-orchestrator:plan:1"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_EXAMPLE = {
    "version": 1,
    "endpoint": {"file": "endpoint.yml"},
    "deployments": {"blue": {"file": "blue-deployment.yml"}, "green": {"file": "green-deployment.yml"}},
    "gates": {"errors": {"metric": "error_rate", "max": "2%", "max_ratio": 1.5, "max_increase": "0.5%"}},
    "steps": [
        {"deploy": "green"},
        {"canary": ["10%", "50%"], "gates": "errors", "hold": "10m"},
        {"promote": "100%", "gates": "errors", "hold": "30m"},
        {"delete": "blue"},
    ],
}
_SECRET = {"pattern": f"{REFERENCE}|{VARIABLE}", "errorMessage": ELSEWHERE}
_DISTINCT = ("slots", "gates")
_ONE_OR_MANY = BeforeValidator(units.one_or_many)
_NOT_NOTHING, _PARTIAL = checks(units.GrowingShares)
(_NO_PLAIN_SECRETS,) = checks(units.Headers)
(_OF_A_METRIC,) = checks(Metric)


def schema() -> dict[str, Any]:
    """The schema, draft 2020-12; the same every time."""
    forms = _Forms()
    plan = forms.model(Plan)
    plan["properties"]["defaults"] |= _object(_merged(forms, (*STEPS.values(), *KINDS.values())))
    return {
        "$schema": DIALECT,
        "$id": ID,
        **plan,
        "title": "Rollout plan",
        **CONDITIONS,
        "examples": [_EXAMPLE],
        "$defs": dict(sorted(forms.named.items())),
    }


def text() -> str:
    """The schema as the file that stands beside plans, as `rollout validate --schema` prints it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


class _Forms:
    """Turns types into forms; models are named once and referred to."""

    def __init__(self) -> None:
        self.named: dict[str, Form] = {
            "variable": {"type": "string", "pattern": VARIABLE, "description": "A value of `vars`: `${var:NAME}`."}
        }

    def model(self, model: type[BaseModel]) -> Form:
        """A mapping with the fields of a model; what must be in a step or a gate is said elsewhere."""
        fields = {info.alias or name: info for name, info in model.model_fields.items()}
        part = model in (*STEPS.values(), *KINDS.values())
        return {
            "title": _words(model).capitalize(),
            "description": _said(model),
            **_object({name: self.field(name, info, model) for name, info in fields.items()}),
            "required": [] if part else [name for name, info in fields.items() if info.is_required()],
        }

    def field(self, name: str, info: FieldInfo, model: type[BaseModel]) -> Form:
        """The value of one field of a model, with what a person is told about it."""
        metadata = tuple(flat(info.metadata))
        form = self.of(info.annotation, metadata)
        for each in form.get("anyOf", [form]) if name in _DISTINCT else ():
            each.update({"uniqueItems": True} if "items" in each else {})
        form = {"description": info.description or _said(model)} | form
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        return form if default is None else form | {"default": _in_words(default, metadata)}

    def of(self, wants: Any, metadata: tuple[Any, ...] = ()) -> Form:
        """The form of what a type wants. Raises TypeError for one that plans have not had so far."""
        if get_origin(wants) is Annotated:
            wants, *more = get_args(wants)
            return self.of(wants, (*flat(more), *metadata))
        found = scalar(wants, metadata)
        if found is not None:
            return self._quantity(found, quantity(metadata))
        form = self._composed(wants, metadata)
        return _or_null(form) if Empty() in metadata else form

    def _composed(self, wants: Any, metadata: tuple[Any, ...]) -> Form:
        origin, args = get_origin(wants), get_args(wants)
        if origin in (Union, UnionType):
            return self._union(args, metadata)
        if origin is Literal:
            return self._choice(wants)
        if origin is tuple:
            return self._list(args[0], metadata)
        if origin is dict:
            return self._mapping(args, metadata)
        if isinstance(wants, type) and issubclass(wants, BaseModel):
            return self._model(wants)
        if wants is Any:
            return {}
        raise TypeError(f"the schema has no form for {wants}")

    def _choice(self, wants: Any) -> Form:
        form = {"anyOf": [{"enum": _as_text_too(get_args(wants))}, {"$ref": "#/$defs/variable"}]}
        return self._name("consequence", lambda: form) if wants == Consequence else form

    def _union(self, kinds: tuple[Any, ...], metadata: tuple[Any, ...]) -> Form:
        given = [kind for kind in kinds if kind is not type(None)]
        tags = {each.tag for kind in given for each in get_args(kind)[1:] if isinstance(each, Tag)}
        if tags == set(STEPS):
            form = self._name("step", self._step)
        elif tags == set(KINDS):
            form = self._name("gate", self._gate)
        elif tags:
            form = self._name("deployment", self._deployment)
        elif len(given) == 1:
            return self.of(given[0], (*metadata, *((Empty(),) if len(given) < len(kinds) else ())))
        else:
            form = {"anyOf": [self.of(kind) for kind in given]}
        return form if len(given) == len(kinds) else _or_null(form)

    def _quantity(self, form: Form, name: str | None) -> Form:
        """Named, because the same few stand in very many fields."""
        for tried in (name, *(f"{name}_{number}" for number in range(2, 10))) if name else ():
            if self.named.setdefault(tried, form) == form:
                return {"$ref": f"#/$defs/{tried}"}
        return form

    def _name(self, name: str, make: Callable[[], Form]) -> Form:
        if name not in self.named:
            self.named[name] = make()
        return {"$ref": f"#/$defs/{name}"}

    def _model(self, model: type[BaseModel]) -> Form:
        if model is ProviderRef:
            name = self.field("name", model.model_fields["name"], model)
            by_name = {key: value for key, value in name.items() if key != "description"}
            return {"anyOf": [by_name, {"type": "object", "properties": {"name": name}, "required": ["name"]}]}
        named = self._name(_words(model).replace(" ", "_"), lambda: self.model(model))
        if model is Tolerance:
            alone = model.model_fields["absolute"]
            return {"anyOf": [self.of(alone.annotation, tuple(flat(alone.metadata))), named]}
        return named

    def _list(self, item: Any, metadata: tuple[Any, ...]) -> Form:
        more = (*((Gt(0),) if _NOT_NOTHING in metadata else ()), *((Lt(1000),) if _PARTIAL in metadata else ()))
        one = self.of(Annotated[item, *more] if more else item)
        many: Form = {"type": "array", "items": one}
        for each in metadata:
            many |= {"minItems": each.min_length} if isinstance(each, MinLen) else {}
            many |= {"maxItems": each.max_length} if isinstance(each, MaxLen) else {}
        return {"anyOf": [one, many]} if _ONE_OR_MANY in metadata else many

    def _mapping(self, args: tuple[Any, ...], metadata: tuple[Any, ...]) -> Form:
        if _OF_A_METRIC in metadata:
            return _metric()
        names = tuple(flat(get_args(args[0])[1:]))
        form: Form = {"type": "object", "additionalProperties": self.of(args[1])}
        form |= {"propertyNames": key(names)} if names else {}
        if _NO_PLAIN_SECRETS in metadata:
            form["patternProperties"] = {SECRET_HEADER: {"type": ["string"], **_SECRET}}
        for each in metadata:
            form |= {"minProperties": each.min_length} if isinstance(each, MinLen) else {}
        return form

    def _step(self) -> Form:
        kinds = {kind: {"type": "object", "required": [kind]} for kind in STEPS}
        return {
            "title": "Step",
            "description": "One thing that is done; its kind is the key that the others belong to.",
            "type": "object",
            "allOf": [{"if": kinds[kind], "then": self._model(model)} for kind, model in STEPS.items()],
            "if": {"anyOf": list(kinds.values())},
            "else": {
                "properties": {kind: {"description": _said(model)} for kind, model in STEPS.items()},
                "required": [next(iter(STEPS))],
                "errorMessage": f"A step needs exactly one of {', '.join(STEPS)}.",
            },
        }

    def _gate(self) -> Form:
        other = {"not": {"anyOf": [measures(kind) for kind in KINDS]}}
        metric = {"anyOf": [self.of(Literal[tuple(GATES)]), _metric()]}
        return {
            "title": "Gate",
            "description": "A tolerance, and how sure one wants to be.",
            "type": "object",
            "properties": {"metric": {"description": "What is measured."} | metric},
            "allOf": [
                *({"if": measures(kind), "then": self._model(model)} for kind, model in KINDS.items()),
                {"if": other, "then": _object(_merged(self, KINDS.values()) | {"metric": {}})},
            ],
        }

    def _deployment(self) -> Form:
        return {
            "title": "Deployment",
            "description": "A file, or the fields of such a file in place.",
            "type": "object",
            "minProperties": 1,
            "if": {"required": ["file"]},
            "then": self._model(FileRef),
        }


# --- parts ---


def _metric() -> Form:
    """One from elsewhere, with options that it checks itself, except that none of them is a secret."""
    good, none = {"pattern": ONLY_GOOD}, {"pattern": NONE_AT_ALL}
    headers = {"description": "Sent with every question.", "patternProperties": {SECRET_HEADER: _SECRET, "": good}}
    options = {
        "type": "object",
        "patternProperties": {SECRET_HEADER: _SECRET},
        "properties": {"url": {"description": "Who is asked."} | good, "headers": headers},
        "additionalProperties": none,
    }
    return {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "propertyNames": {"not": {"enum": list(GATES)}},
        "additionalProperties": options,
    }


def _object(fields: Form) -> Form:
    return {"type": "object", "properties": fields, "additionalProperties": False}


def _words(model: type[BaseModel]) -> str:
    return re.sub(r"(?<!^)([A-Z])", r" \1", model.__name__).lower()


def _said(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _or_null(form: Form) -> Form:
    return {"anyOf": [*(form["anyOf"] if form.keys() == {"anyOf"} else [form]), {"type": "null"}]}


def _as_text_too(values: Iterable[Any]) -> list[Any]:
    return [form for value in values for form in ((value,) if isinstance(value, str) else (value, str(value)))]


def _in_words(value: Any, metadata: Iterable[Any]) -> Any:
    """A default as a person would write it: `10m`, not 600.0."""
    for each in metadata:
        if isinstance(each, Shown):
            return each.write(value)
    if isinstance(value, ProviderRef):
        return value.name
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return list(value) if isinstance(value, tuple) else value


def _merged(forms: _Forms, models: Iterable[type[BaseModel]]) -> Form:
    """The fields of several models in one mapping, without those that tell the models apart."""
    found: dict[str, list[Form]] = {}
    told: dict[str, list[str]] = {}
    for model in models:
        for name, form in forms.model(model)["properties"].items():
            if name in (*STEPS, "metric", "name"):
                continue
            bare = {key: value for key, value in form.items() if key not in ("description", "default")}
            if bare not in found.setdefault(name, []):
                found[name].append(bare)
            if form["description"] not in told.setdefault(name, []):
                told[name].append(form["description"])
    return {
        name: {"description": " / ".join(told[name]), **(each[0] if len(each) == 1 else {"anyOf": each})}
        for name, each in found.items()
    }
