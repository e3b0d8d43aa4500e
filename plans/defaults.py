"""Defaults: a field that is written once, put into every step and gate that may have it and does not say otherwise.

It is done on the nodes of the file, before they are read: a default is checked by the fields that it lands in, as if it
had been written there, and what is wrong with it is told where it stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from plans import nodes
from plans.errors import Problem, did_you_mean, quoted
from plans.gates import EXTERNAL, GATES, KINDS
from plans.nodes import MOST_NODES, Expanded, Graft
from plans.steps import STEPS

_FIELDS: Mapping[str, frozenset[str]] = {
    tag: frozenset(info.alias or name for name, info in model.model_fields.items())
    for tag, model in {**STEPS, **KINDS}.items()
}
_EVERY_FIELD = sorted(frozenset().union(*_FIELDS.values()) - {*STEPS, "metric", "name"})
_NOT_BUILT = frozenset().union(*(model.not_built for model in (*STEPS.values(), *KINDS.values())))


def spread(root: yaml.MappingNode, file: str) -> list[Problem]:
    """Put the defaults of a plan where they belong, and say what is wrong with them."""
    return _Defaults(root, file).spread()


@dataclass(slots=True)
class _Taker:
    """A step or gate, by its kind or metric, as a mapping that more can be put into."""

    tag: str
    node: yaml.MappingNode
    wrote: frozenset[str]
    given: list[tuple[Graft, yaml.Node]] = field(default_factory=list)


class _Defaults:
    """Puts a plan's defaults into those of its steps and gates that may have them and do not say otherwise."""

    def __init__(self, root: yaml.MappingNode, file: str) -> None:
        self.root, self.file = root, file
        self.takers: dict[tuple[str, int], _Taker] = {}
        self.complete = False  # whether every step and gate is known for what it is

    def spread(self) -> list[Problem]:
        """Changes the steps and gates, and says what is wrong with the defaults."""
        defaults, key, exists = nodes.find(self.root, ("defaults",))
        if not exists or not isinstance(defaults, yaml.MappingNode):
            return []
        self._find_takers()
        problems, size = [], 0
        for name, value in nodes.entries(defaults):
            message, near = self._wrong(name.value)
            if message:
                if not isinstance(name, Expanded):
                    problems.append(nodes.problem(name, ("defaults", name.value), self.file, message, near))
                continue
            takers = [t for t in self.takers.values() if name.value in _FIELDS[t.tag] and name.value not in t.wrote]
            size += len(takers) * _count(value)
            if size > MOST_NODES:
                message = f"with these defaults the plan has more than {MOST_NODES} values; make it smaller"
                return [*problems, nodes.problem(key or defaults, ("defaults",), self.file, message)]
            tags = frozenset(taker.tag for taker in takers)
            for taker in takers:
                taker.given.append((Graft(name, ("defaults", name.value), tags), value))
        self._put()
        return problems

    def _wrong(self, name: str) -> tuple[str, str | None]:
        """What is wrong with a default of this name, and what was probably meant."""
        if name in STEPS or name in ("metric", "name"):
            return f"`{name}` belongs to one step or gate, so it cannot be a default; write it there", None
        if name in _NOT_BUILT:
            return f"`{name}` is not built yet in this version; remove it", None
        if name not in _EVERY_FIELD:
            near = did_you_mean(name, _EVERY_FIELD)
            return f"no step or gate has a field {quoted(name)}" + ("" if near else "; remove it"), near
        if self.complete and not any(name in _FIELDS[taker.tag] for taker in self.takers.values()):
            return f"no step or gate of this plan takes `{name}`; remove it", None
        return "", None

    def _find_takers(self) -> None:
        steps, _, _ = nodes.find(self.root, ("steps",))
        self.complete = isinstance(steps, yaml.SequenceNode)
        for at, step in enumerate(steps.value if isinstance(steps, yaml.SequenceNode) else ()):
            wrote = frozenset(key.value for key, _ in nodes.entries(step))
            kinds = wrote & STEPS.keys()
            self._add("steps", at, step, next(iter(kinds)) if len(kinds) == 1 else None, wrote)
        gates, _, exists = nodes.find(self.root, ("gates",))
        for at, (_, gate) in enumerate(gates.value if exists and isinstance(gates, yaml.MappingNode) else ()):
            entries = {key.value: value for key, value in nodes.entries(gate)}
            self._add("gates", at, gate, _kind(entries.get("metric")), frozenset(entries))

    def _add(self, where: str, at: int, node: yaml.Node, tag: str | None, wrote: frozenset[str]) -> None:
        if tag is None or not isinstance(node, yaml.MappingNode):
            self.complete = False
        else:
            self.takers[where, at] = _Taker(tag, node, wrote)

    def _put(self) -> None:
        """New mappings: one that an anchor stands for is in several places, and not each of them takes the same."""
        made = {}
        for place, taker in self.takers.items():
            old = taker.node
            more = [*old.value, *taker.given]
            made[place] = yaml.MappingNode(old.tag, more, old.start_mark, old.end_mark, flow_style=old.flow_style)
        self.root.value = [
            (key, _replaced(child, key.value, made) if key.value in ("steps", "gates") else child)
            for key, child in self.root.value
        ]


def _kind(metric: yaml.Node | None) -> str | None:
    if isinstance(metric, yaml.MappingNode):
        return EXTERNAL
    return metric.value if isinstance(metric, yaml.ScalarNode) and metric.value in GATES else None


def _replaced(node: yaml.Node, where: str, made: Mapping[tuple[str, int], yaml.Node]) -> yaml.Node:
    if isinstance(node, yaml.SequenceNode):
        new = [made.get((where, at), child) for at, child in enumerate(node.value)]
        return yaml.SequenceNode(node.tag, new, node.start_mark, node.end_mark, flow_style=node.flow_style)
    if isinstance(node, yaml.MappingNode):
        pairs = [(key, made.get((where, at), child)) for at, (key, child) in enumerate(node.value)]
        return yaml.MappingNode(node.tag, pairs, node.start_mark, node.end_mark, flow_style=node.flow_style)
    return node


def _count(node: yaml.Node) -> int:
    if isinstance(node, yaml.MappingNode):
        return 1 + sum(1 + _count(child) for _, child in node.value)
    return 1 + sum(map(_count, node.value)) if isinstance(node, yaml.SequenceNode) else 1
