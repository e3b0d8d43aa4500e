"""A plan as text again, in its long form: everything that was left out is written down.

What a person sees there is what will be done, in the units that they write themselves, and can be saved as a plan of
its own. Loading it gives a plan that does the same. Variables and defaults are gone, because they are in every value;
references to secrets stay references.
"""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from plans.gates import GateFields
from plans.model import InlineSpec, Plan, ProviderRef
from plans.steps import CanaryStep, GatedStep, ShadowStep, StepFields, step_kind
from plans.units import Shown

AN_HOUR = 3600.0
"""What a gated step has beyond its hold when the plan gives it no deadline."""
_WIDEST = 100
_BLOCKS = (("deployments",), ("gates",), ("steps",), ("notify",))
_TOLERANCES = ("guard", "quantile", "max", "max_ratio", "max_increase", "tolerance", "path", "examples")
_OF_A_GATE = (*_TOLERANCES, "blame", "source")
_ANSWERS = ("on_fail", "on_no_data", "on_undecided", "on_error")


def written(plan: Plan, *, interval: float | None = None, settle: float | None = None) -> str:
    """The plan in the plan language, with everything filled in that it leaves to defaults.

    Args:
        plan: as it was loaded, variables and defaults applied.
        interval: seconds between measurements where nobody says how many, as the provider has it; None: not known.
        settle: the same for how late figures may be.
    """
    root = _node(dict(_fields(_filled(plan, interval, settle))))
    return yaml.serialize(root, Dumper=_Dumper, allow_unicode=True, width=1_000_000)


# --- what is left out ---


def _filled(plan: Plan, interval: float | None, settle: float | None) -> Plan:
    """The same plan, saying what it leaves to others: what a step leaves to the plan, a gate to its provider."""
    gates = {}
    for name, gate in plan.gates.items():
        more: dict[str, Any] = {
            "alpha": plan.alpha,
            "beta": plan.beta,
            "interval": interval,
            "settle": settle,
            "max_ratio": 1.0 if getattr(gate, "max_increase", None) is not None else None,
        }
        # Its answers are left out: they are its step's, and other steps may have others.
        gates[name] = _with(gate, more)
    steps, pace = [], interval
    for step in plan.steps:
        more = {answer: getattr(plan, answer) for answer in _ANSWERS}
        if isinstance(step, GatedStep):
            if step.interval is not None or step.gates:
                chosen = [given for gate in step.gates if (given := plan.gates[gate].interval) is not None]
                pace = step.interval if step.interval is not None else min(chosen, default=interval)
            more |= {"deadline": step.hold + AN_HOUR, "interval": pace}
        steps.append(_with(step, more))
    return plan.model_copy(update={"gates": gates, "steps": tuple(steps), "vars": {}, "defaults": {}})


def _with(part: Any, more: dict[str, Any]) -> Any:
    has = type(part).model_fields
    return part.model_copy(update={k: value for k, value in more.items() if k in has and getattr(part, k) is None})


# --- from values to nodes ---


def _fields(model: BaseModel) -> Iterator[tuple[str, Any]]:
    """The keys and values of a model that say something, in the order of a reader."""
    if isinstance(model, InlineSpec):
        yield from model.spec.items()
        return
    infos = dict(type(model).model_fields)
    if isinstance(model, StepFields | GateFields):
        first = (step_kind(model) or "metric", *(_OF_A_GATE if isinstance(model, GateFields) else ("name",)))
        order = dict.fromkeys([*first, *(n for n in infos if n not in _ANSWERS), *_ANSWERS])
        infos = {name: infos[name] for name in order if name in infos}
    for name, info in infos.items():
        value = getattr(model, name)
        if value is None or (isinstance(model, Plan) and name in ("vars", "defaults")):
            continue
        said = _plain(value, info.annotation, tuple(info.metadata))
        alone = isinstance(model, ShadowStep | CanaryStep) and name == step_kind(model) and len(said) == 1
        yield info.alias or name, said[0] if alone else said
    if isinstance(model, ProviderRef):
        yield from model.options.items()


def _plain(value: Any, wants: Any, metadata: tuple[Any, ...]) -> Any:
    """A value as text, numbers, lists and mappings, in the words of the type that it is of."""
    if get_origin(wants) is Annotated:
        inner, *more = get_args(wants)
        return _plain(value, inner, (*metadata, *more))
    if isinstance(value, ProviderRef) and not value.options:
        return value.name
    if isinstance(value, BaseModel):
        return dict(_fields(value))
    if get_origin(wants) in (Union, UnionType):
        form = next(form for form in get_args(wants) if _fits(value, form))
        return _plain(value, form, metadata)
    write = next((each.write for each in metadata if isinstance(each, Shown)), None)
    if write is not None:
        return _Words(write(value))
    args = get_args(wants)
    if isinstance(value, dict) and args:
        return {key: _plain(each, args[1], ()) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each, args[0], ()) for each in value]
    return value


def _fits(value: Any, form: Any) -> bool:
    while get_origin(form) is Annotated:
        form = get_args(form)[0]
    if get_origin(form) is Literal:
        return value in get_args(form)
    if get_origin(form) in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(form))
    return type(value) is (get_origin(form) or form)


# --- from plain values to text ---

_TAG = "tag:yaml.org,2002:"
_RESOLVER = yaml.resolver.Resolver()


class _Words(str):
    """Text that our own units read: it needs no quotes, whatever YAML would take it for."""

    __slots__ = ()


def _node(value: Any, path: tuple[str, ...] = ()) -> yaml.Node:
    """The node of a plain value; short ones on one line, except where a reader looks for one thing a line."""
    block = path in ((), *_BLOCKS) or (path[:1] == ("steps",) and len(path) == 2)
    if isinstance(value, dict):
        pairs = [(_node(key), _node(each, (*path, key))) for key, each in value.items()]
        mapping = yaml.MappingNode(f"{_TAG}map", pairs)
        mapping.flow_style = not block and _width(mapping) <= _WIDEST
        return mapping
    if isinstance(value, list):
        sequence = yaml.SequenceNode(f"{_TAG}seq", [_node(each, (*path, "")) for each in value])
        sequence.flow_style = not block and _width(sequence) <= _WIDEST
        return sequence
    if isinstance(value, str) and not isinstance(value, _Words):
        odd = any(not c.isprintable() for c in value.replace("\n", ""))
        return yaml.ScalarNode(f"{_TAG}str", value, style='"' if odd else "|" if "\n" in value else None)
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return yaml.ScalarNode(tag, text)


def _width(node: yaml.Node) -> int:
    """How wide a node is on one line, about; far too wide where it cannot be."""
    if isinstance(node, yaml.ScalarNode):
        return 1_000_000 if node.style else len(node.value) + 2
    assert isinstance(node, yaml.CollectionNode)
    if node.flow_style is False:
        return 1_000_000
    inner = [each for pair in node.value for each in pair] if isinstance(node, yaml.MappingNode) else node.value
    return sum(map(_width, inner)) + 2


class _Dumper(yaml.SafeDumper):
    """Indents the items of a list below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless and flow)
