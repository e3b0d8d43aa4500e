"""Variables (`${var:NAME}`), and with them everything that happens to a plan's nodes before they are read.

It is done on the nodes of the file, before any field reads its value: what results is checked by its field as if it had
been written there, and a complaint still points at the line that somebody can mend. Text only ever becomes text: a
variable's value is never read as YAML again.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

import yaml
from pydantic import BaseModel, ConfigDict

from plans import defaults, nodes, source
from plans.errors import PlanError, Problem, brief, did_you_mean, listed, quoted
from plans.nodes import LARGEST, Expanded, Path, Rewrite
from plans.units import VarName, VarValue

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"\$\{var:([^}]*)(\}?)")


def rewriter(overrides: Mapping[str, str]) -> Rewrite:
    """For plan files: variables and then defaults are put where they belong.

    `overrides`: values of variables that win over those in the file. One that the plan does not declare is a problem.
    """

    def rewrite(root: yaml.Node, file: str) -> list[Problem]:
        if not isinstance(root, yaml.MappingNode):
            return []
        text = _declared(root, file, overrides)
        text.node(root, (), without="vars")
        return text.problems + defaults.spread(root, file)

    return rewrite


def variables(text: str, name: str, overrides: Mapping[str, str]) -> dict[str, str]:
    """The values of the plan's variables, for the other files that it names. Raises PlanError."""

    def rewrite(root: yaml.Node, file: str) -> list[Problem]:
        return _declared(root, file, overrides).problems if isinstance(root, yaml.MappingNode) else []

    return source.loads(text, _Variables, name=name, rewrite=rewrite).vars


def substitution(values: Mapping[str, str]) -> Rewrite:
    """For the files that a plan names: variables are replaced by these values."""

    def rewrite(root: yaml.Node, file: str) -> list[Problem]:
        text = _Text(file, values)
        text.node(root, ())
        return text.problems

    return rewrite


class _Variables(BaseModel):
    """Of a plan, only its variables."""

    model_config = ConfigDict(extra="ignore")
    vars: dict[VarName, VarValue] = {}


@dataclass(slots=True)
class _Text:
    """Replaces variables in text.

    Attributes:
        file: what it is called. values: of the variables; None for one that is wrong itself, which is told there.
        problems: what was found. size: characters made so far.
    """

    file: str
    values: Mapping[str, str | None]
    problems: list[Problem] = field(default_factory=list)
    size: int = 0
    _made: dict[int, tuple[yaml.Node, Expanded]] = field(default_factory=dict)

    def node(self, node: yaml.Node, path: Path, *, without: str | None = None) -> yaml.Node:
        """The node with all variables in it replaced; lists and mappings are changed in place.

        `without`: the key of a value that stays as it is.
        """
        if isinstance(node, yaml.SequenceNode):
            node.value = [self.node(child, (*path, i)) for i, child in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            pairs = []
            for key, child in node.value:
                below = (*path, key.value if isinstance(key, yaml.ScalarNode) else "?")
                pairs.append((self._key(key, below), child if key.value == without else self.node(child, below)))
            node.value = pairs
        elif isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        return node

    def _key(self, key: yaml.Node, path: Path) -> yaml.Node:
        """Keys have no variables: one that has is told of, and is not what it seems."""
        if not isinstance(key, yaml.ScalarNode) or isinstance(key, Expanded) or "${var:" not in key.value:
            return key
        message = "a variable cannot be part of a key; write the key itself"
        self.problems.append(nodes.problem(key, path, self.file, message))
        return Expanded(key, key.value, known=False)

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> yaml.Node:
        if "${var:" not in node.value and not isinstance(node, Expanded):
            return node
        if id(node) not in self._made:
            # The node is kept as well, so that its id is not given to another one.
            self._made[id(node)] = (node, node if isinstance(node, Expanded) else self.expanded(node, path))
        made = self._made[id(node)][1]
        self.grow(made, len(made.value), path)
        return made

    def expanded(self, node: yaml.ScalarNode, path: Path) -> Expanded:
        """Text with its variables replaced, and problems told of those that there are not."""
        pieces, known, end = [], True, 0
        for match in _VARIABLE.finditer(node.value):
            value = self.values.get(match[1]) if match[2] else None
            known = known and value is not None
            if not match[2] or match[1] not in self.values:
                self.problems.append(self._unknown(node, path, match))
            pieces += [node.value[end : match.start()], value or ""]
            end = match.end()
        pieces.append(node.value[end:])
        self.grow(node, sum(map(len, pieces)), path, keep=False)
        return Expanded(node, "".join(pieces) if known else node.value, known=known)

    def grow(self, node: yaml.Node, size: int, path: Path, *, keep: bool = True) -> None:
        """Count so many characters more. Raises PlanError when they are too many."""
        if self.size + size > LARGEST:
            message = "the variables make more than 1 MB of text, counted up to here; make them shorter"
            raise PlanError([*self.problems, nodes.problem(node, path, self.file, message)])
        self.size += size if keep else 0

    def _unknown(self, node: yaml.Node, path: Path, match: re.Match[str]) -> Problem:
        name, near = match[1], None
        if not match[2]:
            message = f"{quoted(match[0])} is never closed; write `}}` after the variable's name"
        elif not _NAME.fullmatch(name):
            message = f"{quoted(match[0])} is no variable; write ${{var:NAME}}, with a name that `vars` has"
        elif self.values:
            message = f"there is no variable {quoted(name)} ({listed(self.values)})"
            near = did_you_mean(name, self.values)
        else:
            message = f"there is no variable {quoted(name)}; give the plan `vars` with it"
        return nodes.problem(node, path, self.file, message, near)


def _declared(root: yaml.MappingNode, file: str, overrides: Mapping[str, str]) -> _Text:
    """What the plan's `vars` stand for, each made of others where it says so; put in their place there, too.

    A variable without text is told of by the model, one with a wrong name as well.
    """
    node, key, exists = nodes.find(root, ("vars",))
    declared = {name.value: (name, value) for name, value in nodes.entries(node)} if exists else {}
    values: dict[str, str | None] = dict.fromkeys(declared)
    text = _Text(file, values)
    for name in overrides:
        if name not in declared:
            has = f"no variable {quoted(name)} ({listed(values)})" if values else "no `vars`"
            message, near = f"`--var {brief(name)}` is given, and the plan has {has}", did_you_mean(name, values)
            nowhere = Problem(file, 0, 0, "", message, near)
            text.problems.append(nodes.problem(key, ("vars",), file, message, near) if key is not None else nowhere)
    texts: dict[str, yaml.ScalarNode] = {}
    for name, (at, value) in declared.items():
        if name in overrides:
            given = Expanded(at, overrides[name], known=True)
            if "${var:" in overrides[name]:
                message = "a value that is given with --var is taken as it is; write it without ${var:...}"
                text.problems.append(nodes.problem(at, ("vars", name), file, message))
                given.known = False
            else:
                values[name] = given.value
            texts[name] = given
        elif isinstance(value, yaml.ScalarNode) and not nodes.is_null(value):
            texts[name] = value
    made = {name: given for name, given in texts.items() if isinstance(given, Expanded)}
    # Those in cycles come last, and get no value; what else is wrong with them is told all the same.
    for name in dict.fromkeys([*_in_order(texts, text), *texts]):
        if name not in made:
            made[name] = text.expanded(texts[name], ("vars", name))
            text.grow(texts[name], len(made[name].value), ("vars", name))
            values[name] = made[name].value if made[name].known else None
    if exists and isinstance(node, yaml.MappingNode):
        node.value = [(k, made.get(k.value, v) if isinstance(k, yaml.ScalarNode) else v) for k, v in node.value]
    return text


def _in_order(texts: Mapping[str, yaml.ScalarNode], text: _Text) -> Iterator[str]:
    """The variables that can be made, each after those that it is made of; cycles are told of."""
    needs = {
        name: [] if isinstance(node, Expanded) else [m for m, _ in _VARIABLE.findall(node.value) if m in texts]
        for name, node in texts.items()
    }
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError:
        pass  # whatever needs none of the cycle comes all the same
    left = dict.fromkeys(texts)
    while sorter.is_active() and (ready := sorter.get_ready()):
        for name in ready:
            left.pop(name)
            yield name
        sorter.done(*ready)
    for ring in _cycles({name: [need for need in needs[name] if need in left] for name in left}):
        shown = " -> ".join(brief(name) for name in (ring if len(ring) < 12 else [*ring[:10], "...", ring[0]]))
        message = f"the variable {quoted(ring[0])} is made of itself: {shown}; write one of them out"
        text.problems.append(nodes.problem(texts[ring[0]], ("vars", ring[0]), text.file, message))


def _cycles(needs: Mapping[str, list[str]]) -> Iterator[list[str]]:
    """`[a, b, a]`, each once, beginning with the first in the file; every name needs another one here."""
    order = list(needs)
    seen: set[str] = set()
    for start in needs:
        name, walk = start, list[str]()
        while name not in seen:
            seen.add(name)
            walk.append(name)
            name = needs[name][0]
        if name in walk:
            ring = walk[walk.index(name) :]
            at = ring.index(min(ring, key=order.index))
            yield [*ring[at:], *ring[: at + 1]]
