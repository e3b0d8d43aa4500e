"""Where a message for people is made: found in the source, so that a new one cannot be added without its situation.

A site is a call that gives somebody a reason: the making of an error of ours, a refused command, the end, pause or
rollback of a rollout, a one-shot step that fails, a warning on stderr. Known by module, function and the words of its
message, with `{}` for what is filled in.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import orchestrator
import orchestrator.errors
import providers
import providers.errors
import providers.registry

PACKAGES = (Path(orchestrator.__file__).parent, Path(providers.__file__).parent)
SKIPPED = ("testing", "library")
"""Folders whose errors are for programmers: the suite for authors of providers."""


def _classes(module: object) -> set[str]:
    found = vars(module).items()
    return {name for name, value in found if isinstance(value, type) and issubclass(value, Exception)}


ERRORS = (
    _classes(orchestrator.errors)
    | _classes(providers.errors)
    | _classes(providers.registry)
    | {"_Misfit", "SystemExit"}
) - {"PlanError", "LookupError"}
USAGE = {"UsageError", "BadParameter", "ClickException", "Abort"}
ENDINGS = {"RollBack", "Pause", "Finish", "Leave", "Failed", "consequence", "_fail", "Unready"}
"""Decisions, outcomes of operations, and the functions that choose among decisions."""
ONLY_IN = {
    "warn": "cli.",
    "_say": ("cli.main", "local.launch"),
    "_tell": "cli.ndjson",
    "_once": "cli.ndjson",
    "_usage": "cli.ndjson",
    "ValueError": "cli.",
    "_refuse": "compiler",
    "_gate_misfit": "compiler",
    "problem_at": "bundle",
    "problem": "bundle",
    "Check": "cli.checks",
    "_report": "notify",
    "replace": "local.outcome",
}
"""Functions that are called so elsewhere, too: where the name means what is looked for."""
CALLS = ERRORS | USAGE | ENDINGS | set(ONLY_IN) | {"Refuse", "TaskResult"}
FIRST = {"Refuse": 1, "TaskResult": 1, "Failed": 1, "Check": 2, "consequence": 3, "_fail": 2, "RollBack": 1, "Pause": 1}
FIRST |= {"Finish": 1, "_refuse": 0}
"""Where the message is among the arguments, when it is not the first of them that has words."""


@dataclass(frozen=True)
class Site:
    """One place. `template`: the words, `{}` for what is filled in."""

    where: str
    template: str
    line: int = field(compare=False)

    @property
    def name(self) -> str:
        """How a person finds it again."""
        return f"{self.where}: {self.template}"

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What a message from here looks like."""
        said = self.template.removeprefix("rollout: ").strip()
        words = ".*?".join(re.escape(part) for part in said.split("{}"))
        # A text that a person is shown as a sentence may have lost its full stop, and begin small.
        return re.compile(words.removesuffix(r"\."), re.DOTALL | re.IGNORECASE)


def sites() -> list[Site]:
    """All of them, in order of files and lines."""
    found = []
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            parts = path.relative_to(package).with_suffix("").parts
            if parts[0] not in SKIPPED and parts[-1] != "errors":
                found += _Finder(".".join(parts)).found_in(ast.parse(path.read_text(encoding="utf-8")))
    return found


class _Finder(ast.NodeVisitor):
    """Walks one module and remembers in which function it is."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.functions: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
        self.found: list[Site] = []

    def found_in(self, tree: ast.Module) -> list[Site]:
        self.visit(tree)
        return self.found

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.functions.append(node)
        self.generic_visit(node)
        self.functions.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's name

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in CALLS and self.module.startswith(ONLY_IN.get(name, "")) and not _own(node):
            function = self.functions[0].name if self.functions else "(module)"
            for template in dict.fromkeys(self._templates(name, node)):
                # A function that is looked for itself only passes on what its callers say.
                if re.search("[a-z]{2}", template) or self.functions[-1:] == [] or self.functions[-1].name not in CALLS:
                    self.found.append(Site(f"{self.module}.{function}", template, node.lineno))
        self.generic_visit(node)

    def _templates(self, name: str, node: ast.Call) -> Iterator[str]:
        fine = {"TaskResult": (0, True), "Check": (1, "ok"), "Finish": (0, "succeeded")}.get(name)
        if fine is not None and isinstance(given := node.args[fine[0]], ast.Constant) and given.value == fine[1]:
            return
        if name == "replace" and all(keyword.arg != "outcome" for keyword in node.keywords):
            return
        named = next(
            (keyword.value for keyword in node.keywords if keyword.arg in ("reason", "message", "detail", "outcome")),
            None,
        )
        if named is not None:
            yield from self._words(named)
            return
        texts = [self._words(each) for each in node.args if not isinstance(each, ast.Starred)][FIRST.get(name, 0) :]
        # The message is what has words; beside it stand roles, places and contexts.
        worded = [each for each in texts if any(re.search("[a-z]{2}", text) for text in each)] or texts[:1]
        yield from worded[0] if worded else ["{}"]

    def _words(self, node: ast.expr, depth: int = 0) -> list[str]:
        """Every text that an expression may be."""
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=values):
                return ["".join(v.value if isinstance(v, ast.Constant) else "{}" for v in values)]
            case ast.IfExp(body=body, orelse=orelse):
                return [*self._words(body, depth), *self._words(orelse, depth)]
            case ast.BoolOp(values=values):
                return [text for value in values for text in self._words(value, depth)]
            case ast.BinOp(left=left, right=right):
                right_words = ["{}"] if isinstance(right, ast.IfExp) else self._words(right, depth)
                return [a + b for a in self._words(left, depth) for b in right_words]
            case ast.Name(id=name) if depth == 0 and self.functions:
                return self._assigned(name)
        return ["{}"]

    def _assigned(self, name: str) -> list[str]:
        """What a variable of this function was given, where that is a text."""
        texts: list[str] = []
        for inside in ast.walk(self.functions[-1]):
            targets = inside.targets if isinstance(inside, ast.Assign) else []
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                assert isinstance(inside, ast.Assign)
                texts += self._words(inside.value, 1)
        return texts or ["{}"]


def _own(node: ast.Call) -> bool:
    """Whether it is `super().__init__(...)` or the like, of an error's own class."""
    return isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call)
