"""YAML text into any pydantic model, with every error where the person who wrote it finds it.

A plan is written by hand, so the way to a right one matters as much as the right one: all errors at once, each with
its line and column, in plain words, with the name that was probably meant. Nothing is ever constructed from the text:
PyYAML composes nodes only, every scalar stays text (`17:00` is not 1020, `on` is not true), each field reads its own.
"""

import difflib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Tag, ValidationError, WithJsonSchema
from pydantic.fields import FieldInfo

from plans.errors import PlanError, Problem
from plans.units import Shown, quoted

M = TypeVar("M", bound=BaseModel)

LARGEST = 1_000_000
"""Bytes in a file."""
MOST_NODES = 10_000
"""Values in a file, with every alias counted as often as it is expanded."""
DEEPEST = 50
"""Levels of nesting."""

_SYNTAX = (
    (r"found character '\\t'", "a tab; indent with spaces"),
    (
        r"mapping values are not allowed",
        "a second `: ` where none can be; indent as the lines above, or quote the text",
    ),
    (r"could not find expected ':'", "a key without `: `; write `key: value`"),
    (r"expected <block end>", "this does not fit the lines above; check the indentation and the quotes"),
    (r"found unexpected end of stream", "the quote that begins here is never closed; close it"),
    (
        r"',' or '[\]}]'|node content",
        "a list or mapping in brackets is not closed here; add `,` or the closing bracket",
    ),
    (r"expected a single document", "a second document begins here (`---`); write one document a file"),
    (r"found undefined alias '?([^']*)", "the alias `*{}` has no anchor `&{}` before it"),
    (r"found duplicate anchor '?([^']*?)'?; first", "the anchor `&{}` is set twice; give it another name"),
    (r"found character '(.+)' that cannot start", "text cannot begin with `{}`; quote it"),
)
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


def load(path: Path, model: type[M]) -> M:
    """The file as a `model`. Raises PlanError with everything that is wrong with it."""
    return loads(read(path), model, name=str(path))


def read(path: Path) -> str:
    """The text of a file. Raises PlanError when it is missing, no regular file, larger than LARGEST, or not UTF-8."""
    try:
        # Not Path.open: a named pipe without a writer would block for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _whole(path, "is not a regular file; name the file itself")
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise PlanError([Problem(str(path), 0, 0, "", "there is no such file", _neighbour(path))]) from None
    except IsADirectoryError:
        raise _whole(path, "is a folder; name a file in it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "its name is no file name"
        raise _whole(path, f"cannot be read: {reason.lower()}") from None
    if len(data) > LARGEST:
        raise _whole(path, "is larger than 1 MB, which is no file of this kind")
    if b"\0" in data:
        raise _whole(path, "is a binary file; it must be text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise PlanError([Problem(str(path), line, column, "", "is not UTF-8 text; save it as UTF-8")]) from None


def loads(text: str, model: type[M], *, name: str) -> M:
    """The text as a `model`; `name` stands for the file in messages. Raises PlanError with everything that is wrong."""
    if len(text) > LARGEST:
        raise _whole(name, "is larger than 1 MB, which is no file of this kind")
    root, tags = _compose(text, name)
    tree = _Tree(name, tags)
    data = tree.value(root, ())
    found = tree.problems
    try:
        loaded = model.model_validate(data)
    except ValidationError as error:
        found.extend(_explain(error, model, root, name))
    if found:
        raise PlanError(found)
    return loaded


def _whole(path: Path | str, message: str) -> PlanError:
    return PlanError([Problem(str(path), 0, 0, "", message)])


def _neighbour(path: Path) -> str | None:
    try:
        names = [entry.name for entry in os.scandir(path.parent)]
    except OSError:
        return f"there is no folder {path.parent} either"
    near = difflib.get_close_matches(path.name, names[:2000], 1)
    return f"did you mean `{near[0]}`?" if near else None


class _Refused(yaml.MarkedYAMLError):
    """YAML that is right, and that no file of ours may hold."""


class _Loader(yaml.SafeLoader):
    """Composes nodes, and stops at what would be endless, too deep or too much before it is built."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.tags: dict[int, str] = {}  # id of a node -> the tag that is written at it
        self._open: list[str | None] = []
        self._heights = [0]
        self._count = 0
        self._measured: dict[str, tuple[int, int]] = {}  # anchor -> nodes and levels below it, aliases expanded

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        anchor, before = event.anchor, self._count
        alias = isinstance(event, yaml.AliasEvent)
        size, height = self._measured.get(anchor, (1, 1)) if alias else (1, 1)
        self._count += size
        problem = None
        if alias and anchor in self._open:
            problem = f"the alias `*{anchor}` contains itself; write it out"
        elif self._count > MOST_NODES:
            problem = f"more than {MOST_NODES} values, each alias counted in full; make it smaller"
        elif len(self._open) + height > DEEPEST:
            problem = f"nested more than {DEEPEST} levels deep; make it flatter"
        if problem is not None:
            raise _Refused(problem=problem, problem_mark=event.start_mark)
        if alias:
            self._heights[-1] = max(self._heights[-1], height)
            return super().compose_node(parent, index)
        tag = event.tag
        self._open.append(anchor)
        self._heights.append(0)
        node = super().compose_node(parent, index)
        self._open.pop()
        height = self._heights.pop() + 1
        self._heights[-1] = max(self._heights[-1], height)
        if anchor is not None:
            self._measured[anchor] = (self._count - before, height)
        if tag not in (None, "!", "tag:yaml.org,2002:str"):
            self.tags[id(node)] = tag
        return node


def _compose(text: str, name: str) -> tuple[yaml.Node, dict[int, str]]:
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        place = _place(text, error.position)
        message = f"the character U+{ord(text[error.position]):04X} is not allowed; remove it"
        raise PlanError([Problem(name, *place, "", message)]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if re.search("end of stream|expected ':'", error.problem or ""):
            mark = error.context_mark or mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raise PlanError([Problem(name, line, column, "", _syntax(error))]) from None
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML lets chr() refuse an escape such as "\UFFFFFFFF".
        line, column = (loader.line + 1, loader.column + 1) if loader is not None else (1, 1)
        raise PlanError([Problem(name, line, column, "", "this is not YAML; quote the text here")]) from None
    if root is None:
        raise PlanError([Problem(name, 1, 1, "", "is empty; write something into it")])
    return root, loader.tags


def _place(text: str, position: int) -> tuple[int, int]:
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


def _syntax(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join(filter(None, (error.context, error.problem)))
    if isinstance(error, _Refused):
        return str(error.problem)
    for pattern, sentence in _SYNTAX:
        match = re.search(pattern, problem)
        if match:
            return sentence.replace("{}", match[1]) if match.groups() else sentence
    return f"this is not YAML: {problem}; check the lines above, or quote the text"


@dataclass(slots=True)
class _Tree:
    """Plain data from nodes, and what YAML allows and we do not."""

    file: str
    tags: Mapping[int, str]
    problems: list[Problem] = field(default_factory=list)

    def value(self, node: yaml.Node, path: tuple[int | str, ...]) -> Any:
        """Lists, dicts, text and None; what is refused is left out."""
        if id(node) in self.tags:
            tag = quoted(self.tags[id(node)].replace("tag:yaml.org,2002:", "!!"))
            self._refuse(node, path, f"the tag {tag} is not allowed; remove it")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, i)) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if re.search("[\0\ud800-\udfff]", node.value):
            self._refuse(node, path, "a character that cannot be stored; remove it")
            return ""
        return None if _is_null(node) else node.value

    def _mapping(self, node: yaml.MappingNode, path: tuple[int | str, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode) or _is_null(key):
                self._refuse(key, path, "a key must be text; quote it if it is meant")
            elif key.tag == "tag:yaml.org,2002:merge":
                self._refuse(key, path, "merge keys (`<<`) are not supported; write the fields out")
            elif key.value in data:
                first = 1 + next(k for k, _ in node.value if k.value == key.value).start_mark.line
                self._refuse(
                    key, (*path, key.value), f"{quoted(key.value)} is already in line {first}; keep one of them"
                )
            else:
                self.value(key, path)
                data[key.value] = self.value(child, (*path, key.value))
        return data

    def _refuse(self, node: yaml.Node, path: tuple[int | str, ...], message: str) -> None:
        mark = node.start_mark
        self.problems.append(Problem(self.file, mark.line + 1, mark.column + 1, _show(path), message))


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null" and node.style is None


def _show(path: tuple[int | str, ...]) -> str:
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[\w$-]{1,64}", step):
            text += f".{step}" if text else step
        else:
            text += f"[{quoted(step)[1:-1]!r}]"
    return text


@dataclass(slots=True)
class _Spot:
    """Where pydantic's `loc` leads.

    Attributes:
        wants, metadata: the type that is expected there, without and with what `Annotated` adds.
        node, key: what is written there, and its key; `node` is the mapping where the key is missing.
        key_wants: the type that is expected of the key.
        owner: the model that the last key of `path` belongs to.
        choice: one of several forms had to be chosen here, and this is about one of them.
    """

    wants: Any
    node: yaml.Node
    metadata: tuple[Any, ...] = ()
    key: yaml.Node | None = None
    owner: type[BaseModel] | None = None
    path: tuple[int | str, ...] = ()
    choice: bool = False
    key_wants: Any = Any

    def follow(self, step: int | str) -> None:
        """One element of `loc`: a key, an index, `[key]`, or the tag of a union's form, which is no key."""
        self._unwrap()
        forms = [form for form in get_args(self.wants) if form is not type(None)] if _is_union(self.wants) else []
        tagged = {m.tag: form for form in forms for m in get_args(form)[1:] if isinstance(m, Tag)}
        if step == "[key]" and self.key is not None:
            self.node = self.key
            self._expect(self.key_wants)
        elif step in tagged:
            self._expect(tagged[str(step)])
        elif forms and not tagged:
            self._expect(self._form(forms, str(step)))
            self.choice = True
        else:
            self._descend(step)

    def _unwrap(self) -> None:
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
        self._unwrap()

    def _form(self, forms: list[Any], label: str) -> Any:
        """The form that pydantic's label stands for; `constrained-str` or `function-before[..., float]` is text."""
        names = {}
        for i, form in enumerate(forms):
            spot = _Spot(form, self.node)
            spot._unwrap()
            names[i] = getattr(spot.wants, "__name__", "") if get_origin(spot.wants) is None else "["
            if names[i] in _PLAIN and re.search(rf"^(?!dict|list|tuple).*\b{names[i]}\b", label):
                return form
        return next((form for i, form in enumerate(forms) if names[i] not in _PLAIN), forms[0])

    def _descend(self, step: int | str) -> None:
        owner = self.wants if _is_model(self.wants) else None
        origin, args = get_origin(self.wants), get_args(self.wants)
        known = next((f for n, f in owner.model_fields.items() if step in (n, f.alias)), None) if owner else None
        key, child = None, None
        if isinstance(self.node, yaml.MappingNode):
            key, child = next(((k, v) for k, v in self.node.value if k.value == step), (None, None))
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
        self.node = child if child is not None else self.node

    def expected(self, kind: str) -> str | None:
        """In plain words what the type wants, where an error of this kind only says that it is another type."""
        match = _MISMATCH.fullmatch(kind)
        if match and _is_model(self.wants):
            needed = [quoted(f.alias or n) for n, f in self.wants.model_fields.items() if f.is_required()]
            return "a mapping with " + " and ".join(needed) if needed else "a mapping"
        examples = [m.json_schema["examples"] for m in self.metadata if isinstance(m, WithJsonSchema) and m.json_schema]
        return (f"text such as `{examples[0][0]}`" if examples else _EXPECTED[match[1]]) if match else None

    def found(self) -> str:
        """In plain words what is written there."""
        if isinstance(self.node, yaml.ScalarNode):
            return quoted(self.node.value) if not _is_null(self.node) else "nothing"
        return "a list" if isinstance(self.node, yaml.SequenceNode) else "a mapping"

    def problem(self, file: str, message: str, suggestion: str | None = None, *, at_key: bool = False) -> Problem:
        """At the key where asked, or where the value is empty and has no place of its own."""
        mark = (self.key if self.key is not None and (at_key or _is_null(self.node)) else self.node).start_mark
        return Problem(file, mark.line + 1, mark.column + 1, _show(self.path), message, suggestion)


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _explain(error: ValidationError, model: type[BaseModel], root: yaml.Node, file: str) -> Iterator[Problem]:
    by_path: dict[tuple[int | str, ...], list[tuple[_Spot, Any]]] = {}
    for e in error.errors(include_url=False):
        spot = _Spot(model, root)
        for step in e["loc"]:
            spot.follow(step)
        spot._unwrap()
        by_path.setdefault(spot.path, []).append((spot, e))
    for path, group in by_path.items():
        # Of a union every form reports why it does not fit: what only says so yields to what is more exact.
        vague = [(spot, words) for spot, e in group if spot.choice and (words := spot.expected(e["type"]))]
        exact = [(spot, e) for spot, e in group if not (spot.choice and spot.expected(e["type"]))]
        if vague and not exact and not any(len(p) > len(path) and p[: len(path)] == path for p in by_path):
            either = _either(list(dict.fromkeys(words for _, words in vague)))
            yield vague[0][0].problem(file, f"expected {either}, found {vague[0][0].found()}")
        for spot, e in exact:
            # What is wrong below does not count for pydantic, which then says that there is too little.
            if e["type"] == "too_short" and len(spot.node.value or "") >= e["ctx"]["min_length"]:
                continue
            yield _say(spot, e["type"], e.get("ctx", {}), e["msg"], file)


def _say(spot: _Spot, kind: str, context: Mapping[str, Any], otherwise: str, file: str) -> Problem:
    last, found = str(spot.path[-1]) if spot.path else "", spot.found()
    if kind == "missing":
        return spot.problem(file, f"{quoted(last)} is missing; add it")
    if kind == "extra_forbidden":
        names = [f.alias or n for n, f in spot.owner.model_fields.items()] if spot.owner else []
        near = _near(last, names)
        message = f"{quoted(last)} is no field here" + ("" if near else f"; allowed are {', '.join(names)}")
        return spot.problem(file, message, near, at_key=True)
    if kind == "literal_error":
        choices = [str(choice) for choice in get_args(spot.wants)]
        return spot.problem(file, f"{found} is not allowed; write {_either(choices)}", _near(found, choices))
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        show = next((m.show for m in spot.metadata if isinstance(m, Shown)), "{:g}".format)
        return spot.problem(file, f"{found} is out of range: it must be {words} {show(context[name])}")
    if kind == "string_pattern_mismatch":
        forms = [m.description for m in spot.metadata if isinstance(m, FieldInfo) and m.description]
        wanted = f"write {forms[0]}" if forms else f"it must match {context['pattern']}"
        return spot.problem(file, f"{found} is not allowed; {wanted}")
    if kind.endswith("too_short"):
        return spot.problem(
            file, "must not be empty; write at least one" if kind == "too_short" else "must not be empty"
        )
    expected = spot.expected(kind)
    if expected:
        return spot.problem(file, f"expected {expected}, found {found}")
    message = str(context.get("error") or context.get("message") or otherwise).removeprefix("Input should be ")
    return spot.problem(file, message, context.get("suggestion"), at_key=bool(context.get("at_key")))


def _near(word: str, names: list[str]) -> str | None:
    near = difflib.get_close_matches(word.strip("`"), names, 1)
    return f"did you mean `{near[0]}`?" if near else None


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
