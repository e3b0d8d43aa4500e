"""YAML text as nodes: the shape of a file before any field has read its values.

Nothing is ever constructed from the text. PyYAML composes nodes only, and stops before a file that is small on disk
becomes large in memory; what YAML allows and we do not is told at its place. Nodes keep their lines and columns, so
whoever changes them before they are read (`plans.expand`) leaves every later message where the words stand.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from plans.errors import PlanError, Problem, quoted

Path = tuple[int | str, ...]
"""Keys and indices from the top of a file to one of its values."""
Rewrite = Callable[[yaml.Node, str], list[Problem]]
"""Changes the nodes of a file (its top, and what the file is called) in place, and says what is wrong with them."""

LARGEST = 1_000_000
"""Characters of text, with every alias counted as often as it is expanded; also the bytes of a file."""
MOST_NODES = 10_000
"""Values in a file, counted in the same way."""
DEEPEST = 50
"""Levels of nesting."""

_STR = "tag:yaml.org,2002:str"
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
    (r"sequence entries are not allowed", "a list item (`- `) where none can be; begin the list on a line of its own"),
    (
        r"unknown escape character '(.+?)'",
        "`\\{}` means nothing in double quotes; write single quotes, or two backslashes",
    ),
    (r"expected alphabetic or numeric", "an anchor or alias without a name; quote text that begins with `&` or `*`"),
    (
        r"expected a comment or a line break|expected chomping",
        "after `|` or `>` the text begins on the next line; move it there",
    ),
    (r"expected a single document", "a second document begins here (`---`); write one document a file"),
    (r"found undefined alias '?([^']*)", "the alias `*{}` has no anchor `&{}` before it"),
    (r"found duplicate anchor '?([^']*?)'?; first", "the anchor `&{}` is set twice; give it another name"),
    (r"found character '`' that", "text cannot begin with a backtick; quote it"),
    (r"found character '(.+)' that cannot start", "text cannot begin with `{}`; quote it"),
)


class Expanded(yaml.ScalarNode):
    """Text in which variables were replaced.

    Attributes:
        written: the text as it stands in the file.
        known: False where a variable in it has no value; what that value should be is then nobody's mistake twice.
    """

    def __init__(self, node: yaml.ScalarNode, value: str, *, known: bool) -> None:
        super().__init__(_STR, value, node.start_mark, node.end_mark, "'")
        self.written, self.known = node.value, known


class Graft(yaml.ScalarNode):
    """A key, and with it its value, that was put where it does not stand in the file.

    Attributes:
        home: where it stands.
        takers: the kinds of step and the metrics that it was given to.
    """

    def __init__(self, key: yaml.ScalarNode, home: Path, takers: frozenset[str]) -> None:
        super().__init__(_STR, key.value, key.start_mark, key.end_mark, key.style)
        self.home, self.takers = home, takers


def compose(text: str, name: str) -> tuple[yaml.Node, list[Problem]]:
    """The nodes of a text, and what YAML allows in it and we do not; `name` stands for the file.

    Raises PlanError for what is no YAML, is empty, or is more than this module's limits.
    """
    if len(text) > LARGEST:
        raise whole(name, "is larger than 1 MB, which is no file of this kind")
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        message = f"the character U+{ord(text[error.position]):04X} is not allowed; remove it"
        raise PlanError([Problem(name, line, column, "", message)]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if re.search("end of stream|expected ':'", error.problem or ""):
            mark = error.context_mark or mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raise PlanError([Problem(name, line, column, "", _syntax(error, text))]) from None
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML lets chr() refuse an escape such as "\UFFFFFFFF".
        line, column = (loader.line + 1, loader.column + 1) if loader is not None else (1, 1)
        raise PlanError([Problem(name, line, column, "", "this is not YAML; quote the text here")]) from None
    if root is None:
        raise PlanError([Problem(name, 1, 1, "", "is empty; write something into it")])
    return root, list(_refused(root, (), name, loader.tags))


def whole(path: object, message: str) -> PlanError:
    """The error of a file as a whole."""
    return PlanError([Problem(str(path), 0, 0, "", message)])


def _syntax(error: yaml.MarkedYAMLError, text: str) -> str:
    if isinstance(error, _Refused):
        return str(error.problem)
    problem = " ".join(filter(None, (error.context, error.problem)))
    mark = error.problem_mark
    if mark is not None and text[max(0, mark.index - 1) : mark.index + 1] == "${":
        return "inside brackets YAML takes this `{` for a mapping; quote the whole value, as in '${var:NAME}'"
    for pattern, sentence in _SYNTAX:
        match = re.search(pattern, problem)
        if match:
            return sentence.replace("{}", match[1]) if match.groups() else sentence
    return f"this is not YAML: {problem}; check the lines above, or quote the text"


class _Refused(yaml.MarkedYAMLError):
    """YAML that is right, and that no file of ours may hold."""


class _Loader(yaml.SafeLoader):
    """Composes nodes, and stops at what would be endless, too deep or too much before it is built."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.tags: dict[int, str] = {}  # id of a node -> the tag that is written at it
        self._open: list[str | None] = []
        self._heights = [0]
        self._count = self._size = 0
        self._measured: dict[str, tuple[int, int, int]] = {}  # anchor -> nodes, text and levels, aliases expanded

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        anchor, before = event.anchor, (self._count, self._size)
        alias = isinstance(event, yaml.AliasEvent)
        fresh = (1, len(event.value) if isinstance(event, yaml.ScalarEvent) else 0, 1)
        count, size, height = self._measured.get(anchor, fresh) if alias else fresh
        self._count += count
        self._size += size
        problem = None
        if alias and anchor in self._open:
            problem = f"the alias `*{anchor}` contains itself; write it out"
        elif self._count > MOST_NODES:
            problem = f"more than {MOST_NODES} values, each alias counted in full; make it smaller"
        elif self._size > LARGEST:
            problem = "more than 1 MB of text, each alias counted in full; make it smaller"
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
            self._measured[anchor] = (self._count - before[0], self._size - before[1], height)
        if tag not in (None, "!", _STR):
            self.tags[id(node)] = tag
        return node


def _refused(node: yaml.Node, path: Path, name: str, tags: Mapping[int, str]) -> Iterator[Problem]:
    """What YAML allows and we do not, told of every place that it appears at."""
    if id(node) in tags:
        tag = quoted(tags[id(node)].replace("tag:yaml.org,2002:", "!!"))
        yield problem(node, path, name, f"the tag {tag} is not allowed; remove it")
    if isinstance(node, yaml.SequenceNode):
        for i, child in enumerate(node.value):
            yield from _refused(child, (*path, i), name, tags)
    elif isinstance(node, yaml.ScalarNode):
        if unstorable(node):
            yield problem(node, path, name, "a character that cannot be stored; remove it")
    else:
        first: dict[str, int] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode) or is_null(key):
                yield problem(key, path, name, "a key must be text; quote it if it is meant")
                continue
            below = (*path, key.value)
            if _is_merge(key):
                yield problem(key, path, name, "merge keys (`<<`) are not supported; write the fields out")
            elif key.value in first:
                message = f"{quoted(key.value)} is already in line {first[key.value]}; keep one of them"
                yield problem(key, below, name, message)
            else:
                first[key.value] = key.start_mark.line + 1
                yield from _refused(key, below, name, tags)
                yield from _refused(child, below, name, tags)


def problem(node: yaml.Node, path: Path, name: str, message: str, suggestion: str | None = None) -> Problem:
    """A problem where a node stands."""
    mark = node.start_mark
    return Problem(name, mark.line + 1, mark.column + 1, shown(path), message, suggestion)


def entries(node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """The keys and values of a mapping that count: keys that are text, each the first time. Nothing for other nodes."""
    seen = set()
    for key, child in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode) and not is_null(key) and not _is_merge(key) and key.value not in seen:
            seen.add(key.value)
            yield key, child


def plain(node: yaml.Node) -> Any:
    """Lists, dicts, text and None. What is refused is left out."""
    if isinstance(node, yaml.SequenceNode):
        return [plain(child) for child in node.value]
    if isinstance(node, yaml.MappingNode):
        return {key.value: plain(child) for key, child in entries(node)}
    if is_null(node):
        return None
    return "" if unstorable(node) else node.value


def find(root: yaml.Node, path: Path) -> tuple[yaml.Node, yaml.Node | None, bool]:
    """What a path leads to: the node, its key if it has one, and whether all of the path exists.

    Where it does not, the node is the nearest above that does.
    """
    node, key = root, None
    for step in path:
        below: tuple[yaml.Node | None, yaml.Node] | None = None
        if isinstance(node, yaml.MappingNode):
            below = next(((k, v) for k, v in entries(node) if k.value == step), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and 0 <= step < len(node.value):
            below = (None, node.value[step])
        if below is None:
            return node, key, False
        key, node = below
    return node, key, True


def is_null(node: yaml.Node) -> bool:
    """Whether nothing is written there, or `~` or `null`."""
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null" and node.style is None


def _is_merge(key: yaml.Node) -> bool:
    return bool(key.tag == "tag:yaml.org,2002:merge")


def unstorable(node: yaml.Node) -> bool:
    """Whether there is a character in it that no database takes."""
    return isinstance(node, yaml.ScalarNode) and re.search("[\0\ud800-\udfff]", node.value) is not None


def shown(path: Path) -> str:
    """A path as messages have it: `steps[3].hold`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[\w$-]{1,64}", step):
            text += f".{step}" if text else step
        else:
            text += f"[{quoted(step)[1:-1]!r}]"
    return text
