"""What pydantic has to complain about, in plain words and where the person who wrote it finds it.

Pydantic knows a path into its own types and its own words for them. Here the path is followed through the nodes of the
file, so that every complaint gets a line and a column, the words of the field's unit ("a duration: write 30s"), and the
name that was probably meant.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, StringConstraints, Tag, ValidationError, WithJsonSchema

from plans import nodes
from plans.errors import Problem, did_you_mean, either, listed, quoted
from plans.nodes import Expanded, Graft, Path
from plans.units import Name, Shown, Slug, Wanted, one_or_many

_EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}
_MISMATCH = re.compile(rf"({'|'.join(_EXPECTED)})(_attributes)?_(type|parsing|parsing_size|from_float)")
_PLAIN = ("str", "int", "float", "bool")
_LIMITS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_PATTERNS = {
    constraint.pattern: wanted.form
    for _, constraint, wanted, *_ in map(get_args, (Name, Slug))
    if isinstance(constraint, StringConstraints) and isinstance(wanted, Wanted)
}
"""Patterns of ours, which types that know nothing of this floor have, too."""
_MOST_SUGGESTIONS = 100
"""Of so many problems it is found out what was meant: a file can have thousands, and each takes a while."""


def explain(
    error: ValidationError, model: type[BaseModel], node: yaml.Node, file: str, at: Path = ()
) -> Iterator[Problem]:
    """The problems of an error that a model raised for what is written at `node`, which `at` leads to."""
    by_path: dict[Path, list[tuple[_Spot, Any]]] = {}
    keys: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]] = {}
    for e in error.errors(include_url=False):
        spot = _Spot(model, node, path=at, keys=keys)
        for step in e["loc"]:
            spot.follow(step)
        spot.unwrap()
        by_path.setdefault(spot.path, []).append((spot, e))
    grafted: dict[Path, dict[Problem, list[_Spot]]] = {}
    for found, spots in _complaints(by_path, file).items():
        graft = spots[0].graft
        if all(spot.unknown() for spot in spots):
            continue
        if graft is None or graft.takers == {spot.taker for spot in spots}:
            yield _with_origin(found, spots[0])
        else:
            grafted.setdefault(spots[0].path, {})[found] = spots
    yield from map(_unfitting, grafted.values())


def _complaints(by_path: Mapping[Path, list[tuple["_Spot", Any]]], file: str) -> dict[Problem, list["_Spot"]]:
    """What to say of pydantic's errors, and of which of them: several say the same, and some say nothing new."""
    said: dict[Problem, list[_Spot]] = {}
    missing: dict[Path, Problem] = {}
    meant: set[Path] = set()
    above = {path[:length] for path in by_path for length in range(len(path))}
    for path, group in by_path.items():
        # Of a union every form reports why it does not fit: what only says so yields to what is more exact.
        vague = [(spot, words) for spot, e in group if spot.choice and (words := spot.expected(e["type"]))]
        exact = [(spot, e) for spot, e in group if not (spot.choice and spot.expected(e["type"]))]
        if vague and not exact and path not in above:
            expected = either(list(dict.fromkeys(words for _, words in vague)))
            for spot, _ in vague:
                said.setdefault(spot.problem(file, f"expected {expected}, found {spot.found()}"), []).append(spot)
        for spot, e in exact:
            # What is wrong below does not count for pydantic, which then says that there is too little.
            if e["type"] == "too_short" and len(spot.node.value or "") >= e["ctx"]["min_length"]:
                continue
            guess = len(said) < _MOST_SUGGESTIONS
            complaint = _say(spot, e["type"], e.get("ctx", {}), e["msg"], file, guess=guess)
            said.setdefault(complaint, []).append(spot)
            if e["type"] == "missing":
                missing[path] = complaint
            elif e["type"] == "extra_forbidden" and complaint.suggestion:
                meant.add((*path[:-1], complaint.suggestion.split("`")[1]))
    for path in meant & missing.keys():
        said.pop(missing[path], None)  # a key that is misspelt is not missing besides
    return said


@dataclass(slots=True)
class _Spot:
    """Where pydantic's `loc` leads.

    Attributes:
        wants, metadata: the type that is expected there, without and with what `Annotated` adds.
        node, key: what is written there, and its key; `node` is the mapping where the key is missing.
        key_wants: the type that is expected of the key.
        owner: the model that the last key of `path` belongs to.
        choice: one of several forms had to be chosen here, and this is about one of them.
        tag: the last form that was chosen by its tag, such as a kind of step.
        graft: the key through which this was reached, where it stands elsewhere in the file; `taker`: the tag there.
        keys: of every mapping that was looked into, by the id of its node; one for all problems of a file.
    """

    wants: Any
    node: yaml.Node
    metadata: tuple[Any, ...] = ()
    key: yaml.Node | None = None
    owner: type[BaseModel] | None = None
    path: Path = ()
    choice: bool = False
    key_wants: Any = Any
    tag: str = ""
    graft: Graft | None = None
    taker: str = ""
    keys: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]] = field(default_factory=dict)

    def follow(self, step: int | str) -> None:
        """One element of `loc`: a key, an index, `[key]`, or the tag of a union's form, which is no key."""
        self.unwrap()
        forms = [form for form in get_args(self.wants) if form is not type(None)] if _is_union(self.wants) else []
        tagged = {m.tag: form for form in forms for m in get_args(form)[1:] if isinstance(m, Tag)}
        if step == "[key]" and self.key is not None:
            self.node = self.key
            self._expect(self.key_wants)
        elif step in tagged:
            self._expect(tagged[str(step)])
            self.tag = str(step)
        elif forms and not tagged:
            self._expect(self._form(forms, str(step)))
            self.choice = True
        else:
            self._descend(step)

    def unwrap(self) -> None:
        """Look through `Annotated` and `| None`."""
        while True:
            if get_origin(self.wants) is Annotated:
                self.wants, *more = get_args(self.wants)
                self.metadata = (*more, *self.metadata)
            elif _is_union(self.wants) and len(forms := [f for f in get_args(self.wants) if f is not type(None)]) == 1:
                self.wants = forms[0]
            else:
                return

    def _expect(self, expected: Any, *metadata: Any) -> None:
        self.wants, self.metadata = expected, metadata
        self.unwrap()

    def _form(self, forms: list[Any], label: str) -> Any:
        """The form that pydantic's label stands for; `constrained-str` or `function-before[..., float]` is text."""
        names = {}
        for i, form in enumerate(forms):
            spot = _Spot(form, self.node)
            spot.unwrap()
            names[i] = getattr(spot.wants, "__name__", "") if get_origin(spot.wants) is None else "["
            if names[i] in _PLAIN and re.search(rf"^(?!dict|list|tuple|tagged).*\b{names[i]}\b", label):
                return form
        return next((form for i, form in enumerate(forms) if names[i] not in _PLAIN), forms[0])

    def _descend(self, step: int | str) -> None:
        owner = self.wants if _is_model(self.wants) else None
        origin, args = get_origin(self.wants), get_args(self.wants)
        known = next((f for n, f in owner.model_fields.items() if step in (n, f.alias)), None) if owner else None
        key, child = None, None
        if isinstance(self.node, yaml.MappingNode):
            if id(self.node) not in self.keys:
                self.keys[id(self.node)] = {k.value: (k, v) for k, v in nodes.entries(self.node)}
            key, child = self.keys[id(self.node)].get(str(step), (None, None))
        elif isinstance(self.node, yaml.SequenceNode) and isinstance(step, int) and step < len(self.node.value):
            child = self.node.value[step]
        if known is not None:
            self._expect(known.annotation, *known.metadata, known)
        elif origin in (dict, list, tuple) and args:
            self.key_wants = args[0]
            self._expect(args[-1] if origin is dict else args[0])
        else:
            self._expect(Any)
        if child is not None or known is not None:
            self.path, self.owner, self.key, self.choice = (*self.path, step), owner, key, False
        if isinstance(key, Graft):
            self.path, self.graft, self.taker = key.home, key, self.tag
        self.node = child if child is not None else self.node

    def expected(self, kind: str) -> str | None:
        """In plain words what the type wants, where an error of this kind only says that it is another type."""
        match = _MISMATCH.fullmatch(kind)
        if kind == "no_form" and self.choice and not isinstance(self.node, yaml.MappingNode):
            return "a mapping"
        before = [each.func for each in self.metadata if isinstance(each, BeforeValidator)]
        if match and get_origin(self.wants) is tuple and one_or_many in before:
            one = _Spot(get_args(self.wants)[0], self.node)
            one.unwrap()
            return f"{one.expected('string_type')} or a list"
        if match and _is_model(self.wants):
            needed = [quoted(f.alias or n) for n, f in self.wants.model_fields.items() if f.is_required()]
            return "a mapping with " + " and ".join(needed) if needed else "a mapping"
        examples = [m.json_schema["examples"] for m in self.metadata if isinstance(m, WithJsonSchema) and m.json_schema]
        return (f"text such as `{examples[0][0]}`" if examples else _EXPECTED[match[1]]) if match else None

    def found(self) -> str:
        """In plain words what is written there."""
        if isinstance(self.node, yaml.ScalarNode):
            return quoted(self.node.value) if not nodes.is_null(self.node) else "nothing"
        return "a list" if isinstance(self.node, yaml.SequenceNode) else "a mapping"

    def unknown(self) -> bool:
        """Whether what is written there cannot be known, which is told elsewhere."""
        near = [self.node, self.key, *(key for key, _ in nodes.entries(self.node))]
        return any(isinstance(node, Expanded) and not node.known for node in near) or nodes.unstorable(self.node)

    def problem(self, file: str, message: str, suggestion: str | None = None, *, at_key: bool = False) -> Problem:
        """At the key where asked, or where the value is empty and has no place of its own."""
        node = self.key if self.key is not None and (at_key or nodes.is_null(self.node)) else self.node
        return nodes.problem(node, self.path, file, message, suggestion)


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _say(spot: _Spot, kind: str, context: Mapping[str, Any], otherwise: str, file: str, *, guess: bool) -> Problem:
    last, found = str(spot.path[-1]) if spot.path else "", spot.found()
    if kind == "missing":
        return spot.problem(file, f"{quoted(last)} is missing; add it")
    if kind == "extra_forbidden":
        names = [f.alias or n for n, f in spot.owner.model_fields.items()] if spot.owner else []
        near = did_you_mean(last, names) if guess else None
        names.sort(key=lambda name: name.startswith("on_"))  # what a step or gate is for comes first
        allowed = (
            f"; allowed are {', '.join(names)}" if len(names) > 1 else f"; only {quoted(names[0])} is" if names else ""
        )
        message = f"{quoted(last)} is no field here" + ("" if near else allowed)
        return spot.problem(file, message, near, at_key=True)
    if kind == "literal_error":
        choices = [str(choice) for choice in get_args(spot.wants)]
        near = did_you_mean(found.strip("`"), choices) if guess else None
        what = "must not be empty" if found == "nothing" else f"{found} is not allowed"
        return spot.problem(file, f"{what}; write {either(choices)}", near)
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        show = next((m.show for m in spot.metadata if isinstance(m, Shown)), str)
        return spot.problem(file, f"{found} is out of range: it must be {words} {show(context[name])}")
    if kind == "string_pattern_mismatch":
        forms = [m.form for m in spot.metadata if isinstance(m, Wanted)] or [_PATTERNS.get(context["pattern"], "")]
        wanted = f"write {forms[0]}" if forms[0] else f"it must match {context['pattern']}"
        return spot.problem(file, f"{found} is not allowed; {wanted}")
    if kind == "string_too_short":
        return spot.problem(file, "must not be empty")
    if kind == "too_short":
        least = context["min_length"]
        return spot.problem(
            file, "must not be empty; write at least one" if least == 1 else f"too few; write at least {least}"
        )
    if kind == "string_too_long":
        return spot.problem(file, f"too long; write at most {context['max_length']} characters")
    if kind == "too_long":
        return spot.problem(file, f"too many; write at most {context['max_length']}")
    expected = spot.expected(kind)
    if expected:
        return spot.problem(file, f"expected {expected}, found {found}")
    message = str(context.get("error") or context.get("message") or otherwise).removeprefix("Input should be ")
    near = context["guess"].words() if guess and "guess" in context else None
    return spot.problem(file, message, near, at_key=bool(context.get("at_key")))


def _unfitting(said: Mapping[Problem, list[_Spot]]) -> Problem:
    """A default that is wrong for some of those that take it, and what it is wrong for."""
    first, (spot, *_) = next(iter(said.items()))
    words = [f"for {either(sorted({s.taker for s in spots}))}, {found.message}" for found, spots in said.items()]
    key = spot.graft.value if spot.graft is not None else ""
    message = f"{'; '.join(words)}; a default has to fit all that take it, so write `{key}` in each of them"
    return _with_origin(replace(first, message=message), spot)


def _with_origin(found: Problem, spot: _Spot) -> Problem:
    """The same, and where the value comes from, if it is not what stands there."""
    message = found.message
    if isinstance(spot.node, Expanded) and spot.node.value != spot.node.written:
        message += f" (it comes from {quoted(spot.node.written)})"
    grafts = [key for key, _ in nodes.entries(spot.node) if isinstance(key, Graft) and f"`{key.value}`" in message]
    if grafts:
        message += f" ({listed(f'`{key.value}`' for key in grafts)} comes from `defaults`)"
    return replace(found, message=message)
