"""What the fields of a plan ask of each other, as far as a schema can say it.

Apart from the forms of the fields, because these are conditions: what must be there when something else is, or is not.
`defaults` may give what a step or a gate lacks, so where a plan has defaults nothing is asked of these.
"""

from pydantic import BaseModel

from plans.gates import EXTERNAL, KINDS, ErrorRateGate, ExternalGate, LatencyGate
from plans.scalars import VARIABLE, Form
from plans.steps import STEPS, LoadStep

_EITHER = "A plan has `deployments` by name, or `candidate` with `slots`; not both."


def given(*names: str) -> Form:
    """All of these are there, and not empty."""
    return {
        "type": "object",
        "required": list(names),
        "properties": {name: {"not": {"type": "null"}} for name in names},
    }


def measures(kind: str) -> Form:
    """A gate of this kind: of a metric that is a word, or of one from elsewhere, which is a mapping."""
    metric: Form = {"type": "object"} if kind == EXTERNAL else {"const": kind}
    return {"type": "object", "required": ["metric"], "properties": {"metric": metric}}


def _one_of(*words: str) -> Form:
    return {"anyOf": [{"enum": list(words)}, {"type": "string", "pattern": VARIABLE}]}


def _by_names() -> Form:
    alone = {"type": ["null"], "errorMessage": _EITHER}
    stable = "With `deployments`, `stable` is one of their names; a file is for `slots`."
    deploy = "`candidate` and `stable` are words for plans with `slots`; write one of the deployments."
    return {
        "properties": {
            "candidate": alone,
            "slots": alone,
            "stable": {"type": ["string", "boolean", "null"], "errorMessage": stable},
            "steps": _each({"deploy": {"pattern": r"^(?!(?:candidate|stable)$)", "errorMessage": deploy}}),
        }
    }


def _by_roles() -> Form:
    words = {
        "deploy": _one_of("candidate"),
        "test": _one_of("candidate", "stable"),
        "delete": _one_of("stable", "candidate", "endpoint"),
        "scale": {"propertyNames": {"enum": ["candidate", "stable"]}},
    }
    return {"required": ["candidate", "slots"], "errorMessage": _EITHER, "properties": {"steps": _each(words)}}


def _each(fields: Form) -> Form:
    return {"items": {"properties": fields}}


_GUARD: Form = {"if": given("guard"), "then": {"properties": {"source": _one_of("auto", "live")}}}
_MORE: dict[type[BaseModel], Form] = {
    LoadStep: {"if": {"properties": {"load": {"type": "string", "pattern": "/"}}}, "then": given("for")},
    ErrorRateGate: {
        "anyOf": [given("max"), given("max_ratio"), given("max_increase")],
        "allOf": [{"if": given("max_ratio"), "then": given("max_increase")}, _GUARD],
    },
    LatencyGate: {"anyOf": [given("max"), given("max_ratio")], **_GUARD},
    ExternalGate: {"anyOf": [given("max"), given("max_ratio"), given("max_increase")]},
}


def _whole(model: type[BaseModel], key: str) -> Form:
    """What must be in a step or a gate besides the field that tells which it is."""
    fields = {info.alias or name: info for name, info in model.model_fields.items()}
    needed = [name for name, info in fields.items() if info.is_required() and name != key]
    return ({"required": needed} if needed else {}) | _MORE.get(model, {})


def _whole_step() -> Form:
    rules = {kind: _whole(model, kind) for kind, model in STEPS.items()}
    cases = [{"if": {"type": "object", "required": [kind]}, "then": rule} for kind, rule in rules.items() if rule]
    return {"allOf": cases}


def _whole_gate() -> Form:
    rules = [{"if": measures(metric), "then": _whole(model, "metric")} for metric, model in KINDS.items()]
    return {"required": ["metric"], "allOf": rules}


CONDITIONS: Form = {
    "allOf": [{"if": given("deployments"), "then": _by_names(), "else": _by_roles()}],
    "if": {"required": ["defaults"]},
    "else": {"properties": {"steps": {"items": _whole_step()}, "gates": {"additionalProperties": _whole_gate()}}},
}
"""Keywords for the plan as a whole."""
